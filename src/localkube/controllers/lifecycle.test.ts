// Namespaces, service accounts, scheduling and garbage collection on the fake API server.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { type FakeCluster, type FakeClusterOptions, startFakeCluster } from '../../../test/fakes/cluster.ts';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube } from '../../../test/fakes/kube-client.ts';
import { CONFIG_MAPS, type ConfigMap } from '../../api/kubernetes/config-map.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from '../../api/kubernetes/custom-resource-definition.ts';
import { DEPLOYMENTS, type Deployment } from '../../api/kubernetes/deployment.ts';
import { EVENTS, type Event } from '../../api/kubernetes/event.ts';
import { NAMESPACES, type Namespace } from '../../api/kubernetes/namespace.ts';
import { NODES } from '../../api/kubernetes/node.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { REPLICA_SETS } from '../../api/kubernetes/replica-set.ts';
import { SERVICE_ACCOUNTS } from '../../api/kubernetes/service-account.ts';
import type { KubeObject, ObjectMeta, ResourceType } from '../../base/kube/types.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { createEventRecorder } from './events.ts';
import { lostPods } from './pod-gc.ts';

let cluster: FakeCluster | undefined;
const start = async (options?: FakeClusterOptions): Promise<FakeCluster> => {
  cluster = await startFakeCluster(options);
  return cluster;
};
afterEach(() => {
  cluster?.close();
  cluster = undefined;
});

const WIDGETS: ResourceType = {
  group: 'example.com',
  version: 'v1',
  resource: 'widgets',
  kind: 'Widget',
  namespaced: true,
};
const widget = (metadata: Partial<ObjectMeta> & { readonly name: string }): KubeObject => ({
  apiVersion: 'example.com/v1',
  kind: 'Widget',
  metadata: { namespace: 'foo', ...metadata },
});
const map = (name: string, owners: readonly KubeObject[], block = false): ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: {
    name,
    namespace: 'foo',
    ownerReferences: owners.map((o) => ({
      apiVersion: o.apiVersion,
      kind: o.kind,
      name: o.metadata.name,
      uid: o.metadata.uid!,
      blockOwnerDeletion: block,
    })),
  },
});
const deployment: Deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'foo' },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'web' } },
    template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
  },
};
const simplePod = (name: string, spec: Partial<Pod['spec']> = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'foo' },
  spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
});

test('every namespace has a default account and the CA, and gets them back', async () => {
  const c = await start();
  const complete = (ns: string): boolean =>
    c.stored(SERVICE_ACCOUNTS, ns).some((a) => a.metadata.name === 'default') &&
    c
      .stored<ConfigMap>(CONFIG_MAPS, ns)
      .some((m) => m.metadata.name === 'kube-root-ca.crt' && m.data?.['ca.crt'] === 'CA');
  await c.until('foo', () => complete('foo'));
  await c.kube.delete(SERVICE_ACCOUNTS, 'foo', 'default');
  await c.kube.patch(CONFIG_MAPS, 'foo', 'kube-root-ca.crt', 'merge', { data: { 'ca.crt': 'changed' } });
  await c.until('repaired', () => complete('foo'));
  await c.kube.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bar' } });
  await c.until('bar', () => complete('bar'));
});

test('a deleted namespace takes everything along, custom resources too, and waits for finalizers', async () => {
  const c = await start({ types: [WIDGETS] });
  await c.kube.create(DEPLOYMENTS, deployment);
  await c.kube.create(WIDGETS, widget({ name: 'held', finalizers: ['example.com/hold'] }));
  await c.until('pods', () => c.pods().length === 2);
  await c.kube.delete(NAMESPACES, undefined, 'foo');
  const namespace = (): Namespace | undefined => c.stored<Namespace>(NAMESPACES).find((n) => n.metadata.name === 'foo');
  await c.until(
    'reason',
    () => namespace()?.status?.conditions?.some((x) => x.message?.includes('example.com/hold in 1')) ?? false,
  );
  await c.kube.patch(WIDGETS, 'foo', 'held', 'merge', { metadata: { finalizers: [] } });
  await c.until('gone', () => namespace() === undefined);
  for (const type of [DEPLOYMENTS, REPLICA_SETS, PODS, CONFIG_MAPS, SERVICE_ACCOUNTS, WIDGETS])
    assert.deepEqual(c.stored(type, 'foo'), [], type.resource);
});

