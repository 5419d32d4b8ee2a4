// The last object of each kind is there after its end, and lets no earlier one live on.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { HttpStream } from './http/stream.ts';
import { newest } from './newest.ts';
import {
  bootstrap,
  hcm,
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
import { H1ClientConnection } from './upstream/h1-client.ts';

test('after traffic has ended one stream and its connections keep the shapes of their kinds', async (t) => {
  const app = await startApp(t, 'app');
  const proxy = await startEngine(
    t,
    bootstrap([listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }])], [staticCluster('app', [app.port])]),
  );
  const ask = 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n';
  assert.match((await raw(proxy.port('in'), ask)).text, /^HTTP\/1.1 200/);
  const first = newest.stream;
  assert.match((await raw(proxy.port('in'), ask)).text, /^HTTP\/1.1 200/);
  await until(() => proxy.counter('http.test.downstream_cx_active') === 0, 'no connection is left');
  const { stream, h1Server, h1Client } = newest;
  assert.ok(stream instanceof HttpStream && stream.finished && stream.target !== undefined);
  assert.notEqual(stream, first);
  assert.equal(stream.sender, h1Server);
  assert.ok(h1Client instanceof H1ClientConnection);
});

test('the body that a filter kept goes with its request', async (t) => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const size = 12 * 1024 * 1024;
  const filters = [
    typed('buffer', 'envoy.extensions.filters.http.buffer.v3.Buffer', { max_request_bytes: size + 1024 }),
    ROUTER,
  ];
  const proxy = await startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes([toCluster('app')]), { http_filters: filters })] }])],
      [staticCluster('app', [1])],
    ),
  );
  gc();
  const before = process.memoryUsage().arrayBuffers;
  const client = connect(proxy.port('in'), '127.0.0.1');
  t.after(() => client.destroy());
  client.on('error', () => {});
  client.write(`POST / HTTP/1.1\r\nhost: a\r\ncontent-length: ${size + 1}\r\n\r\n`);
  await new Promise((resolve) => client.write(Buffer.alloc(size), resolve));
  await until(() => process.memoryUsage().arrayBuffers - before > size / 2, 'the body is kept');
  client.destroy();
  await until(() => proxy.counter('http.test.downstream_rq_active') === 0, 'the end of the request');
  await until(() => {
    gc();
    return process.memoryUsage().arrayBuffers - before < size / 2;
  }, 'the body is gone');
});
