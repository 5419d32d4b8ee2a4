// Access logs: Istio's file logger, text or JSON, buffered, flushed by time or size. Built by listeners, HCM and tcp_proxy.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import {
  type AccessLog,
  type AccessLogFilter,
  AccessLogFilterSchema,
  AccessLogSchema,
  type ComparisonFilter,
  ComparisonFilter_Op,
} from '#proto/envoy/config/accesslog/v3/accesslog_pb.js';
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from '#proto/envoy/config/core/v3/substitution_format_string_pb.js';
import { type FileAccessLog, FileAccessLogSchema } from '#proto/envoy/extensions/access_loggers/file/v3/file_pb.js';
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from '#proto/envoy/extensions/access_loggers/stream/v3/stream_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { FLAG, type StreamInfo } from '../http/stream-info.ts';
import { MAX_LOG_BACKLOG_BYTES } from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { StatsStore } from '../stats/stats.ts';
import { compileFormat, compileJsonValue, type Operator } from './format.ts';

/** Envoy's default when a file logger has no format. */
const DEFAULT_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

export type LogEntry = (info: StreamInfo) => void;

/** Where lines go. `append` calls back when the bytes are written or lost. */
export interface LogFiles {
  append(path: string, bytes: string, done: (error: Error | undefined) => void): void;
}

export interface LogDeps {
  readonly files: LogFiles;
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly flushMs: number;
  /** Size at which a file is written at once. */
  readonly flushBytes: number;
  readonly runtime: RuntimeView;
}

/** One file, shared by all loggers that name it. */
class LogFile {
  readonly #path: string;
  readonly #deps: LogDeps;
  #waiting = '';
  #writing = false;
  #timer: (() => void) | undefined;

  constructor(path: string, deps: LogDeps) {
    this.#path = path;
    this.#deps = deps;
  }

