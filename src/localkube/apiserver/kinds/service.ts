// Services: ClusterIPs and node ports are taken from the ranges at the moment of the write and freed with the object.
import { randomInt } from 'node:crypto';
import type { Core } from '../core.ts';
import { type ApiObject, at, type Dict, dict, dicts, num, str, strings } from '../json.ts';
import { invalid } from '../status.ts';
import type { Strategy } from './strategy.ts';

/** Addresses below are left to those who ask for a certain one (the DNS server). */
const FIRST_DYNAMIC = 256;
const LAST_ADDRESS = 65_534;
const TYPE = { group: '', resource: 'services', kind: 'Service' };

export const serviceStrategy: Strategy = {
  prepareUpdate(_core, next, live) {
    keepAllocated(dict(next.spec), dict(live.spec));
  },
  allocate(core, next, live) {
    const spec = dict(next.spec);
    const type = str(spec.type) || 'ClusterIP';
    if (type === 'ExternalName') {
      for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'internalTrafficPolicy'])
        delete spec[field];
      return;
    }
    allocateAddress(core, next, spec, live);
    spec.ipFamilies ??= ['IPv4'];
    spec.ipFamilyPolicy ??= 'SingleStack';
    spec.internalTrafficPolicy ??= 'Cluster';
    allocatePorts(core, next, spec, type);
    if (type !== 'LoadBalancer') {
      delete spec.allocateLoadBalancerNodePorts;
      if (live && dict(live.spec).type === 'LoadBalancer') next.status = { loadBalancer: {} };
    } else spec.allocateLoadBalancerNodePorts ??= true;
    if (type === 'ClusterIP') delete spec.externalTrafficPolicy;
    else spec.externalTrafficPolicy ??= 'Cluster';
    next.status ??= { loadBalancer: {} };
  },
};

/** A client that sends a manifest again leaves out what the server had filled in. */
function keepAllocated(next: Dict, live: Dict): void {
  if (str(next.type) === 'ExternalName' || str(live.type) === 'ExternalName') return;
  if (!next.clusterIP && live.clusterIP) {
    next.clusterIP = live.clusterIP;
    next.clusterIPs = live.clusterIPs;
  }
  next.ipFamilies ??= live.ipFamilies;
  next.ipFamilyPolicy ??= live.ipFamilyPolicy;
  if (!wantsNodePorts(next)) {
    // NodePort → ClusterIP: ports carried over unchanged are given back.
    const before = new Set(dicts(live.ports).map((port) => port.nodePort));
    for (const port of dicts(next.ports)) if (before.has(port.nodePort)) delete port.nodePort;
    return;
  }
  const old = new Map(dicts(live.ports).map((port) => [portKey(port), port.nodePort]));
  for (const port of dicts(next.ports)) {
    const kept = old.get(portKey(port));
    if (!port.nodePort && kept) port.nodePort = kept;
  }
}

const portKey = (port: Dict): string => `${str(port.protocol) || 'TCP'}/${str(port.port)}`;

function wantsNodePorts(spec: Dict): boolean {
  return spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
}

function others(core: Core, service: ApiObject): readonly Dict[] {
  return core.store
    .list('/services')
    .filter(
      (item) => item.metadata.name !== service.metadata.name || item.metadata.namespace !== service.metadata.namespace,
    );
}

function allocateAddress(core: Core, service: ApiObject, spec: Dict, live: ApiObject | undefined): void {
  const wanted = str(spec.clusterIP) || strings(spec.clusterIPs)[0] || '';
  if (wanted === 'None') {
    spec.clusterIPs = ['None'];
    return;
  }
  if (live && wanted !== '' && wanted === str(at(live, 'spec', 'clusterIP'))) {
    spec.clusterIPs = [wanted];
    return;
  }
  const used = new Set(others(core, service).map((item) => str(at(item, 'spec', 'clusterIP'))));
  const refuse = (why: string): never => {
    throw invalid(TYPE, service.metadata.name, [
      { path: 'spec.clusterIPs', message: `Invalid value: ["${wanted}"]: failed to allocate IP ${wanted}: ${why}` },
    ]);
  };
  if (wanted !== '') {
    if (!inRange(wanted, core.serviceIps.prefix))
      refuse(`the provided network does not match the current range ${core.serviceIps.prefix}.0.0/16`);
    if (used.has(wanted)) refuse('provided IP is already allocated');
    spec.clusterIP = wanted;
  } else spec.clusterIP = freeAddress(core.serviceIps.prefix, used);
  spec.clusterIPs = [str(spec.clusterIP)];
}

function inRange(ip: string, prefix: string): boolean {
  const match = /^(\d+\.\d+)\.(\d+)\.(\d+)$/.exec(ip);
  return match !== null && match[1] === prefix && Number(match[2]) < 256 && Number(match[3]) < 256;
}

function freeAddress(prefix: string, used: ReadonlySet<string>): string {
  const span = LAST_ADDRESS - FIRST_DYNAMIC + 1;
  const start = randomInt(span);
  for (let step = 0; step < span; step++) {
    const offset = FIRST_DYNAMIC + ((start + step) % span);
    const ip = `${prefix}.${offset >> 8}.${offset & 0xff}`;
    if (!used.has(ip)) return ip;
  }
  throw invalid(TYPE, '', [{ path: 'spec.clusterIP', message: 'Invalid value: "": no ClusterIP is left' }]);
}

function allocatePorts(core: Core, service: ApiObject, spec: Dict, type: string): void {
  if (!wantsNodePorts(spec)) return;
  const { nodePortFirst: first, nodePortLast: last } = core.serviceIps;
  const used = new Set(
    others(core, service).flatMap((item) =>
      dicts(at(item, 'spec', 'ports')).map((port) => `${str(port.protocol) || 'TCP'}/${num(port.nodePort)}`),
    ),
  );
  const own = new Set<string>();
  const ports = dicts(spec.ports);
  for (const [index, port] of ports.entries()) {
    const asked = num(port.nodePort);
    if (asked === 0) continue;
    const key = `${str(port.protocol) || 'TCP'}/${asked}`;
    const why =
      asked < first || asked > last
        ? `provided port is not in the valid range. The range of valid ports is ${first}-${last}`
        : used.has(key) || own.has(key)
          ? 'provided port is already allocated'
          : '';
    if (why)
      throw invalid(TYPE, service.metadata.name, [
        { path: `spec.ports[${index}].nodePort`, message: `Invalid value: ${asked}: ${why}` },
      ]);
    own.add(key);
  }
  for (const port of ports) {
    if (num(port.nodePort) !== 0) continue;
    const protocol = str(port.protocol) || 'TCP';
    const start = randomInt(last - first + 1);
    for (let step = 0; step <= last - first && !port.nodePort; step++) {
      const candidate = first + ((start + step) % (last - first + 1));
      const key = `${protocol}/${candidate}`;
      if (used.has(key) || own.has(key)) continue;
      own.add(key);
      port.nodePort = candidate;
    }
    if (!port.nodePort)
      throw invalid(TYPE, service.metadata.name, [
        { path: 'spec.ports', message: `Invalid value: "${type}": no node port is left` },
      ]);
  }
}
