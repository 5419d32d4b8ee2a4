// The functions that Envoy's expressions have: those of CEL without what Envoy switches off (string conversion, joined strings
// and lists, comprehensions). Each has the values of its arguments, its receiver first, and no error among them. Used by
// compile.ts.
import {
  compare,
  duration,
  ERROR,
  equal,
  int,
  isTooLong,
  kindOf,
  NANOS,
  orError,
  timestamp,
  uint,
  type Value,
} from './values.ts';

type One = (value: Value) => Value;
type Two = (left: Value, right: Value) => Value;

type Nanos = Extract<Value, { nanos: bigint }>;
type Uint = Extract<Value, { kind: 'uint' }>;

const isUint = (value: Value): value is Uint => kindOf(value) === 'uint';
const isDuration = (value: Value): value is Nanos => kindOf(value) === 'duration';
const isTimestamp = (value: Value): value is Nanos => kindOf(value) === 'timestamp';

interface Arithmetic {
  readonly whole: (a: bigint, b: bigint) => bigint | undefined;
  readonly double?: (a: number, b: number) => number;
}

/** Both sides are of one kind. */
function arithmetic({ whole, double }: Arithmetic): Two {
  return (a, b) => {
    if (typeof a === 'number' && typeof b === 'number') return double ? double(a, b) : ERROR;
    if (typeof a === 'bigint' && typeof b === 'bigint') {
      const result = whole(a, b);
      return result === undefined ? ERROR : int(result);
    }
    if (!isUint(a) || !isUint(b)) return ERROR;
    const result = whole(a.value, b.value);
    return result === undefined ? ERROR : uint(result);
  };
}

const numbersSum = arithmetic({ whole: (a, b) => a + b, double: (a, b) => a + b });
const numbersDifference = arithmetic({ whole: (a, b) => a - b, double: (a, b) => a - b });

function sum(a: Value, b: Value): Value {
  if (isDuration(a) && isDuration(b)) return duration(a.nanos + b.nanos);
  if (isTimestamp(a) && isDuration(b)) return moment(a.nanos + b.nanos);
  if (isDuration(a) && isTimestamp(b)) return moment(a.nanos + b.nanos);
  return numbersSum(a, b);
}

function difference(a: Value, b: Value): Value {
  if (isDuration(a) && isDuration(b)) return duration(a.nanos - b.nanos);
  if (isTimestamp(a) && isTimestamp(b)) return duration(a.nanos - b.nanos);
  if (isTimestamp(a) && isDuration(b)) return moment(a.nanos - b.nanos);
  return numbersDifference(a, b);
}

/** Of Date: some 270,000 years. */
const LAST_MOMENT = 8_640_000_000_000n * NANOS;
function moment(nanos: bigint): Value {
  return nanos < -LAST_MOMENT || nanos > LAST_MOMENT ? ERROR : timestamp(nanos);
}

const KEY_KINDS: ReadonlySet<string> = new Set(['string', 'int', 'uint', 'double', 'bool']);

function member(value: Value, whole: Value): Value {
  if (typeof whole !== 'object' || whole === null) return ERROR;
  if (whole.kind === 'list') return whole.items.some((item) => equal(item, value));
  return whole.kind === 'map' && KEY_KINDS.has(kindOf(value)) ? whole.get(value) !== undefined : ERROR;
}

/** `a[b]` */
export function at(whole: Value, key: Value): Value {
  if (typeof whole !== 'object' || whole === null) return ERROR;
  if (whole.kind === 'map') return orError(whole.get(key));
  if (whole.kind !== 'list') return ERROR;
  const index = typeof key === 'number' || typeof key === 'bigint' ? Number(key) : isUint(key) ? Number(key.value) : -1;
  return orError(whole.items[index]);
}

const ordered =
  (test: (sign: number) => boolean): Two =>
  (a, b) => {
    const sign = compare(a, b);
    return sign === undefined ? ERROR : test(sign);
  };

export const BINARY: ReadonlyMap<string, Two> = new Map<string, Two>([
  ['==', equal],
  ['!=', (a, b) => !equal(a, b)],
  ['<', ordered((sign) => sign < 0)],
  ['<=', ordered((sign) => sign <= 0)],
  ['>', ordered((sign) => sign > 0)],
  ['>=', ordered((sign) => sign >= 0)],
  ['in', member],
  ['+', sum],
  ['-', difference],
  ['*', arithmetic({ whole: (a, b) => a * b, double: (a, b) => a * b })],
  ['/', arithmetic({ whole: (a, b) => (b === 0n ? undefined : a / b), double: (a, b) => a / b })],
  // The least int has no quotient by -1, so it has no rest either.
  ['%', arithmetic({ whole: (a, b) => (b === 0n || (b === -1n && int(-a) === ERROR) ? undefined : a % b) })],
]);

