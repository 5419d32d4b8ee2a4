// How filters see heads, bodies and trailers: order, stopping, keeping, passing on later, switching off by route.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filterBench } from '../testing/filters.ts';
import type { HttpFilter } from './filter.ts';

/** Notes what it sees; `extra` overrides hooks. */
function spy(name: string, seen: string[], extra: Partial<HttpFilter> = {}): HttpFilter {
  const text = (bytes: Buffer, start: number, end: number) => bytes.toString('latin1', start, end);
  return {
    name,
    onRequest() {
      seen.push(`${name} head`);
      return 'continue';
    },
    onRequestData(_stream, bytes, start, end) {
      seen.push(`${name} ${text(bytes, start, end)}`);
      return 'continue';
    },
    onRequestEnd(_stream, trailers) {
      seen.push(`${name} end${trailers ? ' with trailers' : ''}`);
      return 'continue';
    },
    onResponse(_stream, _headers, _index, endStream) {
      seen.push(`${name} response${endStream ? ' only' : ''}`);
    },
    onResponseData(_stream, bytes, start, end) {
      seen.push(`${name} response ${text(bytes, start, end)}`);
      return 'continue';
    },
    onResponseEnd(_stream, trailers) {
      seen.push(`${name} response end${trailers ? ' with trailers' : ''}`);
      return 'continue';
    },
    ...extra,
  };
}

test('requests pass filters in order, responses in reverse', () => {
  const seen: string[] = [];
  const bench = filterBench(() => [spy('a', seen), spy('b', seen)]);
  const one = bench.request('POST /', {}, { body: true });
  one.send('xy');
  one.end({ t: '1' });
  assert.deepEqual(seen.splice(0), ['a head', 'b head', 'a xy', 'b xy', 'a end with trailers', 'b end with trailers']);
  assert.deepEqual(one.upstream()?.body, 'xy');
  assert.equal(one.upstream()?.ended, true);
  one.respond(200, {}, ['r'], { t: '2' });
  assert.deepEqual(seen, [
    'b response',
    'a response',
    'b response r',
    'a response r',
    'b response end with trailers',
    'a response end with trailers',
  ]);
  assert.deepEqual([one.body(), one.trailers(), one.ended()], ['r', { t: '2' }, true]);
});

test('a request without a body has no body hooks, a response without one neither', () => {
  const seen: string[] = [];
  const one = filterBench(() => [spy('a', seen)]).request('GET /');
  one.respond(204);
  assert.deepEqual(seen, ['a head', 'a response only']);
});

test('a filter that stops without looking at the body leaves it in the client', () => {
  let go = () => {};
  const seen: string[] = [];
  const bench = filterBench(() => [
    {
      name: 'wait',
      onRequest(stream) {
        go = () => stream.continueRequest();
        return 'stop';
      },
    },
    spy('b', seen),
  ]);
  const one = bench.request('POST /', {}, { body: true });
  one.send('x');
  assert.equal(one.paused(), true);
  assert.equal(one.upstream(), undefined);
  go();
  assert.equal(one.paused(), false);
  one.send('y');
  one.end();
  assert.deepEqual([one.upstream()?.body, one.upstream()?.ended], ['xy', true]);
  assert.deepEqual(seen, ['b head', 'b x', 'b y', 'b end']);
});

test('a filter that keeps the body gets all of it, and what it kept passes the filters behind it', () => {
  const seen: string[] = [];
  const bench = filterBench(() => [
    spy('a', seen),
    spy('keep', seen, {
      onRequest: (stream) => (stream.requestEnded ? 'continue' : 'stop'),
      onRequestData: () => 'hold',
      onRequestEnd(stream) {
        stream.continueRequest();
        return 'stop';
      },
    }),
    spy('b', seen),
  ]);
  const one = bench.request('POST /', {}, { body: true });
  one.send('1');
  one.send('2');
  assert.equal(one.paused(), false);
  assert.equal(one.upstream(), undefined);
  one.end();
  assert.deepEqual(seen, ['a head', 'a 1', 'a 2', 'a end', 'b head', 'b 1', 'b 2', 'b end']);
  assert.equal(one.upstream()?.body, '12');
  assert.equal(one.upstream()?.ended, true);
});

test('two filters one behind the other may both wait', () => {
  const waiting: (() => void)[] = [];
  const wait = (name: string): HttpFilter => ({
    name,
    onRequest(stream) {
      waiting.push(() => stream.continueRequest());
      return 'stop';
    },
  });
  const one = filterBench(() => [wait('a'), wait('b')]).request('POST /', {}, { body: true });
  one.send('x');
  one.end();
  waiting[0]!();
  assert.equal(one.upstream(), undefined);
  waiting[1]!();
  assert.deepEqual([one.upstream()?.body, one.upstream()?.ended], ['x', true]);
});

test('a filter may take bytes and pass others on, both ways', () => {
  const upper = (bytes: Buffer, start: number, end: number) =>
    Buffer.from(bytes.toString('latin1', start, end).toUpperCase());
  const bench = filterBench(() => [
    {
      name: 'upper',
      onRequestData(stream, bytes, start, end, index) {
        const out = upper(bytes, start, end);
        stream.passRequestData(index, out, 0, out.length);
        return 'taken';
      },
      onResponseData(stream, bytes, start, end, index) {
        const out = upper(bytes, start, end);
        stream.passResponseData(index, out, 0, out.length);
        return 'taken';
      },
    },
  ]);
  const one = bench.request('POST /', {}, { body: true });
  one.send('ab');
  one.end();
  one.respond(200, {}, ['cd']);
  assert.deepEqual([one.upstream()?.body, one.body()], ['AB', 'CD']);
});

test('an answer of a filter passes only the filters that saw the request', () => {
  const seen: string[] = [];
  const bench = filterBench(() => [
    spy('a', seen),
    {
      name: 'answer',
      onRequest(stream) {
        stream.localReply({ status: 403, body: 'no', flags: 0, details: 'x' });
        return 'stop';
      },
    },
    spy('b', seen),
  ]);
  const one = bench.request('GET /');
  assert.deepEqual(seen, ['a head', 'a response', 'a response no', 'a response end']);
  assert.deepEqual([one.status(), one.body()], [403, 'no']);
});

const FILTER_CONFIG = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig' };

test('a chain that nobody ends answers instead of leaving the client waiting', () => {
  const bench = filterBench(() => [], {
    routes: {
      typed_per_filter_config: { end: { ...FILTER_CONFIG, disabled: true } },
    },
  });
  const one = bench.request('GET /');
  assert.deepEqual([one.status(), one.stream.info.responseDetails], [500, 'no_terminal_filter']);
});

test('routes switch filters off and on; the most specific level decides', () => {
  const seen: string[] = [];
  const bench = filterBench(() => [spy('a', seen), { ...spy('b', seen), disabled: true }], {
    routes: {
      virtual_hosts: [
        {
          name: 'v',
          domains: ['*'],
          typed_per_filter_config: { a: { ...FILTER_CONFIG, disabled: true } },
          routes: [
            {
              match: { prefix: '/both' },
              route: { cluster: 'app' },
              typed_per_filter_config: { a: cors(), b: { ...FILTER_CONFIG, config: cors() } },
            },
            { match: { prefix: '/' }, route: { cluster: 'app' } },
          ],
        },
      ],
    },
  });
  bench.request('GET /none').respond(200);
  assert.deepEqual(seen.splice(0), []);
  bench.request('GET /both').respond(200);
  assert.deepEqual(seen, ['a head', 'b head', 'b response only', 'a response only']);
});

function cors() {
  return { '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy' };
}
