// Time as a value that is passed in. Everything that reads the time or waits takes a Clock.

/** Milliseconds since the epoch, and timers. */
export interface Clock {
  now(): number;
  /** Calls `run` once after `delayMs`; the returned function cancels. Never keeps the process alive. */
  after(delayMs: number, run: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, run) {
    // setTimeout overflows above 2^31-1 ms and would fire at once.
    const timer = setTimeout(run, Math.min(delayMs, 0x7fffffff));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** How far the wall clock may be from the counter before the counter is set anew, ms. */
const DRIFT_MS = 2;
let origin = performance.timeOrigin;

/** As `systemClock.now`, to the microsecond. Costs twice as much. */
export function preciseNow(): number {
  const wall = Date.now();
  const precise = origin + performance.now();
  if (Math.abs(precise - wall) <= DRIFT_MS) return precise;
  // Somebody set the clock.
  origin += wall - precise;
  return wall;
}

/** Resolves after `delayMs` on `clock`; rejects with the signal's reason when aborted first. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', stop);
      resolve();
    });
    signal?.addEventListener('abort', stop, { once: true });
  });
}
