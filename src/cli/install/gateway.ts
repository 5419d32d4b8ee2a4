// The objects of an ingress or egress gateway. Pure.
import type { KubeObject } from '../../base/kube/types.ts';
import { dockerImage, type Manifest, named, ROOT_NAMESPACE } from './manifest.ts';
import type { InstallSpec } from './profiles.ts';

const UID = 1337;

interface GatewayShape {
  readonly name: string;
  readonly istioLabel: string;
  readonly serviceType: 'LoadBalancer' | 'ClusterIP';
  readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: number }[];
}

const INGRESS_PORTS = [
  { name: 'status-port', port: 15021, targetPort: 15021 },
  { name: 'http2', port: 80, targetPort: 8080 },
  { name: 'https', port: 443, targetPort: 8443 },
  { name: 'tcp', port: 31400, targetPort: 31400 },
  { name: 'tls', port: 15443, targetPort: 15443 },
];
const EGRESS_PORTS = [
  { name: 'http2', port: 80, targetPort: 8080 },
  { name: 'https', port: 443, targetPort: 8443 },
];

export function ingressManifests(spec: InstallSpec, name: string): readonly KubeObject[] {
  return gatewayManifests(spec, {
    name,
    istioLabel: 'ingressgateway',
    serviceType: 'LoadBalancer',
    ports: INGRESS_PORTS,
  });
}
export function egressManifests(spec: InstallSpec, name: string): readonly KubeObject[] {
  return gatewayManifests(spec, { name, istioLabel: 'egressgateway', serviceType: 'ClusterIP', ports: EGRESS_PORTS });
}

function gatewayManifests(spec: InstallSpec, gateway: GatewayShape): readonly KubeObject[] {
  const labels = { app: gateway.name, istio: gateway.istioLabel };
  const sa = `${gateway.name}-service-account`;
  return [
    named('v1', 'ServiceAccount', sa, labels),
    named('rbac.authorization.k8s.io/v1', 'Role', `${gateway.name}-sds`, labels, {
      rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['get', 'watch', 'list'] }],
    }),
    named('rbac.authorization.k8s.io/v1', 'RoleBinding', `${gateway.name}-sds`, labels, {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: `${gateway.name}-sds` },
      subjects: [{ kind: 'ServiceAccount', name: sa, namespace: ROOT_NAMESPACE }],
    }),
    named('v1', 'Service', gateway.name, labels, {
      spec: {
        type: gateway.serviceType,
        selector: labels,
        ports: gateway.ports.map((p) => ({ ...p, protocol: 'TCP' })),
      },
    }),
    deployment(spec, gateway, labels, sa),
  ];
}

function deployment(
  spec: InstallSpec,
  gateway: GatewayShape,
  labels: Readonly<Record<string, string>>,
  serviceAccountName: string,
): Manifest {
  return named('apps/v1', 'Deployment', gateway.name, labels, {
    spec: {
      replicas: 1,
      strategy: { rollingUpdate: { maxSurge: '100%', maxUnavailable: '25%' } },
      selector: { matchLabels: labels },
      template: {
        metadata: {
          labels: {
            ...labels,
            'service.istio.io/canonical-name': gateway.name,
            'service.istio.io/canonical-revision': 'latest',
            'istio.io/rev': 'default',
            'sidecar.istio.io/inject': 'false',
          },
          annotations: {
            'istio.io/rev': 'default',
            'prometheus.io/path': '/stats/prometheus',
            'prometheus.io/port': '15020',
            'prometheus.io/scrape': 'true',
            'sidecar.istio.io/inject': 'false',
          },
        },
        spec: { serviceAccountName, containers: [proxyContainer(spec, gateway)], volumes: volumes() },
      },
    },
  });
}

function proxyContainer(spec: InstallSpec, gateway: GatewayShape) {
  const field = (name: string, fieldPath: string) => ({
    name,
    valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath } },
  });
  const proxyMetadata =
    (spec.meshConfig.defaultConfig as { readonly proxyMetadata?: Readonly<Record<string, string>> } | undefined)
      ?.proxyMetadata ?? {};
  return {
    name: 'istio-proxy',
    image: dockerImage(spec, 'proxyv2'),
    args: [
      'proxy',
      'router',
      '--domain',
      '$(POD_NAMESPACE).svc.cluster.local',
      '--proxyLogLevel=warning',
      '--proxyComponentLogLevel=misc:error',
      '--log_output_level=default:info',
    ],
    ports: [
      ...gateway.ports.map((p) => ({ containerPort: p.targetPort, protocol: 'TCP' })),
      { containerPort: 15090, protocol: 'TCP', name: 'http-envoy-prom' },
    ],
    readinessProbe: {
      httpGet: { path: '/healthz/ready', port: 15021, scheme: 'HTTP' },
      initialDelaySeconds: 0,
      periodSeconds: 1,
      failureThreshold: 30,
      successThreshold: 1,
      timeoutSeconds: 1,
    },
    env: [
      { name: 'PILOT_CERT_PROVIDER', value: 'istiod' },
      { name: 'CA_ADDR', value: `istiod.${ROOT_NAMESPACE}.svc:15012` },
      field('NODE_NAME', 'spec.nodeName'),
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      field('INSTANCE_IP', 'status.podIP'),
      field('HOST_IP', 'status.hostIP'),
      field('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
      { name: 'PROXY_CONFIG', value: JSON.stringify(spec.meshConfig.defaultConfig ?? {}) },
      { name: 'ISTIO_META_WORKLOAD_NAME', value: gateway.name },
      {
        name: 'ISTIO_META_OWNER',
        value: `kubernetes://apis/apps/v1/namespaces/${ROOT_NAMESPACE}/deployments/${gateway.name}`,
      },
      { name: 'ISTIO_META_MESH_ID', value: 'cluster.local' },
      { name: 'TRUST_DOMAIN', value: 'cluster.local' },
      { name: 'ISTIO_META_UNPRIVILEGED_POD', value: 'true' },
      { name: 'ISTIO_META_CLUSTER_ID', value: 'Kubernetes' },
      field('ISTIO_META_NODE_NAME', 'spec.nodeName'),
      ...Object.entries(proxyMetadata).map(([name, value]) => ({ name, value })),
    ],
    resources: { requests: { cpu: '10m', memory: '40Mi' }, limits: { cpu: '2000m', memory: '1024Mi' } },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: UID,
      runAsGroup: UID,
    },
    volumeMounts: [
      { name: 'workload-socket', mountPath: '/var/run/secrets/workload-spiffe-uds' },
      { name: 'istio-envoy', mountPath: '/etc/istio/proxy' },
      { name: 'istiod-ca-cert', mountPath: '/var/run/secrets/istio' },
      { name: 'istio-token', mountPath: '/var/run/secrets/tokens', readOnly: true },
      { name: 'istio-data', mountPath: '/var/lib/istio/data' },
      { name: 'podinfo', mountPath: '/etc/istio/pod' },
    ],
  };
}

function volumes() {
  return [
    { name: 'workload-socket', emptyDir: {} },
    { name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } },
    {
      name: 'podinfo',
      downwardAPI: {
        items: [
          { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
          { path: 'annotations', fieldRef: { fieldPath: 'metadata.annotations' } },
        ],
      },
    },
    { name: 'istio-envoy', emptyDir: {} },
    { name: 'istio-data', emptyDir: {} },
    {
      name: 'istio-token',
      projected: {
        sources: [{ serviceAccountToken: { path: 'istio-token', expirationSeconds: 43200, audience: 'istio-ca' } }],
      },
    },
  ];
}
