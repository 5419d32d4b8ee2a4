// What workers know of each other's use of hosts: balancers go by all requests under way, limits of a host count all
// connections, and places are given anew only when nothing of the old host is left.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { silentLog } from '../../../base/runtime/log.ts';
import type { HostNumbers } from '../tally/host-numbers.ts';
import {
  ask,
  bootstrap,
  hcm,
  listener,
  routes,
  socketAddress,
  staticCluster,
  T,
  type TestEngine,
  toCluster,
  until,
} from '../testing/engine.ts';
import { BlockBook, BlockMaker } from './blocks.ts';
import { HostBook } from './host-book.ts';
import { HostDesk } from './host-desk.ts';
import type { Told } from './protocol.ts';
import { startSlowApp, startThreads } from './testing.ts';

const IN = listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }]);
const send = ({ port }: TestEngine): Promise<unknown> => ask(port('in'));

const ROUTER: JsonObject = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': `${T}envoy.extensions.filters.http.router.v3.Router` },
};
const LEAST: JsonObject = {
  load_balancing_policy: {
    policies: [
      {
        typed_extension_config: {
          name: 'least',
          typed_config: {
            '@type': `${T}envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest`,
            selection_method: 'FULL_SCAN',
          },
        },
      },
    ],
  },
};

test('least request goes by the requests of all workers', { timeout: 60_000 }, async (t) => {
  const [a, b] = [await startSlowApp(t), await startSlowApp(t)];
  const cluster = staticCluster('app', [a.port, b.port], LEAST);
  const { main, workers } = startThreads(t, bootstrap([IN], [cluster]), 2);
  await main.engine.start();
  await main.engine.whenLive();
  const sent: Promise<unknown>[] = [];
  for (let round = 1; round <= 12; round++) {
    for (const worker of workers) {
      const before = a.waiting + b.waiting;
      sent.push(send(worker));
      await until(() => a.waiting + b.waiting > before, 'a request');
    }
    assert.deepEqual([a.waiting, b.waiting], [round, round]);
  }
  const host = main.engine.clusters.find('app')!.hosts[0]!;
  assert.equal(host.load, 12);
  a.answer();
  b.answer();
  await Promise.all(sent);
  assert.equal(host.load, 0);
});

test('connections of a host that DNS names count over all workers', { timeout: 60_000 }, async (t) => {
  const app = await startSlowApp(t);
  const named: JsonObject = {
    ...staticCluster('app', [], {
      circuit_breakers: { per_host_thresholds: [{ max_connections: 2 }] },
    }),
    type: 'STRICT_DNS',
    load_assignment: {
      cluster_name: 'app',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(app.port, 'app.test') } }] }],
    },
  };
  const { main, workers } = startThreads(t, bootstrap([IN], [named]), 2);
  await main.engine.start();
  await main.engine.whenLive();
  const [one, two] = workers as [TestEngine, TestEngine];
  const hostOf = ({ engine }: TestEngine) => engine.clusters.find('app')?.hosts[0];
  for (const worker of workers) await until(() => hostOf(worker)?.numbers !== undefined, 'the numbers of the host');
  const sent = [send(one), send(one)];
  await until(() => app.waiting === 2, 'two requests');
  // A worker that has none may open one: there would be no connection to wait for.
  sent.push(send(two), send(two));
  await until(() => app.waiting === 3 && hostOf(two)!.pending === 1, 'one more, and one that waits');
  assert.equal(hostOf(main)!.connections, 3);
  app.answer();
  await until(() => app.waiting === 1, 'the last one on a connection that is free again');
  app.answer();
  await Promise.all(sent);
  assert.equal(hostOf(main)!.connections, 3);
});

