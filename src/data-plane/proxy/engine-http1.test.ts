// HTTP/1 options of listeners and clusters, and CONNECT: tunnels that end here, and those that are passed on.
import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  bootstrap,
  fileLog,
  hcm,
  listen,
  listener,
  raw,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  until,
} from './testing/engine.ts';

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const PRESERVE = 'envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig';

function hop(
  t: TestContext,
  port: number,
  extra: JsonObject = {},
  list: readonly JsonObject[] = [toCluster('app')],
  cluster: JsonObject = {},
) {
  return startEngine(
    t,
    bootstrap([listener('in', [{ filters: [hcm(routes(list), extra)] }])], [staticCluster('app', [port], cluster)]),
  );
}

/** A server that remembers what it read and answers `answer` to every head. */
async function plain(t: TestContext, answer: string): Promise<{ port: number; seen: () => string }> {
  let text = '';
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.endsWith('\r\n\r\n')) socket.write(answer);
    });
  });
  return { port: await listen(t, server as never), seen: () => text };
}

const OK = 'HTTP/1.1 200 OK\r\nX-Some-thing: a\r\ncontent-length: 2\r\n\r\nok';

test('header names are written in Proper-Case where the configuration says so', async (t) => {
  const app = await plain(t, OK);
  const format = { header_key_format: { proper_case_words: {} } };
  const proxy = await hop(t, app.port, { http_protocol_options: format }, undefined, {
    typed_extension_protocol_options: {
      [OPTIONS]: {
        '@type': `type.googleapis.com/${OPTIONS}`,
        explicit_http_config: { http_protocol_options: format },
      },
    },
  });
  const { text } = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nhost: a\r\nx-foo-bar: 1\r\n\r\n', (all) =>
    all.endsWith('ok'),
  );
  assert.match(text, /\r\nX-Some-Thing: a\r\nContent-Length: 2\r\nX-Envoy-Upstream-Service-Time: \d+\r\n/);
  assert.match(text, /\r\nDate: .*\r\nServer: envoy\r\n|\r\nServer: envoy\r\nDate: /);
  assert.match(app.seen(), /\r\nHost: a\r\nX-Foo-Bar: 1\r\nX-Forwarded-Proto: http\r\n/);
});

test('header names keep their spelling where the configuration says so, both ways', async (t) => {
  const app = await plain(t, OK);
  const format = {
    header_key_format: {
      stateful_formatter: { name: 'preserve_case', typed_config: { '@type': `type.googleapis.com/${PRESERVE}` } },
    },
  };
  const proxy = await hop(t, app.port, { http_protocol_options: format }, undefined, {
    typed_extension_protocol_options: {
      [OPTIONS]: {
        '@type': `type.googleapis.com/${OPTIONS}`,
        explicit_http_config: { http_protocol_options: format },
      },
    },
  });
  const { text } = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nHOST: a\r\nX-FOO-bar: 1\r\n\r\n', (all) =>
    all.endsWith('ok'),
  );
  assert.match(text, /\r\nX-Some-thing: a\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: \d+\r\n/);
  assert.match(app.seen(), /\r\nHOST: a\r\nX-FOO-bar: 1\r\nx-forwarded-proto: http\r\n/);
});

test('names with underscores are dropped or refused, in both versions', async (t) => {
  const app = await startApp(t, 'app');
  const ask = 'GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\nx-z: 2\r\n\r\n';
  const drop = await hop(t, app.port, {
    common_http_protocol_options: { headers_with_underscores_action: 'DROP_HEADER' },
  });
  await raw(drop.port('in'), ask, (all) => all.includes('app'));
  assert.deepEqual([app.seen[0]!.headers.x_y, app.seen[0]!.headers['x-z']], [undefined, '2']);
  assert.equal(drop.counter('http1.dropped_headers_with_underscores'), 1);
  const reject = await hop(t, app.port, {
    common_http_protocol_options: { headers_with_underscores_action: 'REJECT_REQUEST' },
  });
  assert.match((await raw(reject.port('in'), ask)).text, /^HTTP\/1\.1 400 /);
  const session = connectHttp2(`http://127.0.0.1:${reject.port('in')}`);
  t.after(() => session.destroy());
  session.on('error', () => {});
  const stream = session.request({ ':path': '/', x_y: '1' });
  stream.on('error', () => {});
  await new Promise((resolve) => stream.on('close', resolve));
  assert.equal(reject.counter('http2.requests_rejected_with_underscores_in_headers'), 1);
  assert.equal(app.seen.length, 1);
});

