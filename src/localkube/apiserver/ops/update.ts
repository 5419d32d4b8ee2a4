// PUT and the four patches, of objects and their subresources: produce the new state from the live one, admit, validate, store.
// Called by the REST layer and the local client.
import type { PatchType } from '../../../base/kube/types.ts';
import { admitMutating, admitValidating } from '../admission.ts';
import { asJson, type Core, fromStorage, nowText, owned, type RequestContext, schemaOf } from '../core.ts';
import { type ApiObject, clone, dict, equal, isDict } from '../json.ts';
import { strategyOf } from '../kinds/index.ts';
import {
  applyJsonPatch,
  applyMergePatch,
  applyStrategicMergePatch,
  serverSideApply,
  trackUpdate,
} from '../merge/index.ts';
import type { ResourceDef } from '../resources.ts';
import { podWarnings } from '../schema/index.ts';
import { ApiError, badRequest, conflict, invalid, modified, notFound } from '../status.ts';
import { createObject } from './create.ts';
import {
  countsGeneration,
  decode,
  desiredState,
  hasStatus,
  matchRequest,
  mayVanish,
  stored,
  validate,
  withDefaults,
  writing,
} from './shared.ts';

const PATCH_ATTEMPTS = 5;

export interface Target {
  readonly def: ResourceDef;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly subresource?: string;
}

export interface Written {
  readonly object: ApiObject;
  readonly created: boolean;
}

export function liveObject(core: Core, target: Target): ApiObject {
  const found = core.store.get(
    target.def.collection,
    target.def.namespaced ? (target.namespace ?? '') : '',
    target.name,
  );
  if (!found) throw notFound(target.def, target.name);
  return fromStorage(target.def, found);
}

/** PUT. A Lease that does not exist is created, as a real server does. */
export async function updateObject(
  core: Core,
  context: RequestContext,
  target: Target,
  body: unknown,
): Promise<Written> {
  const decoded = decode(core, context, target.def, body);
  matchRequest(decoded, target.def, target.namespace, target.name);
  const exists = core.store.get(
    target.def.collection,
    target.def.namespaced ? (target.namespace ?? '') : '',
    target.name,
  );
  if (!exists && target.def.collection === 'coordination.k8s.io/leases') {
    return {
      object: await createObject(core, context, { def: target.def, namespace: target.namespace, body }),
      created: true,
    };
  }
  const live = liveObject(core, target);
  if (target.def.custom && !decoded.metadata.resourceVersion)
    throw invalid(target.def, target.name, [
      { path: 'metadata.resourceVersion', message: 'Invalid value: 0x0: must be specified for an update' },
    ]);
  if (decoded.metadata.uid && decoded.metadata.uid !== live.metadata.uid) throw uidConflict(target, decoded, live);
  const pinned = decoded.metadata.resourceVersion;
  return change(core, context, target, (current) => {
    if (pinned && pinned !== current.metadata.resourceVersion) throw modified(target.def, target.name);
    return { next: clone(decoded), tracked: false };
  });
}

function uidConflict(target: Target, given: ApiObject, live: ApiObject): ApiError {
  return conflict(
    target.def,
    target.name,
    `Precondition failed: UID in precondition: ${given.metadata.uid}, UID in object meta: ${live.metadata.uid}`,
  );
}

export async function patchObject(
  core: Core,
  context: RequestContext,
  target: Target,
  type: PatchType,
  patch: unknown,
): Promise<Written> {
  if (type === 'apply') return applyObject(core, context, target, patch);
  return change(core, context, target, (live) => {
    const patched = applyPatch(core, target.def, live, type, patch);
    const next = decode(core, context, target.def, patched);
    if (next.metadata.name !== target.name)
      throw badRequest(
        `the name of the object (${next.metadata.name}) does not match the name on the URL (${target.name})`,
      );
    if (next.metadata.resourceVersion && next.metadata.resourceVersion !== live.metadata.resourceVersion)
      throw modified(target.def, target.name);
    if (next.metadata.uid && next.metadata.uid !== live.metadata.uid) throw uidConflict(target, next, live);
    return { next, tracked: false };
  });
}

