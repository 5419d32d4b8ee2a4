// One pod's life on the node, from the first look at its spec to the end of its last container.
// Made by kubelet.ts for each pod; everything it does happens in `#sync`, one at a time.
import path from 'node:path';
import type { Container } from '../../api/kubernetes/container.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { KubeError } from '../../base/kube/types.ts';
import { errorText } from '../../base/runtime/log.ts';
import { resolveImage } from '../images/resolve.ts';
import { type ContainerRunner, createContainerRunner, findContainer } from './container-runner.ts';
import { launchInput } from './container-start.ts';
import { decide, type Wait } from './decide.ts';
import { type PodContext, podKey } from './pod-context.ts';
import { createKiller, type Killer } from './pod-killer.ts';
import { createPodSetup, type PodSetup } from './pod-setup.ts';
import { createStatusWriter, type StatusWriter } from './pod-status-writer.ts';
import { createPodStore, type PodStore } from './pod-store.ts';
import { allContainers, isRunning, type PodState } from './records.ts';
import { MountError } from './volumes.ts';

const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;
const DEFAULT_GRACE_S = 30;
const PAUSE = 'POD';

export class PodWorker {
  readonly uid: string;
  #pod: Pod;
  readonly #context: PodContext;
  readonly #store: PodStore;
  readonly #setup: PodSetup;
  readonly #killer: Killer;
  readonly #runner: ContainerRunner;
  readonly #status: StatusWriter;
  readonly #onGone: () => void;
  #dirty = false;
  #busy = false;
  #closed = false;
  /** The API no longer has the pod. */
  #deleted = false;
  #released = false;
  #stop = new AbortController();
  #deadline = Number.POSITIVE_INFINITY;
  #retryMs = FIRST_RETRY_MS;
  #cancelTimer = (): void => {};
  #timerAt = Number.POSITIVE_INFINITY;
  #adopted: Promise<void> | undefined;
  readonly #listeners: ((state: PodState) => void)[] = [];

