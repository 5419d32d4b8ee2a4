// Bytes by hand after client_model's metrics.proto; that a histogram keeps its values, for any of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { familyProto, nativeOf } from './prometheus-proto.ts';
import { Histogram } from './stats.ts';

/** Fields of a message by number: nested ones as bytes. */
function fields(bytes: Uint8Array): Map<number, (number | Uint8Array)[]> {
  const reader = new BinaryReader(bytes);
  const out = new Map<number, (number | Uint8Array)[]>();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value =
      type === WireType.LengthDelimited ? reader.bytes() : type === WireType.Bit64 ? reader.double() : reader.uint32();
    out.set(field, [...(out.get(field) ?? []), value]);
  }
  return out;
}

const inner = (from: Map<number, (number | Uint8Array)[]>, field: number, at = 0) =>
  fields(from.get(field)![at] as Uint8Array);

function delimited(bytes: Uint8Array): Map<number, (number | Uint8Array)[]> {
  return fields(new BinaryReader(bytes).bytes());
}

test('a counter and a gauge: byte for byte', () => {
  assert.equal(
    Buffer.from(familyProto({ name: 'g', type: 'gauge', samples: [{ labels: '', value: 1 }] }, false)).toString('hex'),
    '12' + '0a0167' + '1801' + '220b' + '1209' + '09000000000000f03f',
  );
  const family = delimited(
    familyProto({ name: 'c', type: 'counter', samples: [{ labels: 'a="x\\"\\\\\\n",b="y"', value: 7 }] }, false),
  );
  assert.deepEqual(family.get(3), [0]);
  const metric = inner(family, 4);
  assert.deepEqual(
    metric
      .get(1)!
      .map((pair) =>
        [...fields(pair as Uint8Array).values()].map((text) => String(Buffer.from(text[0] as Uint8Array))),
      ),
    [
      ['a', 'x"\\\n'],
      ['b', 'y'],
    ],
  );
  assert.deepEqual(inner(metric, 3).get(1), [7]);
});

test('histograms: cumulative buckets, summaries of the interval, native ones with spans', () => {
  const histogram = new Histogram('h', [1, 2, 4]);
  for (const value of [0.2, 3, 3, 9]) histogram.record(value);
  const cumulative = inner(
    inner(delimited(familyProto({ name: 'h', type: 'histogram', samples: [{ labels: '', histogram }] }, false)), 4),
    7,
  );
  assert.deepEqual([cumulative.get(1), cumulative.get(3)!.length], [[4], 3]);
  assert.deepEqual(
    [...inner(cumulative, 3, 2)],
    [
      [1, [3]],
      [2, [4]],
    ],
  );
  const summary = () =>
    inner(
      inner(delimited(familyProto({ name: 'h', type: 'summary', samples: [{ labels: '', histogram }] }, false)), 4),
      4,
    );
  assert.deepEqual([summary().get(1), summary().get(2)], [[0], [0]]);
  histogram.turn();
  assert.deepEqual([summary().get(1), summary().get(2)], [[4], [15.2]]);
  const native = inner(
    inner(delimited(familyProto({ name: 'h', type: 'histogram', samples: [{ labels: '', histogram }] }, true)), 4),
    7,
  );
  assert.deepEqual([native.get(3), native.get(5), native.get(6)], [undefined, [4], [0.5]], 'schema 2, zigzag');
  assert.ok(native.get(12)!.length > 0);
});

test('an empty native histogram says that it is one', () => {
  const histogram = new Histogram('h');
  const native = inner(
    inner(delimited(familyProto({ name: 'h', type: 'histogram', samples: [{ labels: '', histogram }] }, true)), 4),
    7,
  );
  assert.deepEqual(
    [...inner(native, 12)],
    [
      [1, [0]],
      [2, [0]],
    ],
  );
});

test('a native histogram loses no value and stays within its bounds', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.double({ min: 1e-6, max: 1e12, noNaN: true }), { minLength: 1, maxLength: 30 }),
      fc.array(fc.double({ min: 0, max: 1e13, noNaN: true }), { maxLength: 200 }),
      (bounds, values) => {
        const histogram = new Histogram(
          'h',
          bounds.sort((a, b) => a - b),
        );
        for (const value of values) histogram.record(value);
        const { zero, buckets, schema } = nativeOf(histogram);
        assert.equal(
          buckets.reduce((sum, [, count]) => sum + count, zero),
          values.length,
        );
        assert.ok(buckets.every(([, count]) => count > 0) && buckets.length <= 160 && schema <= 2);
      },
    ),
  );
});
