// Short texts: the table of kept ones never answers with another text, and writing is the same short and long.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { putBytes, putLineEnd, putValue, safeValue, textOf } from './texts.ts';

const latin1 = fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes));

test('a text is what its bytes say, however often and whatever was asked before', () => {
  fc.assert(
    fc.property(fc.array(latin1, { maxLength: 20 }), fc.nat(5), (texts, offset) => {
      for (const bytes of [...texts, ...texts]) {
        const padded = Buffer.concat([Buffer.alloc(offset, 65), bytes, Buffer.from('tail')]);
        assert.equal(textOf(padded, offset, offset + bytes.length), bytes.toString('latin1'));
      }
    }),
    { numRuns: 500 },
  );
});

test('texts that share a place take turns', () => {
  // More texts than places.
  for (let round = 0; round < 2; round++)
    for (let i = 0; i < 2_000; i++) {
      const bytes = Buffer.from(`text-${i}`);
      assert.equal(textOf(bytes, 0, bytes.length), `text-${i}`);
    }
});

test('a value is written byte for byte, and never splits a head', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 100 }), (value) => {
      const out = Buffer.alloc(200);
      const end = putValue(out, 3, value);
      assert.equal(end, 3 + value.length);
      assert.equal(out.toString('latin1', 3, end), safeValue(value));
      assert.doesNotMatch(out.toString('latin1', 3, end), /[\r\n\0]/);
    }),
    { numRuns: 500 },
  );
});

test('bytes and line ends return where they stop', () => {
  const out = Buffer.alloc(8);
  assert.equal(putLineEnd(out, putBytes(out, 1, Buffer.from('abc'))), 6);
  assert.deepEqual(out, Buffer.from('\0abc\r\n\0\0', 'latin1'));
});
