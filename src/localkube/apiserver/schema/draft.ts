// Small helpers to change a private copy of an object. Used by defaults*.ts.
import type { Json, JsonObject } from './types.ts';

/** An object being filled in; always a clone of what the caller gave. */
export type Draft = { [key: string]: unknown };

export function draftOf(object: JsonObject): Draft {
  return structuredClone(object) as Draft;
}

/** The object under `key`, or undefined when it is absent or not an object. */
export function child(draft: Draft | undefined, key: string): Draft | undefined {
  const value = draft?.[key];
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Draft) : undefined;
}

/** The objects of the list under `key`. */
export function children(draft: Draft | undefined, key: string): Draft[] {
  const value = draft?.[key];
  return Array.isArray(value)
    ? value.filter((v): v is Draft => typeof v === 'object' && v !== null && !Array.isArray(v))
    : [];
}

/** Creates the object under `key` when it is absent. */
export function ensure(draft: Draft, key: string): Draft {
  const value = child(draft, key);
  if (value) return value;
  const made: Draft = {};
  if (draft[key] === undefined || draft[key] === null) draft[key] = made;
  return made;
}

/** Sets what is absent. */
export function fill(draft: Draft | undefined, values: { readonly [key: string]: Json }): void {
  if (!draft) return;
  for (const [key, value] of Object.entries(values)) {
    if (draft[key] === undefined || draft[key] === null) draft[key] = structuredClone(value);
  }
}
