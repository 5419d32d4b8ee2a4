// Consistent hashing: the ring of ring hash and the table of Maglev, entry for entry as Envoy builds them, so that several
// proxies send the same key to the same host. Used by hash.ts.
import { type Hash64, modulo, murmurHash2, xxHash64 } from '../hash64.ts';
import type { Host } from '../host.ts';

/** A host and its share of the load, all shares together 1. */
export interface WeightedHost {
  readonly host: Host;
  readonly weight: number;
}

export interface HashTable {
  /** `attempt` > 0 asks for another host than before (not surely another). */
  find(hash: Hash64, attempt: number): Host | undefined;
  /** Entries, and the least and most entries of one host. */
  readonly size: number;
  readonly least: number;
  readonly most: number;
}

/** What a host is hashed by: `hash_key` of its metadata, its host name, or its address. */
export function hashKey(host: Host, useHostname: boolean): string {
  const own = host.spec.metadata['envoy.lb']?.hash_key;
  if (typeof own === 'string') return own;
  return useHostname ? host.spec.hostname : host.key;
}

export function buildRing(
  hosts: readonly WeightedHost[],
  options: {
    readonly minSize: number;
    readonly maxSize: number;
    readonly murmur: boolean;
    readonly useHostname: boolean;
  },
): HashTable {
  const smallest = hosts.reduce((least, entry) => Math.min(least, entry.weight), 1);
  // The host with the least weight gets a whole number of entries.
  const scale = Math.min(Math.ceil(smallest * options.minSize) / smallest, options.maxSize);
  // The running sum may round up once more than `scale` says.
  const room = Math.ceil(scale) + 1;
  const owners = new Uint32Array(room);
  const his = new Uint32Array(room);
  const los = new Uint32Array(room);
  let filled = 0;
  let target = 0;
  let least = Math.ceil(scale);
  let most = 0;
  for (const [index, entry] of hosts.entries()) {
    const key = Buffer.from(`${hashKey(entry.host, options.useHostname)}_`, 'utf8');
    const text = Buffer.alloc(key.length + 12);
    key.copy(text);
    target += scale * entry.weight;
    let count = 0;
    for (; filled < target && filled < room; count++) {
      const bytes = text.subarray(0, key.length + text.write(String(count), key.length, 'latin1'));
      const hash = options.murmur ? murmurHash2(bytes) : xxHash64(bytes);
      owners[filled] = index;
      his[filled] = hash.hi;
      los[filled] = hash.lo;
      filled += 1;
    }
    least = Math.min(least, count);
    most = Math.max(most, count);
  }
  const order = sorted(his.subarray(0, filled), los.subarray(0, filled));
  const hi = order.map((i) => his[i]!);
  const lo = order.map((i) => los[i]!);
  const owner = order.map((i) => owners[i]!);
  return {
    size: owner.length,
    least,
    most,
    find(hash, attempt) {
      if (owner.length === 0) return undefined;
      // The first entry at or behind the hash; behind the last comes the first.
      let low = 0;
      let high = owner.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        const before = hi[middle]! < hash.hi || (hi[middle] === hash.hi && lo[middle]! < hash.lo);
        if (before) low = middle + 1;
        else high = middle;
      }
      return hosts[owner[(low + attempt) % owner.length]!]!.host;
    },
  };
}

export function buildMaglev(given: readonly WeightedHost[], tableSize: number, useHostname: boolean): HashTable {
  // By key, so that the order of the assignment does not matter.
  const hosts = given
    .map((entry) => ({ ...entry, key: hashKey(entry.host, useHostname) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const table = new Int32Array(tableSize).fill(-1);
  const counts = new Uint32Array(hosts.length);
  if (hosts.length > 0) fill(table, hosts, counts);
  return {
    size: hosts.length === 0 ? 0 : tableSize,
    least: hosts.length === 0 ? 0 : counts.reduce((a, b) => Math.min(a, b)),
    most: hosts.length === 0 ? 0 : counts.reduce((a, b) => Math.max(a, b)),
    find(hash, attempt) {
      if (hosts.length === 0) return undefined;
      // hash xor (all ones − attempt + 1): far from where the first attempt was.
      const other = attempt > 0 ? { hi: ~hash.hi >>> 0, lo: (hash.lo ^ ((0x100000000 - attempt) >>> 0)) >>> 0 } : hash;
      return hosts[table[modulo(other, tableSize)]!]!.host;
    },
  };
}

/** Every host takes places in its own order of all places; heavier ones have more turns. */
function fill(
  table: Int32Array,
  hosts: readonly (WeightedHost & { readonly key: string })[],
  counts: Uint32Array,
): void {
  const size = table.length;
  const largest = hosts.reduce((most, entry) => Math.max(most, entry.weight), 0);
  const place = new Int32Array(hosts.length);
  const skip = new Int32Array(hosts.length);
  const target = new Float64Array(hosts.length);
  const weights = Float64Array.from(hosts, (entry) => entry.weight);
  for (const [i, entry] of hosts.entries()) {
    const key = Buffer.from(entry.key, 'utf8');
    place[i] = modulo(xxHash64(key), size);
    skip[i] = modulo(xxHash64(key, 1), size - 1) + 1;
  }
  let filled = 0;
  for (let turn = 1; filled < size; turn++)
    for (let i = 0; i < place.length && filled < size; i++) {
      if (turn * weights[i]! < target[i]!) continue;
      target[i]! += largest;
      // A step is smaller than the table: no division to stay inside.
      const step = skip[i]!;
      let at = place[i]!;
      while (table[at] !== -1) {
        at += step;
        if (at >= size) at -= size;
      }
      table[at] = i;
      at += step;
      place[i] = at >= size ? at - size : at;
      counts[i]! += 1;
      filled += 1;
    }
}

/** Positions of the hashes in rising order. */
function sorted(his: Uint32Array, los: Uint32Array): Uint32Array {
  const count = his.length;
  const compare = (a: number, b: number): number => his[a]! - his[b]! || los[a]! - los[b]!;
  if (count > MAX_PACKED) return Uint32Array.from({ length: count }, (_, i) => i).sort(compare);
  // The high half and the position in one number sort without a call for each comparison.
  const packed = new Float64Array(count);
  for (let i = 0; i < count; i++) packed[i] = his[i]! * MAX_PACKED + i;
  packed.sort();
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = packed[i]! % MAX_PACKED;
  // Equal high halves are rare: put right by their low halves.
  for (let i = 1; i < count; i++)
    for (let k = i; k > 0 && compare(order[k]!, order[k - 1]!) < 0; k--) {
      const other = order[k]!;
      order[k] = order[k - 1]!;
      order[k - 1] = other;
    }
  return order;
}
/** 2^21: with 32 bits of a hash it just fits a double. */
const MAX_PACKED = 2 ** 21;
