// envoy.filters.http.local_ratelimit: token buckets in this proxy, one for all requests and one for each descriptor that is
// configured; for the whole chain or for each downstream connection. Routes may bring their own.
import {
  LocalRateLimitDescriptorSchema,
  RateLimitDescriptor_EntrySchema,
  XRateLimitHeadersRFCVersion,
} from '#proto/envoy/extensions/common/ratelimit/v3/ratelimit_pb.js';
import {
  type LocalRateLimit,
  LocalRateLimitSchema,
} from '#proto/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { type ConnectionInfo, FLAG } from '../http/stream-info.ts';
import { applyEdits, compileEdits, type HeaderEdits } from '../route/header-edits.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import type { Counter, StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { HttpFilter } from './filter.ts';
import { compileRateLimits, type DescriptorEntry, type RateLimitActions } from './rate-limit-actions.ts';
import { type Bucket, type BucketSettings, readBucket, TokenBucket } from './token-bucket.ts';

interface DescriptorSettings {
  readonly entries: readonly DescriptorEntry[];
  readonly bucket: BucketSettings;
}

export interface RateLimitSettings {
  readonly statPrefix: string;
  readonly status: number;
  readonly bucket: BucketSettings | undefined;
  readonly descriptors: readonly DescriptorSettings[];
  readonly enabled: Share;
  readonly enforced: Share;
  readonly requestEdits: HeaderEdits;
  readonly responseEdits: HeaderEdits;
  readonly stage: number;
  readonly perConnection: boolean;
  readonly showLimits: boolean;
  readonly alwaysDefault: boolean;
  readonly grpcStatus: number;
  /** What requests count as; undefined = what their route says. */
  readonly actions: readonly RateLimitActions[] | undefined;
  /** The buckets that all requests under these settings take from, whatever filter they pass. */
  readonly buckets: Buckets;
}

const RESOURCE_EXHAUSTED = 8;
const UNAVAILABLE = 14;

export interface RateLimitReader {
  readonly runtime: RuntimeView;
  readonly clock: Clock;
  /** What limits count by when there are workers. */
  readonly shared?: SharedNumbers | undefined;
}

export function readLocalRateLimit(message: LocalRateLimit, context: RateLimitReader, path: string): RateLimitSettings {
  const { runtime, clock, shared } = context;
  only(LocalRateLimitSchema, message, path, [
    'stat_prefix',
    'status',
    'token_bucket',
    'filter_enabled',
    'filter_enforced',
    'request_headers_to_add_when_not_enforced',
    'response_headers_to_add',
    'descriptors',
    'stage',
    'local_rate_limit_per_downstream_connection',
    'enable_x_ratelimit_headers',
    'always_consume_default_token_bucket',
    'rate_limited_as_resource_exhausted',
    'rate_limits',
  ]);
  if (message.statPrefix === '')
    throw new ConfigError(join(path, 'stat_prefix'), 'value length must be at least 1 characters');
  const bucket = message.tokenBucket && readBucket(message.tokenBucket, join(path, 'token_bucket'));
  const descriptors = message.descriptors.map((one, i): DescriptorSettings => {
    const at = join(path, `descriptors[${i}]`);
    only(LocalRateLimitDescriptorSchema, one, at, ['entries', 'token_bucket']);
    for (const [k, entry] of one.entries.entries())
      only(RateLimitDescriptor_EntrySchema, entry, join(at, `entries[${k}]`), ['key', 'value']);
    if (one.entries.length === 0) throw new ConfigError(join(at, 'entries'), 'value must contain at least 1 item(s)');
    if (!one.tokenBucket) throw new ConfigError(join(at, 'token_bucket'), 'value is required');
    return { entries: one.entries, bucket: readBucket(one.tokenBucket, join(at, 'token_bucket')) };
  });
  if (descriptors.length > 0 && !bucket)
    throw new ConfigError(join(path, 'token_bucket'), 'local rate limit descriptors need a token_bucket beside them');
  const code = message.status?.code ?? 0;
  // The tightest limits first.
  descriptors.sort((a, b) => rate(a.bucket) - rate(b.bucket));
  return {
    statPrefix: message.statPrefix,
    // Envoy too takes 429 for a status that is no error.
    status: code >= 400 ? code : 429,
    bucket,
    descriptors,
    enabled: runtimeShare(runtime, message.filterEnabled, 0),
    enforced: runtimeShare(runtime, message.filterEnforced, 0),
    requestEdits: compileEdits(message.requestHeadersToAddWhenNotEnforced, [], join(path, 'request')),
    responseEdits: compileEdits(message.responseHeadersToAdd, [], join(path, 'response')),
    stage: message.stage,
    perConnection: message.localRateLimitPerDownstreamConnection,
    showLimits: message.enableXRatelimitHeaders === XRateLimitHeadersRFCVersion.DRAFT_VERSION_03,
    alwaysDefault: message.alwaysConsumeDefaultTokenBucket ?? true,
    grpcStatus: message.rateLimitedAsResourceExhausted ? RESOURCE_EXHAUSTED : UNAVAILABLE,
    actions:
      message.rateLimits.length > 0 ? compileRateLimits(message.rateLimits, join(path, 'rate_limits')) : undefined,
    buckets: createBuckets({ bucket, descriptors }, (settings, name) =>
      shared && !message.localRateLimitPerDownstreamConnection
        ? shared.bucket(join(path, name), settings, clock)
        : new TokenBucket(settings, clock),
    ),
  };
}

