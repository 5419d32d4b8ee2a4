// The status of a pod as the API shows it, from what the kubelet knows. Pure.
import type { Condition } from '../../api/kubernetes/condition.ts';
import type { Container } from '../../api/kubernetes/container.ts';
import type { ContainerState, ContainerStatus, Pod, PodPhase, PodStatus } from '../../api/kubernetes/pod.ts';
import { initDone } from './decide.ts';
import { parseQuantity } from './quantity.ts';
import { type ContainerRecord, type Instance, isRunning, isStarted, newRecord, type PodState } from './records.ts';

export interface StatusInput {
  readonly pod: Pod;
  readonly state: PodState;
  readonly hostIp: string;
  readonly now: number;
}

/** RFC 3339 with seconds, as Kubernetes writes times. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

export function containerId(instance: Instance): string {
  return `runc://${instance.id}`;
}

export function podStatus(input: StatusInput): PodStatus {
  const { pod, state, hostIp } = input;
  const phase = podPhase(pod, state);
  const list = (containers: readonly Container[] | undefined, init: boolean): readonly ContainerStatus[] | undefined =>
    containers?.length ? containers.map((c) => containerStatus(c, input, init)) : undefined;
  const status: PodStatus = {
    phase,
    hostIP: hostIp,
    hostIPs: [{ ip: hostIp }],
    startTime: timestamp(state.startTime),
    qosClass: qosClass(pod),
    initContainerStatuses: list(pod.spec.initContainers, true),
    containerStatuses: list(pod.spec.containers, false),
    ephemeralContainerStatuses: list(pod.spec.ephemeralContainers, false),
    ...(state.podIp ? { podIP: state.podIp, podIPs: [{ ip: state.podIp }] } : {}),
    ...(state.failed ?? {}),
  };
  return { ...status, conditions: conditions(input, phase, status) };
}

function podPhase(pod: Pod, state: PodState): PodPhase {
  if (state.failed) return 'Failed';
  const policy = pod.spec.restartPolicy ?? 'Always';
  const records = Object.values(state.containers);
  const failedInit = records.some((r) => r.kind === 'init' && r.current?.exit && r.current.exit.code !== 0);
  if (failedInit && policy === 'Never') return 'Failed';
  if (!initDone(pod, state)) return 'Pending';
  const apps = pod.spec.containers.map((c) => state.containers[c.name]);
  if (apps.some((r) => !r?.current || (r.current.startedAt === undefined && !r.current.exit))) return 'Pending';
  if (apps.some((r) => isRunning(r))) return 'Running';
  // Sidecars end after the application; until then the pod runs.
  if (records.some((r) => r.kind === 'sidecar' && isRunning(r))) return 'Running';
  if (policy === 'Always') return 'Running';
  if (apps.every((r) => r?.current?.exit?.code === 0)) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

function terminated(instance: Instance): ContainerState {
  const { exit, startedAt } = instance;
  return {
    terminated: {
      exitCode: exit!.code,
      reason: exit!.reason,
      ...(exit!.message ? { message: exit!.message } : {}),
      startedAt: timestamp(startedAt ?? exit!.finishedAt),
      finishedAt: timestamp(exit!.finishedAt),
      containerID: containerId(instance),
    },
  };
}

function containerState(record: ContainerRecord, defaultReason: string): ContainerState {
  const { current } = record;
  if (record.waiting && !isRunning(record)) return { waiting: record.waiting };
  if (!current || (current.startedAt === undefined && !current.exit)) return { waiting: { reason: defaultReason } };
  if (current.exit) return terminated(current);
  return { running: { startedAt: timestamp(current.startedAt!) } };
}

function containerStatus(container: Container, { pod, state }: StatusInput, init: boolean): ContainerStatus {
  const record = state.containers[container.name] ?? newRecord(container.name, init ? 'init' : 'app');
  const waitingForInit = (pod.spec.initContainers?.length ?? 0) > 0;
  const current = containerState(record, waitingForInit ? 'PodInitializing' : 'ContainerCreating');
  // While it waits to be started again, the last end is the current instance's.
  const last = current.terminated ? record.previous : record.current?.exit ? record.current : record.previous;
  const started = isStarted(record);
  const shown = record.current ?? record.previous;
  const endedWell = record.kind === 'init' && record.current?.exit?.code === 0;
  return {
    name: container.name,
    state: current,
    lastState: last?.exit ? terminated(last) : {},
    ready: endedWell || (started && record.ready),
    restartCount: record.current?.attempt ?? 0,
    image: container.image ?? '',
    imageID: record.imageId,
    ...(shown ? { containerID: containerId(shown) } : {}),
    started: record.kind === 'ephemeral' ? isRunning(record) : started,
  };
}

function qosClass(pod: Pod): NonNullable<PodStatus['qosClass']> {
  const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  const amount = (value: string | number | undefined): number =>
    value === undefined ? 0 : (parseQuantity(value) ?? 0);
  let any = false;
  let guaranteed = true;
  for (const { resources } of containers) {
    for (const name of ['cpu', 'memory']) {
      const limit = amount(resources?.limits?.[name]);
      const request = amount(resources?.requests?.[name]);
      if (limit > 0 || request > 0) any = true;
      if (limit === 0 || (request !== 0 && request !== limit)) guaranteed = false;
    }
  }
  return !any ? 'BestEffort' : guaranteed ? 'Guaranteed' : 'Burstable';
}

interface Verdict {
  readonly ok: boolean;
  readonly reason?: string;
  readonly message?: string;
}

const OWN_CONDITIONS = new Set([
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
  'PodScheduled',
]);

function conditions({ pod, state, now }: StatusInput, phase: PodPhase, status: PodStatus): readonly Condition[] {
  const before = pod.status?.conditions ?? [];
  const make = (type: string, verdict: Verdict): Condition => {
    const old = before.find((c) => c.type === type);
    const value = verdict.ok ? 'True' : 'False';
    return {
      type,
      status: value,
      lastProbeTime: undefined,
      lastTransitionTime: old?.status === value && old.lastTransitionTime ? old.lastTransitionTime : timestamp(now),
      ...(verdict.reason ? { reason: verdict.reason } : {}),
      ...(verdict.message ? { message: verdict.message } : {}),
    };
  };
  const ready = containersReady(pod, phase, status);
  return [
    make('PodReadyToStartContainers', { ok: state.sandbox && phase !== 'Succeeded' && phase !== 'Failed' }),
    make('Initialized', initialized(pod, state, phase)),
    make('Ready', ready.ok ? gates(pod) : ready),
    make('ContainersReady', ready),
    make('PodScheduled', { ok: true }),
    ...before.filter((c) => !OWN_CONDITIONS.has(c.type)),
  ];
}

function initialized(pod: Pod, state: PodState, phase: PodPhase): Verdict {
  if (initDone(pod, state)) return { ok: true, ...(phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}) };
  const open = (pod.spec.initContainers ?? []).filter((c) => {
    const record = state.containers[c.name];
    return c.restartPolicy === 'Always' ? !isStarted(record) : record?.current?.exit?.code !== 0;
  });
  return {
    ok: false,
    reason: 'ContainersNotInitialized',
    message: `containers with incomplete status: [${open.map((c) => c.name).join(' ')}]`,
  };
}

function containersReady(pod: Pod, phase: PodPhase, status: PodStatus): Verdict {
  if (phase === 'Succeeded') return { ok: false, reason: 'PodCompleted' };
  if (phase === 'Failed') return { ok: false, reason: 'PodFailed' };
  const sidecars = new Set(
    (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always').map((c) => c.name),
  );
  const counted = [
    ...(status.initContainerStatuses ?? []).filter((c) => sidecars.has(c.name)),
    ...(status.containerStatuses ?? []),
  ];
  const unready = counted.filter((c) => !c.ready).map((c) => c.name);
  if (unready.length === 0) return { ok: true };
  return { ok: false, reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` };
}

function gates(pod: Pod): Verdict {
  for (const { conditionType } of pod.spec.readinessGates ?? []) {
    const found = pod.status?.conditions?.find((c) => c.type === conditionType);
    if (found?.status === 'True') continue;
    const message = found
      ? `the status of pod readiness gate "${conditionType}" is not "True", but ${found.status}`
      : `corresponding condition of pod readiness gate "${conditionType}" does not exist.`;
    return { ok: false, reason: 'ReadinessGatesNotReady', message };
  }
  return { ok: true };
}