  constructor(context: PodContext, pod: Pod, known: PodState | undefined, onGone: () => void) {
    this.uid = pod.metadata.uid!;
    this.#pod = pod;
    this.#context = context;
    this.#onGone = onGone;
    const initial: PodState = known ?? {
      namespace: pod.metadata.namespace ?? 'default',
      name: pod.metadata.name,
      uid: this.uid,
      startTime: pod.status?.startTime ? Date.parse(pod.status.startTime) : context.clock.now(),
      sandbox: false,
      containers: {},
      pod,
    };
    const podRun = context.settings.layout.podRun(this.uid);
    this.#store = createPodStore(podRun, initial, () => {
      this.#status?.touch();
      for (const listener of this.#listeners) listener(this.#store.state);
    });
    this.#status = createStatusWriter(
      context,
      () => this.#pod,
      () => this.#store.state,
    );
    this.#setup = createPodSetup(context, this.uid, this.#store);
    this.#killer = createKiller(context);
    this.#runner = createContainerRunner({
      context,
      pod: () => this.#pod,
      store: this.#store,
      setup: this.#setup,
      killer: this.#killer,
      poke: () => this.poke(),
    });
    if (known) this.#adopted = this.#adopt();
    this.poke();
  }

  get pod(): Pod {
    return this.#pod;
  }

  get state(): PodState {
    return this.#store.state;
  }

  /** Called now and at every change of the pod's state. */
  onChange(listener: (state: PodState) => void): void {
    this.#listeners.push(listener);
    listener(this.#store.state);
  }

  update(pod: Pod): void {
    const before = this.#pod;
    this.#pod = pod;
    if (this.#released) {
      if (pod.metadata.deletionTimestamp) this.#beginDeletion();
      this.poke();
      return;
    }
    if (pod.metadata.deletionTimestamp) this.#beginDeletion();
    const metadataChanged =
      JSON.stringify([before.metadata.labels, before.metadata.annotations]) !==
      JSON.stringify([pod.metadata.labels, pod.metadata.annotations]);
    if (metadataChanged) this.refreshVolumes();
    if (pod.spec.readinessGates?.length) this.#status.touch();
    this.poke();
  }

  /** The API forgot the pod: nothing waits for its end any more. */
  gone(): void {
    this.#deleted = true;
    this.#beginDeletion();
    this.poke();
  }

  ended(instanceId: string, exit: Parameters<ContainerRunner['ended']>[1]): void {
    this.#runner.ended(instanceId, exit);
  }

  /** Something the pod's volumes or environment read has changed. */
  refreshVolumes(): void {
    if (this.#store.state.podIp && !this.#released && !this.#stop.signal.aborted)
      this.#setup.refreshVolumes(this.#pod).catch((error) => this.#mountFailed(error));
    this.poke();
  }

  poke(): void {
    this.#dirty = true;
    if (this.#busy || this.#closed) return;
    this.#busy = true;
    void this.#run().finally(() => {
      this.#busy = false;
      if (this.#dirty) this.poke();
    });
  }

  /** Leaves the containers running. */
  close(): void {
    this.#closed = true;
    this.#stop.abort();
    this.#cancelTimer();
    this.#runner.stopProbes();
    this.#status.close();
  }

  async #run(): Promise<void> {
    await this.#adopted;
    while (this.#dirty && !this.#closed) {
      this.#dirty = false;
      try {
        await this.#sync();
        this.#retryMs = FIRST_RETRY_MS;
      } catch (error) {
        if (this.#closed) return;
        this.#failedSync(error);
      }
    }
  }

  #failedSync(error: unknown): void {
    if (error instanceof MountError) this.#mountFailed(error);
    else {
      this.#context.log.warn('pod sync failed', { pod: podKey(this.#pod), error: errorText(error) });
      if (!this.#store.state.sandbox)
        this.#event('Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${errorText(error)}`);
    }
    this.#wakeAt(this.#context.clock.now() + this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
  }

  #mountFailed(error: unknown): void {
    this.#event('Warning', 'FailedMount', errorText(error));
  }

  #event(type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void {
    this.#context.events.record(this.#pod, type, reason, message, container);
  }

  #wakeAt(at: number): void {
    const { clock } = this.#context;
    if (at >= this.#timerAt && this.#timerAt > clock.now()) return;
    this.#cancelTimer();
    this.#timerAt = at;
    this.#cancelTimer = clock.after(Math.max(0, at - clock.now()), () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.poke();
    });
  }

  async #sync(): Promise<void> {
    if (this.#released) {
      if (this.#stop.signal.aborted) await this.#finishDeletion();
      return;
    }
    if (this.#stop.signal.aborted) return this.#terminate();
    if (this.#pod.status?.phase === 'Succeeded' || this.#pod.status?.phase === 'Failed') return this.#release();
    if (this.#refuse()) return this.#finish();
    await this.#setup.prepare(this.#pod);
    if (this.#pod.spec.shareProcessNamespace) await this.#ensurePause();
    this.#status.touch();
    await this.#step();
  }

  async #step(): Promise<void> {
    const decision = decide(this.#pod, this.#store.state, this.#context.clock.now());
    if (decision.kind === 'finish' || decision.kind === 'fail') return this.#finish();
    for (const wait of decision.waits) this.#showBackoff(wait);
    if (decision.kind === 'idle') return;
    for (const name of decision.names) {
      if (this.#stop.signal.aborted) return;
      const entry = allContainers(this.#pod.spec).find((c) => c.container.name === name);
      if (!entry) continue;
      const { retryAt } = await this.#runner.start(entry.container, entry.kind, this.#stop.signal);
      if (retryAt !== undefined) this.#wakeAt(retryAt);
      else this.#dirty = true;
    }
  }

  #showBackoff(wait: Wait): void {
    const record = this.#store.state.containers[wait.name]!;
    this.#wakeAt(wait.until);
    if (record.waiting?.reason === 'CrashLoopBackOff') return;
    const what = `restarting failed container=${wait.name} pod=${podKey(this.#pod)}`;
    const message = `back-off ${duration(wait.ms)} ${what}`;
    this.#store.set(wait.name, { waiting: { reason: 'CrashLoopBackOff', message } });
    this.#event(
      'Warning',
      'BackOff',
      `Back-off restarting failed container ${wait.name} in pod ${podKey(this.#pod)}`,
      wait.name,
    );
  }

  /** What the node does not do is said, not ignored. */
  #refuse(): boolean {
    const { spec } = this.#pod;
    const named = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((field) => spec[field]);
    const deadline = spec.activeDeadlineSeconds;
    const { clock } = this.#context;
    let failed = this.#store.state.failed;
    if (!failed && named.length > 0) {
      failed = {
        reason: 'NotSupported',
        message: `Pod was rejected: localkube does not run pods with ${named.join(', ')}, because it never touches the host's own network, processes or IPC`,
      };
    }
    if (!failed && deadline !== undefined) {
      const until = this.#store.state.startTime + deadline * 1000;
      if (clock.now() >= until)
        failed = {
          reason: 'DeadlineExceeded',
          message: 'Pod was active on the node longer than the specified deadline',
        };
      else this.#wakeAt(until);
    }
    if (!failed) return false;
    if (!this.#store.state.failed) {
      this.#store.update({ failed });
      this.#event('Warning', failed.reason, failed.message);
    }
    return true;
  }

  /** A process whose only work is to hold the pod's process namespace. */
  async #ensurePause(): Promise<void> {
    const { runtime, settings } = this.#context;
    const known = this.#store.state.pauseId;
    if (known && runtime.pid(known) !== undefined) return;
    const image = resolveImage('registry.k8s.io/pause');
    if (image.kind !== 'found') throw new Error('the catalog has no pause image');
    const id = `${this.uid}_${PAUSE}_0`;
    const bundle = path.join(settings.layout.podRun(this.uid), 'containers', PAUSE, '0');
    await runtime.remove(id, bundle);
    const container: Container = { name: PAUSE, image: 'pause' };
    const input = launchInput(
      {
        pod: this.#pod,
        container,
        image: image.entry,
        imageId: image.imageId,
        instance: { id, attempt: 0, bundle, logFile: `${bundle}.log`, messageFile: `${bundle}.message`, hooked: true },
        facts: this.#setup.facts(),
        lookup: this.#context.lookup,
        netnsPath: this.#store.state.netnsPath!,
        dirs: this.#setup.dirs,
      },
      settings,
    );
    const result = await runtime.launch(input);
    if (result.kind === 'failed') throw new Error(`cannot make the shared process namespace: ${result.message}`);
    this.#store.update({ pauseId: id });
  }

  async #adopt(): Promise<void> {
    for (const { container, kind } of allContainers(this.#pod.spec)) {
      if (this.#store.state.containers[container.name]) await this.#runner.adopt(container, kind);
    }
  }

  #beginDeletion(): void {
    const { clock } = this.#context;
    const { deletionGracePeriodSeconds } = this.#pod.metadata;
    const grace = this.#deleted
      ? 0
      : (deletionGracePeriodSeconds ?? this.#pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S);
    this.#deadline = Math.min(this.#deadline, clock.now() + grace * 1000);
    this.#stop.abort();
    this.#killer.hurry();
  }

  async #killAll(graceEnd: () => number): Promise<void> {
    const podIp = this.#setup.facts().podIp;
    const kill = async (name: string): Promise<void> => {
      const record = this.#store.state.containers[name];
      const container = findContainer(this.#pod, name);
      if (!container || !isRunning(record)) return;
      const instanceId = record!.current!.id;
      const message = `Stopping container ${name}`;
      await this.#killer.kill({ pod: this.#pod, container, instanceId, podIp, deadline: graceEnd, message });
    };
    const entries = allContainers(this.#pod.spec);
    await Promise.all(entries.filter((e) => e.kind !== 'sidecar').map((e) => kill(e.container.name)));
    // Sidecars serve the application to its end, and end in the reverse order of their start.
    for (const { container } of entries.filter((e) => e.kind === 'sidecar').reverse()) await kill(container.name);
    const { pauseId } = this.#store.state;
    if (pauseId) {
      const { runtime, settings } = this.#context;
      runtime.signal(pauseId, 'SIGKILL');
      await runtime.remove(pauseId, path.join(settings.layout.podRun(this.uid), 'containers', PAUSE, '0'));
      this.#store.update({ pauseId: undefined });
    }
  }

  /** The pod has run to its end: sidecars stop, the status stays. */
  async #finish(): Promise<void> {
    const grace = (this.#pod.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S) * 1000;
    const until = this.#context.clock.now() + grace;
    await this.#killAll(() => Math.min(until, this.#deadline));
    await this.#release();
    this.#status.touch();
  }

  async #terminate(): Promise<void> {
    await this.#killAll(() => this.#deadline);
    await this.#release();
    await this.#finishDeletion();
  }

  async #release(): Promise<void> {
    this.#cancelTimer();
    this.#runner.stopProbes();
    const { runtime } = this.#context;
    await Promise.all(
      Object.values(this.#store.state.containers).map(async ({ current }) => {
        if (current) await runtime.remove(current.id, current.bundle);
      }),
    );
    await this.#setup.release();
    this.#released = true;
  }

  async #finishDeletion(): Promise<void> {
    const { client } = this.#context;
    const { namespace, name, uid } = this.#pod.metadata;
    if (!this.#deleted) {
      await this.#status.flush();
      try {
        await client.delete(PODS, namespace, name, { gracePeriodSeconds: 0, uid });
      } catch (error) {
        if (!(error instanceof KubeError && (error.code === 404 || error.code === 409))) throw error;
      }
    }
    this.close();
    await this.#setup.forget();
    this.#onGone();
  }
}

/** As Go prints durations: 10s, 1m20s, 5m0s. */
function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
