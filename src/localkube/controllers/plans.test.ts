// The pure decisions: rolling updates under any sizes, scale, progress deadline, jobs, daemon sets, pods to remove first.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Deployment } from '../../api/kubernetes/deployment.ts';
import type { Job } from '../../api/kubernetes/job.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { sortClaims } from './children.ts';
import {
  findNewSet,
  newSetAnnotations,
  planCleanup,
  planRolling,
  planScale,
  revisionOf,
  rollingLimits,
  templateHash,
} from './deployment-plan.ts';
import { deploymentStatus } from './deployment-status.ts';
import { formatIndexes, parseIndexes, planJob, ttl, unsupportedField } from './job-plan.ts';
import { byDeletionOrder, intOrPercent } from './pods.ts';

const template = (image: string) => ({
  metadata: { labels: { app: 'w' } },
  spec: { containers: [{ name: 'c', image }] },
});
const deployment = (spec: Partial<Deployment['spec']> = {}, status?: Deployment['status']): Deployment => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'w', namespace: 'foo', uid: 'd', generation: 2 },
  spec: { replicas: 3, selector: { matchLabels: { app: 'w' } }, template: template('v2'), ...spec },
  status,
});
const set = (
  name: string,
  replicas: number,
  available: number,
  more: { image?: string; revision?: number; max?: number; created?: string } = {},
): ReplicaSet => ({
  apiVersion: 'apps/v1',
  kind: 'ReplicaSet',
  metadata: {
    name,
    namespace: 'foo',
    uid: name,
    creationTimestamp: more.created ?? '2030-01-01T00:00:00Z',
    annotations: {
      'deployment.kubernetes.io/revision': String(more.revision ?? 1),
      ...(more.max === undefined ? {} : { 'deployment.kubernetes.io/max-replicas': String(more.max) }),
    },
  },
  spec: { replicas, selector: {}, template: template(more.image ?? name) },
  status: { replicas, readyReplicas: available, availableReplicas: available },
});
const sizes = (scales: readonly { readonly set: ReplicaSet; readonly replicas: number }[]): string =>
  scales.map((s) => `${s.set.metadata.name}:${s.replicas}`).join();

test('a rolling update of any size keeps its limits at every step and ends', () => {
  const amount = fc.oneof(
    fc.nat(8),
    fc.nat(100).map((n) => `${n}%`),
  );
  fc.assert(
    fc.property(
      fc.nat(12),
      amount,
      amount,
      fc.array(fc.nat(6), { maxLength: 3 }),
      fc.infiniteStream(fc.boolean()),
      (replicas, maxSurge, maxUnavailable, oldSizes, coins) => {
        const d = deployment({ replicas, strategy: { rollingUpdate: { maxSurge, maxUnavailable } } });
        const limits = rollingLimits(d);
        let now = set('new', 0, 0);
        let old = oldSizes.map((n, i) => set(`old${i}`, n, n));
        const start = oldSizes.reduce((a, b) => a + b, 0);
        for (let step = 0; step < 200; step++) {
          const scales = planRolling(d, now, old);
          const next = (s: ReplicaSet): ReplicaSet => {
            const wanted = scales.find((x) => x.set === s)?.replicas ?? s.spec.replicas!;
            // Some of the new pods become ready before the next look; the last ones always do in the end.
            const ready = Math.min(
              wanted,
              (s.status?.availableReplicas ?? 0) + (step > 100 || coins.next().value ? 1 : 0),
            );
            return set(
              s.metadata.name,
              wanted,
              Math.min(wanted, s.metadata.name === 'new' ? ready : (s.status?.availableReplicas ?? 0)),
            );
          };
          now = next(now);
          old = old.map(next);
          const all = [now, ...old];
          const total = all.reduce((n, s) => n + s.spec.replicas!, 0);
          const available = all.reduce((n, s) => n + s.status!.availableReplicas!, 0);
          assert.ok(total <= Math.max(start, limits.replicas + limits.maxSurge), `total ${total}`);
          assert.ok(available >= Math.min(start, limits.replicas - limits.maxUnavailable), `available ${available}`);
        }
        assert.equal(now.spec.replicas, replicas);
        assert.deepEqual(
          old.filter((s) => s.spec.replicas !== 0),
          [],
        );
      },
    ),
    { numRuns: 150 },
  );
});

