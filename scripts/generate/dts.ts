// Reads the .d.ts files of the kubernetes-models packages as JSON Schema: structure, enums and descriptions from the
// declarations, integer types, formats and limits from the compiled validators beside them.
// Called by kubernetes-schemas.ts and crds.ts.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript-js-api';
import { applyFacets, readFacets } from './facets.ts';

/** A schema under construction: plain JSON, keywords as in OpenAPI. */
export interface Schema {
  [keyword: string]: unknown;
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema;
  required?: string[];
}

/** One exported `I<Name>` of a file. */
export interface Declaration {
  readonly schema: Schema;
  readonly apiVersion?: string;
  readonly kind?: string;
  /** Absolute paths (without extension) of the declarations that `$ref`s point to. */
  readonly references: ReadonlySet<string>;
}

interface Context {
  readonly source: ts.SourceFile;
  readonly imports: ReadonlyMap<string, string>;
  readonly references: Set<string>;
  readonly self: string;
  readonly selfName: string;
}

/** Where the compiled validator of a declaration is; the file need not exist. */
export type ValidatorOf = (file: string) => string;

/** `file` is absolute, without `.d.ts`. A `$ref` in the answer holds the absolute path of the file it means. */
export function readDeclaration(nodeModules: string, file: string, validatorOf: ValidatorOf): Declaration | undefined {
  const text = readFileSync(`${file}.d.ts`, 'utf8');
  const name = path.basename(file);
  const source = ts.createSourceFile(
    file,
    text,
    { languageVersion: ts.ScriptTarget.Latest, jsDocParsingMode: ts.JSDocParsingMode.ParseNone },
    false,
  );
  const imports = new Map<string, string>();
  for (const statement of source.statements) {
    if (!ts.isImportDeclaration(statement)) continue;
    const from = (statement.moduleSpecifier as ts.StringLiteral).text.replace(/\.js$/, '');
    const target = from.startsWith('.') ? path.resolve(path.dirname(file), from) : path.join(nodeModules, from);
    const named = statement.importClause?.namedBindings;
    if (named && ts.isNamedImports(named)) for (const e of named.elements) imports.set(e.name.text, target);
  }
  const context: Context = { source, imports, references: new Set(), self: file, selfName: `I${name}` };
  for (const statement of source.statements) {
    if (ts.isInterfaceDeclaration(statement) && statement.name.text === `I${name}`) {
      const schema = objectSchema(statement.members, context);
      const meta = literals(statement.members);
      if (meta.kind !== undefined) {
        schema.properties = { apiVersion: { type: 'string' }, kind: { type: 'string' }, ...schema.properties };
        schema.properties.apiVersion = { type: 'string' };
        schema.properties.kind = { type: 'string' };
        schema.required = schema.required?.filter((r) => r !== 'apiVersion' && r !== 'kind');
      }
      const own = finish(schema, statement, context, validatorOf(file), meta);
      return baseFiles(statement, imports).reduce((merged, base) => {
        const inherited = readDeclaration(nodeModules, base, validatorOf);
        return inherited ? inherit(merged, inherited) : merged;
      }, own);
    }
    if (ts.isTypeAliasDeclaration(statement) && statement.name.text === `I${name}`) {
      return finish(typeSchema(statement.type, context), statement, context, validatorOf(file), {});
    }
  }
  return undefined;
}

function finish(
  schema: Schema,
  node: ts.Node,
  context: Context,
  validator: string,
  meta: { apiVersion?: string; kind?: string },
): Declaration {
  const text = description(node, context.source);
  applyFacets(schema, readFacets(validator));
  const described = text === undefined ? schema : { description: text, ...schema };
  if (described.required?.length === 0) delete described.required;
  return { schema: described, references: context.references, ...meta };
}

/** Files of the interfaces that `statement` extends, but for the bare apiVersion and kind. */
function baseFiles(statement: ts.InterfaceDeclaration, imports: ReadonlyMap<string, string>): string[] {
  const names = statement.heritageClauses?.flatMap((clause) => clause.types.map((t) => t.expression)) ?? [];
  return names.flatMap((name) => {
    if (!ts.isIdentifier(name) || name.text === 'TypeMeta') return [];
    const file = imports.get(name.text);
    if (file === undefined) throw new Error(`${statement.name.text} extends ${name.text}, which is not imported`);
    return [file];
  });
}

