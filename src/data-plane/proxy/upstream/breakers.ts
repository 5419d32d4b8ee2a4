// Circuit breakers of a cluster: how much may be in use at the same time, for each priority. Used by pools, the router and
// tcp_proxy.
import type {
  CircuitBreakers,
  CircuitBreakers_Thresholds,
  CircuitBreakers_Thresholds_RetryBudget,
} from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import {
  CircuitBreakers_Thresholds_RetryBudgetSchema,
  CircuitBreakers_ThresholdsSchema,
  CircuitBreakersSchema,
} from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import { RoutingPriority } from '#proto/envoy/config/core/v3/base_pb.js';
import { join, only } from '../config/fields.ts';
import {
  DEFAULT_MAX_CONNECTIONS,
  DEFAULT_MAX_PENDING,
  DEFAULT_MAX_REQUESTS,
  DEFAULT_MAX_RETRIES,
  DEFAULT_MIN_RETRY_CONCURRENCY,
  DEFAULT_RETRY_BUDGET_PERCENT,
} from '../limits.ts';
import { EMPTY_RUNTIME, type RuntimeView } from '../runtime/runtime.ts';
import type { Gauge, StatsScope } from '../stats/stats.ts';
import type { SharedPlaces } from '../tally/places.ts';

/** A number of places. */
export interface Breaker {
  readonly used: number;
  readonly max: number;
  readonly full: boolean;
  tryEnter(): boolean;
  enter(): void;
  leave(): void;
}

/** Of this thread alone. */
class LocalBreaker implements Breaker {
  used = 0;
  readonly #limit: () => number;
  readonly #open: Gauge;
  readonly #remaining: Gauge | undefined;

  /** `remaining` is only given when the configuration tracks it. */
  constructor(limit: () => number, open: Gauge, remaining: Gauge | undefined) {
    this.#limit = limit;
    this.#open = open;
    this.#remaining = remaining;
    if (remaining) remaining.value = limit();
  }

  get max(): number {
    return this.#limit();
  }

  get full(): boolean {
    return this.used >= this.#limit();
  }

  tryEnter(): boolean {
    if (this.full) return false;
    this.enter();
    return true;
  }

  enter(): void {
    this.used += 1;
    this.#show();
  }

  leave(): void {
    this.used -= 1;
    this.#show();
  }

  #show(): void {
    const max = this.#limit();
    this.#open.value = this.used >= max ? 1 : 0;
    if (this.#remaining) this.#remaining.value = Math.max(0, max - this.used);
  }
}

/** Of all workers; its gauges are set when somebody looks. */
class SharedBreaker implements Breaker {
  readonly #places: SharedPlaces;
  readonly #limit: () => number;
  readonly #open: Gauge;
  readonly #remaining: Gauge | undefined;

  constructor(places: SharedPlaces, limit: () => number, open: Gauge, remaining: Gauge | undefined) {
    this.#places = places;
    this.#limit = limit;
    this.#open = open;
    this.#remaining = remaining;
  }

  get used(): number {
    return this.#places.used;
  }

  get max(): number {
    return this.#limit();
  }

  get full(): boolean {
    return this.#places.used >= this.#limit();
  }

  tryEnter(): boolean {
    return this.#places.tryEnter(this.#limit());
  }

  enter(): void {
    this.#places.enter();
  }

  leave(): void {
    this.#places.leave();
  }

