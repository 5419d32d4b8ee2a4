// Bytes of hostile upstream servers: HTTP/1 answers and HTTP/2 connections. Nothing throws, every exchange ends exactly once,
// nothing is delivered after its end, and where a read was cut never changes what an answer means.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { h2Counters } from '../../src/data-plane/proxy/http/h2-options.ts';
import { HeaderMap, headerName } from '../../src/data-plane/proxy/http/header-map.ts';
import { StatsStore } from '../../src/data-plane/proxy/stats/stats.ts';
import type { OutgoingHead, ResponseReceiver } from '../../src/data-plane/proxy/upstream/exchange.ts';
import { H1ClientConnection } from '../../src/data-plane/proxy/upstream/h1-client.ts';
import { H2ClientConnection } from '../../src/data-plane/proxy/upstream/h2-client.ts';
import { DEFAULT_HTTP } from '../../src/data-plane/proxy/upstream/http-options.ts';
import type { ConnectionOwner, PooledConnection } from '../../src/data-plane/proxy/upstream/pool.ts';
import { cut, FakeTransport, feed } from './fake-transport.ts';
import { corpus, fuzz, seededRandom } from './mutate.ts';

const CLOCK = { now: () => 0, after: () => () => {} };
/** Large enough for every answer of the corpus; a mutant may say so as often as it likes. */
const MOST_SENT_BYTES = 64 * 1024;

function head(): OutgoingHead {
  const headers = new HeaderMap();
  headers.add(headerName('host'), 'a');
  return { method: 'GET', path: '/', scheme: 'http', headers, body: 'none', upgrade: '' };
}

/** Writes down what an exchange delivers; throws when it goes on after its end. */
function receiver(log: string[], length: number): ResponseReceiver & { readonly ended: () => boolean } {
  let ended = false;
  let started = false;
  let body = '';
  const lines = (headers: HeaderMap): string => {
    const out: string[] = [];
    headers.forEach((key, value) => {
      assert.match(key, /^[!#$%&'*+\-.^_`|~0-9a-z]+$/);
      assert.doesNotMatch(value, /[\r\n\0]/);
      out.push(`${key}=${value}`);
    });
    return out.join('&');
  };
  const open = (): void => assert.equal(ended, false, 'nothing comes after the end');
  return {
    ended: () => ended,
    onResponseInformational(status, headers) {
      open();
      assert.equal(started, false);
      log.push(`1xx ${status} ${lines(headers)}`);
    },
    onResponseHead(status, headers, endStream) {
      open();
      assert.equal(started, false, 'one head');
      assert.ok(status >= 200 && status <= 999);
      started = true;
      ended = endStream;
      log.push(`head ${status} ${lines(headers)} ${endStream}`);
    },
    onResponseData(bytes, start, end) {
      open();
      assert.ok(started);
      body += bytes.toString('latin1', start, end);
      assert.ok(body.length <= length, 'no more than was sent');
    },
    onResponseEnd(trailers) {
      open();
      ended = true;
      log.push(`end ${body} ${trailers ? lines(trailers) : ''}`);
    },
    onUpstreamReset() {
      open();
      ended = true;
      log.push(`reset ${started} ${body}`);
    },
    onRequestBacklog() {},
  };
}

/** The pool's part: counts, and asks for nothing more. */
function owner(): ConnectionOwner & { closed: number } {
  return {
    closed: 0,
    onCapacity() {},
    onCloseNotify() {},
    onClosed() {
      this.closed += 1;
    },
  };
}

async function play(
  make: (transport: FakeTransport, pool: ConnectionOwner) => PooledConnection,
  pieces: readonly Buffer[],
  input: Buffer,
): Promise<string[]> {
  const log: string[] = [];
  const transport = new FakeTransport();
  const pool = owner();
  const connection = make(transport, pool);
  connection.start();
  const answer = receiver(log, input.length);
  connection.open().begin(head(), answer);
  feed(transport, input, pieces);
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(transport.sent.reduce((sum, part) => sum + part.length, 0) < MOST_SENT_BYTES + 64 * input.length);
  transport.destroy();
  assert.ok(answer.ended(), 'the end of its connection ends the exchange');
  assert.equal(pool.closed, 1);
  assert.equal(connection.capacity, 0);
  return log;
}

test('HTTP/1: any answer is delivered once or refused, the same however it is cut', async () => {
  const random = seededRandom(17);
  const make = (transport: FakeTransport, pool: ConnectionOwner) =>
    new H1ClientConnection(transport, pool, DEFAULT_HTTP);
  await fuzz(corpus('http1-response'), 3_000, async (input) => {
    const whole = await play(make, [input], input);
    assert.deepEqual(await play(make, cut(input, random), input), whole);
  });
});

test('HTTP/2: any frames of a server end the exchange once, the same however they are cut', async () => {
  const random = seededRandom(18);
  await fuzz(corpus('http2-response'), 2_000, async (input) => {
    const stats = new StatsStore();
    const deps = { clock: CLOCK, random: () => 0, h2: () => h2Counters(stats) };
    const make = (transport: FakeTransport, pool: ConnectionOwner) =>
      new H2ClientConnection(transport, pool, DEFAULT_HTTP, deps);
    const whole = await play(make, [input], input);
    assert.deepEqual(await play(make, cut(input, random), input), whole);
    assert.equal(stats.gauge('http2.streams_active').value, 0);
  });
});
