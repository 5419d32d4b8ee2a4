// watchdogs of the bootstrap: counts how often this thread was too busy to run a timer in time. Owned by the engine; without
// configuration there is none.
import {
  type Watchdog as WatchdogMessage,
  WatchdogSchema,
  type Watchdogs,
  WatchdogsSchema,
} from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import type { StatsStore } from '../stats/stats.ts';

export interface WatchdogSettings {
  readonly missMs: number;
  readonly megaMissMs: number;
}

const DEFAULT_MISS_MS = 200;
const DEFAULT_MEGA_MISS_MS = 1_000;

/** Settings of the main thread and of workers; undefined where nothing is configured. Throws ConfigError. */
export function readWatchdogs(message: Watchdogs | undefined): {
  readonly main: WatchdogSettings | undefined;
  readonly worker: WatchdogSettings | undefined;
} {
  if (!message) return { main: undefined, worker: undefined };
  only(WatchdogsSchema, message, 'watchdogs', ['main_thread_watchdog', 'worker_watchdog']);
  return {
    main: readOne(message.mainThreadWatchdog, 'watchdogs.main_thread_watchdog'),
    worker: readOne(message.workerWatchdog, 'watchdogs.worker_watchdog'),
  };
}

function readOne(message: WatchdogMessage | undefined, path: string): WatchdogSettings | undefined {
  if (!message) return undefined;
  only(WatchdogSchema, message, path, ['miss_timeout', 'megamiss_timeout', 'kill_timeout', 'multikill_timeout']);
  // 0 is Envoy's default: nobody is killed.
  for (const [name, value] of [
    ['kill_timeout', message.killTimeout],
    ['multikill_timeout', message.multikillTimeout],
  ] as const)
    if (millis(value, 0) > 0) throw new ConfigError(join(path, name), 'only 0 is supported by this proxy');
  return {
    missMs: millis(message.missTimeout, DEFAULT_MISS_MS),
    megaMissMs: millis(message.megamissTimeout, DEFAULT_MEGA_MISS_MS),
  };
}

/** `thread` is part of the names of statistics: main_thread or worker_N. */
export function watch(settings: WatchdogSettings, thread: string, clock: Clock, stats: StatsStore): () => void {
  const counters = (name: string) => [stats.counter(`server.${name}`), stats.counter(`server.${thread}.${name}`)];
  const miss = counters('watchdog_miss');
  const megaMiss = counters('watchdog_mega_miss');
  const period = Math.max(1, settings.missMs / 2);
  let due = clock.now() + period;
  let cancel = (): void => {};
  const beat = (): void => {
    const late = clock.now() - due;
    if (late >= settings.missMs) for (const counter of miss) counter.value += 1;
    if (late >= settings.megaMissMs) for (const counter of megaMiss) counter.value += 1;
    due = clock.now() + period;
    cancel = clock.after(period, beat);
  };
  cancel = clock.after(period, beat);
  return () => cancel();
}
