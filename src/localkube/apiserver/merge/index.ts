// Every way a stored object is changed by a client: the four patch types and the field ownership behind server-side apply.
// Called by the API server's write path. All functions are pure: they return a new object and leave their arguments alone.

export { PatchError } from './errors.ts';
export { applyJsonPatch } from './json-patch.ts';
export { type ApplyInput, serverSideApply, type TrackInput, trackUpdate } from './managed-fields.ts';
export { applyMergePatch } from './merge-patch.ts';
export { applyStrategicMergePatch } from './strategic.ts';
