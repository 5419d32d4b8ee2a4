// The OpenAPI documents clients read for explain and validation: v3 one per group and version, v2 one for all.
// Called by the API server's /openapi handlers.
import { createHash } from 'node:crypto';
import type { ResourceType } from '../../../base/kube/types.ts';
import { encodeDocument } from './openapi-proto.ts';
import { renderV2 } from './openapi-v2.ts';
import type { SchemaRegistry } from './registry.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from './types.ts';

export interface ServedResource extends ResourceType {
  /** `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`. */
  readonly verbs: readonly string[];
  /** `status`, `scale`, … */
  readonly subresources?: readonly string[];
}

export interface OpenApiDocument {
  readonly contentType: string;
  readonly etag: string;
  readonly body: Buffer;
}

export interface OpenApi {
  /** `/openapi/v3` */
  v3Index(): OpenApiDocument;
  /** `path`: `api/v1`, `apis/apps/v1`. Undefined: 404. */
  v3(path: string): OpenApiDocument | undefined;
  /** `/openapi/v2`; `accept` is the request header. Undefined: 406. */
  v2(accept: string | undefined): OpenApiDocument | undefined;
}

const JSON_TYPE = 'application/json';
/** Old clients ask with `@` in the name but cannot read an answer that has it: `@` is no character of a media type. */
const V2_PROTO_ASKED = 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf';
const V2_PROTO = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';
export const INFO = { title: 'Kubernetes', version: 'v1.33' };

interface Cached {
  readonly parts: readonly unknown[];
  readonly document: OpenApiDocument;
}

