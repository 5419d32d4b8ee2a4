// Who owns whom, by uid. Kept by the garbage collector from everything it watches.
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';

export interface OwnedNode {
  readonly type: ResourceType;
  readonly object: KubeObject;
}

export interface OwnerGraph {
  get(uid: string): OwnedNode | undefined;
  put(type: ResourceType, object: KubeObject): void;
  remove(uid: string): void;
  removeType(type: ResourceType): void;
  /** Uids of the objects that name `uid` as an owner. */
  dependents(uid: string): readonly string[];
  ownersOf(uid: string): readonly string[];
}

export function createOwnerGraph(): OwnerGraph {
  const nodes = new Map<string, OwnedNode>();
  const dependents = new Map<string, Set<string>>();
  const ownersOf = (uid: string): readonly string[] =>
    nodes.get(uid)?.object.metadata.ownerReferences?.map((r) => r.uid) ?? [];
  const unlink = (uid: string): void => {
    for (const owner of ownersOf(uid)) {
      const set = dependents.get(owner);
      set?.delete(uid);
      if (set?.size === 0) dependents.delete(owner);
    }
  };
  const remove = (uid: string): void => {
    unlink(uid);
    nodes.delete(uid);
  };
  return {
    get: (uid) => nodes.get(uid),
    put(type, object) {
      const uid = object.metadata.uid ?? '';
      unlink(uid);
      nodes.set(uid, { type, object });
      for (const owner of ownersOf(uid)) {
        const set = dependents.get(owner) ?? new Set();
        set.add(uid);
        dependents.set(owner, set);
      }
    },
    remove,
    removeType(type) {
      for (const [uid, node] of [...nodes])
        if (node.type.group === type.group && node.type.resource === type.resource) remove(uid);
    },
    dependents: (uid) => [...(dependents.get(uid) ?? [])],
    ownersOf,
  };
}
