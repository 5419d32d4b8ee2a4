// HTTP/2 to upstreams: multiplexing, gRPC streams with trailers, resets, GOAWAY, and the hops between the versions.
import assert from 'node:assert/strict';
import {
  type ClientHttp2Session,
  connect,
  constants,
  createSecureServer,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { createServer as createTcp } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  clientTls,
  commonTls,
  createCa,
  fileLog,
  hcm,
  listen,
  listener,
  raw,
  routes,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from './testing/engine.ts';

const KEY = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

function http2Cluster(port: number, options: JsonObject = {}, extra: JsonObject = {}): JsonObject {
  return staticCluster('app', [port], {
    typed_extension_protocol_options: {
      [KEY]: {
        '@type': `type.googleapis.com/${KEY}`,
        explicit_http_config: { http2_protocol_options: options },
        ...extra,
      },
    },
  });
}

interface Upstream {
  readonly port: number;
  readonly sessions: ServerHttp2Session[];
}

async function upstream(
  t: TestContext,
  answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
): Promise<Upstream> {
  const sessions: ServerHttp2Session[] = [];
  const server = createServer({ settings: { enableConnectProtocol: true } });
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => {});
    answer(stream, headers);
  });
  t.after(() => {
    for (const session of sessions) session.destroy();
  });
  return { port: await listen(t, server as never), sessions };
}

function hop(t: TestContext, cluster: JsonObject, extra: JsonObject = {}, route: JsonObject = {}) {
  return startEngine(
    t,
    bootstrap([listener('in', [{ filters: [hcm(routes([toCluster('app', route)]), extra)] }])], [cluster]),
  );
}

function client(t: TestContext, port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  t.after(() => session.destroy());
  return session;
}

test('HTTP/1 requests share one HTTP/2 connection, with bodies and pseudo-headers in place', async (t) => {
  const seen: IncomingHttpHeaders[] = [];
  const app = await upstream(t, (stream, headers) => {
    seen.push(headers);
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.on('end', () => {
      stream.respond({ ':status': 200, 'x-up': 'yes' });
      stream.end(`got ${bytes}`);
    });
  });
  const proxy = await hop(t, http2Cluster(app.port));
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      ask(proxy.port('in'), `/r${i}`, {
        method: 'POST',
        body: Buffer.alloc(i * 20_000, 97),
        headers: { Host: 'example.com', 'X-Mixed': 'Case', Connection: 'keep-alive' },
      }),
    ),
  );
  for (const [i, answer] of answers.entries()) {
    assert.deepEqual([answer.status, answer.body], [200, `got ${i * 20_000}`]);
    assert.equal(answer.headers['x-up'], 'yes');
  }
  assert.equal(app.sessions.length, 1);
  const one = seen[0]!;
  assert.deepEqual([one[':method'], one[':scheme'], one[':authority']], ['POST', 'http', 'example.com']);
  assert.deepEqual([one['x-mixed'], one.host, one.connection], ['Case', undefined, undefined]);
  assert.equal(proxy.counter('cluster.app.upstream_cx_http2_total'), 1);
  assert.equal(proxy.counter('cluster.app.upstream_rq_total'), 20);
  await until(() => proxy.counter('cluster.app.http2.streams_active') === 0, 'no stream is left');
});

test('gRPC streams both ways through HTTP/2 on both sides, with its status in the trailers', async (t) => {
  const app = await upstream(t, (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('data', (chunk: Buffer) => stream.write(Buffer.concat([Buffer.from('re:'), chunk])));
    stream.on('end', () => stream.end());
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }));
  });
  const proxy = await hop(t, http2Cluster(app.port), {
    access_log: [fileLog('log', '%PROTOCOL% %UPSTREAM_CLUSTER% %TRAILER(grpc-status)%\n')],
  });
  const session = client(t, proxy.port('in'));
  const stream = session.request({
    ':method': 'POST',
    ':path': '/svc/call',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  let text = '';
  let trailers: IncomingHttpHeaders = {};
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  stream.on('trailers', (got: IncomingHttpHeaders) => {
    trailers = got;
  });
  for (const part of ['one', 'two', 'three']) {
    stream.write(part);
    await until(() => text.endsWith(`re:${part}`), `the echo of ${part}`);
  }
  stream.end();
  await until(() => trailers['grpc-status'] === '0', 'trailers');
  assert.equal(trailers['grpc-message'], 'fine');
  await until(() => proxy.lines.get('log')?.length === 1, 'a log line');
  assert.deepEqual(proxy.lines.get('log'), ['HTTP/2 app 0']);
});

