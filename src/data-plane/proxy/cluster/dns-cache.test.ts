import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromJson, type JsonObject } from '@bufbuild/protobuf';
import { DnsCacheConfigSchema } from '#proto/envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache_pb.js';
import { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { StatsStore } from '../stats/stats.ts';
import type { DnsAnswer } from './dns.ts';
import { DnsCache, DnsCaches, readDnsCache } from './dns-cache.ts';
import { authorityTarget, ForwardProxy } from './forward-proxy.ts';
import type { Host } from './host.ts';
import { context, FakeClock, seeded } from './testing/fakes.ts';

const config = (extra: JsonObject = {}) =>
  readDnsCache(fromJson(DnsCacheConfigSchema, { name: 'c', dns_lookup_family: 'V4_ONLY', ...extra }), 'p');

function setUp(extra: JsonObject = {}) {
  const clock = new FakeClock();
  const stats = new StatsStore();
  const answers = new Map<string, DnsAnswer>();
  const asked: string[] = [];
  const deps = {
    clock,
    stats,
    random: seeded(2),
    resolve: async (name: string): Promise<DnsAnswer> => {
      asked.push(name);
      const answer = answers.get(name);
      if (!answer) throw new Error('NXDOMAIN');
      return answer;
    },
  };
  const cache = new DnsCache(config(extra), deps);
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const give = (name: string, ...addresses: string[]): void => {
    answers.set(name, { addresses, ttlMs: undefined });
  };
  const stat = (name: string): number =>
    (stats.counters.get(`dns_cache.c.${name}`) ?? stats.gauges.get(`dns_cache.c.${name}`))!.value;
  return { cache, clock, asked, settle, give, answers, stat, deps };
}

test('a name is resolved once and then known', async () => {
  const { cache, give, settle, asked } = setUp();
  give('a.example', '10.0.0.1', '10.0.0.2');
  let told = 0;
  for (let i = 0; i < 3; i++)
    assert.equal(
      cache.load('a.example:80', 'a.example', 80, () => told++),
      'waiting',
    );
  await settle();
  assert.equal(told, 3);
  assert.equal(
    cache.load('a.example:80', 'a.example', 80, () => {}),
    'ready',
  );
  assert.deepEqual(cache.find('a.example:80')?.addresses, ['10.0.0.1', '10.0.0.2']);
  assert.deepEqual(asked, ['a.example']);
});

test('an address needs no DNS; a name that fails is known to have failed, and tried again', async () => {
  const { cache, clock, settle, asked, give, stat } = setUp();
  assert.equal(
    cache.load('10.0.0.9:80', '10.0.0.9', 80, () => {}),
    'ready',
  );
  assert.equal(
    cache.load('bad:80', 'bad', 80, () => {}),
    'waiting',
  );
  await settle();
  assert.equal(
    cache.load('bad:80', 'bad', 80, () => {}),
    'ready',
  );
  assert.deepEqual(cache.find('bad:80')?.addresses, []);
  assert.equal(stat('dns_query_failure'), 1);
  give('bad', '10.0.0.3');
  clock.pass(60_000);
  await settle();
  assert.deepEqual(cache.find('bad:80')?.addresses, ['10.0.0.3']);
  assert.equal(asked.length, 2);
});

test('limits: names in the cache, requests that wait, time for an answer', async () => {
  const few = setUp({ max_hosts: 1, dns_cache_circuit_breaker: { max_pending_requests: 1 } });
  assert.equal(
    few.cache.load('a:80', 'a', 80, () => {}),
    'waiting',
  );
  assert.equal(
    few.cache.load('a:80', 'a', 80, () => {}),
    'pending-overflow',
  );
  await few.settle();
  assert.equal(
    few.cache.load('b:80', 'b', 80, () => {}),
    'overflow',
  );
  assert.equal(few.stat('host_overflow'), 1);
  const slow = setUp({ dns_query_timeout: '2s' });
  const stuck = new DnsCache(config({ dns_query_timeout: '2s' }), {
    ...slow.deps,
    resolve: () => new Promise(() => {}),
  });
  let told = false;
  stuck.load('a:80', 'a', 80, () => {
    told = true;
  });
  slow.clock.pass(2_000);
  await slow.settle();
  assert.ok(told);
  assert.equal(slow.stat('dns_query_timeout'), 1);
});

test('names nobody uses are forgotten, used ones are kept fresh', async () => {
  const { cache, clock, settle, give, stat } = setUp({ host_ttl: '90s' });
  give('a', '10.0.0.1');
  cache.load('a:80', 'a', 80, () => {});
  await settle();
  clock.pass(60_000);
  await settle();
  assert.ok(cache.find('a:80'));
  clock.pass(60_000);
  await settle();
  clock.pass(60_000);
  await settle();
  assert.equal(cache.find('a:80'), undefined);
  assert.equal(stat('num_hosts'), 0);
  assert.equal(clock.waiting, 0);
});

test('one name, one meaning', () => {
  const { deps } = setUp();
  const caches = new DnsCaches(deps);
  assert.equal(caches.get(config(), 'p'), caches.get(config(), 'p'));
  assert.throws(() => caches.get(config({ max_hosts: 5 }), 'p'), /DNS cache 'c' with different settings/);
  assert.throws(() => readDnsCache(create(DnsCacheConfigSchema), 'p'), /p\.name: value is required/);
  assert.throws(
    () => config({ use_tcp_for_dns_lookups: true }),
    /use_tcp_for_dns_lookups: field of .* is not supported/,
  );
});

test('hosts of the cluster follow the cache', async () => {
  const { cache, clock, settle, give, deps } = setUp({ host_ttl: '100s' });
  give('a', '10.0.0.1');
  const forgotten: Host[] = [];
  const forward = new ForwardProxy(cache, 80, deps.stats.gauge('total'), (host) => forgotten.push(host));
  const headers = new HeaderMap();
  headers.set(H.host, 'A:80');
  const asks = context({ requestHeaders: headers });
  assert.equal(forward.pick(asks), undefined);
  cache.load('a:80', 'a', 80, () => {});
  await settle();
  const host = forward.pick(asks)!;
  assert.equal(host.key, '10.0.0.1:80');
  assert.equal(host.spec.hostname, 'a');
  give('a', '10.0.0.2');
  clock.pass(60_000);
  await settle();
  assert.equal(forward.pick(asks), host);
  assert.equal(host.key, '10.0.0.2:80');
  for (let i = 0; i < 4; i++) {
    clock.pass(60_000);
    await settle();
  }
  assert.deepEqual(forgotten, [host]);
  assert.equal(forward.hosts.length, 0);
});

test('authorities', () => {
  const target = (text: string) => {
    const found = authorityTarget(text, 80);
    return found && `${found.name} ${found.port}`;
  };
  assert.equal(target('Web.example'), 'web.example 80');
  assert.equal(target('web:8080'), 'web 8080');
  assert.equal(target('[::1]:90'), '::1 90');
  for (const bad of ['', 'a:b', 'a:0', 'a:70000', '::1', 'a:1:2']) assert.equal(target(bad), undefined);
});
