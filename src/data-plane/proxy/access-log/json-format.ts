// JSON access log lines: a template whose strings hold command operators, compiled to the text between their values. Used by
// loggers and body formats.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { ConfigError, join } from '../config/fields.ts';
import { utf8Bytes } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { MAX_LOG_DEPTH } from '../limits.ts';
import { parseFormat } from './format.ts';
import type { Format, FormatDeps } from './types.ts';
import { jsonBytes, numberText, valueJson, valueText } from './values.ts';

/** undefined = it is left out. */
type Printer = (info: StreamInfo) => string | undefined;

interface JsonOptions {
  readonly omitEmpty: boolean;
  readonly deps: FormatDeps | undefined;
}

/** A line, in bytes. */
export function jsonFormat(
  template: JsonObject,
  omitEmpty: boolean,
  deps: FormatDeps | undefined,
  path: string,
): Format {
  const print = printer(template, { omitEmpty, deps }, 0, path);
  if (typeof print === 'string') return () => `${print}\n`;
  return (info) => `${print(info) ?? '{}'}\n`;
}

/** Text that never changes, or what prints it. */
function printer(template: JsonValue, options: JsonOptions, depth: number, path: string): string | Printer {
  if (depth > MAX_LOG_DEPTH) throw new ConfigError(path, `is nested deeper than ${MAX_LOG_DEPTH} levels`);
  if (typeof template === 'string') return text(template, options, path);
  if (typeof template === 'number') return numberText(template);
  if (template === null) return options.omitEmpty ? () => undefined : 'null';
  if (typeof template === 'boolean') return String(template);
  if (Array.isArray(template))
    return list(
      template.map((item, i) => printer(item, options, depth + 1, `${path}[${i}]`)),
      options,
    );
  // Envoy prints the fields of a structure in the order of their names.
  const names = Object.keys(template).sort();
  const printers = names.map((key) => printer(template[key]!, options, depth + 1, join(path, key)));
  return object(
    names.map((name) => `"${jsonBytes(utf8Bytes(name))}":`),
    printers,
    options,
  );
}

function text(template: string, { omitEmpty, deps }: JsonOptions, path: string): string | Printer {
  const parts = parseFormat(utf8Bytes(template), path, deps);
  const [only] = parts;
  if (parts.length === 1 && typeof only === 'function') {
    const none = omitEmpty ? undefined : 'null';
    return (info) => {
      const value = only(info);
      return value === undefined ? none : valueJson(value);
    };
  }
  const missing = omitEmpty ? '' : '-';
  const pieces = parts.map((part) => (typeof part === 'string' ? jsonBytes(part) : part));
  if (pieces.every((piece) => typeof piece === 'string')) return `"${pieces.join('')}"`;
  return (info) => {
    let out = '"';
    for (const piece of pieces) {
      if (typeof piece === 'string') {
        out += piece;
        continue;
      }
      const value = piece(info);
      out += value === undefined ? missing : jsonBytes(valueText(value));
    }
    return `${out}"`;
  };
}

function list(items: readonly (string | Printer)[], options: JsonOptions): string | Printer {
  if (items.every((item) => typeof item === 'string')) return `[${items.join(',')}]`;
  if (!options.omitEmpty) return sequence(['[', ...separated(items), ']']);
  return (info) => {
    let out = '';
    for (const item of items) {
      const value = typeof item === 'string' ? item : item(info);
      if (value !== undefined) out += out === '' ? value : `,${value}`;
    }
    return `[${out}]`;
  };
}

function object(
  keys: readonly string[],
  values: readonly (string | Printer)[],
  options: JsonOptions,
): string | Printer {
  if (!options.omitEmpty)
    return sequence(['{', ...values.flatMap((value, i) => [`${i > 0 ? ',' : ''}${keys[i]}`, value]), '}']);
  return (info) => {
    let out = '';
    for (let i = 0; i < keys.length; i++) {
      const value = values[i]!;
      const json = typeof value === 'string' ? value : value(info);
      if (json !== undefined) out += out === '' ? `${keys[i]}${json}` : `,${keys[i]}${json}`;
    }
    // A structure nothing is left of is left out as well.
    return out === '' ? undefined : `{${out}}`;
  };
}

const separated = (items: readonly (string | Printer)[]): (string | Printer)[] =>
  items.flatMap((item, i) => (i > 0 ? [',', item] : [item]));

/** Pieces one after the other; neighbours that never change are joined now. */
function sequence(pieces: readonly (string | Printer)[]): string | Printer {
  const joined: (string | Printer)[] = [];
  for (const piece of pieces) {
    const before = joined.at(-1);
    if (typeof piece === 'string' && typeof before === 'string') joined[joined.length - 1] = before + piece;
    else joined.push(piece);
  }
  if (joined.length === 1 && typeof joined[0] === 'string') return joined[0];
  return (info) => {
    let out = '';
    for (const piece of joined) out += typeof piece === 'string' ? piece : piece(info);
    return out;
  };
}
