// Bytes of hostile clients: HTTP/1 requests, HTTP/2 connections, HPACK blocks. Nothing throws, nothing grows without bound,
// and where a read was cut never changes what a request means.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { H2ServerCallbacks, RequestReceiver, ResponseSender } from '../../src/data-plane/proxy/http/codec.ts';
import { H1ServerConnection } from '../../src/data-plane/proxy/http/h1-server.ts';
import { H2Head } from '../../src/data-plane/proxy/http/h2-head.ts';
import { h2Counters, readH2Options } from '../../src/data-plane/proxy/http/h2-options.ts';
import { H2ServerConnection } from '../../src/data-plane/proxy/http/h2-server.ts';
import { HeaderMap, headerName } from '../../src/data-plane/proxy/http/header-map.ts';
import { HpackDecoder } from '../../src/data-plane/proxy/http/hpack-decoder.ts';
import { encodedBound, HpackEncoder } from '../../src/data-plane/proxy/http/hpack-encoder.ts';
import { StatsStore } from '../../src/data-plane/proxy/stats/stats.ts';
import { cut, FakeTransport, feed } from './fake-transport.ts';
import { corpus, fuzz, seededRandom } from './mutate.ts';

const CLOCK = { now: () => 0, after: () => () => {} };
const OPTIONS = {
  maxHeadBytes: 2_000,
  maxHeaders: 20,
  acceptHttp10: true,
  enableTrailers: true,
  serverName: 'envoy',
  headTimeoutMs: 1_000,
  delayedCloseMs: 1_000,
  drainTimeoutMs: 1_000,
  flushTimeoutMs: 0,
  h2: readH2Options(undefined, ''),
};

/** Answers every request when it is complete, and writes down what it saw. */
function server(log: string[]): H2ServerCallbacks {
  let requests = 0;
  return {
    newStream(sender: ResponseSender): RequestReceiver {
      const name = `#${requests++}`;
      let body = '';
      let upgrade = false;
      const answer = (): void => {
        const headers = new HeaderMap();
        headers.add(headerName('content-length'), '2');
        sender.sendHead(200, headers, false);
        sender.sendData(Buffer.from('ok'), 0, 2);
        sender.sendEnd();
      };
      return {
        onRequestHead(head, headers, endStream) {
          const lines: string[] = [];
          headers.forEach((key, value) => {
            assert.match(key, /^[!#$%&'*+\-.^_`|~0-9a-z]+$/);
            assert.doesNotMatch(value, /[\r\n\0]/);
            lines.push(`${key}=${value}`);
          });
          assert.ok(lines.length <= OPTIONS.maxHeaders);
          log.push(`${name} ${head.method} ${head.target} ${head.body} ${head.upgrade} ${lines.join('&')}`);
          upgrade = head.upgrade !== '';
          if (endStream || upgrade) answer();
        },
        onRequestData(bytes, start, end) {
          body += bytes.toString('latin1', start, end);
        },
        onRequestEnd(trailers) {
          log.push(`${name} end ${body} ${trailers ? 'trailers' : ''}`);
          if (!upgrade) answer();
        },
        onRequestReset: (reason) => void log.push(`${name} ${reason}`),
        onResponseBacklog() {},
      };
    },
    onBadRequest: (error, status) => void log.push(`bad ${error} ${status}`),
    onProtocolError: (details) => void log.push(`protocol ${details}`),
    onPrematureResets() {},
    onConnectionClosed: () => void log.push('closed'),
  };
}

test('HTTP/1: any bytes have an answer, the same however they are cut', async () => {
  const random = seededRandom(7);
  const play = (pieces: readonly Buffer[], input: Buffer): string[] => {
    const log: string[] = [];
    const transport = new FakeTransport();
    const connection = new H1ServerConnection(transport, server(log), OPTIONS, CLOCK);
    connection.start();
    feed(transport, input, pieces);
    // Which of several faults is named may depend on what came first; that the request is refused may not.
    return log.filter((line) => line !== 'closed').map((line) => (line.startsWith('bad') ? 'bad' : line));
  };
  await fuzz(corpus('http1'), 3_000, (input) => {
    if (input.length > 1_500) return;
    const whole = play([input], input);
    assert.deepEqual(play(cut(input, random), input), whole);
  });
});

test('HTTP/2: any frames end in answers or a clean end, the same however they are cut', async () => {
  const random = seededRandom(8);
  const play = async (pieces: readonly Buffer[], input: Buffer): Promise<string[]> => {
    const log: string[] = [];
    const transport = new FakeTransport();
    const stats = new StatsStore();
    const deps = { clock: CLOCK, random: () => 0, counters: h2Counters(stats) };
    const connection = new H2ServerConnection(transport, server(log), OPTIONS, deps);
    connection.start();
    feed(transport, input, pieces);
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(stats.gauge('http2.streams_active').value <= OPTIONS.h2.maxStreams);
    assert.ok(transport.sent.reduce((sum, part) => sum + part.length, 0) < 64 * 1024 + 64 * input.length);
    transport.destroy();
    assert.equal(stats.gauge('http2.streams_active').value, 0);
    return log.filter((line) => line !== 'closed');
  };
  await fuzz(corpus('http2'), 2_000, async (input) => {
    const whole = await play([input], input);
    assert.deepEqual(await play(cut(input, random), input), whole);
  });
});

test('HPACK: any block is read within its limits, and what was read survives coding', async () => {
  const limits = { maxBytes: 2_000, maxCount: 20 };
  const out = Buffer.alloc(64 * 1024);
  await fuzz(corpus('hpack'), 20_000, (input) => {
    const decoder = new HpackDecoder(4_096);
    const headers = new HeaderMap();
    const head = new H2Head();
    const ok = decoder.decode(input, 0, input.length, headers, head, limits);
    assert.ok(decoder.table.size <= 4_096);
    assert.ok(headers.count <= limits.maxCount);
    if (!ok || head.problem !== '') return;
    const encoder = new HpackEncoder(4_096);
    const end = encoder.fields(out, encoder.begin(out, 0), headers);
    assert.ok(end <= encodedBound(headers, 0));
    const again = new HeaderMap();
    assert.ok(new HpackDecoder(4_096).decode(out, 0, end, again, new H2Head(), { maxBytes: 1e6, maxCount: 100 }));
    const list = (map: HeaderMap): string[] => {
      const lines: string[] = [];
      map.forEach((key, value) => {
        if (key !== 'host') lines.push(`${key}: ${value}`);
      });
      return lines;
    };
    assert.deepEqual(list(again), list(headers));
  });
});
