// Values of CEL expressions as Envoy's evaluator has them, and how they are compared and printed. Strings are bytes, a character
// each, as everywhere in formats. Used by the rest of this folder.
import { jsonBytes, numberText } from '../access-log/values.ts';

const INT_MIN = -(2n ** 63n);
const INT_MAX = 2n ** 63n - 1n;
const UINT_MAX = 2n ** 64n - 1n;
export const NANOS = 1_000_000_000n;

/** Looked into only where an expression does: header maps and attributes have their values made then. */
export interface CelMap {
  readonly kind: 'map';
  readonly size: number;
  /** undefined = there is no such key. */
  readonly get: (key: Value) => Value | undefined;
  /** undefined = it does not tell. */
  readonly keys: () => readonly Value[] | undefined;
}

/** A protobuf message; fields that are not set have their default. */
export interface CelMessage {
  readonly kind: 'message';
  readonly names: readonly string[];
  /** undefined = the message has no such field. */
  readonly field: (name: string) => Value | undefined;
}

export type Value =
  | string
  | boolean
  | null
  /** double */
  | number
  /** int */
  | bigint
  | { readonly kind: 'uint'; readonly value: bigint }
  | { readonly kind: 'bytes'; readonly bytes: string }
  | { readonly kind: 'duration' | 'timestamp'; readonly nanos: bigint }
  | { readonly kind: 'list'; readonly items: readonly Value[] }
  | CelMap
  | CelMessage
  | { readonly kind: 'type'; readonly name: string }
  | CelError;

/** What went wrong is never told: a log prints that there is no value. */
export interface CelError {
  readonly kind: 'error';
}
export const ERROR: CelError = { kind: 'error' };
/** Ends the whole expression: nothing passes over it. */
export const FATAL: CelError = { kind: 'error' };
export const isError = (value: Value): boolean => value === ERROR || value === FATAL;
/** null is a value like any other. */
export const orError = (value: Value | undefined): Value => (value === undefined ? ERROR : value);

export type Kind = 'string' | 'bool' | 'null' | 'double' | 'int' | Extract<Value, { kind: string }>['kind'];

export function kindOf(value: Value): Kind {
  switch (typeof value) {
    case 'string':
      return 'string';
    case 'boolean':
      return 'bool';
    case 'number':
      return 'double';
    case 'bigint':
      return 'int';
    default:
      return value === null ? 'null' : value.kind;
  }
}

export const int = (value: bigint): Value => (value < INT_MIN || value > INT_MAX ? ERROR : value);
export const uint = (value: bigint): Value => (value < 0n || value > UINT_MAX ? ERROR : { kind: 'uint', value });
export const duration = (nanos: bigint): Value => ({ kind: 'duration', nanos });
export const timestamp = (nanos: bigint): Value => ({ kind: 'timestamp', nanos });
/** Of ms with a fraction: nanoseconds, as far as a double tells microseconds. */
export const msNanos = (ms: number): bigint => BigInt(Math.round(ms * 1000)) * 1000n;

/** int, uint and double are one order. */
function numberOf(value: Value): number | bigint | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  return typeof value === 'object' && value !== null && value.kind === 'uint' ? value.value : undefined;
}

/** Below, at or above zero; NaN = they have no order; undefined = they cannot be compared. */
export function compare(a: Value, b: Value): number | undefined {
  const left = numberOf(a);
  const right = numberOf(b);
  if (left !== undefined && right !== undefined) return order(left, right);
  if (typeof a === 'string' && typeof b === 'string') return order(a, b);
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b);
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return undefined;
  if (a.kind === 'bytes' && b.kind === 'bytes') return order(a.bytes, b.bytes);
  if ((a.kind === 'duration' || a.kind === 'timestamp') && b.kind === a.kind) return order(a.nanos, b.nanos);
  return undefined;
}

function order<T extends number | bigint | string>(a: T | number | bigint, b: T | number | bigint): number {
  if (a < b) return -1;
  if (a > b) return 1;
  return Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : 0;
}

/** Values of different kinds are different, numbers aside. */
export function equal(a: Value, b: Value): boolean {
  if (a === b) return !Number.isNaN(a);
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return compare(a, b) === 0;
  if (a.kind === 'list' && b.kind === 'list')
    return a.items.length === b.items.length && a.items.every((item, i) => equal(item, b.items[i]!));
  if (a.kind === 'map' && b.kind === 'map')
    return a.size === b.size && (a.keys() ?? []).every((key) => sameAt(a, b, key));
  if (a.kind === 'message' && b.kind === 'message') return a.names.every((name) => sameField(a, b, name));
  if (a.kind === 'type' && b.kind === 'type') return a.name === b.name;
  return compare(a, b) === 0;
}

function sameField(a: CelMessage, b: CelMessage, name: string): boolean {
  const left = a.field(name);
  const right = b.field(name);
  return left !== undefined && right !== undefined && equal(left, right);
}

function sameAt(a: CelMap, b: CelMap, key: Value): boolean {
  const left = a.get(key);
  const right = b.get(key);
  return left !== undefined && right !== undefined && equal(left, right);
}

/** What %CEL% prints; undefined = nothing. */
export function valueText(value: Value): string | undefined {
  if (value === null) return 'NULL';
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
      return sixDigits(value);
    case 'object':
      return objectText(value);
    default:
      return String(value);
  }
}

