// StatefulSet, DaemonSet, Job and CronJob on the fake API server with all controllers running.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type FakeCluster, type FakeClusterOptions, startFakeCluster } from '../../../test/fakes/cluster.ts';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { CONTROLLER_REVISIONS } from '../../api/kubernetes/controller-revision.ts';
import { CRON_JOBS, type CronJob } from '../../api/kubernetes/cron-job.ts';
import { DAEMON_SETS, type DaemonSet } from '../../api/kubernetes/daemon-set.ts';
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import { JOBS, type Job } from '../../api/kubernetes/job.ts';
import { NODES, type Node } from '../../api/kubernetes/node.ts';
import { PODS } from '../../api/kubernetes/pod.ts';
import { STATEFUL_SETS, type StatefulSet } from '../../api/kubernetes/stateful-set.ts';

let cluster: FakeCluster;
const start = async (options?: FakeClusterOptions): Promise<FakeCluster> => {
  cluster = await startFakeCluster(options);
  return cluster;
};
afterEach(() => cluster.close());
const template = (image: string) => ({
  metadata: { labels: { app: 'web' } },
  spec: { containers: [{ name: 'web', image }] },
});
const selector = { matchLabels: { app: 'web' } };
const names = (): string[] =>
  cluster
    .pods()
    .map((p) => p.metadata.name)
    .sort();
const images = (): string[] =>
  [...cluster.pods()]
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map((p) => p.spec.containers[0]!.image!);

const statefulSet = (spec: Partial<StatefulSet['spec']> = {}): StatefulSet => ({
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { name: 'db', namespace: 'foo' },
  spec: { replicas: 3, serviceName: 'db', selector, template: template('v1'), ...spec },
});

test('a StatefulSet makes numbered pods in order and updates them from the top', async () => {
  await start();
  await cluster.kube.create(STATEFUL_SETS, statefulSet());
  const set = (): StatefulSet => cluster.stored<StatefulSet>(STATEFUL_SETS)[0]!;
  await cluster.until('pods', () => set().status?.availableReplicas === 3);
  assert.deepEqual(names(), ['db-0', 'db-1', 'db-2']);
  const made = cluster.kube.requests.filter((r) => r.verb === 'create' && r.resource === 'pods' && !r.subresource);
  assert.deepEqual(
    made.map((r) => r.name),
    ['db-0', 'db-1', 'db-2'],
  );
  const second = cluster.pods().find((p) => p.metadata.name === 'db-1')!;
  assert.equal(second.metadata.labels?.['apps.kubernetes.io/pod-index'], '1');
  assert.equal(second.metadata.labels?.['statefulset.kubernetes.io/pod-name'], 'db-1');
  assert.equal(second.spec.hostname, 'db-1');
  assert.equal(second.spec.subdomain, 'db');
  const before = cluster.kube.requests.length;
  const patch = { spec: { template: template('v2'), updateStrategy: { rollingUpdate: { partition: 1 } } } };
  await cluster.kube.patch(STATEFUL_SETS, 'foo', 'db', 'merge', patch);
  await cluster.until('partitioned update', () => images().join() === 'v1,v2,v2' && set().status?.readyReplicas === 3);
  const deleted = cluster.kube.requests
    .slice(before)
    .filter((r) => r.verb === 'delete' && r.resource === 'pods')
    .map((r) => r.name);
  assert.deepEqual([...new Set(deleted)], ['db-2', 'db-1']);
  assert.notEqual(set().status?.currentRevision, set().status?.updateRevision);
  await cluster.kube.patch(STATEFUL_SETS, 'foo', 'db', 'merge', {
    spec: { updateStrategy: { rollingUpdate: { partition: 0 } } },
  });
  await cluster.until(
    'full update',
    () => images().join() === 'v2,v2,v2' && set().status?.currentRevision === set().status?.updateRevision,
  );
  assert.equal(cluster.stored(CONTROLLER_REVISIONS).length, 2);
  await cluster.kube.patch(STATEFUL_SETS, 'foo', 'db', 'merge', { spec: { replicas: 1 } });
  await cluster.until('scaled down', () => names().join() === 'db-0' && set().status?.replicas === 1);
});

test('an ordered StatefulSet waits for the pod before; a parallel one does not', async () => {
  await start({ ready: () => false });
  await cluster.kube.create(STATEFUL_SETS, statefulSet());
  await cluster.kube.create(STATEFUL_SETS, {
    ...statefulSet({
      podManagementPolicy: 'Parallel',
      selector: { matchLabels: { app: 'p' } },
      template: { ...template('v1'), metadata: { labels: { app: 'p' } } },
    }),
    metadata: { name: 'par', namespace: 'foo' },
  });
  await cluster.until('parallel pods', () => names().filter((n) => n.startsWith('par-')).length === 3);
  await cluster.kube.settle();
  assert.deepEqual(
    names().filter((n) => n.startsWith('db-')),
    ['db-0'],
  );
});

