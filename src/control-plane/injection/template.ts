// The containers and volumes an injected pod gets. Pure. Field by field as Istio's sidecar and gateway templates make them.
import type { Container, EnvVar } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Volume } from '../../api/kubernetes/volume.ts';
import type { Annotations } from './annotations.ts';
import { type InjectionConfig, type Tree, tree } from './config.ts';
import type { Workload } from './workload.ts';

const PROXY_ID = 1337;
const STARTUP_FAILURES = 600;
export const PROXY_CONTAINER = 'istio-proxy';
const META = 'ISTIO_META_';

export interface TemplateInput {
  readonly pod: Pod;
  readonly namespace: string;
  readonly annotations: Annotations;
  readonly config: InjectionConfig;
  /** Mesh default merged with the pod's `proxy.istio.io/config`. */
  readonly proxyConfig: Tree;
  readonly workload: Workload;
  readonly gateway: boolean;
  readonly native: boolean;
  readonly probers: Readonly<Record<string, unknown>>;
  readonly prometheus: Readonly<Record<string, string>> | undefined;
  /** From the webhook path `/:ENV:k=v`. */
  readonly extraEnv: Readonly<Record<string, string>>;
}

export function holdApplication(input: Pick<TemplateInput, 'proxyConfig'>): boolean {
  return input.proxyConfig.holdApplicationUntilProxyStarts === true;
}

export function statusPort(input: Pick<TemplateInput, 'annotations' | 'proxyConfig'>): number {
  return Number(input.annotations['status.sidecar.istio.io/port'] ?? input.proxyConfig.statusPort ?? 15020);
}

function image(input: TemplateInput): string {
  return input.annotations['sidecar.istio.io/proxyImage'] ?? `${input.config.hub}/proxyv2:${input.config.tag}`;
}

/** Lists in annotations come as `a, b`; the flags take `a,b`. */
function cut(value: string | undefined, otherwise: string): string {
  return value === undefined
    ? otherwise
    : value
        .split(',')
        .map((v) => v.trim())
        .join(',');
}

export function initContainer(input: TemplateInput): Container {
  const a = (name: string): string | undefined => input.annotations[`traffic.sidecar.istio.io/${name}`];
  const excludedInbound = ['15090', '15021', String(statusPort(input)), cut(a('excludeInboundPorts'), '')];
  const optional = (flag: string, value: string | undefined): readonly string[] =>
    value === undefined || value === '' ? [] : [flag, cut(value, '')];
  return {
    name: 'istio-init',
    image: image(input),
    args: [
      'istio-iptables',
      '-p',
      '15001',
      '-z',
      '15006',
      '-u',
      String(PROXY_ID),
      '-m',
      'REDIRECT',
      '-i',
      cut(a('includeOutboundIPRanges'), '*'),
      '-x',
      cut(a('excludeOutboundIPRanges'), ''),
      '-b',
      cut(a('includeInboundPorts'), '*'),
      '-d',
      excludedInbound.filter((p) => p !== '' && p !== '0').join(','),
      ...optional('-q', a('includeOutboundPorts')),
      ...optional('-o', a('excludeOutboundPorts')),
      ...optional('-k', a('kubevirtInterfaces') ?? input.annotations['istio.io/reroute-virtual-interfaces']),
      ...optional('-c', a('excludeInterfaces')),
      '--log_output_level=default:info',
    ],
    resources: resources(input),
    securityContext: {
      allowPrivilegeEscalation: input.config.privileged,
      privileged: input.config.privileged,
      capabilities: { add: ['NET_ADMIN', 'NET_RAW'], drop: ['ALL'] },
      readOnlyRootFilesystem: false,
      runAsGroup: 0,
      runAsNonRoot: false,
      runAsUser: 0,
    },
  };
}

function resources(input: TemplateInput) {
  const a = (name: string): string | undefined => input.annotations[`sidecar.istio.io/${name}`];
  const set = (cpu: string | undefined, memory: string | undefined, base: Readonly<Record<string, string>>) => ({
    ...base,
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
  });
  return {
    requests: set(a('proxyCPU'), a('proxyMemory'), input.config.resources.requests),
    limits: set(a('proxyCPULimit'), a('proxyMemoryLimit'), input.config.resources.limits),
  };
}