function objectText(value: Exclude<Value, string | number | bigint | boolean | null>): string | undefined {
  switch (value.kind) {
    case 'uint':
      return String(value.value);
    case 'bytes':
      return value.bytes;
    case 'duration':
      return durationText(value.nanos);
    case 'timestamp':
      return `${timeText(value.nanos)}${trimmed(fractionOf(value.nanos))}+00:00`;
    case 'list':
      return 'CelList value';
    case 'map':
      return 'CelMap value';
    case 'type':
      return 'CelType value';
    default:
      return undefined;
  }
}

/** %g: six digits, in the notation that its size asks for. */
function sixDigits(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  if (value === 0) return Object.is(value, -0) ? '-0' : '0';
  const [digits = '', power = ''] = value.toExponential(5).split('e');
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 6) return String(Number(value.toPrecision(6)));
  const sign = exponent < 0 ? '-' : '+';
  return `${String(Number(digits))}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

/** Nanoseconds since the second before. */
function fractionOf(nanos: bigint): string {
  const rest = nanos % NANOS;
  return String(rest < 0n ? rest + NANOS : rest).padStart(9, '0');
}

/** As `.678`, or nothing. */
function trimmed(digits: string): string {
  const short = digits.replace(/0+$/, '');
  return short === '' ? '' : `.${short}`;
}

/** In groups of three digits, as protobuf writes them. */
function grouped(digits: string): string {
  const short = digits.replace(/(?:000){1,3}$/, '');
  return short === '' ? '' : `.${short}`;
}

/** Without the fraction. */
function timeText(nanos: bigint): string {
  const rest = nanos % NANOS;
  const seconds = nanos / NANOS - (rest < 0n ? 1n : 0n);
  const date = new Date(Number(seconds) * 1000);
  // Years are as long as they are.
  return `${date.getUTCFullYear()}${date.toISOString().slice(-20, -5)}`;
}

const UNITS: readonly (readonly [bigint, string])[] = [
  [1n, 'ns'],
  [1000n, 'us'],
  [1_000_000n, 'ms'],
];

/** `1h2m3.5s`, and below a second in one unit: `1.5ms`. */
function durationText(nanos: bigint): string {
  if (nanos === 0n) return '0';
  const sign = nanos < 0n ? '-' : '';
  const size = nanos < 0n ? -nanos : nanos;
  if (size < NANOS) {
    const [unit, name] = UNITS.findLast(([least]) => size >= least)!;
    const digits = String(size % unit).padStart(String(unit).length - 1, '0');
    return `${sign}${size / unit}${unit === 1n ? '' : trimmed(digits)}${name}`;
  }
  const seconds = size / NANOS;
  const [hours, minutes, rest] = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n];
  const fraction = trimmed(fractionOf(size));
  const last = rest === 0n && fraction === '' ? '' : `${rest}${fraction}s`;
  return `${sign}${hours > 0n ? `${hours}h` : ''}${minutes > 0n ? `${minutes}m` : ''}${last}`;
}

/** What %TYPED_CEL% is in JSON, in bytes; undefined = nothing. */
export function valueJson(value: Value): string | undefined {
  if (value === null || typeof value === 'boolean') return String(value);
  switch (typeof value) {
    case 'string':
      return `"${jsonBytes(value)}"`;
    case 'number':
      // JSON has no other numbers.
      return Number.isFinite(value) ? numberText(value) : 'null';
    case 'bigint':
      return numberText(Number(value));
    default:
      return objectJson(value);
  }
}

function objectJson(value: Exclude<Value, string | number | bigint | boolean | null>): string | undefined {
  switch (value.kind) {
    case 'uint':
      return numberText(Number(value.value));
    case 'bytes':
      return `"${Buffer.from(value.bytes, 'latin1').toString('base64')}"`;
    case 'duration':
      return durationJson(value.nanos);
    case 'timestamp':
      return timestampJson(value.nanos);
    case 'list':
      return joined(
        '[',
        value.items.map((item) => valueJson(item)),
        ']',
      );
    case 'map':
      return mapJson(value);
    default:
      return undefined;
  }
}

/** Protobuf's bound: ten thousand years. */
const DURATION_MAX = 315_576_000_000n * NANOS;
export const isTooLong = (nanos: bigint): boolean => nanos < -DURATION_MAX || nanos > DURATION_MAX;

function durationJson(nanos: bigint): string | undefined {
  if (isTooLong(nanos)) return undefined;
  const size = nanos < 0n ? -nanos : nanos;
  return `"${nanos < 0n ? '-' : ''}${size / NANOS}${grouped(fractionOf(size))}s"`;
}

/** Years that have four digits in JSON. */
const YEAR_1 = -62_135_596_800n * NANOS;
const YEAR_10000 = 253_402_300_800n * NANOS;

function timestampJson(nanos: bigint): string | undefined {
  if (nanos < YEAR_1 || nanos >= YEAR_10000) return undefined;
  const text = timeText(nanos);
  return `"${text.padStart(19, '0')}${grouped(fractionOf(nanos))}Z"`;
}

/** Fields have no order: by name, as Envoy prints them. */
function mapJson(map: CelMap): string | undefined {
  const keys = map.keys();
  if (!keys || keys.some((key) => typeof key === 'boolean')) return undefined;
  const fields = keys.map((key): readonly [string, string | undefined] => {
    const value = map.get(key);
    return [valueText(key) ?? '', value === undefined ? undefined : valueJson(value)];
  });
  fields.sort(([a], [b]) => order(a, b));
  return joined(
    '{',
    fields.map(([name, json]) => (json === undefined ? undefined : `"${jsonBytes(name)}":${json}`)),
    '}',
  );
}

function joined(open: string, parts: readonly (string | undefined)[], close: string): string | undefined {
  return parts.includes(undefined) ? undefined : `${open}${parts.join(',')}${close}`;
}
