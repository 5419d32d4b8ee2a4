// Apply order, waiting for CRDs, and leader election.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube, type FakeKube } from '../../../test/fakes/kube-client.ts';
import { silentLog } from '../runtime/log.ts';
import { applyManifests } from './apply.ts';
import { createTypeResolver } from './discovery.ts';
import { startLeaderElection } from './lease.ts';
import { KubeError, type KubeObject, type ResourceType } from './types.ts';

const core = (resource: string, kind: string, namespaced: boolean): ResourceType => ({
  group: '',
  version: 'v1',
  resource,
  kind,
  namespaced,
});
const CRDS: ResourceType = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  resource: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false,
};
const TYPES = [
  core('namespaces', 'Namespace', false),
  core('configmaps', 'ConfigMap', true),
  CRDS,
  { ...core('mutatingwebhookconfigurations', 'MutatingWebhookConfiguration', false) },
  { ...core('widgets', 'Widget', true) },
];
const typeOf = async (_: string, kind: string): Promise<ResourceType | undefined> => TYPES.find((t) => t.kind === kind);
const object = (kind: string, name: string): KubeObject => ({ apiVersion: 'v1', kind, metadata: { name } });

test('namespaces come first, webhooks last, and CRDs are waited for', async () => {
  const kube = createFakeKube();
  const clock = createFakeClock(0);
  const manifests = [
    object('MutatingWebhookConfiguration', 'hook'),
    object('Widget', 'w'),
    object('CustomResourceDefinition', 'widgets'),
    object('ConfigMap', 'c'),
    object('Namespace', 'foo'),
  ];
  const done = applyManifests(kube, manifests, { fieldManager: 'test', namespace: 'foo', typeOf, clock });
  await kube.settle();
  assert.deepEqual(
    kube.requests.filter((r) => r.verb === 'patch').map((r) => r.name),
    ['foo', 'widgets'],
  );
  await kube.patch(
    CRDS,
    undefined,
    'widgets',
    'merge',
    { status: { conditions: [{ type: 'Established', status: 'True' }] } },
    { subresource: 'status' },
  );
  const applied = await done;
  assert.deepEqual(
    applied.map((o) => o.metadata.name),
    ['foo', 'widgets', 'c', 'w', 'hook'],
  );
  assert.equal(applied[3]!.metadata.namespace, 'foo');
});

test('a CRD that is never served, a refusal, and an unknown kind are told with their names', async () => {
  const kube = createFakeKube();
  const clock = createFakeClock(0);
  const options = { fieldManager: 'test', typeOf, clock };
  const waiting = assert.rejects(
    applyManifests(kube, [object('CustomResourceDefinition', 'widgets')], options),
    /CRD widgets was not established within 30 s/,
  );
  await kube.settle();
  await clock.advance(31_000);
  await waiting;
  kube.fail((r) => r.verb === 'patch', new KubeError(403, 'Forbidden', 'not allowed'));
  await assert.rejects(
    applyManifests(kube, [object('ConfigMap', 'c')], options),
    (error: KubeError) => error.code === 403 && /ConfigMap "c" in namespace default: not allowed/.test(error.message),
  );
  await assert.rejects(applyManifests(kube, [object('Gadget', 'g')], options), /no kind Gadget in v1/);
});

test('the resolver reads a document again for a kind it does not know', async () => {
  const resources = [
    { name: 'configmaps', kind: 'ConfigMap', namespaced: true },
    { name: 'pods/log', kind: 'Pod', namespaced: true },
  ];
  let reads = 0;
  const resolver = createTypeResolver(async <T>(path: string): Promise<T> => {
    reads += 1;
    if (path !== '/api/v1') throw new KubeError(404, 'NotFound', path);
    return { resources } as T;
  });
  assert.deepEqual(await resolver.typeOf('v1', 'ConfigMap'), core('configmaps', 'ConfigMap', true));
  await resolver.typeOf('v1', 'ConfigMap');
  assert.equal(reads, 1);
  assert.equal(await resolver.typeOf('v1', 'Pod'), undefined);
  resources.push({ name: 'pods', kind: 'Pod', namespaced: true });
  assert.equal((await resolver.typeOf('v1', 'Pod'))?.resource, 'pods');
  assert.equal(await resolver.typeOf('nosuch/v1', 'X'), undefined);
});

function candidate(kube: FakeKube, clock: ReturnType<typeof createFakeClock>, identity: string) {
  const log: string[] = [];
  const election = startLeaderElection({
    client: kube,
    namespace: 'foo',
    name: 'lock',
    identity,
    clock,
    log: silentLog,
    random: () => 0.5,
    onLeading(signal) {
      log.push('start');
      signal.addEventListener('abort', () => log.push('stop'));
    },
  });
  return { election, log };
}

test('one leads, the other takes over when it is released or not renewed', async () => {
  const kube = createFakeKube();
  const clock = createFakeClock(0);
  const a = candidate(kube, clock, 'a');
  await clock.advance(100);
  const b = candidate(kube, clock, 'b');
  await clock.advance(60_000);
  assert.deepEqual([a.election.isLeader(), b.election.isLeader()], [true, false]);
  // `a` is cut off: it must stop before `b` starts.
  let cut = true;
  kube.fail((r) => r.verb === 'update' && cut, new KubeError(0, 'Unreachable', 'cut'), 6);
  await clock.advance(11_900);
  cut = false;
  assert.deepEqual(a.log, ['start', 'stop']);
  assert.deepEqual(b.log, []);
  await a.election.close();
  await clock.advance(20_000);
  assert.deepEqual(b.log, ['start']);
  const closing = b.election.close();
  await clock.advance(2_000);
  await closing;
  assert.deepEqual(b.log, ['start', 'stop']);
  const c = candidate(kube, clock, 'c');
  await clock.advance(3_000);
  assert.equal(c.election.isLeader(), true);
  await c.election.close();
});
