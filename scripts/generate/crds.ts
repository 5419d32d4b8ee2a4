// generated/crds/*.json: CustomResourceDefinitions of the Istio and Gateway API kinds, from the declarations of their
// schema packages and the table in crd-table.ts. Called by scripts/generate/main.ts.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type CrdRow, GATEWAY_DEFAULTS, GATEWAY_KINDS, GATEWAY_LIST_KEYS, ISTIO_KINDS } from './crd-table.ts';
import { readDeclaration, type Schema } from './dts.ts';

/** Inlining `$ref`s deeper than this means a cycle, which a CRD cannot express. */
const MAX_DEPTH = 40;

export function generateCrds(root: string, out: string): void {
  const nodeModules = path.join(root, 'node_modules');
  mkdirSync(out, { recursive: true });
  const istioPackage = path.join(nodeModules, '@kubernetes-models', 'istio');
  const istio = ISTIO_KINDS.map((row) => {
    const file = path.join(istioPackage, row.group, row.schemaFrom, row.kind);
    const validator = path.join(istioPackage, '_schemas', `${camel(row.group)}${camel(row.schemaFrom)}${row.kind}.js`);
    const declaration = readDeclaration(nodeModules, file, () => validator);
    if (!declaration) throw new Error(`${file}.d.ts declares no ${row.kind}`);
    return definition(row, istioSchema(declaration.schema));
  });
  writeList(path.join(out, 'istio.json'), istio);

  const read = gatewayReader(nodeModules);
  const gateway = GATEWAY_KINDS.map((row) => {
    const file = path.join(nodeModules, '@kubernetes-models', 'gateway-api', row.group, row.schemaFrom, row.kind);
    return definition(row, gatewaySchema(read(file, 0)));
  });
  writeList(path.join(out, 'gateway-api.json'), gateway);
}

function writeList(file: string, items: readonly unknown[]): void {
  writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
}

function camel(text: string): string {
  return text
    .split('.')
    .map((part) => part[0]!.toUpperCase() + part.slice(1))
    .join('');
}

function definition(row: CrdRow, openAPIV3Schema: Schema) {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${row.plural}.${row.group}` },
    spec: {
      group: row.group,
      names: {
        kind: row.kind,
        listKind: `${row.kind}List`,
        plural: row.plural,
        singular: row.singular ?? row.kind.toLowerCase(),
        ...(row.shortNames && { shortNames: row.shortNames }),
        ...(row.categories && { categories: row.categories }),
      },
      scope: row.cluster ? 'Cluster' : 'Namespaced',
      versions: row.versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        schema: { openAPIV3Schema },
        subresources: { status: {} },
        ...(row.columns && { additionalPrinterColumns: row.columns }),
      })),
    },
  };
}

/** Status is written by controllers of several versions: it keeps what it is given. */
function istioSchema(schema: Schema): Schema {
  const properties = topLevel(schema);
  if (properties.status) {
    properties.status = { ...properties.status, type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  }
  return { type: 'object', ...(schema.description !== undefined && { description: schema.description }), properties };
}

function gatewaySchema(schema: Schema): Schema {
  return {
    type: 'object',
    ...(schema.description !== undefined && { description: schema.description }),
    properties: topLevel(schema),
    required: ['spec'],
  };
}

function topLevel(schema: Schema): Record<string, Schema> {
  const { apiVersion: _a, kind: _k, metadata: _m, ...rest } = schema.properties ?? {};
  return rest;
}

function gatewayReader(nodeModules: string): (file: string, depth: number) => Schema {
  const cache = new Map<string, Schema>();
  const read = (file: string, depth: number): Schema => {
    if (depth > MAX_DEPTH) throw new Error(`${file}: types refer to each other in a circle`);
    const known = cache.get(file);
    if (known) return known;
    if (file.includes('@kubernetes-models/apimachinery') && file.endsWith('/Time')) {
      return { type: 'string', format: 'date-time' };
    }
    if (!existsSync(`${file}.d.ts`)) throw new Error(`${file}.d.ts is missing`);
    const declaration = readDeclaration(nodeModules, file, (f) => gatewayValidator(nodeModules, f));
    if (!declaration) throw new Error(`${file}.d.ts declares no ${path.basename(file)}`);
    const schema = addTables(path.basename(file), inline(declaration.schema, read, depth));
    cache.set(file, schema);
    return schema;
  };
  return read;
}

function gatewayValidator(nodeModules: string, file: string): string {
  const version = path.basename(path.dirname(file));
  const base = path.join(nodeModules, '@kubernetes-models', 'gateway-api', '_schemas');
  return path.join(base, `IoK8sSigsGatewayApiApis${camel(version)}${path.basename(file)}.js`);
}

function inline(schema: Schema, read: (file: string, depth: number) => Schema, depth: number): Schema {
  if (typeof schema.$ref === 'string') {
    if (schema.$ref.endsWith('/ObjectMeta')) return { type: 'object' };
    const { $ref, ...own } = schema;
    return { ...read($ref as string, depth + 1), ...own };
  }
  const result: Schema = { ...schema };
  if (schema.items) result.items = inline(schema.items, read, depth);
  if (schema.additionalProperties) result.additionalProperties = inline(schema.additionalProperties, read, depth);
  if (schema.properties) {
    result.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([k, v]) => [k, inline(v, read, depth)]),
    );
  }
  return result;
}

function addTables(type: string, schema: Schema): Schema {
  for (const [field, value] of Object.entries(GATEWAY_DEFAULTS[type] ?? {})) {
    const property = schema.properties?.[field];
    if (property) schema.properties![field] = { ...property, default: value };
  }
  for (const [field, keys] of Object.entries(GATEWAY_LIST_KEYS[type] ?? {})) {
    const property = schema.properties?.[field];
    if (!property) continue;
    schema.properties![field] = { ...property, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': keys };
  }
  return schema;
}
