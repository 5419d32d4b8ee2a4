// Names to addresses on the real network: the system's own way, or DNS servers of the configuration. Given to the engine by
// wiring.ts.
import { lookup, Resolver } from 'node:dns/promises';
import type { Resolve } from './dns.ts';
import type { ResolverSettings } from './dns-config.ts';

export const systemResolve: Resolve = async (hostname, family, how) => {
  if (how.servers.length > 0 && !how.serversAsFallback) return byServers(hostname, family, how.servers);
  try {
    return await bySystem(hostname, family, how);
  } catch (error) {
    if (how.servers.length === 0) throw error;
    return byServers(hostname, family, how.servers);
  }
};

async function bySystem(hostname: string, family: 4 | 6, how: ResolverSettings) {
  // A name that ends with a dot is not completed with search domains.
  const name = how.search || hostname.endsWith('.') ? hostname : `${hostname}.`;
  const found = await lookup(name, { all: true, family });
  const addresses = found.map((entry) => entry.address);
  // The hosts file and getaddrinfo know no times: DNS is asked beside them, and may not know the name.
  const ttlMs = how.ttl
    ? await byServers(hostname, family, []).then(
        (answer) => answer.ttlMs,
        () => undefined,
      )
    : undefined;
  return { addresses, ttlMs };
}

/** Empty `servers` = those of the system. */
async function byServers(hostname: string, family: 4 | 6, servers: readonly string[]) {
  const resolver = new Resolver();
  if (servers.length > 0) resolver.setServers(servers);
  const records = await (family === 4
    ? resolver.resolve4(hostname, { ttl: true })
    : resolver.resolve6(hostname, { ttl: true }));
  return {
    addresses: records.map((record) => record.address),
    ttlMs: records.length === 0 ? undefined : Math.min(...records.map((record) => record.ttl)) * 1000,
  };
}
