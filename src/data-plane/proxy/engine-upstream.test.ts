// Upstreams that are slow, gone or too many to ask, through real sockets.
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  hcm,
  listen,
  listener,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from './testing/engine.ts';

/** One listener `in` with `list` as routes over the given clusters. */
function hop(
  t: TestContext,
  list: readonly JsonObject[],
  clusters: readonly JsonObject[],
  extra: JsonObject = {},
  host: JsonObject = {},
) {
  return startEngine(t, bootstrap([listener('in', [{ filters: [hcm(routes(list, host), extra)] }])], clusters));
}

test('time-outs, retries with another host, and their headers', async (t) => {
  const slow = await startApp(t, 'slow', () => ({ status: 503, body: 'first' }));
  const good = await startApp(t, 'good');
  const hang = createServer((socket) => void socket.on('error', () => {}));
  const hanging = await listen(t, hang as never);
  const retry = {
    retry_on: 'retriable-status-codes',
    retriable_status_codes: [503],
    num_retries: 2,
    retry_host_predicate: [{ name: 'envoy.retry_host_predicates.previous_hosts' }],
    host_selection_retry_max_attempts: 5,
  };
  const proxy = await hop(
    t,
    [
      { match: { path: '/hang' }, route: { cluster: 'hang', timeout: '0.05s' } },
      { match: { prefix: '/' }, route: { cluster: 'both', retry_policy: retry } },
    ],
    [staticCluster('both', [slow.port, good.port], { lb_policy: 'ROUND_ROBIN' }), staticCluster('hang', [hanging])],
    {},
    { include_request_attempt_count: true },
  );
  const late = await ask(proxy.port('in'), '/hang');
  assert.deepEqual([late.status, late.body], [504, 'upstream request timeout']);
  for (let i = 0; i < 4; i++)
    assert.equal((await ask(proxy.port('in'), '/', { method: 'POST', body: 'again' })).body, 'good');
  assert.ok(slow.seen.length >= 1, 'the failing host was tried');
  assert.ok(good.seen.some((entry) => entry.headers['x-envoy-attempt-count'] === '2' && entry.body === 'again'));
  assert.equal(proxy.counter('cluster.both.upstream_rq_retry'), slow.seen.length);
});

test('a kept connection that died is replaced without the client noticing', async (t) => {
  let first: Socket | undefined;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let answered = 0;
    socket.on('data', () => {
      // The second request on the first connection is never answered.
      first ??= socket;
      if (socket === first && answered > 0) {
        socket.destroy();
        return;
      }
      answered += 1;
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    });
  });
  const port = await listen(t, server as never);
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [port])]);
  assert.equal((await ask(proxy.port('in'))).body, 'ok');
  assert.equal((await ask(proxy.port('in'))).body, 'ok');
  assert.equal((await ask(proxy.port('in'), '/', { method: 'POST' })).status, 200);
});

test('circuit breakers answer overflow with 503 and x-envoy-overloaded', async (t) => {
  const waiting: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', () => waiting.push(socket));
  });
  const port = await listen(t, server as never);
  const limits = { circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1 }] } };
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [port], limits)]);
  const agent = new Agent();
  const first = ask(proxy.port('in'), '/1', { agent });
  await until(() => waiting.length === 1, 'the first request is with the upstream');
  const second = ask(proxy.port('in'), '/2', { agent });
  await until(() => proxy.counter('cluster.app.upstream_rq_pending_active') === 1, 'the second waits');
  const third = await ask(proxy.port('in'), '/3', { agent });
  assert.deepEqual([third.status, third.headers['x-envoy-overloaded']], [503, 'true']);
  assert.match(third.body, /reset reason: overflow$/);
  const ok = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n';
  waiting[0]!.write(ok);
  await until(() => waiting.length === 2, 'the second was sent');
  waiting[1]!.write(ok);
  assert.deepEqual([(await first).status, (await second).status], [200, 200]);
});

test('connections that their server closed while idle cost a repeatable request nothing, however many there are', async (t) => {
  const held: Socket[] = [];
  const answer = (socket: Socket): void => {
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  };
  const server = createServer((socket) => {
    let requests = 0;
    socket.on('error', () => {});
    socket.on('data', () => {
      requests += 1;
      // The server gives up its connections at the moment they are used again.
      if (requests > 1) socket.resetAndDestroy();
      else if (held.length < 4) held.push(socket);
      else answer(socket);
    });
  });
  const port = await listen(t, server as unknown as Parameters<typeof listen>[1]);
  const engine = await startEngine(
    t,
    bootstrap([listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }])], [staticCluster('app', [port])]),
  );
  const first = Array.from({ length: 4 }, () => ask(engine.port('in')));
  await until(() => held.length === 4, 'four connections are in use');
  for (const socket of held) answer(socket);
  for (const each of await Promise.all(first)) assert.equal(each.status, 200);
  assert.equal((await ask(engine.port('in'))).status, 200);
  assert.equal(engine.counter('cluster.app.upstream_cx_total'), 5, 'all four were tried before a new one');
});

test('a mirror that never reads neither slows a request down nor keeps its body', async (t) => {
  const app = await startApp(t, 'app');
  const deaf = createServer((socket) => socket.pause().on('error', () => {}));
  const port = await listen(t, deaf as never);
  const proxy = await hop(
    t,
    [
      {
        match: { prefix: '/' },
        route: { cluster: 'app', timeout: '20s', request_mirror_policies: [{ cluster: 'deaf' }] },
      },
    ],
    [staticCluster('app', [app.port]), staticCluster('deaf', [port])],
  );
  const body = Buffer.alloc(16 * 1024 * 1024, 'x');
  const answer = await ask(proxy.port('in'), '/', { method: 'POST', body });
  assert.deepEqual([answer.status, app.seen[0]!.body.length], [200, body.length]);
  assert.equal(proxy.counter('cluster.deaf.upstream_rq_total'), 1);
  // Its bound was reached: the copy was given up, and holds no place.
  await until(() => proxy.counter('cluster.deaf.upstream_rq_active') === 0, 'the mirror is given up');
});
