// Times in access logs: strftime's formats as the C library has them, with fractions of a second as Envoy adds them. Compiled
// once. Used by argument-operators.ts.
import { LOG_NEEDS } from './needs.ts';

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
  readonly micro: number;
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
    micro: Math.floor((ms - Math.floor(ms / 1000) * 1000) * 1000),
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
/** `digits` of the fraction of a second. */
const fraction = (p: Parts, digits: number): string => pad(p.micro, 6).padEnd(9, '0').slice(0, digits);
/** The week of the year when weeks begin on `first` (0 = Sunday), from 0. */
const week = (p: Parts, first: number): number =>
  Math.floor((dayOfYear(p) - 1 + 7 - ((p.weekday - first + 7) % 7)) / 7);

/** ISO 8601: the year a week belongs to, and its number. */
function isoWeek(p: Parts): { readonly year: number; readonly week: number } {
  const thursday = Date.UTC(p.year, p.month, p.day) + (4 - (p.weekday || 7)) * 86_400_000;
  const year = new Date(thursday).getUTCFullYear();
  return { year, week: Math.floor((thursday - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) + 1 };
}

/** A number with its width and what fills it, or a text. */
type Field =
  | { readonly size: number; readonly fill: '0' | ' '; readonly number: (p: Parts) => number }
  | ((p: Parts) => string);

const number = (size: number, read: (p: Parts) => number, fill: '0' | ' ' = '0'): Field => ({
  size,
  fill,
  number: read,
});
const clock = (p: Parts): string => `${pad(p.hour)}:${pad(p.minute)}:${pad(p.second)}`;
const date = (p: Parts): string => `${pad(p.month + 1)}/${pad(p.day)}/${pad(p.year % 100)}`;
const half = (p: Parts): string => (p.hour < 12 ? 'AM' : 'PM');
const abbreviated = (names: readonly string[], i: number): string => names[i]!.slice(0, 3);

const FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['Y', number(1, (p) => p.year)],
  ['C', number(2, (p) => Math.floor(p.year / 100))],
  ['y', number(2, (p) => p.year % 100)],
  ['G', number(1, (p) => isoWeek(p).year)],
  ['g', number(2, (p) => isoWeek(p).year % 100)],
  ['m', number(2, (p) => p.month + 1)],
  ['d', number(2, (p) => p.day)],
  ['e', number(2, (p) => p.day, ' ')],
  ['H', number(2, (p) => p.hour)],
  ['k', number(2, (p) => p.hour, ' ')],
  ['I', number(2, hour12)],
  ['l', number(2, hour12, ' ')],
  ['M', number(2, (p) => p.minute)],
  ['S', number(2, (p) => p.second)],
  ['j', number(3, dayOfYear)],
  ['u', number(1, (p) => p.weekday || 7)],
  ['w', number(1, (p) => p.weekday)],
  ['U', number(2, (p) => week(p, 0))],
  ['W', number(2, (p) => week(p, 1))],
  ['V', number(2, (p) => isoWeek(p).week)],
  ['a', (p) => abbreviated(DAYS, p.weekday)],
  ['A', (p) => DAYS[p.weekday]!],
  ['b', (p) => abbreviated(MONTHS, p.month)],
  ['h', (p) => abbreviated(MONTHS, p.month)],
  ['B', (p) => MONTHS[p.month]!],
  ['p', half],
  ['P', (p) => half(p).toLowerCase()],
  ['F', (p) => `${p.year}-${pad(p.month + 1)}-${pad(p.day)}`],
  ['T', clock],
  ['X', clock],
  ['R', (p) => `${pad(p.hour)}:${pad(p.minute)}`],
  ['r', (p) => `${pad(hour12(p))}:${pad(p.minute)}:${pad(p.second)} ${half(p)}`],
  ['D', date],
  ['x', date],
  [
    'c',
    (p) =>
      `${abbreviated(DAYS, p.weekday)} ${abbreviated(MONTHS, p.month)} ${String(p.day).padStart(2)} ${clock(p)} ${p.year}`,
  ],
  ['z', zone],
  ['Z', (p) => (p.offset === 0 ? 'UTC' : zone(p))],
  ['t', () => '\t'],
  ['%', () => '%'],
]);

