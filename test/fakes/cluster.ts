// The fake API server with all of localkube's controllers and a kubelet that makes pods ready at once: for controller tests.
import { BUILTIN_TYPES } from '../../src/api/kubernetes/builtin-types.ts';
import { NAMESPACES } from '../../src/api/kubernetes/namespace.ts';
import { NODES, type Node } from '../../src/api/kubernetes/node.ts';
import { isPodTerminal, PODS, type Pod } from '../../src/api/kubernetes/pod.ts';
import type { KubeObject, ResourceType } from '../../src/base/kube/types.ts';
import { KubeError } from '../../src/base/kube/types.ts';
import { type Clock, systemClock } from '../../src/base/runtime/clock.ts';
import { silentLog } from '../../src/base/runtime/log.ts';
import { startControllers } from '../../src/localkube/controllers/start.ts';
import { createFakeKube, type FakeKube } from './kube-client.ts';

export interface FakeCluster {
  readonly kube: FakeKube;
  /** Pods of the namespace that are not being deleted. */
  pods(namespace?: string): readonly Pod[];
  stored<T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[];
  /** Resolves once `holds` is true; rejects with `what` after 5 s. */
  until(what: string, holds: () => boolean): Promise<void>;
  setPhase(pod: Pod, phase: 'Succeeded' | 'Failed'): Promise<void>;
  /** The server serves one kind more from now on. */
  addType(type: ResourceType): void;
  close(): void;
}

export interface FakeClusterOptions {
  /** Which pods the kubelet makes ready; default all. */
  readonly ready?: (pod: Pod) => boolean;
  readonly types?: readonly ResourceType[];
  readonly nodes?: readonly Node[];
  readonly clock?: Clock;
}

const NODE: Node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-1', labels: { disk: 'ssd' } } };

export async function startFakeCluster(options: FakeClusterOptions = {}): Promise<FakeCluster> {
  const types = [...BUILTIN_TYPES, ...(options.types ?? [])];
  const clock = options.clock ?? systemClock;
  const kube = createFakeKube({
    now: clock.now,
    objects: [
      ...(options.nodes ?? [NODE]).map((object) => ({ type: NODES, object })),
      { type: NAMESPACES, object: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'foo' } } },
    ],
  });
  const stop = new AbortController();
  const controllers = startControllers({
    client: kube,
    clock,
    log: silentLog,
    random: Math.random,
    caPem: 'CA',
    resourceTypes: async () => [...types],
  });
  void runKubelet(kube, options.ready ?? (() => true), stop.signal);
  const stored = <T extends KubeObject>(type: ResourceType, namespace?: string): readonly T[] =>
    kube.stored<T>(type).filter((o) => namespace === undefined || o.metadata.namespace === namespace);
  return {
    kube,
    stored,
    pods: (namespace = 'foo') => stored<Pod>(PODS, namespace).filter((p) => !p.metadata.deletionTimestamp),
    async until(what, holds) {
      const deadline = Date.now() + 5_000;
      while (!holds()) {
        if (Date.now() > deadline) throw new Error(`never came: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    },
    async setPhase(pod, phase) {
      const current = await kube.get<Pod>(PODS, pod.metadata.namespace, pod.metadata.name);
      await kube.update(
        { ...PODS },
        { ...current, status: { ...current.status, phase, conditions: [] } },
        { subresource: 'status' },
      );
    },
    addType: (type) => void types.push(type),
    close() {
      stop.abort();
      controllers.close();
    },
  };
}

let addresses = 0;

async function runKubelet(kube: FakeKube, ready: (pod: Pod) => boolean, signal: AbortSignal): Promise<void> {
  const serve = async (pod: Pod): Promise<void> => {
    const { namespace, name, deletionTimestamp } = pod.metadata;
    if (deletionTimestamp) return kube.delete(PODS, namespace, name, { gracePeriodSeconds: 0 });
    if (!pod.spec.nodeName || isPodTerminal(pod)) return;
    const status = ready(pod) ? ('True' as const) : ('False' as const);
    if (pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === status)) return;
    const next: Pod = {
      ...pod,
      status: {
        phase: 'Running',
        podIP: pod.status?.podIP ?? `10.0.${addresses >> 8}.${addresses++ & 255}`,
        conditions: [{ type: 'Ready', status, lastTransitionTime: '2030-01-01T00:00:00Z' }],
      },
    };
    await kube.update(PODS, next, { subresource: 'status' });
  };
  const ignore = (error: unknown): void => {
    if (!(error instanceof KubeError) || (error.code !== 404 && error.code !== 409)) throw error;
  };
  const list = await kube.list<Pod>(PODS);
  const onEvent = (event: { readonly type: string; readonly object?: Pod }): void => {
    if (event.object && event.type !== 'DELETED') serve(event.object).catch(ignore);
  };
  await kube.watch<Pod>(PODS, { resourceVersion: list.resourceVersion }, onEvent, signal);
}