  write(line: string): void {
    const { stats } = this.#deps;
    if (this.#waiting.length + line.length > MAX_LOG_BACKLOG_BYTES) {
      stats.counter('filesystem.write_dropped').value += 1;
      return;
    }
    this.#waiting += line;
    stats.counter('filesystem.write_buffered').value += 1;
    if (this.#waiting.length >= this.#deps.flushBytes) this.flush();
    else this.#timer ??= this.#deps.clock.after(this.#deps.flushMs, () => this.flush());
  }

  flush(): void {
    this.#timer?.();
    this.#timer = undefined;
    if (this.#writing || this.#waiting === '') return;
    const bytes = this.#waiting;
    this.#waiting = '';
    this.#writing = true;
    const { stats } = this.#deps;
    this.#deps.files.append(this.#path, bytes, (error) => {
      this.#writing = false;
      stats.counter(error ? 'filesystem.write_failed' : 'filesystem.write_completed').value += 1;
      if (this.#waiting !== '') this.#timer ??= this.#deps.clock.after(this.#deps.flushMs, () => this.flush());
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
    return (line) => file.write(line);
  }

  /** At exit. */
  flush(): void {
    for (const file of this.#files.values()) file.flush();
  }

  #one(message: AccessLog, path: string): LogEntry {
    only(AccessLogSchema, message, path, ['name', 'filter', 'typed_config']);
    const any = message.configType.case === 'typedConfig' ? message.configType.value : undefined;
    const sink = buildExtension(LOGGERS, any, message.name, this, join(path, 'typed_config'));
    if (!message.filter) return sink;
    const keep = compileFilter(message.filter, join(path, 'filter'));
    return (info) => {
      if (keep(info)) sink(info);
    };
  }

  toFile(path: string, line: (info: StreamInfo) => string): LogEntry {
    if (path === '/dev/null') return () => {};
    const file = this.#file(path);
    return (info) => file.write(line(info));
  }

  #file(path: string): LogFile {
    let file = this.#files.get(path);
    if (!file) {
      file = new LogFile(path, this.#deps);
      this.#files.set(path, file);
    }
    return file;
  }
}

const LOGGERS: readonly Extension<AccessLogManager, LogEntry>[] = [
  extension(FileAccessLogSchema, (message, manager, path) => {
    if (message.path === '') throw new ConfigError(join(path, 'path'), 'value is required');
    return manager.toFile(message.path, fileFormat(message, path));
  }),
  extension(StdoutAccessLogSchema, (message, manager, path) => {
    const format = message.accessLogFormat;
    return manager.toFile(
      '/dev/stdout',
      format.case ? lineFormat(format.value, path) : compileFormat(DEFAULT_FORMAT, path),
    );
  }),
  extension(StderrAccessLogSchema, (message, manager, path) => {
    const format = message.accessLogFormat;
    return manager.toFile(
      '/dev/stderr',
      format.case ? lineFormat(format.value, path) : compileFormat(DEFAULT_FORMAT, path),
    );
  }),
];

function fileFormat(message: FileAccessLog, path: string): (info: StreamInfo) => string {
  const format = message.accessLogFormat;
  switch (format.case) {
    case 'format':
      return compileFormat(format.value || DEFAULT_FORMAT, path);
    case 'jsonFormat':
    case 'typedJsonFormat':
      return jsonFormat(format.value, false, path);
    case 'logFormat':
      return lineFormat(format.value, join(path, 'log_format'));
    default:
      return compileFormat(DEFAULT_FORMAT, path);
  }
}

function lineFormat(message: SubstitutionFormatString, path: string): (info: StreamInfo) => string {
  only(SubstitutionFormatStringSchema, message, path, [
    'text_format',
    'json_format',
    'text_format_source',
    'omit_empty_values',
    'json_format_options',
  ]);
  const { format } = message;
  if (format.case === 'jsonFormat') return jsonFormat(format.value, message.omitEmptyValues, path);
  const missing = message.omitEmptyValues ? '' : '-';
  if (format.case === 'textFormat') return compileFormat(format.value, path, missing);
  const source = format.case === 'textFormatSource' ? format.value.specifier : undefined;
  if (source?.case === 'inlineString') return compileFormat(source.value, path, missing);
  throw new ConfigError(path, 'a text_format, json_format or text_format_source.inline_string is required');
}

type JsonPrinter = (info: StreamInfo) => JsonValue | undefined;

function jsonFormat(template: JsonObject, omitEmpty: boolean, path: string): (info: StreamInfo) => string {
  const printer = jsonPrinter(template, omitEmpty, path);
  return (info) => `${JSON.stringify(printer(info) ?? {})}\n`;
}

function jsonPrinter(template: JsonValue, omitEmpty: boolean, path: string): JsonPrinter {
  if (typeof template === 'string') {
    const value: Operator = compileJsonValue(template, path);
    return (info) => value(info) ?? (omitEmpty ? undefined : null);
  }
  if (Array.isArray(template)) {
    const items = template.map((item, i) => jsonPrinter(item, omitEmpty, `${path}[${i}]`));
    return (info) => items.map((item) => item(info) ?? null);
  }
  if (typeof template === 'object' && template !== null) {
    const fields = Object.entries(template).map(
      ([key, value]) => [key, jsonPrinter(value, omitEmpty, join(path, key))] as const,
    );
    return (info) => {
      const out: Record<string, JsonValue> = {};
      for (const [key, print] of fields) {
        const value = print(info);
        if (value !== undefined) out[key] = value;
      }
      return out;
    };
  }
  return () => template;
}

type Keep = (info: StreamInfo) => boolean;

function compileFilter(message: AccessLogFilter, path: string): Keep {
  only(AccessLogFilterSchema, message, path, [
    'status_code_filter',
    'duration_filter',
    'and_filter',
    'or_filter',
    'response_flag_filter',
  ]);
  const spec = message.filterSpecifier;
  switch (spec.case) {
    case 'statusCodeFilter':
      return comparison(spec.value.comparison, (info) => info.responseCode, path);
    case 'durationFilter':
      return comparison(spec.value.comparison, (info) => info.duration, path);
    case 'andFilter': {
      const all = spec.value.filters.map((entry, i) => compileFilter(entry, join(path, `and_filter.filters[${i}]`)));
      return (info) => all.every((keep) => keep(info));
    }
    case 'orFilter': {
      const any = spec.value.filters.map((entry, i) => compileFilter(entry, join(path, `or_filter.filters[${i}]`)));
      return (info) => any.some((keep) => keep(info));
    }
    case 'responseFlagFilter': {
      const wanted = spec.value.flags;
      if (wanted.length === 0) return (info) => info.flags !== 0;
      let mask = 0;
      for (const name of wanted) mask |= (FLAG as Readonly<Record<string, number>>)[name] ?? 0;
      return (info) => (info.flags & mask) !== 0;
    }
    default:
      throw new ConfigError(path, `access log filter '${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

function comparison(message: ComparisonFilter | undefined, read: (info: StreamInfo) => number, path: string): Keep {
  if (!message) throw new ConfigError(join(path, 'comparison'), 'value is required');
  const limit = message.value?.defaultValue ?? 0;
  switch (message.op) {
    case ComparisonFilter_Op.EQ:
      return (info) => read(info) === limit;
    case ComparisonFilter_Op.GE:
      return (info) => read(info) >= limit;
    case ComparisonFilter_Op.LE:
      return (info) => read(info) <= limit;
  }
}
