// The object store of localkube: SQLite (WAL) below, every object in memory above, one revision counter for all kinds.
// Called by the API server only. Reads never touch the disk; a write is on disk before memory changes.
import { DatabaseSync, type StatementSync } from 'node:sqlite';

/** Events kept for watches that resume; an older revision gets `expired`. */
export const MAX_HISTORY_EVENTS = 8_000;
/** Bytes of one object's JSON. */
export const MAX_OBJECT_BYTES = 3 * 1024 * 1024;

export interface StoredMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface StoredObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: StoredMeta;
  readonly [field: string]: unknown;
}

export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly revision: number;
  readonly collection: string;
  readonly object: StoredObject;
  /** The state before; absent for ADDED. */
  readonly previous?: StoredObject;
}

export type StoreErrorKind = 'in-use' | 'exists' | 'not-found' | 'conflict' | 'disk-full' | 'too-large' | 'broken';

export class StoreError extends Error {
  readonly kind: StoreErrorKind;
  constructor(kind: StoreErrorKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'StoreError';
    this.kind = kind;
  }
}

export interface Store {
  /** The revision of the newest write. */
  revision(): number;
  get(collection: string, namespace: string, name: string): StoredObject | undefined;
  /** Sorted by namespace, then name. Absent namespace: all. */
  list(collection: string, namespace?: string): readonly StoredObject[];
  collections(): readonly string[];
  /** The three writes return the object as stored, with its new resourceVersion, deeply frozen. */
  create(collection: string, object: StoredObject): StoredObject;
  /** Refuses with `conflict` unless the stored revision is `expected`. */
  update(collection: string, object: StoredObject, expected: string): StoredObject;
  delete(collection: string, namespace: string, name: string, expected?: string): StoredObject;
  /** Calls `listener` for every event after `after`, the past ones first, before this returns. */
  watch(after: number, listener: (event: StoreEvent) => void): (() => void) | 'expired' | 'future';
  close(): void;
}

interface Collection {
  readonly objects: Map<string, StoredObject>;
  /** Sorted keys; made anew after an insertion or a deletion. */
  sorted: readonly string[] | undefined;
}

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;

export interface StoreOptions {
  /** A file path, or `:memory:` in tests. */
  readonly path: string;
  readonly maxHistoryEvents?: number;
  /** Pages of 4096 bytes the file may have; absent: no limit. */
  readonly maxPages?: number;
}

/** Throws {@link StoreError}: `in-use` when another process has it open, `broken` when it is not a database of ours. */
export function openStore(options: StoreOptions): Store {
  return new SqliteStore(options);
}

class SqliteStore implements Store {
  readonly #db: DatabaseSync;
  readonly #upsert: StatementSync;
  readonly #remove: StatementSync;
  readonly #setRevision: StatementSync;
  readonly #collections = new Map<string, Collection>();
  readonly #listeners = new Set<(event: StoreEvent) => void>();
  readonly #maxHistory: number;
  #history: StoreEvent[] = [];
  /** Revision before the first event of the history. */
  #historyStart: number;
  #revision: number;

