// The log of every Meltemi process: one line an entry, in the form Istio's components use
// (time, level, scope, message), fields as key=value. Secrets are the caller's duty to leave out.
import type { Clock } from './clock.ts';

export type Level = 'debug' | 'info' | 'warn' | 'error' | 'none';
const RANK: Readonly<Record<Level, number>> = { debug: 0, info: 1, warn: 2, error: 3, none: 4 };

type Fields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** The same log under another scope name. */
  scope(name: string): Logger;
}

/** Where lines go and which are kept. `write` receives whole lines with their newline. */
export interface LogOptions {
  readonly level: Level;
  readonly clock: Clock;
  readonly write: (line: string) => void;
}

export function createLogger(scope: string, options: LogOptions): Logger {
  const emit = (level: Level, message: string, fields: Fields | undefined): void => {
    if (RANK[level] < RANK[options.level]) return;
    const time = new Date(options.clock.now()).toISOString();
    options.write(`${time}\t${level}\t${scope}\t${message}${renderFields(fields)}\n`);
  };
  return {
    debug: (message, fields) => emit('debug', message, fields),
    info: (message, fields) => emit('info', message, fields),
    warn: (message, fields) => emit('warn', message, fields),
    error: (message, fields) => emit('error', message, fields),
    scope: (name) => createLogger(name, options),
  };
}

function renderFields(fields: Fields | undefined): string {
  if (!fields) return '';
  let out = '';
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = String(value);
    out += ` ${key}=${/[\s"=]/.test(text) || text === '' ? JSON.stringify(text) : text}`;
  }
  return out;
}

/** Keeps nothing: for tests and tools that must stay silent. */
export const silentLog: Logger = createLogger('', {
  level: 'none',
  clock: { now: () => 0, after: () => () => {} },
  write: () => {},
});

/** What `error` says, in one line, without its stack. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
