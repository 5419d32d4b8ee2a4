// A syntax tree to a function of what is known about a stream, by the rules of Envoy's evaluator: types are looked at when there
// are values, what goes wrong is a value of its own that `&&`, `||` and `?:` may pass over, and nothing is thrown on the way of
// requests. Used by expression.ts.
import { RE2JS } from 're2js';
import { LOG_NEEDS } from '../access-log/needs.ts';
import { ConfigError } from '../config/fields.ts';
import { utf8Bytes, utf8Text } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { MAX_CEL_PATTERN_SIZE } from '../limits.ts';
import { type Attribute, GROUPS, groupMap, headerReader, type Read, UNKNOWN_HERE, VARIABLES } from './attributes.ts';
import { at, BINARY, GLOBAL, METHODS, METHODS_OF_TWO, negate, not, TYPES } from './functions.ts';
import { type ASTNode, parseExpression } from './parser.ts';
import { type CelMap, ERROR, equal, FATAL, int, isError, kindOf, orError, type Value } from './values.ts';

export type Run = (info: StreamInfo) => Value;

/** `text` is bytes, as formats are. */
export function compileFilterExpression(text: string, path: string): Run {
  return compile(parseExpression(utf8Text(text), 'filter expression', path), path);
}

/** For what is printed. Messages have no text that would stay the same: they are asked for their fields. */
export function compileResult(text: string, path: string): Run {
  const tree = parseExpression(utf8Text(text), 'expression', path);
  const name = messageName(tree);
  if (name !== undefined)
    throw new ConfigError(path, `'${name}' as a whole is not supported by this proxy: name a field of it`);
  return compile(tree, path);
}

function messageName(node: ASTNode): string | undefined {
  if (node.op === '?:') return messageName(node.args[1]) ?? messageName(node.args[2]);
  return attributeAt(node)?.message ? nameOf(node) : undefined;
}

function nameOf(node: ASTNode): string {
  const place = placeOf(node);
  return place ? `${place.group}.${place.name}` : String(node.args);
}

function compile(node: ASTNode, path: string): Run {
  switch (node.op) {
    case 'value':
      return constant(literal(node.args, node.input, path));
    case 'id':
      return variable(node.args);
    case '.':
    case '[]':
      return access(node, path);
    case '&&':
    case '||':
      return logic(node.op === '||', compile(node.args[0], path), compile(node.args[1], path));
    case '?:':
      return choice(compile(node.args[0], path), compile(node.args[1], path), compile(node.args[2], path));
    case '!_':
      return one(not, compile(operand(node.args), path));
    case '-_':
      return negated(operand(node.args), path);
    case 'list':
      return list(node.args.map((item) => compile(item, path)));
    case 'map':
      return map(node.args.map(([key, value]) => [compile(key, path), compile(value, path)]));
    case 'call':
      return call(node.args[0], node.args[1], path);
    case 'rcall':
      return methodCall(node.args[0], node.args[1], node.args[2], path);
    default: {
      const run = BINARY.get(node.op);
      if (!run) throw new ConfigError(path, `'${node.op}' is not supported by this proxy`);
      const [left, right] = node.args as [ASTNode, ASTNode];
      return two(run, compile(left, path), compile(right, path));
    }
  }
}

const operand = (args: ASTNode | readonly ASTNode[]): ASTNode => (Array.isArray(args) ? args[0]! : (args as ASTNode));
const constant =
  (value: Value): Run =>
  () =>
    value;

function literal(value: unknown, input: string, path: string): Value {
  if (typeof value === 'string') return utf8Bytes(value);
  if (typeof value === 'boolean' || typeof value === 'number' || value === null) return value;
  if (typeof value === 'bigint') {
    if (int(value) === ERROR) throw new ConfigError(path, 'Not able to parse expression: invalid int literal');
    return value;
  }
  if (value instanceof Uint8Array) {
    if (/[^\0-\x7f]/.test(input)) throw new ConfigError(path, 'bytes beside text beyond ASCII are not supported');
    return { kind: 'bytes', bytes: Buffer.from(value).toString('latin1') };
  }
  return { kind: 'uint', value: BigInt(String((value as object).valueOf())) };
}

/** The least int has no positive counterpart. */
function negated(node: ASTNode, path: string): Run {
  if (node.op === 'value' && typeof node.args === 'bigint') return constant(literal(-node.args, '', path));
  return one(negate, compile(node, path));
}

