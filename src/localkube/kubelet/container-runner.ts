// Starts one container of a pod and follows it: image, launch, postStart, probes, its end. Used by the pod worker.
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Container, EphemeralContainer, LifecycleHandler, Probe } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type ResolvedImage, resolveImage } from '../images/resolve.ts';
import { DEFAULT_MESSAGE_PATH, launchInput, terminationMessage } from './container-start.ts';
import { nextBackoff } from './decide.ts';
import { runHook } from './hooks.ts';
import { bundleDir } from './leftovers.ts';
import type { PodContext } from './pod-context.ts';
import type { Killer } from './pod-killer.ts';
import type { PodSetup } from './pod-setup.ts';
import type { PodStore } from './pod-store.ts';
import { type ProbeTarget, runProbe } from './probe-run.ts';
import { type ProbeKind, type ProbeListener, type Prober, startProber } from './prober.ts';
import { type ContainerKind, type ContainerRecord, type ExitRecord, type Instance, isRunning } from './records.ts';
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
  return new Runner(parts);
}

interface Retry {
  readonly retryAt?: number;
}

class Runner implements ContainerRunner {
  readonly #parts: RunnerParts;
  readonly #uid: string;
  readonly #probers = new Map<string, Prober>();

  constructor(parts: RunnerParts) {
    this.#parts = parts;
    this.#uid = parts.pod().metadata.uid!;
  }

  async start(container: Container, kind: ContainerKind, signal: AbortSignal): Promise<Retry> {
    const { store } = this.#parts;
    const record = store.container(container.name, kind);
    const image = resolveImage(container.image ?? '');
    if (image.kind === 'invalid') return this.#refuseImage(container, image.message);
    if (image.kind === 'unknown') return this.#waitImage(container, image.message);
    this.#event('Normal', 'Pulled', `Container image "${container.image}" already present on machine`, container.name);
    const instance = this.#newInstance(container, record.current);
    try {
      await this.#launch(container, image, instance, record);
    } catch (error) {
      return this.#startFailed(container, instance, error);
    }
    await this.#started(container, kind, instance, signal);
    return {};
  }

