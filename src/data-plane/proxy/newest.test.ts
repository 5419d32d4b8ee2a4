// The last object of each kind is there after its end, and lets no earlier one live on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HttpStream } from './http/stream.ts';
import { newest } from './newest.ts';
import {
  bootstrap,
  hcm,
  listener,
  raw,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
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
