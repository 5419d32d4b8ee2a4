// EDS: the addresses behind one outbound cluster, each with what a client must know about it (mtls.md §6).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { HealthStatus } from '#proto/envoy/config/core/v3/health_check_pb.js';
import type { LbEndpointSchema } from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import { parseOutboundCluster } from '../../base/xds/names.ts';
import { effectivePolicy, findDestinationRule } from '../model/destination-rules.ts';
import { effectivePeerAuthentication, matches, modeOfPort } from '../model/peer-authentication.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Endpoint, Locality } from '../model/services.ts';
import { memoize, type Snapshot } from '../model/snapshot.ts';
import { address } from './common.ts';

/** A name with no Service behind it gets an assignment without endpoints: never nothing. */
export function buildEndpoints(snapshot: Snapshot, proxy: ProxyNode, clusterName: string): EncodedResource {
  return memoize(snapshot, `eds|${proxy.namespace}|${clusterName}`, () =>
    encodeResource(ClusterLoadAssignmentSchema, clusterName, assignment(snapshot, proxy, clusterName)),
  );
}

type LbEndpoint = MessageInitShape<typeof LbEndpointSchema>;

function assignment(
  snapshot: Snapshot,
  proxy: ProxyNode,
  clusterName: string,
): MessageInitShape<typeof ClusterLoadAssignmentSchema> {
  const parsed = parseOutboundCluster(clusterName);
  const service = parsed ? snapshot.servicesByHost.get(parsed.host) : undefined;
  if (!parsed || !service) return { clusterName };
  const client = { namespace: proxy.namespace, rootNamespace: snapshot.mesh.rootNamespace };
  const rule = findDestinationRule(snapshot.destinationRules, client, service);
  const subset = parsed.subset === '' ? undefined : rule?.subsets.find((s) => s.name === parsed.subset);
  if (parsed.subset !== '' && !subset) return { clusterName };
  const tls = effectivePolicy(rule, subset, parsed.port).tls;
  const groups = new Map<string, { locality: Locality; endpoints: LbEndpoint[] }>();
  for (const endpoint of service.endpoints.get(parsed.port) ?? []) {
    if (!endpoint.ready) continue;
    if (subset && !matches(subset.labels, endpoint.workload?.labels ?? {})) continue;
    const { locality } = endpoint;
    const key = `${locality.region}/${locality.zone}/${locality.subZone}`;
    const group = groups.get(key) ?? { locality, endpoints: [] };
    groups.set(key, group);
    const mtls = tls ? tls.mode === 'ISTIO_MUTUAL' : acceptsMtls(snapshot, endpoint);
    group.endpoints.push({
      hostIdentifier: { case: 'endpoint', value: { address: address(endpoint.address, endpoint.port) } },
      healthStatus: HealthStatus.HEALTHY,
      loadBalancingWeight: 1,
      metadata: {
        filterMetadata: {
          ...(mtls ? { 'envoy.transport_socket_match': { tlsMode: 'istio' } } : {}),
          istio: { workload: workloadLabel(endpoint, proxy.clusterId) },
        },
      },
    });
  }
  return {
    clusterName,
    endpoints: [...groups.values()].map((g) => ({
      locality: g.locality,
      lbEndpoints: g.endpoints,
      loadBalancingWeight: g.endpoints.length,
    })),
  };
}

function acceptsMtls(snapshot: Snapshot, endpoint: Endpoint): boolean {
  const { workload } = endpoint;
  if (workload?.tlsMode !== 'istio' || !snapshot.mesh.enableAutoMtls) return false;
  const effective = effectivePeerAuthentication(snapshot.peerAuthentication, workload.namespace, workload.labels);
  return modeOfPort(effective, endpoint.port) !== 'DISABLE';
}

/** `<workload>;<namespace>;<canonical name>;<canonical revision>;<cluster>`: labels for telemetry before the peer has spoken. */
function workloadLabel(endpoint: Endpoint, clusterId: string): string {
  const { workload } = endpoint;
  if (!workload) return `;;;;${clusterId}`;
  const { labels } = workload;
  const name =
    labels['service.istio.io/canonical-name'] ??
    labels['app.kubernetes.io/name'] ??
    labels.app ??
    workload.workloadName;
  const revision =
    labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels.version ?? 'latest';
  return [workload.workloadName, workload.namespace, name, revision, clusterId].join(';');
}