export function applyPatch(core: Core, def: ResourceDef, live: ApiObject, type: PatchType, patch: unknown): unknown {
  if (type === 'json') return applyJsonPatch(asJson(live), patch);
  if (type === 'merge') return applyMergePatch(asJson(live), patch);
  if (def.custom)
    throw new ApiError(
      415,
      'UnsupportedMediaType',
      'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml',
    );
  return applyStrategicMergePatch(asJson(live), patch, schemaOf(core, def));
}

async function applyObject(core: Core, context: RequestContext, target: Target, patch: unknown): Promise<Written> {
  if (!context.fieldManager)
    throw badRequest(
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    );
  if (!isDict(patch) || !patch.apiVersion || !patch.kind)
    throw badRequest('invalid object type: an apply patch needs apiVersion and kind');
  const { def } = target;
  const applied = decode(core, context, def, patch);
  matchRequest(applied, def, target.namespace, target.name);
  const merge = (live: ApiObject | undefined): ApiObject =>
    structuredClone(
      serverSideApply({
        ...(live ? { live: asJson(live) } : {}),
        applied: asJson(applied),
        kind: schemaOf(core, def),
        manager: context.fieldManager,
        force: context.force,
        now: nowText(core.clock),
        ...(target.subresource ? { subresource: target.subresource } : {}),
      }),
    ) as unknown as ApiObject;
  const exists = core.store.get(def.collection, def.namespaced ? (target.namespace ?? '') : '', target.name);
  if (!exists) {
    if (target.subresource) throw notFound(def, target.name);
    const body = merge(undefined);
    delete body.metadata.resourceVersion;
    const object = await createObject(core, context, { def, namespace: target.namespace, body, applied: true });
    return { object, created: true };
  }
  return change(core, context, target, (live) => {
    if (applied.metadata.resourceVersion && applied.metadata.resourceVersion !== live.metadata.resourceVersion)
      throw modified(def, target.name);
    return { next: merge(live), tracked: true };
  });
}

interface Produced {
  readonly next: ApiObject;
  /** Server-side apply has already written managedFields. */
  readonly tracked: boolean;
}

/** Applies `produce` to the live object until no other write came between; the client's own conflicts are not retried. */
export async function change(
  core: Core,
  context: RequestContext,
  target: Target,
  produce: (live: ApiObject) => Produced,
): Promise<Written> {
  for (let attempt = 1; ; attempt++) {
    const live = owned(liveObject(core, target));
    const produced = produce(clone(live));
    try {
      return { object: await commit(core, context, target, live, produced), created: false };
    } catch (error) {
      const raced = error instanceof RaceLost;
      if (!raced) throw error;
      if (attempt >= PATCH_ATTEMPTS) throw modified(target.def, target.name);
    }
  }
}

/** Another write came between reading and writing. */
class RaceLost extends Error {}

async function commit(
  core: Core,
  context: RequestContext,
  target: Target,
  live: ApiObject,
  produced: Produced,
): Promise<ApiObject> {
  const { def, subresource } = target;
  const strategy = strategyOf(def);
  let next = keepServerFields(def, produced.next, live, subresource);
  next = withDefaults(core, def, next);
  strategy.prepareUpdate?.(core, next, live, context, subresource);
  // Before admission, as on a real server: what webhooks change belongs to nobody.
  if (!produced.tracked) next = track(core, context, target, live, next);
  const request = {
    operation: 'UPDATE',
    def,
    namespace: target.namespace,
    context,
    oldObject: live,
    subresource,
  } as const;
  next = await admitMutating(core, { ...request, object: next });
  next = keepServerFields(def, next, live, subresource);
  if (countsGeneration(def) && !equal(desiredState(next), desiredState(live)))
    next.metadata.generation = (live.metadata.generation ?? 0) + 1;
  validate(core, def, next, live, subresource);
  if (!subresource) context.warnings.push(...podWarnings(asJson(next), schemaOf(core, def), asJson(live)));
  strategy.validate?.(core, next, live, context, def);
  await admitValidating(core, { ...request, object: next });
  strategy.allocate?.(core, next, live);
  return write(core, context, def, live, next);
}

