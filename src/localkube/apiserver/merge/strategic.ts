// Strategic merge patch: lists merge by key as the schema says, and `$` directives. Called by the API server for
// `application/strategic-merge-patch+json` on built-in kinds.
import { equalJson } from '../schema/check.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from '../schema/types.ts';
import { PatchError } from './errors.ts';
import { isObject, MAX_PATCH_DEPTH } from './merge-patch.ts';

const DIRECTIVE = '$patch';
const RETAIN_KEYS = '$retainKeys';
const ORDER = '$setElementOrder/';
const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/';

type Mutable = Record<string, Json | undefined>;

/** Throws PatchError. Custom resources do not take this patch (the caller answers 415). */
export function applyStrategicMergePatch(object: JsonObject, patch: unknown, kind: KindSchema): JsonObject {
  if (!isObject(patch)) throw new PatchError(400, 'a strategic merge patch must be an object');
  return mergeMap(object, patch, kind.schema, kind, 0) ?? {};
}

function fieldSchema(schema: JsonSchema | undefined, key: string, kind: KindSchema): JsonSchema | undefined {
  if (!schema) return undefined;
  const resolved = kind.resolve(schema);
  if (resolved.properties && Object.hasOwn(resolved.properties, key)) return resolved.properties[key];
  return typeof resolved.additionalProperties === 'object' ? resolved.additionalProperties : undefined;
}

function strategies(schema: JsonSchema | undefined): readonly string[] {
  return schema?.['x-kubernetes-patch-strategy']?.split(',') ?? [];
}

/** Undefined: the patch deletes the map. */
function mergeMap(
  current: JsonObject,
  patch: JsonObject,
  schema: JsonSchema | undefined,
  kind: KindSchema,
  depth: number,
): JsonObject | undefined {
  if (depth > MAX_PATCH_DEPTH) throw new PatchError(400, `the patch is nested deeper than ${MAX_PATCH_DEPTH} levels`);
  const directive = patch[DIRECTIVE];
  if (directive === 'delete') return undefined;
  if (directive === 'replace') return plain(patch, schema, kind, depth);
  if (directive !== undefined && directive !== 'merge') {
    throw new PatchError(400, `unknown $patch directive ${JSON.stringify(directive)}: use merge, replace or delete`);
  }
  const result: Mutable = retained(current, patch);
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__' || key === DIRECTIVE || key === RETAIN_KEYS) continue;
    if (key.startsWith(ORDER) || key.startsWith(DELETE_PRIMITIVES)) continue;
    const at = fieldSchema(schema, key, kind);
    if (value === null || value === undefined) delete result[key];
    else if (isObject(value)) mergeField(result, key, value, at, kind, depth);
    else if (Array.isArray(value)) {
      result[key] = mergeList(result[key], value as readonly Json[], at, kind, depth, patch[ORDER + key]);
    } else result[key] = value;
  }
  applyListDirectives(result, patch, schema, kind);
  return result;
}

function retained(current: JsonObject, patch: JsonObject): Mutable {
  const keys = patch[RETAIN_KEYS];
  if (keys === undefined) return { ...current };
  if (!Array.isArray(keys)) throw new PatchError(400, '$retainKeys must be a list of field names');
  return Object.fromEntries(Object.entries(current).filter(([key]) => keys.includes(key)));
}

function mergeField(
  result: Mutable,
  key: string,
  value: JsonObject,
  schema: JsonSchema | undefined,
  kind: KindSchema,
  depth: number,
): void {
  const old = result[key];
  const merged =
    isObject(old) && !strategies(schema).includes('replace')
      ? mergeMap(old, value, schema, kind, depth + 1)
      : value[DIRECTIVE] === 'delete'
        ? undefined
        : plain(value, schema, kind, depth + 1);
  if (merged === undefined) delete result[key];
  else result[key] = merged;
}

/** A patch value that meets nothing: its directives and nulls go. */
function plain(patch: JsonObject, schema: JsonSchema | undefined, kind: KindSchema, depth: number): JsonObject {
  if (depth > MAX_PATCH_DEPTH) throw new PatchError(400, `the patch is nested deeper than ${MAX_PATCH_DEPTH} levels`);
  const result: Mutable = {};
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__' || key === DIRECTIVE || key === RETAIN_KEYS || value === null || value === undefined)
      continue;
    if (key.startsWith(ORDER) || key.startsWith(DELETE_PRIMITIVES)) continue;
    const at = fieldSchema(schema, key, kind);
    if (isObject(value)) {
      if (value[DIRECTIVE] !== 'delete') result[key] = plain(value, at, kind, depth + 1);
    } else if (Array.isArray(value))
      result[key] = mergeList(undefined, value as readonly Json[], at, kind, depth + 1, undefined);
    else result[key] = value;
  }
  return result;
}

