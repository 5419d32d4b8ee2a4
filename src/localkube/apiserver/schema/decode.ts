import type { JsonObject, KindSchema } from './types.ts';

export type FieldValidation = 'Ignore' | 'Warn' | 'Strict';

export interface Decoded {
  /** Without unknown fields. */
  readonly object: JsonObject;
  /** For `Warning:` headers, `unknown field "spec.foo"`. */
  readonly warnings: readonly string[];
}

/** Checks types and unknown fields, drops the latter. `duplicates`: what the body parser saw twice. Throws SchemaError 400 (built-ins, strict). */
export function decodeObject(
  _object: JsonObject,
  _kind: KindSchema,
  _fieldValidation: FieldValidation,
  _duplicates?: readonly string[],
): Decoded {
  throw new Error('being written');
}
