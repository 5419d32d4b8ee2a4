// Services with their endpoints, and workloads (pods), computed from Kubernetes objects. Called by snapshot.ts.
import type { KubeObject } from '../../base/kube/types.ts';
import type { KubeEndpointSlice, KubePod, KubeService } from '../config/kinds.ts';
import { type Protocol, protocolOf } from './protocol.ts';

export interface Workload {
  readonly name: string;
  readonly namespace: string;
  readonly ips: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly nodeName: string;
  /** Name of what owns the pod, without generated suffixes: the Deployment's, for instance. */
  readonly workloadName: string;
  readonly containerPorts: ReadonlyMap<string, number>;
  readonly tlsMode: 'istio' | 'disabled';
  /** Of a WorkloadEntry; a pod's is its node's. */
  readonly locality?: Locality;
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
  readonly ready: boolean;
  readonly hostname: string;
  /** Absent for an address that is no pod's. */
  readonly workload: Workload | undefined;
  readonly locality: Locality;
  readonly weight: number;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly targetPort: number | string;
}

export interface Service {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
  readonly createdAt: number;
  /** Empty for a headless Service. */
  readonly addresses: readonly string[];
  readonly headless: boolean;
  /** Where a client finds the endpoints. */
  readonly discovery: 'eds' | 'original-dst' | 'strict-dns' | 'logical-dns';
  /** Outside the mesh (ServiceEntry MESH_EXTERNAL): never mTLS on its own. */
  readonly meshExternal: boolean;
  /** A Kubernetes Service has short names too. */
  readonly origin: 'kubernetes' | 'entry';
  readonly ports: readonly ServicePort[];
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly exportTo: readonly string[];
  /** By Service port. */
  readonly endpoints: ReadonlyMap<number, readonly Endpoint[]>;
  /** SPIFFE IDs a server of this Service may have, sorted. */
  readonly sans: readonly string[];
}

const EXPORT_TO = 'networking.istio.io/exportTo';
export const TLS_MODE = 'security.istio.io/tlsMode';
export const NO_LOCALITY: Locality = { region: '', zone: '', subZone: '' };

export function workloadOf(pod: KubePod): Workload {
  const labels = pod.metadata.labels ?? {};
  const ports = new Map<string, number>();
  for (const container of [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])])
    for (const port of container.ports ?? []) if (port.name) ports.set(port.name, port.containerPort);
  const ips = (pod.status?.podIPs ?? []).map((p) => p.ip);
  const primary = pod.status?.podIP;
  return {
    name: pod.metadata.name,
    namespace: pod.metadata.namespace ?? '',
    ips: ips.length > 0 ? ips : primary ? [primary] : [],
    labels,
    serviceAccount: pod.spec?.serviceAccountName || 'default',
    nodeName: pod.spec?.nodeName ?? '',
    workloadName: workloadName(pod),
    containerPorts: ports,
    tlsMode: labels[TLS_MODE] === 'istio' ? 'istio' : 'disabled',
  };
}

function workloadName(pod: KubePod): string {
  const owner = pod.metadata.ownerReferences?.find((o) => o.controller) ?? pod.metadata.ownerReferences?.[0];
  if (!owner) return pod.metadata.name;
  const hash = pod.metadata.labels?.['pod-template-hash'];
  return owner.kind === 'ReplicaSet' && hash && owner.name.endsWith(`-${hash}`)
    ? owner.name.slice(0, -hash.length - 1)
    : owner.name;
}

export function localities(nodes: readonly KubeObject[]): ReadonlyMap<string, Locality> {
  const out = new Map<string, Locality>();
  for (const node of nodes) {
    const labels = node.metadata.labels ?? {};
    out.set(node.metadata.name, {
      region: labels['topology.kubernetes.io/region'] ?? '',
      zone: labels['topology.kubernetes.io/zone'] ?? '',
      subZone: labels['topology.istio.io/subzone'] ?? '',
    });
  }
  return out;
}

export interface ServiceInputs {
  readonly domain: string;
  /** `spiffe://<trustDomain>/ns/<ns>/sa/<sa>` for every trust domain that is accepted. */
  readonly identities: (workload: Workload) => readonly string[];
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly localities: ReadonlyMap<string, Locality>;
  readonly slices: ReadonlyMap<string, readonly KubeEndpointSlice[]>;
}

/** Undefined for an ExternalName Service: it is an alias and has no cluster of its own. */
export function serviceOf(object: KubeService, inputs: ServiceInputs): Service | undefined {
  const spec = object.spec ?? {};
  if (spec.type === 'ExternalName') return undefined;
  const { name } = object.metadata;
  const namespace = object.metadata.namespace ?? '';
  const addresses = (spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : [])).filter(
    (a) => a !== '' && a !== 'None',
  );
  const ports = (spec.ports ?? []).map(
    (port): ServicePort => ({
      name: port.name ?? '',
      port: port.port,
      protocol: protocolOf(port),
      targetPort: port.targetPort ?? port.port,
    }),
  );
  const slices = inputs.slices.get(`${namespace}/${name}`) ?? [];
  const endpoints = new Map<number, readonly Endpoint[]>();
  const sans = new Set<string>();
  for (const port of ports) {
    const list = endpointsOf(port, slices, namespace, inputs);
    endpoints.set(port.port, list);
    for (const endpoint of list)
      if (endpoint.workload) for (const id of inputs.identities(endpoint.workload)) sans.add(id);
  }
  const exportTo = object.metadata.annotations?.[EXPORT_TO];
  return {
    host: `${name}.${namespace}.svc.${inputs.domain}`,
    name,
    namespace,
    createdAt: Date.parse(object.metadata.creationTimestamp ?? '') || 0,
    addresses,
    headless: addresses.length === 0,
    discovery: 'eds',
    meshExternal: false,
    origin: 'kubernetes',
    ports,
    selector: spec.selector && Object.keys(spec.selector).length > 0 ? spec.selector : undefined,
    exportTo: exportTo ? exportTo.split(',').map((e) => e.trim()) : [],
    endpoints,
    sans: [...sans].sort(),
  };
}

function endpointsOf(
  port: ServicePort,
  slices: readonly KubeEndpointSlice[],
  namespace: string,
  inputs: ServiceInputs,
): readonly Endpoint[] {
  const seen = new Set<string>();
  const out: Endpoint[] = [];
  for (const slice of slices) {
    if (slice.addressType === 'FQDN') continue;
    const slicePort = slice.ports?.find((p) => (p.name ?? '') === port.name)?.port;
    if (slicePort === undefined) continue;
    for (const entry of slice.endpoints ?? []) {
      const ref = entry.targetRef;
      const workload =
        ref?.kind === 'Pod' && ref.name ? inputs.workloads.get(`${ref.namespace ?? namespace}/${ref.name}`) : undefined;
      for (const address of entry.addresses) {
        const key = `${address}:${slicePort}`;
        if (seen.has(key)) continue;
        seen.add(key);
        const node = entry.nodeName ?? workload?.nodeName ?? '';
        out.push({
          address,
          port: slicePort,
          ready: entry.conditions?.ready !== false,
          hostname: entry.hostname ?? '',
          workload,
          locality: inputs.localities.get(node) ?? NO_LOCALITY,
          weight: 1,
        });
      }
    }
  }
  return out.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.port - b.port));
}
