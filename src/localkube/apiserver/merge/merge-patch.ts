import type { JsonObject } from '../schema/types.ts';
/** RFC 7386. Throws PatchError 400 when `patch` is not an object. */
export function applyMergePatch(_object: JsonObject, _patch: unknown): JsonObject {
  throw new Error('being written');
}
