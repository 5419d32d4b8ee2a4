// Starts one container of a pod and follows it: image, launch, postStart, probes, its end. Used by the pod worker.
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Container, EphemeralContainer, Probe } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { errorText } from '../../base/runtime/log.ts';
import { resolveImage } from '../images/resolve.ts';
import { DEFAULT_MESSAGE_PATH, launchInput, terminationMessage } from './container-start.ts';
import { nextBackoff } from './decide.ts';
import { runHook } from './hooks.ts';
import type { PodContext } from './pod-context.ts';
import type { Killer } from './pod-killer.ts';
import type { PodSetup } from './pod-setup.ts';
import type { PodStore } from './pod-store.ts';
import { runProbe } from './probe-run.ts';
import { type ProbeKind, type Prober, startProber } from './prober.ts';
import { type ContainerKind, type ExitRecord, type Instance, isRunning } from './records.ts';
import type { ContainerExit } from './runtime.ts';

export interface ContainerRunner {
  /** Starts it unless its image or configuration forbids; returns after the postStart hook. `retryAt`: try again then. */
  start(container: Container, kind: ContainerKind, signal: AbortSignal): Promise<{ readonly retryAt?: number }>;
  /** A container has ended: record why. */
  ended(instanceId: string, exit: ContainerExit): void;
  /** Takes over a container that an earlier kubelet started. */
  adopt(container: Container, kind: ContainerKind): Promise<void>;
  stopProbes(): void;
}

export interface RunnerParts {
  readonly context: PodContext;
  readonly pod: () => Pod;
  readonly store: PodStore;
  readonly setup: PodSetup;
  readonly killer: Killer;
  readonly poke: () => void;
}

const CONFIG_RETRY_MS = 5000;
const FIRST_IMAGE_BACKOFF_MS = 10_000;
const MAX_IMAGE_BACKOFF_MS = 300_000;
const DEFAULT_GRACE_S = 30;
const PROBE_NAMES: Readonly<Record<ProbeKind, string>> = {
  startup: 'Startup',
  readiness: 'Readiness',
  liveness: 'Liveness',
};

