// An API server in memory behind the KubeClient interface, for unit tests of everything that talks to Kubernetes.
// Writes are seen by watches in order; versions, conflicts, finalizers and graceful pod deletion follow the real server.
import {
  matchesFields,
  matchesRequirements,
  parseFieldSelector,
  parseLabelSelector,
} from '../../src/base/kube/selectors.ts';
import {
  type DeleteOptions,
  type KubeClient,
  KubeError,
  type KubeObject,
  type ListOptions,
  type PatchType,
  type ResourceType,
  type WatchEvent,
  type WriteOptions,
} from '../../src/base/kube/types.ts';
import { systemClock } from '../../src/base/runtime/clock.ts';
import { applyJsonPatch, applyMergePatch, type JsonPatchStep } from './patches.ts';

export interface FakeRequest {
  readonly verb: 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'post';
  readonly resource: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly subresource?: string;
}

export interface FakeKubeOptions {
  readonly objects?: readonly { readonly type: ResourceType; readonly object: KubeObject }[];
  readonly now?: () => number;
  /** Answers `post`; absent: 404. */
  readonly onPost?: (path: string, body: unknown) => unknown;
}

export interface FakeKube extends KubeClient {
  /** Every request so far. */
  readonly requests: readonly FakeRequest[];
  /** What is stored now, without a request. */
  stored<T extends KubeObject>(type: ResourceType): readonly T[];
  /** The next requests for which `when` is true reject with `error`, `times` times. */
  fail(when: (request: FakeRequest) => boolean, error: KubeError, times?: number): void;
  /** Ends all watches, as a server restart does; `error` makes them reject. */
  breakWatches(error?: KubeError): void;
  /** Forgets history: a watch from an older version is answered 410. */
  compact(): void;
  /** Resolves when no event is waiting to be delivered and promise chains have run for some turns. */
  settle(): Promise<void>;
}

type Json = Record<string, unknown>;
type Meta = { -readonly [K in keyof KubeObject['metadata']]: KubeObject['metadata'][K] };
type Writable = { apiVersion: string; kind: string; metadata: Meta } & Json;

interface LogEntry {
  readonly version: number;
  readonly collection: string;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
  readonly previous?: KubeObject;
}

interface Watcher {
  readonly collection: string;
  readonly matches: (object: KubeObject) => boolean;
  readonly onEvent: (event: WatchEvent<KubeObject>) => void;
  readonly end: (error?: KubeError) => void;
}

