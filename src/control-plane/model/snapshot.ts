// One immutable picture of the mesh, built from the configuration after each debounced change; translate/ reads nothing else.
import type { GatewaySpec } from '../../api/istio/gateway.ts';
import type { VirtualServiceSpec } from '../../api/istio/virtual-service.ts';
import type { MeshConfig } from '../../api/mesh/mesh-config.ts';
import type { KubeEndpointSlice, KubeSecret } from '../config/kinds.ts';
import type { Config, ConfigInput } from '../config/store.ts';
import { type DestinationRuleIndex, indexDestinationRules } from './destination-rules.ts';
import { byAge, indexPeerAuthentications, matches, type PeerAuthenticationIndex } from './peer-authentication.ts';
import type { ProxyNode } from './proxy.ts';
import { servicesOfEntry } from './service-entries.ts';
import {
  type Locality,
  localities,
  NO_LOCALITY,
  type Service,
  type ServicePort,
  serviceOf,
  type Workload,
  workloadOf,
} from './services.ts';

export interface Snapshot {
  /** `<RFC 3339 time>/<counter>`. */
  readonly version: string;
  readonly mesh: MeshConfig;
  readonly domain: string;
  /** Sorted by host. */
  readonly services: readonly Service[];
  readonly servicesByHost: ReadonlyMap<string, Service>;
  /** By `<namespace>/<pod>`. */
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly workloadsByIp: ReadonlyMap<string, Workload>;
  readonly peerAuthentication: PeerAuthenticationIndex;
  readonly destinationRules: DestinationRuleIndex;
  /** Oldest first. */
  readonly virtualServices: readonly Config<VirtualServiceSpec>[];
  readonly gateways: readonly Config<GatewaySpec>[];
  /** Certificates for gateways, by `<namespace>/<name>`. */
  readonly secrets: ReadonlyMap<string, KubeSecret>;
  /** Where a workload runs. */
  readonly localityOf: (workload: Workload | undefined) => Locality;
  /** A rule compares the client's labels (sourceLabels): what proxies of one namespace get may differ. */
  readonly dependsOnLabels: boolean;
  /** Everything but endpoint addresses, in one text: equal shapes mean that only EDS can differ. */
  readonly shape: string;
  /** Results that several proxies share; filled by translate/. Lives and dies with the snapshot. */
  readonly memo: Map<string, unknown>;
}

export interface SnapshotOptions {
  readonly version: string;
  readonly domain: string;
}

export function buildSnapshot(input: ConfigInput, options: SnapshotOptions): Snapshot {
  const { mesh } = input;
  const domains = [mesh.trustDomain, ...mesh.trustDomainAliases];
  const workloads = new Map<string, Workload>();
  const workloadsByIp = new Map<string, Workload>();
  for (const pod of input.pods) {
    // A finished pod's address may already be another pod's.
    if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') continue;
    const workload = workloadOf(pod);
    workloads.set(`${workload.namespace}/${workload.name}`, workload);
    if (!pod.spec?.hostNetwork) for (const ip of workload.ips) workloadsByIp.set(ip, workload);
  }
  const slices = new Map<string, KubeEndpointSlice[]>();
  for (const slice of input.slices) {
    const service = slice.metadata.labels?.['kubernetes.io/service-name'];
    if (!service) continue;
    const key = `${slice.metadata.namespace ?? ''}/${service}`;
    const list = slices.get(key);
    if (list) list.push(slice);
    else slices.set(key, [slice]);
  }
  const places = localities(input.nodes);
  const localityOf = (w: Workload | undefined): Locality => w?.locality ?? places.get(w?.nodeName ?? '') ?? NO_LOCALITY;
  const inputs = {
    domain: options.domain,
    identities: (w: Workload) => domains.map((d) => `spiffe://${d}/ns/${w.namespace}/sa/${w.serviceAccount}`),
    workloads,
    localities: places,
    slices,
  };
  const entryInputs = { ...inputs, localityOf, workloadEntries: input.workloadEntries, trustDomains: domains };
  const services = byHost([
    ...input.services.map((s) => serviceOf(s, inputs)).filter((s) => s !== undefined),
    ...[...input.serviceEntries].sort(byAge).flatMap((e) => servicesOfEntry(e, entryInputs)),
  ]);
  const snapshot = {
    version: options.version,
    mesh,
    domain: options.domain,
    services,
    servicesByHost: new Map(services.map((s) => [s.host, s])),
    workloads,
    workloadsByIp,
    peerAuthentication: indexPeerAuthentications(input.peerAuthentications, mesh.rootNamespace),
    destinationRules: indexDestinationRules(input.destinationRules, options.domain),
    virtualServices: [...input.virtualServices].sort(byAge),
    gateways: [...input.gateways].sort(byAge),
    secrets: new Map(input.secrets.map((s) => [`${s.metadata.namespace ?? ''}/${s.metadata.name}`, s])),
    localityOf,
    dependsOnLabels: input.virtualServices.some((v) => usesLabels(v.spec)),
    memo: new Map<string, unknown>(),
  };
  return { ...snapshot, shape: shapeOf(services) };
}

