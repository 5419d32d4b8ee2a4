// The process's own log as Envoy keeps it: spdlog patterns, one level for all components and levels of single ones.
// Made by wiring.ts; changed by /logging.
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';

/** Envoy's names of levels, in order. */
export const LEVELS = ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off'] as const;
export type LogLevel = (typeof LEVELS)[number];

/** Loggers of Envoy 1.40: the names that --component-log-level and /logging know. Our parts log under some of them. */
export const LOGGERS: readonly string[] =
  'a2a admin ai_protocol_manager alternate_protocols_cache aws assert backtrace basic_auth cache_filter client config connection conn_handler compression credential_injector decompression dns dubbo envoy_bug ext_authz ext_proc rocketmq file filter forward_proxy geolocation grpc happy_eyeballs hc health_checker http http2 hystrix init io jwt json_rpc kafka key_value_store lua local_rate_limit main matcher mcp misc mongo multi_connection notification oauth2 quic quic_stream pool rate_limit_quota rbac rds redis router runtime stats secret sse tap testing thrift tracing upstream udp wasm websocket golang stats_sinks dynamic_modules ip_tagging'.split(
    ' ',
  );

export interface LogControl {
  /** The level of everything that has none of its own. */
  current(): string;
  /** Sets all loggers. False when the level is unknown. */
  set(level: string): boolean;
  /** Name and level of every logger. */
  all(): readonly (readonly [string, string])[];
  /** False when the logger or the level is unknown. */
  setOne(logger: string, level: string): boolean;
}

/** Envoy also takes `warn`. */
export function levelOf(text: string): LogLevel | undefined {
  if (text === 'warn') return 'warning';
  return LEVELS.find((level) => level === text);
}

/** `a:debug,b:trace` as pairs, or Envoy's message. */
export function parseComponentLevels(text: string): ReadonlyMap<string, LogLevel> | string {
  const out = new Map<string, LogLevel>();
  if (text === '') return out;
  for (const part of text.split(',')) {
    const [name = '', value = '', ...more] = part.split(':');
    if (value === '' || more.length > 0) return `error: component log level not correctly specified '${part}'`;
    const level = levelOf(value);
    if (!level) return `error: invalid log level specified '${value}'`;
    if (!LOGGERS.includes(name)) return `error: invalid component specified '${name}'`;
    out.set(name, level);
  }
  return out;
}

/** What ends the process is logged one level above errors. */
export interface ProcessLogger extends Logger {
  critical(message: string): void;
}

export interface ProcessLogOptions {
  readonly level: string;
  readonly components: ReadonlyMap<string, LogLevel>;
  readonly format: string;
  readonly escaped: boolean;
  readonly clock: Clock;
  readonly pid: number;
  /** Number of the thread, shown by %t. */
  readonly thread: number;
  /** `last`: the process may end with it, so that it must be there when this returns. */
  readonly write: (line: string, last: boolean) => void;
}

export function createProcessLog(options: ProcessLogOptions): { log: ProcessLogger; control: LogControl } {
  let common: LogLevel = levelOf(options.level) ?? 'info';
  const single = new Map<string, LogLevel>(options.components);
  const render = compileFormat(options.format, options);
  const wanted = (scope: string, level: LogLevel): boolean =>
    LEVELS.indexOf(level) >= LEVELS.indexOf(single.get(scope) ?? common);
  const make = (scope: string): ProcessLogger => {
    const at =
      (level: LogLevel): Logger['info'] =>
      (message, fields) => {
        if (!wanted(scope, level)) return;
        let text = message;
        if (fields)
          for (const [key, value] of Object.entries(fields)) {
            if (value === undefined) continue;
            const shown = String(value);
            text += ` ${key}=${/[\s"=]/.test(shown) || shown === '' ? JSON.stringify(shown) : shown}`;
          }
        options.write(render(scope, level, options.escaped ? escapeC(text) : text), level === 'critical');
      };
    return {
      debug: at('debug'),
      info: at('info'),
      warn: at('warning'),
      error: at('error'),
      critical: at('critical'),
      scope: make,
    };
  };
  const control: LogControl = {
    current: () => common,
    set(text) {
      const level = levelOf(text);
      if (!level) return false;
      common = level;
      single.clear();
      return true;
    },
    all: () => LOGGERS.map((name) => [name, single.get(name) ?? common] as const),
    setOne(logger, text) {
      const level = levelOf(text);
      if (!level || !LOGGERS.includes(logger)) return false;
      single.set(logger, level);
      return true;
    },
  };
  return { log: make('main'), control };
}

