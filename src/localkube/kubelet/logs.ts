// Reads container logs for `kubectl logs` and attach: tail, since, timestamps, following. Called by the backend.
import { watch } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Clock } from '../../base/runtime/clock.ts';
import type { LogRequest } from '../node-backend.ts';
import { type LogTimes, readLogTimes } from './log-keeper.ts';

export interface LogSource {
  readonly file: string;
  /** False once the container has ended and nothing more is written. */
  readonly live: () => boolean;
  /** Calls back when it ends; returns the unsubscriber. */
  readonly onEnd: (handler: () => void) => () => void;
}

const CHUNK = 64 * 1024;
/** A missed change notice is made up for after this. */
const RECHECK_MS = 1000;
/** A line longer than this is passed on in pieces. */
const MAX_LINE = 256 * 1024;
const NEWLINE = 10;

type Options = Pick<LogRequest, 'follow' | 'timestamps' | 'tailLines' | 'sinceSeconds' | 'sinceTime' | 'limitBytes'>;

export async function streamLog(
  source: LogSource,
  options: Options & { readonly fromOffset?: number },
  clock: Clock,
  write: (chunk: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  const handle = await open(source.file, 'r');
  try {
    const start = options.fromOffset ?? (await startOffset(handle, source.file, options, clock));
    const emit = createEmitter(source.file, options, clock, write);
    let offset = start;
    for (;;) {
      // Asked before reading, so that what was written just before the end is not missed.
      const live = source.live();
      offset = await readOn(handle, offset, emit, signal);
      if (signal.aborted || emit.full() || !options.follow) break;
      if (!live) break;
      await nextChange(source, clock, signal);
    }
    emit.end();
  } finally {
    await handle.close();
  }
}

async function readOn(handle: FileHandle, from: number, emit: Emitter, signal: AbortSignal): Promise<number> {
  let offset = from;
  const { size } = await handle.stat();
  // Rotated: it begins anew.
  if (size < offset) offset = 0;
  const buffer = Buffer.alloc(CHUNK);
  while (!signal.aborted && !emit.full()) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK, offset);
    if (bytesRead === 0) break;
    emit.data(Buffer.from(buffer.subarray(0, bytesRead)), offset);
    offset += bytesRead;
  }
  return offset;
}

interface Emitter {
  data(chunk: Buffer, offset: number): void;
  full(): boolean;
  end(): void;
}

function createEmitter(file: string, options: Options, clock: Clock, write: (chunk: Buffer) => void): Emitter {
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  let rest: Buffer = Buffer.alloc(0);
  let restOffset = 0;
  const put = (chunk: Buffer): void => {
    if (left <= 0) return;
    const part = chunk.length > left ? chunk.subarray(0, left) : chunk;
    left -= part.length;
    write(part);
  };
  const line = (times: LogTimes, text: Buffer, offset: number): void => {
    put(Buffer.concat([Buffer.from(`${new Date(times.at(offset)).toISOString().replace('Z', '000000Z')} `), text]));
  };
  return {
    data(chunk, offset) {
      if (!options.timestamps) return put(chunk);
      const times = readLogTimes(file, clock.now());
      let buffer = chunk;
      let at = offset;
      if (rest.length > 0 && restOffset + rest.length === offset) {
        buffer = Buffer.concat([rest, chunk]);
        at = restOffset;
      }
      let begin = 0;
      for (let end = buffer.indexOf(NEWLINE); end >= 0; end = buffer.indexOf(NEWLINE, begin)) {
        line(times, buffer.subarray(begin, end + 1), at + begin);
        begin = end + 1;
      }
      rest = buffer.subarray(begin);
      restOffset = at + begin;
      if (rest.length > MAX_LINE) this.end();
    },
    full: () => left <= 0,
    end() {
      if (rest.length === 0) return;
      line(readLogTimes(file, clock.now()), rest, restOffset);
      rest = Buffer.alloc(0);
    },
  };
}

async function startOffset(handle: FileHandle, file: string, options: Options, clock: Clock): Promise<number> {
  const { size, mtimeMs } = await handle.stat();
  const since = options.sinceTime
    ? Date.parse(options.sinceTime)
    : options.sinceSeconds !== undefined
      ? clock.now() - options.sinceSeconds * 1000
      : undefined;
  const bySince = since === undefined ? 0 : Math.min(size, readLogTimes(file, mtimeMs).offsetSince(since));
  if (options.tailLines === undefined) return bySince;
  return Math.max(bySince, await tailOffset(handle, size, options.tailLines));
}

/** Where the output begins that somebody who attaches now shall see. */
export async function attachOffset(file: string, tty: boolean): Promise<number> {
  const handle = await open(file, 'r');
  try {
    return await tailOffset(handle, (await handle.stat()).size, tty ? 1 : 0);
  } finally {
    await handle.close();
  }
}

/** Where the last `lines` lines begin. */
export async function tailOffset(handle: FileHandle, size: number, lines: number): Promise<number> {
  if (lines <= 0) return size;
  const buffer = Buffer.alloc(CHUNK);
  let found = 0;
  let end = size;
  while (end > 0) {
    const begin = Math.max(0, end - CHUNK);
    const { bytesRead } = await handle.read(buffer, 0, end - begin, begin);
    for (let i = bytesRead - 1; i >= 0; i--) {
      if (buffer[i] !== NEWLINE || begin + i === size - 1) continue;
      found += 1;
      if (found === lines) return begin + i + 1;
    }
    end = begin;
  }
  return 0;
}

function nextChange(source: LogSource, clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      watcher.close();
      off();
      cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const watcher = watch(source.file, done);
    watcher.on('error', done);
    const off = source.onEnd(done);
    const cancel = clock.after(RECHECK_MS, done);
    signal.addEventListener('abort', done, { once: true });
    if (signal.aborted || !source.live()) done();
  });
}
