// First reading of a client's object: unknown fields and, for built-in kinds, wrong types. Called by the API server
// before defaults; the answer has no unknown fields.
import { SchemaError } from './errors.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from './types.ts';

export type FieldValidation = 'Ignore' | 'Warn' | 'Strict';

export interface Decoded {
  /** Without unknown fields. */
  readonly object: JsonObject;
  /** For `Warning:` headers, `unknown field "spec.foo"`. */
  readonly warnings: readonly string[];
}

/** Deeper objects are refused. */
export const MAX_OBJECT_DEPTH = 128;
/** Unknown fields named in one answer. */
const MAX_REPORTED = 100;

interface Walk {
  readonly kind: KindSchema;
  readonly unknown: string[];
}

/**
 * Checks types and unknown fields, drops the latter. `duplicates`: complaints of the body parser, e.g. `duplicate field "spec"`.
 * Throws SchemaError 400: wrong types in a built-in kind, unknown fields when strict, objects too deep.
 */
export function decodeObject(
  object: JsonObject,
  kind: KindSchema,
  fieldValidation: FieldValidation,
  duplicates: readonly string[] = [],
): Decoded {
  const walk: Walk = { kind, unknown: [] };
  const value = decodeValue(object, kind.schema, '', walk, 0) as JsonObject;
  if (fieldValidation === 'Ignore') return { object: value, warnings: [] };
  const complaints = [...duplicates, ...walk.unknown.slice(0, MAX_REPORTED)];
  if (complaints.length === 0) return { object: value, warnings: [] };
  if (fieldValidation === 'Warn') return { object: value, warnings: complaints };
  const { gvk } = kind;
  const text = `strict decoding error: ${complaints.join(', ')}`;
  throw new SchemaError(
    400,
    kind.custom ? text : `${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: ${text}`,
  );
}

function decodeValue(
  value: Json | undefined,
  schema: JsonSchema,
  path: string,
  walk: Walk,
  depth: number,
): Json | undefined {
  if (depth > MAX_OBJECT_DEPTH)
    throw new SchemaError(400, `object is nested deeper than ${MAX_OBJECT_DEPTH} levels at ${path}`);
  if (value === null || value === undefined) return value;
  const resolved = walk.kind.resolve(schema);
  if (Array.isArray(value)) {
    if (!walk.kind.custom && resolved.type !== undefined && resolved.type !== 'array')
      wrongType('array', resolved, path, walk);
    const items = resolved.items;
    if (!items) return value;
    return value.map((item, i) => decodeValue(item as Json, items, `${path}[${i}]`, walk, depth + 1) ?? null);
  }
  if (typeof value === 'object') return decodeMap(value as JsonObject, resolved, path, walk, depth);
  if (!walk.kind.custom || path.startsWith('metadata.'))
    checkScalar(value as string | number | boolean, resolved, path, walk);
  return value;
}

function decodeMap(value: JsonObject, schema: JsonSchema, path: string, walk: Walk, depth: number): Json {
  const builtIn = !walk.kind.custom || path === 'metadata' || path.startsWith('metadata.');
  if (builtIn && schema.type !== undefined && schema.type !== 'object') wrongType('object', schema, path, walk);
  if (schema['x-kubernetes-embedded-resource'] && !schema.properties) return value;
  const { properties, additionalProperties } = schema;
  const free =
    schema['x-kubernetes-preserve-unknown-fields'] === true ||
    additionalProperties === true ||
    (builtIn && !properties && !additionalProperties);
  const result: Record<string, Json | undefined> = {};
  for (const [key, item] of Object.entries(value)) {
    if (key === '__proto__') continue;
    const at = path === '' ? key : `${path}.${key}`;
    const property = properties && Object.hasOwn(properties, key) ? properties[key] : undefined;
    if (property) {
      const decoded = decodeValue(item, property, at, walk, depth + 1);
      // A null in a built-in kind means absent, as in Go.
      if (decoded !== null || !builtIn) result[key] = decoded;
    } else if (typeof additionalProperties === 'object') {
      result[key] = decodeValue(item, additionalProperties, at, walk, depth + 1);
    } else if (free || (schema['x-kubernetes-embedded-resource'] && ['apiVersion', 'kind', 'metadata'].includes(key))) {
      result[key] = item;
    } else {
      walk.unknown.push(`unknown field ${JSON.stringify(at)}`);
    }
  }
  return result as JsonObject;
}

function checkScalar(value: string | number | boolean, schema: JsonSchema, path: string, walk: Walk): void {
  if (schema.oneOf || schema['x-kubernetes-int-or-string'] || schema.type === undefined) {
    if (typeof value === 'boolean' && schema.oneOf) wrongType('bool', schema, path, walk);
    return;
  }
  const { type } = schema;
  if (typeof value === 'string') {
    if (type !== 'string') wrongType('string', schema, path, walk);
    if (schema.format === 'byte' && !isBase64(value)) {
      throw badRequest(walk.kind, `illegal base64 data at input byte ${firstBadBase64(value)}`);
    }
    if (schema.format === 'date-time' && Number.isNaN(Date.parse(value))) {
      throw badRequest(walk.kind, `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse`);
    }
  } else if (typeof value === 'number') {
    if (type !== 'integer' && type !== 'number') wrongType('number', schema, path, walk);
    if (type === 'integer' && !Number.isInteger(value)) wrongType(`number ${value}`, schema, path, walk);
  } else if (type !== 'boolean') wrongType('bool', schema, path, walk);
}

const GO_TYPES: Readonly<Record<string, string>> = {
  boolean: 'bool',
  array: 'slice',
  object: 'map',
  number: 'float64',
};

function wrongType(found: string, schema: JsonSchema, path: string, walk: Walk): never {
  const wanted =
    schema.type === 'integer'
      ? (schema.format ?? 'int64')
      : schema.type
        ? (GO_TYPES[schema.type] ?? schema.type)
        : 'string';
  const field = path.replace(/\[\d+\]/g, '');
  const owner = walk.kind.gvk.kind;
  throw badRequest(
    walk.kind,
    `json: cannot unmarshal ${found} into Go struct field ${owner}.${field} of type ${wanted} (at ${path || 'the object itself'})`,
  );
}

function badRequest(kind: KindSchema, detail: string): SchemaError {
  const { gvk } = kind;
  return new SchemaError(400, `${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: ${detail}`);
}

function isBase64(text: string): boolean {
  const compact = text.replace(/[\r\n]/g, '');
  return compact.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(compact);
}

function firstBadBase64(text: string): number {
  const at = text.search(/[^A-Za-z0-9+/\r\n]/);
  return at === -1 ? text.length - (text.length % 4) : at;
}
