// Profiles in pprof's protobuf form (profile.proto, gzipped), which `pprof` and `go tool pprof` read. Called by the pages of
// profiles and the heap dump.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** Where something was: a function, or what stands for one. */
export interface Frame {
  readonly name: string;
  readonly file: string;
  readonly line: number;
}

export interface Sample {
  /** Innermost first. */
  readonly stack: readonly Frame[];
  /** One for each value type. */
  readonly values: readonly number[];
}

export interface ValueType {
  readonly type: string;
  readonly unit: string;
}

export interface Profile {
  readonly types: readonly ValueType[];
  readonly samples: Iterable<Sample>;
  /** What one sample stands for. */
  readonly period?: { readonly type: ValueType; readonly value: number };
  /** ms. */
  readonly time: number;
  readonly durationMs?: number;
}

const MESSAGE = WireType.LengthDelimited;

/** Not yet compressed. */
export function encodeProfile({ types, samples, period, time, durationMs }: Profile): Uint8Array {
  const writer = new BinaryWriter();
  const strings = new Names();
  const locations = new Map<string, { readonly id: number; readonly frame: Frame }>();
  const locate = (frame: Frame): number => {
    const key = `${frame.name}\0${frame.file}\0${frame.line}`;
    let known = locations.get(key);
    if (!known) {
      known = { id: locations.size + 1, frame };
      locations.set(key, known);
    }
    return known.id;
  };
  const valueType = (field: number, { type, unit }: ValueType): void => {
    writer.tag(field, MESSAGE).fork();
    writer.tag(1, WireType.Varint).int64(strings.at(type));
    writer.tag(2, WireType.Varint).int64(strings.at(unit)).join();
  };
  for (const type of types) valueType(1, type);
  for (const { stack, values } of samples) {
    writer.tag(2, MESSAGE).fork();
    writer.tag(1, MESSAGE).fork();
    for (const frame of stack) writer.uint64(locate(frame));
    writer.join().tag(2, MESSAGE).fork();
    for (const value of values) writer.int64(Math.round(value));
    writer.join().join();
  }
  const functions = new Map<string, number>();
  for (const { id, frame } of locations.values()) {
    const key = `${frame.name}\0${frame.file}`;
    let inside = functions.get(key);
    if (inside === undefined) {
      inside = functions.size + 1;
      functions.set(key, inside);
      writer.tag(5, MESSAGE).fork();
      writer.tag(1, WireType.Varint).uint64(inside);
      writer.tag(2, WireType.Varint).int64(strings.at(frame.name));
      writer.tag(3, WireType.Varint).int64(strings.at(frame.name));
      writer.tag(4, WireType.Varint).int64(strings.at(frame.file)).join();
    }
    writer.tag(4, MESSAGE).fork();
    writer.tag(1, WireType.Varint).uint64(id);
    writer.tag(4, MESSAGE).fork();
    writer.tag(1, WireType.Varint).uint64(inside);
    writer.tag(2, WireType.Varint).int64(frame.line).join().join();
  }
  if (period) {
    valueType(11, period.type);
    writer.tag(12, WireType.Varint).int64(period.value);
  }
  writer.tag(9, WireType.Varint).int64(BigInt(Math.round(time)) * 1_000_000n);
  if (durationMs !== undefined) writer.tag(10, WireType.Varint).int64(BigInt(Math.round(durationMs)) * 1_000_000n);
  for (const text of strings.list) writer.tag(6, MESSAGE).string(text);
  return writer.finish();
}

/** The string table; its first is empty. */
class Names {
  readonly list: string[] = [''];
  readonly #places = new Map<string, number>([['', 0]]);

  at(text: string): number {
    let place = this.#places.get(text);
    if (place === undefined) {
      place = this.list.length;
      this.#places.set(text, place);
      this.list.push(text);
    }
    return place;
  }
}