function variable(name: string): Run {
  const group = GROUPS.get(name);
  if (group) return (info) => groupMap(group, info);
  const attribute = VARIABLES.get(name);
  if (attribute) return or(attribute.read);
  // A name nobody knows is one more value that is not there.
  return constant(TYPES.has(name) ? { kind: 'type', name } : ERROR);
}

const or =
  (read: Read): Run =>
  (info) =>
    orError(read(info));

/** `a.b` or `a["b"]` of a group. */
function placeOf(node: ASTNode): { readonly group: string; readonly name: string } | undefined {
  const key = keyOf(node);
  if (key === undefined) return undefined;
  const base = (node.args as [ASTNode, unknown])[0];
  return base.op === 'id' && GROUPS.has(base.args) ? { group: base.args, name: key } : undefined;
}

function keyOf(node: ASTNode): string | undefined {
  if (node.op === '.') return node.args[1];
  if (node.op !== '[]') return undefined;
  const [, key] = node.args;
  return key.op === 'value' && typeof key.args === 'string' ? key.args : undefined;
}

function attributeAt(node: ASTNode): Attribute | undefined {
  if (node.op === 'id') return VARIABLES.get(node.args);
  const place = placeOf(node);
  return place && GROUPS.get(place.group)!.get(place.name);
}

function access(node: Extract<ASTNode, { op: '.' | '[]' }>, path: string): Run {
  const place = placeOf(node);
  if (place) {
    if (UNKNOWN_HERE.get(place.group)?.has(place.name))
      throw new ConfigError(path, `'${place.group}.${place.name}' is not supported by this proxy`);
    const attribute = attributeAt(node);
    if (attribute?.fine) LOG_NEEDS.fineTime = true;
    return attribute ? or(attribute.read) : constant(ERROR);
  }
  const [whole] = node.args;
  const key = keyOf(node);
  const headers = attributeAt(whole)?.headers;
  if (headers && key !== undefined) return or(headerReader(headers, utf8Bytes(key)));
  const base = compile(whole, path);
  if (node.op === '[]') return two(at, base, compile(node.args[1], path));
  const name = utf8Bytes(node.args[1]);
  return (info) => orError(fieldOf(base(info), name));
}

function fieldOf(value: Value, name: string): Value | undefined {
  if (value === FATAL) return FATAL;
  if (typeof value !== 'object' || value === null) return undefined;
  if (value.kind === 'map') return value.get(name);
  return value.kind === 'message' ? value.field(name) : undefined;
}

/** One side that decides makes good for an error of the other. */
function logic(decisive: boolean, left: Run, right: Run): Run {
  return (info) => {
    const first = left(info);
    if (first === decisive || first === FATAL) return first;
    const second = right(info);
    if (second === decisive || second === FATAL) return second;
    return typeof first === 'boolean' && typeof second === 'boolean' ? !decisive : ERROR;
  };
}

function choice(condition: Run, yes: Run, no: Run): Run {
  return (info) => {
    const value = condition(info);
    if (typeof value !== 'boolean') return errorOf(value);
    return value ? yes(info) : no(info);
  };
}

const errorOf = (value: Value): Value => (value === FATAL ? FATAL : ERROR);

function one(run: (value: Value) => Value, operand: Run): Run {
  return (info) => {
    const value = operand(info);
    return isError(value) ? value : run(value);
  };
}

function two(run: (left: Value, right: Value) => Value, left: Run, right: Run): Run {
  return (info) => {
    const first = left(info);
    if (first === FATAL) return FATAL;
    const second = right(info);
    if (isError(second)) return second;
    return first === ERROR ? ERROR : run(first, second);
  };
}

function list(items: readonly Run[]): Run {
  return (info) => {
    const values = items.map((item) => item(info));
    if (values.includes(FATAL)) return FATAL;
    return values.includes(ERROR) ? ERROR : { kind: 'list', items: values };
  };
}

type Entry = readonly [Value, Value];
const KEY_KINDS: ReadonlySet<string> = new Set(['string', 'int', 'uint', 'bool']);

function map(entries: readonly (readonly [Run, Run])[]): Run {
  return (info) => {
    const made: Entry[] = [];
    for (const [key, value] of entries) {
      const entry: Entry = [key(info), value(info)];
      if (entry.includes(FATAL)) return FATAL;
      if (!KEY_KINDS.has(kindOf(entry[0])) || entry[1] === ERROR || find(made, entry[0])) return ERROR;
      made.push(entry);
    }
    return mapOf(made);
  };
}

