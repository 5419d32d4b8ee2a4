// What the workload controllers share about pods: making them from a template, counting them, choosing which goes first.
import { isPodReady, isPodTerminal, PODS, type Pod, type PodTemplateSpec } from '../../api/kubernetes/pod.ts';
import type { KubeObject } from '../../base/kube/types.ts';
import { errorText } from '../../base/runtime/log.ts';
import { controllerRef, randomSuffix } from './children.ts';
import { ignoreNotFound } from './context.ts';
import type { EventRecorder } from './events.ts';
import type { Store } from './store.ts';

const MAX_NAME_BASE = 58;
const MAX_BATCH = 64;

/** A pod of `template`, controlled by `owner`; `name` absent: owner's name and a random tail. */
export function podFromTemplate(
  owner: KubeObject,
  template: PodTemplateSpec,
  options: {
    readonly random: () => number;
    readonly name?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly spec?: Partial<Pod['spec']>;
  },
): Pod {
  const base = `${owner.metadata.name}-`.slice(0, MAX_NAME_BASE);
  const annotations = { ...template.metadata?.annotations, ...options.annotations };
  return {
    apiVersion: PODS.version,
    kind: PODS.kind,
    metadata: {
      name: options.name ?? base + randomSuffix(options.random),
      ...(options.name === undefined ? { generateName: base } : {}),
      namespace: owner.metadata.namespace,
      labels: { ...template.metadata?.labels, ...options.labels },
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ...(template.metadata?.finalizers ? { finalizers: template.metadata.finalizers } : {}),
      ownerReferences: [controllerRef(owner)],
    },
    spec: { ...template.spec, ...options.spec },
  };
}

/** Neither finished nor on its way out. */
export function isPodActive(pod: Pod): boolean {
  return !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;
}

/** Milliseconds until the ready pod has been ready for `minReadySeconds`: 0 = available, undefined = not ready. */
export function availableIn(pod: Pod, minReadySeconds: number, now: number): number | undefined {
  if (!isPodReady(pod)) return undefined;
  if (minReadySeconds === 0) return 0;
  const since = pod.status?.conditions?.find((c) => c.type === 'Ready')?.lastTransitionTime;
  if (!since) return undefined;
  return Math.max(0, Date.parse(since) + minReadySeconds * 1000 - now);
}

export interface PodCounts {
  readonly ready: number;
  readonly available: number;
  /** When the next ready pod becomes available. */
  readonly nextAvailableMs?: number;
}

export function countPods(pods: readonly Pod[], minReadySeconds: number, now: number): PodCounts {
  let ready = 0;
  let available = 0;
  let next: number | undefined;
  for (const pod of pods) {
    const wait = availableIn(pod, minReadySeconds, now);
    if (wait === undefined) continue;
    ready += 1;
    if (wait === 0) available += 1;
    else next = Math.min(next ?? wait, wait);
  }
  return { ready, available, nextAvailableMs: next };
}

const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';

/** Sorted so that the pods a smaller set can best do without come first. */
export function byDeletionOrder(a: Pod, b: Pod): number {
  return (
    Number(a.spec.nodeName !== undefined) - Number(b.spec.nodeName !== undefined) ||
    phaseRank(a) - phaseRank(b) ||
    Number(isPodReady(a)) - Number(isPodReady(b)) ||
    deletionCost(a) - deletionCost(b) ||
    restarts(b) - restarts(a) ||
    created(b) - created(a)
  );
}

const phaseRank = (pod: Pod): number => (pod.status?.phase === 'Running' ? 2 : pod.status?.phase === 'Unknown' ? 1 : 0);
const deletionCost = (pod: Pod): number => Number(pod.metadata.annotations?.[DELETION_COST] ?? 0) || 0;
const restarts = (pod: Pod): number =>
  Math.max(0, ...(pod.status?.containerStatuses ?? []).map((status) => status.restartCount));
export const created = (object: KubeObject): number => Date.parse(object.metadata.creationTimestamp ?? '') || 0;

/**
 * Runs `jobs` in batches of 1, 2, 4 …, so that a template nobody admits costs one refusal and not hundreds.
 * Rejects with the first error of the batch that failed.
 */
export async function slowStart(jobs: readonly (() => Promise<void>)[]): Promise<void> {
  let size = 1;
  for (let done = 0; done < jobs.length; ) {
    const batch = jobs.slice(done, done + size);
    const results = await Promise.allSettled(batch.map((job) => job()));
    const failed = results.find((r) => r.status === 'rejected');
    if (failed) throw failed.reason;
    done += batch.length;
    size = Math.min(size * 2, MAX_BATCH);
  }
}

export interface PodControl {
  create(owner: KubeObject, pod: Pod): Promise<void>;
  delete(owner: KubeObject, pod: Pod): Promise<void>;
}

/** Creates and deletes pods and tells the owner's events about it. */
export function createPodControl(pods: Store<Pod>, recorder: EventRecorder): PodControl {
  return {
    async create(owner, pod) {
      try {
        const made = await pods.create(pod);
        recorder.record(owner, 'Normal', 'SuccessfulCreate', `Created pod: ${made.metadata.name}`);
      } catch (error) {
        recorder.record(owner, 'Warning', 'FailedCreate', `Error creating: ${errorText(error)}`);
        throw error;
      }
    },
    async delete(owner, pod) {
      try {
        await ignoreNotFound(pods.delete(pod));
        recorder.record(owner, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
      } catch (error) {
        recorder.record(owner, 'Warning', 'FailedDelete', `Error deleting: ${errorText(error)}`);
        throw error;
      }
    },
  };
}

/** Writes `status` when it differs from what is stored; a conflict is the queue's to retry. */
export async function writeStatus<T extends KubeObject & { readonly status?: object }>(
  store: Store<T>,
  object: T,
  status: NonNullable<T['status']>,
): Promise<void> {
  if (sameJson(object.status ?? {}, status)) return;
  await ignoreNotFound(store.update({ ...object, status }, 'status'));
}

export function sameJson(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a == null && b == null;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const left = a as Readonly<Record<string, unknown>>;
  const right = b as Readonly<Record<string, unknown>>;
  for (const key of new Set([...Object.keys(left), ...Object.keys(right)]))
    if (!sameJson(left[key], right[key])) return false;
  return true;
}

/** `25%` of `total`, or the number itself. Anything else counts as `otherwise`. */
export function intOrPercent(
  value: number | string | undefined,
  total: number,
  round: 'up' | 'down',
  otherwise: number | string,
): number {
  const text = value ?? otherwise;
  if (typeof text === 'number') return text;
  const percent = /^(\d+)%$/.exec(text);
  if (percent)
    return round === 'up'
      ? Math.ceil((Number(percent[1]) * total) / 100)
      : Math.floor((Number(percent[1]) * total) / 100);
  return /^\d+$/.test(text) ? Number(text) : intOrPercent(otherwise, total, round, 0);
}
