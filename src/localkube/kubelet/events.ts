// Writes the kubelet's events; the same event again counts up. Called by pod workers and probers.
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { timestamp } from './status.ts';

export interface EventRecorder {
  /** `container` puts spec.containers{NAME} into the reference, as kubectl describe shows it. Never rejects. */
  record(pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void;
}

interface Known {
  readonly name: string;
  count: number;
  /** Writes of one event happen one after the other. */
  tail: Promise<void>;
}

/** Distinct events remembered for counting; the oldest is forgotten first. */
const MAX_KNOWN = 2000;
const MAX_MESSAGE = 1024;

export function createEventRecorder(
  client: KubeClient,
  nodeName: string,
  clock: Clock,
  random: () => number,
  log: Logger,
): EventRecorder {
  const known = new Map<string, Known>();
  const write = async (entry: Known, event: Event): Promise<void> => {
    entry.count += 1;
    if (entry.count === 1) {
      await client.create(EVENTS, event);
      return;
    }
    const change = { count: entry.count, lastTimestamp: event.lastTimestamp };
    await client.patch(EVENTS, event.metadata.namespace, entry.name, 'merge', change);
  };
  return {
    record(pod, type, reason, message, container) {
      const text = message.slice(0, MAX_MESSAGE);
      const key = [pod.metadata.uid, container, reason, text].join('\n');
      let entry = known.get(key);
      if (!entry) {
        const suffix = Math.floor(random() * 2 ** 48).toString(16);
        entry = {
          name: `${pod.metadata.name}.${clock.now().toString(16)}${suffix}`,
          count: 0,
          tail: Promise.resolve(),
        };
        known.set(key, entry);
        if (known.size > MAX_KNOWN) known.delete(known.keys().next().value!);
      }
      const now = timestamp(clock.now());
      const own = entry;
      const event: Event = {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: own.name, namespace: pod.metadata.namespace },
        involvedObject: {
          apiVersion: 'v1',
          kind: 'Pod',
          namespace: pod.metadata.namespace,
          name: pod.metadata.name,
          uid: pod.metadata.uid,
          resourceVersion: pod.metadata.resourceVersion,
          ...(container ? { fieldPath: fieldPath(pod, container) } : {}),
        },
        type,
        reason,
        message: text,
        source: { component: 'kubelet', host: nodeName },
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
        reportingComponent: 'kubelet',
        reportingInstance: nodeName,
      };
      own.tail = own.tail
        .then(() => write(own, event))
        .catch((error) => log.debug('event not written', { pod: pod.metadata.name, reason, error: errorText(error) }));
    },
  };
}

function fieldPath(pod: Pod, container: string): string {
  const init = pod.spec.initContainers?.some((c) => c.name === container);
  const ephemeral = pod.spec.ephemeralContainers?.some((c) => c.name === container);
  return `spec.${init ? 'initContainers' : ephemeral ? 'ephemeralContainers' : 'containers'}{${container}}`;
}