test('HTTP/1.0 gets a default host; an absolute URL can be refused; a connection has a largest age', async (t) => {
  const app = await startApp(t, 'app');
  const proxy = await hop(t, app.port, {
    http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'old.example', allow_absolute_url: false },
    common_http_protocol_options: { max_connection_duration: '0.05s' },
    drain_timeout: '0.05s',
  });
  await raw(proxy.port('in'), 'GET / HTTP/1.0\r\n\r\n');
  assert.equal(app.seen[0]!.headers.host, 'old.example');
  const absolute = await raw(proxy.port('in'), 'GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n', (all) =>
    all.includes('\r\n\r\n'),
  );
  assert.match(absolute.text, /^HTTP\/1\.1 404 /);
  // Idle: it ends when its time has come.
  const kept = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(kept.text, /^HTTP\/1\.1 200 /);
  assert.ok(proxy.counter('http.test.downstream_cx_max_duration_reached') >= 1);
});

const CONNECT_ROUTE = {
  match: { connect_matcher: {} },
  route: { cluster: 'app', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] },
};

async function echo(t: TestContext): Promise<number> {
  const server = createServer((socket: Socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => socket.write(`echo:${chunk}`));
  });
  return await listen(t, server as never);
}

test('CONNECT ends here in a plain connection, from HTTP/1 and HTTP/2', async (t) => {
  const port = await echo(t);
  const proxy = await hop(
    t,
    port,
    { upgrade_configs: [{ upgrade_type: 'CONNECT' }], http2_protocol_options: { allow_connect: true } },
    [CONNECT_ROUTE],
  );
  const one = await raw(proxy.port('in'), 'CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\nhello', (all) =>
    all.includes('echo:hello'),
  );
  assert.match(one.text, /^HTTP\/1\.1 200 OK\r\n/);
  assert.doesNotMatch(one.text, /transfer-encoding|content-length/);
  const session = connectHttp2(`http://127.0.0.1:${proxy.port('in')}`);
  t.after(() => session.destroy());
  const stream = session.request({ ':method': 'CONNECT', ':authority': 'a:80' });
  let got = '';
  stream.on('data', (chunk: Buffer) => {
    got += chunk.toString();
  });
  stream.write('two');
  await until(() => got === 'echo:two', 'the echo');
  stream.end();
  const refused = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nhost: a\r\n\r\n', (all) => all.includes('\r\n\r\n'));
  assert.match(refused.text, /^HTTP\/1\.1 404 /);
});

test('CONNECT without connect_config is passed on as CONNECT, and needs the upgrade to be allowed', async (t) => {
  const port = await echo(t);
  const inner = await hop(t, port, { upgrade_configs: [{ upgrade_type: 'CONNECT' }] }, [CONNECT_ROUTE]);
  const forward = [{ match: { connect_matcher: {} }, route: { cluster: 'app' } }];
  const outer = await hop(t, inner.port('in'), { upgrade_configs: [{ upgrade_type: 'CONNECT' }] }, forward);
  const { text } = await raw(outer.port('in'), 'CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\nhello', (all) =>
    all.includes('echo:hello'),
  );
  assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
  const closed = await hop(t, port, {}, forward);
  const no = await raw(closed.port('in'), 'CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n', (all) =>
    all.includes('\r\n\r\n'),
  );
  assert.match(no.text, /^HTTP\/1\.1 403 /);
});

test('each of several pipelined requests is logged with its own bytes', async (t) => {
  const app = await startApp(t, 'app');
  const format = '%PATH% %DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_HEADER_BYTES_RECEIVED%\n';
  const proxy = await hop(t, app.port, { access_log: [fileLog('log', format)] });
  const first = `GET /1 HTTP/1.1\r\nHost: a\r\nX-Long: ${'a'.repeat(100)}\r\n\r\n`;
  const second = 'HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n';
  const third = 'GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
  await raw(proxy.port('in'), first + second + third);
  await proxy.engine.stop();
  assert.deepEqual(proxy.lines.get('log'), [
    `/1 ${first.length} ${first.length - 21}`,
    `/2 ${second.length} ${second.length - 21}`,
    `/3 ${third.length} ${third.length - 21}`,
  ]);
});
