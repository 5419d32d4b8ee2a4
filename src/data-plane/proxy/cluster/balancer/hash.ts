// Ring hash and Maglev balancers: priority by the hash, then the host by the priority's table; with a bound on the load of a
// host when hash_balance_factor is set. Made by make.ts.
import { type Hash64, modulo, randomHash } from '../hash64.ts';
import type { Host } from '../host.ts';
import type { HostSet } from '../host-set.ts';
import type { LbContext } from '../lb-context.ts';
import { type Balancer, type BalancerDeps, type LbPolicy, panicThreshold } from './balancer.ts';
import { buildMaglev, buildRing, type HashTable, hashKey, type WeightedHost } from './hash-table.ts';
import { drawPriority, loadWithout, type PriorityLoad, priorityLoad } from './priority-load.ts';

export type HashPolicy = Extract<LbPolicy, { kind: 'ring-hash' | 'maglev' }>;

interface PriorityTable {
  readonly hosts: readonly WeightedHost[];
  readonly keys: readonly string[];
  readonly weights: ReadonlyMap<Host, number>;
  readonly table: HashTable;
  /** Hosts have been updated since; the table may still be right. */
  stale: boolean;
}

export class HashBalancer implements Balancer {
  readonly #policy: HashPolicy;
  readonly #deps: BalancerDeps;
  #sets: readonly HostSet[] = [];
  #load: PriorityLoad | undefined;
  #threshold = -1;
  #tables: (PriorityTable | undefined)[] = [];

  constructor(policy: HashPolicy, deps: BalancerDeps) {
    this.#policy = policy;
    this.#deps = deps;
  }

  update(sets: readonly HostSet[]): void {
    this.#sets = sets;
    this.#load = undefined;
    for (const table of this.#tables) if (table) table.stale = true;
  }

  pick(context: LbContext): Host | undefined {
    if (this.#sets.length === 0) return undefined;
    const hash = context.hash ?? randomHash(this.#deps.random);
    const threshold = panicThreshold(this.#deps);
    if (!this.#load || threshold !== this.#threshold) {
      this.#threshold = threshold;
      this.#load = priorityLoad(this.#sets, threshold);
      for (const table of this.#tables) if (table) table.stale = true;
    }
    const { avoidPriorities } = context;
    const load = avoidPriorities ? loadWithout(this.#load, this.#sets, avoidPriorities) : this.#load;
    const drawn = load.simple ? 0 : drawPriority(load, modulo(hash, 100) + 1);
    const priority = drawn < 0 ? -1 - drawn : drawn;
    const panic = this.#load.panic[priority]!;
    if (panic) this.#deps.counters.panic.value += 1;
    const entry = this.#table(priority, panic);
    const { avoid, attempts } = context;
    let host = this.#find(entry, hash, 0);
    if (avoid) for (let i = 1; i <= attempts && host && avoid(host); i++) host = this.#find(entry, hash, i);
    return host;
  }

  #table(priority: number, panic: boolean): PriorityTable {
    const known = this.#tables[priority];
    if (known && !known.stale) return known;
    const policy = this.#policy;
    const { useHostname, localityWeighted } = policy.hashing;
    const hosts = normalized(this.#sets[priority]!, panic, localityWeighted);
    const keys = hosts.map((entry) => hashKey(entry.host, useHostname));
    // A table is costly and most updates leave it as it is.
    if (known && sameHosts(known, hosts, keys)) {
      known.stale = false;
      return known;
    }
    const table =
      policy.kind === 'maglev'
        ? buildMaglev(hosts, policy.tableSize, useHostname)
        : buildRing(hosts, { ...policy, useHostname });
    const weights = new Map(hosts.map((entry) => [entry.host, entry.weight]));
    const made = { hosts, keys, weights, table, stale: false };
    this.#tables[priority] = made;
    const { scope } = this.#deps;
    if (policy.kind === 'maglev') {
      scope.gauge('maglev_lb.min_entries_per_host').value = table.least;
      scope.gauge('maglev_lb.max_entries_per_host').value = table.most;
    } else {
      scope.gauge('ring_hash_lb.size').value = table.size;
      scope.gauge('ring_hash_lb.min_hashes_per_host').value = table.least;
      scope.gauge('ring_hash_lb.max_hashes_per_host').value = table.most;
    }
    return made;
  }

  #find(entry: PriorityTable, hash: Hash64, attempt: number): Host | undefined {
    const host = entry.table.find(hash, attempt);
    const factor = this.#policy.hashing.balanceFactor;
    if (!host || factor === 0) return host;
    const slots = Math.floor(((this.#deps.active() + 1) * factor + 99) / 100);
    const overload = (one: Host): number => one.load / Math.max(1, Math.ceil(slots * (entry.weights.get(one) ?? 0)));
    let least = overload(host);
    if (least <= 1) return host;
    // The host is full: others are tried in an order that the hash alone decides.
    let best = host;
    const order = Uint32Array.from(entry.hosts.keys());
    let seed = (hash.lo ^ hash.hi) >>> 0;
    for (let i = 0; i < order.length; i++) {
      seed = nextSeed(seed);
      const j = i + (seed % (order.length - i));
      const index = order[j]!;
      order[j] = order[i]!;
      order[i] = index;
      const other = entry.hosts[index]!.host;
      if (other === host) continue;
      const load = overload(other);
      if (load <= 1) return other;
      if (load < least) {
        least = load;
        best = other;
      }
    }
    return best;
  }
}

/** A small pseudo-random sequence; the same seed gives the same order on every proxy of ours. */
function nextSeed(seed: number): number {
  let mixed = (seed + 0x6d2b79f5) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return (mixed ^ (mixed >>> 14)) >>> 0;
}

/** The hosts a table is made of, with weights that sum up to 1. */
function normalized(set: HostSet, panic: boolean, localityWeighted: boolean): WeightedHost[] {
  if (!localityWeighted || !set.hasLocalityWeights) return scaled(panic ? set.hosts : set.healthy, 1);
  const lists = set.localities.map((locality) => ({
    hosts: panic ? locality.hosts : locality.healthy,
    weight: set.localityWeight(locality),
  }));
  const used = lists.filter((list) => list.hosts.length > 0);
  const total = used.reduce((sum, list) => sum + list.weight, 0);
  if (total === 0) return [];
  return used.flatMap((list) => (list.weight === 0 ? [] : scaled(list.hosts, list.weight / total)));
}

function scaled(hosts: readonly Host[], share: number): WeightedHost[] {
  const total = hosts.reduce((sum, host) => sum + host.weight, 0);
  return hosts.map((host) => ({ host, weight: (host.weight * share) / total }));
}

function sameHosts(known: PriorityTable, hosts: readonly WeightedHost[], keys: readonly string[]): boolean {
  return (
    known.hosts.length === hosts.length &&
    known.hosts.every((one, i) => one.host === hosts[i]!.host && one.weight === hosts[i]!.weight) &&
    known.keys.every((key, i) => key === keys[i])
  );
}