export function createFakeKube(options: FakeKubeOptions = {}): FakeKube {
  const now = options.now ?? (() => systemClock.now());
  const collections = new Map<string, Map<string, KubeObject>>();
  const requests: FakeRequest[] = [];
  const failures: { when: (r: FakeRequest) => boolean; error: KubeError; left: number }[] = [];
  const watchers = new Set<Watcher>();
  let history: LogEntry[] = [];
  let version = 1;
  let compacted = 0;
  let uids = 0;

  const collectionOf = (type: ResourceType): Map<string, KubeObject> => {
    const key = `${type.group}/${type.resource}`;
    let found = collections.get(key);
    if (!found) {
      found = new Map();
      collections.set(key, found);
    }
    return found;
  };
  const begin = async (request: FakeRequest): Promise<void> => {
    requests.push(request);
    await Promise.resolve();
    const failure = failures.find((f) => f.left > 0 && f.when(request));
    if (failure) {
      failure.left -= 1;
      throw failure.error;
    }
  };
  const publish = (type: ResourceType, kind: LogEntry['type'], object: KubeObject, previous?: KubeObject): void => {
    const entry: LogEntry = { version, collection: `${type.group}/${type.resource}`, type: kind, object, previous };
    history.push(entry);
    for (const watcher of watchers) queueMicrotask(() => deliver(watcher, entry));
  };
  const deliver = (watcher: Watcher, entry: LogEntry): void => {
    if (!watchers.has(watcher) || watcher.collection !== entry.collection) return;
    // As the real server: leaving the selection is a deletion for this watch, entering it an addition.
    const is = watcher.matches(entry.object);
    const was = entry.previous ? watcher.matches(entry.previous) : false;
    if (entry.type === 'MODIFIED' && is !== was) {
      if (is || was) watcher.onEvent({ type: is ? 'ADDED' : 'DELETED', object: entry.object });
    } else if (is) watcher.onEvent({ type: entry.type, object: entry.object });
  };
  const put = (type: ResourceType, object: Writable, previous?: KubeObject): KubeObject => {
    version += 1;
    const frozen = deepFreeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(version) } });
    collectionOf(type).set(keyOf(frozen.metadata.namespace, frozen.metadata.name), frozen);
    publish(type, previous ? 'MODIFIED' : 'ADDED', frozen, previous);
    return frozen;
  };
  const drop = (type: ResourceType, object: KubeObject): void => {
    version += 1;
    collectionOf(type).delete(keyOf(object.metadata.namespace, object.metadata.name));
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    publish(type, 'DELETED', deepFreeze(last), object);
  };
  const find = (type: ResourceType, namespace: string | undefined, name: string): KubeObject => {
    const found = collectionOf(type).get(keyOf(type.namespaced ? namespace : undefined, name));
    if (!found) throw new KubeError(404, 'NotFound', `${qualified(type)} "${name}" not found`);
    return found;
  };
  const insert = (type: ResourceType, source: KubeObject): KubeObject => {
    const object = structuredClone(source) as unknown as Writable;
    const meta = object.metadata;
    if (!meta.name && meta.generateName) meta.name = `${meta.generateName}${(++uids).toString(36).padStart(5, '0')}`;
    if (!meta.name) throw new KubeError(422, 'Invalid', 'metadata.name or generateName is required');
    if (collectionOf(type).has(keyOf(meta.namespace, meta.name)))
      throw new KubeError(409, 'AlreadyExists', `${qualified(type)} "${meta.name}" already exists`);
    meta.uid ??= `uid-${++uids}`;
    meta.generation = 1;
    meta.creationTimestamp ??= new Date(now()).toISOString().replace(/\.\d+Z$/, 'Z');
    if (type.resource === 'namespaces') object.spec = { finalizers: ['kubernetes'] };
    return put(type, object);
  };
  const store = (type: ResourceType, next: Writable, current: KubeObject, subresource?: string): KubeObject => {
    const before = current as unknown as Json;
    const given = next.metadata.resourceVersion;
    if (given !== undefined && given !== current.metadata.resourceVersion)
      throw new KubeError(
        409,
        'Conflict',
        `Operation cannot be fulfilled on ${qualified(type)} "${next.metadata.name}": the object has been modified; please apply your changes to the latest version and try again`,
      );
    let merged: Writable;
    if (subresource === 'status') merged = { ...(structuredClone(before) as Writable), status: next.status };
    else if (subresource === undefined || subresource === 'finalize')
      merged = { ...next, ...(hasStatusSubresource(type) && 'status' in before ? { status: before.status } : {}) };
    else throw new KubeError(400, 'BadRequest', `the fake has no subresource "${subresource}"`);
    for (const key of [
      'uid',
      'creationTimestamp',
      'deletionTimestamp',
      'deletionGracePeriodSeconds',
      'generation',
    ] as const)
      (merged.metadata as Json)[key] = current.metadata[key];
    if (subresource !== 'status' && specOf(merged) !== specOf(before))
      merged.metadata.generation = (current.metadata.generation ?? 0) + 1;
    if (specAndMeta(merged) === specAndMeta(before)) return current;
    if (merged.metadata.deletionTimestamp && isFree(merged)) {
      drop(type, merged as unknown as KubeObject);
      return merged as unknown as KubeObject;
    }
    return put(type, merged, current);
  };
  const remove = (type: ResourceType, current: KubeObject, how: DeleteOptions): void => {
    const finalizers = new Set(current.metadata.finalizers ?? []);
    if (how.propagationPolicy === 'Foreground') finalizers.add('foregroundDeletion');
    if (how.propagationPolicy === 'Orphan') finalizers.add('orphan');
    const spec = (current as unknown as { spec?: { nodeName?: string; terminationGracePeriodSeconds?: number } }).spec;
    const grace =
      type.resource === 'pods' && spec?.nodeName
        ? (how.gracePeriodSeconds ?? spec.terminationGracePeriodSeconds ?? 30)
        : 0;
    const held = finalizers.size > 0 || grace > 0 || type.resource === 'namespaces';
    if (!held) {
      drop(type, current);
      return;
    }
    if (current.metadata.deletionTimestamp) return;
    const next = structuredClone(current) as unknown as Writable;
    next.metadata.deletionTimestamp = new Date(now() + grace * 1000).toISOString();
    next.metadata.deletionGracePeriodSeconds = grace;
    if (finalizers.size > 0) next.metadata.finalizers = [...finalizers];
    if (type.resource === 'namespaces') next.status = { phase: 'Terminating' };
    put(type, next, current);
  };

  for (const { type, object } of options.objects ?? []) insert(type, object);

  const target = (type: ResourceType, namespace: string | undefined, name: string, subresource?: string) => ({
    resource: type.resource,
    namespace,
    name,
    subresource,
  });

  return {
    requests,
    stored: <T extends KubeObject>(type: ResourceType) => [...collectionOf(type).values()] as T[],
    fail: (when, error, times = 1) => void failures.push({ when, error, left: times }),
    breakWatches(error) {
      for (const watcher of [...watchers]) watcher.end(error);
    },
    compact() {
      compacted = version;
      history = [];
    },
    async settle() {
      for (let quiet = 0, seen = version; quiet < 3; quiet++) {
        await new Promise((resolve) => setImmediate(resolve));
        if (seen !== version) quiet = 0;
        seen = version;
      }
    },
    async get<T extends KubeObject>(type: ResourceType, namespace: string | undefined, name: string) {
      await begin({ verb: 'get', ...target(type, namespace, name) });
      return find(type, namespace, name) as T;
    },
    async list<T extends KubeObject>(type: ResourceType, listOptions: ListOptions = {}) {
      await begin({ verb: 'list', resource: type.resource, namespace: listOptions.namespace });
      const matches = matcher(listOptions);
      return {
        resourceVersion: String(version),
        items: [...collectionOf(type).values()].filter(matches) as T[],
      };
    },
    async create<T extends KubeObject>(type: ResourceType, object: T, write: WriteOptions = {}) {
      await begin({
        verb: 'create',
        ...target(type, object.metadata.namespace, object.metadata.name, write.subresource),
      });
      if (write.subresource === 'binding') {
        const pod = structuredClone(find(type, object.metadata.namespace, object.metadata.name)) as unknown as Writable;
        const node = (object as unknown as { target?: { name?: string } }).target?.name;
        pod.spec = { ...(pod.spec as Json), nodeName: node };
        put(type, pod, find(type, object.metadata.namespace, object.metadata.name));
        return object;
      }
      return insert(type, object) as T;
    },
    async update<T extends KubeObject>(type: ResourceType, object: T, write: WriteOptions = {}) {
      await begin({
        verb: 'update',
        ...target(type, object.metadata.namespace, object.metadata.name, write.subresource),
      });
      const current = find(type, object.metadata.namespace, object.metadata.name);
      return store(type, structuredClone(object) as unknown as Writable, current, write.subresource) as T;
    },
    async patch<T extends KubeObject>(
      type: ResourceType,
      namespace: string | undefined,
      name: string,
      patchType: PatchType,
      patch: unknown,
      write: WriteOptions = {},
    ) {
      await begin({ verb: 'patch', ...target(type, namespace, name, write.subresource) });
      if (patchType === 'strategic')
        throw new KubeError(415, 'UnsupportedMediaType', 'the fake has no strategic patch');
      const exists = collectionOf(type).has(keyOf(type.namespaced ? namespace : undefined, name));
      if (patchType === 'apply' && !exists) return insert(type, patch as KubeObject) as T;
      const current = find(type, namespace, name);
      const next =
        patchType === 'json'
          ? applyJsonPatch(current, patch as readonly JsonPatchStep[])
          : applyMergePatch(current, patch);
      return store(type, next as Writable, current, write.subresource) as T;
    },
    async delete(type, namespace, name, how = {}) {
      await begin({ verb: 'delete', ...target(type, namespace, name) });
      const current = find(type, namespace, name);
      if (how.uid !== undefined && how.uid !== current.metadata.uid)
        throw new KubeError(409, 'Conflict', `${qualified(type)} "${name}" has another uid`);
      remove(type, current, how);
    },
    async post<T>(path: string, body: unknown) {
      await begin({ verb: 'post', resource: path });
      if (!options.onPost) throw new KubeError(404, 'NotFound', `the fake has no answer for POST ${path}`);
      return options.onPost(path, body) as T;
    },
    async watch<T extends KubeObject>(
      type: ResourceType,
      watchOptions: ListOptions & { readonly resourceVersion: string },
      onEvent: (event: WatchEvent<T>) => void,
      signal: AbortSignal,
    ) {
      await begin({ verb: 'watch', resource: type.resource, namespace: watchOptions.namespace });
      const from = Number(watchOptions.resourceVersion);
      if (from < compacted) throw new KubeError(410, 'Expired', `too old resource version: ${from} (${compacted})`);
      await new Promise<void>((resolve, reject) => {
        if (signal.aborted) return resolve();
        const watcher: Watcher = {
          collection: `${type.group}/${type.resource}`,
          matches: matcher(watchOptions),
          onEvent: onEvent as (event: WatchEvent<KubeObject>) => void,
          end: (error) => {
            watchers.delete(watcher);
            if (error) reject(error);
            else resolve();
          },
        };
        watchers.add(watcher);
        for (const entry of history) if (entry.version > from) queueMicrotask(() => deliver(watcher, entry));
        signal.addEventListener('abort', () => watcher.end(), { once: true });
      });
    },
  };
}

