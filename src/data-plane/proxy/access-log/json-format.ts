// JSON access log lines: a template whose strings hold command operators. Used by loggers and body formats.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { ConfigError, join } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { MAX_LOG_DEPTH } from '../limits.ts';
import { compileJsonValue } from './format.ts';
import type { FormatDeps } from './types.ts';

type Printer = (info: StreamInfo) => JsonValue | undefined;

interface JsonOptions {
  readonly omitEmpty: boolean;
  readonly deps: FormatDeps | undefined;
}

export function jsonFormat(
  template: JsonObject,
  omitEmpty: boolean,
  deps: FormatDeps | undefined,
  path: string,
): (info: StreamInfo) => string {
  const print = printer(template, { omitEmpty, deps }, 0, path);
  return (info) => `${JSON.stringify(print(info) ?? {})}\n`;
}

function printer(template: JsonValue, options: JsonOptions, depth: number, path: string): Printer {
  if (depth > MAX_LOG_DEPTH) throw new ConfigError(path, `is nested deeper than ${MAX_LOG_DEPTH} levels`);
  if (typeof template === 'string') {
    const value = compileJsonValue(template, path, options.omitEmpty ? '' : '-', options.deps);
    return (info) => value(info) ?? (options.omitEmpty ? undefined : null);
  }
  if (Array.isArray(template)) {
    const items = template.map((item, i) => printer(item, options, depth + 1, `${path}[${i}]`));
    return (info) => items.map((item) => item(info)).filter((item) => item !== undefined);
  }
  if (typeof template === 'object' && template !== null) {
    // Envoy prints the fields of a structure in the order of their names.
    const fields = Object.keys(template)
      .sort()
      .map((key) => [key, printer(template[key]!, options, depth + 1, join(path, key))] as const);
    return (info) => {
      const out: Record<string, JsonValue> = {};
      let any = !options.omitEmpty;
      for (const [key, print] of fields) {
        const value = print(info);
        if (value === undefined) continue;
        out[key] = value;
        any = true;
      }
      return any ? out : undefined;
    };
  }
  return () => template;
}
