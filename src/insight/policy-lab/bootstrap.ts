// The bootstrap of a proxy under test: the agent's, without what needs a pod (status ports, metrics). Called by mesh.ts. Pure.
import type { JsonObject } from '@bufbuild/protobuf';
import { ISTIO_API_VERSION } from '../../base/version.ts';
import { RUNTIME } from '../../data-plane/offline/wiring.ts';
import { DOMAIN, labelsOf, type TestPod } from './objects.ts';

export interface BootstrapOptions {
  readonly pod: TestPod;
  /** Port of the discovery service on 127.0.0.1. */
  readonly xdsPort: number;
  /** Socket of the secret service. */
  readonly sdsPath: string;
  /** `node.metadata` beyond what every proxy has. */
  readonly metadata: JsonObject;
}

const TYPE = 'type.googleapis.com/';
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

export function proxyBootstrap(options: BootstrapOptions): JsonObject {
  const { pod, xdsPort, sdsPath } = options;
  const { workload } = pod;
  const role = workload.image.kind === 'gateway' ? 'router' : 'sidecar';
  const source = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: {
      id: `${role}~${pod.ip}~${pod.name}.${workload.namespace}~${workload.namespace}.svc.${DOMAIN}`,
      cluster: `${labelsOf(workload).app ?? workload.name}.${workload.namespace}`,
      metadata: {
        NAME: pod.name,
        NAMESPACE: workload.namespace,
        SERVICE_ACCOUNT: workload.serviceAccount,
        INSTANCE_IPS: pod.ip,
        LABELS: { ...labelsOf(workload) },
        WORKLOAD_NAME: workload.name,
        CLUSTER_ID: 'Kubernetes',
        ISTIO_VERSION: `${ISTIO_API_VERSION}.0`,
        ...options.metadata,
      },
    },
    layered_runtime: structuredClone(RUNTIME) as unknown as JsonObject,
    dynamic_resources: {
      lds_config: source,
      cds_config: source,
      ads_config: {
        api_type: 'DELTA_GRPC',
        set_node_on_first_message_only: true,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
    },
    static_resources: {
      clusters: [
        controlCluster('xds-grpc', { socket_address: { address: '127.0.0.1', port_value: xdsPort } }),
        controlCluster('sds-grpc', { pipe: { path: sdsPath } }),
      ],
    },
  };
}

function controlCluster(name: string, address: JsonObject): JsonObject {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    typed_extension_protocol_options: {
      [HTTP_OPTIONS]: {
        '@type': `${TYPE}${HTTP_OPTIONS}`,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}
