// JSON Patch (RFC 6902). Called by the API server for `application/json-patch+json`.
import { equalJson } from '../schema/check.ts';
import type { Json, JsonObject } from '../schema/types.ts';
import { PatchError } from './errors.ts';

export const MAX_OPERATIONS = 10_000;
/** `copy` may not grow the object beyond this many characters of JSON. */
const MAX_COPIED = 3 * 1024 * 1024;

type Mutable = { [key: string]: unknown } | unknown[];

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: Json;
}

/** Throws PatchError: 400 when `patch` is no patch, 422 when an operation cannot be applied. Nothing is half-applied. */
export function applyJsonPatch(object: JsonObject, patch: unknown): JsonObject {
  if (!Array.isArray(patch)) throw new PatchError(400, 'a JSON patch must be a list of operations');
  if (patch.length > MAX_OPERATIONS) {
    throw new PatchError(400, `a JSON patch may have at most ${MAX_OPERATIONS} operations, not ${patch.length}`);
  }
  const holder = { root: structuredClone(object) as unknown };
  let copied = 0;
  for (const raw of patch) {
    const operation = parseOperation(raw);
    if (operation.op === 'copy')
      copied += JSON.stringify(read(holder.root, pointer(operation.from!), operation)).length;
    if (copied > MAX_COPIED) throw new PatchError(422, `the patch copies more than ${MAX_COPIED} characters`);
    apply(holder, operation);
  }
  const { root } = holder;
  if (typeof root !== 'object' || root === null || Array.isArray(root)) {
    throw new PatchError(422, 'the patch leaves something that is not an object');
  }
  return root as JsonObject;
}

function parseOperation(raw: unknown): Operation {
  const operation = raw as Partial<Operation> | null;
  if (typeof operation !== 'object' || operation === null || typeof operation.op !== 'string') {
    throw new PatchError(400, 'every operation of a JSON patch needs "op"');
  }
  if (typeof operation.path !== 'string') throw new PatchError(400, `operation ${operation.op} needs "path"`);
  const { op } = operation;
  if (!['add', 'remove', 'replace', 'move', 'copy', 'test'].includes(op)) {
    throw new PatchError(400, `unknown operation ${JSON.stringify(op)} in a JSON patch`);
  }
  if ((op === 'move' || op === 'copy') && typeof operation.from !== 'string') {
    throw new PatchError(400, `operation ${op} needs "from"`);
  }
  if (['add', 'replace', 'test'].includes(op) && !('value' in operation)) {
    throw new PatchError(400, `operation ${op} needs "value"`);
  }
  return operation as Operation;
}

function pointer(text: string): string[] {
  if (text === '') return [];
  if (!text.startsWith('/')) throw new PatchError(400, `path ${JSON.stringify(text)} does not start with "/"`);
  return text
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function refuse(operation: Operation, why: string): PatchError {
  return new PatchError(
    422,
    `${operation.op} operation does not apply: doc is missing path: "${operation.path}": ${why}`,
  );
}

function apply(holder: { root: unknown }, operation: Operation): void {
  const path = pointer(operation.path);
  switch (operation.op) {
    case 'add':
      put(holder, path, structuredClone(operation.value), operation, true);
      return;
    case 'replace':
      read(holder.root, path, operation);
      put(holder, path, structuredClone(operation.value), operation, false);
      return;
    case 'remove':
      remove(holder, path, operation);
      return;
    case 'copy': {
      const value = structuredClone(read(holder.root, pointer(operation.from!), operation));
      put(holder, path, value, operation, true);
      return;
    }
    case 'move': {
      const from = pointer(operation.from!);
      if (path.length > from.length && from.every((part, i) => part === path[i])) {
        throw refuse(operation, 'a value cannot be moved into itself');
      }
      const value = read(holder.root, from, operation);
      remove(holder, from, operation);
      put(holder, path, value, operation, true);
      return;
    }
    default: {
      let found: unknown;
      try {
        found = read(holder.root, path, operation);
      } catch (error) {
        // A missing member equals null in the implementation every client was tested with.
        if (operation.value !== null) throw error;
        found = null;
      }
      if (!equalJson(found as Json, operation.value)) {
        throw new PatchError(422, `testing value ${operation.path} failed: it is not what the patch expects`);
      }
    }
  }
}

function step(value: unknown, part: string, operation: Operation): unknown {
  if (Array.isArray(value)) return value[index(value, part, operation, false)];
  if (typeof value === 'object' && value !== null && Object.hasOwn(value, part))
    return (value as Record<string, unknown>)[part];
  throw refuse(operation, 'missing value');
}

function read(root: unknown, path: readonly string[], operation: Operation): unknown {
  let value = root;
  for (const part of path) value = step(value, part, operation);
  return value;
}

function index(list: readonly unknown[], part: string, operation: Operation, adding: boolean): number {
  if (adding && part === '-') return list.length;
  const at = /^(0|[1-9]\d*)$/.test(part) ? Number(part) : Number.NaN;
  if (!(at < list.length || (adding && at === list.length)))
    throw refuse(operation, `no element ${JSON.stringify(part)}`);
  return at;
}

function parent(holder: { root: unknown }, path: readonly string[], operation: Operation): Mutable {
  const value = read(holder.root, path.slice(0, -1), operation);
  if (typeof value !== 'object' || value === null) throw refuse(operation, 'its parent is not an object or a list');
  return value as Mutable;
}

function put(
  holder: { root: unknown },
  path: readonly string[],
  value: unknown,
  operation: Operation,
  insert: boolean,
): void {
  if (path.length === 0) {
    holder.root = value;
    return;
  }
  const owner = parent(holder, path, operation);
  const key = path.at(-1)!;
  if (!Array.isArray(owner)) {
    if (key === '__proto__') throw refuse(operation, 'this name is not allowed');
    owner[key] = value;
  } else if (insert) owner.splice(index(owner, key, operation, true), 0, value);
  else owner[index(owner, key, operation, false)] = value;
}

function remove(holder: { root: unknown }, path: readonly string[], operation: Operation): void {
  if (path.length === 0) throw refuse(operation, 'the whole object cannot be removed');
  const owner = parent(holder, path, operation);
  const key = path.at(-1)!;
  if (Array.isArray(owner)) owner.splice(index(owner, key, operation, false), 1);
  else if (Object.hasOwn(owner, key)) delete owner[key];
  else throw refuse(operation, 'Unable to remove nonexistent key');
}