export function negate(value: Value): Value {
  if (typeof value === 'bigint') return int(-value);
  return typeof value === 'number' ? -value : ERROR;
}

export const not = (value: Value): Value => (typeof value === 'boolean' ? !value : ERROR);

/** Code points of UTF-8, entries, or bytes. */
function size(value: Value): Value {
  if (typeof value === 'string') return BigInt(codePoints(value));
  if (typeof value !== 'object' || value === null) return ERROR;
  if (value.kind === 'bytes') return BigInt(value.bytes.length);
  if (value.kind === 'list') return BigInt(value.items.length);
  return value.kind === 'map' ? BigInt(value.size) : ERROR;
}

function codePoints(bytes: string): number {
  if (/^[\0-\x7f]*$/.test(bytes)) return bytes.length;
  let points = 0;
  for (const _point of Buffer.from(bytes, 'latin1').toString('utf8')) points += 1;
  return points;
}

const texts =
  (test: (text: string, part: string) => boolean): Two =>
  (text, part) =>
    typeof text === 'string' && typeof part === 'string' ? test(text, part) : ERROR;

/** White space around a number counts for nothing. */
const INT = /^[\t-\r ]*([+-]?)(\d{1,20})[\t-\r ]*$/;
const DOUBLE = /^[\t-\r ]*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)[\t-\r ]*$/i;

function wholeOf(text: string): bigint | undefined {
  const match = INT.exec(text);
  if (!match) return undefined;
  const size = BigInt(match[2]!);
  return match[1] === '-' ? -size : size;
}

const made = (value: bigint | undefined, make: (value: bigint) => Value): Value =>
  value === undefined ? ERROR : make(value);

function toInt(value: Value): Value {
  switch (kindOf(value)) {
    case 'int':
      return value;
    case 'bool':
      return value === true ? 1n : 0n;
    case 'double':
      return Number.isFinite(value) && Math.abs(value as number) < 2 ** 63
        ? BigInt(Math.trunc(value as number))
        : ERROR;
    case 'uint':
      return int((value as Uint).value);
    case 'timestamp':
      return floorDivide((value as Nanos).nanos, NANOS);
    case 'string':
      return made(wholeOf(value as string), int);
    default:
      return ERROR;
  }
}

function toUint(value: Value): Value {
  switch (kindOf(value)) {
    case 'uint':
      return value;
    case 'int':
      return uint(value as bigint);
    case 'double': {
      const number = value as number;
      return number >= 0 && number < 2 ** 64 ? uint(BigInt(Math.trunc(number))) : ERROR;
    }
    case 'string':
      return made(wholeOf(value as string), uint);
    default:
      return ERROR;
  }
}

function toDouble(value: Value): Value {
  switch (kindOf(value)) {
    case 'double':
      return value;
    case 'int':
      return Number(value);
    case 'uint':
      return Number((value as Uint).value);
    case 'string':
      return doubleOf(value as string);
    default:
      return ERROR;
  }
}

function doubleOf(text: string): Value {
  if (/^[+-]?inf(?:inity)?$/i.test(text)) return text.startsWith('-') ? -Infinity : Infinity;
  if (/^[+-]?nan$/i.test(text)) return Number.NaN;
  const match = DOUBLE.exec(text);
  return match ? Number(match[1]) : ERROR;
}

const TRUE: ReadonlySet<string> = new Set(['true', 'True', 'TRUE', 't', '1']);
const FALSE: ReadonlySet<string> = new Set(['false', 'False', 'FALSE', 'f', '0']);

function toBool(value: Value): Value {
  if (typeof value === 'boolean') return value;
  if (typeof value !== 'string') return ERROR;
  return TRUE.has(value) ? true : FALSE.has(value) ? false : ERROR;
}

function toBytes(value: Value): Value {
  if (typeof value === 'string') return { kind: 'bytes', bytes: value };
  return kindOf(value) === 'bytes' ? value : ERROR;
}

