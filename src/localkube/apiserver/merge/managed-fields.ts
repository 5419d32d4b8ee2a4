// Who owns which field: server-side apply and the bookkeeping of every other write. Called by the API server's write path.
import type { Json, JsonObject, KindSchema, StatusCause } from '../schema/types.ts';
import { PatchError } from './errors.ts';
import {
  difference,
  emptySet,
  equalSets,
  type FieldSet,
  intersection,
  isEmpty,
  parseFields,
  printPaths,
  renderFields,
  union,
  withoutAncestorsOf,
} from './field-set.ts';
import { isObject } from './merge-patch.ts';
import { compare, fieldsOf, overlay, removeFields } from './typed.ts';

/** Older Update entries beyond this many are joined into one. */
export const MAX_UPDATE_MANAGERS = 10;
const ANCIENT = 'ancient-changes';
const BEFORE_FIRST_APPLY = 'before-first-apply';
export const MAX_MANAGER_LENGTH = 128;

export interface ApplyInput {
  /** Absent: the object does not exist yet. */
  readonly live?: JsonObject;
  /** What the client sent, decoded, without defaults. */
  readonly applied: JsonObject;
  readonly kind: KindSchema;
  readonly manager: string;
  readonly force: boolean;
  /** RFC 3339, whole seconds. */
  readonly now: string;
  readonly subresource?: string;
}

export interface TrackInput {
  /** Absent: a create. */
  readonly before?: JsonObject;
  /** After defaults and webhooks. Its own managedFields, when given and different, replace the stored ones first. */
  readonly after: JsonObject;
  readonly kind: KindSchema;
  readonly manager: string;
  readonly now: string;
  readonly subresource?: string;
}

interface Entry {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly apiVersion: string;
  readonly time?: string;
  readonly subresource?: string;
  readonly set: FieldSet;
}

/** Fields the server owns: in nobody's set. */
const UNTRACKED = parseFields({
  'f:apiVersion': {},
  'f:kind': {},
  'f:metadata': {
    '.': {},
    'f:name': {},
    'f:namespace': {},
    'f:generateName': {},
    'f:creationTimestamp': {},
    'f:deletionTimestamp': {},
    'f:deletionGracePeriodSeconds': {},
    'f:selfLink': {},
    'f:uid': {},
    'f:generation': {},
    'f:managedFields': {},
    'f:resourceVersion': {},
  },
});

/** The merged object with its managedFields. Throws PatchError: 409 with one cause per conflict, 400 when managedFields were sent. */
export function serverSideApply(input: ApplyInput): JsonObject {
  const { live, kind } = input;
  const applied = withoutManagedFields(input.applied);
  const sent = metadataOf(input.applied).managedFields;
  if (Array.isArray(sent) && sent.length > 0) throw new PatchError(400, 'metadata.managedFields must be nil');
  const apiVersion = String(applied.apiVersion);
  const appliedSet = difference(fieldsOf(applied, kind), UNTRACKED);
  const entry: Entry = {
    manager: input.manager,
    operation: 'Apply',
    apiVersion,
    time: input.now,
    subresource: input.subresource,
    set: appliedSet,
  };
  if (!live) return withEntries(applied, [entry]);

  const entries = entriesForApply(live, kind, apiVersion);
  const own = entries.find((e) => sameManager(e, entry));
  let others = entries.filter((e) => e !== own);
  const base = withoutManagedFields(live);
  let merged = overlay(base, applied, kind);
  if (own) {
    const held = others.reduce((set, e) => union(set, e.set), emptySet());
    merged = removeFields(merged, withoutAncestorsOf(difference(own.set, appliedSet), union(held, appliedSet)), kind);
  }
  const { changed, removed } = compare(base, merged, kind);
  const conflicts = others.map((e) => ({ entry: e, set: intersection(e.set, changed) })).filter((c) => !isEmpty(c.set));
  if (conflicts.length > 0 && !input.force) throw conflictError(conflicts);
  others = others.map((e) => ({ ...e, set: difference(difference(e.set, changed), removed) }));
  // An apply that changes nothing keeps its time, so that the object stays as it is.
  const unchanged = own && equalSets(own.set, appliedSet) && isEmpty(changed) && isEmpty(removed);
  return withEntries(merged, [unchanged ? { ...entry, time: own.time } : entry, ...others]);
}

/** `after` with managedFields that give what this create, update or patch changed to `manager` (operation Update). */
export function trackUpdate(input: TrackInput): JsonObject {
  const { before, kind } = input;
  const sent = metadataOf(input.after).managedFields;
  const stored = before ? metadataOf(before).managedFields : undefined;
  const after = withoutManagedFields(input.after);
  // `[]` or `[{}]` is how a client asks to forget all ownership.
  const resets =
    before !== undefined && Array.isArray(sent) && sent.every((e) => isObject(e) && Object.keys(e).length === 0);
  if (resets && Array.isArray(stored) && stored.length > 0) return after;
  const entries = readEntries(Array.isArray(sent) ? sent : stored);
  const { changed, removed } = compare(before ? withoutManagedFields(before) : {}, after, kind);
  const touched = difference(changed, UNTRACKED);
  const entry: Entry = {
    manager: input.manager,
    operation: 'Update',
    apiVersion: String(after.apiVersion),
    time: input.now,
    subresource: input.subresource,
    set: touched,
  };
  const own = entries.find((e) => sameManager(e, entry));
  const others = entries
    .filter((e) => e !== own)
    .map((e) => ({ ...e, set: difference(difference(e.set, touched), removed) }));
  const set = difference(own ? union(own.set, touched) : touched, removed);
  const mine = own && equalSets(own.set, set) ? { ...entry, set, time: own.time } : { ...entry, set };
  return withEntries(after, [...others, mine]);
}

