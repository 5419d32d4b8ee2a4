// An informer that also writes, and shows its own writes at once: a controller that has just created a pod
// must find it on its next pass even when the watch has not brought it yet. Called by every controller.
import { createInformer, type InformerOptions } from '../../base/kube/informer.ts';
import { apiVersionOf } from '../../base/kube/paths.ts';
import type {
  Change,
  DeleteOptions,
  KubeClient,
  KubeObject,
  PatchType,
  ResourceType,
  WriteOptions,
} from '../../base/kube/types.ts';

export interface Store<T extends KubeObject> {
  readonly type: ResourceType;
  readonly synced: Promise<void>;
  get(namespace: string | undefined, name: string): T | undefined;
  list(namespace?: string): readonly T[];
  /** Objects of the namespace whose controlling owner has this uid. */
  ownedBy(namespace: string | undefined, uid: string): readonly T[];
  onChange(handler: (change: Change<T>) => void): () => void;
  create(object: T): Promise<T>;
  update(object: T, subresource?: 'status' | 'scale' | 'finalize'): Promise<T>;
  patch(object: T, patchType: PatchType, patch: unknown, subresource?: 'status'): Promise<T>;
  delete(object: T, options?: Omit<DeleteOptions, 'uid'>): Promise<void>;
  close(): void;
}

export function createStore<T extends KubeObject>(
  client: KubeClient,
  type: ResourceType,
  options: InformerOptions & { readonly component: string },
): Store<T> {
  const informer = createInformer<T>(client, type, options);
  /** Our writes that the informer has not shown yet. */
  const ahead = new Map<string, T>();
  const write: WriteOptions = { fieldManager: options.component };
  const keyOf = (object: T): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
  informer.onChange((change) => {
    const key = keyOf(change.object);
    const mine = ahead.get(key);
    if (mine && version(change.object) >= version(mine)) ahead.delete(key);
  });
  const seen = (object: T): T | undefined => informer.get(object.metadata.namespace, object.metadata.name);
  const remember = (object: T): T => {
    const known = seen(object);
    if (!known || version(known) < version(object)) ahead.set(keyOf(object), object);
    return object;
  };
  const list = (namespace?: string): readonly T[] => {
    if (ahead.size === 0) return informer.list(namespace);
    const out: T[] = [];
    for (const object of informer.list(namespace)) if (!ahead.has(keyOf(object))) out.push(object);
    for (const object of ahead.values())
      if (namespace === undefined || object.metadata.namespace === namespace) out.push(object);
    return out;
  };
  return {
    type,
    synced: informer.synced,
    get: (namespace, name) => ahead.get(`${namespace ?? ''}/${name}`) ?? informer.get(namespace, name),
    list,
    ownedBy: (namespace, uid) =>
      list(namespace).filter((o) => o.metadata.ownerReferences?.some((r) => r.controller && r.uid === uid)),
    onChange: informer.onChange,
    create: async (object) =>
      remember(await client.create<T>(type, { ...object, apiVersion: apiVersionOf(type), kind: type.kind }, write)),
    async update(object, subresource) {
      return remember(await client.update<T>(type, object, { ...write, subresource }));
    },
    async patch(object, patchType, patch, subresource) {
      const { namespace, name } = object.metadata;
      return remember(await client.patch<T>(type, namespace, name, patchType, patch, { ...write, subresource }));
    },
    async delete(object, how = {}) {
      const { namespace, name, uid } = object.metadata;
      await client.delete(type, namespace, name, { ...how, uid });
      // Until the watch tells what became of it, it counts as on its way out.
      const known = seen(object);
      if (known && known.metadata.uid === uid && !known.metadata.deletionTimestamp) {
        const metadata = { ...known.metadata, deletionTimestamp: new Date(options.clock.now()).toISOString() };
        ahead.set(keyOf(object), { ...known, metadata } as T);
      }
    },
    close() {
      informer.close();
      ahead.clear();
    },
  };
}

/** localkube's versions are one growing number. */
const version = (object: KubeObject): number => Number(object.metadata.resourceVersion ?? 0);
