// Writes a pod's status to the API: only when it changed, one write at a time, the newest wins. Used by the pod worker.
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { KubeError } from '../../base/kube/types.ts';
import { errorText } from '../../base/runtime/log.ts';
import type { PodContext } from './pod-context.ts';
import type { PodState } from './records.ts';
import { podStatus } from './status.ts';

const RETRY_MS = 500;

export interface StatusWriter {
  /** Something may have changed. */
  touch(): void;
  /** Resolves when what is known now has been written, or cannot be. */
  flush(): Promise<void>;
  close(): void;
}

export function createStatusWriter(context: PodContext, pod: () => Pod, state: () => PodState): StatusWriter {
  let sent = '';
  let running: Promise<void> | undefined;
  let dirty = false;
  let closed = false;
  let cancelRetry = (): void => {};

  const write = async (): Promise<void> => {
    const now = pod();
    const status = podStatus({ pod: now, state: state(), hostIp: context.hostIp, now: context.clock.now() });
    const text = comparable(status);
    if (text === sent) return;
    const { namespace, name, uid } = now.metadata;
    await context.client.patch(
      PODS,
      namespace,
      name,
      'merge',
      { metadata: { uid }, status },
      { subresource: 'status' },
    );
    sent = text;
  };
  const run = async (): Promise<void> => {
    while (dirty && !closed) {
      dirty = false;
      try {
        await write();
      } catch (error) {
        if (error instanceof KubeError && (error.code === 404 || error.code === 409)) return;
        context.log.warn('pod status not written', { pod: pod().metadata.name, error: errorText(error) });
        cancelRetry();
        cancelRetry = context.clock.after(RETRY_MS, touch);
        return;
      }
    }
  };
  const touch = (): void => {
    dirty = true;
    // Changes of one turn of the event loop become one write.
    running ??= Promise.resolve()
      .then(run)
      .finally(() => {
        running = undefined;
        if (dirty && !closed) queueMicrotask(touch);
      });
  };
  return {
    touch,
    async flush() {
      touch();
      while (running) await running;
    },
    close() {
      closed = true;
      cancelRetry();
    },
  };
}

/** A condition's transition time alone is no change. */
function comparable(status: object): string {
  return JSON.stringify(status, (key, value) => (key === 'lastTransitionTime' ? undefined : value));
}
