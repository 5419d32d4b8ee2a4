// Informers over a fixed list of objects, for a control plane without a Kubernetes: the store reads them as it reads live ones.

import {
  type Change,
  type Informer,
  type KubeClient,
  KubeError,
  type KubeObject,
  type ResourceType,
} from '../../base/kube/types.ts';
import type { InformerFactory } from '../config/store.ts';

function isOf(object: KubeObject, type: ResourceType): boolean {
  const slash = object.apiVersion.indexOf('/');
  const group = slash < 0 ? '' : object.apiVersion.slice(0, slash);
  return object.kind === type.kind && group === type.group;
}

export function staticInformers(objects: readonly KubeObject[]): InformerFactory {
  return <T extends KubeObject>(type: ResourceType, options: { namespace?: string; fieldSelector?: string } = {}) => {
    const name = options.fieldSelector?.replace('metadata.name=', '');
    const own = objects.filter(
      (o) =>
        isOf(o, type) &&
        (options.namespace === undefined || o.metadata.namespace === options.namespace) &&
        (name === undefined || o.metadata.name === name),
    ) as unknown as readonly T[];
    const informer: Informer<T> = {
      synced: Promise.resolve(),
      get: (namespace, wanted) =>
        own.find((o) => o.metadata.name === wanted && (o.metadata.namespace ?? '') === (namespace ?? '')),
      list: (namespace) => (namespace === undefined ? own : own.filter((o) => o.metadata.namespace === namespace)),
      onChange(handler: (change: Change<T>) => void) {
        for (const object of own) handler({ kind: 'added', object });
        return () => {};
      },
      close: () => {},
    };
    return informer;
  };
}

const refuse = (): Promise<never> =>
  Promise.reject(new KubeError(405, 'MethodNotAllowed', 'there is no API server behind an offline control plane'));

/** Nothing but empty lists: the objects come through the informers. */
export const NO_CLUSTER: KubeClient = {
  get: refuse,
  list: () => Promise.resolve({ resourceVersion: '1', items: [] }),
  create: refuse,
  update: refuse,
  patch: refuse,
  delete: refuse,
  post: refuse,
  watch: refuse,
};
