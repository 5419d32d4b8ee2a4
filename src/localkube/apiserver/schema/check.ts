// JSON Schema as Kubernetes uses it, with its error wording. Called by validate.ts (whole objects) and crd.ts (defaults).
import { RE2JS } from 're2js';
import type { FieldError, Json, JsonObject, JsonSchema } from './types.ts';

/** Errors reported for one object. */
export const MAX_ERRORS = 50;
const MAX_PATTERNS = 1000;

export interface CheckContext {
  readonly resolve: (schema: JsonSchema) => JsonSchema;
  readonly errors: FieldError[];
  /** Built-in kinds: null counts as absent, and enum values are listed sorted. */
  readonly builtIn: boolean;
}

const patterns = new Map<string, RE2JS | undefined>();

function compiled(pattern: string): RE2JS | undefined {
  if (patterns.has(pattern)) return patterns.get(pattern);
  if (patterns.size >= MAX_PATTERNS) patterns.clear();
  let re: RE2JS | undefined;
  try {
    re = RE2JS.compile(pattern);
  } catch {
    re = undefined;
  }
  patterns.set(pattern, re);
  return re;
}

/** False when the pattern is not valid RE2. */
export function isPattern(pattern: string): boolean {
  return compiled(pattern) !== undefined;
}

export function checkValue(value: Json | undefined, rawSchema: JsonSchema, path: string, context: CheckContext): void {
  if (value === undefined || context.errors.length >= MAX_ERRORS) return;
  const schema = context.resolve(rawSchema);
  if (value === null) {
    if (schema.nullable || context.builtIn || schema.type === undefined) return;
    typeError(value, schema.type, path, context);
    return;
  }
  if (!typeMatches(value, schema)) {
    typeError(value, schema['x-kubernetes-int-or-string'] ? 'integer,string' : schema.type!, path, context);
    return;
  }
  if (schema.enum && !schema.enum.some((e) => equalJson(e, value))) {
    const values = schema.enum.map((e) => JSON.stringify(e));
    if (context.builtIn) values.sort();
    add(
      context,
      'FieldValueNotSupported',
      path,
      `Unsupported value: ${show(value)}: supported values: ${values.join(', ')}`,
    );
  }
  if (typeof value === 'string') checkString(value, schema, path, context);
  else if (typeof value === 'number') checkNumber(value, schema, path, context);
  else if (Array.isArray(value)) checkArray(value, schema, path, context);
  else if (typeof value === 'object') checkObject(value as JsonObject, schema, path, context);
  checkCombined(value, schema, path, context);
}

export function typeMatches(value: Json, schema: JsonSchema): boolean {
  if (schema['x-kubernetes-int-or-string']) return typeof value === 'string' || Number.isInteger(value);
  switch (schema.type) {
    case undefined:
      return true;
    case 'object':
      return typeof value === 'object' && value !== null && !Array.isArray(value);
    case 'array':
      return Array.isArray(value);
    case 'integer':
      return Number.isInteger(value);
    case 'number':
      return typeof value === 'number';
    case 'string':
      return typeof value === 'string';
    case 'boolean':
      return typeof value === 'boolean';
    default:
      return false;
  }
}

/** `type in body must be` form of Kubernetes' OpenAPI validator. */
function typeError(value: Json, type: string, path: string, context: CheckContext): void {
  const found =
    value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value;
  add(
    context,
    'FieldValueTypeInvalid',
    path,
    `Invalid value: ${JSON.stringify(found)}: ${path} in body must be of type ${type}: ${JSON.stringify(found)}`,
  );
}

function checkString(value: string, schema: JsonSchema, path: string, context: CheckContext): void {
  const length = schema.minLength !== undefined || schema.maxLength !== undefined ? [...value].length : 0;
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    add(context, 'FieldValueTooLong', path, `Too long: may not be more than ${schema.maxLength} bytes`);
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    invalid(context, path, value, `${path} in body should be at least ${schema.minLength} chars long`);
  }
  if (schema.pattern !== undefined && compiled(schema.pattern)?.test(value) === false) {
    invalid(context, path, value, `${path} in body should match '${schema.pattern}'`);
  }
  if (schema.format !== undefined && !formatMatches(value, schema.format)) {
    invalid(context, path, value, `${path} in body must be of type ${schema.format}: ${JSON.stringify(value)}`);
  }
}

function formatMatches(value: string, format: string): boolean {
  switch (format) {
    case 'date-time':
      return /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d/.test(value) && !Number.isNaN(Date.parse(value));
    case 'date':
      return /^\d{4}-\d\d-\d\d$/.test(value) && !Number.isNaN(Date.parse(value));
    case 'byte':
      return /^[A-Za-z0-9+/\r\n]*={0,2}$/.test(value);
    case 'uuid':
      return /^[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}$/.test(value);
    case 'ipv4':
      return /^(\d{1,3})(\.\d{1,3}){3}$/.test(value) && value.split('.').every((p) => Number(p) <= 255);
    default:
      return true;
  }
}

function checkNumber(value: number, schema: JsonSchema, path: string, context: CheckContext): void {
  const { minimum, maximum } = schema;
  if (schema.format === 'int32' && (value > 2147483647 || value < -2147483648)) {
    invalid(context, path, value, `${path} in body must be of type int32: ${JSON.stringify('integer')}`);
  }
  if (maximum !== undefined && (value > maximum || (schema.exclusiveMaximum && value === maximum))) {
    const word = schema.exclusiveMaximum ? 'less than' : 'less than or equal to';
    invalid(context, path, value, `${path} in body should be ${word} ${maximum}`);
  }
  if (minimum !== undefined && (value < minimum || (schema.exclusiveMinimum && value === minimum))) {
    const word = schema.exclusiveMinimum ? 'greater than' : 'greater than or equal to';
    invalid(context, path, value, `${path} in body should be ${word} ${minimum}`);
  }
  if (schema.multipleOf !== undefined && !Number.isInteger(value / schema.multipleOf)) {
    invalid(context, path, value, `${path} in body should be a multiple of ${schema.multipleOf}`);
  }
}

