// The pod subresources that change state: binding and eviction. Called by dispatch.ts.
import { type Core, nowText, type RequestContext } from '../core.ts';
import { type ApiObject, at, clone, type Dict, dict, dicts, isDict, num, str, strings } from '../json.ts';
import { selectorPredicate } from '../selectors.ts';
import { ApiError, badRequest, conflict } from '../status.ts';
import { type DeleteInput, deleteObject } from './delete.ts';
import { stored, writing } from './shared.ts';
import { liveObject, type Target } from './update.ts';

export const success = (code: number): Dict => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  code,
});

/** POST pods/x/binding: the scheduler's decision. */
export function bindPod(core: Core, context: RequestContext, target: Target, body: unknown): Dict {
  const node = str(at(body, 'target', 'name'));
  if (!node) throw badRequest('Binding needs target.name');
  const live = liveObject(core, target);
  const uid = str(at(body, 'metadata', 'uid'));
  if (uid && uid !== live.metadata.uid)
    throw conflict(
      target.def,
      target.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${live.metadata.uid}`,
    );
  if (live.metadata.deletionTimestamp)
    throw conflict(target.def, target.name, `pod ${target.name} is being deleted, cannot be assigned to a host`);
  const current = str(at(live, 'spec', 'nodeName'));
  if (current) throw conflict(target.def, target.name, `pod ${target.name} is already assigned to node "${current}"`);
  const next = clone(live);
  next.spec = { ...dict(next.spec), nodeName: node };
  const annotations = dict(at(body, 'metadata', 'annotations'));
  if (Object.keys(annotations).length)
    next.metadata.annotations = { ...next.metadata.annotations, ...(annotations as Record<string, string>) };
  const status = dict(next.status);
  const conditions = dicts(status.conditions).filter((item) => item.type !== 'PodScheduled');
  conditions.push({
    type: 'PodScheduled',
    status: 'True',
    lastProbeTime: null,
    lastTransitionTime: nowText(core.clock),
  });
  next.status = { ...status, conditions };
  if (!context.dryRun)
    writing(target.def, target.name, () =>
      core.store.update(target.def.collection, stored(target.def, next), live.metadata.resourceVersion ?? ''),
    );
  return success(201);
}

/** POST pods/x/eviction: a deletion that respects disruption budgets. */
export async function evictPod(core: Core, context: RequestContext, target: Target, body: unknown): Promise<Dict> {
  const pod = liveObject(core, target);
  checkBudgets(core, pod);
  const options = dict(at(body, 'deleteOptions'));
  // kubectl drain --dry-run asks inside the Eviction, not in the query.
  const dryRun = context.dryRun || strings(options.dryRun).includes('All');
  await deleteObject(core, { ...context, dryRun }, target, deleteInput(options));
  return success(201);
}

export function deleteInput(options: Dict): DeleteInput {
  const preconditions = dict(options.preconditions);
  const policy =
    str(options.propagationPolicy) ||
    (options.orphanDependents === true ? 'Orphan' : options.orphanDependents === false ? 'Background' : '');
  return {
    ...(typeof options.gracePeriodSeconds === 'number' ? { gracePeriodSeconds: options.gracePeriodSeconds } : {}),
    ...(policy ? { propagationPolicy: policy } : {}),
    ...(preconditions.uid ? { uid: str(preconditions.uid) } : {}),
    ...(preconditions.resourceVersion ? { resourceVersion: str(preconditions.resourceVersion) } : {}),
  };
}

function isReady(pod: Dict): boolean {
  return dicts(at(pod, 'status', 'conditions')).some((item) => item.type === 'Ready' && item.status === 'True');
}

function checkBudgets(core: Core, pod: ApiObject): void {
  if (!isReady(pod)) return;
  const namespace = pod.metadata.namespace ?? '';
  const pods = core.store.list('/pods', namespace);
  for (const budget of core.store.list('policy/poddisruptionbudgets', namespace)) {
    const spec = dict(budget.spec);
    if (!isDict(spec.selector)) continue;
    const selects = selectorPredicate(spec.selector);
    if (!selects(dict(pod.metadata.labels))) continue;
    const chosen = pods.filter(
      (item) => selects(dict(item.metadata.labels)) && at(item, 'metadata', 'deletionTimestamp') === undefined,
    );
    const healthy = chosen.filter((item) => isReady(item as unknown as Dict)).length;
    const desired =
      spec.minAvailable !== undefined
        ? amount(spec.minAvailable, chosen.length)
        : chosen.length - amount(spec.maxUnavailable ?? 0, chosen.length);
    if (healthy - 1 >= desired) continue;
    throw new ApiError(429, 'TooManyRequests', "Cannot evict pod as it would violate the pod's disruption budget.", {
      causes: [
        {
          reason: 'DisruptionBudget',
          message: `The disruption budget ${budget.metadata.name} needs ${desired} healthy pods and has ${healthy} currently`,
          field: '',
        },
      ],
    });
  }
}

/** A count or a percentage, rounded up. */
function amount(value: unknown, total: number): number {
  if (typeof value === 'string' && value.endsWith('%')) return Math.ceil((Number.parseFloat(value) / 100) * total);
  return num(value);
}
