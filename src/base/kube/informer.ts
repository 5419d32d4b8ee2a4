// A local copy of a collection that keeps itself current: list, then watch, again and again.
// Called by everything that reacts to Kubernetes objects.
import { createBackoff } from '../runtime/backoff.ts';
import { type Clock, delay } from '../runtime/clock.ts';
import { errorText, type Logger } from '../runtime/log.ts';
import {
  type Change,
  type Informer,
  type KubeClient,
  KubeError,
  type KubeObject,
  type ListOptions,
  type ResourceType,
  type WatchEvent,
} from './types.ts';

export interface InformerOptions extends ListOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

const RETRY_BASE_MS = 50;
const RETRY_MAX_MS = 10_000;

/** Starts at once; failures are logged and tried again until `close`. */
export function createInformer<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType,
  options: InformerOptions,
): Informer<T> {
  const cache = new Map<string, T>();
  const byNamespace = new Map<string, Map<string, T>>();
  const handlers = new Set<(change: Change<T>) => void>();
  const stop = new AbortController();
  const synced = Promise.withResolvers<void>();
  let isSynced = false;

  const emit = (change: Change<T>): void => {
    for (const handler of [...handlers]) {
      try {
        handler(change);
      } catch (error) {
        // One broken handler must not starve the others of the change.
        options.log.error('informer handler failed', { resource: type.resource, error: errorText(error) });
      }
    }
  };
  const put = (object: T): void => {
    const key = cacheKey(object.metadata.namespace, object.metadata.name);
    const previous = cache.get(key);
    if (previous?.metadata.resourceVersion === object.metadata.resourceVersion && previous !== undefined) return;
    // Deleted and made again while we were away: its watchers must see the end of the old one.
    if (previous && previous.metadata.uid !== object.metadata.uid) remove(previous);
    const known = cache.get(key);
    cache.set(key, object);
    const namespace = object.metadata.namespace ?? '';
    let inNamespace = byNamespace.get(namespace);
    if (!inNamespace) {
      inNamespace = new Map();
      byNamespace.set(namespace, inNamespace);
    }
    inNamespace.set(object.metadata.name, object);
    emit(known ? { kind: 'updated', object, previous: known } : { kind: 'added', object });
  };
  const remove = (object: T): void => {
    const { namespace, name } = object.metadata;
    if (!cache.delete(cacheKey(namespace, name))) return;
    const inNamespace = byNamespace.get(namespace ?? '');
    inNamespace?.delete(name);
    if (inNamespace?.size === 0) byNamespace.delete(namespace ?? '');
    emit({ kind: 'deleted', object });
  };
  const relist = async (): Promise<string> => {
    const list = await client.list<T>(type, options);
    if (stop.signal.aborted) return list.resourceVersion;
    const present = new Set(list.items.map((o) => cacheKey(o.metadata.namespace, o.metadata.name)));
    for (const [key, object] of [...cache]) if (!present.has(key)) remove(object);
    for (const object of list.items) put(object);
    if (!isSynced) {
      isSynced = true;
      synced.resolve();
    }
    return list.resourceVersion;
  };
  const run = async (): Promise<void> => {
    const backoff = createBackoff({ baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS, jitter: 0.2, random: options.random });
    let version: string | undefined;
    let heard = false;
    while (!stop.signal.aborted) {
      try {
        version ??= await relist();
        const onEvent = (event: WatchEvent<T>): void => {
          if (stop.signal.aborted) return;
          heard = true;
          if (event.type === 'BOOKMARK') version = event.resourceVersion;
          else {
            version = event.object.metadata.resourceVersion;
            if (event.type === 'DELETED') remove(event.object);
            else put(event.object);
          }
        };
        heard = false;
        await client.watch<T>(type, { ...selection(options), resourceVersion: version }, onEvent, stop.signal);
        // A server that ends every watch at once must not be asked in a tight loop.
        if (heard) backoff.reset();
        else await delay(options.clock, backoff.next(), stop.signal);
      } catch (error) {
        if (stop.signal.aborted) return;
        if (heard) backoff.reset();
        heard = false;
        if (error instanceof KubeError && error.code === 410) {
          version = undefined;
          options.log.debug('watch too old, listing again', { resource: type.resource });
        } else options.log.warn('list or watch failed', { resource: type.resource, error: errorText(error) });
        await delay(options.clock, backoff.next(), stop.signal).catch(() => {});
      }
    }
  };
  run().catch((error) => {
    if (!stop.signal.aborted)
      options.log.error('informer stopped', { resource: type.resource, error: errorText(error) });
  });

  return {
    synced: synced.promise,
    get: (namespace, name) => cache.get(cacheKey(type.namespaced ? namespace : undefined, name)),
    list: (namespace) =>
      namespace === undefined ? [...cache.values()] : [...(byNamespace.get(namespace)?.values() ?? [])],
    onChange(handler) {
      handlers.add(handler);
      // Whoever comes late still sees every object once.
      for (const object of [...cache.values()]) handler({ kind: 'added', object });
      return () => handlers.delete(handler);
    },
    close() {
      stop.abort();
      handlers.clear();
    },
  };
}

const cacheKey = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;

function selection(options: ListOptions): ListOptions {
  const { namespace, labelSelector, fieldSelector } = options;
  return { namespace, labelSelector, fieldSelector };
}
