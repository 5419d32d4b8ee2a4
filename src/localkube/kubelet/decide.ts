// What to do next with a pod's containers: order of init containers, sidecars and application containers, and restarts. Pure.
import type { Pod } from '../../api/kubernetes/pod.ts';
import { type ContainerRecord, isRunning, isStarted, type PodState } from './records.ts';

export type Decision =
  /** Start these, one after the other. */
  | { readonly kind: 'start'; readonly names: readonly string[]; readonly waits: readonly Wait[] }
  /** All application containers have ended for good: stop the sidecars. */
  | { readonly kind: 'finish' }
  /** An init container failed and nothing is tried again. */
  | { readonly kind: 'fail' }
  | { readonly kind: 'idle'; readonly waits: readonly Wait[] };

/** A container that crashed waits until `until` (milliseconds since the epoch). */
export interface Wait {
  readonly name: string;
  readonly ms: number;
  readonly until: number;
}

const FIRST_BACKOFF_MS = 10_000;
const MAX_BACKOFF_MS = 300_000;
/** A container that ran this long starts over with the shortest wait. */
const BACKOFF_RESET_MS = 600_000;

/** What to remember when a container is started again at `now`: the next crash waits that long. */
export function nextBackoff(
  previous: ContainerRecord['backoff'],
  now: number,
): { readonly ms: number; readonly since: number } {
  if (!previous || now - previous.since > BACKOFF_RESET_MS) return { ms: FIRST_BACKOFF_MS, since: now };
  return { ms: Math.min(previous.ms * 2, MAX_BACKOFF_MS), since: now };
}

type Wanted = 'now' | 'never' | Wait;

function restart(record: ContainerRecord, now: number): Wanted {
  const { backoff, current } = record;
  // The first restart is immediate: nothing is remembered yet.
  if (!backoff || !current?.exit || now - backoff.since > BACKOFF_RESET_MS) return 'now';
  const until = current.exit.finishedAt + backoff.ms;
  return until <= now ? 'now' : { name: record.name, ms: backoff.ms, until };
}

function wantsRestart(record: ContainerRecord, policy: string): boolean {
  if (record.kind === 'sidecar') return true;
  return policy === 'Always' || (policy === 'OnFailure' && record.current?.exit?.code !== 0);
}

export function decide(pod: Pod, state: PodState, now: number): Decision {
  const policy = pod.spec.restartPolicy ?? 'Always';
  const at = (name: string): ContainerRecord | undefined => state.containers[name];
  const apps = pod.spec.containers.map((c) => ({ name: c.name, record: at(c.name) }));
  const begun = apps.some(({ record }) => record?.current !== undefined);
  const over = apps.every(({ record }) => record?.current?.exit && !wantsRestart(record, policy));
  if (over) return { kind: 'finish' };
  const start: string[] = [];
  const waits: Wait[] = [];
  const take = (name: string, wanted: Wanted): void => {
    if (wanted === 'now') start.push(name);
    else if (wanted !== 'never') waits.push(wanted);
  };
  for (const container of pod.spec.initContainers ?? []) {
    const record = at(container.name);
    const sidecar = container.restartPolicy === 'Always';
    if (begun && !sidecar) continue;
    if (!record?.current) {
      // An image that cannot be had is tried again by the worker's own wait.
      start.push(container.name);
      if (!begun) return { kind: 'start', names: start, waits };
      continue;
    }
    if (isRunning(record) || !record.current.exit) {
      if (sidecar && (begun || isStarted(record))) continue;
      break;
    }
    if (!sidecar && record.current.exit.code === 0) continue;
    if (!sidecar && policy === 'Never') return { kind: 'fail' };
    take(container.name, restart(record, now));
    if (!begun) return start.length > 0 ? { kind: 'start', names: start, waits } : { kind: 'idle', waits };
  }
  if (begun || initDone(pod, state)) {
    for (const { name, record } of apps) {
      if (!record?.current) start.push(name);
      else if (record.current.exit && wantsRestart(record, policy)) take(name, restart(record, now));
    }
  }
  for (const container of pod.spec.ephemeralContainers ?? [])
    if (!at(container.name)?.current) start.push(container.name);
  return start.length > 0 ? { kind: 'start', names: start, waits } : { kind: 'idle', waits };
}

/** Every init container has ended well, and every sidecar has started. */
export function initDone(pod: Pod, state: PodState): boolean {
  if (pod.spec.containers.some((c) => state.containers[c.name]?.current)) return true;
  return (pod.spec.initContainers ?? []).every((container) => {
    const record = state.containers[container.name];
    return container.restartPolicy === 'Always' ? isStarted(record) : record?.current?.exit?.code === 0;
  });
}
