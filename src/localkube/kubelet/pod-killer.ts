// Ends running containers the polite way: preStop hook, SIGTERM, the grace period, SIGKILL. Used by the pod worker.
import type { Container } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { runHook } from './hooks.ts';
import type { PodContext } from './pod-context.ts';

/** After a preStop hook that used up the grace period. */
const MIN_AFTER_HOOK_MS = 2000;

export interface KillRequest {
  readonly pod: Pod;
  readonly container: Container;
  readonly instanceId: string;
  readonly podIp: string;
  /** Milliseconds since the epoch; may move closer while we wait. */
  readonly deadline: () => number;
  /** For the event; absent: no event. */
  readonly message?: string;
}

export interface Killer {
  /** Resolves when the container has ended. */
  kill(request: KillRequest): Promise<void>;
  /** A deadline moved. */
  hurry(): void;
}

export function createKiller(context: PodContext): Killer {
  const { runtime, clock } = context;
  const wakers = new Set<() => void>();

  /** True when it ended before the deadline. */
  const waitEnd = (id: string, deadline: () => number): Promise<boolean> =>
    new Promise((resolve) => {
      let cancel = (): void => {};
      const finish = (ended: boolean): void => {
        cancel();
        off();
        wakers.delete(look);
        resolve(ended);
      };
      const look = (): void => {
        cancel();
        const left = deadline() - clock.now();
        if (runtime.pid(id) === undefined) finish(true);
        else if (left <= 0) finish(false);
        else cancel = clock.after(left, look);
      };
      const off = runtime.onExit((ended) => {
        if (ended === id) finish(true);
      });
      wakers.add(look);
      look();
    });

  const preStop = async (request: KillRequest): Promise<void> => {
    const hook = request.container.lifecycle?.preStop;
    if (!hook || request.deadline() <= clock.now()) return;
    const stop = new AbortController();
    const ended = waitEnd(request.instanceId, request.deadline).then(() => stop.abort());
    const target = { podIp: request.podIp, containerId: request.instanceId, container: request.container };
    const done = runHook(hook, target, context, clock, stop.signal).then((result) => {
      if (result.ok || stop.signal.aborted) return;
      context.events.record(
        request.pod,
        'Warning',
        'FailedPreStopHook',
        `PreStopHook failed: ${result.message}`,
        request.container.name,
      );
    });
    await Promise.race([done, ended]);
  };

  return {
    async kill(request) {
      const { pod, container, instanceId } = request;
      if (!runtime.pid(instanceId)) return;
      if (request.message) context.events.record(pod, 'Normal', 'Killing', request.message, container.name);
      const hooked = Boolean(container.lifecycle?.preStop) && request.deadline() > clock.now();
      await preStop(request);
      const soonest = hooked ? clock.now() + MIN_AFTER_HOOK_MS : 0;
      if (request.deadline() > clock.now() || hooked) {
        runtime.signal(instanceId, 'SIGTERM');
        if (await waitEnd(instanceId, () => Math.max(request.deadline(), soonest))) return;
      }
      runtime.signal(instanceId, 'SIGKILL');
      await waitEnd(instanceId, () => Number.MAX_SAFE_INTEGER);
    },
    hurry() {
      for (const wake of [...wakers]) wake();
    },
  };
}
