// Workers: what the supervisor does with threads (fakes here), what a follower makes of the main thread's discovery, and the
// whole program with --concurrency 2.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { silentLog } from '../../../base/runtime/log.ts';
import { IstioStats } from '../stats/istio-stats.ts';
import { StatsStore } from '../stats/stats.ts';
import { dynamicBootstrap, edsCluster, rds, startAds } from '../testing/discovery.ts';
import {
  ask,
  bootstrap,
  hcm,
  listener,
  routes,
  socketAddress,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from '../testing/engine.ts';
import { eventually, startProgram } from '../testing/program.ts';
import { BlockMaker } from './blocks.ts';
import { FollowerHub } from './follower-hub.ts';
import { MirrorHub } from './mirror-hub.ts';
import { NameDesk } from './name-desk.ts';
import { addUp, numbersOf } from './numbers.ts';
import type { Discovered, ToMain, ToWorker, WorkerStart } from './protocol.ts';
import { Supervisor, type Thread } from './supervisor.ts';
import { startThreads } from './testing.ts';

class FakeThread implements Thread {
  readonly start: Pick<WorkerStart, 'index' | 'mirror' | 'commands'>;
  readonly posted: ToWorker[] = [];
  say: (message: ToMain) => void = () => {};
  end: (error: unknown) => void = () => {};
  terminated = false;
  constructor(start: FakeThread['start']) {
    this.start = start;
  }
  post(message: ToWorker): void {
    this.posted.push(message);
  }
  onMessage(run: (message: ToMain) => void): void {
    this.say = run;
  }
  onEnd(run: (error: unknown) => void): void {
    this.end = run;
  }
  terminate(): void {
    this.terminated = true;
  }
}

function supervise(count = 2) {
  const clock = createFakeClock(0);
  const threads: FakeThread[] = [];
  const asked: string[] = [];
  const blocks: BlockMaker = new BlockMaker(count, (told) => supervisor.tell(told));
  const supervisor = new Supervisor({
    known: () => blocks.known(),
    ended: (worker) => blocks.ended(worker),
    names: new NameDesk(),
    outcomes() {},
    traffic() {},
    want: () => [],
    count,
    clock,
    log: silentLog,
    resolve: async (hostname) => {
      asked.push(hostname);
      return { addresses: ['10.0.0.1'], ttlMs: undefined };
    },
    start: (start) => {
      const thread = new FakeThread(start);
      threads.push(thread);
      return thread;
    },
  });
  const failures: string[] = [];
  supervisor.start((error) => failures.push(error.message));
  return { failures, supervisor, threads, clock, asked, blocks };
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

test('a worker that dies is started anew with all that was told before; the others go on', async () => {
  const { supervisor, threads, clock } = supervise();
  const started = supervisor.started();
  for (const thread of threads) thread.say({ kind: 'started' });
  await started;
  const item = (name: string, version: string): Discovered => ({
    kind: 'resource',
    key: 'k',
    name,
    version,
    bytes: new Uint8Array([1]),
  });
  for (const one of [item('a', '1'), item('b', '1'), item('a', '2')]) supervisor.tell(one);
  supervisor.tell({ kind: 'removed', key: 'k', name: 'b' });
  supervisor.command({ kind: 'health', failing: true });
  await settle();
  assert.equal(threads[0]!.posted.filter((message) => message.kind === 'told').length, 1, 'one turn, one message');
  threads[1]!.end(new Error('a bug'));
  assert.equal(threads.length, 2);
  await clock.advance(100);
  assert.equal(threads.length, 3);
  const anew = threads[2]!.start;
  assert.equal(anew.index, 1);
  assert.deepEqual(anew.mirror, [item('a', '2')]);
  assert.deepEqual(anew.commands, [{ kind: 'health', failing: true }]);
  // Again and again: each time it waits longer.
  threads[2]!.end('x');
  await clock.advance(100);
  assert.equal(threads.length, 3);
  await clock.advance(100);
  assert.equal(threads.length, 4);
});

test('the first workers must start; a later one that cannot is tried again', async () => {
  const { threads, clock, failures } = supervise();
  threads[0]!.say({ kind: 'failed', reason: 'the port is taken' });
  assert.deepEqual([failures, threads[0]!.terminated], [['the port is taken'], false]);
  const other = supervise();
  for (const thread of other.threads) thread.say({ kind: 'started' });
  other.threads[0]!.end('x');
  await other.clock.advance(100);
  other.threads[2]!.say({ kind: 'failed', reason: 'the port is taken' });
  assert.deepEqual([other.failures, other.threads[2]!.terminated], [[], true]);
  other.threads[2]!.end('terminated');
  await other.clock.advance(200);
  assert.equal(other.threads.length, 4);
  assert.equal(clock.now(), 0);
});

test('one worker chooses a port, the others take it, also when the first dies over it', async () => {
  const { threads } = supervise();
  threads[0]!.say({ kind: 'port', id: 1, socket: 'in 0' });
  threads[1]!.say({ kind: 'port', id: 7, socket: 'in 0' });
  assert.deepEqual(threads[0]!.posted, [{ kind: 'answer', id: 1, value: 0, error: undefined }]);
  assert.deepEqual(threads[1]!.posted, []);
  threads[0]!.end('x');
  assert.deepEqual(threads[1]!.posted, [{ kind: 'answer', id: 7, value: 0, error: undefined }]);
  const second = supervise();
  second.threads[0]!.say({ kind: 'port', id: 1, socket: 'in 0' });
  second.threads[1]!.say({ kind: 'port', id: 7, socket: 'in 0' });
  second.threads[0]!.say({ kind: 'bound', socket: 'in 0', address: { kind: 'ip', ip: '127.0.0.1', port: 4000 } });
  assert.deepEqual(second.threads[1]!.posted, [{ kind: 'answer', id: 7, value: 4000, error: undefined }]);
  assert.deepEqual(second.supervisor.bound('in 0'), { kind: 'ip', ip: '127.0.0.1', port: 4000 });
});

test('the same name is asked of DNS once for all', async () => {
  const { threads, asked } = supervise();
  const how = { servers: [], serversAsFallback: false, search: true, ttl: false };
  for (const [id, thread] of threads.entries())
    thread.say({ kind: 'resolve', id, hostname: 'a.example', family: 4, how });
  await settle();
  assert.deepEqual(asked, ['a.example']);
  assert.deepEqual(threads[1]!.posted, [
    { kind: 'answer', id: 1, value: { addresses: ['10.0.0.1'], ttlMs: undefined }, error: undefined },
  ]);
});

test("an answer of the main thread's own holds for workers until nobody there asks for it any more", async () => {
  const { supervisor, threads, asked, clock } = supervise();
  const how = { servers: [], serversAsFallback: false, search: true, ttl: false };
  const say = (id: number): void => threads[0]!.say({ kind: 'resolve', id, hostname: 'a.example', family: 4, how });
  await supervisor.resolve('a.example', 4, how);
  await clock.advance(299_000);
  say(1);
  await settle();
  assert.deepEqual(asked, ['a.example'], 'the worker takes what the main thread knows');
  // Asked again: what the first answer's end was is forgotten.
  await supervisor.resolve('a.example', 4, how);
  await clock.advance(299_000);
  say(2);
  await settle();
  assert.equal(asked.length, 2);
  await clock.advance(1_000);
  say(3);
  await settle();
  assert.equal(asked.length, 3, 'the worker asks for itself');
});

test('numbers are waited for, but not for ever; the end too', async () => {
  const { supervisor, threads, clock } = supervise();
  for (const thread of threads) thread.say({ kind: 'started' });
  const gathered = supervisor.gather();
  const asked = threads[0]!.posted[0];
  assert.ok(asked?.kind === 'numbers');
  threads[0]!.say({
    kind: 'numbers',
    id: asked.id,
    numbers: { counters: [], gauges: [], histograms: [], istio: { http: [], tcp: [] }, hosts: [] },
  });
  await clock.advance(2_000);
  assert.equal((await gathered).length, 1);
  const stopped = supervisor.stop();
  threads[0]!.say({ kind: 'stopped' });
  await clock.advance(3_000);
  await stopped;
  assert.ok(threads[1]!.terminated);
});

test('numbers add up where workers count, and not where they are configured', () => {
  const worker = () => {
    const stats = new StatsStore();
    stats.counter('http.in.downstream_rq_total').value = 3;
    stats.counter('cluster_manager.cluster_added').value = 1;
    stats.gauge('http.in.downstream_cx_active').value = 2;
    stats.gauge('connection_limit.a.active_connections').value = 1;
    stats.gauge('http.in.fault.active_faults').value = 3;
    stats.gauge('cluster.a.membership_total').value = 5;
    stats.gauge('cluster.a.circuit_breakers.default.cx_open').value = 1;
    stats.histogram('http.in.downstream_rq_time').record(7);
    const istio = new IstioStats(stats, '1');
    istio.http(['source'])!.requests.value = 4;
    istio.http(['source'])!.duration.record(1);
    return structuredClone(numbersOf(stats, istio, []));
  };
  const main = new StatsStore();
  main.counter('cluster_manager.cluster_added').value = 1;
  main.gauge('cluster.a.membership_total').value = 5;
  const { stats, istioStats } = addUp(main, new IstioStats(main, '1'), [worker(), worker()]);
  const value = (name: string) => stats.counters.get(name)?.value ?? stats.gauges.get(name)?.value;
  assert.deepEqual(
    [
      'http.in.downstream_rq_total',
      'cluster_manager.cluster_added',
      'http.in.downstream_cx_active',
      'connection_limit.a.active_connections',
      'http.in.fault.active_faults',
      'cluster.a.membership_total',
      // Limits count in all threads; the main thread knows.
      'cluster.a.circuit_breakers.default.cx_open',
    ].map(value),
    [6, 1, 4, 2, 6, 5, undefined],
  );
  assert.deepEqual(
    [stats.histogram('http.in.downstream_rq_time').count, stats.histogram('http.in.downstream_rq_time').sum],
    [2, 14],
  );
  assert.match(istioStats.render(), /istio_requests_total\{reporter="source"\} 8\n/);
  assert.equal(main.counters.get('http.in.downstream_rq_total'), undefined, 'the main thread keeps its own numbers');
});

const assignment = (name: string, port: number): JsonObject => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(port) } }] }],
});

