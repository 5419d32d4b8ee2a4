// A queue of keys to reconcile: a key waits at most once, is never run twice at the same time, and is tried
// again with growing waits when it fails. Called by controllers.
import type { Clock } from '../runtime/clock.ts';
import { errorText, type Logger } from '../runtime/log.ts';
import { KubeError } from './types.ts';

export interface WorkQueueOptions {
  readonly name: string;
  /** Brings one key to its desired state; a rejection means: try again later. */
  readonly run: (key: string) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** How many keys run side by side. */
  readonly concurrency?: number;
}

export interface WorkQueue {
  add(key: string): void;
  /** Adds the key after `delayMs`; an earlier wait for the same key stands. */
  addAfter(key: string, delayMs: number): void;
  /** Keys waiting, running or due later. */
  size(): number;
  close(): void;
}

const DEFAULT_CONCURRENCY = 8;
const RETRY_BASE_MS = 5;
const RETRY_MAX_MS = 30_000;
/** Conflicts and the first failures are part of normal life; after this many the log says so. */
const QUIET_FAILURES = 3;

interface Timer {
  readonly at: number;
  readonly cancel: () => void;
}

export function createWorkQueue(options: WorkQueueOptions): WorkQueue {
  const waiting = new Set<string>();
  const running = new Set<string>();
  /** Added again while it ran. */
  const dirty = new Set<string>();
  const failures = new Map<string, number>();
  const timers = new Map<string, Timer>();
  const limit = options.concurrency ?? DEFAULT_CONCURRENCY;
  let scheduled = false;
  let closed = false;

  const add = (key: string): void => {
    if (closed) return;
    if (running.has(key)) dirty.add(key);
    else {
      waiting.add(key);
      schedule();
    }
  };
  const addAfter = (key: string, delayMs: number): void => {
    if (closed) return;
    const at = options.clock.now() + delayMs;
    const earlier = timers.get(key);
    if (earlier && earlier.at <= at) return;
    earlier?.cancel();
    const cancel = options.clock.after(Math.max(0, delayMs), () => {
      timers.delete(key);
      add(key);
    });
    timers.set(key, { at, cancel });
  };
  // A microtask, so that a burst of events for one key becomes one run.
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(() => {
      scheduled = false;
      for (const key of waiting) {
        if (closed || running.size >= limit) return;
        waiting.delete(key);
        running.add(key);
        void work(key);
      }
    });
  };
  const work = async (key: string): Promise<void> => {
    try {
      await options.run(key);
      failures.delete(key);
    } catch (error) {
      if (!closed) retry(key, error);
    } finally {
      running.delete(key);
      if (dirty.delete(key)) waiting.add(key);
      if (!closed && waiting.size > 0) schedule();
    }
  };
  const retry = (key: string, error: unknown): void => {
    const count = (failures.get(key) ?? 0) + 1;
    failures.set(key, count);
    const wait = Math.min(RETRY_BASE_MS * 2 ** (count - 1), RETRY_MAX_MS) * (0.9 + 0.2 * options.random());
    const conflict = error instanceof KubeError && error.code === 409;
    const fields = { queue: options.name, key, attempt: count, error: errorText(error) };
    if (conflict || count <= QUIET_FAILURES) options.log.debug('reconcile failed, trying again', fields);
    else options.log.warn('reconcile keeps failing, trying again', fields);
    addAfter(key, wait);
  };

  return {
    add,
    addAfter,
    size: () => waiting.size + running.size + timers.size,
    close() {
      closed = true;
      for (const timer of timers.values()) timer.cancel();
      timers.clear();
      waiting.clear();
    },
  };
}
