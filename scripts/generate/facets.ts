// What the declarations cannot say (integer, format, pattern, limits), read from the compiled validator functions.
// Called by dts.ts.
import { existsSync, readFileSync } from 'node:fs';
import ts from 'typescript-js-api';
import type { Schema } from './dts.ts';

interface Facets {
  readonly keywords: Record<string, unknown>;
  readonly properties: Map<string, string>;
  items?: string;
  values?: string;
  same: string[];
}

interface FacetFile {
  readonly root: string;
  readonly functions: ReadonlyMap<string, Facets>;
}

/** Limits are in `params.limit`; the rest is under its own name. */
const LIMITS = new Set([
  'minimum',
  'maximum',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'minProperties',
  'maxProperties',
]);

export function readFacets(file: string): FacetFile | undefined {
  if (!existsSync(file)) return undefined;
  const source = ts.createSourceFile(
    file,
    readFileSync(file, 'utf8'),
    { languageVersion: ts.ScriptTarget.Latest, jsDocParsingMode: ts.JSDocParsingMode.ParseNone },
    false,
    ts.ScriptKind.JS,
  );
  const functions = new Map<string, Facets>();
  let root = 'validate';
  for (const statement of source.statements) {
    if (ts.isFunctionDeclaration(statement) && statement.name && statement.body) {
      functions.set(statement.name.text, readFunction(statement.body));
    } else if (ts.isVariableStatement(statement)) {
      const declared = statement.declarationList.declarations[0];
      if (declared && ts.isIdentifier(declared.name) && declared.name.text === 'validate' && declared.initializer) {
        if (ts.isIdentifier(declared.initializer)) root = declared.initializer.text;
      }
    }
  }
  return { root, functions };
}

function readFunction(body: ts.Block): Facets {
  const facets: Facets = { keywords: {}, properties: new Map(), same: [] };
  const visit = (node: ts.Node): void => {
    if (ts.isObjectLiteralExpression(node)) readError(node, facets);
    else if (ts.isCallExpression(node)) readCall(node, facets);
    ts.forEachChild(node, visit);
  };
  visit(body);
  return facets;
}

function readError(node: ts.ObjectLiteralExpression, facets: Facets): void {
  let keyword: string | undefined;
  let params: ts.ObjectLiteralExpression | undefined;
  for (const property of node.properties) {
    if (!ts.isPropertyAssignment(property) || !ts.isIdentifier(property.name)) continue;
    if (property.name.text === 'keyword' && ts.isStringLiteral(property.initializer))
      keyword = property.initializer.text;
    if (property.name.text === 'params' && ts.isObjectLiteralExpression(property.initializer))
      params = property.initializer;
  }
  if (keyword === undefined || params === undefined || keyword in facets.keywords) return;
  const wanted = LIMITS.has(keyword) ? 'limit' : keyword;
  for (const property of params.properties) {
    if (!ts.isPropertyAssignment(property) || !ts.isIdentifier(property.name) || property.name.text !== wanted)
      continue;
    const value = constant(property.initializer);
    if (value !== undefined) facets.keywords[keyword] = value;
  }
}

function constant(node: ts.Expression): string | number | undefined {
  if (ts.isStringLiteral(node) || ts.isNoSubstitutionTemplateLiteral(node)) return node.text;
  if (ts.isNumericLiteral(node)) return Number(node.text);
  if (
    ts.isPrefixUnaryExpression(node) &&
    node.operator === ts.SyntaxKind.MinusToken &&
    ts.isNumericLiteral(node.operand)
  ) {
    return -Number(node.operand.text);
  }
  return undefined;
}

function readCall(node: ts.CallExpression, facets: Facets): void {
  if (!ts.isIdentifier(node.expression) || !/^validate\d+$/.test(node.expression.text)) return;
  const argument = node.arguments[0];
  if (!argument) return;
  if (ts.isIdentifier(argument) && argument.text === 'data') facets.same.push(node.expression.text);
  else if (ts.isPropertyAccessExpression(argument)) facets.properties.set(argument.name.text, node.expression.text);
  else if (ts.isElementAccessExpression(argument)) {
    const index = argument.argumentExpression;
    if (ts.isStringLiteral(index)) facets.properties.set(index.text, node.expression.text);
    else if (ts.isIdentifier(index) && index.text.startsWith('key')) facets.values = node.expression.text;
    else facets.items = node.expression.text;
  }
}

/** Adds the keywords found in the validator to the schema of the same shape. */
export function applyFacets(schema: Schema, file: FacetFile | undefined): void {
  if (file !== undefined) apply(schema, file.root, file);
}

function apply(schema: Schema, name: string, file: FacetFile): void {
  const facets = file.functions.get(name);
  if (!facets || schema.$ref !== undefined) return;
  for (const [keyword, value] of Object.entries(facets.keywords)) {
    if (keyword === 'type') {
      if (schema.type === 'number' && value === 'integer') schema.type = 'integer';
    } else if (keyword === 'format' || keyword === 'pattern' || LIMITS.has(keyword)) {
      if (schema.type === 'object' && !keyword.endsWith('Properties')) continue;
      if (!(keyword === 'format' && schema['x-kubernetes-int-or-string'])) schema[keyword] = value;
    }
  }
  for (const [key, child] of facets.properties) {
    const property = schema.properties?.[key];
    if (property) apply(property, child, file);
  }
  if (facets.items !== undefined && schema.items) apply(schema.items, facets.items, file);
  if (facets.values !== undefined && schema.additionalProperties)
    apply(schema.additionalProperties, facets.values, file);
}
