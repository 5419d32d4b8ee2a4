import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fitsMask } from './field-mask.ts';

test('paths name fields, go into what an Any holds, and end at a list', () => {
  for (const [type, mask, fits] of [
    ['ClustersConfigDump', 'static_clusters', true],
    ['ClustersConfigDump', 'version_info, dynamic_active_clusters', true],
    ['ClustersConfigDump', 'static_clusters.cluster', false],
    ['ClustersConfigDump', 'bootstrap', false],
    ['ClustersConfigDump.StaticCluster', 'cluster.name', true],
    ['ClustersConfigDump.StaticCluster', 'cluster.nope', false],
    ['ClustersConfigDump.StaticCluster', 'cluster.name.x', false],
    ['ListenersConfigDump.DynamicListener', 'active_state.listener.address.socket_address', true],
    ['BootstrapConfigDump', 'bootstrap.node.id', true],
    ['BootstrapConfigDump', 'bootstrap.node.locality.zone', true],
    ['BootstrapConfigDump', '', false],
    ['NoSuchDump', 'x', false],
  ] as const)
    assert.equal(fitsMask(type, mask.split(',')), fits, `${type} ${mask}`);
});
