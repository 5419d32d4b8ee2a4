// The head parser against the request-smuggling corpus, and against bytes that mean nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  BODY_CHUNKED,
  BODY_LENGTH,
  BODY_NONE,
  findHeadEnd,
  HeadInfo,
  parseRequestHead,
  parseResponseHead,
} from './h1-head.ts';
import { HeaderMap, headerName } from './header-map.ts';

function request(text: string, maxHeaders = 100) {
  const bytes = Buffer.from(text, 'latin1');
  const headers = new HeaderMap();
  headers.load(bytes, 0, bytes.length);
  const info = new HeadInfo();
  return { error: parseRequestHead(headers, bytes.length, info, maxHeaders), info, headers };
}

test('an ordinary head', () => {
  const { error, info, headers } = request('POST /a?b HTTP/1.1\r\nHost: x\r\nContent-LENGTH:  5 \r\nX-Empty:\r\n\r\n');
  assert.equal(error, undefined);
  assert.deepEqual(
    [info.method, info.target, info.minorVersion, info.bodyMode, info.contentLength, info.close],
    ['POST', '/a?b', 1, BODY_LENGTH, 5, false],
  );
  assert.equal(headers.get(headerName('X-EMPTY')), '');
  assert.equal(headers.get(headerName('content-length')), '5');
});

