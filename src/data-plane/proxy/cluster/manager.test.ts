// What the cluster manager counts, and what a cluster that is refused leaves behind: nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { ConfigError } from '../config/fields.ts';
import { EMPTY_RUNTIME } from '../runtime/runtime.ts';
import { StatsStore } from '../stats/stats.ts';
import { staticCluster, T } from '../testing/engine.ts';
import { TestSecrets } from '../testing/tls.ts';
import { readEndpoints } from './endpoints.ts';
import { ClusterManager } from './manager.ts';
import { FakeClock, seeded } from './testing/fakes.ts';

function start() {
  const clock = new FakeClock();
  const stats = new StatsStore();
  const secrets = new TestSecrets();
  const manager = new ClusterManager({
    stats,
    clock,
    random: seeded(1),
    reader: { file: () => Buffer.alloc(0), variable: () => undefined },
    secrets: {
      lease: () => ({
        certificate: (ref) => secrets.certificate(ref),
        trust: (ref) => secrets.trust(ref),
        ticketKeys: () => secrets.ticketKeys(),
        release() {},
      }),
    },
    resolve: async () => ({ addresses: [], ttlMs: undefined }),
    endpoints: { follow: () => () => {} },
    runtime: EMPTY_RUNTIME,
    eventLog: () => () => {},
    outlierLogPath: '',
    tlsTransport: 'openssl',
  });
  const apply = (config: JsonObject) =>
    manager.apply(fromJson(ClusterSchema, config, { registry: extensionRegistry }), true);
  return { manager, clock, stats, apply };
}

const forward = (name: string, maxHosts: number, extra: JsonObject = {}): JsonObject => ({
  name,
  lb_policy: 'CLUSTER_PROVIDED',
  cluster_type: {
    name: 'forward',
    typed_config: {
      '@type': `${T}envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig`,
      dns_cache_config: { name: 'names', max_hosts: maxHosts },
    },
  },
  ...extra,
});

test('a cluster that is refused late leaves no timer running', () => {
  const { clock, apply } = start();
  apply(forward('first', 1));
  assert.equal(clock.waiting, 0);
  assert.throws(() => apply(forward('second', 2, { outlier_detection: {} })), ConfigError);
  assert.equal(clock.waiting, 0);
  apply(forward('third', 1, { outlier_detection: {} }));
  assert.equal(clock.waiting, 1);
});

test('a cluster that is refused leaves no statistics, nor lets those of its name outlive it', () => {
  const { manager, stats } = start();
  const apply = (config: JsonObject) =>
    manager.apply(fromJson(ClusterSchema, config, { registry: extensionRegistry }), false);
  const names = () =>
    [...stats.counters, ...stats.gauges].map(([name]) => name).filter((name) => /^cluster\./.test(name));
  apply(forward('first', 1));
  const before = names();
  assert.throws(() => apply(forward('app', 2)), ConfigError);
  assert.deepEqual(names(), before);
  apply(forward('app', 1));
  assert.ok(names().length > before.length + 10);
  assert.throws(() => apply(forward('app', 2)), ConfigError);
  manager.remove('app');
  assert.deepEqual(names(), before);
});

test('updates count from when a cluster serves', () => {
  const { manager, stats, apply } = start();
  const cluster = staticCluster('app', [1, 2]);
  apply(cluster);
  const updated = () => stats.counters.get('cluster_manager.cluster_updated')?.value;
  assert.equal(updated(), 0);
  const { loadAssignment } = fromJson(ClusterSchema, staticCluster('app', [1, 3]));
  manager.find('app')!.assign(readEndpoints(loadAssignment!, 'p', false));
  assert.equal(updated(), 1);
});
