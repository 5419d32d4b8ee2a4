// The decisions of the Job controller as pure functions of the job, its pods and the time. Called by job.ts.
import type { Condition } from '../../api/kubernetes/condition.ts';
import type { Job, JobStatus } from '../../api/kubernetes/job.ts';
import { isPodReady, type Pod } from '../../api/kubernetes/pod.ts';
import { timestamp } from './children.ts';
import { findCondition, setCondition } from './conditions.ts';
import { isPodActive } from './pods.ts';

export const INDEX_ANNOTATION = 'batch.kubernetes.io/job-completion-index';
const DEFAULT_BACKOFF_LIMIT = 6;
const RETRY_BASE_MS = 10_000;
const RETRY_MAX_MS = 360_000;

/** Fields that change what a job means and are not carried out here. */
const UNSUPPORTED = [
  'podFailurePolicy',
  'successPolicy',
  'backoffLimitPerIndex',
  'maxFailedIndexes',
  'managedBy',
] as const;

export interface JobInput {
  readonly job: Job;
  readonly pods: readonly Pod[];
  readonly now: number;
}

export interface JobPlan {
  /** Completion index of each pod to make; undefined when the job is not indexed. */
  readonly create: readonly (number | undefined)[];
  readonly remove: readonly Pod[];
  readonly status: JobStatus;
  /** The job ended in this pass. */
  readonly ended?: Condition;
  readonly againMs?: number;
}

export function unsupportedField(job: Job): string | undefined {
  const spec = job.spec as unknown as Readonly<Record<string, unknown>>;
  return UNSUPPORTED.find((field) => spec[field] !== undefined && spec[field] !== null);
}

export function isFinished(job: Job): boolean {
  return (job.status?.conditions ?? []).some(
    (c) => (c.type === 'Complete' || c.type === 'Failed') && c.status === 'True',
  );
}

export const indexOf = (pod: Pod): number | undefined => {
  const text = pod.metadata.annotations?.[INDEX_ANNOTATION];
  return text === undefined ? undefined : Number(text);
};

