import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { type DnsAnswer, type DnsCluster, followDns } from './dns.ts';
import { readDns } from './dns-config.ts';
import { NO_POLICY } from './endpoints.ts';
import { bareHost } from './host.ts';
import { FakeClock, seeded } from './testing/fakes.ts';

const settingsOf = (extra: JsonObject) => readDns(fromJson(ClusterSchema, { name: 'c', ...extra }), 'c');

function setUp(names: string[], extra: JsonObject = {}, type: 'strict-dns' | 'logical-dns' = 'strict-dns') {
  const clock = new FakeClock();
  const store = new StatsStore();
  const answers = new Map<string, DnsAnswer>();
  const asked: string[] = [];
  const published: string[] = [];
  const cluster = {
    scope: new StatsScope(store, ''),
    settings: { dns: settingsOf(extra), type },
    configured: { specs: names.map((ip) => bareHost({ kind: 'ip', ip, port: 80 })), policy: NO_POLICY },
    initialized: false,
    assign({ specs }) {
      cluster.initialized = true;
      published.push(specs.map(({ address }) => (address.kind === 'ip' ? address.ip : '')).join(','));
    },
  } as DnsCluster & { initialized: boolean };
  const give = (name: string, family: 4 | 6, addresses: string[], ttlMs?: number): void => {
    answers.set(`${name}/${family}`, { addresses, ttlMs });
  };
  const stop = (): (() => void) =>
    followDns(
      cluster,
      async (name, family) => {
        asked.push(`${name}/${family}`);
        const answer = answers.get(`${name}/${family}`);
        if (!answer) throw new Error('NXDOMAIN');
        return answer;
      },
      clock,
      seeded(3),
      () => {},
    );
  /** Lets promises of the round under way settle. */
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 12; i++) await Promise.resolve();
  };
  const stat = (name: string) => store.counters.get(name)!.value;
  return { clock, give, published, asked, start: stop, settle, stat, answers };
}

const V4 = { dns_lookup_family: 'V4_ONLY' };

test('names are asked for again at the refresh rate; a failure keeps the last addresses', async () => {
  const { clock, give, published, start, settle, asked, stat, answers } = setUp(['a', '10.0.0.9'], V4);
  give('a', 4, ['10.0.0.1', '10.0.0.2']);
  const stop = start();
  await settle();
  assert.deepEqual(published, ['10.0.0.1,10.0.0.2,10.0.0.9']);
  answers.clear();
  clock.pass(5_000);
  await settle();
  assert.equal(asked.length, 2);
  assert.equal(published.length, 1);
  assert.equal(stat('update_failure'), 1);
  give('a', 4, ['10.0.0.3']);
  clock.pass(5_000);
  await settle();
  assert.equal(published.at(-1), '10.0.0.3,10.0.0.9');
  give('a', 4, []);
  clock.pass(5_000);
  await settle();
  assert.equal(published.at(-1), '10.0.0.9');
  assert.equal(stat('update_empty'), 1);
  stop();
  assert.equal(clock.waiting, 0);
});

test('one name does not wait for another', async () => {
  const { give, published, start, settle } = setUp(['bad', 'good'], V4);
  give('good', 4, ['10.0.0.1']);
  start();
  await settle();
  assert.equal(published.at(-1), '10.0.0.1');
});

test('times to live are respected when asked to', async () => {
  const { clock, give, start, settle, asked } = setUp(['a'], { ...V4, respect_dns_ttl: true });
  give('a', 4, ['10.0.0.1'], 30_000);
  start();
  await settle();
  clock.pass(29_999);
  await settle();
  assert.equal(asked.length, 1);
  clock.pass(1);
  await settle();
  assert.equal(asked.length, 2);
});

test('failures are repeated at a rate of their own', async () => {
  const { clock, start, settle, asked } = setUp(['a'], {
    ...V4,
    dns_refresh_rate: '60s',
    dns_failure_refresh_rate: { base_interval: '1s', max_interval: '4s' },
  });
  start();
  for (let i = 0; i < 5; i++) {
    await settle();
    clock.pass(4_000);
  }
  await settle();
  assert.ok(asked.length >= 6, String(asked.length));
});

test('families', async () => {
  const get = async (family: string, six: string[], four: string[]): Promise<string | undefined> => {
    const { give, published, start, settle } = setUp(['a'], { dns_lookup_family: family });
    if (six.length > 0) give('a', 6, six);
    if (four.length > 0) give('a', 4, four);
    start();
    await settle();
    return published.at(-1);
  };
  assert.equal(await get('AUTO', ['::1'], ['10.0.0.1']), '::1');
  assert.equal(await get('AUTO', [], ['10.0.0.1']), '10.0.0.1');
  assert.equal(await get('V4_PREFERRED', ['::1'], ['10.0.0.1']), '10.0.0.1');
  assert.equal(await get('ALL', ['::1'], ['10.0.0.1']), '::1,10.0.0.1');
  assert.equal(await get('V6_ONLY', [], ['10.0.0.1']), '');
});

test('LOGICAL_DNS is one host with the first address, and keeps it when the name has none', async () => {
  const { clock, give, published, start, settle } = setUp(['a'], V4, 'logical-dns');
  give('a', 4, ['10.0.0.1', '10.0.0.2']);
  start();
  await settle();
  give('a', 4, []);
  clock.pass(5_000);
  await settle();
  assert.deepEqual(published, ['10.0.0.1']);
});

test('a cluster that need not be warm does not wait', () => {
  const { published, start } = setUp(['a'], { ...V4, wait_for_warm_on_init: false });
  start();
  assert.deepEqual(published, ['']);
});

test('resolvers are read, what has no effect is refused', () => {
  const cares = (config: JsonObject): JsonObject => ({
    typed_dns_resolver_config: {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: {
        '@type': 'type.googleapis.com/xds.type.v3.TypedStruct',
        type_url: 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
        value: config,
      },
    },
  });
  const typed = (config: JsonObject) => settingsWithStruct(cares(config));
  const { resolver } = typed({
    resolvers: [{ socket_address: { protocol: 'UDP', address: '10.0.0.10', port_value: 5353 } }],
    use_resolvers_as_fallback: true,
    dns_resolver_options: { no_default_search_domain: true },
  });
  assert.deepEqual(resolver, { servers: ['10.0.0.10:5353'], serversAsFallback: true, search: false, ttl: false });
  assert.throws(
    () => typed({ udp_max_queries: 5 }),
    /typed_dns_resolver_config\.udp_max_queries: field of .* is not supported/,
  );
  assert.throws(
    () => typed({ dns_resolver_options: { use_tcp_for_dns_lookups: true } }),
    /dns_resolver_options\.use_tcp_for_dns_lookups: field of .* is not supported/,
  );
  assert.throws(
    () => settingsOf({ dns_failure_refresh_rate: { base_interval: '5s', max_interval: '1s' } }),
    /max_interval greater than or equal to base_interval/,
  );
});

function settingsWithStruct(extra: JsonObject) {
  return readDns(fromJson(ClusterSchema, { name: 'c', ...extra }, { registry: extensionRegistry }), 'c');
}
