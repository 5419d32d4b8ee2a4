// generated/kubernetes/schemas.json: the OpenAPI definitions of Kubernetes' own kinds, named as upstream names them.
// Called by scripts/generate/main.ts.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { ATOMIC_TYPES, LIST_RULES } from '../../src/localkube/apiserver/schema/list-types.ts';
import { readDeclaration, type Schema } from './dts.ts';

/** Folder in the package → prefix of the definition names. */
const FOLDERS: Readonly<Record<string, string>> = {
  v1: 'io.k8s.api.core.v1',
  'admissionregistration.k8s.io/v1': 'io.k8s.api.admissionregistration.v1',
  'apiextensions.k8s.io/v1': 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1',
  'apiregistration.k8s.io/v1': 'io.k8s.kube-aggregator.pkg.apis.apiregistration.v1',
  'apps/v1': 'io.k8s.api.apps.v1',
  'authentication.k8s.io/v1': 'io.k8s.api.authentication.v1',
  'authorization.k8s.io/v1': 'io.k8s.api.authorization.v1',
  'autoscaling/v1': 'io.k8s.api.autoscaling.v1',
  'autoscaling/v2': 'io.k8s.api.autoscaling.v2',
  'batch/v1': 'io.k8s.api.batch.v1',
  'certificates.k8s.io/v1': 'io.k8s.api.certificates.v1',
  'coordination.k8s.io/v1': 'io.k8s.api.coordination.v1',
  'discovery.k8s.io/v1': 'io.k8s.api.discovery.v1',
  'events.k8s.io/v1': 'io.k8s.api.events.v1',
  'networking.k8s.io/v1': 'io.k8s.api.networking.v1',
  'node.k8s.io/v1': 'io.k8s.api.node.v1',
  'policy/v1': 'io.k8s.api.policy.v1',
  'rbac.authorization.k8s.io/v1': 'io.k8s.api.rbac.v1',
  'scheduling.k8s.io/v1': 'io.k8s.api.scheduling.v1',
  'storage.k8s.io/v1': 'io.k8s.api.storage.v1',
};

const EXTENSIONS = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1';
const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const API_VERSION_TEXT =
  'Group and version of the schema this object is written in. Servers may convert between versions and refuse unknown ones.';
const KIND_TEXT = 'The kind of resource this object stands for, in CamelCase. Cannot be changed.';

/** Types whose declaration says less than their meaning. */
const SPECIAL: Readonly<Record<string, Schema>> = {
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { oneOf: [{ type: 'string' }, { type: 'number' }] },
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': {
    format: 'int-or-string',
    oneOf: [{ type: 'integer' }, { type: 'string' }],
  },
  [`${META}.Time`]: { type: 'string', format: 'date-time' },
  [`${META}.MicroTime`]: { type: 'string', format: 'date-time' },
  [`${META}.FieldsV1`]: { type: 'object' },
  'io.k8s.apimachinery.pkg.runtime.RawExtension': { type: 'object' },
  [`${EXTENSIONS}.JSON`]: {},
  [`${EXTENSIONS}.JSONSchemaPropsOrArray`]: {},
  [`${EXTENSIONS}.JSONSchemaPropsOrBool`]: {},
  [`${EXTENSIONS}.JSONSchemaPropsOrStringArray`]: {},
};

