// The face of all load balancers, and what their policies are made of. Balancers are made by `make.ts`, owned by a cluster.

import type { RuntimeView } from '../../runtime/runtime.ts';
import type { Counter, StatsScope } from '../../stats/stats.ts';
import type { Host } from '../host.ts';
import type { HostSet } from '../host-set.ts';
import type { LbContext } from '../lb-context.ts';

export interface Balancer {
  /** Hosts, their health or weights have changed. Cheap: tables are built by the next pick. */
  update(sets: readonly HostSet[]): void;
  /** A host, after `context.attempts` draws maybe one that `context.avoid` refuses; undefined = none to use. */
  pick(context: LbContext): Host | undefined;
}

export interface SlowStart {
  readonly windowMs: number;
  readonly aggression: () => number;
  /** Part of the full weight a new host has at least, 0..1. */
  readonly minWeight: number;
}

export interface LocalityLb {
  /** Localities are drawn by weight before hosts. */
  readonly weighted: boolean;
  readonly failOnPanic: boolean;
}

export interface Hashing {
  readonly useHostname: boolean;
  /** Percent of the average load a host may have; 0 = any. */
  readonly balanceFactor: number;
  readonly localityWeighted: boolean;
}

export interface SubsetSelector {
  readonly keys: readonly string[];
  readonly single: boolean;
  readonly fallback: 'not-defined' | 'none' | 'any' | 'default' | 'keys';
  readonly fallbackKeys: readonly string[];
}

export interface SubsetPolicy {
  readonly kind: 'subset';
  readonly fallback: 'none' | 'any' | 'default';
  /** Keys and value texts of default_subset. */
  readonly defaultSubset: ReadonlyMap<string, string>;
  readonly selectors: readonly SubsetSelector[];
  readonly localityWeightAware: boolean;
  readonly scaleLocalityWeight: boolean;
  readonly panicModeAny: boolean;
  readonly listAsAny: boolean;
  readonly fallbackList: boolean;
  readonly allowRedundantKeys: boolean;
  readonly child: LbPolicy;
}

export type LbPolicy =
  | { readonly kind: 'round-robin'; readonly slowStart: SlowStart | undefined; readonly locality: LocalityLb }
  | {
      readonly kind: 'least-request';
      readonly choices: number;
      readonly fullScan: boolean;
      readonly bias: () => number;
      readonly slowStart: SlowStart | undefined;
      readonly locality: LocalityLb;
    }
  | { readonly kind: 'random'; readonly locality: LocalityLb }
  | {
      readonly kind: 'ring-hash';
      readonly minSize: number;
      readonly maxSize: number;
      readonly murmur: boolean;
      readonly hashing: Hashing;
    }
  | { readonly kind: 'maglev'; readonly tableSize: number; readonly hashing: Hashing }
  | { readonly kind: 'cluster-provided' }
  | SubsetPolicy;

export interface BalancerDeps {
  readonly random: () => number;
  readonly now: () => number;
  readonly runtime: RuntimeView;
  readonly scope: StatsScope;
  readonly counters: BalancerCounters;
  /** healthy_panic_threshold, percent. */
  readonly panicThreshold: number;
  /** Requests under way in the whole cluster, for bounded load. */
  readonly active: () => number;
}

export class BalancerCounters {
  readonly panic: Counter;
  readonly #scope: StatsScope;
  #subsets: SubsetCounters | undefined;

  constructor(scope: StatsScope) {
    this.panic = scope.counter('lb_healthy_panic');
    this.#scope = scope;
  }

  /** Made when first asked for: few of many clusters have subsets. */
  get subsets(): SubsetCounters {
    this.#subsets ??= subsetCounters(this.#scope);
    return this.#subsets;
  }
}

function subsetCounters(scope: StatsScope) {
  return {
    active: scope.gauge('lb_subsets_active'),
    created: scope.counter('lb_subsets_created'),
    removed: scope.counter('lb_subsets_removed'),
    selected: scope.counter('lb_subsets_selected'),
    fallback: scope.counter('lb_subsets_fallback'),
    fallbackPanic: scope.counter('lb_subsets_fallback_panic'),
    duplicate: scope.gauge('lb_subsets_single_host_per_subset_duplicate'),
  };
}
export type SubsetCounters = ReturnType<typeof subsetCounters>;

export function panicThreshold(deps: BalancerDeps): number {
  return Math.min(100, deps.runtime.number('upstream.healthy_panic_threshold', deps.panicThreshold));
}