  constructor(options: StoreOptions) {
    this.#maxHistory = options.maxHistoryEvents ?? MAX_HISTORY_EVENTS;
    try {
      this.#db = new DatabaseSync(options.path);
      this.#db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 500;
        CREATE TABLE IF NOT EXISTS objects (
          collection TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL,
          PRIMARY KEY (collection, namespace, name)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
        INSERT OR IGNORE INTO counter (id, revision) VALUES (1, 1);`);
      if (options.maxPages !== undefined) this.#db.exec(`PRAGMA max_page_count = ${options.maxPages}`);
      this.#upsert = this.#db.prepare(
        'INSERT INTO objects (collection, namespace, name, revision, body) VALUES (?, ?, ?, ?, ?) ' +
          'ON CONFLICT (collection, namespace, name) DO UPDATE SET revision = excluded.revision, body = excluded.body',
      );
      this.#remove = this.#db.prepare('DELETE FROM objects WHERE collection = ? AND namespace = ? AND name = ?');
      this.#setRevision = this.#db.prepare('UPDATE counter SET revision = ? WHERE id = 1');
      this.#revision = Number(this.#db.prepare('SELECT revision FROM counter').get()?.revision ?? 1);
      this.#load();
    } catch (error) {
      if (primaryCode(error) === SQLITE_BUSY)
        throw new StoreError('in-use', `the cluster state ${options.path} is in use by another process`, error);
      throw new StoreError(
        'broken',
        `cannot open the cluster state ${options.path}: ${error instanceof Error ? error.message : String(error)}`,
        error,
      );
    }
    this.#historyStart = this.#revision;
  }

  #load(): void {
    for (const row of this.#db.prepare('SELECT collection, namespace, name, body FROM objects').iterate()) {
      const collection = this.#collection(String(row.collection));
      collection.objects.set(
        keyOf(String(row.namespace), String(row.name)),
        deepFreeze(JSON.parse(String(row.body)) as StoredObject),
      );
    }
  }

  #collection(name: string): Collection {
    let found = this.#collections.get(name);
    if (!found) {
      found = { objects: new Map(), sorted: undefined };
      this.#collections.set(name, found);
    }
    return found;
  }

  revision(): number {
    return this.#revision;
  }

  get(collection: string, namespace: string, name: string): StoredObject | undefined {
    return this.#collections.get(collection)?.objects.get(keyOf(namespace, name));
  }

  list(collection: string, namespace?: string): readonly StoredObject[] {
    const found = this.#collections.get(collection);
    if (!found) return [];
    found.sorted ??= [...found.objects.keys()].sort();
    const out: StoredObject[] = [];
    const prefix = namespace === undefined ? '' : `${namespace}/`;
    for (const key of found.sorted) {
      if (!key.startsWith(prefix)) continue;
      const object = found.objects.get(key);
      if (object) out.push(object);
    }
    return out;
  }

  collections(): readonly string[] {
    return [...this.#collections.keys()];
  }

  create(collection: string, object: StoredObject): StoredObject {
    const { namespace = '', name } = object.metadata;
    if (this.get(collection, namespace, name)) throw new StoreError('exists', `${collection} ${name} already exists`);
    return this.#write('ADDED', collection, object, undefined);
  }

  update(collection: string, object: StoredObject, expected: string): StoredObject {
    const { namespace = '', name } = object.metadata;
    const previous = this.#expect(collection, namespace, name, expected);
    return this.#write('MODIFIED', collection, object, previous);
  }

  delete(collection: string, namespace: string, name: string, expected?: string): StoredObject {
    const previous = this.#expect(collection, namespace, name, expected);
    return this.#write('DELETED', collection, previous, previous);
  }

  #expect(collection: string, namespace: string, name: string, expected: string | undefined): StoredObject {
    const previous = this.get(collection, namespace, name);
    if (!previous) throw new StoreError('not-found', `${collection} ${name} not found`);
    if (expected !== undefined && previous.metadata.resourceVersion !== expected)
      throw new StoreError('conflict', `${collection} ${name} has changed`);
    return previous;
  }

  #write(
    type: StoreEvent['type'],
    collection: string,
    object: StoredObject,
    previous: StoredObject | undefined,
  ): StoredObject {
    const revision = this.#revision + 1;
    const { namespace = '', name } = object.metadata;
    const body = JSON.stringify({ ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } });
    if (body.length > MAX_OBJECT_BYTES)
      throw new StoreError(
        'too-large',
        `${collection} ${name} has ${body.length} bytes; the limit is ${MAX_OBJECT_BYTES}`,
      );
    this.#commit(() => {
      if (type === 'DELETED') this.#remove.run(collection, namespace, name);
      else this.#upsert.run(collection, namespace, name, revision, body);
      this.#setRevision.run(revision);
    });
    // Parsed anew, so that what is served is what a restart would read.
    const stored = deepFreeze(JSON.parse(body) as StoredObject);
    this.#revision = revision;
    const table = this.#collection(collection);
    if (type === 'DELETED') table.objects.delete(keyOf(namespace, name));
    else table.objects.set(keyOf(namespace, name), stored);
    if (type !== 'MODIFIED') table.sorted = undefined;
    this.#publish({ type, revision, collection, object: stored, ...(previous ? { previous } : {}) });
    return stored;
  }

  #commit(work: () => void): void {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      try {
        if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      } catch {
        // SQLite has already rolled back.
      }
      throw asStoreError(error);
    }
  }

  #publish(event: StoreEvent): void {
    this.#history.push(event);
    if (this.#history.length > this.#maxHistory * 1.25) {
      const dropped = this.#history.length - this.#maxHistory;
      this.#historyStart = this.#history[dropped - 1]?.revision ?? this.#historyStart;
      this.#history = this.#history.slice(dropped);
    }
    for (const listener of [...this.#listeners]) listener(event);
  }

  watch(after: number, listener: (event: StoreEvent) => void): (() => void) | 'expired' | 'future' {
    if (after < this.#historyStart) return 'expired';
    if (after > this.#revision) return 'future';
    // Revisions in the history are consecutive, so the place is known.
    for (const event of this.#history.slice(after - this.#historyStart)) listener(event);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    if (this.#db.isOpen) this.#db.close();
  }
}

const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
const SQLITE_IOERR = 10;

/** SQLite's result code without its extension. */
function primaryCode(error: unknown): number | undefined {
  const code = (error as { errcode?: unknown } | undefined)?.errcode;
  return typeof code === 'number' ? code & 0xff : undefined;
}

function asStoreError(error: unknown): StoreError {
  const code = primaryCode(error);
  const text = error instanceof Error ? error.message : String(error);
  if (code === SQLITE_FULL) return new StoreError('disk-full', 'the disk that holds the cluster state is full', error);
  if (code === SQLITE_IOERR) return new StoreError('disk-full', `the cluster state cannot be written: ${text}`, error);
  return new StoreError('broken', `the cluster state cannot be written: ${text}`, error);
}

/** Shared objects are frozen so that a caller's change crashes at the place of the mistake. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const child of Object.values(value)) deepFreeze(child);
  return Object.freeze(value);
}
