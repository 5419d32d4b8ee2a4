// Sets of field paths as Kubernetes keeps them in managedFields (fieldsV1). Called by typed.ts and managed-fields.ts.
import { stableJson } from '../schema/check.ts';
import type { Json, JsonObject } from '../schema/types.ts';
import { isObject } from './merge-patch.ts';

/** A tree; its edges are path elements: `f:name` field, `k:{"name":"x"}` list item by key, `v:"x"` set member. */
export interface FieldSet {
  /** Elements that are in the set themselves. */
  readonly members: Set<string>;
  readonly children: Map<string, FieldSet>;
}

const MAX_DEPTH = 128;

export function emptySet(): FieldSet {
  return { members: new Set(), children: new Map() };
}

export function childSet(set: FieldSet, element: string): FieldSet {
  let child = set.children.get(element);
  if (!child) {
    child = emptySet();
    set.children.set(element, child);
  }
  return child;
}

export function isEmpty(set: FieldSet): boolean {
  if (set.members.size > 0) return false;
  for (const child of set.children.values()) if (!isEmpty(child)) return false;
  return true;
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const result: FieldSet = { members: new Set([...a.members, ...b.members]), children: new Map(a.children) };
  for (const [element, child] of b.children) {
    const own = a.children.get(element);
    result.children.set(element, own ? union(own, child) : child);
  }
  return result;
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const result = emptySet();
  for (const member of a.members) if (b.members.has(member)) result.members.add(member);
  for (const [element, child] of a.children) {
    const other = b.children.get(element);
    if (other) keep(result, element, intersection(child, other));
  }
  return result;
}

export function difference(a: FieldSet, b: FieldSet): FieldSet {
  const result = emptySet();
  for (const member of a.members) if (!b.members.has(member)) result.members.add(member);
  for (const [element, child] of a.children) {
    const other = b.children.get(element);
    keep(result, element, other ? difference(child, other) : child);
  }
  return result;
}

/** Of `a`, what neither is in `b` nor has something of `b` below it. */
export function withoutAncestorsOf(a: FieldSet, b: FieldSet): FieldSet {
  const result = emptySet();
  for (const member of a.members) {
    const below = b.children.get(member);
    if (!b.members.has(member) && (!below || isEmpty(below))) result.members.add(member);
  }
  for (const [element, child] of a.children) {
    const other = b.children.get(element);
    keep(result, element, other ? withoutAncestorsOf(child, other) : child);
  }
  return result;
}

function keep(set: FieldSet, element: string, child: FieldSet): void {
  if (!isEmpty(child)) set.children.set(element, child);
}

export function equalSets(a: FieldSet, b: FieldSet): boolean {
  return isEmpty(difference(a, b)) && isEmpty(difference(b, a));
}

/** fieldsV1 → set. Unknown element kinds are kept as they are. */
export function parseFields(fields: Json | undefined, depth = 0): FieldSet {
  const set = emptySet();
  if (!isObject(fields) || depth > MAX_DEPTH) return set;
  for (const [element, value] of Object.entries(fields)) {
    if (element === '.' || !isObject(value)) continue;
    const keys = Object.keys(value);
    if (keys.length === 0 || keys.includes('.')) set.members.add(element);
    if (keys.some((key) => key !== '.')) set.children.set(element, parseFields(value, depth + 1));
  }
  return set;
}

export function renderFields(set: FieldSet): JsonObject {
  const result: Record<string, JsonObject> = {};
  const elements = [...new Set([...set.members, ...set.children.keys()])].sort();
  for (const element of elements) {
    const child = set.children.get(element);
    const below = child && !isEmpty(child) ? renderFields(child) : undefined;
    if (set.members.has(element)) result[element] = below ? { '.': {}, ...below } : {};
    else if (below) result[element] = below;
  }
  return result;
}

export function fieldElement(name: string): string {
  return `f:${name}`;
}

export function keyElement(keys: JsonObject): string {
  return `k:${stableJson(keys)}`;
}

export function valueElement(value: Json): string {
  return `v:${stableJson(value)}`;
}

/** `.spec.containers[name="app"].image` for every member. */
export function printPaths(set: FieldSet, prefix = ''): string[] {
  const paths = [...set.members].map((member) => prefix + printElement(member));
  for (const [element, child] of set.children) paths.push(...printPaths(child, prefix + printElement(element)));
  return paths.sort();
}

function printElement(element: string): string {
  const rest = element.slice(2);
  if (element.startsWith('f:')) return `.${rest}`;
  if (element.startsWith('k:')) {
    const keys = JSON.parse(rest) as Record<string, Json>;
    return `[${Object.entries(keys)
      .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
      .join(',')}]`;
  }
  return element.startsWith('v:') ? `[=${rest}]` : `[${rest}]`;
}
