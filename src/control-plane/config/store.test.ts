// The configuration store and the debounce: last good object, announcements, mesh config, bursts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube } from '../../../test/fakes/kube-client.ts';
import { createInformer } from '../../base/kube/informer.ts';
import type { KubeObject, ResourceType } from '../../base/kube/types.ts';
import { systemClock } from '../../base/runtime/clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { createDebounce } from './debounce.ts';
import { CONFIG_MAPS } from './kinds.ts';
import { type ConfigChange, createConfigStore } from './store.ts';

const PEER: ResourceType = {
  group: 'security.istio.io',
  version: 'v1',
  resource: 'peerauthentications',
  kind: 'PeerAuthentication',
  namespaced: true,
};
const policy = (mode: string): KubeObject & { spec: unknown } => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'PeerAuthentication',
  metadata: { name: 'p', namespace: 'foo' },
  spec: { mtls: { mode } },
});

test('a bad edit keeps the last good object and is reported; the mesh config is read live', async () => {
  const kube = createFakeKube({ objects: [{ type: PEER, object: policy('STRICT') }] });
  const changes: ConfigChange[] = [];
  const store = createConfigStore({
    client: kube,
    informer: (type, list = {}) =>
      createInformer(kube, type, { ...list, clock: systemClock, log: silentLog, random: () => 0.5 }),
    rootNamespace: 'istio-system',
    meshConfigMap: 'istio',
    log: silentLog,
  });
  await store.synced;
  assert.equal(store.read().peerAuthentications[0]?.spec.mode, 'STRICT');
  assert.equal(store.read().mesh.trustDomain, 'cluster.local');
  store.onChange((change) => changes.push(change));

  await kube.patch(PEER, 'foo', 'p', 'merge', { spec: { mtls: { mode: 'LOOSE' } } });
  await kube.settle();
  assert.equal(store.read().peerAuthentications[0]?.spec.mode, 'STRICT');
  assert.match(store.problems()[0]?.diagnostics[0]?.message ?? '', /unsupported value "LOOSE"/);
  assert.equal(changes.length, 0);

  await kube.patch(PEER, 'foo', 'p', 'merge', { spec: { mtls: { mode: 'DISABLE' } } });
  const map = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'istio', namespace: 'istio-system' } };
  await kube.create(CONFIG_MAPS, {
    ...map,
    data: { mesh: 'trustDomain: example.org\nnoSuchField: 1\n' },
  } as KubeObject);
  await kube.settle();
  assert.equal(store.read().peerAuthentications[0]?.spec.mode, 'DISABLE');
  assert.equal(store.read().mesh.trustDomain, 'example.org');
  assert.deepEqual(changes.map((c) => c.kind).sort(), ['MeshConfig', 'PeerAuthentication']);
  assert.deepEqual(
    store.problems().map((p) => p.diagnostics[0]?.message),
    ['unknown field "noSuchField"'],
  );
  store.close();
});

test('a burst becomes one call after quiet, and never waits longer than the maximum', async () => {
  const clock = createFakeClock(0);
  const calls: { readonly batch: readonly number[]; readonly waited: number }[] = [];
  const debounce = createDebounce<number>({
    quietMs: 100,
    maxMs: 250,
    clock,
    run: (batch, waited) => calls.push({ batch, waited }),
  });
  debounce.add(1);
  await clock.advance(50);
  debounce.add(2);
  await clock.advance(99);
  assert.equal(calls.length, 0);
  await clock.advance(1);
  assert.deepEqual(calls, [{ batch: [1, 2], waited: 150 }]);
  for (let i = 0; i < 4; i++) {
    debounce.add(i);
    await clock.advance(80);
  }
  assert.deepEqual(calls[1], { batch: [0, 1, 2, 3], waited: 250 });
  debounce.close();
});
