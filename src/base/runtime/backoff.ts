// Exponential back-off with jitter; used wherever something that failed is tried again.

export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
  /** 0 = none, 0.1 = ±10 %. */
  readonly jitter: number;
  readonly random: () => number;
}

export interface Backoff {
  /** The next wait in milliseconds. */
  next(): number;
  reset(): void;
}

export function createBackoff(options: BackoffOptions): Backoff {
  let attempt = 0;
  return {
    next() {
      const raw = Math.min(options.baseMs * 2 ** attempt, options.maxMs);
      attempt += 1;
      return raw * (1 + options.jitter * (2 * options.random() - 1));
    },
    reset() {
      attempt = 0;
    },
  };
}