test('what loses its last owner is collected; what keeps one only loses the reference', async () => {
  const c = await start({ types: [WIDGETS] });
  const a = await c.kube.create(WIDGETS, widget({ name: 'a' }));
  const b = await c.kube.create(WIDGETS, widget({ name: 'b' }));
  await c.kube.create(CONFIG_MAPS, map('one', [a]));
  await c.kube.create(CONFIG_MAPS, map('two', [a, b]));
  await c.kube.create(CONFIG_MAPS, map('free', []));
  await c.kube.settle();
  await c.kube.delete(WIDGETS, 'foo', 'a');
  const names = (): string[] =>
    c
      .stored(CONFIG_MAPS, 'foo')
      .map((m) => m.metadata.name)
      .filter((n) => n !== 'kube-root-ca.crt')
      .sort();
  await c.until('one is gone', () => names().join() === 'free,two');
  await c.until(
    'reference',
    () => c.stored(CONFIG_MAPS, 'foo').find((m) => m.metadata.name === 'two')?.metadata.ownerReferences?.length === 1,
  );
  // Made when its owner is gone already.
  await c.kube.create(CONFIG_MAPS, map('late', [a]));
  await c.until('late is gone', () => names().join() === 'free,two');
});

test('foreground deletion waits for dependents, orphaning leaves them', async () => {
  const c = await start({ types: [WIDGETS] });
  await c.kube.settle();
  const a = await c.kube.create(WIDGETS, widget({ name: 'a' }));
  await c.kube.create(CONFIG_MAPS, {
    ...map('dep', [a], true),
    metadata: { ...map('dep', [a], true).metadata, finalizers: ['x/hold'] },
  });
  await c.kube.delete(WIDGETS, 'foo', 'a', { propagationPolicy: 'Foreground' });
  const dep = (): KubeObject | undefined => c.stored(CONFIG_MAPS, 'foo').find((m) => m.metadata.name === 'dep');
  await c.until('dependent marked', () => dep()?.metadata.deletionTimestamp !== undefined);
  assert.equal(c.stored(WIDGETS).length, 1);
  await c.kube.patch(CONFIG_MAPS, 'foo', 'dep', 'merge', { metadata: { finalizers: [] } });
  await c.until('both gone', () => dep() === undefined && c.stored(WIDGETS).length === 0);

  await c.kube.create(DEPLOYMENTS, deployment);
  await c.until('pods', () => c.pods().length === 2);
  await c.kube.delete(DEPLOYMENTS, 'foo', 'web', { propagationPolicy: 'Orphan' });
  await c.until('orphaned', () => c.stored(DEPLOYMENTS).length === 0);
  await c.kube.settle();
  assert.equal(c.pods().length, 2);
  const before = c.stored(REPLICA_SETS)[0]!;
  assert.deepEqual(before.metadata.ownerReferences ?? [], []);
  await c.kube.create(DEPLOYMENTS, deployment);
  await c.until('adopted', () => c.stored(REPLICA_SETS)[0]?.metadata.ownerReferences?.length === 1);
  assert.equal(c.stored(REPLICA_SETS).length, 1);
  assert.equal(c.pods().length, 2);
});

test('a kind that arrives later is collected too', async () => {
  const types: ResourceType[] = [];
  const c = await start({ types });
  await c.kube.settle();
  c.addType(WIDGETS);
  const crd = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'widgets.example.com' },
  };
  await c.kube.create(CUSTOM_RESOURCE_DEFINITIONS, crd);
  const a = await c.kube.create(WIDGETS, widget({ name: 'a' }));
  await c.kube.create(WIDGETS, { ...widget({ name: 'b' }), metadata: { ...map('b', [a]).metadata } });
  await c.kube.delete(WIDGETS, 'foo', 'a');
  await c.until('b is gone', () => c.stored(WIDGETS).length === 0);
});