  show(): void {
    const max = this.#limit();
    const { used } = this.#places;
    this.#open.value = used >= max ? 1 : 0;
    if (this.#remaining) this.#remaining.value = Math.max(0, max - used);
  }
}

export interface Breakers {
  readonly connections: Breaker;
  readonly pending: Breaker;
  readonly requests: Breaker;
  readonly retries: Breaker;
  readonly pools: Breaker;
  /** Connections one host may have. */
  readonly hostConnections: number;
  /** Sets the gauges of what all workers use; undefined: they are right. */
  readonly show: (() => void) | undefined;
}

/** Places without an end, for connections that nothing counts. */
const NO_LIMIT = 2 ** 32 - 1;

export interface BreakerContext {
  readonly scope: StatsScope;
  readonly runtime: RuntimeView;
  readonly clusterName: string;
  /** Counters of all workers, by index; absent: this thread counts alone. */
  readonly shared?: ((index: number) => SharedPlaces) | undefined;
}

/** Places of the two priorities among the shared counters. */
const FIRST_COUNTER = { default: 0, high: 5 } as const;

/** Throws ConfigError. Those of HIGH are made for the first request of that priority: few clusters have any. */
export function buildBreakers(
  message: CircuitBreakers | undefined,
  context: BreakerContext,
  path: string,
): { readonly default: Breakers; readonly high: Breakers } {
  if (message) only(CircuitBreakersSchema, message, path, ['thresholds', 'per_host_thresholds']);
  for (const [i, threshold] of (message?.thresholds ?? []).entries()) {
    const at = `${path}.thresholds[${i}]`;
    only(CircuitBreakers_ThresholdsSchema, threshold, at, [
      'priority',
      'max_connections',
      'max_pending_requests',
      'max_requests',
      'max_retries',
      'retry_budget',
      'track_remaining',
      'max_connection_pools',
    ]);
    if (threshold.retryBudget)
      only(CircuitBreakers_Thresholds_RetryBudgetSchema, threshold.retryBudget, join(at, 'retry_budget'), [
        'budget_percent',
        'min_retry_concurrency',
      ]);
  }
  for (const [i, threshold] of (message?.perHostThresholds ?? []).entries())
    only(CircuitBreakers_ThresholdsSchema, threshold, `${path}.per_host_thresholds[${i}]`, [
      'priority',
      'max_connections',
    ]);
  const of = (list: readonly CircuitBreakers_Thresholds[] | undefined, priority: RoutingPriority) =>
    list?.find((threshold) => threshold.priority === priority);
  const build = (priority: RoutingPriority, name: 'default' | 'high'): Breakers =>
    ofPriority(
      of(message?.thresholds, priority),
      of(message?.perHostThresholds, priority)?.maxConnections ?? NO_LIMIT,
      context,
      name,
    );
  let high: Breakers | undefined;
  return {
    default: build(RoutingPriority.DEFAULT, 'default'),
    get high() {
      high ??= build(RoutingPriority.HIGH, 'high');
      return high;
    },
  };
}

function ofPriority(
  limits: CircuitBreakers_Thresholds | undefined,
  hostConnections: number,
  { scope, runtime, clusterName, shared }: BreakerContext,
  name: 'default' | 'high',
): Breakers {
  const tracked = limits?.trackRemaining ?? false;
  const gauge = (suffix: string): Gauge => scope.gauge(`circuit_breakers.${name}.${suffix}`);
  const number = (key: string, base: number): (() => number) => {
    if (runtime === EMPTY_RUNTIME) return () => base;
    let version = -1;
    let value = base;
    return () => {
      if (runtime.version === version) return value;
      version = runtime.version;
      value = runtime.number(`circuit_breakers.${clusterName}.${name}.${key}`, base);
      return value;
    };
  };
  let counter: number = FIRST_COUNTER[name];
  const counted: SharedBreaker[] = [];
  const breaker = (limit: () => number, open: Gauge, remaining: Gauge | undefined): Breaker => {
    if (!shared) return new LocalBreaker(limit, open, remaining);
    const made = new SharedBreaker(shared(counter), limit, open, remaining);
    counter += 1;
    counted.push(made);
    return made;
  };
  const make = (limit: () => number, short: string, open = `${short}_open`): Breaker =>
    breaker(limit, gauge(open), tracked ? gauge(`remaining_${short}`) : undefined);
  const requests = make(number('max_requests', limits?.maxRequests ?? DEFAULT_MAX_REQUESTS), 'rq');
  const budget = limits?.retryBudget;
  return {
    connections: make(number('max_connections', limits?.maxConnections ?? DEFAULT_MAX_CONNECTIONS), 'cx'),
    pending: make(
      number('max_pending_requests', limits?.maxPendingRequests ?? DEFAULT_MAX_PENDING),
      'pending',
      'rq_pending_open',
    ),
    requests,
    retries: budget
      ? breaker(budgetLimit(budget, requests, number), gauge('rq_retry_open'), undefined)
      : make(number('max_retries', limits?.maxRetries ?? DEFAULT_MAX_RETRIES), 'retries', 'rq_retry_open'),
    pools: make(number('max_connection_pools', limits?.maxConnectionPools ?? NO_LIMIT), 'cx_pools', 'cx_pool_open'),
    hostConnections,
    show: shared
      ? () => {
          for (const each of counted) each.show();
        }
      : undefined,
  };
}

/** Retries are a part of what is under way, with a floor. */
function budgetLimit(
  message: CircuitBreakers_Thresholds_RetryBudget,
  requests: Breaker,
  number: (key: string, base: number) => () => number,
): () => number {
  const percent = number('retry_budget.budget_percent', message.budgetPercent?.value ?? DEFAULT_RETRY_BUDGET_PERCENT);
  const floor = number(
    'retry_budget.min_retry_concurrency',
    message.minRetryConcurrency ?? DEFAULT_MIN_RETRY_CONCURRENCY,
  );
  return () => Math.max(Math.floor((percent() / 100) * requests.used), floor());
}
