// gRPC messages put together from pieces of any size.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { messageReader } from './grpc-messages.ts';

function frame(payload: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

test('messages come out whole and in order', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
      (messages, sizes) => {
        const wire = Buffer.concat(messages.map(frame));
        const got: number[][] = [];
        const read = messageReader(1_000, (bytes) => void got.push([...bytes]));
        for (let at = 0, i = 0; at < wire.length; i++) {
          const size = sizes[i % sizes.length]!;
          assert.equal(read(wire.subarray(at, at + size)), undefined);
          at += size;
        }
        assert.deepEqual(
          got,
          messages.map((message) => [...message]),
        );
      },
    ),
  );
});

test('compressed and oversized messages end the stream with a reason', () => {
  const read = messageReader(1_000, () => assert.fail('a message'));
  assert.match(read(Buffer.from([1, 0, 0, 0, 0])) ?? '', /compressed/);
  assert.match(
    messageReader(1_000, () => assert.fail('a message'))(Buffer.from([0, 0xff, 0xff, 0xff, 0xff])) ?? '',
    /larger than/,
  );
});
