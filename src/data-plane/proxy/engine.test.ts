// The engine in process with a static bootstrap: a plain hop, routing, local replies, retries, faults, framing.
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  fileLog,
  hcm,
  listen,
  listener,
  ROUTER,
  raw,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  typed,
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

test('a plain hop forwards method, path, headers and body both ways', async (t) => {
  const app = await startApp(t, 'hello', (request) => ({ body: `got ${request.body.length}` }));
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [app.port])]);
  const answer = await ask(proxy.port('in'), '/a?b=c', {
    method: 'POST',
    body: 'x'.repeat(300_000),
    headers: { 'X-Case': 'Kept' },
  });
  assert.equal(answer.status, 200);
  assert.equal(answer.body, 'got 300000');
  assert.equal(answer.headers.server, 'envoy');
  assert.match(String(answer.headers['x-envoy-upstream-service-time']), /^\d+$/);
  const seen = app.seen[0]!;
  assert.equal(seen.url, '/a?b=c');
  assert.equal(seen.headers['x-case'], 'Kept');
  assert.equal(seen.headers['x-forwarded-proto'], 'http');
  assert.match(
    String(seen.headers['x-request-id']),
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  assert.equal(seen.headers['x-envoy-expected-rq-timeout-ms'], '10000');
});

test('keep-alive and pipelined requests are answered in order on one upstream connection', async (t) => {
  const app = await startApp(t, 'x', (request) => ({ body: request.url }));
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [app.port])]);
  const one = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
  const { text } = await raw(proxy.port('in'), one('/r1') + one('/r2') + one('/r3'), (all) => all.includes('/r3'));
  assert.deepEqual(text.match(/\/r\d/g), ['/r1', '/r2', '/r3']);
  assert.equal(proxy.counter('cluster.app.upstream_cx_total'), 1);
});

