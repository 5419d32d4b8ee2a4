// What host names mean to the clients of a mesh under test: cluster DNS, the test's `dns`, and the addresses that ServiceEntries
// give. Called by mesh.ts. Pure.
import type { Addresses } from './addresses.ts';
import type { MeshTest, TestRequest } from './format.ts';
import { DOMAIN } from './objects.ts';

/** Hosts of ServiceEntries that nothing else resolves get addresses of class E, as automatic allocation gives them. */
const AUTO_PREFIX = '240.240';

export interface Names {
  /** Addresses of `host` as a client in `namespace` resolves it; empty when nobody knows it. */
  resolve(host: string, namespace: string): readonly string[];
  /** What `resolveTo` means: a Service that has the port, else a workload, else a Service, else a name of `dns`. */
  target(name: string, port: number): readonly string[];
  /** Only the test's `dns`: what proxies resolve. */
  external(host: string): readonly string[];
}

export function createNames(test: MeshTest, addresses: Addresses): Names {
  const services = new Map<string, readonly string[]>();
  for (const service of test.services) {
    const key = `${service.namespace}/${service.name}`;
    const ip = addresses.clusterIps.get(key);
    const pods = test.workloads
      .filter(
        (w) =>
          w.namespace === service.namespace &&
          Object.entries(service.selector).every(
            ([k, v]) => (Object.keys(w.labels).length > 0 ? w.labels : { app: w.name })[k as 'app'] === v,
          ),
      )
      .flatMap((w) => addresses.pods.get(`${w.namespace}/${w.name}`) ?? []);
    services.set(key, ip === undefined ? pods : [ip]);
  }
  const dns = new Map<string, readonly string[]>(
    Object.entries(test.dns).map(([host, workload]) => [host.toLowerCase(), addresses.pods.get(workload) ?? []]),
  );
  const entries = entryAddresses(test);
  const external = (host: string): readonly string[] => dns.get(host.toLowerCase().replace(/\.$/, '')) ?? [];
  return {
    external,
    resolve(host, namespace) {
      if (/^\d+\.\d+\.\d+\.\d+$/.test(host)) return [host];
      const given = external(host);
      if (given.length > 0) return given;
      const parts = host
        .toLowerCase()
        .replace(/\.$/, '')
        .replace(new RegExp(`\\.svc\\.${DOMAIN}$`), '.svc')
        .split('.');
      const [name = '', ns = namespace, svc = 'svc', ...rest] = parts;
      const service = rest.length === 0 && svc === 'svc' ? services.get(`${ns}/${name}`) : undefined;
      return service ?? entries.get(host.toLowerCase()) ?? [];
    },
    target(name, port) {
      if (/^\d+\.\d+\.\d+\.\d+$/.test(name)) return [name];
      const service = test.services.find((s) => `${s.namespace}/${s.name}` === name);
      const serves = service?.ports.some((p) => p.port === port) ? services.get(name) : undefined;
      return serves ?? addresses.pods.get(name) ?? services.get(name) ?? external(name);
    },
  };
}

function entryAddresses(test: MeshTest): ReadonlyMap<string, readonly string[]> {
  const out = new Map<string, readonly string[]>();
  let next = 0;
  for (const { object } of test.resources) {
    if (object.kind !== 'ServiceEntry') continue;
    const spec = (object as { spec?: { hosts?: unknown; addresses?: unknown } }).spec;
    const hosts = Array.isArray(spec?.hosts) ? spec.hosts.filter((h) => typeof h === 'string') : [];
    const given = Array.isArray(spec?.addresses) ? spec.addresses.filter((a) => typeof a === 'string') : [];
    for (const host of hosts) {
      next += 1;
      const own = given.filter((a) => !a.includes('/'));
      out.set(host.toLowerCase(), own.length > 0 ? own : [`${AUTO_PREFIX}.0.${next}`]);
    }
  }
  return out;
}

/** Whom a request of an outside client reaches when nothing says otherwise: the first gateway. */
export function defaultGateway(test: MeshTest): string | undefined {
  const gateway = test.workloads.find((w) => w.image.kind === 'gateway');
  return gateway && `${gateway.namespace}/${gateway.name}`;
}

export function namespaceOf(request: TestRequest): string {
  const slash = request.from.indexOf('/');
  return slash < 0 ? 'default' : request.from.slice(0, slash);
}
