// STRICT_DNS and LOGICAL_DNS: resolves every name of a cluster again and again, each at its own pace. Called by the cluster
// manager.
import type { Clock } from '../../../base/runtime/clock.ts';
import { parseIp, type SocketAddr } from '../config/address.ts';
import { MAX_DNS_ADDRESSES, MIN_DNS_TTL_MS } from '../limits.ts';
import type { Cluster } from './cluster.ts';
import type { DnsSettings, ResolverSettings } from './dns-config.ts';
import type { HostSpec } from './host.ts';

export interface DnsAnswer {
  readonly addresses: readonly string[];
  /** Undefined = the resolver does not know. */
  readonly ttlMs: number | undefined;
}

/** Addresses of a name; rejects when it cannot be resolved. */
export type Resolve = (hostname: string, family: 4 | 6, how: ResolverSettings) => Promise<DnsAnswer>;

/** What of a cluster DNS needs. */
export type DnsCluster = Pick<Cluster, 'configured' | 'scope' | 'assign' | 'initialized'> & {
  readonly settings: Pick<Cluster['settings'], 'dns' | 'type'>;
};

interface Target {
  readonly spec: HostSpec;
  hosts: readonly HostSpec[];
  failures: number;
  cancel: (() => void) | undefined;
}

const NOTHING: DnsAnswer = { addresses: [], ttlMs: undefined };

/** Keeps the hosts of `cluster` as DNS says. The first answer (or failure) makes it initialized. Returns the way to stop. */
export function followDns(
  cluster: DnsCluster,
  resolve: Resolve,
  clock: Clock,
  random: () => number,
  settled: () => void,
): () => void {
  let stopped = false;
  const { dns } = cluster.settings;
  const attempts = cluster.scope.counter('update_attempt');
  const successes = cluster.scope.counter('update_success');
  const failures = cluster.scope.counter('update_failure');
  const empty = cluster.scope.counter('update_empty');
  const targets: Target[] = cluster.configured.specs.map((spec) => ({
    spec,
    hosts: isName(spec) ? [] : [spec],
    failures: 0,
    cancel: undefined,
  }));
  const publish = (): void => {
    cluster.assign({ specs: targets.flatMap((target) => target.hosts), policy: cluster.configured.policy });
    settled();
  };
  const round = async (target: Target): Promise<void> => {
    attempts.value += 1;
    const name = target.spec.address.kind === 'ip' ? target.spec.address.ip : '';
    let delay: number;
    try {
      const answer = await ask(name, dns, resolve);
      if (stopped) return;
      target.failures = 0;
      successes.value += 1;
      if (answer.addresses.length === 0) empty.value += 1;
      const hosts = hostsOf(target.spec, name, answer, cluster.settings.type === 'logical-dns');
      // LOGICAL_DNS keeps its last address when a name has none any more.
      const keep = hosts.length === 0 && cluster.settings.type === 'logical-dns' && target.hosts.length > 0;
      const changed = !keep && !sameHosts(target.hosts, hosts);
      if (changed) target.hosts = hosts;
      if (changed || !cluster.initialized) publish();
      delay = refreshAfter(dns, answer.ttlMs);
    } catch {
      if (stopped) return;
      // A name that fails keeps its last addresses.
      failures.value += 1;
      delay = retryAfter(dns, target.failures, random);
      target.failures += 1;
      if (!cluster.initialized) publish();
    }
    target.cancel = clock.after(delay, () => void round(target));
  };
  const names = targets.filter((target) => isName(target.spec));
  if (names.length === 0 || !dns.warm) publish();
  for (const target of names) void round(target);
  return () => {
    stopped = true;
    for (const target of targets) target.cancel?.();
  };
}

function isName({ address }: HostSpec): boolean {
  return address.kind === 'ip' && !parseIp(address.ip);
}

function refreshAfter(dns: DnsSettings, ttlMs: number | undefined): number {
  return dns.resolver.ttl && ttlMs !== undefined ? Math.max(ttlMs, MIN_DNS_TTL_MS) : dns.refreshMs;
}

export function retryAfter(dns: DnsSettings, failures: number, random: () => number): number {
  if (!dns.failure) return dns.refreshMs;
  const { baseMs, maxMs } = dns.failure;
  const most = Math.min(baseMs * 2 ** Math.min(failures, 30), maxMs);
  return Math.max(1, Math.floor(random() * most));
}

function hostsOf(spec: HostSpec, name: string, answer: DnsAnswer, logical: boolean): HostSpec[] {
  const found = answer.addresses.slice(0, MAX_DNS_ADDRESSES).map((ip): SocketAddr => withIp(spec.address, ip));
  const hostname = spec.hostname || name;
  const [first, ...others] = found;
  if (!logical) return found.map((address) => ({ ...spec, hostname, address }));
  // One host that stands for the name; its other addresses are tried when the first does not answer.
  return first ? [{ ...spec, hostname, address: first, additional: others }] : [];
}

function withIp(address: SocketAddr, ip: string): SocketAddr {
  return address.kind === 'ip' ? { ...address, ip } : address;
}

function sameHosts(a: readonly HostSpec[], b: readonly HostSpec[]): boolean {
  const text = (specs: readonly HostSpec[]): string =>
    JSON.stringify(specs.map((spec) => [spec.address, spec.additional]));
  return text(a) === text(b);
}

/** The addresses of `name` by the cluster's families. Rejects when it has none of them. */
export async function ask(name: string, dns: DnsSettings, resolve: Resolve): Promise<DnsAnswer> {
  const one = (family: 4 | 6): Promise<DnsAnswer> => resolve(name, family, dns.resolver);
  const either = async (first: 4 | 6, second: 4 | 6): Promise<DnsAnswer> => {
    const answer = await one(first).catch(() => NOTHING);
    return answer.addresses.length > 0 ? answer : one(second);
  };
  switch (dns.family) {
    case 'v4':
      return one(4);
    case 'v6':
      return one(6);
    case 'auto':
      return either(6, 4);
    case 'v4-preferred':
      return either(4, 6);
    case 'all': {
      const both = await Promise.allSettled([one(6), one(4)]);
      const answers = both.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      if (answers.length === 0) throw new Error(`cannot resolve ${name}`);
      const ttls = answers.flatMap((answer) => answer.ttlMs ?? []);
      return {
        addresses: answers.flatMap((answer) => answer.addresses),
        ttlMs: ttls.length === 0 ? undefined : Math.min(...ttls),
      };
    }
  }
}
