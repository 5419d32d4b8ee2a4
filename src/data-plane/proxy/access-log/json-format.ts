// JSON access log lines: a template whose strings hold command operators. Used by loggers and body formats.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { join } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { compileJsonValue } from './format.ts';

type Printer = (info: StreamInfo) => JsonValue | undefined;

export function jsonFormat(
  template: JsonObject,
  omitEmpty: boolean,
  sorted: boolean,
  path: string,
): (info: StreamInfo) => string {
  const print = printer(template, omitEmpty, sorted, path);
  return (info) => `${JSON.stringify(print(info) ?? {})}\n`;
}

function printer(template: JsonValue, omitEmpty: boolean, sorted: boolean, path: string): Printer {
  if (typeof template === 'string') {
    const value = compileJsonValue(template, path);
    return (info) => value(info) ?? (omitEmpty ? undefined : null);
  }
  if (Array.isArray(template)) {
    const items = template.map((item, i) => printer(item, omitEmpty, sorted, `${path}[${i}]`));
    return (info) => items.map((item) => item(info)).filter((item) => item !== undefined);
  }
  if (typeof template === 'object' && template !== null) {
    const keys = sorted ? Object.keys(template).sort() : Object.keys(template);
    const fields = keys.map((key) => [key, printer(template[key]!, omitEmpty, sorted, join(path, key))] as const);
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