/** Documents are rendered on first use and kept until the kinds or resources they show change. */
export function createOpenApi(registry: SchemaRegistry, resources: () => readonly ServedResource[]): OpenApi {
  const groups = new Map<string, Cached>();
  const v2 = new Map<string, Cached>();

  const byPath = (): Map<string, ServedResource[]> => {
    const map = new Map<string, ServedResource[]>();
    for (const resource of resources()) {
      const path = groupPath(resource);
      const list = map.get(path);
      if (list) list.push(resource);
      else map.set(path, [resource]);
    }
    return map;
  };
  const render = (path: string, served: readonly ServedResource[]): OpenApiDocument => {
    const kinds = kindsOf(registry, served);
    const parts = [...kinds.map((k) => k.schema), served.map(describeResource).join()];
    const known = groups.get(path);
    if (known && sameParts(known.parts, parts)) return known.document;
    const document = jsonDocument(renderV3(served, kinds));
    groups.set(path, { parts, document });
    return document;
  };
  const whole = (key: string, make: (document: JsonObject) => OpenApiDocument): OpenApiDocument => {
    const served = resources();
    const parts = [registry.revision, served.map(describeResource).join()];
    const known = v2.get(key);
    if (known && sameParts(known.parts, parts)) return known.document;
    const document = make(renderV2(served, kindsOf(registry, served)));
    v2.set(key, { parts, document });
    return document;
  };

  return {
    v3Index() {
      const paths: Record<string, Json> = {};
      const all = byPath();
      for (const path of [...all.keys()].sort()) {
        const { etag } = render(path, all.get(path)!);
        paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${etag.replaceAll('"', '')}` };
      }
      return jsonDocument({ paths });
    },
    v3(path) {
      const served = byPath().get(path);
      return served && render(path, served);
    },
    v2(accept) {
      const types = (accept ?? '*/*').split(',').map((part) => part.split(';')[0]!.trim().toLowerCase());
      for (const type of types) {
        if (type === V2_PROTO || type === V2_PROTO_ASKED) {
          return whole(V2_PROTO, (document) => toDocument(V2_PROTO, encodeDocument(document)));
        }
        if (type === JSON_TYPE || type === '*/*' || type === 'application/*') return whole(JSON_TYPE, jsonDocument);
      }
      return undefined;
    },
  };
}

function sameParts(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((part, i) => part === b[i]);
}

function describeResource(resource: ServedResource): string {
  const { group, version, kind, verbs, subresources = [] } = resource;
  return `${group}/${version}/${resource.resource}/${kind}/${resource.namespaced}/${verbs.join('+')}/${subresources.join('+')}`;
}

function groupPath(resource: ResourceType): string {
  return resource.group === '' ? `api/${resource.version}` : `apis/${resource.group}/${resource.version}`;
}

function kindsOf(registry: SchemaRegistry, served: readonly ServedResource[]): KindSchema[] {
  const kinds = new Set<KindSchema>();
  for (const { group, version, kind } of served) {
    const found = registry.kind({ group, version, kind });
    if (found) kinds.add(found);
  }
  return [...kinds];
}

function jsonDocument(value: JsonObject): OpenApiDocument {
  return toDocument(JSON_TYPE, Buffer.from(JSON.stringify(value)));
}

function toDocument(contentType: string, body: Buffer): OpenApiDocument {
  const hash = createHash('sha256').update(body).digest('hex').toUpperCase();
  return { contentType, etag: `"${hash}"`, body };
}

const PREFIX = '#/definitions/';

/** Names of definitions reachable from `kinds`, with their schemas as the registry has them. */
export function reachableDefinitions(kinds: readonly KindSchema[]): Map<string, JsonSchema> {
  const found = new Map<string, JsonSchema>();
  const visit = (schema: JsonSchema, kind: KindSchema): void => {
    if (schema.$ref !== undefined) {
      const name = schema.$ref.slice(PREFIX.length);
      if (!found.has(name)) {
        const target = kind.resolve(schema);
        found.set(name, target);
        visit(target, kind);
      }
    }
    if (schema.items) visit(schema.items, kind);
    if (typeof schema.additionalProperties === 'object') visit(schema.additionalProperties, kind);
    for (const property of Object.values(schema.properties ?? {})) visit(property, kind);
  };
  for (const kind of kinds) {
    found.set(kind.definition, kind.schema);
    visit(kind.schema, kind);
  }
  return found;
}

function renderV3(served: readonly ServedResource[], kinds: readonly KindSchema[]): JsonObject {
  const schemas: Record<string, Json> = {};
  for (const [name, schema] of reachableDefinitions(kinds)) schemas[name] = schemaV3(schema);
  const definitions = new Map(kinds.map((k) => [k.gvk.kind, k.definition]));
  const paths: Record<string, Json> = {};
  for (const resource of served) {
    const content = (type: string): JsonObject => {
      const definition = definitions.get(resource.kind);
      return { [type]: definition === undefined ? {} : { schema: { $ref: `#/components/schemas/${definition}` } } };
    };
    for (const { path, operations } of resourcePaths(resource)) {
      const item: Record<string, Json> = {};
      for (const { method, action, parameters, body } of operations) {
        item[method] = {
          operationId: operationId(method, path),
          ...(parameters.length > 0 && {
            parameters: parameters.map((p) => ({
              name: p.name,
              in: 'query',
              description: p.text,
              schema: { type: p.type },
            })),
          }),
          ...(body !== undefined && { requestBody: { content: content(body) } }),
          responses: { 200: { description: 'OK', content: content(JSON_TYPE) } },
          'x-kubernetes-action': action,
          'x-kubernetes-group-version-kind': { group: resource.group, version: resource.version, kind: resource.kind },
        };
      }
      paths[path] = item;
    }
  }
  return { openapi: '3.0.0', info: INFO, paths, components: { schemas } };
}

/** A reference with words of its own becomes `allOf`, which keeps both. */
function schemaV3(schema: JsonSchema): JsonObject {
  const { $ref, properties, items, additionalProperties, ...rest } = schema;
  const result: Record<string, Json | undefined> = { ...(rest as unknown as JsonObject) };
  if (properties) result.properties = Object.fromEntries(Object.entries(properties).map(([k, v]) => [k, schemaV3(v)]));
  if (items) result.items = schemaV3(items);
  if (typeof additionalProperties === 'object') result.additionalProperties = schemaV3(additionalProperties);
  else if (additionalProperties !== undefined) result.additionalProperties = additionalProperties;
  if ($ref !== undefined) {
    const target = { $ref: `#/components/schemas/${$ref.slice(PREFIX.length)}` };
    if (Object.keys(rest).length === 0) return target;
    result.allOf = [target];
  }
  return result;
}

export interface Parameter {
  readonly name: string;
  readonly type: string;
  readonly text: string;
}

export interface PathOperation {
  readonly method: 'get' | 'put' | 'post' | 'patch' | 'delete';
  readonly action: string;
  readonly parameters: readonly Parameter[];
  /** Media type of the request body. */
  readonly body?: string;
}

const DRY_RUN: Parameter = { name: 'dryRun', type: 'string', text: '"All": do everything but store the result.' };
const MANAGER: Parameter = { name: 'fieldManager', type: 'string', text: 'Name of the actor that makes the change.' };
const VALIDATION: Parameter = {
  name: 'fieldValidation',
  type: 'string',
  text: 'What to do about unknown and duplicate fields: Ignore, Warn (default) or Strict.',
};
const FORCE: Parameter = { name: 'force', type: 'boolean', text: 'Take fields over from other appliers.' };
const WRITE = [DRY_RUN, MANAGER, VALIDATION];

export function operationId(method: string, path: string): string {
  return `${method}${path.replace(/[^A-Za-z0-9]+(.)?/g, (_all, letter: string | undefined) => (letter ?? '').toUpperCase())}`;
}

/** Every path of a resource with its operations. Used for both versions. */
export function resourcePaths(
  resource: ServedResource,
): { readonly path: string; readonly operations: readonly PathOperation[] }[] {
  const { verbs, subresources = [] } = resource;
  const root = `/${groupPath(resource)}`;
  const collection = resource.namespaced
    ? `${root}/namespaces/{namespace}/${resource.resource}`
    : `${root}/${resource.resource}`;
  const item = `${collection}/{name}`;
  const has = (verb: string, operation: PathOperation): PathOperation[] => (verbs.includes(verb) ? [operation] : []);
  const patch: PathOperation = {
    method: 'patch',
    action: 'patch',
    parameters: [...WRITE, FORCE],
    body: 'application/merge-patch+json',
  };
  const put: PathOperation = { method: 'put', action: 'put', parameters: WRITE, body: JSON_TYPE };
  const paths = [
    {
      path: collection,
      operations: [
        ...has('list', { method: 'get', action: 'list', parameters: [] }),
        ...has('create', { method: 'post', action: 'post', parameters: WRITE, body: JSON_TYPE }),
        ...has('deletecollection', { method: 'delete', action: 'deletecollection', parameters: [DRY_RUN] }),
      ],
    },
    {
      path: item,
      operations: [
        ...has('get', { method: 'get', action: 'get', parameters: [] }),
        ...has('update', put),
        ...has('patch', patch),
        ...has('delete', { method: 'delete', action: 'delete', parameters: [DRY_RUN] }),
      ],
    },
    ...subresources
      .filter((name) => name === 'status')
      .map((name) => ({
        path: `${item}/${name}`,
        operations: [{ method: 'get', action: 'get', parameters: [] } as const, put, patch],
      })),
  ];
  if (resource.namespaced && verbs.includes('list')) {
    paths.push({
      path: `${root}/${resource.resource}`,
      operations: [{ method: 'get', action: 'list', parameters: [] }],
    });
  }
  return paths.filter((p) => p.operations.length > 0);
}