const RFC3339 = /^(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/;

function toTimestamp(value: Value): Value {
  if (typeof value === 'bigint') return moment(value * NANOS);
  if (isTimestamp(value)) return value;
  const match = typeof value === 'string' ? RFC3339.exec(value) : null;
  if (!match) return ERROR;
  const local = match[1]!.toUpperCase();
  const ms = Date.parse(`${local}${match[3]!.toUpperCase()}`);
  // There is no 30th of February.
  const there = !Number.isNaN(ms) && new Date(`${local}Z`).toISOString().startsWith(local);
  return !there ? ERROR : moment(BigInt(ms) * 1_000_000n + BigInt((match[2] ?? '').padEnd(9, '0')));
}

const UNIT_NANOS: Readonly<Record<string, bigint>> = {
  h: 3600n * NANOS,
  m: 60n * NANOS,
  s: NANOS,
  ms: 1_000_000n,
  us: 1000n,
  ns: 1n,
};
const DURATION = /^([+-]?)((?:(?:\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})(?:h|ms|m|s|us|ns))+)$/;

function toDuration(value: Value): Value {
  if (isDuration(value)) return value;
  if (typeof value !== 'string') return ERROR;
  if (/^[+-]?0$/.test(value)) return duration(0n);
  const match = DURATION.exec(value);
  if (!match) return ERROR;
  let nanos = 0n;
  for (const [, whole = '', fraction = '', unit = ''] of match[2]!.matchAll(/(\d*)(?:\.(\d*))?(h|ms|m|s|us|ns)/g)) {
    const size = UNIT_NANOS[unit]!;
    nanos += BigInt(whole || '0') * size + (BigInt(fraction.padEnd(9, '0')) * size) / NANOS;
  }
  return isTooLong(nanos) ? ERROR : duration(match[1] === '-' ? -nanos : nanos);
}

/** What a type is called, as a value of the type `type`. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  null: 'null_type',
  duration: 'google.protobuf.Duration',
  timestamp: 'google.protobuf.Timestamp',
};

function typeOf(value: Value): Value {
  const kind = kindOf(value);
  return { kind: 'type', name: TYPE_NAMES[kind] ?? kind };
}

export const TYPES: ReadonlySet<string> = new Set([
  'bool',
  'bytes',
  'double',
  'int',
  'list',
  'map',
  'null_type',
  'string',
  'type',
  'uint',
]);

/** `f(x)` */
export const GLOBAL: ReadonlyMap<string, One> = new Map<string, One>([
  ['size', size],
  ['int', toInt],
  ['uint', toUint],
  ['double', toDouble],
  ['bool', toBool],
  ['bytes', toBytes],
  ['timestamp', toTimestamp],
  ['duration', toDuration],
  ['type', typeOf],
  ['dyn', (value) => value],
]);

function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b;
  return a % b < 0n ? quotient - 1n : quotient;
}

const DAY_MS = 86_400_000;
/** Date.UTC takes years before 100 for others. */
function dayOfYear(date: Date): number {
  const first = new Date(0);
  first.setUTCFullYear(date.getUTCFullYear());
  return Math.floor((date.getTime() - first.getTime()) / DAY_MS);
}

/** Of a moment in UTC; a duration has some of them, as a whole. */
function part(ofDate: (date: Date) => number, ofDuration?: (nanos: bigint) => bigint): One {
  return (value) => {
    if (isTimestamp(value)) return BigInt(ofDate(new Date(Number(floorDivide(value.nanos, 1_000_000n)))));
    return isDuration(value) && ofDuration ? ofDuration(value.nanos) : ERROR;
  };
}

/** `x.f()` */
export const METHODS: ReadonlyMap<string, One> = new Map<string, One>([
  ['size', size],
  ['getFullYear', part((date) => date.getUTCFullYear())],
  ['getMonth', part((date) => date.getUTCMonth())],
  ['getDate', part((date) => date.getUTCDate())],
  ['getDayOfMonth', part((date) => date.getUTCDate() - 1)],
  ['getDayOfWeek', part((date) => date.getUTCDay())],
  ['getDayOfYear', part(dayOfYear)],
  [
    'getHours',
    part(
      (date) => date.getUTCHours(),
      (nanos) => nanos / (3600n * NANOS),
    ),
  ],
  [
    'getMinutes',
    part(
      (date) => date.getUTCMinutes(),
      (nanos) => nanos / (60n * NANOS),
    ),
  ],
  [
    'getSeconds',
    part(
      (date) => date.getUTCSeconds(),
      (nanos) => nanos / NANOS,
    ),
  ],
  [
    'getMilliseconds',
    part(
      (date) => date.getUTCMilliseconds(),
      (nanos) => (nanos / 1_000_000n) % 1000n,
    ),
  ],
]);

/** `x.f(y)` */
export const METHODS_OF_TWO: ReadonlyMap<string, Two> = new Map<string, Two>([
  ['contains', texts((text, part) => text.includes(part))],
  ['startsWith', texts((text, part) => text.startsWith(part))],
  ['endsWith', texts((text, part) => text.endsWith(part))],
]);
