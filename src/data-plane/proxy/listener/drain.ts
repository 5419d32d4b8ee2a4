// Draining over time: which answers end their connection while a listener, or the whole process, goes away. Immediate: all of
// them. Gradual: ever more, until the drain time is over all do. Used by listeners and the connection manager.
import type { Clock } from '../../../base/runtime/clock.ts';

export interface Drain {
  /** Asked for each answer: true = it ends its connection. */
  closes(): boolean;
}

export interface DrainOptions {
  readonly strategy: 'gradual' | 'immediate';
  readonly drainMs: number;
  readonly clock: Clock;
  readonly random: () => number;
}

export const AT_ONCE: Drain = { closes: () => true };

export function startDrain({ strategy, drainMs, clock, random }: DrainOptions): Drain {
  if (strategy === 'immediate' || drainMs <= 0) return AT_ONCE;
  const start = clock.now();
  return {
    closes() {
      const share = (clock.now() - start) / drainMs;
      return share >= 1 || random() < share;
    },
  };
}
