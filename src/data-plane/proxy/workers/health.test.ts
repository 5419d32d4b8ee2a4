// The health of hosts with workers: the main thread checks and ejects once for all, also for one that starts later.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import type { Outcome } from '../cluster/lb-context.ts';
import { MAX_OUTCOME_MESSAGES, MAX_OUTCOME_RUNS, OUTCOME_REPORT_MS } from '../limits.ts';
import { dynamicBootstrap, edsCluster, startAds } from '../testing/discovery.ts';
import {
  ask,
  bootstrap,
  hcm,
  listener,
  routes,
  socketAddress,
  staticCluster,
  type TestEngine,
  toCluster,
} from '../testing/engine.ts';
import { eventually, startProgram } from '../testing/program.ts';
import { HealthBook } from './health-book.ts';
import type { ToMain } from './protocol.ts';
import { startThreads } from './testing.ts';

/** An application whose health and answers the test decides. */
async function startPatient(t: TestContext) {
  const patient = { port: 0, status: 200, answer: 200, checks: 0 };
  const server = createServer((request, response) => {
    const checked = request.url === '/healthz';
    if (checked) patient.checks += 1;
    response.statusCode = checked ? patient.status : patient.answer;
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  patient.port = (server.address() as AddressInfo).port;
  return patient;
}

const CHECKS: JsonObject = {
  health_checks: [
    {
      timeout: '1s',
      interval: '0.02s',
      no_traffic_interval: '0.02s',
      unhealthy_threshold: 1,
      healthy_threshold: 1,
      http_health_check: { path: '/healthz' },
    },
  ],
  common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: '0s' },
};
const IN = listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }]);
const flagsOf = ({ engine }: TestEngine): (string | undefined)[] =>
  engine.clusters.find('app')?.hosts.map((host) => host.flagsText) ?? [];
const statusOf = async (worker: TestEngine): Promise<number> => (await ask(worker.port('in'))).status;

test('hosts are checked once for all workers, and one that starts later knows', { timeout: 60_000 }, async (t) => {
  const app = await startPatient(t);
  const config = bootstrap([IN], [staticCluster('app', [app.port], CHECKS)]);
  const { main, workers, kill } = startThreads(t, config, 2);
  await main.engine.start();
  await main.engine.whenLive();
  assert.deepEqual(await Promise.all(workers.map(statusOf)), [200, 200]);
  app.status = 503;
  await eventually('all know that it is ill', async () =>
    workers.every((worker) => flagsOf(worker)[0] === '/failed_active_hc'),
  );
  assert.deepEqual(await Promise.all(workers.map(statusOf)), [503, 503]);
  await kill(1);
  assert.deepEqual(flagsOf(workers[1]!), ['/failed_active_hc']);
  app.status = 200;
  await eventually('all know that it is well', async () => workers.every((worker) => flagsOf(worker)[0] === 'healthy'));
  assert.equal(await statusOf(workers[1]!), 200);
  // An attempt is counted before it arrives.
  await eventually(
    'the application saw the checks of the main thread and no other',
    async () => app.checks === main.counter('cluster.app.health_check.attempt'),
  );
  assert.deepEqual(
    workers.map(({ counter }) => counter('cluster.app.health_check.attempt')),
    [0, 0],
  );
});

test('hosts that discovery brings and takes away are known in all threads', { timeout: 60_000 }, async (t) => {
  const ads = await startAds(t);
  const apps = [await startPatient(t), await startPatient(t)];
  apps[1]!.status = 503;
  const endpoints = (list: typeof apps): JsonObject => ({
    cluster_name: 'app',
    endpoints: [{ lb_endpoints: list.map(({ port }) => ({ endpoint: { address: socketAddress(port) } })) }],
  });
  const { main, workers } = startThreads(t, dynamicBootstrap(ads.port), 2);
  ads.set('cds', 'app', { ...edsCluster('app'), ...CHECKS });
  ads.set('eds', 'app', endpoints(apps));
  ads.set('lds', 'in', IN);
  await main.engine.start();
  await main.engine.whenLive();
  await eventually('the first results', async () =>
    workers.every((worker) => flagsOf(worker).join() === 'healthy,/failed_active_hc'),
  );
  ads.set('eds', 'app', endpoints([apps[0]!]));
  await eventually('the ill one is gone', async () => workers.every((worker) => flagsOf(worker).join() === 'healthy'));
  apps[1]!.status = 200;
  ads.set('eds', 'app', endpoints(apps));
  await eventually('it is back, and well', async () =>
    workers.every((worker) => flagsOf(worker).join() === 'healthy,healthy'),
  );
});

test('hosts of a name are the same in all threads, whatever DNS says to each question', {
  timeout: 60_000,
}, async (t) => {
  const app = await startPatient(t);
  let questions = 0;
  const name: JsonObject = {
    ...staticCluster('app', [], CHECKS),
    type: 'STRICT_DNS',
    dns_refresh_rate: '0.05s',
    load_assignment: {
      cluster_name: 'app',
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(app.port, 'app.test') } }] }],
    },
  };
  const { main, workers } = startThreads(t, bootstrap([IN], [name]), 2, async () => {
    questions += 1;
    // Nobody listens but on the first; each question gets another one beside it.
    return { addresses: ['127.0.0.1', `127.0.0.${2 + (questions % 50)}`], ttlMs: undefined };
  });
  await main.engine.start();
  await main.engine.whenLive();
  const asked = questions;
  for (let round = 0; round < 20; round++) assert.deepEqual(await Promise.all(workers.map(statusOf)), [200, 200]);
  await eventually('the name is asked again', async () => questions > asked + 3);
  for (const worker of workers)
    await eventually(
      'all of its hosts are known',
      async () => flagsOf(worker).join() === 'healthy,/failed_active_hc' && worker.engine.clusters.warm,
    );
});

