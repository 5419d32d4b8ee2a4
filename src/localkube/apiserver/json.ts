// Small readers for JSON of unknown shape, used all over the API server.

export interface Dict {
  [field: string]: unknown;
}

/** An API object that the request at hand owns and may change. */
export interface ApiObject extends Dict {
  apiVersion: string;
  kind: string;
  metadata: ApiMeta;
}

export interface ApiMeta extends Dict {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: Dict[];
  managedFields?: Dict[];
}

export function isDict(value: unknown): value is Dict {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value if it is an object, else a new empty one (not attached to anything). */
export function dict(value: unknown): Dict {
  return isDict(value) ? value : {};
}

export function dicts(value: unknown): Dict[] {
  return Array.isArray(value) ? value.filter(isDict) : [];
}

export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

export function str(value: unknown): string {
  return typeof value === 'string'
    ? value
    : typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : '';
}

export function num(value: unknown, otherwise = 0): number {
  return typeof value === 'number' ? value : otherwise;
}

export function stringMap(value: unknown): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [key, item] of Object.entries(dict(value))) out[key] = str(item);
  return out;
}

/** `at(pod, 'spec', 'nodeName')`. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const field of path) {
    if (!isDict(current)) return undefined;
    current = current[field];
  }
  return current;
}

export function clone<T>(value: T): T {
  return structuredClone(value);
}

export function equal(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => equal(item, b[index]));
  }
  if (!isDict(a) || !isDict(b)) return false;
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) if (!equal(a[key], b[key])) return false;
  return true;
}
