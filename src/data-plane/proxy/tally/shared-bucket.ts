// A token bucket that all workers take from. Made by numbers.ts when there are workers.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Bucket, BucketSettings } from '../http-filter/token-bucket.ts';

/** Bytes of a bucket's block: when it was empty, and the moment that is counted from. */
export const BUCKET_BYTES = 16;
/** Units of time that fit a cell with room to spare. */
const MOST_UNITS = 2 ** 60;
const NS_PER_MS = 1e6;
/** A bucket that was emptied this far in the future saw another clock. */
const CLOCK_JUMP_MS = 1_000;
/** Tokens are whole; what arithmetic lost of one is not missing. */
const ROUNDING = 1e-6;

/**
 * One cell says since when the bucket fills, which is as much as how full it is: taking a token moves that moment on, in one
 * atomic step, so a thread that dies leaves nothing half done.
 */
export class SharedTokenBucket implements Bucket {
  readonly settings: BucketSettings;
  readonly #clock: Clock;
  readonly #cell: BigInt64Array;
  readonly #origin: number;
  /** Of one token, and of one millisecond. */
  readonly #token: number;
  readonly #ms: number;

  constructor(settings: BucketSettings, block: SharedArrayBuffer, clock: Clock) {
    this.settings = settings;
    this.#clock = clock;
    this.#cell = new BigInt64Array(block, 0, 1);
    this.#origin = new Float64Array(block, 8, 1)[0]!;
    const { token, ms } = units(settings);
    this.#token = token;
    this.#ms = ms;
  }

  take(count = 1): boolean {
    const cell = this.#cell;
    const now = this.#now();
    const cost = count * this.#token;
    for (;;) {
      const before = Atomics.load(cell, 0);
      const empty = this.#emptyAt(Number(before), now);
      const after = empty + cost;
      if (after > now + this.#token * ROUNDING) {
        // The clock went back: the bucket counts as empty from now on.
        if (Number(before) - now > CLOCK_JUMP_MS * this.#ms) Atomics.compareExchange(cell, 0, before, whole(now));
        return false;
      }
      if (Atomics.compareExchange(cell, 0, before, whole(after)) === before) return true;
    }
  }

  get remaining(): number {
    return Math.floor(this.#tokens() + ROUNDING);
  }

  get resetSeconds(): number {
    const tokens = this.#tokens();
    if (tokens + ROUNDING >= 1) return 0;
    const { tokensPerFill, fillMs } = this.settings;
    return Math.ceil(((1 - tokens) * fillMs) / tokensPerFill / 1000);
  }

  #tokens(): number {
    const now = this.#now();
    return (now - this.#emptyAt(Number(Atomics.load(this.#cell, 0)), now)) / this.#token;
  }

  /** Not so long ago that there would be more tokens than the bucket holds. */
  #emptyAt(stored: number, now: number): number {
    return Math.min(now, Math.max(stored, now - this.settings.maxTokens * this.#token));
  }

  #now(): number {
    return (this.#clock.now() - this.#origin) * this.#ms;
  }
}

/** Makes a block a full bucket. */
export function fillBucket(block: SharedArrayBuffer, settings: BucketSettings, now: number): void {
  new Float64Array(block, 8, 1)[0] = now;
  Atomics.store(new BigInt64Array(block, 0, 1), 0, whole(-settings.maxTokens * units(settings).token));
}

/** Nanoseconds, or longer units for buckets that take ages to fill. */
function units({ maxTokens, tokensPerFill, fillMs }: BucketSettings): { readonly token: number; readonly ms: number } {
  const tokenNs = (fillMs * NS_PER_MS) / tokensPerFill;
  const unitNs = Math.max(1, (tokenNs * maxTokens) / MOST_UNITS);
  return { token: Math.max(1, tokenNs / unitNs), ms: NS_PER_MS / unitNs };
}

function whole(units: number): bigint {
  return BigInt(Math.round(units));
}