const colonZone = (p: Parts): string => zone(p).replace(/..$/, ':$&');
const significant = (p: Parts): string => fraction(p, 9).replace(/0+$/, '') || '0';
const withFraction = (p: Parts, digits: number): string =>
  digits === 0 ? pad(p.second) : `${pad(p.second)}.${fraction(p, digits)}`;

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

type Piece = string | ((p: Parts) => string);

/**
 * Envoy's own (even behind another `%`), then those of its time library, then strftime's: flags, width, modifier, specifier.
 */
const SPECIFIER =
  /%([1-9])?([fs])|(?<=^|[^%])%(?=%[1-9]?[fs])|%E(\d{1,2}|\*)([fS])|%(?:E\*?|:{1,3})z|%E4Y|%ET|%([-_0^#]*)(\d{0,3})([EO]?)([A-Za-z%+])/g;
/** More of a second than its thousandths. */
const FINE = /%(?:[4-9]?f|E(?:[4-9]|\d\d|\*)[fS])/;
const NEWLINE = /%[-_0^#]*[1-9]*[EO]?n/;

/** Undefined: the format has a line break, which has no place in a header. */
export function compileTime(format: string, local: boolean): ((ms: number) => string) | undefined {
  if (format === '') {
    if (!local) return isoTime;
    return (ms) => {
      const p = partsOf(ms, true);
      return `${p.year}-${pad(p.month + 1)}-${pad(p.day)}T${clock(p)}.${fraction(p, 3)}${zone(p)}`;
    };
  }
  if (NEWLINE.test(format)) return undefined;
  if (FINE.test(format)) LOG_NEEDS.fineTime = true;
  const pieces: Piece[] = [];
  let at = 0;
  for (const match of format.matchAll(SPECIFIER)) {
    if (match.index > at) pieces.push(format.slice(at, match.index));
    at = match.index + match[0].length;
    pieces.push(pieceOf(match));
  }
  if (at < format.length) pieces.push(format.slice(at));
  return (ms) => {
    const parts = partsOf(ms, local);
    let out = '';
    for (const piece of pieces) out += typeof piece === 'string' ? piece : piece(parts);
    return out;
  };
}

function pieceOf(match: RegExpMatchArray): Piece {
  const [whole, digits = '9', counted, size, of, flags = '', width = '', modifier, letter] = match;
  if (counted === 's') return (p) => String(Math.floor(p.ms / 1000));
  if (counted === 'f') return (p) => fraction(p, Number(digits));
  if (size === '*') return of === 'f' ? significant : (p) => `${pad(p.second)}.${significant(p)}`;
  if (size !== undefined) {
    const kept = Math.min(Number(size), 15);
    return of === 'f' ? (p) => fraction(p, 9).padEnd(kept, '0').slice(0, kept) : (p) => withFraction(p, kept);
  }
  if (whole === '%') return whole;
  if (letter === undefined) return special(whole);
  const field = FIELDS.get(letter);
  // What nobody knows stands as it is; the C library gives even that its width.
  if (!field) return whole.padStart(Number(width));
  if (modifier === 'E' && !'CcXxYyzZ'.includes(letter)) return spelled(field, '', '');
  return spelled(field, flags, width);
}

function special(whole: string): Piece {
  if (whole === '%ET') return 'T';
  if (whole === '%E4Y') return (p) => pad(p.year, 4);
  return colonZone;
}

function spelled(field: Field, flags: string, width: string): Piece {
  const least = Number(width);
  const upper = flags.includes('^');
  if (typeof field === 'function') {
    const filled = flags.includes('0') ? '0' : ' ';
    if (flags === '' && least === 0) return field;
    return (p) => cased(field(p), upper, flags.includes('#')).padStart(least, filled);
  }
  const bare = flags.includes('-');
  const fill = bare || flags.includes('_') ? ' ' : flags.includes('0') ? '0' : field.fill;
  const size = bare ? least : Math.max(field.size, least);
  return (p) => String(field.number(p)).padStart(size, fill);
}

/** `#` turns around: names become capitals, and what is in capitals becomes small. */
function cased(text: string, upper: boolean, other: boolean): string {
  if (upper) return text.toUpperCase();
  if (!other) return text;
  return /[a-z]/.test(text) ? text.toUpperCase() : text.toLowerCase();
}