/** The first of a host wins: a Kubernetes Service, then the oldest ServiceEntry. */
function byHost(services: readonly Service[]): readonly Service[] {
  const first = new Map<string, Service>();
  for (const service of services) if (!first.has(service.host)) first.set(service.host, service);
  return [...first.values()].sort((a, b) => (a.host < b.host ? -1 : 1));
}

function usesLabels(spec: VirtualServiceSpec): boolean {
  const all = [...spec.http.flatMap((r) => r.matches), ...spec.tcp.flatMap((r) => r.matches)];
  return [...all, ...spec.tls.flatMap((r) => r.matches)].some((m) => m.sourceLabels.size > 0);
}

/** What CDS, LDS and RDS take from endpoints: the SANs, a headless Service's addresses, and endpoints without a selector. */
function shapeOf(services: readonly Service[]): string {
  let out = '';
  for (const service of services) {
    out += `${service.host}=${service.sans.join()}`;
    if (service.headless || service.discovery !== 'eds' || !service.selector)
      for (const [port, list] of service.endpoints)
        for (const e of list) out += `;${port}:${e.address}:${e.port}:${e.ready}:${e.workload?.tlsMode}`;
    out += '\n';
  }
  return out;
}

export interface Target {
  readonly service: Service;
  readonly port: ServicePort;
  /** The port the workload listens on. */
  readonly targetPort: number;
}

/** The proxy's own labels: the pod's, which may have changed since the proxy told them. */
export function labelsOf(snapshot: Snapshot, proxy: ProxyNode): Readonly<Record<string, string>> {
  return snapshot.workloads.get(`${proxy.namespace}/${proxy.podName}`)?.labels ?? proxy.labels;
}

/** Service ports that lead to this proxy's workload; the first Service of a target port (by age, then name) owns it. */
export function targetsOf(snapshot: Snapshot, proxy: ProxyNode): readonly Target[] {
  const labels = labelsOf(snapshot, proxy);
  const workload = snapshot.workloads.get(`${proxy.namespace}/${proxy.podName}`);
  const out: Target[] = [];
  for (const service of snapshot.services) {
    if (service.namespace !== proxy.namespace) continue;
    const selected = service.selector ? matches(service.selector, labels) : false;
    for (const port of service.ports) {
      if (port.protocol === 'UDP') continue;
      const endpoint = service.endpoints.get(port.port)?.find((e) => proxy.ips.includes(e.address));
      let targetPort = endpoint?.port;
      if (targetPort === undefined && selected)
        targetPort =
          typeof port.targetPort === 'number'
            ? port.targetPort
            : (workload?.containerPorts.get(port.targetPort) ?? proxy.podPorts.get(port.targetPort));
      if (targetPort !== undefined) out.push({ service, port, targetPort });
    }
  }
  return out.sort((a, b) => a.service.createdAt - b.service.createdAt || (a.service.host < b.service.host ? -1 : 1));
}

/** Computes once per snapshot and key. */
export function memoize<T>(snapshot: Snapshot, key: string, compute: () => T): T {
  if (snapshot.memo.has(key)) return snapshot.memo.get(key) as T;
  const value = compute();
  snapshot.memo.set(key, value);
  return value;
}
