import type { FieldError, JsonObject } from './types.ts';

/** Structural-schema and name checks of a CustomResourceDefinition; `warnings` name CEL rules that this cluster does not evaluate. */
export function validateCustomResourceDefinition(_crd: JsonObject): {
  readonly errors: readonly FieldError[];
  readonly warnings: readonly string[];
} {
  throw new Error('being written');
}
