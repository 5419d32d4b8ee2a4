import type { JsonObject } from '../schema/types.ts';
/** RFC 6902. Throws PatchError: 400 when `patch` is no patch, 422 when an operation cannot be applied. */
export function applyJsonPatch(_object: JsonObject, _patch: unknown): JsonObject {
  throw new Error('being written');
}
