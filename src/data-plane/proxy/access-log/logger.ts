// Access logs: Istio's file logger, text or JSON, buffered, flushed by time or size. Built by listeners, HCM and tcp_proxy.
import { type AccessLog, AccessLogSchema } from '#proto/envoy/config/accesslog/v3/accesslog_pb.js';
import type { SubstitutionFormatString } from '#proto/envoy/config/core/v3/substitution_format_string_pb.js';
import { type FileAccessLog, FileAccessLogSchema } from '#proto/envoy/extensions/access_loggers/file/v3/file_pb.js';
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from '#proto/envoy/extensions/access_loggers/stream/v3/stream_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { LOG_BLOCK_BYTES, MAX_LOG_BACKLOG_BYTES, MAX_LOG_LINE_BYTES } from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { Counter, StatsStore } from '../stats/stats.ts';
import { systemReason } from '../system-words.ts';
import type { DataReader } from '../transport-socket/secrets.ts';
import { compileLine, type FormatWorld } from './body-format.ts';
import { compileFilter } from './filters.ts';
import { compileFormat, type FormatDeps } from './format.ts';
import { jsonFormat } from './json-format.ts';

/** Envoy's default when a file logger has no format. */
const DEFAULT_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

export type LogEntry = (info: StreamInfo) => void;

/** Where lines go. */
export interface LogFiles {
  /** Throws the system's error when nothing can be written there. */
  open(path: string): void;
  /** Calls back when the bytes are written or lost; they must not change before. */
  append(path: string, bytes: Buffer, done: (error: Error | undefined) => void): void;
  /** Files that were moved away are opened anew by name (/reopen_logs). */
  reopen(): void;
}

export interface LogDeps {
  readonly files: LogFiles;
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly flushMs: number;
  /** Size at which a file is written at once. */
  readonly flushBytes: number;
  readonly runtime: RuntimeView;
  readonly random: () => number;
  readonly reader: DataReader;
  readonly format: FormatDeps;
}

/** One file, shared by all loggers that name it. Lines are encoded at once: joined strings cost more to write than bytes. */
class LogFile {
  readonly #path: string;
  readonly #deps: LogDeps;
  readonly #buffered: Counter;
  readonly #dropped: Counter;
  #block: Buffer | undefined;
  #used = 0;
  /** Full blocks that wait for the one being written. */
  readonly #full: Buffer[] = [];
  #writing = false;
  #timer: (() => void) | undefined;
  readonly #written: (() => void)[] = [];

  constructor(path: string, deps: LogDeps) {
    this.#path = path;
    this.#deps = deps;
    this.#buffered = deps.stats.counter('filesystem.write_buffered');
    this.#dropped = deps.stats.counter('filesystem.write_dropped');
  }

