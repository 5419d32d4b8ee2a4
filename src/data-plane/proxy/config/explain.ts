// Why a JSON (or YAML) configuration is not a message: the first mistake by path, in Envoy's words. Called when reading it
// has failed, so its time does not matter.
import type { DescEnum, DescField, DescMessage, JsonValue, Registry } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import {
  AnySchema,
  DurationSchema,
  isWrapperDesc,
  ListValueSchema,
  StructSchema,
  TimestampSchema,
  ValueSchema,
} from '@bufbuild/protobuf/wkt';
import { nearest } from '../../../base/nearest.ts';

/** `kind` unknown: a field or enum value that the message does not have. */
export interface Mistake {
  readonly kind: 'unknown' | 'invalid';
  readonly path: string;
  /** Where it stands, when that is deeper than the path Envoy names. */
  readonly at?: string;
  readonly type: string;
  readonly reason: string;
  /** Goes behind Envoy's text: what was probably meant. */
  readonly hint?: string;
}

/** Undefined when nothing was found. */
export function explain(
  schema: DescMessage,
  json: JsonValue,
  registry: Registry,
  allowUnknown = false,
): Mistake | undefined {
  return message(schema, json, '', { registry, allowUnknown });
}

interface Context {
  readonly registry: Registry;
  readonly allowUnknown: boolean;
}

function message(schema: DescMessage, json: JsonValue, path: string, context: Context): Mistake | undefined {
  const type = path === '' ? '' : `message ${schema.typeName}`;
  const invalid = (reason: string): Mistake => ({ kind: 'invalid', path, type, reason });
  switch (schema.typeName) {
    case StructSchema.typeName:
      return isObject(json) ? undefined : invalid(unexpected(json, '{'));
    case ListValueSchema.typeName:
      return Array.isArray(json) ? undefined : invalid(unexpected(json, '['));
    case ValueSchema.typeName:
      return undefined;
    case DurationSchema.typeName:
      return duration(json, invalid);
    case TimestampSchema.typeName:
      return typeof json === 'string' && !Number.isNaN(Date.parse(json)) ? undefined : invalid('invalid timestamp');
    case AnySchema.typeName:
      return anyMessage(json, path, context, invalid);
  }
  if (isWrapperDesc(schema)) return scalar(schema.fields[0]!.scalar!, json, path);
  if (!isObject(json)) return invalid(unexpected(json, '{'));
  const oneofs = new Map<string, string>();
  for (const [key, value] of Object.entries(json)) {
    const field = schema.fields.find((each) => each.name === key || each.jsonName === key);
    if (!field && context.allowUnknown) continue;
    if (!field)
      return {
        kind: 'unknown',
        path,
        at: inside(path, key),
        type,
        reason: `no such field: '${key}'`,
        hint: meant(key, schema.fields),
      };
    if (value === null) continue;
    if (field.oneof && !field.oneof.fields.every((each) => each.proto.proto3Optional)) {
      const other = oneofs.get(field.oneof.name);
      if (other !== undefined) return invalid(`'${field.oneof.name}' is already set: '${other}' and '${field.name}'`);
      oneofs.set(field.oneof.name, field.name);
    }
    const found = fieldMistake(field, value, inside(path, field.name), context);
    if (found) return found;
  }
  return undefined;
}

const inside = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

function meant(word: string, known: readonly { readonly name: string }[]): string {
  const near = nearest(
    word,
    known.map(({ name }) => name),
  );
  return near === undefined ? '' : `; did you mean '${near}'?`;
}

function fieldMistake(field: DescField, json: JsonValue, path: string, context: Context): Mistake | undefined {
  const one = (kind: 'enum' | 'message' | 'scalar', value: JsonValue, at: string): Mistake | undefined => {
    if (kind === 'message') return message(field.message!, value, at, context);
    if (kind === 'enum')
      return context.allowUnknown && typeof value === 'string' ? undefined : enumMistake(field.enum!, value, at);
    return scalar(field.scalar!, value, at);
  };
  if (field.fieldKind === 'list') {
    if (!Array.isArray(json)) return { kind: 'invalid', path, type: typeOf(field), reason: unexpected(json, '[') };
    for (const [i, item] of json.entries()) {
      const found = one(field.listKind, item, `${path}[${i}]`);
      if (found) return found;
    }
    return undefined;
  }
  if (field.fieldKind === 'map') {
    if (!isObject(json)) return { kind: 'invalid', path, type: '', reason: unexpected(json, '{') };
    for (const [key, value] of Object.entries(json)) {
      const found = one(field.mapKind, value, `${path}["${key}"]`);
      if (found) return found;
    }
    return undefined;
  }
  return one(field.fieldKind, json, path);
}

