import assert from 'node:assert/strict';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../../../base/runtime/clock.ts';
import { FakeClock } from '../cluster/testing/fakes.ts';
import type { SocketAddr } from '../config/address.ts';
import { type DialResult, dial, type UpstreamSource } from './dial.ts';
import { dialInTurns } from './happy-eyeballs.ts';
import type { Transport } from './transport.ts';

const at = (n: number): SocketAddr => ({ kind: 'ip', ip: `10.0.0.${n}`, port: 80 });

function setUp(count: number) {
  const clock = new FakeClock();
  const tried: ((result: DialResult) => void)[] = [];
  const cancelled: number[] = [];
  const results: DialResult[] = [];
  const cancel = dialInTurns(
    Array.from({ length: count }, (_, n) => at(n)),
    clock,
    (_target, done) => {
      const n = tried.push(done) - 1;
      return () => cancelled.push(n);
    },
    (result) => results.push(result),
  );
  const connected: DialResult = {
    kind: 'connected',
    transport: { destroy: () => cancelled.push(-1) } as unknown as Transport,
  };
  return { clock, tried, cancelled, results, cancel, connected };
}
const FAILED: DialResult = { kind: 'failed', reason: 'no' };

test('a failure brings the next address at once, slowness after a while', () => {
  const { clock, tried, results, connected, cancelled } = setUp(3);
  assert.equal(tried.length, 1);
  tried[0]!(FAILED);
  assert.equal(tried.length, 2);
  clock.pass(300);
  assert.equal(tried.length, 3);
  tried[2]!(connected);
  assert.deepEqual(results, [connected]);
  assert.deepEqual(cancelled, [1], 'the slow one is given up');
  assert.equal(clock.waiting, 0);
});

test('it fails when all have failed', () => {
  const { tried, results } = setUp(2);
  tried[0]!(FAILED);
  assert.equal(results.length, 0);
  tried[1]!(FAILED);
  assert.deepEqual(results, [FAILED]);
});

test('given up: nothing is told, what connects is closed', () => {
  const { tried, results, cancel, connected, cancelled, clock } = setUp(2);
  cancel();
  tried[0]!(connected);
  assert.deepEqual(results, []);
  assert.deepEqual(cancelled, [0, -1]);
  assert.equal(clock.waiting, 0);
});

/** Dials a server on loopback the way `source` says and gives the address the server saw. */
async function seen(t: { after(run: () => void): void }, source: UpstreamSource): Promise<string> {
  const server = createServer();
  t.after(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const from = new Promise<string>((resolve) => {
    server.once('connection', (socket) => {
      resolve(socket.remoteAddress ?? '');
      socket.destroy();
    });
  });
  const result = await new Promise<DialResult>((resolve) =>
    dial(
      {
        target: { kind: 'ip', ip: '127.0.0.1', port },
        source,
        timeoutMs: 5_000,
        socket: { kind: 'raw' },
        alpn: undefined,
        host: undefined,
        keepAlive: source.keepAlive !== undefined,
        clock: systemClock,
      },
      resolve,
    ),
  );
  assert.equal(result.kind, 'connected');
  if (result.kind === 'connected') result.transport.destroy();
  return from;
}

const PLAIN: UpstreamSource = { ip: undefined, port: 0, options: [], keepAlive: undefined, targets: () => [] };

test('a source address is bound, with and without options of the socket', async (t) => {
  assert.equal(await seen(t, { ...PLAIN, ip: '127.0.0.7' }), '127.0.0.7');
  const SO_KEEPALIVE = { level: 1, name: 9, value: 1, beforeBind: true };
  assert.equal(await seen(t, { ...PLAIN, ip: '127.0.0.8', options: [SO_KEEPALIVE] }), '127.0.0.8');
  const keepAlive = { probes: 3, timeS: 30, intervalS: 5 };
  assert.equal(await seen(t, { ...PLAIN, keepAlive }), '127.0.0.1');
});

test('an option that the system refuses is a failed connection', async () => {
  const result = await new Promise<DialResult>((resolve) =>
    dial(
      {
        target: { kind: 'ip', ip: '127.0.0.1', port: 1 },
        source: { ...PLAIN, options: [{ level: 999, name: 999, value: 1, beforeBind: true }] },
        timeoutMs: 5_000,
        socket: { kind: 'raw' },
        alpn: undefined,
        host: undefined,
        keepAlive: false,
        clock: systemClock,
      },
      resolve,
    ),
  );
  assert.match(result.kind === 'failed' ? result.reason : result.kind, /setting socket option \(999, 999\) failed/);
});