test('pods are bound to a node that fits, or told why not', async () => {
  const c = await start();
  await c.kube.create(PODS, simplePod('fits', { nodeSelector: { disk: 'ssd' } }));
  await c.kube.create(PODS, simplePod('nowhere', { nodeSelector: { disk: 'tape' } }));
  const pod = (name: string): Pod => c.stored<Pod>(PODS).find((p) => p.metadata.name === name)!;
  await c.until('bound', () => pod('fits').spec.nodeName === 'node-1');
  await c.until('reason', () => pod('nowhere').status?.conditions?.[0]?.reason === 'Unschedulable');
  assert.equal(
    pod('nowhere').status?.conditions?.[0]?.message,
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
  );
  await c.until('events', () =>
    ['Scheduled', 'FailedScheduling'].every((r) => c.stored<Event>(EVENTS).some((e) => e.reason === r)),
  );
  await c.kube.patch(NODES, undefined, 'node-1', 'merge', { metadata: { labels: { disk: 'tape' } } });
  await c.until('bound later', () => pod('nowhere').spec.nodeName === 'node-1');
});

test('pods of a node that is gone are lost', () => {
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'here' } };
  const pods = [simplePod('a', { nodeName: 'here' }), simplePod('b', { nodeName: 'gone' }), simplePod('c')];
  assert.deepEqual(
    lostPods(pods, [node]).map((p) => p.metadata.name),
    ['b'],
  );
  assert.deepEqual(lostPods(pods, []), []);
});

test('equal events are counted, and one object cannot flood the log', async () => {
  const kube = createFakeKube();
  const recorder = createEventRecorder(kube, {
    component: 'test',
    clock: createFakeClock(0),
    log: silentLog,
    random: () => 0.5,
  });
  const about = simplePod('a');
  for (let i = 0; i < 3; i++) recorder.record(about, 'Normal', 'Pulled', 'again');
  await kube.settle();
  recorder.record(about, 'Normal', 'Pulled', 'again');
  await kube.settle();
  assert.deepEqual(
    kube.stored<Event>(EVENTS).map((e) => [e.reason, e.count, e.involvedObject.name]),
    [['Pulled', 4, 'a']],
  );
  for (let i = 0; i < 100; i++) recorder.record(about, 'Warning', 'Different', `number ${i}`);
  await kube.settle();
  assert.equal(kube.stored(EVENTS).length, 1 + 21);
});

test('pods that refuse each other are not put together, and those that want company follow it', async () => {
  const c = await start();
  const web = (name: string, spec: Partial<Pod['spec']> = {}): Pod => ({
    ...simplePod(name, spec),
    metadata: { name, namespace: 'foo', labels: { app: 'web' } },
  });
  const rule = {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey: 'disk', labelSelector: { matchLabels: { app: 'web' } } },
    ],
  };
  const alone = { affinity: { podAntiAffinity: rule } };
  const pod = (name: string): Pod | undefined => c.stored<Pod>(PODS).find((p) => p.metadata.name === name);
  const message = (name: string): string | undefined => pod(name)?.status?.conditions?.[0]?.message;
  await c.kube.create(PODS, simplePod('friend', { affinity: { podAffinity: rule } }));
  await c.until('waits', () => message('friend')?.includes("didn't match pod affinity rules") ?? false);
  await Promise.all([c.kube.create(PODS, web('one', alone)), c.kube.create(PODS, web('two', alone))]);
  await c.until('one bound', () => pod('one')?.spec.nodeName !== undefined);
  await c.until('two refused', () => message('two')?.includes("didn't match pod anti-affinity rules") ?? false);
  await c.until('friend bound', () => pod('friend')?.spec.nodeName !== undefined);
  await c.kube.create(PODS, web('plain'));
  await c.until('plain refused', () => message('plain')?.includes('existing pods anti-affinity') ?? false);
  await c.kube.delete(PODS, 'foo', 'one');
  await c.until(
    'the next one is bound',
    () => pod('two')?.spec.nodeName !== undefined || pod('plain')?.spec.nodeName !== undefined,
  );
});
