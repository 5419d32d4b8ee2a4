// Chunked and counted bodies in pieces of any size, and framing that is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BodyDecoder } from './h1-body.ts';
import { BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_UNTIL_CLOSE, type BodyMode } from './h1-head.ts';

/** Feeds `text` cut at `cuts`; `rest` is what did not belong to the body. */
function decode(text: string, mode: BodyMode, length: number, cuts: readonly number[]) {
  const decoder = new BodyDecoder();
  decoder.begin(mode, length);
  const bytes = Buffer.from(text, 'latin1');
  const edges = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  let body = '';
  const sink = {
    onBodyData(chunk: Buffer, start: number, end: number) {
      body += chunk.toString('latin1', start, end);
    },
  };
  for (let i = 0; i + 1 < edges.length; i++) {
    let at = edges[i]!;
    while (at < edges[i + 1]!) {
      const next = decoder.feed(bytes, at, edges[i + 1]!, sink);
      if (next < 0) return { body, bad: true, done: false, rest: '' };
      if (decoder.done) return { body, bad: false, done: true, rest: bytes.toString('latin1', next) };
      at = next;
    }
  }
  return { body, bad: false, done: decoder.done, rest: '' };
}

const cuts = fc.array(fc.nat(500), { maxLength: 12 });

test('chunks come out whole, however they are cut', () => {
  const payload = fc.array(
    fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(
      payload,
      cuts,
      fc.constantFrom('', ';a=b', ';x'),
      fc.constantFrom('', 'A: b\r\n'),
      (parts, at, extension, trailer) => {
        const wire = `${parts.map((part) => `${part.length.toString(16)}${extension}\r\n${part}\r\n`).join('')}0\r\n${trailer}\r\nNEXT`;
        assert.deepEqual(decode(wire, BODY_CHUNKED, 0, at), {
          body: parts.join(''),
          bad: false,
          done: true,
          rest: 'NEXT',
        });
      },
    ),
    { numRuns: 1000 },
  );
});

test('a counted body ends where it should; one until close never does; none takes nothing', () => {
  assert.deepEqual(decode('abcdef', BODY_LENGTH, 4, [1, 2]), { body: 'abcd', bad: false, done: true, rest: 'ef' });
  assert.deepEqual(decode('abc', BODY_UNTIL_CLOSE, 0, []), { body: 'abc', bad: false, done: false, rest: '' });
  const none = new BodyDecoder();
  none.begin(BODY_NONE, 0);
  assert.equal(none.feed(Buffer.from('x'), 0, 1, { onBodyData: () => assert.fail('no body') }), 0);
});

const REFUSED = [
  'x\r\n',
  '\r\n',
  '-1\r\n',
  '+1\r\n',
  '0x1\r\na\r\n',
  '1 \r\na\r\n',
  ' 1\r\na\r\n',
  '1\na\n',
  '1\r\nab\r\n',
  '1\r\na\n',
  '1\r\na\rb',
  'fffffffffffffff\r\n',
  '1;\x01\r\na\r\n',
  `1;${'a'.repeat(300)}\r\n`,
  '0\r\n \r\n',
  '0\r\nA: b\nC: d\r\n\r\n',
  `0\r\nA: ${'b'.repeat(9000)}\r\n\r\n`,
  '0\r\n\rx',
  '0\r\njunk\r\n\r\n',
  '0\r\n: b\r\n\r\n',
  '0\r\nA : b\r\n\r\n',
];
for (const wire of REFUSED)
  test(`refused chunk framing ${JSON.stringify(wire.slice(0, 24))}`, () => {
    fc.assert(
      fc.property(cuts, (at) => {
        assert.equal(decode(wire, BODY_CHUNKED, 0, at).bad, true);
      }),
      { numRuns: 30 },
    );
  });

test('trailers are kept only when wanted, and bad ones are refused either way', () => {
  const read = (wire: string, keep: boolean) => {
    const decoder = new BodyDecoder();
    decoder.begin(BODY_CHUNKED, 0, keep);
    const bytes = Buffer.from(wire, 'latin1');
    const next = decoder.feed(bytes, 0, bytes.length, { onBodyData() {} });
    const lines: string[] = [];
    decoder.trailers?.forEach((name, value) => {
      lines.push(`${name}=${value}`);
    });
    return next < 0 ? 'bad' : lines.join();
  };
  assert.equal(read('0\r\nGrpc-Status: 0\r\nx: y\r\n\r\n', true), 'grpc-status=0,x=y');
  assert.equal(read('0\r\nContent-Length: 9\r\nx: y\r\n\r\n', true), 'x=y');
  assert.equal(read('0\r\ngrpc-status: 0\r\n\r\n', false), '');
  assert.equal(read('0\r\n\r\n', true), '');
  assert.equal(read('0\r\nx y: z\r\n\r\n', true), 'bad');
  assert.equal(read('0\r\n folded\r\n\r\n', false), 'bad');
});