/** `0-2,5`: sorted, runs joined. */
export function formatIndexes(indexes: readonly number[]): string {
  const sorted = [...new Set(indexes)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === sorted[end]! + 1) end += 1;
    parts.push(end === i ? `${sorted[i]}` : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return parts.join(',');
}

export function parseIndexes(text: string | undefined): readonly number[] {
  const out: number[] = [];
  for (const part of (text ?? '').split(',')) {
    const m = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (m) for (let i = Number(m[1]); i <= Number(m[2] ?? m[1]); i++) out.push(i);
  }
  return out;
}

interface Tally {
  readonly active: readonly Pod[];
  readonly succeeded: number;
  readonly failed: number;
  readonly completed: readonly number[];
  /** Restarts of containers count as failures when the pod restarts them itself. */
  readonly tries: number;
  readonly lastFailure: number;
}

function tally({ job, pods }: JobInput): Tally {
  const active = pods.filter(isPodActive);
  const good = pods.filter((p) => p.status?.phase === 'Succeeded');
  const bad = pods.filter((p) => p.status?.phase === 'Failed');
  const restarts = pods.reduce(
    (n, p) => n + (p.status?.containerStatuses ?? []).reduce((m, c) => m + c.restartCount, 0),
    0,
  );
  const completed = [
    ...new Set([...parseIndexes(job.status?.completedIndexes), ...good.map(indexOf).filter((i) => i !== undefined)]),
  ];
  const indexed = job.spec.completionMode === 'Indexed';
  const failed = Math.max(job.status?.failed ?? 0, bad.length);
  return {
    active,
    succeeded: indexed ? completed.length : Math.max(job.status?.succeeded ?? 0, good.length),
    failed,
    completed,
    tries: job.spec.template.spec.restartPolicy === 'OnFailure' ? failed + restarts : failed,
    lastFailure: Math.max(0, ...bad.map(finishedAt)),
  };
}

function finishedAt(pod: Pod): number {
  const ends = (pod.status?.containerStatuses ?? []).map((c) => Date.parse(c.state?.terminated?.finishedAt ?? '') || 0);
  return Math.max(0, ...ends);
}

/** What the job needs now, and the status to show for it. */
export function planJob(input: JobInput): JobPlan {
  const { job, now } = input;
  const count = tally(input);
  const startTime = job.spec.suspend ? undefined : (job.status?.startTime ?? timestamp(now));
  const status = (extra: Partial<JobStatus>): JobStatus => ({
    ...(startTime ? { startTime } : {}),
    ...(job.status?.conditions ? { conditions: job.status.conditions } : {}),
    active: count.active.length,
    ready: count.active.filter(isPodReady).length,
    terminating: input.pods.filter((p) => p.metadata.deletionTimestamp !== undefined).length,
    succeeded: count.succeeded,
    failed: count.failed,
    ...(job.spec.completionMode === 'Indexed' ? { completedIndexes: formatIndexes(count.completed) } : {}),
    ...extra,
  });
  if (isFinished(job))
    return {
      create: [],
      remove: count.active,
      status: status({ startTime: job.status?.startTime, completionTime: job.status?.completionTime }),
      againMs: ttl(job, now),
    };
  const end = verdict(job, count, startTime, now);
  if (end) {
    const conditions = setCondition(job.status?.conditions, end, timestamp(now));
    const completionTime = end.type === 'Complete' ? timestamp(now) : undefined;
    const kept = end.type === 'Complete' && job.spec.completions === undefined ? [] : count.active;
    const done = status({ conditions, active: 0, ready: 0, ...(completionTime ? { completionTime } : {}) });
    return { create: [], remove: kept, status: done, ended: end, againMs: ttl({ ...job, status: done }, now) };
  }
  return running(input, count, status, startTime);
}

function running(
  { job, now }: JobInput,
  count: Tally,
  status: (extra: Partial<JobStatus>) => JobStatus,
  startTime: string | undefined,
): JobPlan {
  const suspended = findCondition(job.status?.conditions, 'Suspended')?.status === 'True';
  if (job.spec.suspend || suspended) {
    const conditions = setCondition(
      job.status?.conditions,
      job.spec.suspend
        ? { type: 'Suspended', status: 'True', reason: 'JobSuspended', message: 'Job suspended' }
        : { type: 'Suspended', status: 'False', reason: 'JobResumed', message: 'Job resumed' },
      timestamp(now),
    );
    if (job.spec.suspend) return { create: [], remove: count.active, status: status({ conditions, active: 0 }) };
    // The time it stood still does not count against the deadline.
    return { create: [], remove: [], status: status({ conditions, startTime: timestamp(now) }), againMs: 0 };
  }
  const deadline = job.spec.activeDeadlineSeconds;
  const toDeadline =
    deadline === undefined ? undefined : Math.max(0, Date.parse(startTime ?? '') + deadline * 1000 - now) + 1;
  const wanted = wantedActive(job, count);
  if (count.active.length > wanted)
    return { create: [], remove: count.active.slice(wanted), status: status({}), againMs: toDeadline };
  const wait =
    count.failed === 0 ? 0 : count.lastFailure + Math.min(RETRY_BASE_MS * 2 ** (count.failed - 1), RETRY_MAX_MS) - now;
  const missing = wanted - count.active.length;
  if (missing > 0 && wait > 0)
    return { create: [], remove: [], status: status({}), againMs: Math.min(wait, toDeadline ?? wait) };
  return { create: nextIndexes(job, count, missing), remove: [], status: status({}), againMs: toDeadline };
}

function wantedActive(job: Job, count: Tally): number {
  const parallelism = job.spec.parallelism ?? 1;
  const completions = job.spec.completions;
  // A work queue: once one pod succeeded, no new ones are started.
  if (completions === undefined) return count.succeeded > 0 ? count.active.length : parallelism;
  return Math.min(parallelism, Math.max(0, completions - count.succeeded));
}

function nextIndexes(job: Job, count: Tally, missing: number): readonly (number | undefined)[] {
  if (job.spec.completionMode !== 'Indexed') return Array.from({ length: missing }, () => undefined);
  const taken = new Set([...count.completed, ...count.active.map(indexOf)]);
  const out: number[] = [];
  for (let i = 0; i < (job.spec.completions ?? 0) && out.length < missing; i++) if (!taken.has(i)) out.push(i);
  return out;
}

function verdict(job: Job, count: Tally, startTime: string | undefined, now: number): Condition | undefined {
  const completions = job.spec.completions;
  const complete =
    completions === undefined ? count.succeeded > 0 && count.active.length === 0 : count.succeeded >= completions;
  if (complete)
    return {
      type: 'Complete',
      status: 'True',
      reason: 'CompletionsReached',
      message: 'Reached expected number of succeeded pods',
    };
  if (count.tries > (job.spec.backoffLimit ?? DEFAULT_BACKOFF_LIMIT))
    return {
      type: 'Failed',
      status: 'True',
      reason: 'BackoffLimitExceeded',
      message: 'Job has reached the specified backoff limit',
    };
  const deadline = job.spec.activeDeadlineSeconds;
  if (deadline !== undefined && startTime !== undefined && now >= Date.parse(startTime) + deadline * 1000)
    return {
      type: 'Failed',
      status: 'True',
      reason: 'DeadlineExceeded',
      message: 'Job was active longer than specified deadline',
    };
  return undefined;
}

/** Milliseconds until a finished job is to be deleted; undefined = never. */
export function ttl(job: Job, now: number): number | undefined {
  const seconds = job.spec.ttlSecondsAfterFinished;
  if (seconds === undefined || !isFinished(job)) return undefined;
  const failed = findCondition(job.status?.conditions, 'Failed')?.lastTransitionTime;
  const end = Date.parse(job.status?.completionTime ?? failed ?? '');
  return Number.isNaN(end) ? undefined : Math.max(0, end + seconds * 1000 - now);
}
