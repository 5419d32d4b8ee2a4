// The cluster's names, from Services, EndpointSlices and their ready addresses: pure. Called by dns-server.ts.
import { type EndpointSlice, SERVICE_NAME_LABEL } from '../../api/kubernetes/endpoint-slice.ts';
import type { Service } from '../../api/kubernetes/service.ts';

export type Record =
  | { readonly type: 'A'; readonly name: string; readonly address: string }
  | { readonly type: 'CNAME'; readonly name: string; readonly target: string }
  | { readonly type: 'SRV'; readonly name: string; readonly target: string; readonly port: number }
  | { readonly type: 'PTR'; readonly name: string; readonly target: string };

export interface Lookup {
  /** Every record under a name; undefined when the name does not exist. An empty list: it exists and has none. */
  find(name: string): readonly Record[] | undefined;
}

/** A headless Service answers with at most this many addresses; more do not fit an answer anyone reads. */
export const MAX_ANSWERS = 100;

/** `domain` is the cluster domain without dots around it, e.g. `cluster.local`. Names are lower case without the last dot. */
export function createRecords(services: readonly Service[], slices: readonly EndpointSlice[], domain: string): Lookup {
  const names = new Map<string, Record[]>();
  const add = (record: Record): void => {
    const known = names.get(record.name);
    if (known) known.push(record);
    else names.set(record.name, [record]);
    addParents(names, record.name, domain);
  };
  const slicesOf = Map.groupBy(slices, (s) => `${s.metadata.namespace}/${s.metadata.labels?.[SERVICE_NAME_LABEL]}`);
  names.set(domain, []);
  names.set(`svc.${domain}`, []);
  for (const service of services) {
    const { namespace = 'default', name } = service.metadata;
    const host = `${name}.${namespace}.svc.${domain}`;
    if (!names.has(host)) names.set(host, []);
    addParents(names, host, domain);
    if (service.spec.type === 'ExternalName')
      add({ type: 'CNAME', name: host, target: withoutDot(service.spec.externalName ?? '') });
    else if (service.spec.clusterIP === 'None')
      addHeadless(add, service, slicesOf.get(`${namespace}/${name}`) ?? [], host);
    else if (service.spec.clusterIP) addClusterIp(add, service, host, service.spec.clusterIP);
  }
  return { find: (name) => names.get(name) ?? podAddress(name, names, domain) };
}

/** `b.c` exists when `a.b.c` does (RFC 8020): an empty answer, not a denial. */
function addParents(names: Map<string, Record[]>, name: string, domain: string): void {
  let rest = name;
  for (let dot = rest.indexOf('.'); dot > 0; dot = rest.indexOf('.')) {
    rest = rest.slice(dot + 1);
    if (!rest.endsWith(domain) || names.has(rest)) return;
    names.set(rest, []);
  }
}

function addClusterIp(add: (record: Record) => void, service: Service, host: string, ip: string): void {
  add({ type: 'A', name: host, address: ip });
  add({ type: 'PTR', name: reverseName(ip), target: host });
  for (const port of service.spec.ports ?? [])
    if (port.name) add({ type: 'SRV', name: srvName(port.name, port.protocol, host), target: host, port: port.port });
}

function addHeadless(
  add: (record: Record) => void,
  service: Service,
  slices: readonly EndpointSlice[],
  host: string,
): void {
  const seen = new Set<string>();
  for (const slice of slices) {
    if (slice.addressType !== 'IPv4') continue;
    for (const endpoint of slice.endpoints) {
      const ip = endpoint.addresses[0];
      const wanted = endpoint.conditions?.ready !== false || service.spec.publishNotReadyAddresses === true;
      if (!ip || !wanted || seen.has(ip) || seen.size >= MAX_ANSWERS) continue;
      seen.add(ip);
      const own = `${endpoint.hostname ?? ip.replaceAll('.', '-')}.${host}`;
      add({ type: 'A', name: host, address: ip });
      add({ type: 'A', name: own, address: ip });
      add({ type: 'PTR', name: reverseName(ip), target: own });
      for (const port of slice.ports ?? [])
        if (port.name && port.port)
          add({ type: 'SRV', name: srvName(port.name, port.protocol, host), target: own, port: port.port });
    }
  }
}

const srvName = (port: string, protocol: string | undefined, host: string): string =>
  `_${port}._${(protocol ?? 'TCP').toLowerCase()}.${host}`;

/** `10-244-0-5.NAMESPACE.pod.DOMAIN` is that address, whoever has it, as long as the namespace is a known one. */
function podAddress(name: string, names: ReadonlyMap<string, unknown>, domain: string): readonly Record[] | undefined {
  const suffix = `.pod.${domain}`;
  if (!name.endsWith(suffix)) return undefined;
  const match = /^(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})\.([a-z0-9-]+)$/.exec(name.slice(0, -suffix.length));
  if (!match || match.slice(1, 5).some((part) => Number(part) > 255)) return undefined;
  if (!names.has(`${match[5]}.svc.${domain}`)) return undefined;
  return [{ type: 'A', name, address: match.slice(1, 5).join('.') }];
}

export function reverseName(ip: string): string {
  return `${ip.split('.').reverse().join('.')}.in-addr.arpa`;
}

const withoutDot = (name: string): string => name.toLowerCase().replace(/\.$/, '');
