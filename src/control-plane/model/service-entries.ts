// Services made of ServiceEntries, with endpoints of their own, of WorkloadEntries and of pods (traffic.md §7). Called by snapshot.ts.
import { isIP } from 'node:net';
import type { EntryPort, EntryProtocol, ServiceEntrySpec, WorkloadEntrySpec } from '../../api/istio/service-entry.ts';
import type { Config } from '../config/store.ts';
import { matches } from './peer-authentication.ts';
import type { Protocol } from './protocol.ts';
import { type Endpoint, type Locality, NO_LOCALITY, type Service, TLS_MODE, type Workload } from './services.ts';

const PROTOCOL: Readonly<Record<EntryProtocol, Protocol>> = {
  HTTP: 'HTTP',
  HTTP2: 'HTTP2',
  GRPC: 'GRPC',
  'GRPC-WEB': 'GRPC-Web',
  HTTPS: 'HTTPS',
  TLS: 'TLS',
  TCP: 'TCP',
  MONGO: 'Mongo',
};

export interface EntryInputs {
  readonly identities: (workload: Workload) => readonly string[];
  readonly workloads: ReadonlyMap<string, Workload>;
  readonly workloadEntries: readonly Config<WorkloadEntrySpec>[];
  /** Of a pod. */
  readonly localityOf: (workload: Workload) => Locality;
  readonly trustDomains: readonly string[];
}

/** One Service for each host. */
export function servicesOfEntry(config: Config<ServiceEntrySpec>, inputs: EntryInputs): readonly Service[] {
  const { spec } = config;
  return spec.hosts.map((raw): Service => {
    const host = raw.toLowerCase();
    const endpoints = new Map<number, readonly Endpoint[]>();
    const sans = new Set<string>(spec.subjectAltNames);
    for (const port of spec.ports) {
      const list = endpointsOf(config, host, port, inputs);
      endpoints.set(port.number, list);
      for (const { workload } of list)
        if (workload && workload.serviceAccount !== '') for (const id of inputs.identities(workload)) sans.add(id);
    }
    return {
      host,
      name: host,
      namespace: config.namespace,
      createdAt: config.createdAt,
      addresses: spec.addresses,
      headless: false,
      discovery: discoveryOf(spec),
      meshExternal: spec.external,
      origin: 'entry',
      ports: spec.ports.map((port) => ({
        name: port.name,
        port: port.number,
        protocol: PROTOCOL[port.protocol],
        targetPort: port.targetPort ?? port.number,
      })),
      selector: undefined,
      exportTo: spec.exportTo,
      endpoints,
      sans: [...sans].sort(),
    };
  });
}

function discoveryOf(spec: ServiceEntrySpec): Service['discovery'] {
  switch (spec.resolution) {
    case 'NONE':
      return 'original-dst';
    case 'STATIC':
      return 'eds';
    case 'DNS':
      return 'strict-dns';
    case 'DNS_ROUND_ROBIN':
      return 'logical-dns';
  }
}

function endpointsOf(
  config: Config<ServiceEntrySpec>,
  host: string,
  port: EntryPort,
  inputs: EntryInputs,
): readonly Endpoint[] {
  const { spec } = config;
  if (spec.resolution === 'NONE') return [];
  const target = port.targetPort ?? port.number;
  if (spec.workloadSelector) return selected(config, port, target, inputs);
  if (spec.endpoints.length === 0)
    return spec.resolution === 'STATIC' ? [] : [bare(host, target, undefined, NO_LOCALITY, 1)];
  return spec.endpoints.map((entry, i) => fromEntry(entry, `${config.name}-${i}`, config.namespace, port, target));
}

/** Pods and WorkloadEntries of the namespace that carry the labels. */
function selected(
  config: Config<ServiceEntrySpec>,
  port: EntryPort,
  target: number,
  inputs: EntryInputs,
): readonly Endpoint[] {
  const labels = config.spec.workloadSelector ?? {};
  const out: Endpoint[] = [];
  for (const workload of inputs.workloads.values()) {
    const [ip] = workload.ips;
    if (workload.namespace !== config.namespace || ip === undefined || !matches(labels, workload.labels)) continue;
    out.push(bare(ip, target, workload, inputs.localityOf(workload), 1));
  }
  for (const entry of inputs.workloadEntries)
    if (entry.namespace === config.namespace && matches(labels, entry.spec.labels))
      out.push(fromEntry(entry.spec, entry.name, entry.namespace, port, target));
  return out.sort((a, b) => (a.address < b.address ? -1 : 1));
}

function fromEntry(
  entry: WorkloadEntrySpec,
  name: string,
  namespace: string,
  port: EntryPort,
  target: number,
): Endpoint {
  const [region = '', zone = '', subZone = ''] = entry.locality.split('/');
  const locality = { region, zone, subZone };
  const workload: Workload = {
    name,
    namespace,
    ips: isIP(entry.address) === 0 ? [] : [entry.address],
    labels: entry.labels,
    serviceAccount: entry.serviceAccount,
    nodeName: '',
    workloadName: name,
    containerPorts: new Map(),
    tlsMode: entry.labels[TLS_MODE] === 'istio' ? 'istio' : 'disabled',
    locality,
  };
  return bare(entry.address, entry.ports.get(port.name) ?? target, workload, locality, entry.weight);
}

function bare(
  address: string,
  port: number,
  workload: Workload | undefined,
  locality: Locality,
  weight: number,
): Endpoint {
  return { address, port, ready: true, hostname: '', workload, locality, weight };
}
