// Connections that outlive their TCP session because bytes still wait for a slow peer: they count until they have gone. The client
// is a transport of this file, so that who has read what does not depend on the kernel's buffers.
import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../../base/runtime/clock.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';
import { bootstrap, listen, startEngine, staticCluster, until } from '../testing/engine.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import { TcpProxyHandler } from './tcp-proxy.ts';
import type { TcpProxySettings } from './tcp-proxy-settings.ts';

const nowhere = { kind: 'pipe', path: '' } as const;

class FakeClient implements Transport {
  readonly tls = undefined;
  readonly local = nowhere;
  readonly remote = nowhere;
  closed = false;
  readonly peerEnded = false;
  readonly backlogBytes = 0;
  bytesRead = 0;
  bytesWritten = 0;
  bulk = false;
  paused = false;
  asked: 'nothing' | 'end' | 'closeSoon' | 'destroy' | 'reset' = 'nothing';
  sink: TransportSink | undefined;
  start(sink: TransportSink): void {
    this.sink = sink;
  }
  redirect(sink: TransportSink): void {
    this.sink = sink;
  }
  reserve(): number {
    throw new Error('not used here');
  }
  commit(): void {}
  write(_bytes: Buffer, start: number, end: number): void {
    this.bytesWritten += end - start;
  }
  forward(bytes: Buffer, start: number, end: number): boolean {
    this.write(bytes, start, end);
    return true;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  end(): void {
    this.asked = 'end';
  }
  closeSoon(): void {
    this.asked = 'closeSoon';
  }
  destroy(): void {
    this.asked = 'destroy';
  }
  reset(): void {
    this.asked = 'reset';
  }
  /** The socket has gone. */
  close(failure?: TransportFailure): void {
    this.closed = true;
    this.sink?.onClose(failure);
  }
}

const settings: TcpProxySettings = {
  statPrefix: 'test',
  choose: () => ({ name: 'up', metadataMatch: undefined }),
  metadataMatch: undefined,
  idleMs: 60_000,
  maxAttempts: 1,
  maxDurationMs: 0,
  hash: undefined,
  logIntervalMs: 0,
  logOnConnected: false,
};

const info = (): ConnectionInfo => ({
  id: 1,
  local: nowhere,
  directLocal: nowhere,
  remote: nowhere,
  directRemote: nowhere,
  requestedServerName: '',
  transportProtocol: 'raw_buffer',
  alpn: [],
  tls: undefined,
  listenerName: '',
  chainName: '',
  direction: 'unspecified',
  state: new Map(),
  metadata: new Map(),
});

/** A handler whose cluster takes one connection at a time, to a server that does as `serve` says. */
async function start(t: TestContext, serve: (socket: Socket) => void) {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    sockets.push(socket);
    serve(socket);
  });
  const limit = { circuit_breakers: { thresholds: [{ max_connections: 1 }] } };
  const { engine, counter } = await startEngine(
    t,
    bootstrap([], [staticCluster('up', [await listen(t, server as never)], limit)]),
  );
  const handler = new TcpProxyHandler(settings, undefined, [], {
    clock: systemClock,
    random: Math.random,
    clusters: engine.clusters,
    stats: engine.stats,
    local: undefined as never,
  });
  const open = () => {
    const client = new FakeClient();
    let closes = 0;
    handler.accept(client, info(), () => {
      closes += 1;
    });
    return { client, closes: () => closes };
  };
  return { handler, counter, sockets, open };
}

test('an upstream that has not read everything holds its place in the circuit breaker, though its client has gone', async (t) => {
  const { handler, counter, sockets, open } = await start(t, (socket) => socket.end());
  const { client, closes } = open();
  await until(() => client.asked === 'end', 'the end of the server');
  const block = Buffer.alloc(65_536);
  let said = 0;
  client.paused = false;
  for (; !client.paused; said += block.length) client.sink!.onData(block, 0, block.length);
  client.sink!.onEnd();
  client.close();
  assert.equal(closes(), 1);
  assert.equal(handler.active, 1);
  assert.equal(counter('tcp.test.upstream_flush_total'), 1);
  const next = open();
  assert.equal(counter('cluster.up.upstream_cx_overflow'), 1);
  assert.equal(next.client.asked, 'destroy');
  assert.equal(next.closes(), 1);
  let heard = 0;
  sockets[0]!.on('data', (bytes: Buffer) => {
    heard += bytes.length;
  });
  sockets[0]!.resume();
  await until(() => handler.active === 0, 'everything is read');
  await until(() => heard === said, 'all of it');
  assert.equal(counter('cluster.up.upstream_cx_active'), 0);
  const last = open();
  await until(() => sockets.length === 2, 'room for another');
  assert.equal(counter('cluster.up.upstream_cx_overflow'), 1);
  last.client.sink!.onEnd();
  last.client.close();
});

test('a client that has not read everything is counted until it has gone, though its upstream has', async (t) => {
  const { handler, counter, open } = await start(t, (socket) => {
    socket.end('last words');
    socket.on('end', () => socket.destroy());
    socket.resume();
  });
  const { client, closes } = open();
  await until(() => client.asked === 'end', 'the end of the server');
  client.sink!.onEnd();
  await until(() => counter('cluster.up.upstream_cx_destroy') === 1, 'the upstream has gone');
  assert.equal(client.asked, 'closeSoon');
  assert.equal(client.bytesWritten, 10);
  assert.equal(closes(), 0);
  assert.equal(handler.active, 1);
  // A drain ends it.
  handler.closeAll();
  assert.equal(client.asked, 'destroy');
  client.close();
  assert.equal(closes(), 1);
  assert.equal(handler.active, 0);
});
