// Informer and work queue on the in-memory server and a clock of our own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube, type FakeKube } from '../../../test/fakes/kube-client.ts';
import { silentLog } from '../runtime/log.ts';
import { createInformer } from './informer.ts';
import { KubeError, type KubeObject, type ResourceType } from './types.ts';
import { createWorkQueue } from './work-queue.ts';

const MAPS: ResourceType = { group: '', version: 'v1', resource: 'configmaps', kind: 'ConfigMap', namespaced: true };
interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}
const map = (name: string, value = '1', labels?: Record<string, string>): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'foo', labels },
  data: { value },
});
const change = (kube: FakeKube, name: string, value: string): Promise<ConfigMap> =>
  kube.patch<ConfigMap>(MAPS, 'foo', name, 'merge', { data: { value } });

function follow(kube: FakeKube, options: { readonly labelSelector?: string } = {}) {
  const clock = createFakeClock(0);
  const informer = createInformer<ConfigMap>(kube, MAPS, { ...options, clock, log: silentLog, random: () => 0.5 });
  const seen: string[] = [];
  informer.onChange((c) => {
    seen.push(`${c.kind} ${c.object.metadata.name}=${c.object.data?.value}`);
  });
  return { clock, informer, seen };
}

test('lists, then follows', async () => {
  const kube = createFakeKube({ objects: [{ type: MAPS, object: map('a') }] });
  const { informer, seen } = follow(kube);
  await informer.synced;
  await kube.create(MAPS, map('b'));
  await change(kube, 'a', '2');
  await kube.delete(MAPS, 'foo', 'b');
  await kube.settle();
  assert.deepEqual(seen, ['added a=1', 'added b=1', 'updated a=2', 'deleted b=1']);
  assert.equal(informer.get('foo', 'a')?.data?.value, '2');
  assert.equal(informer.get('foo', 'b'), undefined);
  assert.deepEqual([informer.list().length, informer.list('foo').length, informer.list('bar').length], [1, 1, 0]);
  const late: string[] = [];
  informer.onChange((c) => void late.push(`${c.kind} ${c.object.metadata.name}`));
  assert.deepEqual(late, ['added a']);
  informer.close();
  await change(kube, 'a', '3');
  await kube.settle();
  assert.equal(seen.length, 4);
});

test('what changed while the watch was down is seen after a relist, deletions too', async () => {
  const kube = createFakeKube({ objects: [map('a'), map('b'), map('c')].map((object) => ({ type: MAPS, object })) });
  const { clock, informer, seen } = follow(kube);
  await informer.synced;
  await kube.settle();
  seen.length = 0;
  kube.fail((r) => r.verb === 'list' || r.verb === 'watch', new KubeError(0, 'Unreachable', 'down'), 3);
  kube.breakWatches(new KubeError(0, 'Unreachable', 'reset'));
  await kube.settle();
  await change(kube, 'a', '2');
  await kube.delete(MAPS, 'foo', 'b');
  await kube.delete(MAPS, 'foo', 'c');
  await kube.create(MAPS, map('c', 'new'));
  kube.compact();
  await clock.advance(60_000);
  await kube.settle();
  assert.deepEqual(seen.toSorted(), ['added c=new', 'deleted b=1', 'deleted c=1', 'updated a=2']);
  assert.equal(seen.indexOf('deleted c=1') < seen.indexOf('added c=new'), true);
  await change(kube, 'a', '3');
  await kube.settle();
  assert.equal(seen.at(-1), 'updated a=3');
  informer.close();
});

test('a watch that ends continues where it was, without a new list', async () => {
  const kube = createFakeKube();
  const { clock, informer, seen } = follow(kube);
  await informer.synced;
  await kube.create(MAPS, map('a'));
  await kube.settle();
  kube.breakWatches();
  await kube.create(MAPS, map('b'));
  await clock.advance(1_000);
  await kube.settle();
  assert.deepEqual(seen, ['added a=1', 'added b=1']);
  assert.equal(kube.requests.filter((r) => r.verb === 'list').length, 1);
  informer.close();
});

test('leaving the label selection is a deletion', async () => {
  const kube = createFakeKube({
    objects: [
      { type: MAPS, object: map('a', '1', { mine: 'yes' }) },
      { type: MAPS, object: map('b') },
    ],
  });
  const { informer, seen } = follow(kube, { labelSelector: 'mine=yes' });
  await informer.synced;
  await kube.settle();
  await kube.patch(MAPS, 'foo', 'a', 'merge', { metadata: { labels: { mine: 'no' } } });
  await kube.settle();
  assert.deepEqual(seen, ['added a=1', 'deleted a=1']);
  informer.close();
});

test('a handler that throws does not keep the others from the change', async () => {
  const kube = createFakeKube();
  const { informer, seen } = follow(kube);
  informer.onChange(() => {
    throw new Error('broken');
  });
  const after: string[] = [];
  informer.onChange((c) => void after.push(c.kind));
  await informer.synced;
  await kube.create(MAPS, map('a'));
  await kube.settle();
  assert.deepEqual([seen, after], [['added a=1'], ['added']]);
  informer.close();
});

test('the queue merges equal keys, never runs one twice at once, and retries with growing waits', async () => {
  const clock = createFakeClock(0);
  const runs: string[] = [];
  let active = 0;
  let fail = 3;
  const gate = Promise.withResolvers<void>();
  const queue = createWorkQueue({
    name: 'test',
    clock,
    log: silentLog,
    random: () => 0.5,
    async run(key) {
      active += 1;
      assert.equal(active, 1);
      runs.push(`${key}@${clock.now()}`);
      if (key === 'slow') await gate.promise;
      active -= 1;
      if (key === 'bad' && fail-- > 0) throw new Error('no');
    },
  });
  for (let i = 0; i < 5; i++) queue.add('slow');
  await clock.advance(0);
  queue.add('slow');
  queue.add('slow');
  gate.resolve();
  await clock.advance(0);
  assert.deepEqual(runs, ['slow@0', 'slow@0']);
  queue.add('bad');
  await clock.advance(1_000);
  assert.deepEqual(runs.slice(2), ['bad@0', 'bad@5', 'bad@15', 'bad@35']);
  queue.addAfter('later', 500);
  queue.addAfter('later', 900);
  await clock.advance(2_000);
  assert.deepEqual(runs.slice(6), ['later@1500']);
  queue.addAfter('never', 10);
  queue.close();
  await clock.advance(100);
  assert.equal(runs.length, 7);
});
