// STRICT_DNS and LOGICAL_DNS: resolves names of a cluster again and again. Called by the cluster manager.
import type { Clock } from '../../../base/runtime/clock.ts';
import { parseIp } from '../config/address.ts';
import { MAX_DNS_ADDRESSES } from '../limits.ts';
import type { Cluster } from './cluster.ts';
import type { HostSpec } from './host.ts';

/** Addresses of a name; rejects when it cannot be resolved. */
export type Resolve = (hostname: string, family: 0 | 4 | 6) => Promise<readonly string[]>;

/** Keeps the hosts of `cluster` as DNS says. The first answer (or failure) makes it initialized. Returns the way to stop. */
export function followDns(cluster: Cluster, resolve: Resolve, clock: Clock, settled: () => void): () => void {
  let stopped = false;
  let cancel: (() => void) | undefined;
  const attempts = cluster.scope.counter('update_attempt');
  const successes = cluster.scope.counter('update_success');
  const failures = cluster.scope.counter('update_failure');
  const round = async (): Promise<void> => {
    attempts.value += 1;
    const specs: HostSpec[] = [];
    let failed = false;
    for (const spec of cluster.configured.specs) {
      try {
        specs.push(...(await expand(spec, cluster, resolve)));
      } catch {
        failed = true;
      }
    }
    if (stopped) return;
    // A name that fails keeps its last addresses: only a full answer replaces the hosts.
    if (failed) failures.value += 1;
    else successes.value += 1;
    if (!failed || !cluster.initialized)
      cluster.assign({
        specs: cluster.settings.type === 'logical-dns' ? specs.slice(0, 1) : specs,
        policy: cluster.configured.policy,
      });
    settled();
    cancel = clock.after(cluster.settings.dnsRefreshMs, () => void round());
  };
  void round();
  return () => {
    stopped = true;
    cancel?.();
  };
}

async function expand(spec: HostSpec, cluster: Cluster, resolve: Resolve): Promise<HostSpec[]> {
  const { address } = spec;
  if (address.kind !== 'ip' || parseIp(address.ip)) return [spec];
  const name = address.ip;
  const found = (await addresses(name, cluster, resolve)).slice(0, MAX_DNS_ADDRESSES);
  return found.map((ip) => ({ ...spec, hostname: spec.hostname || name, address: { ...address, ip } }));
}

async function addresses(name: string, cluster: Cluster, resolve: Resolve): Promise<readonly string[]> {
  switch (cluster.settings.dnsFamily) {
    case 'v4':
      return resolve(name, 4);
    case 'v6':
      return resolve(name, 6);
    case 'all':
      return resolve(name, 0);
    case 'auto': {
      const six = await resolve(name, 6).catch(() => []);
      return six.length > 0 ? six : resolve(name, 4);
    }
    case 'v4-preferred': {
      const four = await resolve(name, 4).catch(() => []);
      return four.length > 0 ? four : resolve(name, 6);
    }
  }
}