const escapeC = (text: string): string =>
  JSON.stringify(text).slice(1, -1).replaceAll('\\u001b', '\\x1b').replaceAll('\\u0000', '\\0');

type Render = (scope: string, level: LogLevel, message: string) => string;
const SHORT: Readonly<Record<LogLevel, string>> = {
  trace: 'T',
  debug: 'D',
  info: 'I',
  warning: 'W',
  error: 'E',
  critical: 'C',
  off: 'O',
};
const pad = (value: number, width = 2): string => String(value).padStart(width, '0');

/** A pattern of spdlog as a function. Parts that name a source file are empty: there is none here. */
export function compileFormat(
  format: string,
  { clock, pid, thread }: Pick<ProcessLogOptions, 'clock' | 'pid' | 'thread'>,
): Render {
  const parts: ((date: Date, scope: string, level: LogLevel, message: string) => string)[] = [];
  let literal = '';
  const flush = (): void => {
    const fixed = literal;
    if (fixed !== '') parts.push(() => fixed);
    literal = '';
  };
  for (let i = 0; i < format.length; i++) {
    const char = format[i]!;
    if (char !== '%' || i + 1 >= format.length) {
      literal += char;
      continue;
    }
    i += 1;
    const made = conversion(format[i]!, pid, thread);
    if (typeof made === 'string') literal += made;
    else {
      flush();
      parts.push(made);
    }
  }
  flush();
  return (scope, level, message) => {
    const date = new Date(clock.now());
    let line = '';
    for (const part of parts) line += part(date, scope, level, message);
    return `${line}\n`;
  };
}

function conversion(
  letter: string,
  pid: number,
  thread: number,
): string | ((date: Date, scope: string, level: LogLevel, message: string) => string) {
  const time = (date: Date): string => `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  const at = (read: (date: Date) => string) => (date: Date) => read(date);
  switch (letter) {
    case 'Y':
      return at((date) => String(date.getFullYear()));
    case 'm':
      return at((date) => pad(date.getMonth() + 1));
    case 'd':
      return at((date) => pad(date.getDate()));
    case 'H':
      return at((date) => pad(date.getHours()));
    case 'M':
      return at((date) => pad(date.getMinutes()));
    case 'S':
      return at((date) => pad(date.getSeconds()));
    case 'T':
    case 'X':
      return at(time);
    case 'e':
      return at((date) => pad(date.getMilliseconds(), 3));
    case 'f':
      return at((date) => pad(date.getMilliseconds() * 1000, 6));
    case 'F':
      return at((date) => pad(date.getMilliseconds() * 1_000_000, 9));
    case 'E':
      return at((date) => String(Math.floor(date.getTime() / 1000)));
    case 't':
      return String(thread);
    case 'P':
      return String(pid);
    case 'l':
      return (_date, _scope, level) => level;
    case 'L':
      return (_date, _scope, level) => SHORT[level];
    case 'n':
      return (_date, scope) => scope;
    case 'v':
      return (_date, _scope, _level, message) => message;
    case '_':
      return (_date, _scope, _level, message) => escapeC(message);
    case 'j':
      return (_date, _scope, _level, message) => JSON.stringify(message).slice(1, -1);
    case '%':
      return '%';
    // Source file, line and function, and the colours of a terminal.
    case 'g':
    case 's':
    case '#':
    case '@':
    case '!':
    case '^':
    case '$':
      return '';
    default:
      return `%${letter}`;
  }
}
