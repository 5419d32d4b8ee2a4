// Watches over the store: history first, then live, selectors turned into ADDED and DELETED. Called by the HTTP layer and the local client.
import type { StoredObject, StoreEvent } from '../store/store.ts';
import { type Core, fromStorage } from './core.ts';
import { type ApiObject, at, str } from './json.ts';
import { type ListQuery, type Matcher, matcher } from './ops/read.ts';
import type { ResourceDef } from './resources.ts';
import { badRequest, expired } from './status.ts';

export type WatchOutput =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: ApiObject }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly initialEventsEnd?: boolean };

export interface WatchInput {
  readonly def: ResourceDef;
  readonly query: ListQuery;
  /** '' or '0': the present state first. */
  readonly resourceVersion: string;
  readonly sendInitialEvents?: boolean;
}

/** Emits what is past before it returns. The returned function stops. Throws 410 when the revision is too old. */
export function watchObjects(core: Core, input: WatchInput, emit: (output: WatchOutput) => void): () => void {
  const { def } = input;
  const matches = matcher(def, input.query);
  const from = startRevision(input.resourceVersion);
  if (from === 0 || input.sendInitialEvents) {
    for (const stored of core.store.list(
      def.collection,
      def.namespaced ? input.query.namespace || undefined : undefined,
    ))
      if (matches(stored)) emit({ type: 'ADDED', object: fromStorage(def, stored) });
    const revision = core.store.revision();
    if (input.sendInitialEvents) emit({ type: 'BOOKMARK', resourceVersion: String(revision), initialEventsEnd: true });
    return subscribe(core, def, revision, matches, emit);
  }
  return subscribe(core, def, from, matches, emit);
}

function startRevision(text: string): number {
  if (text === '' || text === '0') return 0;
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(`resourceVersion: Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`);
  return Number(text);
}

function subscribe(
  core: Core,
  def: ResourceDef,
  after: number,
  matches: Matcher,
  emit: (output: WatchOutput) => void,
): () => void {
  const stop = core.store.watch(after, (event) => {
    const output = translate(def, event, matches);
    if (output) emit(output);
  });
  if (stop === 'expired') throw expired(`too old resource version: ${after} (${core.store.revision()})`);
  if (stop === 'future')
    throw expired(`resource version ${after} is ahead of this cluster's ${core.store.revision()}: list again`);
  return stop;
}

function translate(def: ResourceDef, event: StoreEvent, matches: Matcher): WatchOutput | undefined {
  if (event.collection !== def.collection) return undefined;
  const now = event.type !== 'DELETED' && matches(event.object);
  const before = event.previous !== undefined && matches(event.previous);
  if (now) return { type: before ? 'MODIFIED' : 'ADDED', object: fromStorage(def, event.object) };
  if (!before) return undefined;
  return { type: 'DELETED', object: fromStorage(def, withRevision(event.previous ?? event.object, event.revision)) };
}

/** A DELETED event carries the last state under the revision of the deletion. */
function withRevision(stored: StoredObject, revision: number): StoredObject {
  return { ...stored, metadata: { ...stored.metadata, resourceVersion: String(revision) } };
}

export function outputRevision(output: WatchOutput): string {
  return output.type === 'BOOKMARK' ? output.resourceVersion : str(at(output.object, 'metadata', 'resourceVersion'));
}
