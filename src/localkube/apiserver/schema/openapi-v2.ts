// OpenAPI v2 (Swagger): what v2 cannot say about a schema is left out, so that old clients do not refuse good objects.
// Called by openapi.ts.
import { INFO, operationId, reachableDefinitions, resourcePaths, type ServedResource } from './openapi.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from './types.ts';

export function renderV2(served: readonly ServedResource[], kinds: readonly KindSchema[]): JsonObject {
  const definitions: Record<string, Json> = {};
  for (const [name, schema] of reachableDefinitions(kinds)) definitions[name] = schemaV2(schema, true);
  const names = new Map(kinds.map((k) => [`${k.gvk.group}/${k.gvk.version}/${k.gvk.kind}`, k.definition]));
  const paths: Record<string, Json> = {};
  for (const resource of served) {
    const { group, version, kind } = resource;
    const definition = names.get(`${group}/${version}/${kind}`);
    const schema: JsonObject = definition === undefined ? {} : { $ref: `#/definitions/${definition}` };
    for (const { path, operations } of resourcePaths(resource)) {
      const item: Record<string, Json> = {};
      for (const { method, action, parameters, body } of operations) {
        const query = parameters.map((p) => ({
          name: p.name,
          in: 'query',
          description: p.text,
          type: p.type,
          uniqueItems: true,
        }));
        const payload = body === undefined ? [] : [{ name: 'body', in: 'body', required: true, schema }];
        item[method] = {
          operationId: operationId(method, path),
          consumes: ['*/*'],
          produces: ['application/json'],
          parameters: [...payload, ...query],
          responses: { 200: { description: 'OK', schema } },
          'x-kubernetes-action': action,
          'x-kubernetes-group-version-kind': { group, version, kind },
        };
      }
      paths[path] = item;
    }
  }
  return { swagger: '2.0', info: INFO, paths, definitions };
}

/** `top`: a definition; only there is the kind named. */
function schemaV2(schema: JsonSchema, top = false): JsonObject {
  const { description } = schema;
  const text = description === undefined ? {} : { description };
  const gvk = top ? pick(schema, ['x-kubernetes-group-version-kind']) : {};
  if (schema.$ref !== undefined) return { ...text, $ref: schema.$ref, ...pick(schema, EXTENSIONS) };
  if (schema.format === 'int-or-string') return { ...text, type: 'string', format: 'int-or-string' };
  if (schema['x-kubernetes-int-or-string']) return { ...text, 'x-kubernetes-int-or-string': true };
  // oneOf of scalars (a quantity): clients of that age know it as a string.
  if (schema.type === undefined && schema.oneOf) return { ...text, type: 'string' };
  if (schema['x-kubernetes-preserve-unknown-fields'] || (schema.nullable && !top)) {
    return { ...text, ...(schema.nullable ? {} : pick(schema, ['type'])), ...pick(schema, EXTENSIONS), ...gvk };
  }
  const result: Record<string, Json | undefined> = {
    ...text,
    ...pick(schema, PLAIN),
    ...pick(schema, EXTENSIONS),
    ...gvk,
  };
  if (schema.properties) {
    result.properties = Object.fromEntries(Object.entries(schema.properties).map(([k, v]) => [k, schemaV2(v)]));
  }
  if (schema.items) result.items = schemaV2(schema.items);
  if (typeof schema.additionalProperties === 'object')
    result.additionalProperties = schemaV2(schema.additionalProperties);
  return result;
}

const PLAIN = [
  'type',
  'format',
  'title',
  'required',
  'enum',
  'pattern',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
];

const EXTENSIONS = [
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-patch-strategy',
  'x-kubernetes-patch-merge-key',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-embedded-resource',
];

function pick(schema: JsonSchema, keywords: readonly string[]): JsonObject {
  const from = schema as unknown as JsonObject;
  return Object.fromEntries(keywords.filter((k) => from[k] !== undefined).map((k) => [k, from[k]]));
}
