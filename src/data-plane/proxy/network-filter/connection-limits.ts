// Network filters that bound connections: envoy.filters.network.local_ratelimit (how many a second) and
// envoy.filters.network.connection_limit (how many at once).
import {
  type ConnectionLimit,
  ConnectionLimitSchema,
} from '#proto/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.js';
import {
  type LocalRateLimit,
  LocalRateLimitSchema,
} from '#proto/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { type ConnectionInfo, FLAG } from '../http/stream-info.ts';
import { type Bucket, type BucketSettings, readBucket, TokenBucket } from '../http-filter/token-bucket.ts';
import { type RuntimeView, runtimeFlag } from '../runtime/runtime.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import { LocalPlaces, type Places } from '../tally/places.ts';
import { ADMIT, type NetworkFilter } from './filter.ts';

interface LimitContext {
  readonly name: string;
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly runtime: RuntimeView;
  readonly sharedBuckets: SharedBuckets;
  readonly shared?: SharedNumbers | undefined;
}

/** Buckets that several listeners share by key: one with the same key and the same limits is the same bucket. */
export class SharedBuckets {
  readonly #byKey = new Map<string, WeakRef<Bucket>>();
  readonly #shared: SharedNumbers | undefined;

  constructor(shared?: SharedNumbers) {
    this.#shared = shared;
  }

  get(key: string, settings: BucketSettings, clock: Clock): Bucket {
    const full = `${key}\0${settings.maxTokens}\0${settings.tokensPerFill}\0${settings.fillMs}`;
    const known = this.#byKey.get(full)?.deref();
    if (known) return known;
    for (const [name, reference] of this.#byKey) if (!reference.deref()) this.#byKey.delete(name);
    const made = this.#shared?.bucket(`share_key ${key}`, settings, clock) ?? new TokenBucket(settings, clock);
    this.#byKey.set(full, new WeakRef(made));
    return made;
  }
}

export function createConnectionRateLimit(message: LocalRateLimit, context: LimitContext, path: string): NetworkFilter {
  only(LocalRateLimitSchema, message, path, ['stat_prefix', 'token_bucket', 'runtime_enabled', 'share_key']);
  if (message.statPrefix === '')
    throw new ConfigError(join(path, 'stat_prefix'), 'value length must be at least 1 characters');
  if (!message.tokenBucket) throw new ConfigError(join(path, 'token_bucket'), 'value is required');
  const settings = readBucket(message.tokenBucket, join(path, 'token_bucket'));
  const enabled = runtimeFlag(context.runtime, message.runtimeEnabled, true);
  const bucket =
    message.shareKey === ''
      ? (context.shared?.bucket(path, settings, context.clock) ?? new TokenBucket(settings, context.clock))
      : context.sharedBuckets.get(message.shareKey, settings, context.clock);
  const limited = context.stats.counter(`local_rate_limit.${message.statPrefix}.rate_limited`);
  return {
    name: context.name,
    admit() {
      if (!enabled() || bucket.take()) return ADMIT;
      limited.value += 1;
      // Envoy's flag for it.
      const closeReason = 'local_ratelimit_close_over_limit';
      return { kind: 'refuse', when: 'now', delayMs: 0, details: '', closeReason, flags: FLAG.URX };
    },
  };
}

export function createConnectionLimit(message: ConnectionLimit, context: LimitContext, path: string): NetworkFilter {
  only(ConnectionLimitSchema, message, path, ['stat_prefix', 'max_connections', 'delay', 'runtime_enabled']);
  if (message.statPrefix === '')
    throw new ConfigError(join(path, 'stat_prefix'), 'value length must be at least 1 characters');
  const max = Number(message.maxConnections ?? 0n);
  if (max < 1) throw new ConfigError(join(path, 'max_connections'), 'value must be greater than or equal to 1');
  const delayMs = millis(message.delay, 0);
  const enabled = runtimeFlag(context.runtime, message.runtimeEnabled, true);
  const limited = context.stats.counter(`connection_limit.${message.statPrefix}.limited_connections`);
  const active = context.stats.gauge(`connection_limit.${message.statPrefix}.active_connections`);
  const counted = new WeakSet<ConnectionInfo>();
  const places: Places = context.shared?.counters(`${path} ${max}`)(0) ?? new LocalPlaces();
  return {
    name: context.name,
    admit(info) {
      active.value += 1;
      if (!enabled()) return ADMIT;
      if (!places.tryEnter(max)) {
        limited.value += 1;
        return { kind: 'refuse', when: 'now', delayMs, details: '', closeReason: 'over_connection_limit', flags: 0 };
      }
      counted.add(info);
      return ADMIT;
    },
    onClose(info) {
      active.value -= 1;
      if (counted.has(info)) places.leave();
    },
  };
}
