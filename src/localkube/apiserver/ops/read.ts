// GET of objects and lists: selectors and paging. Called by dispatch.ts, watch.ts and the local client.
import type { StoredObject } from '../../store/store.ts';
import { type Core, fromStorage } from '../core.ts';
import { type ApiObject, at, type Dict, dict, num, str } from '../json.ts';
import type { ResourceDef } from '../resources.ts';
import { parseFieldSelector, parseLabelSelector } from '../selectors.ts';
import { badRequest } from '../status.ts';

export interface ListQuery {
  readonly namespace: string | undefined;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly limit?: number;
  readonly continue?: string;
}

export interface Listed {
  readonly items: readonly ApiObject[];
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remaining?: number;
}

export type Matcher = (stored: StoredObject) => boolean;

/** One predicate for namespace and both selectors, over stored objects. Throws 400. */
export function matcher(def: ResourceDef, query: ListQuery): Matcher {
  const labels = query.labelSelector ? parseLabelSelector(query.labelSelector) : undefined;
  const fields = query.fieldSelector
    ? parseFieldSelector(query.fieldSelector, def.collection, def.custom?.selectableFields)
    : undefined;
  return (stored) => {
    if (def.namespaced && query.namespace && stored.metadata.namespace !== query.namespace) return false;
    if (labels && !labels(dict(at(stored, 'metadata', 'labels')))) return false;
    return !fields || fields(stored as unknown as Dict);
  };
}

interface Cursor {
  readonly after: string;
  readonly revision: string;
}

export function listObjects(core: Core, def: ResourceDef, query: ListQuery): Listed {
  const matches = matcher(def, query);
  const cursor = query.continue ? decodeCursor(query.continue) : undefined;
  const revision = cursor?.revision ?? String(core.store.revision());
  const items: ApiObject[] = [];
  let last = '';
  let remaining = 0;
  for (const stored of core.store.list(def.collection, def.namespaced ? query.namespace || undefined : undefined)) {
    const key = `${stored.metadata.namespace ?? ''}/${stored.metadata.name}`;
    if ((cursor && key <= cursor.after) || !matches(stored)) continue;
    if (query.limit && items.length >= query.limit) {
      remaining++;
      continue;
    }
    items.push(fromStorage(def, stored));
    last = key;
  }
  if (remaining === 0) return { items, resourceVersion: revision };
  // Every page names the first page's revision: a watch from there sees what changed between pages.
  return { items, resourceVersion: revision, continue: encodeCursor({ after: last, revision }), remaining };
}

const encodeCursor = (cursor: Cursor): string =>
  Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: Number(cursor.revision), start: cursor.after })).toString(
    'base64url',
  );

function decodeCursor(text: string): Cursor {
  try {
    const value = dict(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
    if (typeof value.start === 'string' && num(value.rv) > 0) return { after: value.start, revision: str(value.rv) };
  } catch {
    // Told below.
  }
  throw badRequest('continue key is not valid: it must be the value that the previous page of this list returned');
}