export function proxyContainer(input: TemplateInput): Container {
  const { annotations, config } = input;
  const hold = holdApplication(input) && !input.native;
  const log = {
    proxy: annotations['sidecar.istio.io/logLevel'] ?? 'warning',
    component: annotations['sidecar.istio.io/componentLogLevel'] ?? 'misc:error',
    agent: annotations['sidecar.istio.io/agentLogLevel'] ?? 'default:info',
  };
  return {
    name: PROXY_CONTAINER,
    image: image(input),
    ...(input.native ? { restartPolicy: 'Always' as const } : {}),
    args: [
      'proxy',
      input.gateway ? 'router' : 'sidecar',
      '--domain',
      `$(POD_NAMESPACE).svc.${config.clusterDomain}`,
      `--proxyLogLevel=${log.proxy}`,
      `--proxyComponentLogLevel=${log.component}`,
      `--log_output_level=${log.agent}`,
    ],
    ports: [{ containerPort: 15090, name: 'http-envoy-prom', protocol: 'TCP' }],
    env: environment(input),
    ...probes(input),
    ...(hold ? { lifecycle: { postStart: { exec: { command: ['pilot-agent', 'wait'] } } } } : {}),
    ...(input.native
      ? {
          lifecycle: {
            preStop: { exec: { command: ['pilot-agent', 'request', '--debug-port=15020', 'POST', 'drain'] } },
          },
        }
      : {}),
    resources: resources(input),
    securityContext: {
      allowPrivilegeEscalation: config.privileged,
      capabilities: { drop: ['ALL'] },
      privileged: config.privileged,
      readOnlyRootFilesystem: !config.privileged,
      runAsGroup: PROXY_ID,
      runAsNonRoot: true,
      runAsUser: PROXY_ID,
    },
    volumeMounts: [
      { name: 'workload-socket', mountPath: '/var/run/secrets/workload-spiffe-uds' },
      { name: 'credential-socket', mountPath: '/var/run/secrets/credential-uds' },
      { name: 'workload-certs', mountPath: '/var/run/secrets/workload-spiffe-credentials' },
      { name: 'istiod-ca-cert', mountPath: '/var/run/secrets/istio' },
      { name: 'istio-data', mountPath: '/var/lib/istio/data' },
      { name: 'istio-envoy', mountPath: '/etc/istio/proxy' },
      { name: 'istio-token', mountPath: '/var/run/secrets/tokens' },
      { name: 'istio-podinfo', mountPath: '/etc/istio/pod' },
      ...userVolumes(annotations['sidecar.istio.io/userVolumeMount']),
    ],
  };
}

function probes(input: TemplateInput) {
  if (statusPort(input) === 0) return {};
  const a = (name: string, otherwise: number): number =>
    Number(input.annotations[`readiness.status.sidecar.istio.io/${name}`] ?? otherwise);
  const httpGet = { path: '/healthz/ready', port: 15021 };
  return {
    readinessProbe: {
      httpGet,
      initialDelaySeconds: a('initialDelaySeconds', 0),
      periodSeconds: a('periodSeconds', 15),
      timeoutSeconds: 3,
      failureThreshold: a('failureThreshold', 4),
    },
    startupProbe: {
      httpGet,
      initialDelaySeconds: 0,
      periodSeconds: 1,
      timeoutSeconds: 3,
      failureThreshold: STARTUP_FAILURES,
    },
  };
}