function metadataOf(object: JsonObject): JsonObject {
  return isObject(object.metadata) ? object.metadata : {};
}

function withoutManagedFields(object: JsonObject): JsonObject {
  if (!isObject(object.metadata)) return object;
  const { managedFields: _managedFields, ...metadata } = object.metadata;
  return { ...object, metadata };
}

function entriesForApply(live: JsonObject, kind: KindSchema, apiVersion: string): Entry[] {
  const entries = readEntries(metadataOf(live).managedFields);
  if (entries.length > 0) return entries;
  // Nobody kept books before: whoever made it owns it all.
  const set = difference(fieldsOf(withoutManagedFields(live), kind), UNTRACKED);
  return [
    {
      manager: BEFORE_FIRST_APPLY,
      operation: 'Update',
      apiVersion,
      time: String(metadataOf(live).creationTimestamp ?? ''),
      set,
    },
  ];
}

function readEntries(value: Json | undefined): Entry[] {
  if (!Array.isArray(value)) return [];
  const entries: Entry[] = [];
  for (const raw of value as readonly Json[]) {
    if (!isObject(raw) || typeof raw.manager !== 'string') continue;
    entries.push({
      manager: raw.manager,
      operation: raw.operation === 'Apply' ? 'Apply' : 'Update',
      apiVersion: String(raw.apiVersion ?? ''),
      time: typeof raw.time === 'string' ? raw.time : undefined,
      subresource: typeof raw.subresource === 'string' && raw.subresource !== '' ? raw.subresource : undefined,
      set: parseFields(raw.fieldsV1),
    });
  }
  return entries;
}

function sameManager(a: Entry, b: Entry): boolean {
  if (a.manager !== b.manager || a.operation !== b.operation || a.subresource !== b.subresource) return false;
  // An applier is one owner whatever version it speaks.
  return a.operation === 'Apply' || a.apiVersion === b.apiVersion;
}

function withEntries(object: JsonObject, entries: readonly Entry[]): JsonObject {
  const kept = joinOld(entries.filter((e) => !isEmpty(e.set)));
  kept.sort((a, b) => order(a) - order(b) || compareText(a.time, b.time) || compareText(a.manager, b.manager));
  const managedFields = kept.map((e) => ({
    manager: e.manager,
    operation: e.operation,
    apiVersion: e.apiVersion,
    ...(e.time && { time: e.time }),
    fieldsType: 'FieldsV1',
    fieldsV1: renderFields(e.set),
    ...(e.subresource !== undefined && { subresource: e.subresource }),
  }));
  return { ...object, metadata: { ...metadataOf(object), ...(managedFields.length > 0 && { managedFields }) } };
}

function order(entry: Entry): number {
  return entry.operation === 'Apply' ? 0 : 1;
}

function compareText(a = '', b = ''): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function joinOld(entries: readonly Entry[]): Entry[] {
  const updates = entries.filter((e) => e.operation === 'Update' && e.subresource === undefined);
  if (updates.length <= MAX_UPDATE_MANAGERS) return [...entries];
  const oldest = updates
    .toSorted((a, b) => compareText(a.time, b.time))
    .slice(0, updates.length - MAX_UPDATE_MANAGERS + 1);
  const rest = entries.filter((e) => !oldest.includes(e));
  const set = oldest.reduce((joined, e) => union(joined, e.set), emptySet());
  return [...rest, { ...oldest.at(-1)!, manager: ANCIENT, set }];
}

function conflictError(conflicts: readonly { readonly entry: Entry; readonly set: FieldSet }[]): PatchError {
  const causes: StatusCause[] = [];
  const lines: string[] = [];
  for (const { entry, set } of conflicts) {
    const who = describe(entry);
    lines.push(`conflicts with ${who}:`);
    for (const path of printPaths(set)) {
      causes.push({ reason: 'FieldManagerConflict', message: `conflict with ${who}`, field: path });
      lines.push(`- ${path}`);
    }
  }
  const text =
    causes.length === 1
      ? `Apply failed with 1 conflict: ${causes[0]!.message}: ${causes[0]!.field}`
      : `Apply failed with ${causes.length} conflicts: ${lines.join('\n')}`;
  return new PatchError(409, text, causes);
}

function describe(entry: Entry): string {
  const subresource = entry.subresource === undefined ? '' : ` with subresource ${JSON.stringify(entry.subresource)}`;
  const who = `${JSON.stringify(entry.manager)}${subresource}`;
  return entry.operation === 'Apply' ? who : `${who} using ${entry.apiVersion}`;
}
