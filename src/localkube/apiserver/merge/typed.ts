// Objects seen with their schema: which fields they set, where two differ, how one is laid over another.
// Called by managed-fields.ts.
import { equalJson } from '../schema/check.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from '../schema/types.ts';
import { PatchError } from './errors.ts';
import { childSet, emptySet, type FieldSet, fieldElement, keyElement, valueElement } from './field-set.ts';
import { isObject } from './merge-patch.ts';

type Shape = 'atomic' | 'map' | 'list-map' | 'list-set';
type Schema = JsonSchema | undefined;

/** Keys that may be left out of a list item. */
const KEY_DEFAULTS: Readonly<Record<string, Json>> = { protocol: 'TCP' };

function shape(value: Json | undefined, schema: Schema, kind: KindSchema): Shape {
  const resolved = schema && kind.resolve(schema);
  if (isObject(value)) {
    const mapType = schema?.['x-kubernetes-map-type'] ?? resolved?.['x-kubernetes-map-type'];
    return mapType === 'atomic' ? 'atomic' : 'map';
  }
  if (!Array.isArray(value)) return 'atomic';
  const listType = resolved?.['x-kubernetes-list-type'];
  if (listType === 'map' && (value as readonly Json[]).every(isObject)) return 'list-map';
  return listType === 'set' ? 'list-set' : 'atomic';
}

function below(schema: Schema, key: string, kind: KindSchema): Schema {
  const resolved = schema && kind.resolve(schema);
  if (!resolved) return undefined;
  if (resolved.properties && Object.hasOwn(resolved.properties, key)) return resolved.properties[key];
  return typeof resolved.additionalProperties === 'object' ? resolved.additionalProperties : undefined;
}

function itemSchema(schema: Schema, kind: KindSchema): Schema {
  return schema && kind.resolve(schema).items;
}

/** Items of a keyed list by their path element, in order. Throws PatchError 400 when a key is missing. */
function keyed(list: readonly Json[], schema: Schema, kind: KindSchema): Map<string, Json> {
  const keys = (schema && kind.resolve(schema)['x-kubernetes-list-map-keys']) ?? [];
  const found = new Map<string, Json>();
  for (const item of list) {
    const values: Record<string, Json> = {};
    for (const key of keys) {
      const value = (item as JsonObject)[key] ?? KEY_DEFAULTS[key];
      if (value === undefined) {
        throw new PatchError(400, `a list item lacks its key field ${JSON.stringify(key)}, so it cannot be merged`);
      }
      values[key] = value;
    }
    const element = keyElement(values);
    if (!found.has(element)) found.set(element, item);
  }
  return found;
}

function members(list: readonly Json[]): Map<string, Json> {
  return new Map(list.map((item) => [valueElement(item), item]));
}

/** The fields `value` sets. */
export function fieldsOf(value: JsonObject, kind: KindSchema): FieldSet {
  const set = emptySet();
  collectMap(value, kind.schema, kind, set);
  return set;
}

function collectMap(value: JsonObject, schema: Schema, kind: KindSchema, set: FieldSet): void {
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) collect(item, below(schema, key, kind), kind, set, fieldElement(key));
  }
}

function collect(value: Json, schema: Schema, kind: KindSchema, set: FieldSet, element: string): void {
  switch (shape(value, schema, kind)) {
    case 'map':
      if (Object.keys(value as JsonObject).length === 0) set.members.add(element);
      else collectMap(value as JsonObject, schema, kind, childSet(set, element));
      return;
    case 'list-map': {
      const items = itemSchema(schema, kind);
      const entries = keyed(value as readonly Json[], schema, kind);
      if (entries.size === 0) set.members.add(element);
      for (const [itemElement, item] of entries) {
        const child = childSet(set, element);
        child.members.add(itemElement);
        collectMap(item as JsonObject, items, kind, childSet(child, itemElement));
      }
      return;
    }
    case 'list-set':
      if ((value as readonly Json[]).length === 0) set.members.add(element);
      for (const member of members(value as readonly Json[]).keys()) childSet(set, element).members.add(member);
      return;
    default:
      set.members.add(element);
  }
}

export interface Difference {
  /** Added or with another value. */
  readonly changed: FieldSet;
  readonly removed: FieldSet;
}

export function compare(before: JsonObject, after: JsonObject, kind: KindSchema): Difference {
  const difference: Difference = { changed: emptySet(), removed: emptySet() };
  compareMaps(before, after, kind.schema, kind, difference);
  return difference;
}

function compareMaps(before: JsonObject, after: JsonObject, schema: Schema, kind: KindSchema, to: Difference): void {
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    compareValues(before[key], after[key], below(schema, key, kind), kind, to, fieldElement(key));
  }
}