function mergeList(
  current: Json | undefined,
  patch: readonly Json[],
  schema: JsonSchema | undefined,
  kind: KindSchema,
  depth: number,
  order: Json | undefined,
): readonly Json[] {
  const old = Array.isArray(current) ? (current as readonly Json[]) : [];
  const items = schema ? kind.resolve(schema).items : undefined;
  if (!strategies(schema).includes('merge')) return patch.map((item) => strip(item, items, kind, depth));
  const key = schema?.['x-kubernetes-patch-merge-key'];
  if (key === undefined || !patch.every(isObject)) {
    const merged = [...old, ...patch.filter((item) => !old.some((o) => equalJson(o, item)))];
    return order === undefined ? merged : sorted(merged, old, orderKeys(order, undefined), stable);
  }
  const merged = mergeItems(old, patch as readonly JsonObject[], key, items, kind, depth);
  return order === undefined
    ? merged
    : sorted(merged, old, orderKeys(order, key), (item) => stable((item as JsonObject)[key]));
}

function strip(item: Json, items: JsonSchema | undefined, kind: KindSchema, depth: number): Json {
  return isObject(item) ? plain(item, items, kind, depth + 1) : item;
}

function mergeItems(
  old: readonly Json[],
  patch: readonly JsonObject[],
  key: string,
  items: JsonSchema | undefined,
  kind: KindSchema,
  depth: number,
): Json[] {
  const replaces = patch.some((item) => item[DIRECTIVE] === 'replace' && item[key] === undefined);
  let merged: Json[] = replaces ? [] : [...old];
  for (const item of patch) {
    const id = item[key];
    if (id === undefined) {
      if (item[DIRECTIVE] === 'replace') continue;
      throw new PatchError(400, `map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    }
    const same = (other: Json) => isObject(other) && equalJson(other[key], id);
    if (item[DIRECTIVE] === 'delete') {
      merged = merged.filter((other) => !same(other));
      continue;
    }
    const at = merged.findIndex(same);
    if (at === -1) merged.push(plain(item, items, kind, depth + 1));
    else merged[at] = mergeMap(merged[at] as JsonObject, item, items, kind, depth + 1) ?? {};
  }
  return merged;
}

function applyListDirectives(
  result: Mutable,
  patch: JsonObject,
  schema: JsonSchema | undefined,
  kind: KindSchema,
): void {
  for (const [directive, value] of Object.entries(patch)) {
    if (directive.startsWith(DELETE_PRIMITIVES)) {
      const list = result[directive.slice(DELETE_PRIMITIVES.length)];
      if (!Array.isArray(value)) throw new PatchError(400, `${directive} must be a list`);
      if (Array.isArray(list)) {
        const kept = (list as Json[]).filter((item) => !(value as Json[]).some((v) => equalJson(v, item)));
        result[directive.slice(DELETE_PRIMITIVES.length)] = kept;
      }
    } else if (directive.startsWith(ORDER)) {
      const field = directive.slice(ORDER.length);
      if (!Array.isArray(value)) throw new PatchError(400, `${directive} must be a list`);
      const list = result[field];
      // With the list itself in the patch the order was applied there.
      if (!Array.isArray(list) || patch[field] !== undefined) continue;
      const key = fieldSchema(schema, field, kind)?.['x-kubernetes-patch-merge-key'];
      const id = (item: Json) => stable(key !== undefined && isObject(item) ? item[key] : item);
      result[field] = sorted(list as Json[], list as Json[], orderKeys(value as Json, key), id);
    }
  }
}

function stable(value: Json | undefined): string {
  return JSON.stringify(value);
}

function orderKeys(order: Json, key: string | undefined): string[] {
  if (!Array.isArray(order)) throw new PatchError(400, `${ORDER}… must be a list`);
  return (order as Json[]).map((item) => stable(key !== undefined && isObject(item) ? item[key] : item));
}

/** Items named in `order` follow it; the others keep their place among them as in `server`. */
function sorted(
  items: readonly Json[],
  server: readonly Json[],
  order: readonly string[],
  id: (item: Json) => string,
): Json[] {
  const serverAt = new Map(server.map((item, i) => [id(item), i]));
  const listed = items.filter((item) => order.includes(id(item)));
  listed.sort((a, b) => order.indexOf(id(a)) - order.indexOf(id(b)));
  const rest = items.filter((item) => !order.includes(id(item)));
  const result: Json[] = [];
  while (listed.length > 0 || rest.length > 0) {
    const next = listed[0];
    const other = rest[0];
    if (other === undefined) result.push(listed.shift()!);
    else if (next === undefined) result.push(rest.shift()!);
    else {
      const a = serverAt.get(id(next)) ?? Number.POSITIVE_INFINITY;
      const b = serverAt.get(id(other)) ?? Number.POSITIVE_INFINITY;
      result.push(b < a ? rest.shift()! : listed.shift()!);
    }
  }
  return result;
}
