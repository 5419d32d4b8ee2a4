// Times in access logs: Envoy's strftime-like formats with fractions of a second. Compiled once. Used by operators.ts.
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
];

/** The fields of one moment, in UTC or local time. */
interface Parts {
  readonly ms: number;
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly weekday: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly milli: number;
  /** Minutes east of Greenwich. */
  readonly offset: number;
}

function partsOf(ms: number, local: boolean): Parts {
  const date = new Date(ms);
  const offset = local ? -date.getTimezoneOffset() : 0;
  // Shifted, so that the UTC getters read local time.
  const at = new Date(ms + offset * 60_000);
  return {
    ms,
    year: at.getUTCFullYear(),
    month: at.getUTCMonth(),
    day: at.getUTCDate(),
    weekday: at.getUTCDay(),
    hour: at.getUTCHours(),
    minute: at.getUTCMinutes(),
    second: at.getUTCSeconds(),
    milli: at.getUTCMilliseconds(),
    offset,
  };
}

const pad = (value: number, size = 2): string => String(value).padStart(size, '0');
const hour12 = (p: Parts): number => p.hour % 12 || 12;
const zone = (p: Parts): string => {
  const minutes = Math.abs(p.offset);
  return `${p.offset < 0 ? '-' : '+'}${pad(Math.floor(minutes / 60))}${pad(minutes % 60)}`;
};
const dayOfYear = (p: Parts): number =>
  Math.floor((Date.UTC(p.year, p.month, p.day) - Date.UTC(p.year, 0, 1)) / 86_400_000) + 1;
/** `digits` of the fraction of a second; the clock has milliseconds. */
const fraction = (p: Parts, digits: number): string => pad(p.milli, 3).padEnd(9, '0').slice(0, digits);

const FIELDS: Readonly<Record<string, (p: Parts) => string>> = {
  Y: (p) => String(p.year),
  y: (p) => pad(p.year % 100),
  m: (p) => pad(p.month + 1),
  d: (p) => pad(p.day),
  e: (p) => String(p.day).padStart(2, ' '),
  H: (p) => pad(p.hour),
  I: (p) => pad(hour12(p)),
  M: (p) => pad(p.minute),
  S: (p) => pad(p.second),
  s: (p) => String(Math.floor(p.ms / 1000)),
  f: (p) => fraction(p, 9),
  j: (p) => pad(dayOfYear(p), 3),
  a: (p) => DAYS[p.weekday]!.slice(0, 3),
  A: (p) => DAYS[p.weekday]!,
  b: (p) => MONTHS[p.month]!.slice(0, 3),
  h: (p) => MONTHS[p.month]!.slice(0, 3),
  B: (p) => MONTHS[p.month]!,
  p: (p) => (p.hour < 12 ? 'AM' : 'PM'),
  u: (p) => String(p.weekday || 7),
  w: (p) => String(p.weekday),
  F: (p) => `${p.year}-${pad(p.month + 1)}-${pad(p.day)}`,
  T: (p) => `${pad(p.hour)}:${pad(p.minute)}:${pad(p.second)}`,
  R: (p) => `${pad(p.hour)}:${pad(p.minute)}`,
  D: (p) => `${pad(p.month + 1)}/${pad(p.day)}/${pad(p.year % 100)}`,
  z: zone,
  Z: (p) => (p.offset === 0 ? 'UTC' : zone(p)),
  n: () => '\n',
  t: () => '\t',
  '%': () => '%',
};

let isoSecond = Number.NaN;
let isoPrefix = '';
const MILLISECONDS: readonly string[] = Array.from({ length: 1000 }, (_, i) => `${String(i).padStart(3, '0')}Z`);

/** `2026-01-02T03:04:05.678Z`. Most lines of a log are of the second of the line before. */
function isoTime(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== isoSecond) {
    isoPrefix = new Date(second * 1000).toISOString().slice(0, -4);
    isoSecond = second;
  }
  return isoPrefix + MILLISECONDS[Math.floor(ms - second * 1000)];
}

/** Undefined: there is a specifier nobody knows. */
export function compileTime(format: string, local: boolean): ((ms: number) => string) | undefined {
  if (format === '') {
    if (!local) return isoTime;
    return (ms) => {
      const p = partsOf(ms, true);
      return `${FIELDS.F!(p)}T${FIELDS.T!(p)}.${fraction(p, 3)}${zone(p)}`;
    };
  }
  const pieces: (string | ((p: Parts) => string))[] = [];
  let at = 0;
  for (const match of format.matchAll(/%(?:E?([1-9])([fsS])|E\*([fS])|E?z|E?([A-Za-z%]))/g)) {
    if (match.index > at) pieces.push(format.slice(at, match.index));
    at = match.index + match[0].length;
    const field = fieldOf(match[0], match[1], match[2], match[3], match[4]);
    if (!field) return undefined;
    pieces.push(field);
  }
  if (at < format.length) pieces.push(format.slice(at));
  if (pieces.some((piece) => typeof piece === 'string' && piece.includes('%'))) return undefined;
  return (ms) => {
    const parts = partsOf(ms, local);
    let out = '';
    for (const piece of pieces) out += typeof piece === 'string' ? piece : piece(parts);
    return out;
  };
}

function fieldOf(
  whole: string,
  digits: string | undefined,
  counted: string | undefined,
  star: string | undefined,
  plain: string | undefined,
): ((p: Parts) => string) | undefined {
  if (digits !== undefined) {
    const size = Number(digits);
    if (counted === 'f') return (p) => fraction(p, size);
    if (counted === 'S') return (p) => `${pad(p.second)}.${fraction(p, size)}`;
    return FIELDS.s;
  }
  if (star === 'f') return FIELDS.f;
  if (star === 'S') return (p) => `${pad(p.second)}.${fraction(p, 9).replace(/0+$/, '') || '0'}`;
  if (whole.endsWith('z')) return zone;
  return FIELDS[plain!];
}