test('a gRPC client hears of a failed upstream in gRPC form', async (t) => {
  const app = await upstream(t, (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
  const proxy = await hop(t, http2Cluster(app.port), { access_log: [fileLog('log', '%RESPONSE_FLAGS%\n')] });
  const session = client(t, proxy.port('in'));
  const stream = session.request({ ':method': 'POST', ':path': '/svc/call', 'content-type': 'application/grpc' });
  stream.end();
  const headers = await new Promise<IncomingHttpHeaders>((resolve) => stream.on('response', resolve));
  stream.resume();
  assert.deepEqual([headers[':status'], headers['grpc-status']], [200, '14']);
  assert.match(String(headers['grpc-message']), /reset reason: remote reset/);
  await until(() => proxy.lines.get('log')?.length === 1, 'a log line');
  assert.deepEqual(proxy.lines.get('log'), ['UR']);
});

test('max_concurrent_streams opens further connections; a refused stream is tried again', async (t) => {
  const open: ServerHttp2Stream[] = [];
  let refuse = 1;
  const app = await upstream(t, (stream, headers) => {
    if (headers[':path'] === '/refused' && refuse-- > 0) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else if (headers[':path'] === '/refused') {
      stream.respond({ ':status': 200 });
      stream.end('second');
    } else open.push(stream);
  });
  const proxy = await hop(
    t,
    http2Cluster(app.port, { max_concurrent_streams: 2 }),
    {},
    { retry_policy: { retry_on: 'refused-stream', num_retries: 2 } },
  );
  const answers = Array.from({ length: 5 }, () => ask(proxy.port('in'), '/hold'));
  await until(() => open.length === 5, 'all are with the upstream');
  assert.equal(app.sessions.length, 3);
  assert.equal((await ask(proxy.port('in'), '/refused')).body, 'second');
  assert.equal(proxy.counter('cluster.app.upstream_rq_retry'), 1);
  for (const stream of open) {
    stream.respond({ ':status': 204 });
    stream.end();
  }
  for (const answer of await Promise.all(answers)) assert.equal(answer.status, 204);
});

test('after GOAWAY open exchanges go on and new ones take another connection', async (t) => {
  const open: ServerHttp2Stream[] = [];
  const app = await upstream(t, (stream) => open.push(stream));
  const proxy = await hop(t, http2Cluster(app.port));
  const first = ask(proxy.port('in'), '/1');
  await until(() => open.length === 1, 'the first is with the upstream');
  app.sessions[0]!.goaway(0, open[0]!.id);
  await until(() => proxy.counter('cluster.app.upstream_cx_close_notify') === 1, 'GOAWAY was heard');
  const second = ask(proxy.port('in'), '/2');
  await until(() => open.length === 2, 'the second is with the upstream');
  assert.equal(app.sessions.length, 2);
  for (const stream of open) {
    stream.respond({ ':status': 200 });
    stream.end('ok');
  }
  assert.deepEqual([(await first).body, (await second).body], ['ok', 'ok']);
});

test('a cancelled request resets its stream only', async (t) => {
  const codes: (number | undefined)[] = [];
  const app = await upstream(t, (stream, headers) => {
    stream.on('close', () => codes.push(stream.rstCode));
    if (headers[':path'] === '/ok') {
      stream.respond({ ':status': 200 });
      stream.end('ok');
    }
  });
  const proxy = await hop(t, http2Cluster(app.port), {}, { timeout: '0.1s' });
  const slow = await ask(proxy.port('in'), '/never');
  assert.equal(slow.status, 504);
  assert.equal((await ask(proxy.port('in'), '/ok')).body, 'ok');
  assert.equal(app.sessions.length, 1);
  await until(() => codes.length === 2, 'both streams closed');
  assert.equal(codes[0], constants.NGHTTP2_INTERNAL_ERROR);
});

test('WebSocket of an HTTP/1 client becomes an extended CONNECT, and back', async (t) => {
  const app = await upstream(t, (stream, headers) => {
    assert.deepEqual([headers[':method'], headers[':protocol']], ['CONNECT', 'websocket']);
    stream.respond({ ':status': 200 });
    stream.on('data', (chunk: Buffer) => stream.write(`echo:${chunk}`));
  });
  const proxy = await hop(t, http2Cluster(app.port, { allow_connect: true }), {
    upgrade_configs: [{ upgrade_type: 'websocket' }],
    http2_protocol_options: { allow_connect: true },
  });
  const head = 'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const { text } = await raw(proxy.port('in'), `${head}early`, (all) => all.includes('echo:early'));
  assert.match(text, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
  assert.match(text, /upgrade: websocket/);
  // And from an HTTP/2 client.
  const session = client(t, proxy.port('in'));
  await new Promise((resolve) => session.once('remoteSettings', resolve));
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', ':scheme': 'http' });
  let got = '';
  let status = 0;
  stream.on('response', (headers) => {
    status = Number(headers[':status']);
  });
  stream.on('data', (chunk: Buffer) => {
    got += chunk.toString();
  });
  stream.write('hi');
  await until(() => got === 'echo:hi', 'the echo');
  assert.equal(status, 200);
});

test('use_downstream_protocol_config speaks what the client speaks', async (t) => {
  const app = await upstream(t, (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('two');
  });
  const cluster = staticCluster('app', [app.port], {
    typed_extension_protocol_options: {
      [KEY]: { '@type': `type.googleapis.com/${KEY}`, use_downstream_protocol_config: { http2_protocol_options: {} } },
    },
  });
  const proxy = await hop(t, cluster);
  const stream = client(t, proxy.port('in')).request({ ':path': '/' });
  let body = '';
  stream.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  await until(() => body === 'two', 'an answer over HTTP/2');
  assert.equal((await ask(proxy.port('in'), '/')).status, 502);
  assert.equal(proxy.counter('cluster.app.upstream_cx_http1_total'), 1);
});

test('auto_config speaks what ALPN agrees on', async (t) => {
  const ca = await createCa();
  const identity = await ca.issue('spiffe://cluster.local/ns/a/sa/a');
  const tls = { key: identity.key, cert: identity.certificate };
  const both = createSecureServer(tls, (request, response) => void response.end(`v${request.httpVersion}`));
  const old = createHttps(tls, (request, response) => void response.end(`v${request.httpVersion}`));
  for (const server of [both, old]) {
    const port = await listen(t, server as never);
    const cluster = staticCluster('app', [port], {
      transport_socket: clientTls(commonTls(undefined, ca.pem, [{ prefix: 'spiffe://' }])),
      typed_extension_protocol_options: {
        [KEY]: { '@type': `type.googleapis.com/${KEY}`, auto_config: { http2_protocol_options: {} } },
      },
    });
    const proxy = await hop(t, cluster);
    const answers = await Promise.all([1, 2, 3].map(() => ask(proxy.port('in'), '/')));
    const http2 = server === both;
    for (const answer of answers) assert.equal(answer.body, http2 ? 'v2.0' : 'v1.1');
    assert.equal(proxy.counter('cluster.app.upstream_cx_http2_total'), http2 ? 1 : 0);
    assert.equal(proxy.counter('cluster.app.upstream_cx_http1_total') > 0, !http2);
    proxy.engine.stop();
  }
});

test('connection_keepalive: an upstream that does not answer PING is gone', async (t) => {
  // Speaks just enough to be an HTTP/2 server: its SETTINGS, and nothing more.
  const mute = createTcp((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])));
    socket.resume();
  });
  const port = await listen(t, mute as never);
  const proxy = await hop(t, http2Cluster(port, { connection_keepalive: { interval: '0.02s', timeout: '0.05s' } }));
  const answer = await ask(proxy.port('in'), '/');
  assert.equal(answer.status, 503);
  assert.match(answer.body, /reset reason: connection termination/);
  assert.equal(proxy.counter('cluster.app.http2.keepalive_timeout'), 1);
});
