// Finds the schema of a kind: built-in ones from generated/, custom ones from the CRDs the API server holds.
// Called by the API server, decode, defaults, validate, merge and openapi.
import { readFileSync } from 'node:fs';
import path from 'node:path';
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
  /** All definitions by name, custom ones included. */
  definitions(): Readonly<Record<string, JsonSchema>>;
  /** Grows with every change: caches compare it. */
  readonly revision: number;
}

const PREFIX = '#/definitions/';
const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
export const OBJECT_META = `${META}.ObjectMeta`;
export const LIST_META = `${META}.ListMeta`;

const TYPE_META: Readonly<Record<string, JsonSchema>> = {
  apiVersion: {
    description:
      'Group and version of the schema this object is written in. Servers may convert between versions and refuse unknown ones.',
    type: 'string',
  },
  kind: {
    description: 'The kind of resource this object stands for, in CamelCase. Cannot be changed.',
    type: 'string',
  },
};

/** `load` is called once, on first use. */
export function createSchemaRegistry(load: () => GeneratedSchemas): SchemaRegistry {
  let loaded:
    | { readonly definitions: GeneratedSchemas['definitions']; readonly kinds: Map<string, KindSchema> }
    | undefined;
  const custom = new Map<string, readonly KindSchema[]>();
  const customByGvk = new Map<string, KindSchema>();
  let revision = 0;

  const resolve = (schema: JsonSchema): JsonSchema => {
    let current = schema;
    while (current.$ref !== undefined) {
      const target: JsonSchema | undefined = builtIn().definitions[current.$ref.slice(PREFIX.length)];
      if (!target) throw new Error(`schema refers to ${current.$ref}, which is not defined`);
      current = target;
    }
    return current;
  };
  const builtIn = () => {
    if (loaded) return loaded;
    const { definitions } = load();
    const kinds = new Map<string, KindSchema>();
    for (const [definition, schema] of Object.entries(definitions)) {
      for (const gvk of schema['x-kubernetes-group-version-kind'] ?? []) {
        kinds.set(gvkKey(gvk), { gvk, custom: false, definition, schema, resolve });
      }
    }
    loaded = { definitions, kinds };
    return loaded;
  };
  const reindex = () => {
    customByGvk.clear();
    for (const kinds of custom.values()) for (const kind of kinds) customByGvk.set(gvkKey(kind.gvk), kind);
    revision++;
  };

  return {
    kind: (gvk) => builtIn().kinds.get(gvkKey(gvk)) ?? customByGvk.get(gvkKey(gvk)),
    kinds: () => [...builtIn().kinds.values(), ...customByGvk.values()],
    setCrd(crd) {
      custom.set(crdName(crd), customKinds(crd, resolve));
      reindex();
    },
    deleteCrd(name) {
      if (custom.delete(name)) reindex();
    },
    definitions() {
      const all: Record<string, JsonSchema> = { ...builtIn().definitions };
      for (const kind of customByGvk.values()) all[kind.definition] = kind.schema;
      return all;
    },
    get revision() {
      return revision;
    },
  };
}

function gvkKey(gvk: Gvk): string {
  return `${gvk.group}/${gvk.version}/${gvk.kind}`;
}

function crdName(crd: JsonObject): string {
  return String((crd.metadata as JsonObject | undefined)?.name);
}

interface CrdSpec {
  readonly group: string;
  readonly scope: string;
  readonly preserveUnknownFields?: boolean;
  readonly names: { readonly kind: string; readonly plural: string };
  readonly versions: readonly {
    readonly name: string;
    readonly served: boolean;
    readonly schema?: { readonly openAPIV3Schema?: JsonSchema };
  }[];
}

function customKinds(crd: JsonObject, resolve: KindSchema['resolve']): KindSchema[] {
  const spec = crd.spec as unknown as CrdSpec;
  const reversed = spec.group.split('.').reverse().join('.');
  return spec.versions
    .filter((version) => version.served)
    .map((version) => {
      const gvk = { group: spec.group, version: version.name, kind: spec.names.kind };
      const own = version.schema?.openAPIV3Schema ?? { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
      const schema: JsonSchema = {
        ...own,
        type: 'object',
        properties: { ...TYPE_META, metadata: { $ref: PREFIX + OBJECT_META }, ...withoutMeta(own.properties) },
        'x-kubernetes-group-version-kind': [gvk],
      };
      return {
        gvk,
        custom: true,
        namespaced: spec.scope === 'Namespaced',
        definition: `${reversed}.${version.name}.${spec.names.kind}`,
        schema,
        resolve,
      };
    });
}

function withoutMeta(properties: JsonSchema['properties'] = {}): Record<string, JsonSchema> {
  const { apiVersion: _a, kind: _k, metadata: _m, ...rest } = properties;
  return rest;
}

/** Reads generated/kubernetes/schemas.json (of this checkout, or `file`). Throws with what to run when it is missing. */
export function loadGeneratedSchemas(
  file: string = path.resolve(import.meta.dirname, '../../../../generated/kubernetes/schemas.json'),
): GeneratedSchemas {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new Error(`cannot read ${file}: run "npm run generate" in the checkout`, { cause });
  }
  return JSON.parse(text) as GeneratedSchemas;
}
