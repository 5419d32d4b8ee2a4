// Circuit breakers of a cluster: how much may be in use at the same time. Used by pools, the router and tcp_proxy.
import type { CircuitBreakers } from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import {
  CircuitBreakers_ThresholdsSchema,
  CircuitBreakersSchema,
} from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import { RoutingPriority } from '#proto/envoy/config/core/v3/base_pb.js';
import { only } from '../config/fields.ts';
import { DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_PENDING, DEFAULT_MAX_REQUESTS, DEFAULT_MAX_RETRIES } from '../limits.ts';
import type { Gauge, StatsScope } from '../stats/stats.ts';

/** A number of places. */
export class Breaker {
  readonly max: number;
  used = 0;
  readonly #open: Gauge;

  constructor(max: number, open: Gauge) {
    this.max = max;
    this.#open = open;
  }

  tryEnter(): boolean {
    if (this.used >= this.max) return false;
    this.enter();
    return true;
  }

  enter(): void {
    this.used += 1;
    if (this.used >= this.max) this.#open.value = 1;
  }

  leave(): void {
    this.used -= 1;
    if (this.used < this.max) this.#open.value = 0;
  }
}

export interface Breakers {
  readonly connections: Breaker;
  readonly pending: Breaker;
  readonly requests: Breaker;
  readonly retries: Breaker;
}

export function buildBreakers(message: CircuitBreakers | undefined, scope: StatsScope, path: string): Breakers {
  if (message) only(CircuitBreakersSchema, message, path, ['thresholds']);
  for (const [i, threshold] of (message?.thresholds ?? []).entries())
    only(CircuitBreakers_ThresholdsSchema, threshold, `${path}.thresholds[${i}]`, [
      'priority',
      'max_connections',
      'max_pending_requests',
      'max_requests',
      'max_retries',
      // Remaining places are always shown.
      'track_remaining',
    ]);
  const limits = message?.thresholds.find((threshold) => threshold.priority === RoutingPriority.DEFAULT);
  const make = (max: number, name: string) => new Breaker(max, scope.gauge(`circuit_breakers.default.${name}`));
  return {
    connections: make(limits?.maxConnections ?? DEFAULT_MAX_CONNECTIONS, 'cx_open'),
    pending: make(limits?.maxPendingRequests ?? DEFAULT_MAX_PENDING, 'rq_pending_open'),
    requests: make(limits?.maxRequests ?? DEFAULT_MAX_REQUESTS, 'rq_open'),
    retries: make(limits?.maxRetries ?? DEFAULT_MAX_RETRIES, 'rq_retry_open'),
  };
}