function checkArray(value: readonly Json[], schema: JsonSchema, path: string, context: CheckContext): void {
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    add(context, 'FieldValueTooMany', path, `Too many: ${value.length}: must have at most ${schema.maxItems} items`);
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    invalid(context, path, value.length, `${path} in body should have at least ${schema.minItems} items`);
  }
  checkDuplicates(value, schema, path, context);
  if (schema.items) for (const [i, item] of value.entries()) checkValue(item, schema.items, `${path}[${i}]`, context);
}

function checkDuplicates(value: readonly Json[], schema: JsonSchema, path: string, context: CheckContext): void {
  const listType = schema['x-kubernetes-list-type'];
  const unique = schema.uniqueItems === true || listType === 'set';
  const keys = listType === 'map' ? schema['x-kubernetes-list-map-keys'] : undefined;
  // Built-in lists with keys are checked by meaning: real clusters tolerate some duplicates there.
  if (!unique && (!keys || context.builtIn)) return;
  const seen = new Set<string>();
  for (const [i, item] of value.entries()) {
    const part = keys ? Object.fromEntries(keys.map((k) => [k, (item as JsonObject)?.[k]])) : item;
    const id = stableJson(part as Json);
    if (seen.has(id)) add(context, 'FieldValueDuplicate', `${path}[${i}]`, `Duplicate value: ${show(part as Json)}`);
    seen.add(id);
  }
}

function checkObject(value: JsonObject, schema: JsonSchema, path: string, context: CheckContext): void {
  const keys = Object.keys(value);
  for (const name of schema.required ?? []) {
    const item = value[name];
    if (item === undefined || (item === null && context.builtIn)) {
      add(context, 'FieldValueRequired', join(path, name), 'Required value');
    }
  }
  if (schema.maxProperties !== undefined && keys.length > schema.maxProperties) {
    add(
      context,
      'FieldValueTooMany',
      path,
      `Too many: ${keys.length}: must have at most ${schema.maxProperties} items`,
    );
  }
  if (schema.minProperties !== undefined && keys.length < schema.minProperties) {
    invalid(context, path, keys.length, `${path} in body should have at least ${schema.minProperties} properties`);
  }
  for (const key of keys) {
    const property = schema.properties && Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
    if (property) checkValue(value[key], property, join(path, key), context);
    else if (typeof schema.additionalProperties === 'object') {
      checkValue(value[key], schema.additionalProperties, join(path, key), context);
    }
  }
}

function checkCombined(value: Json, schema: JsonSchema, path: string, context: CheckContext): void {
  for (const part of schema.allOf ?? []) checkValue(value, part, path, context);
  const matches = (part: JsonSchema) => valid(value, part, path, context);
  const at = path === '' ? '<nil>' : path;
  const shown = Array.isArray(value) ? '"array"' : typeof value === 'object' ? '"object"' : show(value);
  if (schema.anyOf && !schema.anyOf.some(matches)) {
    add(
      context,
      'FieldValueInvalid',
      at,
      `Invalid value: ${shown}: ${path} in body must validate at least one schema (anyOf)`,
    );
  }
  if (schema.oneOf) {
    const found = schema.oneOf.filter(matches).length;
    if (found !== 1) {
      const why = `must validate one and only one schema (oneOf)${found === 0 ? '. Found none valid' : `. Found ${found} valid alternatives`}`;
      add(context, 'FieldValueInvalid', at, `Invalid value: ${shown}: ${path} in body ${why}`);
    }
  }
  if (schema.not && matches(schema.not)) {
    add(
      context,
      'FieldValueInvalid',
      at,
      `Invalid value: ${shown}: ${path} in body must not validate the schema (not)`,
    );
  }
}

function valid(value: Json, schema: JsonSchema, path: string, context: CheckContext): boolean {
  const errors: FieldError[] = [];
  checkValue(value, schema, path, { ...context, errors });
  return errors.length === 0;
}

export function join(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`;
}

export function add(
  context: { readonly errors: FieldError[] },
  type: FieldError['type'],
  field: string,
  message: string,
): void {
  if (context.errors.length < MAX_ERRORS) context.errors.push({ type, field, message });
}

function invalid(context: CheckContext, path: string, value: Json, detail: string): void {
  add(context, 'FieldValueInvalid', path, `Invalid value: ${show(value)}: ${detail}`);
}

/** Values longer than this are cut in messages. */
const MAX_SHOWN = 400;

export function show(value: Json): string {
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

export function stableJson(value: Json | undefined): string {
  return JSON.stringify(value, (_key, v: unknown) =>
    v !== null && typeof v === 'object' && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
}

export function equalJson(a: Json | undefined, b: Json | undefined): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a)) {
    const other = b as readonly Json[];
    return a.length === other.length && a.every((item, i) => equalJson(item as Json, other[i]));
  }
  const x = a as JsonObject;
  const y = b as JsonObject;
  const keys = Object.keys(x).filter((k) => x[k] !== undefined);
  if (keys.length !== Object.keys(y).filter((k) => y[k] !== undefined).length) return false;
  return keys.every((k) => equalJson(x[k], y[k]));
}