export function generateKubernetesSchemas(root: string, out: string): void {
  const nodeModules = path.join(root, 'node_modules');
  const models = path.join(nodeModules, 'kubernetes-models');
  const definitions: Record<string, Schema> = {};
  const pending: string[] = [];
  for (const folder of Object.keys(FOLDERS)) {
    for (const file of readdirSync(path.join(models, folder))) {
      if (file.endsWith('.d.ts') && file !== 'index.d.ts') pending.push(path.join(models, folder, file.slice(0, -5)));
    }
  }
  const kinds = new Set<string>();
  const references = new Map<string, string[]>();
  const seen = new Set(pending);
  const nameOf = (file: string) => definitionName(nodeModules, file);
  for (let file = pending.pop(); file !== undefined; file = pending.pop()) {
    const name = nameOf(file);
    const declaration = readDeclaration(nodeModules, file, (f) => validatorOf(nodeModules, f));
    if (!declaration) continue;
    definitions[name] = finish(name, declaration.schema, nameOf);
    if (declaration.kind !== undefined && declaration.apiVersion !== undefined) {
      const [version, group = ''] = declaration.apiVersion.split('/').reverse();
      definitions[name]['x-kubernetes-group-version-kind'] = [{ group, version, kind: declaration.kind }];
      kinds.add(name);
    }
    references.set(name, [...declaration.references].map(nameOf));
    for (const target of declaration.references) {
      if (!seen.has(target) && existsSync(`${target}.d.ts`)) {
        seen.add(target);
        pending.push(target);
      }
    }
  }
  addListRules(definitions);
  const kept = reachable([...kinds, `${META}.DeleteOptions`, `${META}.Status`, `${META}.Patch`], references);
  const sorted = Object.fromEntries(
    Object.entries(definitions)
      .filter(([name]) => kept.has(name))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  mkdirSync(out, { recursive: true });
  writeFileSync(path.join(out, 'schemas.json'), JSON.stringify({ definitions: sorted }));
}

function definitionName(nodeModules: string, file: string): string {
  const relative = path.relative(nodeModules, file);
  const machinery = '@kubernetes-models/apimachinery/';
  if (relative.startsWith(machinery)) {
    return `io.k8s.apimachinery.pkg.${relative.slice(machinery.length).replaceAll('/', '.')}`;
  }
  const inside = relative.slice('kubernetes-models/'.length);
  const prefix = FOLDERS[path.dirname(inside)];
  const base = path.basename(inside);
  return `${prefix ?? `io.k8s.api.${path.dirname(inside).replaceAll('/', '.')}`}.${base}`;
}

function validatorOf(nodeModules: string, file: string): string {
  const name = definitionName(nodeModules, file);
  const camel = name
    .split(/[.-]/)
    .map((part) => part[0]!.toUpperCase() + part.slice(1))
    .join('');
  const at = file.includes('@kubernetes-models/apimachinery')
    ? '@kubernetes-models/apimachinery/_schemas'
    : 'kubernetes-models/_schemas';
  return path.join(nodeModules, at, `${camel}.js`);
}

function finish(name: string, schema: Schema, nameOf: (file: string) => string): Schema {
  const special = SPECIAL[name];
  if (special) return { description: schema.description, ...special };
  const done = rewrite(schema, nameOf);
  if (done.properties?.apiVersion && done.properties.kind && !name.includes('ObjectReference')) {
    const described = (property: Schema, text: string) =>
      property.description ? property : { description: text, ...property };
    done.properties.apiVersion = described(done.properties.apiVersion, API_VERSION_TEXT);
    done.properties.kind = described(done.properties.kind, KIND_TEXT);
  }
  return done;
}

function rewrite(schema: Schema, nameOf: (file: string) => string): Schema {
  const result: Schema = { ...schema };
  if (typeof schema.$ref === 'string') result.$ref = `#/definitions/${nameOf(schema.$ref)}`;
  if (schema.items) result.items = rewrite(schema.items, nameOf);
  if (schema.additionalProperties) result.additionalProperties = rewrite(schema.additionalProperties, nameOf);
  if (schema.properties) {
    result.properties = Object.fromEntries(Object.entries(schema.properties).map(([k, v]) => [k, rewrite(v, nameOf)]));
  }
  return result;
}

function addListRules(definitions: Record<string, Schema>): void {
  const byType = new Map<string, string>();
  for (const name of Object.keys(definitions)) byType.set(name.split('.').slice(-3).join('.'), name);
  for (const rule of LIST_RULES) {
    const name = byType.get(rule.type);
    const property = name === undefined ? undefined : definitions[name]?.properties?.[rule.field];
    if (!property) continue;
    if (rule.listType) property['x-kubernetes-list-type'] = rule.listType;
    if (rule.keys) property['x-kubernetes-list-map-keys'] = rule.keys;
    if (rule.strategy) property['x-kubernetes-patch-strategy'] = rule.strategy;
    if (rule.mergeKey) property['x-kubernetes-patch-merge-key'] = rule.mergeKey;
  }
  for (const [name, schema] of Object.entries(definitions)) {
    if (ATOMIC_TYPES.has(name.split('.').at(-1)!)) schema['x-kubernetes-map-type'] = 'atomic';
    for (const property of Object.values(schema.properties ?? {})) {
      if (property.type === 'array') property['x-kubernetes-list-type'] ??= 'atomic';
    }
  }
}

function reachable(roots: readonly string[], references: ReadonlyMap<string, readonly string[]>): Set<string> {
  const found = new Set<string>();
  const pending = [...roots];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    pending.push(...(references.get(name) ?? []));
  }
  return found;
}