const find = (entries: readonly Entry[], key: Value): Entry | undefined => entries.find(([one]) => equal(one, key));

function mapOf(entries: readonly Entry[]): CelMap {
  return {
    kind: 'map',
    size: entries.length,
    get: (key) => find(entries, key)?.[1],
    keys: () => entries.map(([key]) => key),
  };
}

function call(name: string, args: readonly ASTNode[], path: string): Run {
  const [first, second] = args;
  if (name === 'has' && first && args.length === 1) return present(first, path);
  if (name === 'matches' && second && args.length === 2) return matches(first!, second, path);
  const run = args.length === 1 ? GLOBAL.get(name) : undefined;
  if (!run) throw unknownFunction(name, path);
  return one(run, compile(first!, path));
}

/** Macros of which each is a loop. */
const COMPREHENSIONS: ReadonlySet<string> = new Set(['all', 'exists', 'exists_one', 'filter', 'map']);

function methodCall(name: string, receiver: ASTNode, args: readonly ASTNode[], path: string): Run {
  if (COMPREHENSIONS.has(name) && args.length >= 2)
    throw new ConfigError(path, 'failed to create an expression: Comprehension support is disabled');
  if (receiver.op === 'id' && receiver.args === 're')
    throw new ConfigError(path, `'re.${name}' is not supported by this proxy`);
  const [argument] = args;
  if (!argument) {
    const run = METHODS.get(name);
    if (run) return one(run, compile(receiver, path));
  } else if (args.length === 1) {
    if (name === 'matches') return matches(receiver, argument, path);
    if (METHODS.has(name) && name !== 'size')
      throw new ConfigError(path, `${name}() with a time zone is not supported by this proxy`);
    const run = METHODS_OF_TWO.get(name);
    if (run) return two(run, compile(receiver, path), compile(argument, path));
  }
  throw unknownFunction(name, path);
}

function unknownFunction(name: string, path: string): ConfigError {
  return new ConfigError(
    path,
    `failed to create an expression: No overload found in reference resolve step for ${name}`,
  );
}

/** has(a.b) */
function present(node: ASTNode, path: string): Run {
  if (node.op !== '.')
    throw new ConfigError(path, 'Not able to parse expression: has() argument must be a field selection');
  const [whole, field] = node.args;
  const headers = attributeAt(whole)?.headers;
  if (headers) {
    const read = headerReader(headers, utf8Bytes(field));
    return (info) => read(info) !== undefined;
  }
  const base = compile(whole, path);
  const name = utf8Bytes(field);
  return (info) => isSet(base(info), name);
}

/** Fields of messages are there when they are more than their default. */
function isSet(value: Value, name: string): Value {
  if (value === FATAL) return FATAL;
  if (typeof value !== 'object' || value === null) return ERROR;
  if (value.kind === 'map') return value.get(name) !== undefined;
  const field = value.kind === 'message' ? value.field(name) : undefined;
  if (field === undefined) return ERROR;
  return typeof field === 'object' && field?.kind === 'map' ? field.size > 0 : field !== '';
}

/** The pattern stands in the configuration: one of a client would be compiled for every request. */
function matches(text: ASTNode, pattern: ASTNode, path: string): Run {
  if (pattern.op !== 'value' || typeof pattern.args !== 'string')
    throw new ConfigError(path, 'matches() with a pattern that is no literal is not supported by this proxy');
  const regex = regexOf(pattern.args, path);
  const subject = compile(text, path);
  return (info) => {
    const value = subject(info);
    // Envoy gives up: `request.headers["x"].matches("a") || true` has no value without the header.
    return typeof value === 'string' ? regex.test(utf8Text(value)) : FATAL;
  };
}

function regexOf(pattern: string, path: string): RE2JS {
  const refused = (reason: string): ConfigError => new ConfigError(path, `failed to create an expression: ${reason}`);
  let regex: RE2JS;
  try {
    regex = RE2JS.compile(pattern);
  } catch (error) {
    throw refused(`invalid regular expression: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (regex.programSize() > MAX_CEL_PATTERN_SIZE) throw refused('regular expression exceeds max allowed size');
  return regex;
}
