// Families in Prometheus' protobuf form (io.prometheus.client.MetricFamily, each behind its length), which is the only one with native
// histograms. Asked for by the Accept header. Called by the admin interface.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { type Family, type FamilyType, intervalTotals, type Sample } from './families.ts';
import { QUANTILES, quantile } from './histogram-text.ts';
import type { Histogram } from './stats.ts';

export const PROMETHEUS_PROTO_TYPE =
  'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited';

const TYPE_NUMBER: Readonly<Record<FamilyType, number>> = { counter: 0, gauge: 1, summary: 2, histogram: 4 };
const COUNTER = 3;
const GAUGE = 2;
const SUMMARY = 4;
const HISTOGRAM = 7;

export function familyProto({ name, type, samples }: Family, native: boolean): Uint8Array {
  const writer = new BinaryWriter();
  writer.fork();
  writer.tag(1, WireType.LengthDelimited).string(name);
  writer.tag(3, WireType.Varint).int32(TYPE_NUMBER[type]);
  for (const sample of samples) {
    writer.tag(4, WireType.LengthDelimited).fork();
    writeSample(writer, type, sample, native);
    writer.join();
  }
  return writer.join().finish();
}

function writeSample(writer: BinaryWriter, type: FamilyType, sample: Sample, native: boolean): void {
  for (const [name, value] of readLabels(sample.labels)) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(name);
    writer.tag(2, WireType.LengthDelimited).string(value).join();
  }
  if ('value' in sample) {
    writer.tag(type === 'counter' ? COUNTER : GAUGE, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.Bit64).double(sample.value).join();
    return;
  }
  writer.tag(type === 'summary' ? SUMMARY : HISTOGRAM, WireType.LengthDelimited).fork();
  if (type === 'summary') writeSummary(writer, sample.histogram);
  else {
    writer.tag(1, WireType.Varint).uint64(sample.histogram.count);
    writer.tag(2, WireType.Bit64).double(sample.histogram.sum);
    if (native) writeNative(writer, sample.histogram);
    else writeBuckets(writer, sample.histogram);
  }
  writer.join();
}

/** Our own text form back into pairs. */
function* readLabels(labels: string): Generator<readonly [string, string]> {
  for (const [, name = '', value = ''] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
    yield [name, value.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char))];
}

function writeSummary(writer: BinaryWriter, histogram: Histogram): void {
  const { sum, count } = intervalTotals(histogram);
  writer.tag(1, WireType.Varint).uint64(count);
  writer.tag(2, WireType.Bit64).double(sum);
  for (const percent of QUANTILES) {
    writer.tag(3, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.Bit64).double(percent / 100);
    writer
      .tag(2, WireType.Bit64)
      .double(quantile(histogram.bounds, histogram.interval, percent))
      .join();
  }
}

function writeBuckets(writer: BinaryWriter, histogram: Histogram): void {
  let total = 0;
  for (const [i, bound] of histogram.bounds.entries()) {
    total += histogram.cells[i]!;
    writer.tag(3, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.Varint).uint64(total);
    writer.tag(2, WireType.Bit64).double(bound).join();
  }
}

/** Values up to here count as zero, as in Envoy. */
const ZERO_THRESHOLD = 0.5;
/** Buckets for each doubling are 2 ** schema: finer ones would show a precision that the cells do not have. */
const FINEST_SCHEMA = 2;
const COARSEST_SCHEMA = -4;
/** Buckets of one histogram; above it the schema is made coarser. */
const MAX_NATIVE_BUCKETS = 160;

export interface NativeHistogram {
  readonly schema: number;
  readonly zero: number;
  /** Bucket `i` holds (2 ** ((i - 1) / 2 ** schema), 2 ** (i / 2 ** schema)]; in order, none empty. */
  readonly buckets: readonly (readonly [index: number, count: number])[];
}

/** Each cell is spread evenly over the buckets it covers, as quantiles are taken inside a cell. */
export function nativeOf(histogram: Histogram): NativeHistogram {
  for (let schema = FINEST_SCHEMA; ; schema--) {
    const made = spread(histogram, schema);
    if (made.buckets.length <= MAX_NATIVE_BUCKETS || schema === COARSEST_SCHEMA) return made;
  }
}

function spread({ bounds, cells }: Histogram, schema: number): NativeHistogram {
  const perDoubling = 2 ** schema;
  const indexOf = (value: number): number => Math.ceil(Math.log2(value) * perDoubling);
  const buckets = new Map<number, number>();
  let zero = 0;
  let low = 0;
  for (const [i, count] of cells.entries()) {
    const from = Math.max(low, ZERO_THRESHOLD);
    const high = bounds[i] ?? from * 2 ** (1 / perDoubling);
    low = high;
    if (count === 0) continue;
    if (high <= ZERO_THRESHOLD) {
      zero += count;
      continue;
    }
    let given = 0;
    for (let index = indexOf(from); index <= indexOf(high); index++) {
      const upTo = Math.min(high, 2 ** (index / perDoubling));
      const share = Math.round((count * Math.max(0, upTo - from)) / (high - from)) - given;
      given += share;
      if (share > 0) buckets.set(index, (buckets.get(index) ?? 0) + share);
    }
  }
  return { schema, zero, buckets: [...buckets].sort(([a], [b]) => a - b) };
}

function writeNative(writer: BinaryWriter, histogram: Histogram): void {
  const { schema, zero, buckets } = nativeOf(histogram);
  writer.tag(5, WireType.Varint).sint32(schema);
  writer.tag(6, WireType.Bit64).double(ZERO_THRESHOLD);
  writer.tag(7, WireType.Varint).uint64(zero);
  const spans: { offset: number; length: number }[] = [];
  let next = 0;
  for (const [index] of buckets) {
    const last = spans.at(-1);
    if (last && index === next) last.length += 1;
    else spans.push({ offset: index - next, length: 1 });
    next = index + 1;
  }
  // An empty span says that this is a native histogram.
  for (const { offset, length } of spans.length === 0 ? [{ offset: 0, length: 0 }] : spans) {
    writer.tag(12, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.Varint).sint32(offset);
    writer.tag(2, WireType.Varint).uint32(length).join();
  }
  let before = 0;
  for (const [, count] of buckets) {
    writer.tag(13, WireType.Varint).sint64(count - before);
    before = count;
  }
}