function anyMessage(
  json: JsonValue,
  path: string,
  context: Context,
  invalid: (reason: string) => Mistake,
): Mistake | undefined {
  if (!isObject(json)) return invalid(unexpected(json, '{'));
  const { '@type': url, ...rest } = json;
  if (url === undefined) return invalid('missing @type field');
  if (typeof url !== 'string') return invalid(`could not find @type '${JSON.stringify(url)}'`);
  const name = url.slice(url.lastIndexOf('/') + 1);
  const schema = context.registry.getMessage(name);
  if (!schema)
    return { kind: 'invalid', path, type: '', reason: `could not find @type '${url}'`, hint: guess(name, context) };
  const at = `${path}.<any>`;
  if (isWrapperDesc(schema) || schema.typeName === DurationSchema.typeName || schema.typeName === StructSchema.typeName)
    return message(schema, rest.value ?? {}, at, context);
  return message(schema, rest, at, context);
}

/** Letters that may be wrong in the name of a type; more is another type. */
const MAX_TYPE_MISTAKES = 3;

/** What was meant by a type nobody knows here, or that the type is none of this proxy's. */
function guess(name: string, { registry }: Context): string {
  const names = [...registry].filter((desc) => desc.kind === 'message').map((desc) => desc.typeName);
  const near = nearest(name, names, MAX_TYPE_MISTAKES);
  return near === undefined ? '; this proxy has no such type' : `; did you mean '${near}'?`;
}

function duration(json: JsonValue, invalid: (reason: string) => Mistake): Mistake | undefined {
  if (typeof json !== 'string') {
    const hint = typeof json === 'number' ? `; a duration is written as "${json}s"` : '';
    return { ...invalid(unexpected(json, '"')), hint };
  }
  if (!/^-?\d/.test(json)) return invalid('duration must start with an integer');
  if (!/^-?\d+(?:\.\d{1,9})?s$/.test(json)) return invalid("duration must end with a single 's'");
  return undefined;
}

function enumMistake(desc: DescEnum, json: JsonValue, path: string): Mistake | undefined {
  if (typeof json === 'number') return undefined;
  if (typeof json === 'string' && desc.values.some((value) => value.name === json)) return undefined;
  if (typeof json === 'string') {
    return { kind: 'unknown', path, type: '', reason: `unknown enum value: '${json}'`, hint: meant(json, desc.values) };
  }
  return { kind: 'invalid', path, type: `enum ${desc.typeName}`, reason: unexpected(json, '"') };
}

const NUMBERS: ReadonlySet<ScalarType> = new Set([
  ScalarType.DOUBLE,
  ScalarType.FLOAT,
  ScalarType.INT32,
  ScalarType.INT64,
  ScalarType.UINT32,
  ScalarType.UINT64,
  ScalarType.FIXED32,
  ScalarType.FIXED64,
  ScalarType.SINT32,
  ScalarType.SINT64,
  ScalarType.SFIXED32,
  ScalarType.SFIXED64,
]);

function scalar(type: ScalarType, json: JsonValue, path: string): Mistake | undefined {
  const named = (ScalarType[type] ?? '').toLowerCase();
  const invalid = (reason: string): Mistake => ({ kind: 'invalid', path, type: named, reason });
  if (type === ScalarType.STRING || type === ScalarType.BYTES)
    return typeof json === 'string' ? undefined : { ...invalid(unexpected(json, '"')), hint: quotes(json) };
  if (type === ScalarType.BOOL) return typeof json === 'boolean' ? undefined : invalid(unexpected(json, 'true'));
  if (!NUMBERS.has(type)) return undefined;
  const value = typeof json === 'string' ? Number(json) : json;
  if (typeof value !== 'number' || Number.isNaN(value)) return invalid('not a number');
  const floating = type === ScalarType.DOUBLE || type === ScalarType.FLOAT;
  if (!floating && !Number.isInteger(value)) return invalid('not an integer');
  const unsigned = named.startsWith('u') || named.startsWith('fixed');
  if (unsigned && value < 0) return invalid('integer out of range');
  if (named.endsWith('32') && (value > (unsigned ? 2 ** 32 - 1 : 2 ** 31 - 1) || value < -(2 ** 31)))
    return invalid('integer out of range');
  return undefined;
}

/** What looks like a number or a truth value to YAML is text only in quotes. */
const quotes = (json: JsonValue): string =>
  typeof json === 'number' || typeof json === 'boolean' ? '; put it in quotes' : '';

function typeOf(field: DescField): string {
  if (field.message) return `message ${field.message.typeName}`;
  if (field.enum) return `enum ${field.enum.typeName}`;
  return field.scalar === undefined ? '' : (ScalarType[field.scalar] ?? '').toLowerCase();
}

const isObject = (json: JsonValue): json is { [key: string]: JsonValue } =>
  typeof json === 'object' && json !== null && !Array.isArray(json);

function unexpected(json: JsonValue, wanted: string): string {
  const first = JSON.stringify(json)[0] ?? '';
  return `unexpected character: '${first}'; expected '${wanted}'`;
}