  ended(instanceId: string, exit: ContainerExit): void {
    const { store, context, poke } = this.#parts;
    const record = store.find(instanceId);
    if (!record?.current || record.current.exit) return;
    // `start` has not seen it run yet and will come here itself.
    if (record.current.startedAt === undefined) return;
    this.#probers.get(instanceId)?.stop();
    this.#probers.delete(instanceId);
    const container = findContainer(this.#parts.pod(), record.name);
    const failed = exit.code !== 0;
    const reason = exit.oomKilled && failed ? 'OOMKilled' : failed ? 'Error' : 'Completed';
    const message = container ? terminationMessage(container, record.current, failed) : undefined;
    store.set(record.name, {
      current: { ...record.current, exit: { code: exit.code, reason, message, finishedAt: exit.finishedAt } },
      ready: false,
      startupPassed: false,
    });
    const { id, bundle } = record.current;
    context.runtime
      .remove(id, bundle)
      .catch((error) => context.log.warn('container not removed', { id, error: errorText(error) }));
    poke();
  }

  async adopt(container: Container, kind: ContainerKind): Promise<void> {
    const { store, context } = this.#parts;
    const { runtime, clock } = context;
    const { current, previous } = store.container(container.name, kind);
    if (!current || current.exit) return;
    const exit = runtime.exitOf(current.id);
    if (current.startedAt === undefined) {
      // Cut short while starting: begin again, as if it had not been tried.
      await runtime.remove(current.id, current.bundle);
      store.set(container.name, { current: previous, previous: undefined });
    } else if (exit) this.ended(current.id, exit);
    else if (runtime.pid(current.id) === undefined)
      this.ended(current.id, { code: 137, finishedAt: clock.now(), oomKilled: false });
    else {
      store.setCurrent(container.name, { hooked: true });
      this.#probe(container, kind, current);
    }
  }

  stopProbes(): void {
    for (const prober of this.#probers.values()) prober.stop();
    this.#probers.clear();
  }

  /** Throws when the container's configuration or runc forbids. */
  async #launch(
    container: Container,
    image: Extract<ResolvedImage, { kind: 'found' }>,
    instance: Instance,
    record: ContainerRecord,
  ): Promise<void> {
    const { context, store, setup } = this.#parts;
    const { runtime, clock } = context;
    mkdirSync(path.dirname(instance.logFile), { recursive: true, mode: 0o700 });
    const input = launchInput(
      {
        pod: this.#parts.pod(),
        container,
        image: image.entry,
        imageId: image.imageId,
        instance,
        facts: setup.facts(),
        lookup: context.lookup,
        netnsPath: store.state.netnsPath!,
        pidNamespace: pidNamespace(this.#parts, container),
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
  }

  async #started(container: Container, kind: ContainerKind, instance: Instance, signal: AbortSignal): Promise<void> {
    const { store, context } = this.#parts;
    this.#event('Normal', 'Created', `Created container: ${container.name}`, container.name);
    this.#event('Normal', 'Started', `Started container ${container.name}`, container.name);
    const live: Instance = {
      ...instance,
      startedAt: context.clock.now(),
      hooked: !container.lifecycle?.postStart,
    };
    store.set(container.name, {
      current: live,
      waiting: undefined,
      startupPassed: !container.startupProbe || kind === 'init',
      ready: !container.readinessProbe && kind !== 'init',
    });
    this.#probe(container, kind, live);
    // It may have ended while we were told of its start.
    const exit = context.runtime.exitOf(live.id);
    if (exit) this.ended(live.id, exit);
    else if (container.lifecycle?.postStart)
      await this.#postStart(container, container.lifecycle.postStart, live, signal);
  }

  #startFailed(container: Container, instance: Instance, error: unknown): Retry {
    const { store, context, poke } = this.#parts;
    const message = errorText(error);
    this.#event('Warning', 'Failed', `Error: ${message}`, container.name);
    const now = context.clock.now();
    if (store.find(instance.id) === undefined) {
      // Its configuration is wrong or incomplete: nothing has been tried.
      store.set(container.name, { waiting: { reason: 'CreateContainerConfigError', message } });
      return { retryAt: now + CONFIG_RETRY_MS };
    }
    const exit: ExitRecord = { code: 128, reason: 'StartError', message, finishedAt: now };
    store.set(container.name, { current: { ...instance, exit }, waiting: undefined, ready: false });
    void context.runtime.remove(instance.id, instance.bundle);
    poke();
    return {};
  }

  #refuseImage(container: Container, message: string): Retry {
    const { store, context } = this.#parts;
    store.set(container.name, { waiting: { reason: 'InvalidImageName', message } });
    this.#event('Warning', 'InspectFailed', message, container.name);
    this.#event('Warning', 'Failed', 'Error: InvalidImageName', container.name);
    return { retryAt: context.clock.now() + MAX_IMAGE_BACKOFF_MS };
  }

  #waitImage(container: Container, message: string): Retry {
    const { store, context } = this.#parts;
    const now = context.clock.now();
    const { imageBackoff } = store.state.containers[container.name]!;
    if (imageBackoff && now < imageBackoff.since + imageBackoff.ms) {
      const text = `Back-off pulling image "${container.image}": ErrImagePull: ${message}`;
      store.set(container.name, { waiting: { reason: 'ImagePullBackOff', message: text } });
      this.#event('Normal', 'BackOff', `Back-off pulling image "${container.image}"`, container.name);
      this.#event('Warning', 'Failed', 'Error: ImagePullBackOff', container.name);
      return { retryAt: imageBackoff.since + imageBackoff.ms };
    }
    const ms = imageBackoff ? Math.min(imageBackoff.ms * 2, MAX_IMAGE_BACKOFF_MS) : FIRST_IMAGE_BACKOFF_MS;
    store.set(container.name, { waiting: { reason: 'ErrImagePull', message }, imageBackoff: { ms, since: now } });
    this.#event('Normal', 'Pulling', `Pulling image "${container.image}"`, container.name);
    this.#event('Warning', 'Failed', `Failed to pull image "${container.image}": ${message}`, container.name);
    this.#event('Warning', 'Failed', 'Error: ErrImagePull', container.name);
    // ErrImagePull shows for a moment, then the back-off.
    return { retryAt: now + 1000 };
  }

