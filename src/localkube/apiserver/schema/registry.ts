// Finds the schema of a kind: built-in ones from generated/, custom ones from the CRDs the API server holds.
import type { Gvk, JsonObject, JsonSchema, KindSchema } from './types.ts';

/** generated/kubernetes/schemas.json */
export interface GeneratedSchemas {
  readonly definitions: Readonly<Record<string, JsonSchema>>;
}

export interface SchemaRegistry {
  kind(gvk: Gvk): KindSchema | undefined;
  kinds(): readonly KindSchema[];
  /** Adds or replaces the served versions of a CRD. */
  setCrd(crd: JsonObject): void;
  /** By metadata.name. */
  deleteCrd(name: string): void;
  definitions(): Readonly<Record<string, JsonSchema>>;
  /** Grows with every change: caches compare it. */
  readonly revision: number;
}

export function createSchemaRegistry(_load: () => GeneratedSchemas): SchemaRegistry {
  throw new Error('being written');
}

/** Reads generated/kubernetes/schemas.json (of this checkout, or `file`). Throws with what to run when it is missing. */
export function loadGeneratedSchemas(_file?: string): GeneratedSchemas {
  throw new Error('being written');
}
