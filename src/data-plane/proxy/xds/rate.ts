// rate_limit_settings of a discovery source: requests over the rate wait their turn. Used by discovery-client.ts.
import type { Clock } from '../../../base/runtime/clock.ts';

export interface Rate {
  /** Runs `task` now or when the rate allows it, in order. */
  run(task: () => void): void;
  stop(): void;
}

export function createRate(
  limit: { readonly tokens: number; readonly perSecond: number } | undefined,
  clock: Clock,
  enforced: { value: number },
): Rate {
  if (!limit) return { run: (task) => task(), stop() {} };
  const { tokens, perSecond } = limit;
  const gapMs = 1000 / Math.max(perSecond, 0.01);
  const waiting: (() => void)[] = [];
  let left = tokens;
  let filledAt = clock.now();
  let cancel: (() => void) | undefined;
  const fill = (): void => {
    const now = clock.now();
    left = Math.min(tokens, left + (now - filledAt) / gapMs);
    filledAt = now;
  };
  const drain = (): void => {
    cancel = undefined;
    fill();
    while (waiting.length > 0 && left >= 1) {
      left -= 1;
      waiting.shift()!();
    }
    if (waiting.length > 0) cancel = clock.after(Math.max(1, (1 - left) * gapMs), drain);
  };
  return {
    run(task) {
      fill();
      if (waiting.length === 0 && left >= 1) {
        left -= 1;
        task();
        return;
      }
      enforced.value += 1;
      // Bounded: there is one request for each answer and for each change of names in a turn.
      waiting.push(task);
      if (!cancel) cancel = clock.after(Math.max(1, (1 - left) * gapMs), drain);
    },
    stop() {
      cancel?.();
      waiting.length = 0;
    },
  };
}