  /** `line` is bytes, a character each. */
  write(line: string): void {
    if (!this.#room(line.length)) {
      this.#dropped.value += 1;
      return;
    }
    this.#used += this.#block!.write(line, this.#used, 'latin1');
    this.#buffered.value += 1;
    if (this.#used >= this.#deps.flushBytes) this.flush();
    else this.#timer ??= this.#deps.clock.after(this.#deps.flushMs, () => this.flush());
  }

  /** Resolves when nothing waits for the disk. */
  async settled(): Promise<void> {
    while (this.#writing || this.#used > 0 || this.#full.length > 0) {
      this.flush();
      if (this.#writing) await new Promise<void>((resolve) => this.#written.push(resolve));
    }
  }

  /** Makes room for `size` bytes; false when the disk is too far behind. */
  #room(size: number): boolean {
    if (this.#block && this.#used + size <= this.#block.length) return true;
    if (size > MAX_LOG_LINE_BYTES || this.#full.length * LOG_BLOCK_BYTES >= MAX_LOG_BACKLOG_BYTES) return false;
    this.#seal();
    this.#block = Buffer.allocUnsafeSlow(Math.max(LOG_BLOCK_BYTES, size));
    return true;
  }

  #seal(): void {
    if (this.#block && this.#used > 0) this.#full.push(this.#block.subarray(0, this.#used));
    this.#block = undefined;
    this.#used = 0;
  }

  flush(): void {
    this.#timer?.();
    this.#timer = undefined;
    if (this.#writing) return;
    this.#seal();
    this.#next();
  }

  #next(): void {
    const bytes = this.#full.shift();
    if (!bytes) return;
    this.#writing = true;
    this.#deps.files.append(this.#path, bytes, (error) => {
      this.#writing = false;
      for (const run of this.#written.splice(0)) run();
      this.#deps.stats.counter(error ? 'filesystem.write_failed' : 'filesystem.write_completed').value += 1;
      if (this.#full.length > 0) this.#next();
      else if (this.#used > 0) this.#timer ??= this.#deps.clock.after(this.#deps.flushMs, () => this.flush());
    });
  }
}

export class AccessLogManager {
  readonly #deps: LogDeps;
  readonly #files = new Map<string, LogFile>();

  constructor(deps: LogDeps) {
    this.#deps = deps;
  }

  build(messages: readonly AccessLog[], path: string): LogEntry | undefined {
    const entries = messages.map((message, i) => this.#one(message, join(path, `access_log[${i}]`)));
    if (entries.length === 0) return undefined;
    if (entries.length === 1) return entries[0];
    return (info) => {
      for (const entry of entries) entry(info);
    };
  }

  /** Writes lines of another kind to a file: event logs of health checks and outlier detection. */
  writer(path: string): (line: string) => void {
    const file = this.#file(path);
    return (line) => file.write(utf8Bytes(line));
  }

  /** At exit: resolves when every line is written, or lost. */
  async settled(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.settled()));
  }

  flush(): void {
    for (const file of this.#files.values()) file.flush();
  }

  reopen(): void {
    this.flush();
    this.#deps.files.reopen();
  }

  #one(message: AccessLog, path: string): LogEntry {
    only(AccessLogSchema, message, path, ['name', 'filter', 'typed_config']);
    const any = message.configType.case === 'typedConfig' ? message.configType.value : undefined;
    const sink = buildExtension(LOGGERS, any, message.name, this, join(path, 'typed_config'));
    if (!message.filter) return sink;
    const keep = compileFilter(message.filter, this.#deps, join(path, 'filter'));
    return (info) => {
      if (keep(info)) sink(info);
    };
  }

  /** What formats need. */
  get world(): FormatWorld {
    return this.#deps;
  }

  toFile(path: string, line: (info: StreamInfo) => string): LogEntry {
    if (path === '/dev/null') return () => {};
    const file = this.#file(path);
    return (info) => file.write(line(info));
  }

  /** What cannot be written is refused when it is configured, and not found out by lines that are lost. */
  #open(path: string): void {
    try {
      this.#deps.files.open(path);
    } catch (error) {
      throw new ConfigError('', `unable to open file '${path}': ${systemReason(error)}`);
    }
  }

  #file(path: string): LogFile {
    let file = this.#files.get(path);
    if (!file) {
      this.#open(path);
      file = new LogFile(path, this.#deps);
      this.#files.set(path, file);
    }
    return file;
  }
}

const LOGGERS: readonly Extension<AccessLogManager, LogEntry>[] = [
  extension(FileAccessLogSchema, (message, manager, path) => {
    if (message.path === '') throw new ConfigError(join(path, 'path'), 'value is required');
    return manager.toFile(message.path, fileFormat(message, manager.world, path));
  }),
  extension(StdoutAccessLogSchema, (message, manager, path) => {
    return manager.toFile(
      '/dev/stdout',
      streamFormat(message.accessLogFormat.value, manager.world, join(path, 'log_format')),
    );
  }),
  extension(StderrAccessLogSchema, (message, manager, path) => {
    return manager.toFile(
      '/dev/stderr',
      streamFormat(message.accessLogFormat.value, manager.world, join(path, 'log_format')),
    );
  }),
];

function streamFormat(
  message: SubstitutionFormatString | undefined,
  world: FormatWorld,
  path: string,
): (info: StreamInfo) => string {
  return message ? compileLine(message, world, path) : compileFormat(DEFAULT_FORMAT, path);
}

function fileFormat(message: FileAccessLog, world: FormatWorld, path: string): (info: StreamInfo) => string {
  const format = message.accessLogFormat;
  switch (format.case) {
    case 'format':
      return compileFormat(utf8Bytes(format.value) || DEFAULT_FORMAT, join(path, 'format'), '-', world.format);
    case 'jsonFormat':
    case 'typedJsonFormat':
      return jsonFormat(format.value, false, world.format, join(path, 'json_format'));
    case 'logFormat':
      return compileLine(format.value, world, join(path, 'log_format'));
    default:
      return compileFormat(DEFAULT_FORMAT, path);
  }
}
