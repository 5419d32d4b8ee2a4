import type { JsonObject, KindSchema } from '../schema/types.ts';
/** Kubernetes' own patch type. Throws PatchError. Custom resources do not take it (the caller answers 415). */
export function applyStrategicMergePatch(_object: JsonObject, _patch: unknown, _kind: KindSchema): JsonObject {
  throw new Error('being written');
}