test('a large response reaches a slow reader whole, and the proxy does not hold it all', async (t) => {
  const size = 48 * 1024 * 1024;
  let left = size;
  const server = createServer((socket) => {
    const block = Buffer.alloc(65_536, 97);
    const more = () => {
      let room = true;
      while (left > 0 && room) {
        const part = block.subarray(0, Math.min(left, block.length));
        left -= part.length;
        room = socket.write(part);
      }
    };
    socket.on('error', () => {});
    socket.on('drain', more);
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`);
      more();
    });
  });
  const port = await listen(t, server as never);
  const proxy = await hop(t, [toCluster('app', { timeout: '0s' })], [staticCluster('app', [port])]);
  const client = connect(proxy.port('in'), '127.0.0.1');
  t.after(() => client.destroy());
  client.pause();
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  let last = size;
  let still = 0;
  await until(() => {
    still = left < size && left === last ? still + 1 : 0;
    last = left;
    return still > 20;
  }, 'the upstream is held back');
  assert.ok(left > 0, 'the whole response was read ahead of the client');
  let got = 0;
  client.on('data', (chunk: Buffer) => {
    got += chunk.length;
  });
  client.resume();
  await until(() => got > size, 'all bytes');
});

test('local replies carry the exact status, body and flag', async (t) => {
  const log = { access_log: [fileLog('log', '%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')] };
  const closed = createServer((socket) => socket.on('data', () => socket.destroy()).on('error', () => {}));
  const closing = await listen(t, closed as never);
  const proxy = await hop(
    t,
    [
      { match: { path: '/nc' }, route: { cluster: 'none' } },
      { match: { path: '/uh' }, route: { cluster: 'empty' } },
      { match: { path: '/uf' }, route: { cluster: 'refused' } },
      { match: { path: '/uc' }, route: { cluster: 'closing' } },
      { match: { path: '/dr' }, direct_response: { status: 418, body: { inline_string: 'tea' } } },
    ],
    [staticCluster('empty', []), staticCluster('refused', [1]), staticCluster('closing', [closing])],
    log,
  );
  const port = proxy.port('in');
  const got = async (path: string) => {
    const { status, body } = await ask(port, path, { method: 'POST' });
    return [status, body];
  };
  const connect = 'upstream connect error or disconnect/reset before headers. reset reason: ';
  assert.deepEqual(await got('/nc'), [503, '']);
  assert.deepEqual(await got('/uh'), [503, 'no healthy upstream']);
  assert.deepEqual(await got('/uf'), [503, `${connect}remote connection failure`]);
  assert.deepEqual(await got('/uc'), [503, `${connect}connection termination`]);
  assert.deepEqual(await got('/dr'), [418, 'tea']);
  assert.deepEqual(await got('/nothing'), [404, '']);
  await until(() => (proxy.lines.get('log')?.length ?? 0) === 6, 'six log lines');
  assert.deepEqual(proxy.lines.get('log'), [
    '503 NC cluster_not_found',
    '503 UH no_healthy_upstream',
    '503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}',
    '503 UC upstream_reset_before_response_started{connection_termination}',
    '418 - direct_response',
    '404 NR route_not_found',
  ]);
});

test('faults delay and abort; redirects and rewrites do as told', async (t) => {
  const app = await startApp(t, 'app');
  const fault = (config: JsonObject) => ({
    typed_per_filter_config: {
      'envoy.filters.http.fault': {
        '@type': 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault',
        ...config,
      },
    },
  });
  const always = { numerator: 100 };
  const proxy = await hop(
    t,
    [
      {
        match: { path: '/abort' },
        route: { cluster: 'app' },
        ...fault({ abort: { http_status: 555, percentage: always } }),
      },
      {
        match: { path: '/delay' },
        route: { cluster: 'app' },
        ...fault({ delay: { fixed_delay: '0.08s', percentage: always } }),
      },
      { match: { path: '/never' }, route: { cluster: 'app' }, ...fault({ abort: { http_status: 555 } }) },
      { match: { prefix: '/old/' }, redirect: { host_redirect: 'b', path_redirect: '/new', response_code: 'FOUND' } },
      { match: { prefix: '/p/' }, route: { cluster: 'app', prefix_rewrite: '/q/', host_rewrite_literal: 'other' } },
      { match: { safe_regex: { regex: '/re/[0-9]+' } }, route: { cluster: 'app' } },
    ],
    [staticCluster('app', [app.port])],
    { http_filters: [typed('envoy.filters.http.fault', 'envoy.extensions.filters.http.fault.v3.HTTPFault'), ROUTER] },
  );
  const port = proxy.port('in');
  const aborted = await ask(port, '/abort');
  assert.deepEqual([aborted.status, aborted.body], [555, 'fault filter abort']);
  const started = performance.now();
  assert.equal((await ask(port, '/delay', { method: 'POST', body: 'waits' })).body, 'app');
  assert.ok(performance.now() - started >= 75);
  assert.equal(app.seen.at(-1)?.body, 'waits');
  assert.equal((await ask(port, '/never')).status, 200);
  const moved = await ask(port, '/old/x?q=1', { headers: { host: 'a:80' } });
  assert.deepEqual([moved.status, moved.headers.location], [302, 'http://b/new?q=1']);
  await ask(port, '/p/x?y=1');
  assert.equal(app.seen.at(-1)?.url, '/q/x?y=1');
  assert.equal(app.seen.at(-1)?.headers.host, 'other');
  assert.equal(app.seen.at(-1)?.headers['x-envoy-original-path'], '/p/x?y=1');
  assert.equal((await ask(port, '/re/12')).status, 200);
  assert.equal((await ask(port, '/re/12x')).status, 404);
});

test('a websocket upgrade becomes a tunnel; an upgrade nobody allowed is refused', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (head: Buffer) => {
      assert.match(head.toString(), /connection: upgrade\r\nupgrade: websocket/i);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n');
      socket.on('data', (chunk: Buffer) => socket.write(`echo:${chunk}`));
    });
  });
  const port = await listen(t, server as never);
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [port])], {
    upgrade_configs: [{ upgrade_type: 'websocket' }],
  });
  const head = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const { text } = await raw(proxy.port('in'), `${head}early`, (all) => all.includes('echo:early'));
  assert.match(text, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
  assert.match(text, /upgrade: websocket/);
  const refused = await raw(proxy.port('in'), head.replace('websocket', 'foo'));
  assert.match(refused.text, /^HTTP\/1\.1 403 /);
});

test('100-continue is answered, HTTP/1.0 gets 426, a missing Host 400', async (t) => {
  const app = await startApp(t, 'app');
  const proxy = await hop(t, [toCluster('app')], [staticCluster('app', [app.port])]);
  const port = proxy.port('in');
  const { text } = await raw(
    port,
    'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n',
    (all) => all.includes('100 Continue'),
  );
  assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  assert.match((await raw(port, 'GET / HTTP/1.0\r\n\r\n')).text, /^HTTP\/1\.1 426 Upgrade Required/);
  assert.match((await raw(port, 'GET / HTTP/1.1\r\n\r\n', (all) => all.includes('\r\n\r\n'))).text, /^HTTP\/1\.1 400 /);
});

test('trailers pass both ways when both sides enable them, and are dropped otherwise', async (t) => {
  let got = '';
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString('latin1');
      if (!got.endsWith('\r\n\r\n') || !got.includes('\r\n0\r\n')) return;
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nb-trailer: 2\r\n\r\n');
    });
  });
  const port = await listen(t, server as never);
  const request = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA-Trailer: 1\r\n\r\n';
  const options = typed('', 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions', {
    explicit_http_config: { http_protocol_options: { enable_trailers: true } },
  }).typed_config!;
  for (const enabled of [true, false]) {
    got = '';
    const proxy = await hop(
      t,
      [toCluster('app')],
      [
        staticCluster('app', [port], {
          typed_extension_protocol_options: { 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': options },
        }),
      ],
      enabled ? { http_protocol_options: { enable_trailers: true } } : {},
    );
    const { text } = await raw(proxy.port('in'), request, (all) => /\r\n0\r\n(b-.*\r\n)?\r\n$/.test(all));
    assert.equal(text.endsWith('2\r\nok\r\n0\r\nb-trailer: 2\r\n\r\n'), enabled);
    assert.equal(got.endsWith('1\r\nx\r\n0\r\na-trailer: 1\r\n\r\n'), enabled);
  }
});

test('what is not supported is refused by name and path', async (t) => {
  const refuse = async (config: JsonObject, expected: RegExp) => {
    await assert.rejects(async () => startEngine(t, config), expected);
  };
  await refuse(
    bootstrap(
      [listener('in', [{ filters: [typed('x', 'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy')] }])],
      [],
    ),
    /not in the type registry|MongoProxy/,
  );
  await refuse(
    bootstrap([], [staticCluster('a', [1], { lrs_server: { self: {} } })]),
    /cluster 'a'\.lrs_server: field of envoy\.config\.cluster\.v3\.Cluster is not supported/,
  );
  await refuse(
    bootstrap([], [staticCluster('a', [1], { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '100' } })]),
    /maglev_lb_config\.table_size: The table size of maglev must be prime number/,
  );
  await refuse(
    bootstrap(
      [
        listener('in', [
          {
            filters: [
              hcm(
                routes([
                  {
                    match: { prefix: '/' },
                    route: { cluster: 'a', hedge_policy: { hedge_on_per_try_timeout: true } },
                  },
                ]),
              ),
            ],
          },
        ]),
      ],
      [],
    ),
    /hedge_policy: field of envoy\.config\.route\.v3\.RouteAction is not supported/,
  );
  await refuse(
    bootstrap(
      [
        listener('in', [
          { filters: [hcm(routes([{ match: { safe_regex: { regex: '(' } }, route: { cluster: 'a' } }]))] },
        ]),
      ],
      [],
    ),
    /Invalid regex '\('/,
  );
});

test('a head that edits would blow up is never sent in halves', async (t) => {
  const app = await startApp(t, 'app');
  const many = Array.from({ length: 8 }, (_, i) => ({ header: { key: `x-${i}`, value: '%REQ(x-big)%' } }));
  const edited = (path: string, edits: JsonObject): JsonObject => ({
    match: { path },
    route: { cluster: 'app' },
    ...edits,
  });
  const proxy = await hop(
    t,
    [edited('/request', { request_headers_to_add: many }), edited('/response', { response_headers_to_add: many })],
    [staticCluster('app', [app.port])],
  );
  const port = proxy.port('in');
  const big = { 'x-big': 'a'.repeat(40_000) };
  assert.equal((await ask(port, '/request', { headers: big })).status, 431);
  assert.equal(app.seen.length, 0);
  const broken = await raw(port, `GET /response HTTP/1.1\r\nhost: a\r\nx-big: ${big['x-big']}\r\n\r\n`);
  assert.equal(broken.text, '');
  assert.equal((await ask(port, '/response', { headers: { 'x-big': 'small' } })).headers['x-7'], 'small');
});
