// Keeps the served resources and the schemas in step with the CRDs in the store, and empties a CRD that is being deleted.
// Started by server.ts.
import type { StoreEvent } from '../store/store.ts';
import { ADMIN, asJson, type Core, type RequestContext } from './core.ts';
import { strings } from './json.ts';
import { CRD_FINALIZER, customResources } from './kinds/crd.ts';
import { deleteObject } from './ops/delete.ts';
import type { ResourceDef } from './resources.ts';

const CRDS = 'apiextensions.k8s.io/customresourcedefinitions';

const CONTEXT: RequestContext = {
  user: ADMIN,
  dryRun: false,
  fieldManager: 'kube-apiserver',
  fieldValidation: 'Ignore',
  force: false,
  warnings: [],
};

/** The returned function stops. Served resources are current when this returns. */
export function followCrds(core: Core): () => void {
  const dying = new Map<string, ResourceDef>();
  const serve = (crd: StoreEvent['object']): void => {
    const defs = customResources(crd);
    core.schemas.setCrd(asJson(crd));
    core.registry.setCustom(crd.metadata.name, defs);
    const first = defs[0];
    if (first && (crd.metadata as { deletionTimestamp?: string }).deletionTimestamp) {
      const fresh = !dying.has(crd.metadata.name);
      dying.set(crd.metadata.name, first);
      if (fresh) queueMicrotask(() => void empty(core, first));
      finishIfEmpty(core, crd.metadata.name, first);
    }
  };
  for (const crd of core.store.list(CRDS)) serve(crd);
  const stop = core.store.watch(core.store.revision(), (event) => {
    if (event.collection === CRDS) {
      if (event.type !== 'DELETED') return serve(event.object);
      dying.delete(event.object.metadata.name);
      core.registry.removeCustom(event.object.metadata.name);
      core.schemas.deleteCrd(event.object.metadata.name);
      return;
    }
    if (event.type !== 'DELETED' || dying.size === 0) return;
    for (const [name, def] of dying)
      if (def.collection === event.collection) queueMicrotask(() => finishIfEmpty(core, name, def));
  });
  return typeof stop === 'function' ? stop : () => {};
}

async function empty(core: Core, def: ResourceDef): Promise<void> {
  for (const item of core.store.list(def.collection)) {
    const target = { def, namespace: item.metadata.namespace, name: item.metadata.name };
    await deleteObject(core, CONTEXT, target, {}).catch((error: unknown) => {
      core.log.warn('cannot delete an object of a deleted CRD', {
        crd: `${def.resource}.${def.group}`,
        name: item.metadata.name,
        error: String(error),
      });
    });
  }
}

function finishIfEmpty(core: Core, name: string, def: ResourceDef): void {
  queueMicrotask(() => {
    const crd = core.store.get(CRDS, '', name);
    if (!crd || core.store.list(def.collection).length > 0) return;
    const finalizers = strings((crd.metadata as { finalizers?: unknown }).finalizers).filter(
      (item) => item !== CRD_FINALIZER,
    );
    if (finalizers.length === 0) core.store.delete(CRDS, '', name);
    else if (finalizers.length < strings((crd.metadata as { finalizers?: unknown }).finalizers).length)
      core.store.update(
        CRDS,
        { ...crd, metadata: { ...crd.metadata, finalizers } as typeof crd.metadata },
        crd.metadata.resourceVersion ?? '',
      );
  });
}