test('limits', () => {
  const limits = (maxSurge: number | string | undefined, maxUnavailable: number | string | undefined, replicas = 10) =>
    rollingLimits(deployment({ replicas, strategy: { rollingUpdate: { maxSurge, maxUnavailable } } }));
  assert.deepEqual(limits(undefined, undefined), { replicas: 10, maxSurge: 3, maxUnavailable: 2 });
  assert.deepEqual(limits(0, 0), { replicas: 10, maxSurge: 0, maxUnavailable: 1 });
  assert.deepEqual(limits(1, '100%', 3), { replicas: 3, maxSurge: 1, maxUnavailable: 3 });
  assert.equal(intOrPercent('nonsense', 10, 'up', '25%'), 3);
});

test('the new set is found by template whatever the key order, and rollback gives it the newest revision', () => {
  const reordered = { spec: { containers: [{ image: 'v2', name: 'c' }] }, metadata: { labels: { app: 'w' } } };
  assert.equal(templateHash(reordered), templateHash(template('v2')));
  assert.notEqual(templateHash(template('v1')), templateHash(template('v2')));
  const sets = [set('a', 0, 0, { image: 'v1', revision: 2 }), set('b', 0, 0, { image: 'v2', revision: 1 })];
  const found = findNewSet(deployment(), sets)!;
  assert.equal(found.metadata.name, 'b');
  const annotations = newSetAnnotations(deployment(), found, [sets[0]!]);
  assert.equal(revisionOf({ metadata: { annotations } }), 3);
  assert.equal(annotations['deployment.kubernetes.io/revision-history'], '1');
});

test('scaling in the middle of a rollout keeps the proportions', () => {
  const d = deployment({ replicas: 20, strategy: { rollingUpdate: { maxSurge: 2, maxUnavailable: 0 } } });
  assert.equal(sizes(planScale(d, set('new', 4, 4, { max: 12 }), [set('old', 8, 8, { max: 12 })])), 'old:15,new:7');
  assert.equal(sizes(planScale(d, undefined, [set('old', 8, 8)])), 'old:20');
  assert.equal(sizes(planScale(deployment({ replicas: 0 }), set('new', 2, 2), [set('old', 2, 2)])), 'new:0,old:0');
});

test('cleanup keeps what is in use and the newest of the history', () => {
  const old = [set('a', 0, 0, { revision: 1 }), set('b', 0, 0, { revision: 2 }), set('c', 1, 1, { revision: 3 })];
  assert.deepEqual(
    planCleanup(deployment({ revisionHistoryLimit: 1 }), old).map((s) => s.metadata.name),
    ['a', 'b'],
  );
  assert.deepEqual(
    planCleanup(deployment({ revisionHistoryLimit: 2 }), old).map((s) => s.metadata.name),
    ['a'],
  );
  assert.deepEqual(planCleanup(deployment(), old), []);
});

test('a rollout that does not move passes its deadline, and recovers when it moves', () => {
  const d = deployment({ progressDeadlineSeconds: 60 });
  const t0 = Date.parse('2030-01-01T00:00:00Z');
  const look = (status: Deployment['status'], available: number, now: number) => {
    const newSet = set('new', 3, available);
    return deploymentStatus({ deployment: { ...d, status }, newSet, all: [newSet], createdNewSet: false, now });
  };
  const reason = (r: ReturnType<typeof look>): string | undefined =>
    r.status.conditions?.find((c) => c.type === 'Progressing')?.reason;
  const first = look(undefined, 0, t0);
  assert.equal(reason(first), 'ReplicaSetUpdated');
  assert.equal(first.againMs, 61_000);
  const early = look(first.status, 0, t0 + 30_000);
  assert.deepEqual([reason(early), early.againMs], ['ReplicaSetUpdated', 31_000]);
  const late = look(early.status, 0, t0 + 61_000);
  assert.equal(reason(late), 'ProgressDeadlineExceeded');
  assert.equal(reason(look(late.status, 1, t0 + 62_000)), 'ReplicaSetUpdated');
  assert.equal(reason(look(late.status, 3, t0 + 63_000)), 'NewReplicaSetAvailable');
});

test('claims: what matches and is free is adopted, what no longer matches is released', () => {
  const owner = deployment();
  const child = (name: string, app: string, controller?: string): Pod => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      labels: { app },
      ...(controller
        ? { ownerReferences: [{ apiVersion: 'v1', kind: 'X', name: 'x', uid: controller, controller: true }] }
        : {}),
    },
    spec: { containers: [] },
  });
  const claims = sortClaims(owner, owner.spec.selector, [
    child('mine', 'w', 'd'),
    child('left', 'other', 'd'),
    child('free', 'w'),
    child('theirs', 'w', 'e'),
    child('no', 'x'),
  ]);
  const names = (list: readonly Pod[]): string => list.map((p) => p.metadata.name).join();
  assert.deepEqual([names(claims.mine), names(claims.adopt), names(claims.release)], ['mine', 'free', 'left']);
});

