// Deployments, from object to pods, on the fake API server with all controllers running.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type FakeCluster, type FakeClusterOptions, startFakeCluster } from '../../../test/fakes/cluster.ts';
import { DEPLOYMENTS, type Deployment } from '../../api/kubernetes/deployment.ts';
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import { PODS } from '../../api/kubernetes/pod.ts';
import { REPLICA_SETS, type ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { KubeError } from '../../base/kube/types.ts';

let cluster: FakeCluster;
const start = async (options?: FakeClusterOptions): Promise<FakeCluster> => {
  cluster = await startFakeCluster(options);
  return cluster;
};
afterEach(() => cluster.close());

const deployment = (replicas: number, image: string, spec: Partial<Deployment['spec']> = {}): Deployment => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'foo' },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'web' } },
    template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image }] } },
    ...spec,
  },
});
const current = (): Deployment => cluster.stored<Deployment>(DEPLOYMENTS)[0]!;
const images = (): string[] => cluster.pods().map((p) => p.spec.containers[0]!.image!);
const condition = (type: string): string | undefined =>
  current().status?.conditions?.find((c) => c.type === type)?.reason;
const edit = (spec: Partial<Deployment['spec']>): Promise<unknown> =>
  cluster.kube.patch(DEPLOYMENTS, 'foo', 'web', 'merge', { spec });
const rolledOut = (): boolean => {
  const { status, spec, metadata } = current();
  return (
    status?.observedGeneration === metadata.generation &&
    status?.updatedReplicas === spec.replicas &&
    status?.replicas === spec.replicas &&
    status?.availableReplicas === spec.replicas
  );
};

test('a deployment becomes ready pods, and its status says so', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(3, 'v1'));
  await cluster.until('rollout', rolledOut);
  assert.deepEqual(images(), ['v1', 'v1', 'v1']);
  assert.equal(condition('Available'), 'MinimumReplicasAvailable');
  assert.equal(condition('Progressing'), 'NewReplicaSetAvailable');
  assert.equal(current().metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
  const [set] = cluster.stored<ReplicaSet>(REPLICA_SETS);
  assert.match(set!.metadata.name, /^web-[a-z0-9]{10}$/);
  for (const pod of cluster.pods()) {
    assert.match(pod.metadata.name, new RegExp(`^${set!.metadata.name}-[a-z0-9]{5}$`));
    assert.equal(pod.metadata.labels?.['pod-template-hash'], set!.metadata.labels?.['pod-template-hash']);
  }
  await cluster.until('events', () =>
    ['ScalingReplicaSet', 'SuccessfulCreate', 'Scheduled'].every((r) =>
      cluster.stored<Event>(EVENTS).some((e) => e.reason === r),
    ),
  );
});

test('a rolling update never falls below the minimum and keeps the old set for undo', async () => {
  await start();
  await cluster.kube.create(
    DEPLOYMENTS,
    deployment(4, 'v1', { strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } }),
  );
  await cluster.until('first rollout', rolledOut);
  let lowest = 99;
  let highest = 0;
  const stop = new AbortController();
  void cluster.kube.watch(
    PODS,
    { resourceVersion: '999999' },
    () => {
      lowest = Math.min(lowest, cluster.pods().length);
      highest = Math.max(highest, cluster.pods().length);
    },
    stop.signal,
  );
  await edit(deployment(4, 'v2').spec);
  await cluster.until('second rollout', () => rolledOut() && images().every((i) => i === 'v2'));
  stop.abort();
  assert.ok(lowest >= 4 && highest <= 5, `between ${lowest} and ${highest}`);
  assert.equal(highest, 5);
  const sets = cluster.stored<ReplicaSet>(REPLICA_SETS);
  assert.deepEqual(sets.map((s) => s.spec.replicas).sort(), [0, 4]);
  // Undo: kubectl writes the old template back.
  await edit(deployment(4, 'v1').spec);
  await cluster.until('undo', () => rolledOut() && images().every((i) => i === 'v1'));
  assert.equal(cluster.stored(REPLICA_SETS).length, 2);
  assert.equal(current().metadata.annotations?.['deployment.kubernetes.io/revision'], '3');
});

test('scaling up and down, and to zero', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(1, 'v1'));
  for (const replicas of [5, 2, 0, 1]) {
    await edit({ replicas });
    await cluster.until(`scale to ${replicas}`, () => rolledOut() && cluster.pods().length === replicas);
  }
  assert.equal(cluster.stored(REPLICA_SETS).length, 1);
});

test('Recreate removes every old pod before the first new one', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(2, 'v1', { strategy: { type: 'Recreate' } }));
  await cluster.until('first rollout', rolledOut);
  const mixed: string[][] = [];
  const stop = new AbortController();
  void cluster.kube.watch(
    PODS,
    { resourceVersion: '999999' },
    () => {
      const all = new Set(
        cluster
          .stored<never>(PODS, 'foo')
          .map((p: { spec: { containers: { image: string }[] } }) => p.spec.containers[0]!.image),
      );
      if (all.size > 1) mixed.push([...all]);
    },
    stop.signal,
  );
  await edit(deployment(2, 'v2').spec);
  await cluster.until('second rollout', () => rolledOut() && images().join() === 'v2,v2');
  stop.abort();
  assert.deepEqual(mixed, []);
});

test('a paused deployment scales but does not roll', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(1, 'v1'));
  await cluster.until('first rollout', rolledOut);
  await edit({ ...deployment(3, 'v2').spec, paused: true });
  await cluster.until('scaled', () => cluster.pods().length === 3 && current().status?.availableReplicas === 3);
  assert.deepEqual(images(), ['v1', 'v1', 'v1']);
  await edit({ paused: false });
  await cluster.until('rolled', () => rolledOut() && images().every((i) => i === 'v2'));
});

test('pods that are refused are reported and made once the refusal ends', async () => {
  await start();
  const refusal = new KubeError(500, 'InternalError', 'failed calling webhook "sidecar": connection refused');
  cluster.kube.fail((r) => r.verb === 'create' && r.resource === 'pods', refusal, 3);
  await cluster.kube.create(DEPLOYMENTS, deployment(1, 'v1'));
  await cluster.until('event', () =>
    cluster
      .stored<Event>(EVENTS)
      .some((e) => e.reason === 'FailedCreate' && e.message?.includes('failed calling webhook')),
  );
  await cluster.until('rollout', rolledOut);
  assert.equal(
    current().status?.conditions?.some((c) => c.type === 'ReplicaFailure'),
    false,
  );
});

test('a deleted pod is replaced, and a deleted deployment takes everything along', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(1, 'v1'));
  await cluster.until('rollout', rolledOut);
  const first = cluster.pods()[0]!;
  await cluster.kube.delete(PODS, 'foo', first.metadata.name);
  await cluster.until('replacement', () => rolledOut() && cluster.pods()[0]?.metadata.uid !== first.metadata.uid);
  await cluster.kube.delete(DEPLOYMENTS, 'foo', 'web');
  await cluster.until('cascade', () => cluster.stored(REPLICA_SETS).length === 0 && cluster.stored(PODS).length === 0);
});

test('old sets beyond the history limit go', async () => {
  await start();
  await cluster.kube.create(DEPLOYMENTS, deployment(1, 'v1', { revisionHistoryLimit: 1 }));
  for (const image of ['v2', 'v3', 'v4']) {
    await edit({ template: deployment(1, image).spec.template });
    await cluster.until(image, () => rolledOut() && images().join() === image);
  }
  await cluster.until('cleanup', () => cluster.stored(REPLICA_SETS).length === 2);
});
