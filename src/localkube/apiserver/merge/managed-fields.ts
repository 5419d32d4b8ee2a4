import type { JsonObject, KindSchema } from '../schema/types.ts';

export interface ApplyInput {
  /** Absent: the object does not exist yet. */
  readonly live?: JsonObject;
  /** What the client sent, decoded, without defaults. */
  readonly applied: JsonObject;
  readonly kind: KindSchema;
  readonly manager: string;
  readonly force: boolean;
  /** RFC 3339, whole seconds. */
  readonly now: string;
  readonly subresource?: string;
}

/** The merged object with its managedFields. Throws PatchError 409 with one cause per conflict, 400 when managedFields were sent. */
export function serverSideApply(_input: ApplyInput): JsonObject {
  throw new Error('being written');
}

export interface TrackInput {
  /** Absent: a create. */
  readonly before?: JsonObject;
  /** After defaults and webhooks. */
  readonly after: JsonObject;
  readonly kind: KindSchema;
  readonly manager: string;
  readonly now: string;
  readonly subresource?: string;
  /** After serverSideApply: what webhooks and defaults changed since is given to nobody. Default 'Update'. */
}

/** `after` with managedFields that give what this create, update or patch changed to `manager` (operation Update). */
export function trackUpdate(_input: TrackInput): JsonObject {
  throw new Error('being written');
}
