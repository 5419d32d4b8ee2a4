// Garbage collector: deletes what has lost its owners, and carries out foreground and orphaning deletion, for every
// kind the server knows, custom resources among them. Started by start.ts.
import {
  CUSTOM_RESOURCE_DEFINITIONS,
  type CustomResourceDefinition,
} from '../../api/kubernetes/custom-resource-definition.ts';
import { parseApiVersion } from '../../base/kube/paths.ts';
import type { KubeObject, OwnerReference, ResourceType } from '../../base/kube/types.ts';
import { createWorkQueue, type WorkQueue } from '../../base/kube/work-queue.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type ControllerContext, ignoreNotFound, isNotFound } from './context.ts';
import { createOwnerGraph, type OwnerGraph } from './owner-graph.ts';

export const FOREGROUND = 'foregroundDeletion';
export const ORPHAN = 'orphan';
/** Kinds that own nothing and are owned by nothing, and change all the time. */
const SKIPPED = new Set(['events', 'leases', 'componentstatuses', 'bindings']);
/** After a CRD changes, discovery may lag for a moment. */
const REDISCOVER_MS = 200;

export interface GarbageCollector {
  readonly queue: WorkQueue;
  close(): void;
}

export function startGarbageCollector(
  context: ControllerContext,
  resourceTypes: () => Promise<readonly ResourceType[]>,
): GarbageCollector {
  const graph = createOwnerGraph();
  const watched = new Map<string, { readonly type: ResourceType; readonly stop: () => void }>();
  let closed = false;

  const queue: WorkQueue = createWorkQueue({
    name: 'garbage-collector',
    clock: context.clock,
    log: context.log,
    random: context.random,
    run: (uid) => (uid === DISCOVER ? discover() : collect(context, graph, typeOf, queue, uid)),
  });
  const typeOf = (apiVersion: string, kind: string): ResourceType | undefined => {
    const { group } = parseApiVersion(apiVersion);
    for (const { type } of watched.values()) if (type.group === group && type.kind === kind) return type;
    return undefined;
  };
  const follow = (type: ResourceType): void => {
    const store = context.store<KubeObject>(type);
    const stop = store.onChange((change) => {
      const uid = change.object.metadata.uid ?? '';
      if (change.kind === 'deleted') {
        const dependents = graph.dependents(uid);
        const owners = graph.ownersOf(uid);
        graph.remove(uid);
        for (const dependent of dependents) queue.add(dependent);
        for (const owner of owners) if (graph.get(owner)?.object.metadata.deletionTimestamp) queue.add(owner);
        return;
      }
      graph.put(type, change.object);
      if (needsLook(graph, change.object)) queue.add(uid);
      // An owner that waits for its dependents may have been waiting for this change.
      for (const owner of graph.ownersOf(uid))
        if (graph.get(owner)?.object.metadata.deletionTimestamp) queue.add(owner);
    });
    watched.set(`${type.group}/${type.resource}`, { type, stop });
  };
  const discover = async (): Promise<void> => {
    const types = await resourceTypes();
    if (closed) return;
    const present = new Set<string>();
    for (const type of types) {
      const key = `${type.group}/${type.resource}`;
      if (SKIPPED.has(type.resource) || present.has(key)) continue;
      present.add(key);
      if (!watched.has(key)) follow(type);
    }
    for (const [key, entry] of watched) {
      if (present.has(key)) continue;
      entry.stop();
      watched.delete(key);
      context.drop(entry.type);
      graph.removeType(entry.type);
    }
  };
  // Owners in a first list may come after their dependents: nothing is judged before all lists are in.
  const start = async (): Promise<void> => {
    await context.synced();
    const crds = context.store<CustomResourceDefinition>(CUSTOM_RESOURCE_DEFINITIONS);
    await crds.synced;
    queue.add(DISCOVER);
    crds.onChange(() => {
      if (closed) return;
      queue.add(DISCOVER);
      queue.addAfter(DISCOVER, REDISCOVER_MS);
    });
  };
  start().catch((error) => context.log.error('garbage collector did not start', { error: errorText(error) }));

  return {
    queue,
    close() {
      closed = true;
      for (const { stop } of watched.values()) stop();
      queue.close();
    },
  };
}

/** The queue's key that is no uid. */
const DISCOVER = 'discover';

function needsLook(graph: OwnerGraph, object: KubeObject): boolean {
  const { deletionTimestamp, finalizers, ownerReferences = [] } = object.metadata;
  if (deletionTimestamp !== undefined) return finalizers?.some((f) => f === FOREGROUND || f === ORPHAN) ?? false;
  return ownerReferences.some((ref) => {
    const owner = graph.get(ref.uid);
    return owner === undefined || isWaiting(owner.object);
  });
}

const isWaiting = (object: KubeObject): boolean =>
  object.metadata.deletionTimestamp !== undefined && (object.metadata.finalizers?.includes(FOREGROUND) ?? false);

type TypeOf = (apiVersion: string, kind: string) => ResourceType | undefined;

