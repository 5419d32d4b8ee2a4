// What every controller is given, and the loop that all of them share. Called by start.ts.

import { type Change, type KubeClient, KubeError, type KubeObject, type ResourceType } from '../../base/kube/types.ts';
import { createWorkQueue, type WorkQueue } from '../../base/kube/work-queue.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { createEventRecorder, type EventRecorder } from './events.ts';
import { createStore, type Store } from './store.ts';

export interface ControllerContext {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** The shared store of a kind; started when first asked for. */
  store<T extends KubeObject>(type: ResourceType): Store<T>;
  /** Closes the store of a kind that is no longer served. */
  drop(type: ResourceType): void;
  recorder(component: string): EventRecorder;
  /** Resolves once every store asked for so far has its first list. */
  synced(): Promise<void>;
  close(): void;
}

export function createContext(base: Pick<ControllerContext, 'client' | 'clock' | 'log' | 'random'>): ControllerContext {
  const stores = new Map<string, Store<KubeObject>>();
  const recorders = new Map<string, EventRecorder>();
  return {
    ...base,
    store<T extends KubeObject>(type: ResourceType): Store<T> {
      const key = `${type.group}/${type.resource}`;
      let found = stores.get(key);
      if (!found) {
        found = createStore<KubeObject>(base.client, type, { ...base, component: 'kube-controller-manager' });
        stores.set(key, found);
      }
      return found as unknown as Store<T>;
    },
    drop(type) {
      const key = `${type.group}/${type.resource}`;
      stores.get(key)?.close();
      stores.delete(key);
    },
    recorder(component) {
      let found = recorders.get(component);
      if (!found) {
        found = createEventRecorder(base.client, { ...base, component });
        recorders.set(component, found);
      }
      return found;
    },
    async synced() {
      await Promise.all([...stores.values()].map((s) => s.synced));
    },
    close() {
      for (const recorder of recorders.values()) recorder.close();
      for (const store of stores.values()) store.close();
    },
  };
}

export interface Controller {
  readonly queue: WorkQueue;
  close(): void;
}

export interface ControllerOptions {
  readonly name: string;
  readonly concurrency?: number;
  /** Called with `namespace/name`, never twice at once for one key; resolves to the wait in ms until it is to run again, if any. */
  readonly reconcile: (namespace: string | undefined, name: string) => Promise<number | undefined>;
  /** Subscribes `add` to whatever makes a key worth another look; returns the unsubscribers. */
  readonly watch: (add: (key: string) => void) => readonly (() => void)[];
}

/** Starts the loop. Nothing is reconciled before all stores are synced, so that no decision rests on half a list. */
export function startController(context: ControllerContext, options: ControllerOptions): Controller {
  const queue = createWorkQueue({
    name: options.name,
    concurrency: options.concurrency,
    clock: context.clock,
    log: context.log,
    random: context.random,
    async run(key) {
      const { namespace, name } = splitKey(key);
      const again = await options.reconcile(namespace, name);
      if (again !== undefined) queue.addAfter(key, again);
    },
  });
  let stops: readonly (() => void)[] = [];
  let closed = false;
  context
    .synced()
    .then(() => {
      if (!closed) stops = options.watch(queue.add);
    })
    .catch((error) => context.log.error('controller did not start', { name: options.name, error: errorText(error) }));
  return {
    queue,
    close() {
      closed = true;
      for (const stop of stops) stop();
      queue.close();
    },
  };
}

export function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
}

export function splitKey(key: string): { readonly namespace: string | undefined; readonly name: string } {
  const slash = key.indexOf('/');
  return { namespace: slash === 0 ? undefined : key.slice(0, slash), name: key.slice(slash + 1) };
}

/** Wakes the controlling owner of `kind` whenever a child changes; also the former owner when it was released. */
export function enqueueOwner<T extends KubeObject>(
  kind: string,
  add: (key: string) => void,
): (change: Change<T>) => void {
  const wake = (object: T): void => {
    const owner = object.metadata.ownerReferences?.find((r) => r.controller && r.kind === kind);
    if (owner) add(`${object.metadata.namespace ?? ''}/${owner.name}`);
  };
  return (change) => {
    wake(change.object);
    if (change.kind === 'updated') wake(change.previous);
  };
}

export const isNotFound = (error: unknown): boolean => error instanceof KubeError && error.code === 404;
export const isConflict = (error: unknown): boolean => error instanceof KubeError && error.code === 409;

/** The promise without its 404: what is to be deleted or changed is gone already. */
export async function ignoreNotFound<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