test('pods that are missed least go first', () => {
  const pod = (
    name: string,
    nodeName: string | undefined,
    ready: boolean,
    more: { cost?: string; created?: string } = {},
  ): Pod => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      creationTimestamp: more.created ?? '2030-01-01T00:00:00Z',
      annotations: more.cost ? { 'controller.kubernetes.io/pod-deletion-cost': more.cost } : {},
    },
    spec: { containers: [], nodeName },
    status: {
      phase: nodeName ? 'Running' : 'Pending',
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  });
  const order = [
    pod('ready', 'n', true),
    pod('dear', 'n', true, { cost: '5' }),
    pod('young', 'n', true, { created: '2030-01-02T00:00:00Z' }),
    pod('sick', 'n', false),
    pod('unbound', undefined, false),
  ];
  assert.deepEqual(
    order.toSorted(byDeletionOrder).map((p) => p.metadata.name),
    ['unbound', 'sick', 'young', 'ready', 'dear'],
  );
});

const job = (spec: Partial<Job['spec']>, status?: Job['status']): Job => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name: 'j', namespace: 'foo', uid: 'j' },
  spec: { parallelism: 1, completions: 1, template: template('x'), ...spec },
  status,
});
const jobPod = (phase: 'Running' | 'Failed' | 'Succeeded', finishedAt?: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p' },
  spec: { containers: [] },
  status: {
    phase,
    containerStatuses: finishedAt
      ? [
          {
            name: 'c',
            ready: false,
            restartCount: 0,
            image: '',
            imageID: '',
            state: { terminated: { exitCode: 1, finishedAt } },
          },
        ]
      : [],
  },
});

test('a failed job pod is tried again after a growing wait', () => {
  const now = Date.parse('2030-01-01T00:00:05Z');
  const once = planJob({ job: job({}), pods: [jobPod('Failed', '2030-01-01T00:00:00Z')], now });
  assert.deepEqual([once.create.length, once.againMs], [0, 5_000]);
  const twice = [jobPod('Failed', '2030-01-01T00:00:00Z'), jobPod('Failed', '2030-01-01T00:00:00Z')];
  assert.equal(planJob({ job: job({}), pods: twice, now }).againMs, 15_000);
  assert.equal(planJob({ job: job({}), pods: twice, now: now + 15_000 }).create.length, 1);
});

test('deadline, suspension, work queues, time to live, unsupported fields', () => {
  const now = Date.parse('2030-01-01T00:01:00Z');
  const started = { startTime: '2030-01-01T00:00:00Z' };
  const late = planJob({ job: job({ activeDeadlineSeconds: 60 }, started), pods: [jobPod('Running')], now });
  assert.deepEqual([late.ended?.reason, late.remove.length], ['DeadlineExceeded', 1]);
  const early = planJob({ job: job({ activeDeadlineSeconds: 90 }, started), pods: [jobPod('Running')], now });
  assert.deepEqual([early.ended, early.againMs], [undefined, 30_001]);
  const asleep = planJob({ job: job({ suspend: true }), pods: [jobPod('Running')], now });
  assert.deepEqual(
    [asleep.remove.length, asleep.status.conditions?.[0]?.reason, asleep.status.startTime],
    [1, 'JobSuspended', undefined],
  );
  const woken = planJob({ job: job({}, asleep.status), pods: [], now });
  assert.equal(woken.status.conditions?.[0]?.reason, 'JobResumed');
  const queue = job({ completions: undefined, parallelism: 3 });
  assert.equal(planJob({ job: queue, pods: [], now }).create.length, 3);
  assert.equal(planJob({ job: queue, pods: [jobPod('Succeeded'), jobPod('Running')], now }).create.length, 0);
  assert.equal(planJob({ job: queue, pods: [jobPod('Succeeded')], now }).ended?.type, 'Complete');
  const done = job(
    { ttlSecondsAfterFinished: 10 },
    { completionTime: '2030-01-01T00:00:55Z', conditions: [{ type: 'Complete', status: 'True' }] },
  );
  assert.equal(ttl(done, now), 5_000);
  assert.equal(
    unsupportedField({ ...done, spec: { ...done.spec, podFailurePolicy: {} } as Job['spec'] }),
    'podFailurePolicy',
  );
  assert.equal(formatIndexes([5, 0, 1, 2, 7]), '0-2,5,7');
  assert.deepEqual(parseIndexes('0-2,5'), [0, 1, 2, 5]);
});
