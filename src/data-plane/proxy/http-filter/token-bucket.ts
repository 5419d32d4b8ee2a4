// Token buckets that fill steadily, as Envoy's local rate limits do. Used by the local rate limits of requests and of
// connections, and by the throttle of fault injection.
import { type TokenBucket as TokenBucketMessage, TokenBucketSchema } from '#proto/envoy/type/v3/token_bucket_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';

export interface BucketSettings {
  readonly maxTokens: number;
  readonly tokensPerFill: number;
  readonly fillMs: number;
}

const MIN_FILL_MS = 50;

export function readBucket(message: TokenBucketMessage, path: string): BucketSettings {
  only(TokenBucketSchema, message, path, ['max_tokens', 'tokens_per_fill', 'fill_interval']);
  if (message.maxTokens === 0) throw new ConfigError(join(path, 'max_tokens'), 'value must be greater than 0');
  if (!message.fillInterval) throw new ConfigError(join(path, 'fill_interval'), 'value is required');
  const tokensPerFill = message.tokensPerFill ?? 1;
  if (tokensPerFill === 0) throw new ConfigError(join(path, 'tokens_per_fill'), 'value must be greater than 0');
  const fillMs = millis(message.fillInterval, 0);
  if (fillMs < MIN_FILL_MS) throw new ConfigError(path, 'local rate limit token bucket fill timer must be >= 50ms');
  return { maxTokens: message.maxTokens, tokensPerFill, fillMs };
}

/** One of this thread alone, or of all workers (tally/shared-bucket.ts). */
export interface Bucket {
  readonly settings: BucketSettings;
  /** Takes `count` tokens if they are there. */
  take(count?: number): boolean;
  /** Whole tokens now. */
  readonly remaining: number;
  /** Seconds until there is a token; 0 = there is one. */
  readonly resetSeconds: number;
}

export class TokenBucket implements Bucket {
  readonly settings: BucketSettings;
  readonly #clock: Clock;
  #tokens: number;
  #at: number;

  constructor(settings: BucketSettings, clock: Clock) {
    this.settings = settings;
    this.#clock = clock;
    this.#tokens = settings.maxTokens;
    this.#at = clock.now();
  }

  take(count = 1): boolean {
    this.#fill();
    if (this.#tokens < count) return false;
    this.#tokens -= count;
    return true;
  }

  get remaining(): number {
    this.#fill();
    return Math.floor(this.#tokens);
  }

  get resetSeconds(): number {
    this.#fill();
    if (this.#tokens >= 1) return 0;
    const { tokensPerFill, fillMs } = this.settings;
    return Math.ceil(((1 - this.#tokens) * fillMs) / tokensPerFill / 1000);
  }

  #fill(): void {
    const now = this.#clock.now();
    const { maxTokens, tokensPerFill, fillMs } = this.settings;
    if (now > this.#at) this.#tokens = Math.min(maxTokens, this.#tokens + ((now - this.#at) * tokensPerFill) / fillMs);
    this.#at = now;
  }
}