async function collect(
  context: ControllerContext,
  graph: OwnerGraph,
  typeOf: TypeOf,
  queue: WorkQueue,
  uid: string,
): Promise<void> {
  const node = graph.get(uid);
  if (!node) return;
  const { object, type } = node;
  if (object.metadata.deletionTimestamp !== undefined) {
    if (object.metadata.finalizers?.includes(ORPHAN)) await orphanDependents(context, graph, uid);
    else if (object.metadata.finalizers?.includes(FOREGROUND)) await awaitDependents(context, graph, queue, uid);
    return;
  }
  const verdict = await judge(context, graph, typeOf, object);
  if (verdict.lost.length === 0 && verdict.waiting.length === 0) return;
  const { namespace, name } = object.metadata;
  if (verdict.solid.length > 0) {
    // Somebody still owns it: only the references to the dead go.
    const ownerReferences = (object.metadata.ownerReferences ?? []).filter((r) => verdict.solid.includes(r));
    await patchMeta(context, type, object, { ownerReferences });
    return;
  }
  const foreground = verdict.waiting.length > 0 && graph.dependents(uid).length > 0;
  const propagationPolicy = foreground ? 'Foreground' : 'Background';
  context.log.debug('collecting', { kind: object.kind, namespace, name });
  await ignoreNotFound(context.client.delete(type, namespace, name, { uid, propagationPolicy }));
}

interface Verdict {
  readonly solid: readonly OwnerReference[];
  readonly lost: readonly OwnerReference[];
  /** Owners in foreground deletion that wait for this object. */
  readonly waiting: readonly OwnerReference[];
}

async function judge(
  context: ControllerContext,
  graph: OwnerGraph,
  typeOf: TypeOf,
  object: KubeObject,
): Promise<Verdict> {
  const solid: OwnerReference[] = [];
  const lost: OwnerReference[] = [];
  const waiting: OwnerReference[] = [];
  for (const ref of object.metadata.ownerReferences ?? []) {
    const known = graph.get(ref.uid);
    const owner = known ? known.object : await lookUp(context, typeOf, object, ref);
    if (owner === 'unknown-kind') solid.push(ref);
    else if (!owner) lost.push(ref);
    else if (isWaiting(owner)) waiting.push(ref);
    else solid.push(ref);
  }
  return { solid, lost, waiting };
}

/** Asks the server itself: an absent owner in the graph proves nothing. */
async function lookUp(
  context: ControllerContext,
  typeOf: TypeOf,
  object: KubeObject,
  ref: OwnerReference,
): Promise<KubeObject | 'unknown-kind' | undefined> {
  const type = typeOf(ref.apiVersion, ref.kind);
  // Better kept for ever than deleted by mistake, as long as the owner's kind is not known.
  if (!type) return 'unknown-kind';
  if (type.namespaced && object.metadata.namespace === undefined) return 'unknown-kind';
  try {
    const owner = await context.client.get(type, object.metadata.namespace, ref.name);
    return owner.metadata.uid === ref.uid ? owner : undefined;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Foreground: the dependents go first; the finalizer falls with the last one that blocks. */
async function awaitDependents(
  context: ControllerContext,
  graph: OwnerGraph,
  queue: WorkQueue,
  uid: string,
): Promise<void> {
  const node = graph.get(uid)!;
  const blocking = graph
    .dependents(uid)
    .filter((d) => graph.get(d)?.object.metadata.ownerReferences?.some((r) => r.uid === uid && r.blockOwnerDeletion));
  if (blocking.length === 0) {
    await dropFinalizer(context, node.type, node.object, FOREGROUND);
    return;
  }
  for (const dependent of graph.dependents(uid)) queue.add(dependent);
}

async function orphanDependents(context: ControllerContext, graph: OwnerGraph, uid: string): Promise<void> {
  await Promise.all(
    graph.dependents(uid).map(async (dependent) => {
      const node = graph.get(dependent);
      if (!node) return;
      const ownerReferences = (node.object.metadata.ownerReferences ?? []).filter((r) => r.uid !== uid);
      await patchMeta(context, node.type, node.object, { ownerReferences });
    }),
  );
  const owner = graph.get(uid);
  if (owner) await dropFinalizer(context, owner.type, owner.object, ORPHAN);
}

async function dropFinalizer(
  context: ControllerContext,
  type: ResourceType,
  object: KubeObject,
  finalizer: string,
): Promise<void> {
  await patchMeta(context, type, object, {
    finalizers: (object.metadata.finalizers ?? []).filter((f) => f !== finalizer),
  });
}

/** A list replaces a list, so it must rest on the version it was read from; a 409 comes back with newer data. */
async function patchMeta(
  context: ControllerContext,
  type: ResourceType,
  object: KubeObject,
  change: Partial<KubeObject['metadata']>,
): Promise<void> {
  const { namespace, name, uid, resourceVersion } = object.metadata;
  await ignoreNotFound(
    context.client.patch(type, namespace, name, 'merge', { metadata: { uid, resourceVersion, ...change } }),
  );
}
