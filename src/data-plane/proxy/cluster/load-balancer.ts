// Choice of a host: by priority, then by the cluster's policy. Pure over the host list; the cluster rebuilds it on change.
import type { Host } from './host.ts';

export type LbPolicy = 'round-robin' | 'least-request' | 'random';

export interface HostPicker {
  /** A usable host not refused by `avoid`, or any usable host after some attempts, or undefined. */
  pick(avoid?: (host: Host) => boolean, attempts?: number): Host | undefined;
}

/** Least request compares this many random hosts (Envoy's default). */
const CHOICES = 2;

/** The first priority with a usable host serves; `healthy_panic_threshold` 0 (Istio's) means no host is used in panic. */
export function createPicker(hosts: readonly Host[], policy: LbPolicy, random: () => number): HostPicker {
  const usable = hosts.filter((host) => host.usable && host.spec.weight > 0);
  const first = Math.min(...usable.map((host) => host.spec.priority));
  const pool = usable.filter((host) => host.spec.priority === first);
  const choose = pool.length === 0 ? () => undefined : chooser(pool, policy, random);
  return {
    pick(avoid, attempts = 0) {
      let host = choose();
      for (let i = 0; i < attempts && host && avoid?.(host); i++) host = choose();
      return host;
    },
  };
}

function chooser(pool: readonly Host[], policy: LbPolicy, random: () => number): () => Host | undefined {
  const weighted = pool.some((host) => host.spec.weight !== pool[0]!.spec.weight);
  const any = weighted ? weightedPick(pool, random) : () => pool[Math.floor(random() * pool.length)];
  switch (policy) {
    case 'random':
      return any;
    case 'round-robin':
      return weighted ? smoothRoundRobin(pool) : roundRobin(pool, random);
    case 'least-request':
      return () => {
        let best = any();
        for (let i = 1; i < CHOICES; i++) {
          const other = any();
          if (best && other && other.active < best.active) best = other;
        }
        return best;
      };
  }
}

function roundRobin(pool: readonly Host[], random: () => number): () => Host | undefined {
  // Many proxies start at the same time: they must not all begin with the same host.
  let next = Math.floor(random() * pool.length);
  return () => {
    next = (next + 1) % pool.length;
    return pool[next];
  };
}

function smoothRoundRobin(pool: readonly Host[]): () => Host | undefined {
  const current = new Float64Array(pool.length);
  const total = pool.reduce((sum, host) => sum + host.spec.weight, 0);
  return () => {
    let best = 0;
    for (let i = 0; i < pool.length; i++) {
      current[i]! += pool[i]!.spec.weight;
      if (current[i]! > current[best]!) best = i;
    }
    current[best]! -= total;
    return pool[best];
  };
}

function weightedPick(pool: readonly Host[], random: () => number): () => Host | undefined {
  const sums = new Float64Array(pool.length);
  let total = 0;
  for (const [i, host] of pool.entries()) {
    total += host.spec.weight;
    sums[i] = total;
  }
  return () => {
    const at = random() * total;
    let low = 0;
    let high = pool.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle]! > at) high = middle;
      else low = middle + 1;
    }
    return pool[low];
  };
}
