// The status of a Deployment, with the conditions that `kubectl rollout status` and `kubectl wait` read. Pure.
import type { Condition } from '../../api/kubernetes/condition.ts';
import type { Deployment, DeploymentStatus } from '../../api/kubernetes/deployment.ts';
import type { ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { timestamp } from './children.ts';
import { findCondition, removeCondition, setCondition } from './conditions.ts';
import { rollingLimits } from './deployment-plan.ts';

const DEFAULT_DEADLINE_SECONDS = 600;
/** What `kubectl` takes for "no deadline". */
const NO_DEADLINE = 2_147_483_647;
const DONE = 'NewReplicaSetAvailable';
const TIMED_OUT = 'ProgressDeadlineExceeded';

export interface Observed {
  readonly deployment: Deployment;
  readonly newSet: ReplicaSet | undefined;
  readonly all: readonly ReplicaSet[];
  /** The new set was made in this very pass. */
  readonly createdNewSet: boolean;
  /** Why the new set could not be made. */
  readonly createError?: string;
  readonly now: number;
}

export interface StatusResult {
  readonly status: DeploymentStatus;
  /** Milliseconds until the progress deadline is to be looked at. */
  readonly againMs?: number;
}

const sum = (sets: readonly ReplicaSet[], read: (set: ReplicaSet) => number | undefined): number =>
  sets.reduce((n, set) => n + (read(set) ?? 0), 0);

export function deploymentStatus(observed: Observed): StatusResult {
  const { deployment, newSet, all, now } = observed;
  const wanted = sum(all, (s) => s.spec.replicas ?? 1);
  const available = sum(all, (s) => s.status?.availableReplicas);
  const counts = {
    observedGeneration: deployment.metadata.generation,
    replicas: sum(all, (s) => s.status?.replicas),
    updatedReplicas: newSet?.status?.replicas ?? 0,
    readyReplicas: sum(all, (s) => s.status?.readyReplicas),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, wanted - available),
  };
  const limits = rollingLimits(deployment);
  const enough = available >= limits.replicas - limits.maxUnavailable;
  let conditions = setCondition(
    deployment.status?.conditions,
    enough
      ? {
          type: 'Available',
          status: 'True',
          reason: 'MinimumReplicasAvailable',
          message: 'Deployment has minimum availability.',
        }
      : {
          type: 'Available',
          status: 'False',
          reason: 'MinimumReplicasUnavailable',
          message: 'Deployment does not have minimum availability.',
        },
    timestamp(now),
    { updateTime: true },
  );
  const progress = progressCondition(observed, counts);
  if (progress.condition)
    conditions = setCondition(conditions, progress.condition, timestamp(now), { updateTime: true });
  if (progress.touched)
    conditions = conditions.map((c) => (c.type === 'Progressing' ? { ...c, lastUpdateTime: timestamp(now) } : c));
  conditions = replicaFailure(conditions, observed);
  return { status: { ...counts, conditions }, againMs: progress.againMs };
}

function replicaFailure(conditions: readonly Condition[], observed: Observed): readonly Condition[] {
  const failing = observed.all
    .map((set) => findCondition(set.status?.conditions, 'ReplicaFailure'))
    .find((c) => c?.status === 'True');
  const message = observed.createError ?? failing?.message;
  if (message === undefined) return removeCondition(conditions, 'ReplicaFailure');
  return setCondition(
    conditions,
    { type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message },
    timestamp(observed.now),
    { updateTime: true },
  );
}

interface Progress {
  readonly condition?: Condition;
  /** Something moved: the deadline starts anew. */
  readonly touched?: boolean;
  readonly againMs?: number;
}

type Counts = Required<Pick<DeploymentStatus, 'replicas' | 'updatedReplicas' | 'readyReplicas' | 'availableReplicas'>>;

function progressCondition(observed: Observed, counts: Counts): Progress {
  const { deployment, newSet, createdNewSet, now } = observed;
  const known = findCondition(deployment.status?.conditions, 'Progressing');
  const make = (status: 'True' | 'False' | 'Unknown', reason: string, message: string): Condition => ({
    type: 'Progressing',
    status,
    reason,
    message,
  });
  if (deployment.spec.paused)
    return known?.reason === TIMED_OUT
      ? {}
      : { condition: make('Unknown', 'DeploymentPaused', 'Deployment is paused') };
  if (known?.reason === 'DeploymentPaused')
    return { condition: make('Unknown', 'DeploymentResumed', 'Deployment is resumed'), againMs: 0 };
  if (observed.createError !== undefined)
    return {
      condition: make('False', 'ReplicaSetCreateError', `Failed to create new replica set: ${observed.createError}`),
    };
  if (!newSet) return {};
  const name = newSet.metadata.name;
  const replicas = deployment.spec.replicas ?? 1;
  const complete =
    counts.updatedReplicas === replicas && counts.replicas === replicas && counts.availableReplicas === replicas;
  if (complete) return { condition: make('True', DONE, `ReplicaSet "${name}" has successfully progressed.`) };
  if (createdNewSet) return { condition: make('True', 'NewReplicaSetCreated', `Created new replica set "${name}"`) };
  const before = deployment.status;
  const moved =
    counts.updatedReplicas > (before?.updatedReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < (before?.replicas ?? 0) - (before?.updatedReplicas ?? 0) ||
    counts.readyReplicas > (before?.readyReplicas ?? 0) ||
    counts.availableReplicas > (before?.availableReplicas ?? 0);
  const deadline = deployment.spec.progressDeadlineSeconds ?? DEFAULT_DEADLINE_SECONDS;
  const progressing = make('True', 'ReplicaSetUpdated', `ReplicaSet "${name}" is progressing.`);
  if (moved || !known) return { condition: progressing, touched: true, ...later(deadline, now, now) };
  // A finished rollout that lost a pod later is not a new rollout: its deadline does not run.
  if (known.reason === DONE && deployment.status?.observedGeneration === deployment.metadata.generation) return {};
  const since = Date.parse(known.lastUpdateTime ?? '') || now;
  if (known.reason === DONE) return { condition: progressing, touched: true, ...later(deadline, now, now) };
  if (known.reason === TIMED_OUT) return {};
  if (deadline < NO_DEADLINE && now >= since + deadline * 1000)
    return { condition: make('False', TIMED_OUT, `ReplicaSet "${name}" has timed out progressing.`) };
  return later(deadline, since, now);
}

function later(deadlineSeconds: number, since: number, now: number): { readonly againMs?: number } {
  return deadlineSeconds >= NO_DEADLINE ? {} : { againMs: since + deadlineSeconds * 1000 - now + 1_000 };
}
