// ReplicaSet controller: keeps the wanted number of pods of one template. Started by start.ts.
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { REPLICA_SETS, type ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { hasLabels } from '../../base/kube/selectors.ts';
import { errorText } from '../../base/runtime/log.ts';
import { claimChildren, timestamp } from './children.ts';
import { removeCondition, setCondition } from './conditions.ts';
import { type Controller, type ControllerContext, enqueueOwner, keyOf, startController } from './context.ts';
import {
  byDeletionOrder,
  countPods,
  createPodControl,
  isPodActive,
  podFromTemplate,
  slowStart,
  writeStatus,
} from './pods.ts';

/** No more than this many pods are made or removed in one pass. */
const BURST = 500;

export interface ReplicaSetPlan {
  readonly create: number;
  readonly remove: readonly Pod[];
}

/** How many pods are missing, or which are too many. Pure. */
export function planReplicaSet(set: ReplicaSet, pods: readonly Pod[]): ReplicaSetPlan {
  const active = pods.filter(isPodActive);
  const missing = (set.spec.replicas ?? 1) - active.length;
  if (missing > 0) return { create: Math.min(missing, BURST), remove: [] };
  return { create: 0, remove: active.toSorted(byDeletionOrder).slice(0, Math.min(-missing, BURST)) };
}

/** The status that `pods` give; `failure` is why the last pass could not create or delete. Pure. */
export function replicaSetStatus(
  set: ReplicaSet,
  pods: readonly Pod[],
  now: number,
  failure: string | undefined,
): { readonly status: NonNullable<ReplicaSet['status']>; readonly againMs?: number } {
  const active = pods.filter(isPodActive);
  const counts = countPods(active, set.spec.minReadySeconds ?? 0, now);
  const labels = set.spec.template.metadata?.labels ?? {};
  const conditions =
    failure === undefined
      ? removeCondition(set.status?.conditions, 'ReplicaFailure')
      : setCondition(
          set.status?.conditions,
          { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: failure },
          timestamp(now),
        );
  return {
    status: {
      replicas: active.length,
      fullyLabeledReplicas: active.filter((p) => hasLabels(labels, p.metadata.labels)).length,
      readyReplicas: counts.ready,
      availableReplicas: counts.available,
      observedGeneration: set.metadata.generation,
      ...(conditions.length > 0 ? { conditions } : {}),
    },
    againMs: counts.nextAvailableMs,
  };
}

export function startReplicaSetController(context: ControllerContext): Controller {
  const sets = context.store<ReplicaSet>(REPLICA_SETS);
  const pods = context.store<Pod>(PODS);
  const control = createPodControl(pods, context.recorder('replicaset-controller'));

  const bringTo = async (set: ReplicaSet, plan: ReplicaSetPlan): Promise<void> => {
    const jobs = Array.from({ length: plan.create }, () => () => {
      const pod = podFromTemplate(set, set.spec.template, { random: context.random });
      return control.create(set, pod);
    });
    await slowStart(jobs);
    await Promise.all(plan.remove.map((pod) => control.delete(set, pod)));
  };

  return startController(context, {
    name: 'replicaset',
    async reconcile(namespace, name) {
      const set = sets.get(namespace, name);
      if (!set) return undefined;
      let mine = await claimChildren(pods, set, set.spec.selector);
      let failure: { readonly error: unknown } | undefined;
      if (set.metadata.deletionTimestamp === undefined) {
        try {
          await bringTo(set, planReplicaSet(set, mine));
        } catch (error) {
          failure = { error };
        }
        mine = pods.ownedBy(namespace, set.metadata.uid ?? '');
      }
      const fresh = sets.get(namespace, name) ?? set;
      const next = replicaSetStatus(fresh, mine, context.clock.now(), failure && errorText(failure.error));
      await writeStatus(sets, fresh, next.status);
      if (failure) throw failure.error;
      return next.againMs;
    },
    watch: (add) => [
      sets.onChange((change) => add(keyOf(change.object))),
      pods.onChange(enqueueOwner('ReplicaSet', add)),
      pods.onChange((change) => {
        // An orphan may be somebody's: every set of its namespace looks.
        if (change.kind === 'deleted' || change.object.metadata.ownerReferences?.some((r) => r.controller)) return;
        for (const set of sets.list(change.object.metadata.namespace)) add(keyOf(set));
      }),
    ],
  });
}
