// Bytes of a hostile or broken control plane: answers that are no messages, messages that are no configuration. The client
// refuses or closes; configuration that cannot be used is a ConfigError and nothing else; what served before serves on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type DescMessage, fromBinary, fromJson, type JsonObject, toBinary } from '@bufbuild/protobuf';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { AddressSchema } from '#proto/envoy/config/core/v3/address_pb.js';
import { NodeSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import {
  DeltaDiscoveryResponseSchema,
  DiscoveryResponseSchema,
} from '#proto/envoy/service/discovery/v3/discovery_pb.js';
import { systemClock } from '../../src/base/runtime/clock.ts';
import { silentLog } from '../../src/base/runtime/log.ts';
import { extensionRegistry } from '../../src/data-plane/proxy/config/bootstrap.ts';
import { ConfigError } from '../../src/data-plane/proxy/config/fields.ts';
import { buildPerFilter } from '../../src/data-plane/proxy/http-filter/registry.ts';
import { RouteTable } from '../../src/data-plane/proxy/route/route-table.ts';
import { StatsStore } from '../../src/data-plane/proxy/stats/stats.ts';
import { type Kind, resource } from '../../src/data-plane/proxy/testing/discovery.ts';
import {
  clientTls,
  fileLog,
  hcm,
  INSPECTORS,
  listener,
  routes,
  startEngine,
  staticCluster,
  tcpProxy,
  toCluster,
} from '../../src/data-plane/proxy/testing/engine.ts';
import { DiscoveryClient } from '../../src/data-plane/proxy/xds/discovery-client.ts';
import { CDS } from '../../src/data-plane/proxy/xds/kinds.ts';
import type { Receiver } from '../../src/data-plane/proxy/xds/update.ts';
import { corpus, fuzz } from './mutate.ts';

const ROUTES = routes([
  { match: { path: '/a', headers: [{ name: 'x', string_match: { exact: 'y' } }] }, direct_response: { status: 204 } },
  { match: { safe_regex: { regex: '/b/.*' } }, redirect: { host_redirect: 'h', path_redirect: '/p' } },
  toCluster('app', { retry_policy: { retry_on: '5xx', num_retries: 2 }, prefix_rewrite: '/r' }),
]);
const LISTENER = listener(
  'in',
  [
    { filters: [hcm(ROUTES, { access_log: [fileLog('/tmp/x', '%START_TIME% %REQ(:PATH)%')] })] },
    { filter_chain_match: { destination_port: 81 }, filters: [tcpProxy('app')] },
  ],
  INSPECTORS,
);
const CLUSTER = staticCluster('app', [80, 81], {
  lb_policy: 'LEAST_REQUEST',
  circuit_breakers: { thresholds: [{ max_connections: 5 }] },
  transport_socket: clientTls({ alpn_protocols: ['h2'] }, { sni: 'x' }),
});

const LOOPBACK = create(AddressSchema, {
  address: { case: 'socketAddress', value: { address: '127.0.0.1', portSpecifier: { case: 'portValue', value: 0 } } },
});

const binary = (schema: DescMessage, json: JsonObject): Buffer =>
  Buffer.from(toBinary(schema, fromJson(schema, json, { registry: extensionRegistry })));

/** Anything but a ConfigError, and but a message that cannot be decoded, is a bug. */
function tolerate(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
  }
}

function decoded<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

test('mutated clusters, listeners and route tables are used or refused', async (t) => {
  const { engine } = await startEngine(t, { static_resources: { clusters: [staticCluster('app', [1])] } });
  const kept = corpus('xds');
  await fuzz([binary(ClusterSchema, CLUSTER), ...kept], 8_000, (input) => {
    const message = decoded(() => fromBinary(ClusterSchema, input));
    if (!message) return;
    message.name = 'fuzzed';
    tolerate(() => engine.clusters.apply(message, false));
    engine.clusters.remove('fuzzed');
  });
  await fuzz([binary(ListenerSchema, LISTENER), ...kept], 8_000, (input) => {
    const message = decoded(() => fromBinary(ListenerSchema, input));
    if (!message) return;
    message.name = 'fuzzed';
    // It must not really listen where the mutant says.
    message.address = LOOPBACK;
    message.additionalAddresses = [];
    tolerate(() => engine.listeners.apply(message, false));
    engine.listeners.remove('fuzzed');
  });
  const context = {
    perFilter: buildPerFilter,
    runtime: engine.runtime,
    reader: engine.deps.reader,
    format: { hostname: 'h', localAddress: '192.0.2.1', variable: () => undefined, random: () => 0.5, now: () => 0 },
    stats: engine.stats,
    clock: engine.clock,
    knownCluster: () => true,
    validateClusters: false,
  };
  await fuzz([binary(RouteConfigurationSchema, ROUTES), ...kept], 12_000, (input) => {
    const message = decoded(() => fromBinary(RouteConfigurationSchema, input));
    if (message) tolerate(() => new RouteTable(message, context, 'r'));
  });
});

for (const delta of [false, true]) {
  test(`${delta ? 'incremental' : 'state of the world'}: mutated answers never break the client`, async (t) => {
    const applied = { count: 0 };
    const receiver: Receiver = {
      typeUrl: CDS.typeUrl,
      apply(update) {
        applied.count += update.resources.length + update.removed.length;
        return [];
      },
      nameOf: (any) => decoded(() => fromBinary(ClusterSchema, any.value).name) ?? '',
      refusal: (rejected) => rejected.map((each) => each.reason).join(),
      attempted() {},
      failed() {},
    };
    let deliver: (bytes: Buffer) => void = () => {};
    let open = 0;
    const again = (_ms: number, run: () => void) => {
      queueMicrotask(run);
      return () => {};
    };
    const client = new DiscoveryClient({
      source: {
        cluster: 'xds',
        authority: '',
        delta,
        metadata: [],
        nodeOnce: true,
        backoffBaseMs: 0,
        backoffMaxMs: 0,
        rate: undefined,
      },
      method: '/m',
      open({ onMessage, onClose }) {
        open += 1;
        let closed = false;
        deliver = (bytes) => {
          if (!closed) onMessage(bytes);
        };
        return {
          send() {},
          close() {
            if (closed) return;
            closed = true;
            onClose('closed');
          },
        };
      },
      node: create(NodeSchema),
      // Reconnects at once, in the same turn.
      clock: { now: () => systemClock.now(), after: again },
      random: () => 0.5,
      log: silentLog,
      stats: new StatsStore(),
      statPrefix: 'x.',
    });
    client.subscribe(receiver, undefined);
    client.start();
    t.after(() => client.stop());
    const any = (kind: Kind, json: JsonObject) => resource(kind, json);
    const good = delta
      ? toBinary(
          DeltaDiscoveryResponseSchema,
          create(DeltaDiscoveryResponseSchema, {
            typeUrl: CDS.typeUrl,
            nonce: '1',
            resources: [{ name: 'app', version: '1', resource: any('cds', CLUSTER) }],
            removedResources: ['gone'],
          }),
        )
      : toBinary(
          DiscoveryResponseSchema,
          create(DiscoveryResponseSchema, { typeUrl: CDS.typeUrl, nonce: '1', resources: [any('cds', CLUSTER)] }),
        );
    await fuzz([Buffer.from(good)], 5_000, async (input) => {
      deliver(input);
      await null;
    });
    applied.count = 0;
    deliver(Buffer.from(good));
    assert.equal(applied.count, delta ? 2 : 1, 'a good answer still arrives');
    assert.ok(open > 1, 'nonsense closed a stream and the client came back');
  });
}
