// HPACK against itself and against the RFC's examples: fields survive, tables stay in step, broken blocks are refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { H2Head } from './h2-head.ts';
import { HeaderMap, headerName } from './header-map.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { encodedBound, HpackEncoder } from './hpack-encoder.ts';
import { huffmanDecode, huffmanDecodedMax, huffmanEncode, huffmanLength } from './hpack-huffman.ts';
import { H } from './names.ts';

const LIMITS = { maxBytes: 60 * 1024, maxCount: 100 };

function decode(decoder: HpackDecoder, hex: string, limits = LIMITS) {
  const head = new H2Head();
  const headers = new HeaderMap();
  const block = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  const ok = decoder.decode(block, 0, block.length, headers, head, limits);
  const fields: string[] = [];
  headers.forEach((name, value) => {
    fields.push(`${name}: ${value}`);
  });
  return { ok, head, fields, wire: written(headers) };
}

function written(headers: HeaderMap): string {
  const out = Buffer.alloc(headers.writtenSize());
  return out.toString('latin1', 0, headers.write(out, 0));
}

test('the requests of RFC 7541 C.4, Huffman coded, with a dynamic table', () => {
  const decoder = new HpackDecoder(4096);
  const first = decode(decoder, '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff');
  assert.deepEqual([first.ok, first.head.method, first.head.scheme, first.head.target], [true, 'GET', 'http', '/']);
  assert.deepEqual(first.fields, ['host: www.example.com']);
  const second = decode(decoder, '8286 84be 5886 a8eb 1064 9cbf');
  assert.equal(second.wire, 'host: www.example.com\r\ncache-control: no-cache\r\n');
  const third = decode(decoder, '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf');
  assert.deepEqual([third.head.target, third.head.scheme], ['/index.html', 'https']);
  assert.deepEqual(third.fields, ['host: www.example.com', 'custom-key: custom-value']);
  assert.equal(decoder.table.size, 164);
});

test('the responses of RFC 7541 C.6, with a table of 256 bytes that evicts', () => {
  const decoder = new HpackDecoder(256);
  const first = decode(
    decoder,
    '4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3',
  );
  assert.equal(first.head.status, 302);
  assert.deepEqual(first.fields, [
    'cache-control: private',
    'date: Mon, 21 Oct 2013 20:13:21 GMT',
    'location: https://www.example.com',
  ]);
  const second = decode(decoder, '4883 640e ffc1 c0bf');
  assert.equal(second.head.status, 307);
  assert.deepEqual(second.fields, first.fields);
  const third = decode(
    decoder,
    '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07',
  );
  assert.deepEqual(third.fields.slice(-2), [
    'content-encoding: gzip',
    'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
  ]);
  assert.equal(decoder.table.size, 215);
});

const bytes = fc.uint8Array({ maxLength: 80 });

test('Huffman: what is encoded comes back, whatever the bytes; any input has an answer', () => {
  fc.assert(
    fc.property(bytes, bytes, (value, noise) => {
      const coded = Buffer.alloc(huffmanLength(value, 0, value.length));
      assert.equal(huffmanEncode(value, 0, value.length, coded, 0), coded.length);
      const out = Buffer.alloc(huffmanDecodedMax(coded.length));
      const end = huffmanDecode(coded, 0, coded.length, out, 0);
      assert.deepEqual(out.subarray(0, end), Buffer.from(value));
      const any = Buffer.alloc(huffmanDecodedMax(noise.length));
      const stop = huffmanDecode(noise, 0, noise.length, any, 0);
      assert.ok(stop >= -1 && stop <= any.length);
    }),
    { numRuns: 2000 },
  );
});

const name = fc
  .stringMatching(/^[a-z][a-z0-9-]{0,12}$/)
  .filter((text) => !/^(host|te|connection|upgrade|cookie)$/.test(text));
const value = fc.oneof(fc.constantFrom('', 'a', 'text/html', 'x'.repeat(300)), fc.stringMatching(/^[!-~]{0,20}$/));
const field = fc.oneof(
  fc.constantFrom(['accept', '*/*'] as const, ['server', 'envoy'] as const, ['authorization', 'secret'] as const),
  fc.tuple(
    name.filter((text) => text !== 'content-length'),
    value,
  ),
);