test('failures in a row count over all workers, and an ejection is everywhere', { timeout: 60_000 }, async (t) => {
  const app = await startPatient(t);
  const outlier: JsonObject = {
    outlier_detection: {
      consecutive_5xx: 5,
      interval: '0.2s',
      base_ejection_time: '1s',
      max_ejection_percent: 100,
    },
    common_lb_config: { healthy_panic_threshold: { value: 0 }, update_merge_window: '0s' },
  };
  const { main, workers } = startThreads(t, bootstrap([IN], [staticCluster('app', [app.port], outlier)]), 2);
  await main.engine.start();
  await main.engine.whenLive();
  app.answer = 500;
  for (const worker of [0, 1, 0, 1]) assert.equal(await statusOf(workers[worker]!), 500);
  assert.deepEqual(flagsOf(workers[0]!), ['healthy']);
  assert.equal(await statusOf(workers[0]!), 500);
  await eventually('both know', async () => workers.every((worker) => flagsOf(worker)[0] === '/failed_outlier_check'));
  assert.deepEqual(await Promise.all(workers.map(statusOf)), [503, 503]);
  assert.equal(main.counter('cluster.app.outlier_detection.ejections_enforced_consecutive_5xx'), 1);
  app.answer = 200;
  await eventually('it is back', async () => workers.every((worker) => flagsOf(worker)[0] === 'healthy'));
  assert.deepEqual(await Promise.all(workers.map(statusOf)), [200, 200]);
});

test('outcomes travel together, failures at once and in their order, one message at a time', async () => {
  const clock = createFakeClock(0);
  const sent: ToMain[] = [];
  const book = new HealthBook(clock, (message) => sent.push(message));
  const report = (...list: Outcome[]): void => {
    for (const outcome of list) book.report('c', 'h', outcome);
  };
  const runs = () => {
    const message = sent.splice(0)[0];
    return message?.kind === 'outcomes' ? message.runs.map(([, , outcome, count]) => [outcome, count]) : undefined;
  };
  report(200, 'connected', 404, 'connected', 201);
  await clock.advance(OUTCOME_REPORT_MS - 1);
  assert.equal(runs(), undefined);
  await clock.advance(1);
  assert.deepEqual(runs(), [
    [200, 3],
    ['connected', 2],
  ]);
  report(500, 500, 200, 200, 500, 'reset', 200);
  await clock.advance(OUTCOME_REPORT_MS);
  assert.equal(runs(), undefined, 'the first message was not taken yet');
  book.taken();
  await clock.advance(0);
  assert.deepEqual(runs(), [
    [500, 2],
    [200, 2],
    [500, 1],
    ['reset', 1],
    [200, 1],
  ]);
  book.taken();
  report(200, 503);
  await clock.advance(0);
  assert.deepEqual(runs(), [
    [200, 1],
    [503, 1],
  ]);
  // Each is two entries: what fits no message goes at once, until too much is under way.
  for (let i = 0; i < MAX_OUTCOME_RUNS * MAX_OUTCOME_MESSAGES; i++) report(500, 200);
  const full = sent.splice(0);
  assert.equal(full.length, MAX_OUTCOME_MESSAGES - 1);
  for (const message of full) assert.equal(message.kind === 'outcomes' && message.runs.length, MAX_OUTCOME_RUNS);
  for (let i = 0; i < MAX_OUTCOME_MESSAGES; i++) book.taken();
  await clock.advance(0);
  assert.equal(runs()?.length, MAX_OUTCOME_RUNS);
  report(200);
  book.taken();
  await clock.advance(OUTCOME_REPORT_MS - 1);
  assert.equal(runs(), undefined, 'successes have time');
  await clock.advance(1);
  assert.deepEqual(runs(), [[200, 1]]);
});

test('the whole program: two threads serve what a third one checks', { timeout: 60_000 }, async (t) => {
  const app = await startPatient(t);
  const ejects: JsonObject = {
    ...CHECKS,
    outlier_detection: {
      consecutive_5xx: 6,
      interval: '0.2s',
      base_ejection_time: '3s',
      max_ejection_percent: 100,
      successful_active_health_check_uneject_host: false,
    },
  };
  const program = await startProgram(t, bootstrap([IN], [staticCluster('app', [app.port], ejects)]), 2);
  const port = await program.port('in');
  // Each on a connection of its own, so that both threads are asked.
  const many = async (): Promise<string> => {
    const answers = await Promise.all(Array.from({ length: 16 }, () => ask(port)));
    return [...new Set(answers.map(({ status }) => status))].join();
  };
  assert.equal(await many(), '200');
  app.status = 503;
  await eventually('nobody sends to it', async () => (await many()) === '503');
  app.status = 200;
  await eventually('all send to it', async () => (await many()) === '200');
  const attempts = await program.stat('cluster.app.health_check.attempt');
  assert.ok(app.checks >= attempts - 1 && app.checks <= attempts + 5, `${app.checks} checks, ${attempts} attempts`);
  app.answer = 500;
  await many();
  await eventually('it is ejected everywhere', async () => (await many()) === '503');
  assert.equal(await program.stat('cluster.app.outlier_detection.ejections_active'), 1);
  assert.equal(await program.stat('cluster.app.outlier_detection.ejections_enforced_consecutive_5xx'), 1);
  app.answer = 200;
  await eventually('it is back', async () => (await many()) === '200');
  assert.equal(program.log(), '');
});