test('a worker serves what the main thread discovered, and every change of it', async (t) => {
  const ads = await startAds(t);
  const [one, two] = [await startApp(t, 'one'), await startApp(t, 'two')];
  const followers: FollowerHub[] = [];
  const told: Discovered[] = [];
  const binds = (yes: boolean) => ({
    binds: yes,
    bindsAlone: yes,
    port: async () => 0,
    bound() {},
    whereIs: () => undefined,
  });
  const main = await startEngine(t, dynamicBootstrap(ads.port), false, {
    deps: {
      sockets: binds(false),
      createHub: (deps) =>
        new MirrorHub(deps, (item) => {
          told.push(item);
          for (const follower of followers) follower.take(structuredClone(item));
        }),
    },
  });
  const follow = (mirror: readonly Discovered[]) =>
    startEngine(t, dynamicBootstrap(ads.port), false, {
      options: { isWorker: true },
      deps: {
        sockets: binds(true),
        createHub: (deps) => {
          const hub = new FollowerHub(deps, structuredClone(mirror), () => {});
          followers.push(hub);
          return hub;
        },
      },
    });
  const early = await follow([]);
  const { route_config: _none, ...rest } = (hcm({}) as { typed_config: JsonObject }).typed_config;
  const chain = {
    filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: { ...rest, rds: rds('80') } }],
  };
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', one.port));
  ads.set('lds', 'in', listener('in', [chain]));
  ads.set('rds', '80', { ...routes([toCluster('app')]), name: '80' });
  await main.engine.whenLive();
  await early.engine.whenLive();
  assert.equal((await ask(early.port('in'))).body, 'one');
  // One that starts now knows it all.
  const late = await follow(told);
  await late.engine.whenLive();
  assert.equal((await ask(late.port('in'))).body, 'one');
  ads.set('eds', 'app', assignment('app', two.port));
  for (const worker of [early, late]) {
    await eventually('the new endpoint serves', async () => (await ask(worker.port('in'))).body === 'two');
  }
  // A route that main refuses reaches no worker.
  ads.set('rds', '80', {
    name: '80',
    virtual_hosts: [{ name: 'a', domains: ['*'], routes: [{ match: { prefix: '/' } }] }],
  });
  await until(() => ads.requests.some((request) => request.errorDetail), 'the NACK');
  assert.equal((await ask(early.port('in'))).body, 'two');
  assert.equal(early.engine.adminAddress, undefined);
  const { port } = early;
  const open = port('in');
  ads.remove('lds', 'in');
  await eventually('the listener is gone', () =>
    ask(open).then(
      () => false,
      () => true,
    ),
  );
});

