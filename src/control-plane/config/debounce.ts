// Turns a burst of changes into one call: after `quietMs` without a further change, at the latest `maxMs` after the first.
import type { Clock } from '../../base/runtime/clock.ts';

export interface DebounceOptions<T> {
  readonly quietMs: number;
  readonly maxMs: number;
  readonly clock: Clock;
  /** `waitedMs` is the time since the first change of the batch. */
  readonly run: (batch: readonly T[], waitedMs: number) => void;
}

export interface Debounce<T> {
  add(item: T): void;
  close(): void;
}

export function createDebounce<T>(options: DebounceOptions<T>): Debounce<T> {
  const { clock } = options;
  let batch: T[] = [];
  let first = 0;
  let cancel = (): void => {};
  const flush = (): void => {
    const items = batch;
    batch = [];
    options.run(items, clock.now() - first);
  };
  return {
    add(item) {
      const now = clock.now();
      if (batch.length === 0) first = now;
      batch.push(item);
      cancel();
      cancel = clock.after(Math.max(0, Math.min(options.quietMs, first + options.maxMs - now)), flush);
    },
    close() {
      cancel();
      batch = [];
    },
  };
}
