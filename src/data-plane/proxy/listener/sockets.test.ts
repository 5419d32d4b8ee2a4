// How listeners open their sockets: shared ports, IPv4 on IPv6, Unix sockets with a mode, options set by system calls.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ask, bootstrap, hcm, listener, routes, socketAddress, startEngine, until } from '../testing/engine.ts';

const HI = routes([{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hi' } } }]);
const config = (extra: JsonObject) => bootstrap([listener('in', [{ filters: [hcm(HI)] }], extra)], []);
const start = (t: TestContext, extra: JsonObject) => startEngine(t, config(extra));

test('options before and after bind, freebind, fast open', async (t) => {
  const { port } = await start(t, {
    freebind: true,
    socket_options: [
      { level: '1', name: '9', int_value: '1', state: 'STATE_PREBIND' },
      { level: '6', name: '4', buf_value: Buffer.from([30, 0, 0, 0]).toString('base64'), state: 'STATE_LISTENING' },
    ],
    tcp_fast_open_queue_length: 16,
  });
  assert.equal((await ask(port('in'))).body, 'hi');
});

test('an option that the system refuses is an error of the start', async (t) => {
  const { engine } = await startEngine(
    t,
    config({ socket_options: [{ level: '1', name: '9999', int_value: '1' }] }),
    false,
  );
  await until(() => engine.stats.counters.get('listener_manager.listener_create_failure')?.value === 1, 'the refusal');
  assert.equal(engine.state, 'INITIALIZING');
});

test('a port is shared unless the listener says otherwise', async (t) => {
  const first = await start(t, {});
  const shared = first.port('in');
  const second = await start(t, { address: socketAddress(shared) });
  assert.equal(second.port('in'), shared);
  const alone = await start(t, { enable_reuse_port: false });
  const refused = await startEngine(
    t,
    config({ address: socketAddress(alone.port('in')), enable_reuse_port: false }),
    false,
  );
  await until(
    () => refused.engine.stats.counters.get('listener_manager.listener_create_failure')?.value === 1,
    'the refusal',
  );
  assert.notEqual(refused.engine.state, 'LIVE');
});

test('an IPv6 socket takes IPv4 where it is told to', async (t) => {
  const both = await start(t, { address: { socket_address: { address: '::', port_value: 0, ipv4_compat: true } } });
  assert.equal((await ask(both.port('in'))).body, 'hi');
  const six = await start(t, { address: { socket_address: { address: '::', port_value: 0 } } });
  await assert.rejects(ask(six.port('in')), /ECONNREFUSED/);
});

test('a Unix socket has its mode, and one left behind is no obstacle', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-sockets-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 's');
  const address = { pipe: { path: file, mode: 0o600 } };
  const first = await start(t, { address });
  first.engine.listeners.remove('in');
  await start(t, { address });
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const body = await new Promise<string>((resolve, reject) => {
    const sent = request({ socketPath: file, path: '/' }, (response) => {
      response.setEncoding('utf8');
      response.on('data', resolve);
    });
    sent.on('error', reject);
    sent.end();
  });
  assert.equal(body, 'hi');
});

test('what sockets cannot do is refused by name', async (t) => {
  for (const [extra, message] of [
    [
      { address: { pipe: { path: '@x', mode: 0o600 } } },
      /address\.pipe\.mode: Cannot set mode for Abstract AF_UNIX sockets/,
    ],
    [{ udp_listener_config: {} }, /udp_listener_config: field of .* is not supported/],
    [
      { address: { socket_address: { protocol: 'UDP', address: '127.0.0.1', port_value: 0 } } },
      /only TCP is supported/,
    ],
  ] as const)
    await assert.rejects(startEngine(t, config(extra as JsonObject), false), message);
});