test('a StatefulSet that asks for volume claims is refused by name', async () => {
  await start();
  const claim = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name: 'data' } };
  await cluster.kube.create(STATEFUL_SETS, statefulSet({ volumeClaimTemplates: [claim] }));
  await cluster.until('event', () =>
    cluster.stored<Event>(EVENTS).some((e) => e.message?.includes('volumeClaimTemplates')),
  );
  assert.deepEqual(names(), []);
});

test('a DaemonSet runs once on every node that fits and follows its template', async () => {
  const node = (name: string, labels: Record<string, string>): Node => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels },
  });
  await start({ nodes: [node('a', { disk: 'ssd' }), node('b', { disk: 'hdd' })] });
  const daemon: DaemonSet = {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'cni', namespace: 'foo' },
    spec: {
      selector,
      template: { ...template('v1'), spec: { ...template('v1').spec, nodeSelector: { disk: 'ssd' } } },
    },
  };
  await cluster.kube.create(DAEMON_SETS, daemon);
  const status = () => cluster.stored<DaemonSet>(DAEMON_SETS)[0]!.status;
  await cluster.until('pod', () => status()?.numberAvailable === 1);
  assert.deepEqual(
    cluster.pods().map((p) => p.spec.nodeName),
    ['a'],
  );
  await cluster.kube.patch(NODES, undefined, 'b', 'merge', { metadata: { labels: { disk: 'ssd' } } });
  await cluster.until('second node', () => status()?.numberAvailable === 2);
  await cluster.kube.patch(DAEMON_SETS, 'foo', 'cni', 'merge', { spec: { template: { spec: template('v2').spec } } });
  await cluster.until('update', () => images().join() === 'v2,v2' && status()?.updatedNumberScheduled === 2);
});

const job = (spec: Partial<Job['spec']> = {}): Job => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'once', namespace: 'foo' },
  spec: {
    completions: 1,
    parallelism: 1,
    ...spec,
    template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } },
  },
});
const jobStatus = () => cluster.stored<Job>(JOBS)[0]?.status;
const jobCondition = (): string | undefined =>
  jobStatus()
    ?.conditions?.map((c) => `${c.type}:${c.reason}`)
    .join();

test('a Job runs its pods to completion', async () => {
  await start();
  await cluster.kube.create(JOBS, job({ completions: 3, parallelism: 2, completionMode: 'Indexed' }));
  await cluster.until('two at once', () => jobStatus()?.active === 2);
  for (let i = 0; i < 3; i++) {
    await cluster.until('active', () => cluster.pods().some((p) => p.status?.phase === 'Running'));
    await cluster.setPhase(cluster.pods().find((p) => p.status?.phase === 'Running')!, 'Succeeded');
  }
  await cluster.until('complete', () => jobCondition() === 'Complete:CompletionsReached');
  assert.equal(jobStatus()?.succeeded, 3);
  assert.equal(jobStatus()?.completedIndexes, '0-2');
  assert.ok(jobStatus()?.completionTime);
  assert.equal(cluster.pods().length, 3);
});

test('a Job that fails too often ends as failed', async () => {
  await start();
  await cluster.kube.create(JOBS, job({ backoffLimit: 0 }));
  await cluster.until('pod', () => cluster.pods()[0]?.status?.phase === 'Running');
  await cluster.setPhase(cluster.pods()[0]!, 'Failed');
  await cluster.until('failed', () => jobCondition() === 'Failed:BackoffLimitExceeded');
  assert.equal(cluster.stored(PODS, 'foo').length, 1);
});

test('a finished Job is removed with its pods after its time to live', async () => {
  await start();
  await cluster.kube.create(JOBS, job({ ttlSecondsAfterFinished: 0 }));
  await cluster.until('pod', () => cluster.pods()[0]?.status?.phase === 'Running');
  await cluster.setPhase(cluster.pods()[0]!, 'Succeeded');
  await cluster.until('gone', () => cluster.stored(JOBS).length === 0 && cluster.stored(PODS).length === 0);
});

test('a CronJob makes a Job each time and forgets old ones', async () => {
  const clock = createFakeClock(Date.parse('2030-01-01T00:00:30Z'));
  await start({ clock });
  const cron: CronJob = {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: 'tick', namespace: 'foo' },
    spec: { schedule: '*/5 * * * *', successfulJobsHistoryLimit: 1, jobTemplate: { spec: job().spec } },
  };
  await cluster.kube.create(CRON_JOBS, cron);
  await cluster.kube.settle();
  assert.equal(cluster.stored(JOBS).length, 0);
  for (let i = 1; i <= 3; i++) {
    await clock.advance(5 * 60_000);
    await cluster.until(`job ${i}`, () => cluster.pods().some((p) => p.status?.phase === 'Running'));
    await cluster.setPhase(cluster.pods().find((p) => p.status?.phase === 'Running')!, 'Succeeded');
    await cluster.until(`job ${i} ends`, () => cluster.stored<Job>(JOBS).every((j) => j.status?.completionTime));
  }
  await cluster.until('history', () => cluster.stored(JOBS).length === 1);
  const status = cluster.stored<CronJob>(CRON_JOBS)[0]!.status;
  assert.equal(status?.lastScheduleTime, '2030-01-01T00:15:00Z');
  assert.deepEqual(status?.active, []);
});
