// DELETE: preconditions, grace, finalizers, propagation. Called by the REST layer, eviction and the local client.
import { admitValidating } from '../admission.ts';
import { type Core, fromStorage, nowText, owned, type RequestContext } from '../core.ts';
import { type ApiObject, at, equal, num, str } from '../json.ts';
import { strategyOf } from '../kinds/index.ts';
import { badRequest, conflict } from '../status.ts';
import { mayVanish, stored, writing } from './shared.ts';
import { liveObject, type Target } from './update.ts';

const DELETE_ATTEMPTS = 5;
const DEFAULT_GRACE_SECONDS = 30;

export interface DeleteInput {
  readonly gracePeriodSeconds?: number;
  readonly propagationPolicy?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
}

export type Deleted =
  /** Gone now. */
  | { readonly kind: 'gone'; readonly object: ApiObject }
  /** Marked; finalizers or the kubelet finish it. */
  | { readonly kind: 'marked'; readonly object: ApiObject };

export async function deleteObject(
  core: Core,
  context: RequestContext,
  target: Target,
  input: DeleteInput,
): Promise<Deleted> {
  const { def } = target;
  const policy = input.propagationPolicy;
  if (policy !== undefined && !['Orphan', 'Foreground', 'Background'].includes(policy))
    throw badRequest(
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "${policy}": supported values: "Foreground", "Background", "Orphan", "nil"`,
    );
  for (let attempt = 1; ; attempt++) {
    const live = liveObject(core, target);
    checkPreconditions(target, live, input);
    await admitValidating(core, {
      operation: 'DELETE',
      def,
      namespace: target.namespace,
      context,
      oldObject: live,
      name: target.name,
    });
    strategyOf(def).checkDelete?.(core, live);
    const current = liveObject(core, target);
    if (current.metadata.resourceVersion !== live.metadata.resourceVersion && attempt < DELETE_ATTEMPTS) continue;
    return remove(core, context, target, current, input);
  }
}

function checkPreconditions(target: Target, live: ApiObject, input: DeleteInput): void {
  if (input.uid && input.uid !== live.metadata.uid)
    throw conflict(
      target.def,
      target.name,
      `Precondition failed: UID in precondition: ${input.uid}, UID in object meta: ${live.metadata.uid}`,
    );
  if (input.resourceVersion && input.resourceVersion !== live.metadata.resourceVersion)
    throw conflict(
      target.def,
      target.name,
      `Precondition failed: ResourceVersion in precondition: ${input.resourceVersion}, ResourceVersion in object meta: ${live.metadata.resourceVersion}`,
    );
}

function remove(core: Core, context: RequestContext, target: Target, live: ApiObject, input: DeleteInput): Deleted {
  const { def, name } = target;
  const next = owned(live);
  const meta = next.metadata;
  setPropagation(next, input.propagationPolicy);
  const grace = graceSeconds(def.collection, live, input.gracePeriodSeconds);
  if (grace === 0 && mayVanish(def, next) && (def.collection !== '/namespaces' || meta.deletionTimestamp)) {
    if (context.dryRun) return { kind: 'gone', object: live };
    const gone = writing(def, name, () =>
      core.store.delete(def.collection, meta.namespace ?? '', name, live.metadata.resourceVersion ?? ''),
    );
    return { kind: 'gone', object: fromStorage(def, gone) };
  }
  const already = live.metadata.deletionTimestamp !== undefined;
  const shorter = already && grace < (live.metadata.deletionGracePeriodSeconds ?? 0);
  if (!already || shorter) {
    meta.deletionTimestamp = nowText({ ...core.clock, now: () => core.clock.now() + grace * 1000 });
    meta.deletionGracePeriodSeconds = grace;
    if (live.metadata.generation !== undefined) meta.generation = live.metadata.generation + 1;
    strategyOf(def).markDeleted?.(core, next);
  }
  if (context.dryRun || equal(next, live)) return { kind: 'marked', object: next };
  const written = writing(def, name, () =>
    core.store.update(def.collection, stored(def, next), live.metadata.resourceVersion ?? ''),
  );
  return { kind: 'marked', object: fromStorage(def, written) };
}

function setPropagation(object: ApiObject, policy: string | undefined): void {
  if (policy !== 'Orphan' && policy !== 'Foreground') return;
  const wanted = policy === 'Orphan' ? 'orphan' : 'foregroundDeletion';
  const other = policy === 'Orphan' ? 'foregroundDeletion' : 'orphan';
  const finalizers = (object.metadata.finalizers ?? []).filter((item) => item !== other);
  if (!finalizers.includes(wanted)) finalizers.push(wanted);
  object.metadata.finalizers = finalizers;
}

/** Only a pod on a node is given time to end; its kubelet deletes it with grace 0. */
function graceSeconds(collection: string, live: ApiObject, asked: number | undefined): number {
  if (collection !== '/pods') return 0;
  const phase = str(at(live, 'status', 'phase'));
  if (!at(live, 'spec', 'nodeName') || phase === 'Succeeded' || phase === 'Failed') return 0;
  const grace = asked ?? num(at(live, 'spec', 'terminationGracePeriodSeconds'), DEFAULT_GRACE_SECONDS);
  return grace < 0 ? 1 : grace;
}