function inherit(own: Declaration, base: Declaration): Declaration {
  const required = [...new Set([...(base.schema.required ?? []), ...(own.schema.required ?? [])])];
  const schema: Schema = { ...own.schema, properties: { ...base.schema.properties, ...own.schema.properties } };
  if (required.length > 0) schema.required = required;
  return { ...own, schema, references: new Set([...own.references, ...base.references]) };
}

function literals(members: ts.NodeArray<ts.TypeElement>): { apiVersion?: string; kind?: string } {
  const found: { apiVersion?: string; kind?: string } = {};
  for (const member of members) {
    if (!ts.isPropertySignature(member) || !member.type || !ts.isLiteralTypeNode(member.type)) continue;
    const name = propertyName(member);
    if ((name === 'apiVersion' || name === 'kind') && ts.isStringLiteral(member.type.literal)) {
      found[name] = member.type.literal.text;
    }
  }
  return found;
}

function propertyName(member: ts.PropertySignature): string {
  const name = member.name;
  if (ts.isStringLiteral(name) || ts.isIdentifier(name)) return name.text;
  throw new Error(`property name of unexpected form (${ts.SyntaxKind[name.kind]})`);
}

function objectSchema(members: ts.NodeArray<ts.TypeElement>, context: Context): Schema {
  const schema: Schema = { type: 'object' };
  const required: string[] = [];
  for (const member of members) {
    if (ts.isIndexSignatureDeclaration(member)) {
      const value = typeSchema(member.type, context);
      if (isAnything(value)) schema['x-kubernetes-preserve-unknown-fields'] = true;
      else schema.additionalProperties = value;
      continue;
    }
    if (!ts.isPropertySignature(member) || !member.type) continue;
    const name = propertyName(member);
    const value = typeSchema(member.type, context);
    const text = description(member, context.source);
    schema.properties ??= {};
    schema.properties[name] = text === undefined ? value : { description: text, ...value };
    if (!member.questionToken) required.push(name);
  }
  if (required.length > 0) schema.required = required;
  return schema;
}

function isAnything(schema: Schema): boolean {
  return schema['x-kubernetes-preserve-unknown-fields'] === true && schema.type === undefined;
}

function typeSchema(node: ts.TypeNode, context: Context): Schema {
  if (ts.isParenthesizedTypeNode(node)) return typeSchema(node.type, context);
  if (ts.isTypeLiteralNode(node)) {
    if (node.members.length === 0) return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    return objectSchema(node.members, context);
  }
  if (ts.isUnionTypeNode(node)) return unionSchema(node, context);
  if (ts.isIntersectionTypeNode(node)) return intersectionSchema(node, context);
  if (ts.isArrayTypeNode(node)) return { type: 'array', items: typeSchema(node.elementType, context) };
  if (ts.isLiteralTypeNode(node)) return literalSchema([node]);
  if (ts.isTypeReferenceNode(node)) return referenceSchema(node, context);
  switch (node.kind) {
    case ts.SyntaxKind.StringKeyword:
      return { type: 'string' };
    case ts.SyntaxKind.NumberKeyword:
      return { type: 'number' };
    case ts.SyntaxKind.BooleanKeyword:
      return { type: 'boolean' };
    case ts.SyntaxKind.UnknownKeyword:
    case ts.SyntaxKind.AnyKeyword:
      return { 'x-kubernetes-preserve-unknown-fields': true };
    case ts.SyntaxKind.ObjectKeyword:
      return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    default:
      throw new Error(`${context.self}: type of unexpected form (${ts.SyntaxKind[node.kind]})`);
  }
}

