// Tests of how long a client may take for the head of a request, and be idle.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_HEAD_TIMEOUT_MS } from '../limits.ts';
import type { Transport } from '../transport-socket/transport.ts';
import { H1ServerConnection } from './h1-server.ts';

function setup() {
  const timers = new Map<() => void, number>();
  const time = { now: 0 };
  const clock = {
    now: () => time.now,
    after(ms: number, run: () => void) {
      timers.set(run, ms);
      return () => void timers.delete(run);
    },
  };
  const sent: string[] = [];
  const transport: Transport = {
    tls: undefined,
    local: { kind: 'pipe', path: '' },
    remote: { kind: 'pipe', path: '' },
    closed: false,
    peerEnded: false,
    backlogBytes: 0,
    bytesRead: 0,
    bytesWritten: 0,
    bulk: false,
    forward: () => true,
    start() {},
    redirect() {},
    reserve: () => 0,
    commit() {},
    write: (bytes, start, end) => void sent.push(bytes.toString('latin1', start, end)),
    pause() {},
    resume() {},
    end: () => void sent.push('end'),
    closeSoon() {},
    destroy() {},
    reset() {},
  };
  const heads: string[] = [];
  const refused: string[] = [];
  const connection = new H1ServerConnection(
    transport,
    {
      newStream: () => ({
        onRequestHead: (info) => void heads.push(info.target),
        onRequestData() {},
        onRequestEnd() {},
        onRequestReset() {},
        onResponseBacklog() {},
      }),
      onBadRequest: (error) => void refused.push(error),
      onConnectionClosed() {},
    },
    {
      maxHeadBytes: 1000,
      maxHeaders: 10,
      acceptHttp10: false,
      enableTrailers: false,
      serverName: '',
      headTimeoutMs: REQUEST_HEAD_TIMEOUT_MS,
      delayedCloseMs: 1000,
    },
    clock,
  );
  const feed = (text: string) => {
    const bytes = Buffer.from(text);
    connection.onData(bytes, 0, bytes.length);
  };
  /** The timers of a head that are running. */
  const waits = () => [...timers].filter(([, ms]) => ms === REQUEST_HEAD_TIMEOUT_MS).map(([run]) => run);
  return { connection, time, feed, waits, sent, heads, refused };
}

test('a head that trickles in has one deadline, and then the client hears 408', () => {
  const { feed, waits, sent, refused } = setup();
  assert.equal(waits().length, 0);
  feed('GET / HTTP/1.1\r\n');
  for (const byte of 'x-slow: y') feed(byte);
  assert.equal(waits().length, 1);
  waits()[0]?.();
  assert.deepEqual(refused, ['request_header_timeout']);
  assert.match(sent[0] ?? '', /^HTTP\/1\.1 408 .*connection: close/s);
  assert.equal(sent[1], 'end');
});

test('a head that comes whole, or in time, or not at all because the client left, leaves no deadline', () => {
  const { feed, waits, heads } = setup();
  feed('GET /a HTTP/1.1\r\nhost:');
  assert.equal(waits().length, 1);
  feed(' a\r\n\r\n');
  assert.deepEqual([heads, waits().length], [['/a'], 0]);
  const gone = setup();
  gone.feed('GET /');
  gone.connection.onClose(undefined);
  assert.equal(gone.waits().length, 0);
});

test('empty lines between requests keep no connection open', () => {
  const { connection, time, feed } = setup();
  time.now = 1_000;
  feed('\r\n');
  assert.equal(connection.lastActive, 0);
});
