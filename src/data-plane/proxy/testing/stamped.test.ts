// The instrument itself: it names what is wrong with a stream.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StampReader, stamped } from './stamped.ts';

const faultOf = (...pieces: readonly Buffer[]): string | undefined => {
  const reader = new StampReader(7, 'up');
  for (const piece of pieces) reader.read(piece);
  return reader.fault;
};

test('a stream in any pieces is whole', () => {
  assert.equal(faultOf(stamped(7, 'up', 0, 5), stamped(7, 'up', 5, 100), stamped(7, 'up', 105, 1)), undefined);
});

test('what is lost, repeated, swapped, of another or of nobody is named', () => {
  const start = stamped(7, 'up', 0, 96);
  assert.equal(faultOf(start, stamped(7, 'up', 116, 80)), 'connection 7 up: byte 96: 20 bytes are lost');
  assert.equal(faultOf(start, stamped(7, 'up', 61, 80)), 'connection 7 up: byte 96: 35 bytes come again');
  assert.equal(faultOf(start, stamped(9, 'up', 96, 80)), 'connection 7 up: byte 103 is byte 103 of connection 9 up');
  assert.equal(faultOf(start, stamped(7, 'down', 33, 80)), 'connection 7 up: byte 96 is byte 33 of connection 7 down');
  assert.match(faultOf(start, Buffer.alloc(40))!, /^connection 7 up: byte 96 is of no stream/);
});