function referenceSchema(node: ts.TypeReferenceNode, context: Context): Schema {
  const name = ts.isIdentifier(node.typeName) ? node.typeName.text : '';
  if (name === 'Array') return { type: 'array', items: typeSchema(node.typeArguments![0]!, context) };
  if (name === 'Record') {
    const value = typeSchema(node.typeArguments![1]!, context);
    if (isAnything(value)) return { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
    return { type: 'object', additionalProperties: value };
  }
  const target = name === context.selfName ? context.self : context.imports.get(name);
  if (target === undefined) throw new Error(`${context.self}: unknown type ${name}`);
  context.references.add(target);
  return { $ref: target };
}

function literalSchema(nodes: readonly ts.LiteralTypeNode[]): Schema {
  const values = nodes.map((n) => {
    if (ts.isStringLiteral(n.literal)) return n.literal.text;
    if (ts.isNumericLiteral(n.literal)) return Number(n.literal.text);
    return n.literal.kind === ts.SyntaxKind.TrueKeyword;
  });
  return { type: typeof values[0], enum: values };
}

function unionSchema(node: ts.UnionTypeNode, context: Context): Schema {
  const members = node.types.filter((t) => !(ts.isLiteralTypeNode(t) && t.literal.kind === ts.SyntaxKind.NullKeyword));
  if (members.every((t) => ts.isLiteralTypeNode(t))) return literalSchema(members as ts.LiteralTypeNode[]);
  if (members.length === 1) return typeSchema(members[0]!, context);
  const kinds = new Set(members.map((t) => t.kind));
  if (kinds.size === 2 && kinds.has(ts.SyntaxKind.StringKeyword) && kinds.has(ts.SyntaxKind.NumberKeyword)) {
    return { 'x-kubernetes-int-or-string': true };
  }
  // A list of alternatives of objects: what all share is checked, which one is meant is not.
  const all = members.map((t) => typeSchema(t, context));
  const objects = all.filter((s) => s.type === 'object');
  if (objects.length === all.length) {
    return { type: 'object', properties: Object.assign({}, ...objects.map((s) => s.properties ?? {})) };
  }
  return { 'x-kubernetes-preserve-unknown-fields': true };
}

/** `A & (Exclude<A, B | C> | B | C)`: A's fields, and oneOf neither, B's own required field, or C's. */
function intersectionSchema(node: ts.IntersectionTypeNode, context: Context): Schema {
  const base = typeSchema(node.types[0]!, context);
  const groups: Schema[] = [];
  for (const member of node.types.slice(1)) groups.push(...oneOfGroups(member, new Set(base.required ?? []), context));
  if (groups.length === 0) return base;
  return groups.length === 1 ? { ...base, ...groups[0] } : { ...base, allOf: groups };
}

function oneOfGroups(node: ts.TypeNode, known: ReadonlySet<string>, context: Context): Schema[] {
  if (ts.isParenthesizedTypeNode(node)) return oneOfGroups(node.type, known, context);
  if (ts.isIntersectionTypeNode(node)) return node.types.flatMap((t) => oneOfGroups(t, known, context));
  if (ts.isTypeLiteralNode(node)) {
    const names = requiredBeyond(node, known);
    return names.length > 0 ? [{ required: names }] : [];
  }
  if (!ts.isUnionTypeNode(node)) return [];
  const branches: Schema[] = [];
  let optional = false;
  for (let member of node.types) {
    while (ts.isParenthesizedTypeNode(member)) member = member.type;
    if (ts.isTypeReferenceNode(member)) {
      optional = true;
      continue;
    }
    const literal = ts.isIntersectionTypeNode(member) ? member.types.find((t) => ts.isTypeLiteralNode(t)) : member;
    if (!literal || !ts.isTypeLiteralNode(literal)) continue;
    const names = requiredBeyond(literal, known);
    if (names.length > 0) branches.push({ required: names });
  }
  if (branches.length === 0) return [];
  return [{ oneOf: optional ? [{ not: { anyOf: branches } }, ...branches] : branches }];
}

function requiredBeyond(node: ts.TypeLiteralNode, known: ReadonlySet<string>): string[] {
  const names: string[] = [];
  for (const member of node.members) {
    if (!ts.isPropertySignature(member) || member.questionToken) continue;
    const name = propertyName(member);
    if (!known.has(name)) names.push(name);
  }
  return names;
}

function description(node: ts.Node, source: ts.SourceFile): string | undefined {
  const ranges = ts.getLeadingCommentRanges(source.text, node.getFullStart());
  const last = ranges?.at(-1);
  if (!last) return undefined;
  const raw = source.text.slice(last.pos, last.end);
  if (!raw.startsWith('/**')) return undefined;
  const text = raw
    .slice(3, -2)
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join('\n')
    .trim()
    .replaceAll('*\\/', '*/')
    .replaceAll('\\*', '*');
  return text === '' ? undefined : text;
}
