// Certificates of gateways go to callers who have proved who they are, to nobody else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../base/runtime/clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { createMetrics } from '../../base/runtime/metrics.ts';
import { parseWorkloadId, type SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import { goldenCase } from '../translate/golden.ts';
import { createDiscovery } from './discovery.ts';
import { createServeMetrics } from './metrics.ts';
import type { Outgoing } from './stream.ts';

async function answer(caller: readonly SpiffeId[] | undefined, serviceAccount = 'edge'): Promise<Outgoing> {
  const golden = goldenCase('gateway-tls');
  const { snapshot } = golden;
  const proxy = { ...golden.proxy, serviceAccount };
  const discovery = createDiscovery({
    clock: systemClock,
    log: silentLog,
    metrics: createServeMetrics(createMetrics(), 'test'),
    version: 'test',
    pushThrottle: 1,
  });
  discovery.publish(snapshot, 'full', 0);
  return new Promise((resolve, reject) => {
    const wire = {
      send: (message: Outgoing) => {
        resolve(message);
        return true;
      },
      drained: async () => {},
      fail: (_code: unknown, message: string) => reject(new Error(message)),
    };
    const { stream } = discovery.open(proxy, 'delta', wire, caller);
    stream.receive({
      form: 'delta',
      typeUrl: TYPE_URL.secret,
      subscribe: ['kubernetes://site', 'kubernetes://other', 'kubernetes://unnamed'],
      unsubscribe: [],
      initial: [],
      nonce: '',
      initialVersions: {},
    });
  });
}

test('a gateway that was authenticated gets the Secrets of its namespace that its Gateways name', async () => {
  const id = parseWorkloadId('spiffe://cluster.local/ns/ingress/sa/edge');
  assert.equal(id.kind, 'ok');
  const message = await answer(id.kind === 'ok' ? [id.value] : undefined);
  assert.deepEqual(
    message.resources.map((r) => r.name),
    ['kubernetes://site'],
  );
  assert.deepEqual(message.removed, ['kubernetes://other', 'kubernetes://unnamed']);
});

test('whoever comes to the plaintext port is told that there are none', async () => {
  const message = await answer(undefined);
  assert.deepEqual(message.resources, []);
});

test('another account of the namespace that says it is the gateway gets none', async () => {
  const id = parseWorkloadId('spiffe://cluster.local/ns/ingress/sa/app');
  const message = await answer(id.kind === 'ok' ? [id.value] : undefined, 'app');
  assert.deepEqual(message.resources, []);
});
