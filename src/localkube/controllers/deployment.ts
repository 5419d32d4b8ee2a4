// Deployment controller: carries out what deployment-plan.ts decides. Started by start.ts.
import { DEPLOYMENTS, type Deployment } from '../../api/kubernetes/deployment.ts';
import { isPodTerminal, PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { REPLICA_SETS, type ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { KubeError } from '../../base/kube/types.ts';
import { errorText } from '../../base/runtime/log.ts';
import { claimChildren, controllerOf, controllerRef } from './children.ts';
import {
  type Controller,
  type ControllerContext,
  enqueueOwner,
  ignoreNotFound,
  keyOf,
  startController,
} from './context.ts';
import {
  DESIRED,
  findNewSet,
  HASH_LABEL,
  MAX_REPLICAS,
  newSetAnnotations,
  newSetSize,
  planCleanup,
  planRecreate,
  planRolling,
  planScale,
  REVISION,
  rollingLimits,
  type Scale,
  templateHash,
  wasScaled,
} from './deployment-plan.ts';
import { deploymentStatus } from './deployment-status.ts';
import type { EventRecorder } from './events.ts';
import { sameJson, writeStatus } from './pods.ts';
import type { Store } from './store.ts';

interface Parts {
  readonly deployments: Store<Deployment>;
  readonly sets: Store<ReplicaSet>;
  readonly pods: Store<Pod>;
  readonly recorder: EventRecorder;
  readonly now: () => number;
}

interface Pass {
  readonly newSet: ReplicaSet | undefined;
  readonly created: boolean;
  readonly createError?: unknown;
}

export function startDeploymentController(context: ControllerContext): Controller {
  const parts: Parts = {
    deployments: context.store<Deployment>(DEPLOYMENTS),
    sets: context.store<ReplicaSet>(REPLICA_SETS),
    pods: context.store<Pod>(PODS),
    recorder: context.recorder('deployment-controller'),
    now: () => context.clock.now(),
  };
  return startController(context, {
    name: 'deployment',
    async reconcile(namespace, name) {
      const deployment = parts.deployments.get(namespace, name);
      return deployment && reconcileDeployment(parts, deployment);
    },
    watch: (add) => [
      parts.deployments.onChange((change) => add(keyOf(change.object))),
      parts.sets.onChange(enqueueOwner('Deployment', add)),
      // Recreate waits for the last old pod to be gone.
      parts.pods.onChange((change) => {
        if (change.kind === 'added') return;
        const owner = controllerOf(change.object);
        if (owner?.kind !== 'ReplicaSet') return;
        const { namespace } = change.object.metadata;
        const set = parts.sets.get(namespace, owner.name);
        const deployment = set && controllerOf(set);
        if (deployment?.kind !== 'Deployment') return;
        if (parts.deployments.get(namespace, deployment.name)?.spec.strategy?.type === 'Recreate')
          add(`${namespace}/${deployment.name}`);
      }),
    ],
  });
}

async function reconcileDeployment(parts: Parts, deployment: Deployment): Promise<number | undefined> {
  const { namespace, uid = '' } = deployment.metadata;
  const owned = await claimChildren(parts.sets, deployment, deployment.spec.selector);
  const pass =
    deployment.metadata.deletionTimestamp !== undefined
      ? { newSet: findNewSet(deployment, owned), created: false }
      : await roll(parts, deployment, owned);
  const all = parts.sets.ownedBy(namespace, uid);
  const fresh = parts.deployments.get(namespace, deployment.metadata.name) ?? deployment;
  const result = deploymentStatus({
    deployment: fresh,
    newSet: all.find((set) => set.metadata.uid === pass.newSet?.metadata.uid),
    all,
    createdNewSet: pass.created,
    createError: pass.createError === undefined ? undefined : errorText(pass.createError),
    now: parts.now(),
  });
  // The generation whose plan was carried out, not one that arrived meanwhile.
  await writeStatus(parts.deployments, fresh, {
    ...result.status,
    observedGeneration: deployment.metadata.generation,
  });
  if (pass.createError !== undefined) throw pass.createError;
  return result.againMs;
}

async function roll(parts: Parts, deployment: Deployment, owned: readonly ReplicaSet[]): Promise<Pass> {
  let newSet = findNewSet(deployment, owned);
  const old = owned.filter((set) => set !== newSet);
  if (deployment.spec.paused || wasScaled(deployment, owned)) {
    const scales = planScale(deployment, newSet, old);
    await scaleAll(parts, deployment, scales);
    await refreshLimits(parts, deployment, owned, scales);
    if (deployment.spec.paused) return { newSet, created: false };
    newSet = newSet && parts.sets.get(newSet.metadata.namespace, newSet.metadata.name);
  }
  const recreate = deployment.spec.strategy?.type === 'Recreate';
  const current = old.map((set) => parts.sets.get(set.metadata.namespace, set.metadata.name) ?? set);
  if (recreate) {
    const running = hasRunningPods(parts, current);
    const scales = planRecreate(deployment, newSet, current, running);
    await scaleAll(parts, deployment, scales);
    if (!newSet && (running || scales.length > 0)) return { newSet, created: false };
  }
  let created = false;
  if (newSet) newSet = await syncNewSet(parts, deployment, newSet, current);
  else {
    try {
      newSet = await createNewSet(parts, deployment, current);
      created = true;
    } catch (error) {
      if (error instanceof KubeError && error.code === 409) throw error;
      return { newSet: undefined, created: false, createError: error };
    }
  }
  if (!recreate && !created) await scaleAll(parts, deployment, planRolling(deployment, newSet, current));
  await setRevision(parts, deployment, newSet);
  if (isComplete(deployment, newSet, current))
    for (const set of planCleanup(deployment, current)) await ignoreNotFound(parts.sets.delete(set));
  return { newSet, created };
}

function isComplete(deployment: Deployment, newSet: ReplicaSet, old: readonly ReplicaSet[]): boolean {
  const replicas = deployment.spec.replicas ?? 1;
  return (newSet.status?.availableReplicas ?? 0) >= replicas && old.every((set) => (set.status?.replicas ?? 0) === 0);
}

function hasRunningPods(parts: Parts, sets: readonly ReplicaSet[]): boolean {
  return sets.some((set) =>
    parts.pods.ownedBy(set.metadata.namespace, set.metadata.uid ?? '').some((pod) => !isPodTerminal(pod)),
  );
}

async function createNewSet(parts: Parts, deployment: Deployment, old: readonly ReplicaSet[]): Promise<ReplicaSet> {
  const { template, selector, minReadySeconds } = deployment.spec;
  const hash = templateHash(template);
  const labels = { ...template.metadata?.labels, [HASH_LABEL]: hash };
  const limits = rollingLimits(deployment);
  const oldSize = old.reduce((sum, set) => sum + (set.spec.replicas ?? 1), 0);
  const replicas = newSetSize(limits, deployment.spec.strategy?.type ?? 'RollingUpdate', 0, oldSize);
  const set = await parts.sets.create({
    apiVersion: 'apps/v1',
    kind: REPLICA_SETS.kind,
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: deployment.metadata.namespace,
      labels,
      annotations: newSetAnnotations(deployment, undefined, old),
      ownerReferences: [controllerRef(deployment)],
    },
    spec: {
      replicas,
      ...(minReadySeconds ? { minReadySeconds } : {}),
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [HASH_LABEL]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
  });
  if (replicas > 0) recordScale(parts, deployment, { set, replicas }, 0);
  return set;
}

/** Brings annotations and minReadySeconds of the set that is the new one up to date. */
async function syncNewSet(
  parts: Parts,
  deployment: Deployment,
  set: ReplicaSet,
  old: readonly ReplicaSet[],
): Promise<ReplicaSet> {
  const annotations = newSetAnnotations(deployment, set, old);
  const minReadySeconds = deployment.spec.minReadySeconds ?? 0;
  if (sameJson(annotations, set.metadata.annotations ?? {}) && (set.spec.minReadySeconds ?? 0) === minReadySeconds)
    return set;
  return parts.sets.update({
    ...set,
    metadata: { ...set.metadata, annotations },
    spec: { ...set.spec, minReadySeconds },
  });
}

async function scaleAll(parts: Parts, deployment: Deployment, scales: readonly Scale[]): Promise<void> {
  const limits = rollingLimits(deployment);
  for (const scale of scales) {
    const set = parts.sets.get(scale.set.metadata.namespace, scale.set.metadata.name) ?? scale.set;
    const before = set.spec.replicas ?? 1;
    if (before === scale.replicas) continue;
    await parts.sets.update({
      ...set,
      metadata: {
        ...set.metadata,
        annotations: {
          ...set.metadata.annotations,
          [DESIRED]: String(limits.replicas),
          [MAX_REPLICAS]: String(limits.replicas + limits.maxSurge),
        },
      },
      spec: { ...set.spec, replicas: scale.replicas },
    });
    recordScale(parts, deployment, scale, before);
  }
}

/** Sets whose size stays must know the new scale too, or the change would be seen again and again. */
async function refreshLimits(
  parts: Parts,
  deployment: Deployment,
  owned: readonly ReplicaSet[],
  scaled: readonly Scale[],
): Promise<void> {
  const limits = rollingLimits(deployment);
  for (const stale of owned) {
    if (scaled.some((s) => s.set === stale) || (stale.spec.replicas ?? 1) === 0) continue;
    const set = parts.sets.get(stale.metadata.namespace, stale.metadata.name) ?? stale;
    if (set.metadata.annotations?.[DESIRED] === String(limits.replicas)) continue;
    const annotations = {
      ...set.metadata.annotations,
      [DESIRED]: String(limits.replicas),
      [MAX_REPLICAS]: String(limits.replicas + limits.maxSurge),
    };
    await parts.sets.update({ ...set, metadata: { ...set.metadata, annotations } });
  }
}

async function setRevision(parts: Parts, deployment: Deployment, newSet: ReplicaSet): Promise<void> {
  const revision = newSet.metadata.annotations?.[REVISION];
  if (revision === undefined || deployment.metadata.annotations?.[REVISION] === revision) return;
  await parts.deployments.patch(deployment, 'merge', { metadata: { annotations: { [REVISION]: revision } } });
}

function recordScale(parts: Parts, deployment: Deployment, scale: Scale, before: number): void {
  const direction = scale.replicas > before ? 'up' : 'down';
  parts.recorder.record(
    deployment,
    'Normal',
    'ScalingReplicaSet',
    `Scaled ${direction} replica set ${scale.set.metadata.name} from ${before} to ${scale.replicas}`,
  );
}