test('a worker that starts later has what the others kept, and waits for nothing that was taken away', {
  timeout: 60_000,
}, async (t) => {
  const ads = await startAds(t);
  const app = await startApp(t, 'app');
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', app.port));
  ads.set('lds', 'in', listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }]));
  const { main, workers, kill } = startThreads(t, dynamicBootstrap(ads.port), 1);
  await main.engine.start();
  await main.engine.whenLive();
  assert.equal((await ask(workers[0]!.port('in'))).body, 'app');
  // The endpoints of a cluster that has them stay; one that comes now begins without.
  ads.remove('eds', 'app');
  ads.remove('eds', 'other');
  ads.set('cds', 'other', edsCluster('other'));
  await until(() => main.engine.clusters.find('other') !== undefined, 'the other cluster is warm');
  await kill(0);
  assert.equal((await ask(workers[0]!.port('in'))).body, 'app');
  assert.ok(workers[0]!.engine.clusters.find('other'));
});

test('connections are not balanced between workers: who asks for it is refused, static or discovered', async (t) => {
  const balanced = listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }], {
    connection_balance_config: { exact_balance: {} },
  });
  const reason = /listener 'in'\.connection_balance_config: is not supported with --concurrency above 1/;
  assert.throws(() => startThreads(t, bootstrap([balanced], []), 2), reason);
  const ads = await startAds(t);
  const { main } = startThreads(t, dynamicBootstrap(ads.port), 2);
  ads.set('cds', 'app', edsCluster('app'));
  ads.set('eds', 'app', assignment('app', 1));
  ads.set('lds', 'in', balanced);
  await main.engine.start();
  await until(() => ads.nacks().length > 0, 'the NACK');
  assert.match(ads.nacks()[0]!.message, reason);
  const alone = await startEngine(t, bootstrap([balanced], []));
  assert.ok(alone.port('in') > 0, 'one thread has nothing to balance');
});