export function createContainerRunner(parts: RunnerParts): ContainerRunner {
  const { context, store, setup, killer, poke } = parts;
  const { events, clock, runtime } = context;
  const probers = new Map<string, Prober>();
  const uid = parts.pod().metadata.uid!;
  const target = (container: Container, containerId: string) => ({
    podIp: setup.facts().podIp,
    containerId,
    container,
  });
  const event = (type: 'Normal' | 'Warning', reason: string, message: string, container: string): void =>
    events.record(parts.pod(), type, reason, message, container);

  const restartFor = (container: Container, instanceId: string, message: string, probe?: Probe): void => {
    const pod = parts.pod();
    const grace = probe?.terminationGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S;
    const deadline = clock.now() + grace * 1000;
    void killer.kill({ pod, container, instanceId, podIp: setup.facts().podIp, deadline: () => deadline, message });
  };

  const probe = (container: Container, kind: ContainerKind, instance: Instance): void => {
    if (kind === 'init' || kind === 'ephemeral') return;
    const record = store.container(container.name, kind);
    const current = (): boolean => store.find(instance.id) !== undefined && isRunning(store.find(instance.id));
    const prober = startProber({
      container,
      clock,
      startedAt: instance.startedAt ?? clock.now(),
      startupPassed: record.startupPassed,
      ready: record.ready,
      run: (wanted, timeoutMs) => runProbe(wanted, target(container, instance.id), timeoutMs, context),
      listener: {
        onStarted() {
          if (!current()) return;
          store.set(container.name, { startupPassed: true });
          poke();
        },
        onReady(ready) {
          if (current()) store.set(container.name, { ready });
        },
        onFailure(which, message) {
          if (current())
            event('Warning', 'Unhealthy', `${PROBE_NAMES[which]} probe failed: ${message}`, container.name);
        },
        onUnhealthy(which) {
          if (!current()) return;
          const of = which === 'startup' ? container.startupProbe : container.livenessProbe;
          restartFor(
            container,
            instance.id,
            `Container ${container.name} failed ${which} probe, will be restarted`,
            of,
          );
        },
      },
    });
    probers.set(instance.id, prober);
  };

  const running = (container: Container, kind: ContainerKind, instance: Instance): void => {
    store.set(container.name, {
      current: instance,
      waiting: undefined,
      startupPassed: !container.startupProbe || kind === 'init',
      ready: !container.readinessProbe && kind !== 'init',
    });
    probe(container, kind, instance);
  };

  const waitImage = (container: Container, message: string): { readonly retryAt: number } => {
    const record = store.state.containers[container.name]!;
    const now = clock.now();
    const { imageBackoff } = record;
    if (imageBackoff && now < imageBackoff.since + imageBackoff.ms) {
      const text = `Back-off pulling image "${container.image}": ErrImagePull: ${message}`;
      store.set(container.name, { waiting: { reason: 'ImagePullBackOff', message: text } });
      event('Normal', 'BackOff', `Back-off pulling image "${container.image}"`, container.name);
      event('Warning', 'Failed', 'Error: ImagePullBackOff', container.name);
      return { retryAt: imageBackoff.since + imageBackoff.ms };
    }
    const ms = imageBackoff ? Math.min(imageBackoff.ms * 2, MAX_IMAGE_BACKOFF_MS) : FIRST_IMAGE_BACKOFF_MS;
    store.set(container.name, { waiting: { reason: 'ErrImagePull', message }, imageBackoff: { ms, since: now } });
    event('Normal', 'Pulling', `Pulling image "${container.image}"`, container.name);
    event('Warning', 'Failed', `Failed to pull image "${container.image}": ${message}`, container.name);
    event('Warning', 'Failed', 'Error: ErrImagePull', container.name);
    // ErrImagePull shows for a moment, then the back-off.
    return { retryAt: now + 1000 };
  };

  const start: ContainerRunner['start'] = async (container, kind, signal) => {
    const pod = parts.pod();
    const record = store.container(container.name, kind);
    const image = resolveImage(container.image ?? '');
    if (image.kind === 'invalid') {
      store.set(container.name, { waiting: { reason: 'InvalidImageName', message: image.message } });
      event('Warning', 'InspectFailed', image.message, container.name);
      event('Warning', 'Failed', 'Error: InvalidImageName', container.name);
      return { retryAt: clock.now() + MAX_IMAGE_BACKOFF_MS };
    }
    if (image.kind === 'unknown') return waitImage(container, image.message);
    event('Normal', 'Pulled', `Container image "${container.image}" already present on machine`, container.name);
    const instance = newInstance(context, pod, container, record.current);
    try {
      mkdirSync(path.dirname(instance.logFile), { recursive: true, mode: 0o700 });
      const input = launchInput(
        {
          pod,
          container,
          image: image.entry,
          imageId: image.imageId,
          instance,
          facts: setup.facts(),
          lookup: context.lookup,
          netnsPath: store.state.netnsPath!,
          pidNamespace: pidNamespace(parts, container),
          dirs: setup.dirs,
        },
        context.settings,
      );
      // A name that an earlier, cut-short try left.
      if (record.current?.id !== instance.id) await runtime.remove(instance.id, instance.bundle);
      const old = record.current;
      if (old) dropLogs(record.previous);
      store.set(container.name, {
        imageId: image.imageId,
        previous: old ?? record.previous,
        current: instance,
        imageBackoff: undefined,
        ...(old ? { backoff: nextBackoff(record.backoff, clock.now()) } : {}),
      });
      const result = await runtime.launch(input);
      if (result.kind === 'failed') throw new Error(`failed to start container: ${result.message}`);
    } catch (error) {
      return startFailed(container, instance, error);
    }
    event('Normal', 'Created', `Created container: ${container.name}`, container.name);
    event('Normal', 'Started', `Started container ${container.name}`, container.name);
    const live: Instance = { ...instance, startedAt: clock.now(), hooked: !container.lifecycle?.postStart };
    running(container, kind, live);
    // It may have ended while we were told of its start.
    const exit = runtime.exitOf(live.id);
    if (exit) ended(live.id, exit);
    else if (container.lifecycle?.postStart) await postStart(container, live, signal);
    return {};
  };

  const startFailed = (container: Container, instance: Instance, error: unknown): { readonly retryAt?: number } => {
    const message = errorText(error);
    event('Warning', 'Failed', `Error: ${message}`, container.name);
    const launched = store.find(instance.id) !== undefined;
    if (!launched) {
      // Its configuration is wrong or incomplete: nothing has been tried.
      store.set(container.name, { waiting: { reason: 'CreateContainerConfigError', message } });
      return { retryAt: clock.now() + CONFIG_RETRY_MS };
    }
    const now = clock.now();
    const exit: ExitRecord = { code: 128, reason: 'StartError', message, finishedAt: now };
    store.set(container.name, { current: { ...instance, exit }, waiting: undefined, ready: false });
    void runtime.remove(instance.id, instance.bundle);
    poke();
    return {};
  };

  const postStart = async (container: Container, instance: Instance, signal: AbortSignal): Promise<void> => {
    const stop = new AbortController();
    const off = runtime.onExit((id) => {
      if (id === instance.id) stop.abort();
    });
    const either = AbortSignal.any([signal, stop.signal]);
    const result = await runHook(
      container.lifecycle!.postStart!,
      target(container, instance.id),
      context,
      clock,
      either,
    );
    off();
    if (result.ok) {
      store.setCurrent(container.name, { hooked: true });
      return;
    }
    if (either.aborted) return;
    event('Warning', 'FailedPostStartHook', `PostStartHook failed: ${result.message}`, container.name);
    restartFor(container, instance.id, 'FailedPostStartHook');
  };

  const ended: ContainerRunner['ended'] = (instanceId, exit) => {
    const record = store.find(instanceId);
    if (!record?.current || record.current.exit) return;
    // `start` has not seen it run yet and will come here itself.
    if (record.current.startedAt === undefined) return;
    probers.get(instanceId)?.stop();
    probers.delete(instanceId);
    const container = findContainer(parts.pod(), record.name);
    const failed = exit.code !== 0;
    const reason = exit.oomKilled && failed ? 'OOMKilled' : failed ? 'Error' : 'Completed';
    const message = container ? terminationMessage(container, record.current, failed) : undefined;
    store.set(record.name, {
      current: { ...record.current, exit: { code: exit.code, reason, message, finishedAt: exit.finishedAt } },
      ready: false,
      startupPassed: false,
    });
    const { id, bundle } = record.current;
    runtime
      .remove(id, bundle)
      .catch((error) => context.log.warn('container not removed', { id, error: errorText(error) }));
    poke();
  };

  return {
    start,
    ended,
    async adopt(container, kind) {
      const { current } = store.container(container.name, kind);
      if (!current || current.exit) return;
      const exit = runtime.exitOf(current.id);
      if (current.startedAt === undefined) {
        // Cut short while starting: begin again.
        await runtime.remove(current.id, current.bundle);
        store.set(container.name, { current: store.state.containers[container.name]?.previous });
      } else if (exit) ended(current.id, exit);
      else if (runtime.pid(current.id) === undefined)
        ended(current.id, { code: 137, finishedAt: clock.now(), oomKilled: false });
      else {
        store.setCurrent(container.name, { hooked: true });
        probe(container, kind, current);
      }
    },
    stopProbes() {
      for (const prober of probers.values()) prober.stop();
      probers.clear();
    },
  };

  function dropLogs(old: Instance | undefined): void {
    if (!old) return;
    for (const file of [old.logFile, `${old.logFile}.times`, old.messageFile]) rmSync(file, { force: true });
  }

  function newInstance(_: PodContext, pod: Pod, container: Container, before: Instance | undefined): Instance {
    const attempt = before ? before.attempt + 1 : seedAttempt(pod, container.name);
    const { layout } = context.settings;
    const disk = layout.podDisk(uid);
    return {
      id: `${uid}_${container.name}_${attempt}`,
      attempt,
      bundle: path.join(layout.podRun(uid), 'containers', container.name, String(attempt)),
      logFile: path.join(disk, 'logs', container.name, `${attempt}.log`),
      messageFile: path.join(disk, 'messages', container.name, `${attempt}${path.basename(DEFAULT_MESSAGE_PATH)}`),
      hooked: false,
    };
  }
}

/** After a reboot nothing is known here, but the API still has the count. */
function seedAttempt(pod: Pod, name: string): number {
  const known = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
  const status = known.find((s) => s.name === name);
  return status?.containerID ? status.restartCount + 1 : 0;
}

export function findContainer(pod: Pod, name: string): Container | undefined {
  return [...(pod.spec.initContainers ?? []), ...pod.spec.containers, ...(pod.spec.ephemeralContainers ?? [])].find(
    (c) => c.name === name,
  );
}

/** The process namespace to share: the pod's, or that of the container a debugger aims at. */
function pidNamespace({ store, context }: RunnerParts, container: Container | EphemeralContainer): string | undefined {
  const { runtime } = context;
  const aim = 'targetContainerName' in container ? container.targetContainerName : undefined;
  const id = aim ? store.state.containers[aim]?.current?.id : store.state.pauseId;
  if (!id) return undefined;
  const pid = runtime.pid(id);
  if (pid === undefined)
    throw new Error(`the process namespace of ${aim ?? 'the pod'} is not there: its process has ended`);
  return `/proc/${pid}/ns/pid`;
}