function compareValues(
  before: Json | undefined,
  after: Json | undefined,
  schema: Schema,
  kind: KindSchema,
  to: Difference,
  element: string,
): void {
  if (equalJson(before, after)) return;
  if (before === undefined || after === undefined) {
    if (after !== undefined) collect(after, schema, kind, to.changed, element);
    if (before !== undefined) collect(before, schema, kind, to.removed, element);
    return;
  }
  const was = shape(before, schema, kind);
  const is = shape(after, schema, kind);
  if (was !== is || is === 'atomic') {
    if (was !== is && was !== 'atomic') collect(before, schema, kind, to.removed, element);
    collect(after, schema, kind, to.changed, element);
    return;
  }
  const inner: Difference = { changed: childSet(to.changed, element), removed: childSet(to.removed, element) };
  if (is === 'map') {
    compareMaps(before as JsonObject, after as JsonObject, schema, kind, inner);
    return;
  }
  const index = (list: Json) =>
    is === 'list-set' ? members(list as readonly Json[]) : keyed(list as readonly Json[], schema, kind);
  const old = index(before);
  const now = index(after);
  const items = itemSchema(schema, kind);
  for (const item of new Set([...old.keys(), ...now.keys()])) {
    const a = old.get(item);
    const b = now.get(item);
    if (is === 'list-set') {
      if (a === undefined) inner.changed.members.add(item);
      else if (b === undefined) inner.removed.members.add(item);
      continue;
    }
    if (a === undefined) inner.changed.members.add(item);
    if (b === undefined) inner.removed.members.add(item);
    const deeper = { changed: childSet(inner.changed, item), removed: childSet(inner.removed, item) };
    compareMaps((a as JsonObject) ?? {}, (b as JsonObject) ?? {}, items, kind, deeper);
  }
}

/** `over` laid over `base`; what `over` does not mention stays. */
export function overlay(base: JsonObject, over: JsonObject, kind: KindSchema): JsonObject {
  return overlayMap(base, over, kind.schema, kind);
}

function overlayMap(base: JsonObject, over: JsonObject, schema: Schema, kind: KindSchema): JsonObject {
  const result: Record<string, Json | undefined> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value !== undefined) result[key] = overlayValue(base[key], value, below(schema, key, kind), kind);
  }
  return result;
}

function overlayValue(base: Json | undefined, over: Json, schema: Schema, kind: KindSchema): Json {
  const is = shape(over, schema, kind);
  if (base === undefined || is === 'atomic' || shape(base, schema, kind) !== is) return over;
  if (is === 'map') return overlayMap(base as JsonObject, over as JsonObject, schema, kind);
  const old = base as readonly Json[];
  const now = over as readonly Json[];
  if (is === 'list-set') {
    const all = new Map([...members(old), ...members(now)]);
    return [...all.values()];
  }
  const items = itemSchema(schema, kind);
  const all = keyed(old, schema, kind);
  for (const [element, item] of keyed(now, schema, kind)) {
    const existing = all.get(element);
    all.set(element, existing ? overlayMap(existing as JsonObject, item as JsonObject, items, kind) : item);
  }
  return [...all.values()];
}

/** `value` without the fields of `set`; maps and lists that become empty go too. */
export function removeFields(value: JsonObject, set: FieldSet, kind: KindSchema): JsonObject {
  return removeMap(value, set, kind.schema, kind);
}

function removeMap(value: JsonObject, set: FieldSet, schema: Schema, kind: KindSchema): JsonObject {
  const result: Record<string, Json | undefined> = { ...value };
  for (const key of Object.keys(value)) {
    const element = fieldElement(key);
    const child = set.children.get(element);
    if (set.members.has(element)) delete result[key];
    else if (child) {
      const left = removeValue(value[key]!, child, below(schema, key, kind), kind);
      const gone = Array.isArray(left) ? left.length === 0 : isObject(left) && Object.keys(left).length === 0;
      if (gone) delete result[key];
      else result[key] = left;
    }
  }
  return result;
}

function removeValue(value: Json, set: FieldSet, schema: Schema, kind: KindSchema): Json {
  switch (shape(value, schema, kind)) {
    case 'map':
      return removeMap(value as JsonObject, set, schema, kind);
    case 'list-set':
      return (value as readonly Json[]).filter((item) => !set.members.has(valueElement(item)));
    case 'list-map': {
      const items = itemSchema(schema, kind);
      const left: Json[] = [];
      for (const [element, item] of keyed(value as readonly Json[], schema, kind)) {
        if (set.members.has(element)) continue;
        const child = set.children.get(element);
        left.push(child ? removeMap(item as JsonObject, child, items, kind) : item);
      }
      return left;
    }
    default:
      return value;
  }
}