test('the whole program with --concurrency 2: one port, summed numbers, one end', {
  timeout: 60_000,
}, async (t: TestContext) => {
  const answer: JsonObject = {
    match: { prefix: '/' },
    direct_response: { status: 200, body: { inline_string: 'hi' } },
  };
  const config = bootstrap([listener('in', [{ filters: [hcm(routes([answer]))] }])], []);
  const { admin, kill, ended, ...program } = await startProgram(t, config, 2);
  const port = await program.port('in');
  for (let i = 0; i < 20; i++) assert.equal((await ask(port)).body, 'hi');
  const stats = (await ask(admin, '/stats?filter=downstream_rq_2xx$|server.concurrency')).body;
  assert.equal(
    stats,
    'http.test.downstream_rq_2xx: 20\nlistener.127.0.0.1_0.http.test.downstream_rq_2xx: 20\nserver.concurrency: 2\n',
  );
  await ask(admin, '/drain_listeners', { method: 'POST' });
  await eventually('no worker listens', () =>
    ask(port).then(
      () => false,
      () => true,
    ),
  );
  kill('SIGTERM');
  assert.equal(await ended, 0);
});

test('a port that is taken ends the program, whatever discovery still waits for', { timeout: 60_000 }, async (t) => {
  const taken = await startApp(t, 'taken');
  const dynamic = dynamicBootstrap(1);
  const { clusters } = dynamic.static_resources as { clusters: JsonObject[] };
  const listeners = [{ ...listener('in', [{ filters: [hcm({})] }]), address: socketAddress(taken.port) }];
  const config = { ...dynamic, static_resources: { listeners, clusters } };
  await assert.rejects(
    startProgram(t, config, 2),
    /it ended with 1:.*cannot start error="listener 'in': cannot bind .* Address already in use/s,
  );
});

test('pages ask every thread', async (t) => {
  const { main, workers } = startThreads(t, bootstrap([], [staticCluster('a', [1])]), 2);
  await main.engine.start();
  await main.engine.whenLive();
  const memory = await main.engine.askThreads({ kind: 'memory' });
  assert.deepEqual(memory.map(({ thread }) => thread).sort(), ['main', 'worker 0', 'worker 1']);
  assert.ok(memory.every(({ answer }) => answer.some(({ values }) => values[1]! > 0)));
  await main.engine.askThreads({ kind: 'lookups', act: 'enable' });
  workers[1]!.engine.stats.counter('from.a.worker');
  const lookups = await main.engine.askThreads({ kind: 'lookups', act: 'show' });
  assert.deepEqual(
    lookups.flatMap(({ thread, answer }) =>
      answer.recent?.some(([name]) => name === 'from.a.worker') ? [thread] : [],
    ),
    ['worker 1'],
  );
});