function track(core: Core, context: RequestContext, target: Target, live: ApiObject, next: ApiObject): ApiObject {
  return structuredClone(
    trackUpdate({
      before: asJson(live),
      after: asJson(next),
      kind: schemaOf(core, target.def),
      manager: context.fieldManager,
      now: nowText(core.clock),
      ...(target.subresource ? { subresource: target.subresource } : {}),
    }),
  ) as unknown as ApiObject;
}

function write(core: Core, context: RequestContext, def: ResourceDef, live: ApiObject, next: ApiObject): ApiObject {
  const revision = live.metadata.resourceVersion ?? '';
  next.metadata.resourceVersion = revision;
  const namespace = next.metadata.namespace ?? '';
  const current = core.store.get(def.collection, namespace, next.metadata.name);
  if (!current) throw notFound(def, next.metadata.name);
  if (current.metadata.resourceVersion !== revision) throw new RaceLost('changed meanwhile');
  const gone = live.metadata.deletionTimestamp !== undefined && mayVanish(def, next) && finishedDeleting(def, next);
  if (context.dryRun || (!gone && equal(next, live))) return next;
  return writing(def, next.metadata.name, () => {
    if (!gone) return fromStorage(def, core.store.update(def.collection, stored(def, next), revision));
    core.store.delete(def.collection, namespace, next.metadata.name, revision);
    return next;
  });
}

/** A pod in its grace period stays until the kubelet deletes it; the rest goes with the last finalizer. */
function finishedDeleting(def: ResourceDef, object: ApiObject): boolean {
  return def.collection !== '/pods' || (object.metadata.deletionGracePeriodSeconds ?? 0) === 0;
}

/** What a client cannot change: identity, deletion, and the half of the object that this endpoint does not own. */
function keepServerFields(
  def: ResourceDef,
  given: ApiObject,
  live: ApiObject,
  subresource: string | undefined,
): ApiObject {
  let next = given;
  const managed = given.metadata.managedFields;
  if (subresource === 'status') {
    const metadata = def.custom
      ? { ...live.metadata, ...(managed ? { managedFields: managed } : {}) }
      : { ...given.metadata, ownerReferences: live.metadata.ownerReferences };
    if (!metadata.ownerReferences) delete metadata.ownerReferences;
    next = { ...live, metadata, status: given.status } as ApiObject;
  } else if (subresource === 'finalize') {
    next = { ...live, metadata: { ...live.metadata, managedFields: managed }, spec: given.spec } as ApiObject;
  } else if (subresource === 'ephemeralcontainers') {
    const ephemeralContainers = dict(given.spec).ephemeralContainers;
    next = { ...live, spec: { ...dict(live.spec), ephemeralContainers } } as ApiObject;
  } else if (hasStatus(def)) {
    next = { ...given, status: live.status } as ApiObject;
  }
  if (next.status === undefined) delete next.status;
  const meta = { ...next.metadata };
  for (const field of [
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'generation',
    'generateName',
  ] as const) {
    if (live.metadata[field] === undefined) delete meta[field];
    else Object.assign(meta, { [field]: live.metadata[field] });
  }
  if (meta.managedFields === undefined && live.metadata.managedFields) meta.managedFields = live.metadata.managedFields;
  if (live.metadata.namespace) meta.namespace = live.metadata.namespace;
  meta.resourceVersion = live.metadata.resourceVersion ?? '';
  delete meta.selfLink;
  return { ...next, metadata: meta };
}