function rate(bucket: BucketSettings): number {
  return bucket.tokensPerFill / bucket.fillMs;
}

interface Buckets {
  readonly all: Bucket | undefined;
  readonly byDescriptor: readonly Bucket[];
}

/** One set of limits at work: its buckets and counters. */
interface Limiter {
  readonly counters: Readonly<Record<'enabled' | 'enforced' | 'limited' | 'ok', Counter>>;
  readonly byConnection: WeakMap<ConnectionInfo, Buckets>;
}

const LIMIT = headerName('x-ratelimit-limit');
const REMAINING = headerName('x-ratelimit-remaining');
const RESET = headerName('x-ratelimit-reset');

interface LimitContext {
  readonly name: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly stats: StatsStore;
}

export function createLocalRateLimitFilter(own: RateLimitSettings, context: LimitContext): HttpFilter {
  const limiters = new WeakMap<RateLimitSettings, Limiter>();
  const limiterOf = (settings: RateLimitSettings): Limiter => {
    let known = limiters.get(settings);
    if (!known) {
      known = createLimiter(settings, context);
      limiters.set(settings, known);
    }
    return known;
  };
  limiterOf(own);
  return {
    name: context.name,
    onRequest(stream, index) {
      const settings = (stream.settingsOf(context.name) as RateLimitSettings | undefined) ?? own;
      if (!settings.bucket || context.random() >= settings.enabled()) return 'continue';
      const limiter = limiterOf(settings);
      limiter.counters.enabled.value += 1;
      const buckets = settings.perConnection
        ? bucketsOf(limiter, settings, stream.connection, context.clock)
        : settings.buckets;
      const { allowed, bucket } = take(settings, buckets, stream);
      if (settings.showLimits) stream.slots[index] = bucket;
      if (allowed) {
        limiter.counters.ok.value += 1;
        return 'continue';
      }
      limiter.counters.limited.value += 1;
      if (context.random() >= settings.enforced()) {
        applyEdits(settings.requestEdits, stream.headers, stream.info);
        return 'continue';
      }
      limiter.counters.enforced.value += 1;
      stream.localReply({
        status: settings.status,
        body: 'local_rate_limited',
        flags: FLAG.RL,
        details: 'local_rate_limited',
        grpcStatus: settings.grpcStatus,
        edit: (headers) => applyEdits(settings.responseEdits, headers, stream.info),
      });
      return 'stop';
    },
    onResponse(stream, headers, index) {
      const bucket = stream.slots[index] as Bucket | undefined;
      if (bucket) showLimits(headers, bucket);
    },
  };
}

function createLimiter(settings: RateLimitSettings, context: LimitContext): Limiter {
  const counter = (name: string) => context.stats.counter(`${settings.statPrefix}.http_local_rate_limit.${name}`);
  return {
    counters: {
      enabled: counter('enabled'),
      enforced: counter('enforced'),
      limited: counter('rate_limited'),
      ok: counter('ok'),
    },
    byConnection: new WeakMap(),
  };
}

function createBuckets(
  { bucket, descriptors }: Pick<RateLimitSettings, 'bucket' | 'descriptors'>,
  make: (settings: BucketSettings, name: string) => Bucket,
): Buckets {
  return {
    all: bucket && make(bucket, 'token_bucket'),
    byDescriptor: descriptors.map((one, i) => make(one.bucket, `descriptors[${i}].token_bucket`)),
  };
}

function bucketsOf(limiter: Limiter, settings: RateLimitSettings, connection: ConnectionInfo, clock: Clock): Buckets {
  let known = limiter.byConnection.get(connection);
  if (!known) {
    known = createBuckets(settings, (bucket) => new TokenBucket(bucket, clock));
    limiter.byConnection.set(connection, known);
  }
  return known;
}

/** Every descriptor that fits must have a token, and the common bucket too unless descriptors stand in for it. */
function take(
  settings: RateLimitSettings,
  buckets: Buckets,
  stream: HttpStream,
): { readonly allowed: boolean; readonly bucket: Bucket | undefined } {
  let tightest: Bucket | undefined;
  if (settings.descriptors.length > 0) {
    const made = (settings.actions ?? stream.route?.rateLimits ?? [])
      .filter((actions) => actions.stage === settings.stage)
      .flatMap((actions) => {
        const entries = actions.descriptor(stream);
        return entries ? [entries] : [];
      });
    for (const [i, { entries }] of settings.descriptors.entries()) {
      if (!made.some((one) => sameEntries(one, entries))) continue;
      const bucket = buckets.byDescriptor[i]!;
      if (!bucket.take()) return { allowed: false, bucket };
      if (!tightest || bucket.remaining < tightest.remaining) tightest = bucket;
    }
  }
  const { all } = buckets;
  if (tightest && !settings.alwaysDefault) return { allowed: true, bucket: tightest };
  if (all && !all.take()) return { allowed: false, bucket: all };
  if (all && (!tightest || all.remaining < tightest.remaining)) tightest = all;
  return { allowed: true, bucket: tightest };
}

function sameEntries(a: readonly DescriptorEntry[], b: readonly DescriptorEntry[]): boolean {
  return a.length === b.length && a.every((entry, i) => entry.key === b[i]!.key && entry.value === b[i]!.value);
}

function showLimits(headers: HeaderMap, bucket: Bucket): void {
  headers.set(LIMIT, String(bucket.settings.maxTokens));
  headers.set(REMAINING, String(bucket.remaining));
  headers.set(RESET, String(bucket.resetSeconds));
}
