// From Services and EndpointSlices to what the node's kernel shall hold: pure. Called by service-proxy.ts.
import { createHash } from 'node:crypto';
import { type EndpointSlice, SERVICE_NAME_LABEL } from '../../api/kubernetes/endpoint-slice.ts';
import type { Service, ServicePort } from '../../api/kubernetes/service.ts';

/** One of several copies of a program behind a Service port. */
export interface Backend {
  readonly ip: string;
  readonly port: number;
}

/** The kernel's state as flat maps, so that two of them can be compared. Keys are nft names. */
export interface RuleState {
  /** `10.96.0.5 . tcp . 80` → the chain that chooses a backend. */
  readonly frontends: ReadonlyMap<string, string>;
  /** Chain → its rules, one a line. */
  readonly chains: ReadonlyMap<string, string>;
  /** Affinity set → how long it remembers a client, in seconds. */
  readonly sets: ReadonlyMap<string, number>;
}

/** A TCP port that is wanted on the host's 127.0.0.1. */
export interface HostPort {
  readonly port: number;
  readonly kind: 'node-port' | 'load-balancer';
  readonly service: Service;
  readonly target: Backend;
}

export interface CompiledServices {
  readonly rules: RuleState;
  readonly hostPorts: readonly HostPort[];
  /** Services whose wishes cannot be met here: what and why, for an event. */
  readonly unsupported: readonly { readonly service: Service; readonly message: string }[];
}

export interface CompileOptions {
  readonly nodeIp: string;
  /** Answered by localkube's own DNS on that very address: never translated. */
  readonly clusterDnsIp: string;
}

export const EMPTY_RULES: RuleState = { frontends: new Map(), chains: new Map(), sets: new Map() };
/** A Service port never spreads over more backends than this; more pods than that do not fit on the node. */
export const MAX_BACKENDS_PER_PORT = 1000;
const DEFAULT_AFFINITY_SECONDS = 10_800;
const PROTOCOLS: ReadonlySet<string> = new Set(['TCP', 'UDP', 'SCTP']);

/**
 * What the Services mean on this one node. `externalTrafficPolicy` and `internalTrafficPolicy` are accepted and change
 * nothing: every endpoint is local, and traffic from the host always arrives with the node's address.
 */
export function compileServices(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  options: CompileOptions,
): CompiledServices {
  const slicesOf = Map.groupBy(slices, (s) => `${s.metadata.namespace}/${s.metadata.labels?.[SERVICE_NAME_LABEL]}`);
  const state = {
    frontends: new Map<string, string>(),
    chains: new Map<string, string>(),
    sets: new Map<string, number>(),
  };
  const hostPorts: HostPort[] = [];
  const unsupported: { service: Service; message: string }[] = [];
  for (const service of services) {
    const clusterIp = service.spec.clusterIP;
    if (service.spec.type === 'ExternalName' || !clusterIp || !isIpv4(clusterIp)) continue;
    if (clusterIp === options.clusterDnsIp) continue;
    const own = slicesOf.get(`${service.metadata.namespace}/${service.metadata.name}`) ?? [];
    for (const port of service.spec.ports ?? []) {
      const protocol = port.protocol ?? 'TCP';
      const backends = backendsOf(own, port, protocol);
      if (backends.length === 0 || !PROTOCOLS.has(protocol)) continue;
      const chain = addPort(state, service, port, protocol, backends);
      const addresses = [clusterIp, ...(service.spec.externalIPs ?? []).filter(isIpv4)];
      for (const ip of addresses) state.frontends.set(frontendKey(ip, protocol, port.port), chain);
      if (port.nodePort) state.frontends.set(frontendKey(options.nodeIp, protocol, port.nodePort), chain);
      hostPorts.push(...hostPortsOf(service, port, protocol, clusterIp));
    }
    const message = unsupportedWish(service);
    if (message) unsupported.push({ service, message });
  }
  return { rules: state, hostPorts, unsupported };
}

function hostPortsOf(service: Service, port: ServicePort, protocol: string, clusterIp: string): HostPort[] {
  if (protocol !== 'TCP') return [];
  const target = { ip: clusterIp, port: port.port };
  const out: HostPort[] = [];
  if (port.nodePort) out.push({ port: port.nodePort, kind: 'node-port', service, target });
  if (isOurLoadBalancer(service)) out.push({ port: port.port, kind: 'load-balancer', service, target });
  return out;
}

/** A Service whose load balancer this node plays: one without a class naming somebody else. */
export function isOurLoadBalancer(service: Service): boolean {
  return service.spec.type === 'LoadBalancer' && !service.spec.loadBalancerClass;
}

function unsupportedWish(service: Service): string | undefined {
  const { type, ports = [], loadBalancerSourceRanges = [] } = service.spec;
  if (type !== 'NodePort' && type !== 'LoadBalancer') return undefined;
  const udp = ports.filter((p) => (p.protocol ?? 'TCP') !== 'TCP');
  if (udp.length > 0)
    return `port ${udp.map((p) => `${p.port}/${p.protocol}`).join(', ')} is not opened on the host: only TCP ports are; inside the cluster it works`;
  if (loadBalancerSourceRanges.length > 0)
    return 'loadBalancerSourceRanges has no effect: only this host can reach the load balancer, at 127.0.0.1';
  return undefined;
}

