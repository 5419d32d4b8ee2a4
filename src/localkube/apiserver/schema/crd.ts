// Whether a CustomResourceDefinition can be served: names, versions, structural schema. Called by the API server when one
// is created or updated.
import { add, checkValue, isPattern, show } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import { dns1035Label, dnsSubdomain } from './names.ts';
import type { FieldError, Json, JsonObject, JsonSchema } from './types.ts';

const TYPES = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const MAX_SCHEMA_DEPTH = 64;
const MAX_SCHEMA_NODES = 50_000;

interface Walk {
  readonly errors: FieldError[];
  readonly warnings: string[];
  nodes: number;
}

/** `warnings` name CEL rules that this cluster does not evaluate. `crd` is decoded and has its defaults. */
export function validateCustomResourceDefinition(crd: JsonObject): {
  readonly errors: readonly FieldError[];
  readonly warnings: readonly string[];
} {
  const walk: Walk = { errors: [], warnings: [], nodes: 0 };
  const spec = child(crd as Draft, 'spec') ?? {};
  const names = child(spec, 'names') ?? {};
  const name = String(child(crd as Draft, 'metadata')?.name ?? '');
  const wanted = `${String(names.plural)}.${String(spec.group)}`;
  if (name !== wanted) {
    invalid(walk, 'metadata.name', name, 'must be spec.names.plural+"."+spec.group');
  }
  const wrongGroup = dnsSubdomain(String(spec.group ?? ''));
  if (wrongGroup !== undefined) invalid(walk, 'spec.group', spec.group, wrongGroup);
  else if (!String(spec.group).includes('.'))
    invalid(walk, 'spec.group', spec.group, 'should be a domain with at least one dot');
  checkNames(names, walk);
  if (spec.scope !== 'Cluster' && spec.scope !== 'Namespaced')
    notSupported(walk, 'spec.scope', spec.scope, ['Cluster', 'Namespaced']);
  if (child(spec, 'conversion')?.strategy === 'Webhook') {
    add(
      walk,
      'FieldValueForbidden',
      'spec.conversion.strategy',
      'Forbidden: this cluster converts only with strategy None',
    );
  }
  checkVersions(spec, walk);
  return { errors: walk.errors, warnings: walk.warnings };
}

function invalid(walk: Walk, field: string, value: unknown, why: string): void {
  add(walk, 'FieldValueInvalid', field, `Invalid value: ${show((value ?? null) as Json)}: ${why}`);
}

function notSupported(walk: Walk, field: string, value: unknown, values: readonly string[]): void {
  const list = values.map((v) => JSON.stringify(v)).join(', ');
  add(
    walk,
    'FieldValueNotSupported',
    field,
    `Unsupported value: ${show((value ?? '') as Json)}: supported values: ${list}`,
  );
}

function checkNames(names: Draft, walk: Walk): void {
  for (const field of ['plural', 'singular', 'kind', 'listKind']) {
    const value = names[field];
    if (value === undefined || value === '') {
      if (field === 'plural' || field === 'kind')
        add(walk, 'FieldValueRequired', `spec.names.${field}`, 'Required value');
      continue;
    }
    const wrong = dns1035Label(String(value).toLowerCase());
    if (wrong !== undefined) invalid(walk, `spec.names.${field}`, value, wrong);
    else if (field === 'plural' && value !== String(value).toLowerCase())
      invalid(walk, 'spec.names.plural', value, 'must be lower case');
  }
  for (const field of ['shortNames', 'categories']) {
    for (const [i, value] of (Array.isArray(names[field]) ? names[field] : []).entries()) {
      const wrong = dns1035Label(String(value));
      if (wrong !== undefined) invalid(walk, `spec.names.${field}[${i}]`, value, wrong);
    }
  }
}

function checkVersions(spec: Draft, walk: Walk): void {
  const versions = children(spec, 'versions');
  if (versions.length === 0)
    add(walk, 'FieldValueRequired', 'spec.versions', 'Required value: must have at least one version');
  const stored = versions.filter((v) => v.storage === true).length;
  if (versions.length > 0 && stored !== 1) {
    invalid(
      walk,
      'spec.versions',
      versions.map((v) => v.name),
      'must have exactly one version marked as storage version',
    );
  }
  const seen = new Set<unknown>();
  for (const [i, version] of versions.entries()) {
    const at = `spec.versions[${i}]`;
    const wrong = dns1035Label(String(version.name ?? ''));
    if (wrong !== undefined) invalid(walk, `${at}.name`, version.name, wrong);
    if (seen.has(version.name)) invalid(walk, `${at}.name`, version.name, 'must be unique');
    seen.add(version.name);
    const schema = child(child(version, 'schema'), 'openAPIV3Schema');
    if (!schema) {
      add(walk, 'FieldValueRequired', `${at}.schema.openAPIV3Schema`, 'Required value: schemas are required');
      continue;
    }
    const path = `${at}.schema.openAPIV3Schema`;
    if (schema.type !== 'object') {
      if (schema.type === undefined)
        add(walk, 'FieldValueRequired', `${path}.type`, 'Required value: must not be empty at the root');
      else invalid(walk, `${path}.type`, schema.type, 'must be object at the root');
    }
    structural(schema as JsonSchema, path, walk, 0, false);
  }
}

