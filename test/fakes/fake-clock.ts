// Time that moves only when told: for tests of rotation, retry and time-outs.
import type { Clock } from '../../src/base/runtime/clock.ts';

export interface FakeClock extends Clock {
  /** Moves on and runs, in order, every timer that fell due; lets promises settle between timers. */
  advance(ms: number): Promise<void>;
  /** When the next timer is due, milliseconds from now. */
  nextIn(): number | undefined;
}

export function createFakeClock(start: number): FakeClock {
  let now = start;
  const timers = new Set<{ readonly at: number; readonly run: () => void }>();
  const next = () => [...timers].sort((a, b) => a.at - b.at)[0];
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    now: () => now,
    after(delayMs, run) {
      const timer = { at: now + Math.max(0, delayMs), run };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    nextIn: () => {
      const timer = next();
      return timer && timer.at - now;
    },
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (let timer = next(); timer && timer.at <= end; timer = next()) {
        timers.delete(timer);
        now = timer.at;
        timer.run();
        await settle();
      }
      now = end;
      await settle();
    },
  };
}