test('encoder and decoder stay in step over many blocks, with tables of any size', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(field, { maxLength: 12 }), { minLength: 1, maxLength: 12 }),
      fc.constantFrom(0, 50, 200, 4096),
      (blocks, size) => {
        const encoder = new HpackEncoder(size);
        const decoder = new HpackDecoder(4096);
        const out = Buffer.alloc(64 * 1024);
        for (const block of blocks) {
          const headers = new HeaderMap();
          headers.add(H.host, 'example.com');
          for (const [key, text] of block) headers.add(headerName(key), text);
          let at = encoder.begin(out, 0);
          at = encoder.method(out, at, 'PUT');
          at = encoder.path(out, at, '/p?q');
          at = encoder.authority(out, at, 'example.com');
          at = encoder.fields(out, at, headers);
          assert.ok(at <= encodedBound(headers, 64));
          const read = decode(decoder, out.toString('hex', 0, at));
          assert.ok(read.ok);
          assert.deepEqual([read.head.problem, read.head.method, read.head.target], ['', 'PUT', '/p?q']);
          assert.equal(read.wire, written(headers));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('a field that comes again costs one byte from the third time on; secrets never enter a table', () => {
  const encoder = new HpackEncoder(4096);
  const out = Buffer.alloc(1024);
  const size = (key: string, text: string) => {
    const headers = new HeaderMap();
    headers.add(headerName(key), text);
    return encoder.fields(out, 0, headers);
  };
  assert.deepEqual([size('x-a', 'b'), size('x-a', 'b') > 1, size('x-a', 'b')], [7, true, 1]);
  for (let i = 0; i < 4; i++) assert.ok(size('authorization', 'b') > 1);
  assert.equal(out[0]! & 0xf0, 0x10);
});

const BROKEN: readonly (readonly [string, string])[] = [
  ['index 0', '80'],
  ['index beyond the tables', 'be'],
  ['name index beyond the tables', '7f00 0161'],
  ['cut integer', 'ff'],
  ['endless integer', 'ff ffff ffff ffff ffff ffff 7f'],
  ['string longer than the block', '0005 61'],
  ['Huffman padding of zeros', '0001 6181 18'],
  ['Huffman padding of eight bits', '0001 6182 1fff'],
  ['Huffman end of string', '0001 6184 ffff ffff'],
  ['table size after a field', '82 20'],
  ['table size beyond the limit', '3fe2 1f'],
];
for (const [what, hex] of BROKEN)
  test(`no HPACK: ${what}`, () => assert.equal(decode(new HpackDecoder(4096), hex).ok, false));

const lit = (key: string, text: string) =>
  `00${Buffer.from([key.length]).toString('hex')}${Buffer.from(key, 'latin1').toString('hex')}${Buffer.from([text.length]).toString('hex')}${Buffer.from(text, 'latin1').toString('hex')}`;
const REFUSED: readonly (readonly [string, string, string])[] = [
  ['capital in a name', lit('X-a', 'b'), 'invalid-field'],
  ['empty name', lit('', 'b'), 'invalid-field'],
  ['NUL in a value', lit('x', 'a\0b'), 'invalid-field'],
  ['CR in a value', lit('x', 'a\rb'), 'invalid-field'],
  ['LF in a value', lit('x', 'a\nb'), 'invalid-field'],
  ['connection', lit('connection', 'close'), 'invalid-field'],
  ['transfer-encoding', lit('transfer-encoding', 'chunked'), 'invalid-field'],
  ['te of another value', lit('te', 'gzip'), 'invalid-field'],
  ['pseudo-header after a field', `${lit('x', 'y')}82`, 'invalid-pseudo-header'],
  ['pseudo-header twice', '8282', 'invalid-pseudo-header'],
  ['unknown pseudo-header', lit(':x', 'y'), 'invalid-pseudo-header'],
  ['two lengths', lit('content-length', '1') + lit('content-length', '1'), 'invalid-content-length'],
  ['signed length', lit('content-length', '+1'), 'invalid-content-length'],
  ['space in a method', lit(':method', 'GE T'), 'invalid-pseudo-header'],
  ['space in a path', lit(':path', '/a HTTP/1.1'), 'invalid-pseudo-header'],
  ['user in an authority', lit(':authority', 'u@a'), 'invalid-pseudo-header'],
  ['space in a host', lit('host', 'a b'), 'invalid-field'],
  ['bad status', lit(':status', '2x0'), 'invalid-pseudo-header'],
];
for (const [what, hex, problem] of REFUSED)
  test(`refused, and the table stays in step: ${what}`, () => {
    const decoder = new HpackDecoder(4096);
    const read = decode(decoder, `${hex}4001610162`);
    assert.deepEqual([read.ok, read.head.problem], [true, problem]);
    assert.deepEqual(decode(decoder, 'be').fields, ['a: b']);
  });

test('a value that is malformed stays malformed when it comes from the table', () => {
  const decoder = new HpackDecoder(4096);
  assert.equal(decode(decoder, '40 0161 0100').head.problem, 'invalid-field');
  assert.equal(decode(decoder, 'be').head.problem, 'invalid-field');
  assert.deepEqual(decode(decoder, '7e 0162').fields, ['a: b']);
});

test('limits of bytes and number hold, and what is beyond them is not kept', () => {
  const decoder = new HpackDecoder(4096);
  const many = decode(decoder, lit('a', 'b').repeat(5), { maxBytes: 1000, maxCount: 4 });
  assert.deepEqual([many.head.problem, many.fields.length], ['too-many', 4]);
  const large = decode(decoder, `4001 61 7f31${'62'.repeat(176)}${'be'.repeat(1000)}`, {
    maxBytes: 1000,
    maxCount: 100,
  });
  assert.deepEqual([large.ok, large.head.problem, large.fields.length], [true, 'too-large', 5]);
});

test('crumbs of a cookie are joined; host is dropped beside :authority', () => {
  const read = decode(
    new HpackDecoder(4096),
    `${lit(':authority', 'a')}${lit('host', 'b')}${lit('cookie', 'x=1')}${lit('cookie', 'y=2')}`,
  );
  assert.deepEqual(read.fields, ['host: a', 'cookie: x=1; y=2']);
});