test('the names of a DNS cache are as many as its limit says, in all workers together', {
  timeout: 60_000,
}, async (t) => {
  const app = await startSlowApp(t);
  const cache: JsonObject = { name: 'names', dns_lookup_family: 'V4_ONLY', max_hosts: 2 };
  const cluster: JsonObject = {
    name: 'app',
    lb_policy: 'CLUSTER_PROVIDED',
    cluster_type: {
      name: 'forward',
      typed_config: {
        '@type': `${T}envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig`,
        dns_cache_config: cache,
      },
    },
  };
  const filter: JsonObject = {
    name: 'forward',
    typed_config: {
      '@type': `${T}envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig`,
      dns_cache_config: cache,
    },
  };
  const inbound = listener('in', [{ filters: [hcm(routes([toCluster('app')]), { http_filters: [filter, ROUTER] })] }]);
  const { main, workers, kill } = startThreads(t, bootstrap([inbound], [cluster]), 2);
  await main.engine.start();
  await main.engine.whenLive();
  const statusOf = async (worker: number, name: string): Promise<string> => {
    const answer = ask(workers[worker]!.port('in'), '/', { headers: { host: `${name}:${app.port}` } });
    const over = answer.then(({ status, body }) => (status === 200 ? 'reached' : `${status} ${body}`));
    void until(() => app.waiting > 0, 'a request').then(app.answer, () => {});
    return over;
  };
  assert.equal(await statusOf(0, 'a.test'), 'reached');
  assert.equal(await statusOf(1, 'b.test'), 'reached');
  for (const [worker, name] of [
    [0, 'c.test'],
    [1, '127.0.0.1'],
  ] as const)
    assert.equal(await statusOf(worker, name), '503 DNS cache overflow');
  // A name that is there for one worker is there for all.
  assert.equal(await statusOf(0, 'b.test'), 'reached');
  assert.equal(workers[1]!.counter('dns_cache.names.host_overflow'), 1);
  await kill(0);
  assert.equal(await statusOf(1, '127.0.0.1'), 'reached');
});

test('a place goes to another host when the last request of the old one is over; workers learn in order', () => {
  const told: Told[] = [];
  const books = [0, 1].map((index) => {
    const blocks = new BlockBook(index, 2, silentLog);
    return { blocks, hosts: new HostBook(blocks) };
  });
  const take = (item: Told): void => {
    told.push(item);
    for (const { blocks, hosts } of books) {
      if (item.kind === 'block' || item.kind === 'block-gone') blocks.take(item);
      if (item.kind === 'hosts' || item.kind === 'hosts-gone') hosts.take(item);
    }
  };
  const blocks = new BlockMaker(2, take);
  const desk = new HostDesk(blocks, take);
  const seen = new Map<string, HostNumbers>();
  const mine = new Map<string, HostNumbers>();
  const follow = books[0]!.hosts.open('app', (host, numbers) => void seen.set(host, numbers));
  follow.added(['early']);
  assert.equal(seen.size, 0);
  const ledger = desk.open('app', (host, numbers) => void mine.set(host, numbers));
  const names = Array.from({ length: 30 }, (_, i) => `h${i}`);
  ledger.added(['early', ...names]);
  assert.equal(seen.size, 31);
  seen.get('early')!.begin();
  seen.get('h29')!.begin();
  assert.deepEqual(
    [mine.get('early')!.active, mine.get('h29')!.active, mine.get('h0')!.active, mine.get('h0')!.clusterActive],
    [1, 1, 0, 2],
  );
  const old = seen.get('early')!;
  ledger.removed(['early', 'h0']);
  ledger.added(['next', 'later']);
  old.end();
  assert.deepEqual([mine.get('next')!.active, mine.get('later')!.active, mine.get('h29')!.active], [0, 0, 1]);
  // A cluster of the same configuration that comes before this one goes keeps the places.
  const again = desk.open('app', () => {});
  again.added(['h29', 'next']);
  ledger.close();
  // What a dead worker had under way counts no more.
  blocks.ended(0);
  assert.deepEqual([mine.get('h29')!.active, mine.get('h29')!.clusterActive], [0, 0]);
  const late = new HostBook(books[1]!.blocks);
  for (const item of desk.known()) if (item.kind === 'hosts') late.take(item);
  const found: string[] = [];
  late.open('app', (host) => void found.push(host)).added(['h29', 'next', 'h1']);
  assert.deepEqual(found, ['h29', 'next']);
  again.close();
  assert.deepEqual(desk.known(), []);
});
