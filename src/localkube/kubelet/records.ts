// What the kubelet knows of each container of a pod. Kept in a file beside the pod, so that a new kubelet takes over.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Container, EphemeralContainer } from '../../api/kubernetes/container.ts';
import type { Pod, PodSpec } from '../../api/kubernetes/pod.ts';

export type ContainerKind = 'init' | 'sidecar' | 'app' | 'ephemeral';

export interface ExitRecord {
  readonly code: number;
  readonly reason: string;
  readonly message?: string;
  /** Milliseconds since the epoch. */
  readonly finishedAt: number;
}

/** One run of a container. */
export interface Instance {
  readonly id: string;
  readonly attempt: number;
  readonly bundle: string;
  readonly logFile: string;
  readonly messageFile: string;
  /** Milliseconds since the epoch; absent while it is being started. */
  readonly startedAt?: number;
  readonly exit?: ExitRecord;
  /** The postStart hook is through (or there is none). */
  readonly hooked: boolean;
}

export interface ContainerRecord {
  readonly name: string;
  readonly kind: ContainerKind;
  readonly imageId: string;
  readonly current?: Instance;
  readonly previous?: Instance;
  readonly waiting?: { readonly reason: string; readonly message?: string };
  /** The wait before the next start, and when it was set; none before the first crash. */
  readonly backoff?: { readonly ms: number; readonly since: number };
  readonly imageBackoff?: { readonly ms: number; readonly since: number };
  readonly startupPassed: boolean;
  readonly ready: boolean;
}

export interface PodState {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly startTime: number;
  readonly podIp?: string;
  readonly netnsPath?: string;
  readonly sandbox: boolean;
  readonly containers: Readonly<Record<string, ContainerRecord>>;
  /** Ended for good by the kubelet, with what status.reason says. */
  readonly failed?: { readonly reason: string; readonly message: string };
  /** Id of the container that holds the shared process namespace. */
  readonly pauseId?: string;
  /** As first seen: what is left to clean up when the API has forgotten it. */
  readonly pod: Pod;
}

const FILE = 'state.json';

export function saveState(podRun: string, state: PodState): void {
  mkdirSync(podRun, { recursive: true, mode: 0o755 });
  const draft = path.join(podRun, `.${FILE}`);
  writeFileSync(draft, JSON.stringify(state), { mode: 0o600 });
  renameSync(draft, path.join(podRun, FILE));
}

/** Undefined when there is none or it is not whole (written by another version). */
export function loadState(podRun: string): PodState | undefined {
  try {
    const state = JSON.parse(readFileSync(path.join(podRun, FILE), 'utf8')) as PodState;
    return typeof state.uid === 'string' && typeof state.containers === 'object' ? state : undefined;
  } catch {
    return undefined;
  }
}

export function allContainers(
  spec: PodSpec,
): readonly { readonly container: Container | EphemeralContainer; readonly kind: ContainerKind }[] {
  return [
    ...(spec.initContainers ?? []).map((container) => ({
      container,
      kind: container.restartPolicy === 'Always' ? ('sidecar' as const) : ('init' as const),
    })),
    ...spec.containers.map((container) => ({ container, kind: 'app' as const })),
    ...(spec.ephemeralContainers ?? []).map((container) => ({ container, kind: 'ephemeral' as const })),
  ];
}

export function newRecord(name: string, kind: ContainerKind): ContainerRecord {
  return { name, kind, imageId: '', startupPassed: false, ready: false };
}

export function isRunning(record: ContainerRecord | undefined): boolean {
  return record?.current !== undefined && record.current.startedAt !== undefined && record.current.exit === undefined;
}

/** Running, its postStart hook through, and its startup probe (if any) passed. */
export function isStarted(record: ContainerRecord | undefined): boolean {
  return isRunning(record) && record!.current!.hooked && record!.startupPassed;
}
