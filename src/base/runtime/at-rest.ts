// Work that may stop everything for a moment waits here until nothing else is being done. Used by the proxy's wiring.
import type { Clock } from './clock.ts';

/** Ms for which code has run since the start of the process (not waited), by the same measure as the clock. */
export type BusyTime = () => number;

/** Calls `run` once, after the first stretch of `stretchMs` of which less than `share` (0–1) was spent running code. */
export function whenAtRest(clock: Clock, busy: BusyTime, stretchMs: number, share: number, run: () => void): void {
  const before = busy();
  clock.after(stretchMs, () => {
    if (busy() - before < stretchMs * share) run();
    else whenAtRest(clock, busy, stretchMs, share, run);
  });
}