function backendsOf(slices: readonly EndpointSlice[], port: ServicePort, protocol: string): Backend[] {
  const ready = new Map<string, Backend>();
  const terminating = new Map<string, Backend>();
  for (const slice of slices) {
    if (slice.addressType !== 'IPv4') continue;
    for (const slicePort of slice.ports ?? []) {
      if ((slicePort.name ?? '') !== (port.name ?? '') || (slicePort.protocol ?? 'TCP') !== protocol) continue;
      for (const { addresses, conditions } of slice.endpoints) {
        const ip = addresses[0];
        if (!ip || !isIpv4(ip)) continue;
        const backend = { ip, port: slicePort.port ?? port.port };
        if (conditions?.ready !== false) ready.set(`${ip}:${backend.port}`, backend);
        else if (conditions.serving && conditions.terminating) terminating.set(`${ip}:${backend.port}`, backend);
      }
    }
  }
  // As kube-proxy: when all that is left is on its way out but still serves, it still gets the traffic.
  const chosen = ready.size > 0 ? ready : terminating;
  return [...chosen.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, MAX_BACKENDS_PER_PORT)
    .map(([, backend]) => backend);
}

function addPort(
  state: { readonly chains: Map<string, string>; readonly sets: Map<string, number> },
  service: Service,
  port: ServicePort,
  protocol: string,
  backends: readonly Backend[],
): string {
  const identity = `${service.metadata.namespace}/${service.metadata.name}:${port.port}/${protocol}`;
  const chain = `s_${hash(identity)}`;
  const proto = protocol.toLowerCase();
  if (service.spec.sessionAffinity !== 'ClientIP') {
    state.chains.set(chain, `meta l4proto ${proto} dnat ip to ${spread(backends)}`);
    return chain;
  }
  const seconds = service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS;
  const names = backends.map((b) => hash(`${identity}->${b.ip}:${b.port}@${seconds}`));
  for (const [i, backend] of backends.entries()) {
    state.sets.set(`a_${names[i]}`, seconds);
    const remember = `update @a_${names[i]} { ip saddr }`;
    state.chains.set(`e_${names[i]}`, `${remember}\nmeta l4proto ${proto} dnat ip to ${backend.ip}:${backend.port}`);
  }
  const known = names.map((name) => `ip saddr @a_${name} goto e_${name}`);
  const jumps = names.map((name, i) => `${i} : goto e_${name}`);
  state.chains.set(chain, [...known, `numgen random mod ${names.length} vmap { ${jumps.join(', ')} }`].join('\n'));
  return chain;
}

function spread(backends: readonly Backend[]): string {
  const only = backends[0];
  if (only && backends.length === 1) return `${only.ip}:${only.port}`;
  const entries = backends.map((b, i) => `${i} : ${b.ip} . ${b.port}`);
  return `numgen random mod ${backends.length} map { ${entries.join(', ')} }`;
}

const frontendKey = (ip: string, protocol: string, port: number): string =>
  `${ip} . ${protocol.toLowerCase()} . ${port}`;

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);

function isIpv4(text: string): boolean {
  return /^(\d{1,3}\.){3}\d{1,3}$/.test(text) && text.split('.').every((part) => Number(part) <= 255);
}

const TABLE = 'ip meltemi';

/** The table as it is at the start: replaces whatever an earlier process left, in the same transaction as the first rules. */
export function initialTable(
  options: CompileOptions & { readonly serviceCidr: string; readonly podIps: readonly string[] },
): string {
  const untranslated = `ip daddr ${options.serviceCidr} ip daddr != ${options.clusterDnsIp}`;
  return `add table ${TABLE}
delete table ${TABLE}
table ${TABLE} {
  map services { type ipv4_addr . inet_proto . inet_service : verdict; }
  set hairpin {
    type ipv4_addr . ipv4_addr
    elements = { ${options.podIps.map((ip) => `${ip} . ${ip}`).join(', ')} }
  }
  chain prerouting {
    type nat hook prerouting priority -100
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain output {
    type nat hook output priority -100
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain postrouting {
    type nat hook postrouting priority 100
    ip saddr . ip daddr @hairpin snat to ${options.nodeIp}
  }
  chain input {
    type filter hook input priority 0
    ${untranslated} meta l4proto tcp reject with tcp reset
    ${untranslated} reject
  }
}
`;
}

/** One nft transaction that leads from `from` to `to`; empty when they are the same. */
export function transition(from: RuleState, to: RuleState): string {
  const changed = (name: string): boolean => from.chains.get(name) !== to.chains.get(name);
  const gone = (a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>) =>
    [...a.keys()].filter((k) => !b.has(k));
  const writtenChains = [...to.chains.keys()].filter(changed);
  const goneChains = gone(from.chains, to.chains);
  const lines: string[] = [];
  for (const [key, chain] of from.frontends)
    if (to.frontends.get(key) !== chain) lines.push(`delete element ${TABLE} services { ${key} }`);
  for (const name of gone(to.sets, from.sets))
    lines.push(`add set ${TABLE} ${name} { type ipv4_addr; flags dynamic,timeout; timeout ${to.sets.get(name)}s; }`);
  for (const name of writtenChains) lines.push(`add chain ${TABLE} ${name}`);
  for (const name of [...writtenChains, ...goneChains]) lines.push(`flush chain ${TABLE} ${name}`);
  for (const name of writtenChains)
    for (const rule of (to.chains.get(name) ?? '').split('\n')) lines.push(`add rule ${TABLE} ${name} ${rule}`);
  for (const name of goneChains) lines.push(`delete chain ${TABLE} ${name}`);
  for (const name of gone(from.sets, to.sets)) lines.push(`delete set ${TABLE} ${name}`);
  for (const [key, chain] of to.frontends)
    if (from.frontends.get(key) !== chain) lines.push(`add element ${TABLE} services { ${key} : goto ${chain} }`);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
