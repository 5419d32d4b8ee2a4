// Notes when container logs grew (for --timestamps and --since) and keeps them small. The containers write the files
// themselves; after a restart of localkube the times of what was written meanwhile are approximate.
import {
  appendFileSync,
  copyFileSync,
  type FSWatcher,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  watch,
} from 'node:fs';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';

/** A log longer than this is moved to `<log>.1` and begins anew. */
export const LOG_LIMIT_BYTES = 10 * 1024 * 1024;
const NOTE_EVERY_MS = 20;

export interface LogKeeper {
  follow(file: string): void;
  drop(file: string): void;
  close(): void;
}

export function createLogKeeper(clock: Clock, log: Logger): LogKeeper {
  const watched = new Map<string, FSWatcher>();
  const note = (file: string): void => {
    try {
      const { size } = statSync(file);
      appendFileSync(timesFile(file), `${size} ${clock.now()}\n`);
      if (size > LOG_LIMIT_BYTES) rotate(file);
    } catch (error) {
      log.debug('log not noted', { file, error: errorText(error) });
    }
  };
  return {
    follow(file) {
      if (watched.has(file)) return;
      let pending = false;
      const watcher = watch(file, () => {
        if (pending) return;
        pending = true;
        clock.after(NOTE_EVERY_MS, () => {
          pending = false;
          note(file);
        });
      });
      watcher.on('error', () => watcher.close());
      watcher.unref();
      watched.set(file, watcher);
      note(file);
    },
    drop(file) {
      watched.get(file)?.close();
      if (watched.delete(file)) note(file);
    },
    close() {
      for (const watcher of watched.values()) watcher.close();
      watched.clear();
    },
  };
}

function rotate(file: string): void {
  // The writer appends, so after the cut it goes on at the start.
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
  renameSync(timesFile(file), `${timesFile(file)}.1`);
}

export function timesFile(file: string): string {
  return `${file}.times`;
}

/** When each byte of a log was written: `at(offset)` in milliseconds since the epoch. */
export interface LogTimes {
  at(offset: number): number;
  /** The first offset written at or after `time`. */
  offsetSince(time: number): number;
}

export function readLogTimes(file: string, fallback: number): LogTimes {
  const sizes: number[] = [];
  const times: number[] = [];
  let text = '';
  try {
    text = readFileSync(timesFile(file), 'utf8');
  } catch {
    // Nothing noted yet.
  }
  for (const line of text.split('\n')) {
    const [size, time] = line.split(' ').map(Number);
    if (size === undefined || time === undefined || !Number.isFinite(size) || !Number.isFinite(time)) continue;
    sizes.push(size);
    times.push(time);
  }
  return {
    at(offset) {
      const index = firstIndex(sizes, (size) => size > offset);
      return times[index] ?? fallback;
    },
    offsetSince(time) {
      const index = firstIndex(times, (at) => at >= time);
      if (index < times.length) return index === 0 ? 0 : sizes[index - 1]!;
      return fallback >= time ? (sizes.at(-1) ?? 0) : Number.MAX_SAFE_INTEGER;
    },
  };
}

function firstIndex(list: readonly number[], test: (value: number) => boolean): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(list[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