/** `bare`: inside oneOf, anyOf, allOf or not, where values are constrained but not described. */
function structural(schema: JsonSchema, path: string, walk: Walk, depth: number, bare: boolean): void {
  if (depth > MAX_SCHEMA_DEPTH || ++walk.nodes > MAX_SCHEMA_NODES) {
    if (walk.nodes <= MAX_SCHEMA_NODES || walk.nodes === MAX_SCHEMA_NODES + 1) {
      invalid(
        walk,
        path,
        '',
        `schema is deeper than ${MAX_SCHEMA_DEPTH} levels or has more than ${MAX_SCHEMA_NODES} nodes`,
      );
    }
    return;
  }
  checkKeywords(schema, path, walk, bare);
  if (Array.isArray(schema['x-kubernetes-validations']) && schema['x-kubernetes-validations'].length > 0) {
    for (const i of schema['x-kubernetes-validations'].keys()) {
      walk.warnings.push(
        `${path}.x-kubernetes-validations[${i}]: CEL rules are not evaluated by this cluster; values are not checked by this rule`,
      );
    }
  }
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    structural(property, `${path}.properties[${key}]`, walk, depth + 1, bare);
  }
  if (schema.items) structural(schema.items, `${path}.items`, walk, depth + 1, bare);
  if (typeof schema.additionalProperties === 'object') {
    structural(schema.additionalProperties, `${path}.additionalProperties`, walk, depth + 1, bare);
  }
  for (const word of ['allOf', 'anyOf', 'oneOf'] as const) {
    for (const [i, part] of (schema[word] ?? []).entries())
      structural(part, `${path}.${word}[${i}]`, walk, depth + 1, true);
  }
  if (schema.not) structural(schema.not, `${path}.not`, walk, depth + 1, true);
}

function checkKeywords(schema: JsonSchema, path: string, walk: Walk, bare: boolean): void {
  const open = schema['x-kubernetes-int-or-string'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true;
  if (schema.type === undefined) {
    if (!bare && !open)
      add(walk, 'FieldValueRequired', `${path}.type`, 'Required value: must not be empty for specified object fields');
  } else if (!TYPES.includes(schema.type)) notSupported(walk, `${path}.type`, schema.type, TYPES);
  if (schema.$ref !== undefined) add(walk, 'FieldValueForbidden', `${path}.$ref`, 'Forbidden: $ref is not supported');
  if (schema.type === 'array' && !schema.items && !bare)
    add(walk, 'FieldValueRequired', `${path}.items`, 'Required value: must be specified');
  if (schema.uniqueItems === true) {
    add(
      walk,
      'FieldValueForbidden',
      `${path}.uniqueItems`,
      'Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    );
  }
  if (schema.properties && schema.additionalProperties !== undefined && schema.additionalProperties !== false) {
    add(
      walk,
      'FieldValueForbidden',
      `${path}.additionalProperties`,
      'Forbidden: additionalProperties and properties are mutual exclusive',
    );
  }
  if (schema.pattern !== undefined && !isPattern(schema.pattern)) {
    invalid(walk, `${path}.pattern`, schema.pattern, 'must be a valid regular expression (RE2)');
  }
  if (schema['x-kubernetes-list-type'] === 'map' && (schema['x-kubernetes-list-map-keys'] ?? []).length === 0) {
    add(
      walk,
      'FieldValueRequired',
      `${path}.x-kubernetes-list-map-keys`,
      'Required value: must not be empty if x-kubernetes-list-type is map',
    );
  }
  if (schema.default !== undefined) {
    const errors: FieldError[] = [];
    checkValue(schema.default, schema, `${path}.default`, { resolve: (s) => s, errors, builtIn: false });
    for (const error of errors.slice(0, 1)) walk.errors.push(error);
  }
}