  async #postStart(
    container: Container,
    hook: LifecycleHandler,
    instance: Instance,
    signal: AbortSignal,
  ): Promise<void> {
    const { context, store } = this.#parts;
    const stop = new AbortController();
    const off = context.runtime.onExit((id) => {
      if (id === instance.id) stop.abort();
    });
    const either = AbortSignal.any([signal, stop.signal]);
    const result = await runHook(hook, this.#target(container, instance.id), context, context.clock, either);
    off();
    if (result.ok) {
      store.setCurrent(container.name, { hooked: true });
      return;
    }
    if (either.aborted) return;
    this.#event('Warning', 'FailedPostStartHook', `PostStartHook failed: ${result.message}`, container.name);
    this.#killForRestart(container, instance.id, 'FailedPostStartHook');
  }

  #probe(container: Container, kind: ContainerKind, instance: Instance): void {
    if (kind === 'init' || kind === 'ephemeral') return;
    const { store, context } = this.#parts;
    const record = store.container(container.name, kind);
    const prober = startProber({
      container,
      clock: context.clock,
      startedAt: instance.startedAt ?? context.clock.now(),
      startupPassed: record.startupPassed,
      ready: record.ready,
      run: (wanted, timeoutMs) => runProbe(wanted, this.#target(container, instance.id), timeoutMs, context),
      listener: this.#probeListener(container, instance.id),
    });
    this.#probers.set(instance.id, prober);
  }

  /** Results of a run that is over count no more. */
  #probeListener(container: Container, instanceId: string): ProbeListener {
    const { store, poke } = this.#parts;
    const { name } = container;
    const current = (): boolean => isRunning(store.find(instanceId));
    return {
      onStarted: () => {
        if (!current()) return;
        store.set(name, { startupPassed: true });
        poke();
      },
      onReady: (ready) => {
        if (current()) store.set(name, { ready });
      },
      onFailure: (which, message) => {
        if (current()) this.#event('Warning', 'Unhealthy', `${PROBE_NAMES[which]} probe failed: ${message}`, name);
      },
      onUnhealthy: (which) => {
        if (!current()) return;
        const probe = which === 'startup' ? container.startupProbe : container.livenessProbe;
        const message = `Container ${name} failed ${which} probe, will be restarted`;
        this.#killForRestart(container, instanceId, message, probe);
      },
    };
  }

  #killForRestart(container: Container, instanceId: string, message: string, probe?: Probe): void {
    const { context, setup, killer } = this.#parts;
    const pod = this.#parts.pod();
    const grace = probe?.terminationGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S;
    const deadline = context.clock.now() + grace * 1000;
    void killer.kill({ pod, container, instanceId, podIp: setup.facts().podIp, deadline: () => deadline, message });
  }

  #target(container: Container, containerId: string): ProbeTarget {
    return { podIp: this.#parts.setup.facts().podIp, containerId, container };
  }

  #event(type: 'Normal' | 'Warning', reason: string, message: string, container: string): void {
    this.#parts.context.events.record(this.#parts.pod(), type, reason, message, container);
  }

  #newInstance(container: Container, before: Instance | undefined): Instance {
    const attempt = before ? before.attempt + 1 : seedAttempt(this.#parts.pod(), container.name);
    const { layout } = this.#parts.context.settings;
    const disk = layout.podDisk(this.#uid);
    return {
      id: `${this.#uid}_${container.name}_${attempt}`,
      attempt,
      bundle: bundleDir(layout, this.#uid, container.name, attempt),
      logFile: path.join(disk, 'logs', container.name, `${attempt}.log`),
      messageFile: path.join(disk, 'messages', container.name, `${attempt}${path.basename(DEFAULT_MESSAGE_PATH)}`),
      hooked: false,
    };
  }
}

function dropLogs(old: Instance | undefined): void {
  if (!old) return;
  for (const file of [old.logFile, `${old.logFile}.times`, old.messageFile]) rmSync(file, { force: true });
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
