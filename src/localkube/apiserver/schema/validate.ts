import type { FieldError, JsonObject, KindSchema } from './types.ts';

export interface ValidateOptions {
  /** The stored object, for an update. */
  readonly old?: JsonObject;
  /** `status`, `scale`, `ephemeralcontainers`. */
  readonly subresource?: string;
}

/** Metadata, schema and meaning; empty when the object may be stored. Call after decodeObject and applyDefaults. */
export function validateObject(
  _object: JsonObject,
  _kind: KindSchema,
  _options: ValidateOptions = {},
): readonly FieldError[] {
  throw new Error('being written');
}