function environment(input: TemplateInput): readonly EnvVar[] {
  const { config, pod } = input;
  const field = (name: string, fieldPath: string): EnvVar => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const metadata = tree(input.proxyConfig.proxyMetadata);
  const apps = pod.spec.containers.filter((c) => c.name !== PROXY_CONTAINER);
  const ports = apps.flatMap((c) =>
    (c.ports ?? []).map((p) => ({ name: p.name, containerPort: p.containerPort, protocol: p.protocol ?? 'TCP' })),
  );
  const when = (name: string, value: string | undefined): readonly EnvVar[] =>
    value === undefined ? [] : [{ name, value }];
  return [
    { name: 'PILOT_CERT_PROVIDER', value: 'istiod' },
    { name: 'CA_ADDR', value: config.discoveryAddress },
    field('POD_NAME', 'metadata.name'),
    field('POD_NAMESPACE', 'metadata.namespace'),
    field('INSTANCE_IP', 'status.podIP'),
    field('SERVICE_ACCOUNT', 'spec.serviceAccountName'),
    field('HOST_IP', 'status.hostIP'),
    { name: 'ISTIO_CPU_LIMIT', valueFrom: { resourceFieldRef: { resource: 'limits.cpu', divisor: '1' } } },
    { name: 'GOMEMLIMIT', valueFrom: { resourceFieldRef: { resource: 'limits.memory' } } },
    { name: 'GOMAXPROCS', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
    { name: 'PROXY_CONFIG', value: JSON.stringify(input.proxyConfig) },
    { name: `${META}POD_PORTS`, value: JSON.stringify(ports) },
    { name: `${META}APP_CONTAINERS`, value: apps.map((c) => c.name).join(',') },
    { name: `${META}CLUSTER_ID`, value: config.clusterId },
    field(`${META}NODE_NAME`, 'spec.nodeName'),
    { name: `${META}INTERCEPTION_MODE`, value: 'REDIRECT' },
    ...when(`${META}NETWORK`, (pod.metadata.labels?.['topology.istio.io/network'] ?? config.network) || undefined),
    { name: `${META}WORKLOAD_NAME`, value: input.workload.name },
    { name: `${META}OWNER`, value: input.workload.owner },
    { name: `${META}MESH_ID`, value: String(input.proxyConfig.meshId ?? config.trustDomain) },
    { name: 'TRUST_DOMAIN', value: config.trustDomain },
    ...when('ISTIO_PROMETHEUS_ANNOTATIONS', input.prometheus && JSON.stringify(input.prometheus)),
    ...when(
      'ISTIO_KUBE_APP_PROBERS',
      Object.keys(input.probers).length > 0 ? JSON.stringify(input.probers) : undefined,
    ),
    ...Object.entries({ ...metadata, ...engine(input.annotations) }).map(([name, value]) => ({
      name,
      value: String(value),
    })),
    ...Object.entries(input.extraEnv).map(([name, value]) => ({ name, value })),
  ];
}

/** The pod's own choice of engine goes before the mesh's. */
function engine(annotations: Annotations): Readonly<Record<string, string>> {
  const own = annotations['proxy.meltemi.dev/engine'];
  return own === undefined ? {} : { [`${META}ENGINE`]: own };
}

export function templateVolumes(input: TemplateInput): readonly Volume[] {
  return [
    { name: 'workload-socket', emptyDir: {} },
    { name: 'credential-socket', emptyDir: {} },
    { name: 'workload-certs', emptyDir: {} },
    { name: 'istio-envoy', emptyDir: { medium: 'Memory' } },
    { name: 'istio-data', emptyDir: {} },
    {
      name: 'istio-podinfo',
      downwardAPI: {
        items: [
          { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
          { path: 'annotations', fieldRef: { fieldPath: 'metadata.annotations' } },
        ],
      },
    },
    {
      name: 'istio-token',
      projected: {
        sources: [{ serviceAccountToken: { audience: 'istio-ca', expirationSeconds: 43200, path: 'istio-token' } }],
      },
    },
    { name: 'istiod-ca-cert', configMap: { name: 'istio-ca-root-cert' } },
    ...(userVolumes(input.annotations['sidecar.istio.io/userVolume']) as readonly Volume[]),
  ];
}

/** `{"name": {…}}` (Istio's form) or a list of whole entries. */
function userVolumes(text: string | undefined): readonly { readonly name: string; readonly mountPath: string }[] {
  if (text === undefined) return [];
  const parsed: unknown = JSON.parse(text);
  if (Array.isArray(parsed)) return parsed as readonly { readonly name: string; readonly mountPath: string }[];
  return Object.entries(tree(parsed)).map(([name, entry]) => ({
    ...(tree(entry) as { readonly mountPath: string }),
    name,
  }));
}
