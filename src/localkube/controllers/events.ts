// Records what happened to an object as Kubernetes Events, for `kubectl describe` and `kubectl get events`.
// Called by controllers and the kubelet. Never blocks its caller and never fails it.
import { randomBytes } from 'node:crypto';
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import { type KubeClient, KubeError, type KubeObject } from '../../base/kube/types.ts';
import { createWorkQueue } from '../../base/kube/work-queue.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import type { Logger } from '../../base/runtime/log.ts';

export interface EventRecorder {
  record(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void;
  close(): void;
}

export interface EventRecorderOptions {
  /** `deployment-controller`, `kubelet`. */
  readonly component: string;
  /** The node's name, for node components. */
  readonly host?: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

/** Distinct (object, reason, message) remembered for counting; the oldest is forgotten first. */
const MAX_REMEMBERED = 4_096;
/** One object may cause this many writes at once, then one every refill. */
const BURST_PER_OBJECT = 25;
const REFILL_MS = 60_000;
const MAX_MESSAGE_CHARS = 1_024;

interface Series {
  event: Event;
  stored: boolean;
  writtenCount: number;
}

interface Bucket {
  tokens: number;
  at: number;
}

export function createEventRecorder(client: KubeClient, options: EventRecorderOptions): EventRecorder {
  const series = new Map<string, Series>();
  const buckets = new Map<string, Bucket>();

  const admit = (object: string): boolean => {
    const now = options.clock.now();
    const bucket = buckets.get(object) ?? { tokens: BURST_PER_OBJECT, at: now };
    const refill = Math.floor((now - bucket.at) / REFILL_MS);
    bucket.tokens = Math.min(BURST_PER_OBJECT, bucket.tokens + refill);
    bucket.at += refill * REFILL_MS;
    remember(buckets, object, bucket);
    if (bucket.tokens === 0) return false;
    bucket.tokens -= 1;
    return true;
  };
  const queue = createWorkQueue({
    name: 'events',
    clock: options.clock,
    log: options.log,
    random: options.random,
    async run(key) {
      const entry = series.get(key);
      if (entry) await write(client, entry);
    },
  });
  return {
    record(about, type, reason, message) {
      const object = `${about.kind}/${about.metadata.namespace ?? ''}/${about.metadata.name}/${about.metadata.uid ?? ''}`;
      if (!admit(object)) return;
      const text = message.length > MAX_MESSAGE_CHARS ? `${message.slice(0, MAX_MESSAGE_CHARS - 1)}…` : message;
      const key = JSON.stringify([object, type, reason, text]);
      const time = new Date(options.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
      const known = series.get(key);
      const event = known
        ? { ...known.event, count: (known.event.count ?? 1) + 1, lastTimestamp: time }
        : newEvent(about, type, reason, text, time, options);
      remember(series, key, { event, stored: known?.stored ?? false, writtenCount: known?.writtenCount ?? 0 });
      queue.add(key);
    },
    close: queue.close,
  };
}

async function write(client: KubeClient, entry: Series): Promise<void> {
  const { event } = entry;
  const { namespace, name } = event.metadata;
  try {
    if (entry.stored) {
      const patch = { count: event.count, lastTimestamp: event.lastTimestamp };
      await client.patch(EVENTS, namespace, name, 'merge', patch);
      return;
    }
    await client.create(EVENTS, event);
    entry.stored = true;
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    // Expired meanwhile: write it anew. Refused (its namespace is going): there is nobody to tell.
    if (error.code === 404 && entry.stored) {
      entry.stored = false;
      throw error;
    }
    if (error.code === 409) entry.stored = true;
    else if (error.code === 0 || error.code >= 500) throw error;
  }
}

function newEvent(
  about: KubeObject,
  type: 'Normal' | 'Warning',
  reason: string,
  message: string,
  time: string,
  options: EventRecorderOptions,
): Event {
  const { name, namespace, uid, resourceVersion } = about.metadata;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { name: `${name}.${randomBytes(8).toString('hex')}`, namespace: namespace ?? 'default' },
    involvedObject: { apiVersion: about.apiVersion, kind: about.kind, namespace, name, uid, resourceVersion },
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: time,
    lastTimestamp: time,
    source: { component: options.component, ...(options.host ? { host: options.host } : {}) },
    reportingComponent: options.component,
    reportingInstance: options.host ?? '',
  };
}

function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!);
}
