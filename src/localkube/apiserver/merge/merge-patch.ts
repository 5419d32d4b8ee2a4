// JSON merge patch (RFC 7386). Called by the API server for `application/merge-patch+json`.
import type { Json, JsonObject } from '../schema/types.ts';
import { PatchError } from './errors.ts';

/** Deeper patches are refused. */
export const MAX_PATCH_DEPTH = 128;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Throws PatchError 400 when `patch` is not an object. */
export function applyMergePatch(object: JsonObject, patch: unknown): JsonObject {
  if (!isObject(patch)) throw new PatchError(400, 'a merge patch must be an object');
  return merge(object, patch, 0);
}

function merge(target: Json | undefined, patch: JsonObject, depth: number): JsonObject {
  if (depth > MAX_PATCH_DEPTH) throw new PatchError(400, `the patch is nested deeper than ${MAX_PATCH_DEPTH} levels`);
  const result: Record<string, Json | undefined> = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (key === '__proto__') continue;
    if (value === null) delete result[key];
    else if (isObject(value))
      result[key] = merge(Object.hasOwn(result, key) ? result[key] : undefined, value, depth + 1);
    else result[key] = value;
  }
  return result;
}