const CORPUS: readonly [string, string, string | undefined][] = [
  ['two lengths', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n', 'http1.codec_error'],
  ['two equal lengths', 'POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n', 'http1.codec_error'],
  ['signed length', 'POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n', 'http1.codec_error'],
  ['hex length', 'POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n', 'http1.codec_error'],
  ['list of lengths', 'POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n', 'http1.codec_error'],
  ['length beyond a double', 'POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n', 'http1.codec_error'],
  [
    'length and chunked',
    'POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
    'http1.content_length_and_chunked_not_allowed',
  ],
  [
    'chunked twice',
    'POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n',
    'http1.invalid_transfer_encoding',
  ],
  [
    'chunked and more',
    'POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n',
    'http1.invalid_transfer_encoding',
  ],
  ['xchunked', 'POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n', 'http1.invalid_transfer_encoding'],
  [
    'vertical tab before chunked',
    'POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n',
    'http1.invalid_characters',
  ],
  ['chunked in HTTP/1.0', 'POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n', 'http1.invalid_transfer_encoding'],
  ['space before the colon', 'POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n', 'http1.codec_error'],
  ['folded line', 'GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n', 'http1.codec_error'],
  ['folded first line', 'GET / HTTP/1.1\r\n Host: a\r\n\r\n', 'http1.codec_error'],
  ['bare CR in a value', 'GET / HTTP/1.1\r\nA: b\rc\r\n\r\n', 'http1.invalid_characters'],
  ['bare LF between lines', 'GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n', 'http1.invalid_characters'],
  ['NUL in a value', 'GET / HTTP/1.1\r\nA: b\0\r\n\r\n', 'http1.invalid_characters'],
  ['NUL in a name', 'GET / HTTP/1.1\r\nA\0: b\r\n\r\n', 'http1.codec_error'],
  ['empty name', 'GET / HTTP/1.1\r\n: b\r\n\r\n', 'http1.codec_error'],
  ['no colon', 'GET / HTTP/1.1\r\nAb\r\n\r\n', 'http1.codec_error'],
  ['unknown method', 'PRI * HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['lower-case method', 'get / HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['space in the target', 'GET /a b HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['tab for space', 'GET\t/ HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['raw UTF-8 in the target', 'GET /\xc3\xa9 HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['an absolute target without a host', 'GET http:///x HTTP/1.1\r\n\r\n', 'http1.invalid_url'],
  ['a quote in the host of a target', 'GET http://a"b/ HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['a backslash in the host of a target', 'GET http://a\\b/ HTTP/1.1\r\n\r\n', 'http1.codec_error'],
  ['a Host beyond ASCII', 'GET / HTTP/1.1\r\nHost: a\xe9\r\n\r\n', 'http.invalid_authority'],
  ['HTTP/2.0 in a line', 'GET / HTTP/2.0\r\n\r\n', 'low_version'],
  ['HTTP/1.10', 'GET / HTTP/1.10\r\n\r\n', 'http1.codec_error'],
];
for (const [name, text, expected] of CORPUS)
  test(`refused: ${name}`, () => {
    assert.equal(request(text).error, expected);
  });

test('more headers than allowed are refused', () => {
  const lines = 'a: b\r\n'.repeat(101);
  assert.equal(request(`GET / HTTP/1.1\r\n${lines}\r\n`).error, 'http1.too_many_headers');
  assert.equal(request(`GET / HTTP/1.1\r\n${lines}\r\n`, 200).error, undefined);
});

test('connection options remove what they name, but never what identifies the request', () => {
  const { info, headers } = request(
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Host, X-Forwarded-For\r\nX-Secret: 1\r\nX-Forwarded-For: 1.2.3.4\r\nKeep-Alive: 5\r\n\r\n',
  );
  assert.equal(info.close, true);
  const left: string[] = [];
  headers.forEach((name) => void left.push(name));
  assert.deepEqual(left, ['host', 'x-forwarded-for']);
});

test('upgrade counts only with the connection option', () => {
  assert.equal(
    request('GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n').info.upgrade,
    'websocket',
  );
  const without = request('GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n');
  assert.equal(without.info.upgrade, '');
  assert.equal(without.headers.has(headerName('upgrade')), false);
});

test('responses: status, framing and the same strictness', () => {
  const parse = (text: string) => {
    const bytes = Buffer.from(text, 'latin1');
    const headers = new HeaderMap();
    headers.load(bytes, 0, bytes.length);
    const info = new HeadInfo();
    return { error: parseResponseHead(headers, bytes.length, info, 100), info };
  };
  assert.deepEqual([parse('HTTP/1.1 204 \r\n\r\n').info.status, parse('HTTP/1.1 200\r\n\r\n').info.status], [204, 200]);
  assert.equal(parse('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n').info.bodyMode, BODY_CHUNKED);
  assert.equal(parse('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n').info.bodyMode, BODY_NONE);
  for (const bad of [
    'HTTP/1.1 2x0 OK\r\n\r\n',
    'HTTP/1.1 099 X\r\n\r\n',
    'HTTP/3.1 200 OK\r\n\r\n',
    'HTTP/1.1 200 O\0K\r\n\r\n',
    'ICY 200 OK\r\n\r\n',
  ])
    assert.equal(parse(bad).error, 'http1.codec_error', bad);
});

test('any bytes give an answer, and what is accepted is written back to the same headers', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'GET / HTTP/1.1',
      'Host: a',
      'Content-Length: 3',
      'Transfer-Encoding: chunked',
      'Connection: close',
      'X-A:b',
      'x : y',
      ' fold',
      '',
    ),
    fc.string({ unit: 'binary', maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const parsed = request(`${['GET / HTTP/1.1', ...pieces].join('\r\n')}\r\n\r\n`);
      if (parsed.error !== undefined) return;
      const before: [string, string][] = [];
      parsed.headers.forEach((name, value) => void before.push([name, value]));
      const out = Buffer.alloc(parsed.headers.writtenSize() + 16);
      const end = parsed.headers.write(out, 0);
      assert.ok(end <= parsed.headers.writtenSize());
      const again = request(`GET / HTTP/1.1\r\n${out.toString('latin1', 0, end)}\r\n`);
      const after: [string, string][] = [];
      again.headers.forEach((name, value) => void after.push([name, value]));
      assert.deepEqual(after, before);
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const buffer = Buffer.concat([Buffer.from(bytes), Buffer.from('\r\n\r\n')]);
      const headers = new HeaderMap();
      headers.load(buffer, 0, buffer.length);
      parseRequestHead(headers, buffer.length, new HeadInfo(), 100);
      parseResponseHead(headers, buffer.length, new HeadInfo(), 100);
    }),
    { numRuns: 2000 },
  );
});

test('the end of a head is found, wherever reading stopped', () => {
  const bytes = Buffer.from('GET / HTTP/1.1\r\n\r\nrest');
  assert.equal(findHeadEnd(bytes, 0, bytes.length), 18);
  assert.equal(findHeadEnd(bytes, 0, 17), -1);
  assert.equal(findHeadEnd(Buffer.from('GET / HTTP/1.1\n\nx'), 0, 17), -2);
});