function matcher(options: ListOptions): (object: KubeObject) => boolean {
  const labels = parseLabelSelector(options.labelSelector ?? '');
  const fields = parseFieldSelector(options.fieldSelector ?? '');
  if (labels.kind === 'invalid') throw new KubeError(400, 'BadRequest', labels.diagnostics[0]!.message);
  if (fields.kind === 'invalid') throw new KubeError(400, 'BadRequest', fields.diagnostics[0]!.message);
  return (object) =>
    (options.namespace === undefined || object.metadata.namespace === options.namespace) &&
    matchesRequirements(labels.value, object.metadata.labels) &&
    matchesFields(fields.value, object);
}

const WITH_STATUS = new Set([
  'pods',
  'deployments',
  'replicasets',
  'statefulsets',
  'daemonsets',
  'jobs',
  'cronjobs',
  'services',
  'nodes',
  'namespaces',
  'customresourcedefinitions',
]);
const hasStatusSubresource = (type: ResourceType): boolean => WITH_STATUS.has(type.resource);

const keyOf = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;
const qualified = (type: ResourceType): string => (type.group ? `${type.resource}.${type.group}` : type.resource);
const specOf = (object: Json): string => JSON.stringify({ ...object, metadata: undefined, status: undefined });
const specAndMeta = (object: Json): string =>
  JSON.stringify({ ...object, metadata: { ...(object.metadata as Json), resourceVersion: undefined } });

function isFree(object: Writable): boolean {
  const spec = object.spec as { finalizers?: readonly string[] } | undefined;
  const finalizers = object.metadata.finalizers ?? [];
  if (object.kind === 'Namespace') return finalizers.length === 0 && (spec?.finalizers ?? []).length === 0;
  if (object.kind === 'Pod' && (object.metadata.deletionGracePeriodSeconds ?? 0) > 0) return false;
  return finalizers.length === 0;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
