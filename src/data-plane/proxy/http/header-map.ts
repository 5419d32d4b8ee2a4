// The headers of one message as byte ranges of its head, with edits beside them: no object per header, and lines that
// nobody touched are copied as they came. Reused from message to message of a connection.
import { DEFAULT_MAX_HEADERS } from '../limits.ts';
import { writeProper } from './header-case.ts';
import { putLineEnd, putValue, textOf } from './texts.ts';

/** A header name in lower case, made once and compared by reference or hash. */
export interface HeaderName {
  readonly text: string;
  readonly hash: number;
  readonly bytes: Buffer;
}

/** Most questions are about headers that are not there: one bit of 64 a name answers them without a look at any. */
const bitOf = (hash: number): number => 1 << (hash & 31);
const isHigh = (hash: number): boolean => (hash & 32) !== 0;

/** Names that are looked for together. */
export interface NameGroup {
  readonly hashes: ReadonlySet<number>;
  readonly low: number;
  readonly high: number;
}

export function nameGroup(names: readonly HeaderName[]): NameGroup {
  let low = 0;
  let high = 0;
  for (const { hash } of names)
    if (isHigh(hash)) high |= bitOf(hash);
    else low |= bitOf(hash);
  return { hashes: new Set(names.map((name) => name.hash)), low, high };
}

/** Answers of `wholeNumber` beside numbers. */
export const ABSENT = -1;
export const NO_NUMBER = -2;
/** What a double holds exactly. */
const MAX_DIGITS = 15;

const names = new Map<string, HeaderName>();
/** Names come from configuration and from this code, but also from added peers' data: keep the table bounded. */
const MAX_INTERNED_NAMES = 10_000;

export function headerName(text: string): HeaderName {
  const lower = text.toLowerCase();
  const known = names.get(lower);
  if (known) return known;
  const bytes = Buffer.from(lower, 'latin1');
  let hash = 0;
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) | 0;
  const made: HeaderName = { text: lower, hash, bytes };
  if (names.size < MAX_INTERNED_NAMES) names.set(lower, made);
  return made;
}

/** Lines there is room for at first, and what one takes beside its text: four offsets, a hash, a state. */
const INITIAL_LINES = 16;
const LINE_BYTES = 21;

/** State of one parsed line. */
const KEEP = 0;
/** Kept, but written anew because its spelling was not `name: value`. */
const RESPELL = 1;
const GONE = 2;

export class HeaderMap {
  bytes: Buffer;
  count = 0;
  nameStart: Uint32Array;
  nameEnd: Uint32Array;
  valueStart: Uint32Array;
  valueEnd: Uint32Array;
  hashes: Int32Array;
  state: Uint8Array;
  /** Headers added to those of the head, in order: the first `addedCount` of both. Emptying arrays costs more than counting. */
  readonly addedNames: HeaderName[] = [];
  readonly addedValues: string[] = [];
  addedCount = 0;
  /** Bits of the names that are, or were, here. */
  #low = 0;
  #high = 0;
  /** The head as it came, when its spelling is kept. */
  #original: Buffer | undefined;
  /** It goes back to the pool when its message is complete (header-pool.ts). */
  pooled = false;

  constructor(capacity = 256) {
    // One block of memory for all: seven cost a new connection six times as much.
    const block = new ArrayBuffer(INITIAL_LINES * LINE_BYTES + capacity);
    const numbers = (i: number): Uint32Array => new Uint32Array(block, i * INITIAL_LINES * 4, INITIAL_LINES);
    this.nameStart = numbers(0);
    this.nameEnd = numbers(1);
    this.valueStart = numbers(2);
    this.valueEnd = numbers(3);
    this.hashes = new Int32Array(block, INITIAL_LINES * 16, INITIAL_LINES);
    this.state = new Uint8Array(block, INITIAL_LINES * 20, INITIAL_LINES);
    this.bytes = Buffer.from(block, INITIAL_LINES * LINE_BYTES, capacity);
  }

  /** Forgets everything; memory of an unusually large head is given back. */
  clear(): void {
    this.count = 0;
    this.#low = 0;
    this.#high = 0;
    this.addedCount = 0;
    this.#original = undefined;
    if (this.bytes.length > 8192) this.bytes = Buffer.allocUnsafeSlow(2048);
    if (this.state.length > 4 * DEFAULT_MAX_HEADERS) this.#resize(INITIAL_LINES);
  }

  /** Copies a raw head; offsets given to `push` are relative to it. `keepCase`: names are written as they came. */
  load(source: Buffer, start: number, end: number, keepCase = false): void {
    const length = end - start;
    this.#original = keepCase ? Buffer.from(source.subarray(start, end)) : undefined;
    if (this.bytes.length < length) this.bytes = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.bytes.length));
    source.copy(this.bytes, 0, start, end);
  }

  /** Makes room for `size` bytes at `at`; what stands before stays. */
  reserve(at: number, size: number): void {
    if (at + size <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(at + size, 2 * this.bytes.length));
    this.bytes.copy(larger, 0, 0, at);
    this.bytes = larger;
  }

  /** Notes one line of the head. `canonical` = spelled `name: value\r\n`. */
  push(ns: number, ne: number, vs: number, ve: number, hash: number, canonical: boolean): void {
    const i = this.count;
    if (i === this.state.length) this.#resize(i * 2);
    this.nameStart[i] = ns;
    this.nameEnd[i] = ne;
    this.valueStart[i] = vs;
    this.valueEnd[i] = ve;
    this.hashes[i] = hash;
    this.state[i] = canonical ? KEEP : RESPELL;
    this.count = i + 1;
    this.#mark(hash);
  }

  #mark(hash: number): void {
    if (isHigh(hash)) this.#high |= bitOf(hash);
    else this.#low |= bitOf(hash);
  }

  /** False: there is certainly no such header. */
  #may(hash: number): boolean {
    return ((isHigh(hash) ? this.#high : this.#low) & bitOf(hash)) !== 0;
  }

  /** True when header `i` of the head was removed. */
  gone(i: number): boolean {
    return this.state[i] === GONE;
  }

  /** True when header `i` of the head stands in `bytes` as `name: value\r\n`. */
  isLine(i: number): boolean {
    return this.state[i] === KEEP;
  }

  /** The first value, or undefined. */
  get(name: HeaderName): string | undefined {
    if (!this.#may(name.hash)) return undefined;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name)) return this.#value(i);
    for (let i = 0; i < this.addedCount; i++) if (same(this.addedNames[i]!, name)) return this.addedValues[i];
    return undefined;
  }

  /** All values joined with `,`, or undefined: what matchers look at. */
  getAll(name: HeaderName): string | undefined {
    if (!this.#may(name.hash)) return undefined;
    let out: string | undefined;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name))
        out = out === undefined ? this.#value(i) : `${out},${this.#value(i)}`;
    for (let i = 0; i < this.addedCount; i++)
      if (same(this.addedNames[i]!, name))
        out = out === undefined ? this.addedValues[i] : `${out},${this.addedValues[i]}`;
    return out;
  }

  /** The value, or all values when there are several. */
  getEach(name: HeaderName): string | string[] | undefined {
    if (!this.#may(name.hash)) return undefined;
    let out: string | string[] | undefined;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name))
        out = withValue(out, this.#value(i));
    for (let i = 0; i < this.addedCount; i++)
      if (same(this.addedNames[i]!, name)) out = withValue(out, this.addedValues[i]!);
    return out;
  }

  has(name: HeaderName): boolean {
    if (!this.#may(name.hash)) return false;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name)) return true;
    for (let i = 0; i < this.addedCount; i++) if (same(this.addedNames[i]!, name)) return true;
    return false;
  }

  /** True when a header's hash is that of a name in `group`: a cheap look before several `remove`. */
  anyOf(group: NameGroup): boolean {
    if (((this.#low & group.low) | (this.#high & group.high)) === 0) return false;
    for (let i = 0; i < this.count; i++) if (group.hashes.has(this.hashes[i]!)) return true;
    for (let i = 0; i < this.addedCount; i++) if (group.hashes.has(this.addedNames[i]!.hash)) return true;
    return false;
  }

  /** The whole number that `name` has in at most 15 digits; `ABSENT`, or `NO_NUMBER` when it says anything else or stands twice. */
  wholeNumber(name: HeaderName): number {
    if (!this.#may(name.hash)) return ABSENT;
    let found = ABSENT;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name)) {
        if (found !== ABSENT) return NO_NUMBER;
        found = wholeNumber(this.bytes, this.valueStart[i]!, this.valueEnd[i]!);
      }
    for (let i = 0; i < this.addedCount; i++)
      if (same(this.addedNames[i]!, name)) {
        if (found !== ABSENT) return NO_NUMBER;
        const value = this.addedValues[i]!;
        found = wholeNumber(Buffer.from(value, 'latin1'), 0, value.length);
      }
    return found;
  }

  /** True when all bytes of `name` in the head are `allowed` (1 for each that is). */
  consistsOf(name: HeaderName, allowed: Uint8Array): boolean {
    if (!this.#may(name.hash)) return true;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name))
        for (let at = this.valueStart[i]!; at < this.valueEnd[i]!; at++)
          if (allowed[this.bytes[at]!] !== 1) return false;
    return true;
  }

  remove(name: HeaderName): boolean {
    if (!this.#may(name.hash)) return false;
    let found = false;
    for (let i = 0; i < this.count; i++)
      if (this.hashes[i] === name.hash && this.state[i] !== GONE && this.#is(i, name)) {
        this.state[i] = GONE;
        found = true;
      }
    for (let i = this.addedCount - 1; i >= 0; i--)
      if (same(this.addedNames[i]!, name)) {
        this.#dropAdded(i);
        found = true;
      }
    return found;
  }

  removePrefix(prefix: string): void {
    for (let i = 0; i < this.count; i++)
      if (this.state[i] !== GONE && this.#name(i).startsWith(prefix)) this.state[i] = GONE;
    for (let i = this.addedCount - 1; i >= 0; i--)
      if (this.addedNames[i]!.text.startsWith(prefix)) {
        this.#dropAdded(i);
      }
  }

  add(name: HeaderName, value: string): void {
    this.#mark(name.hash);
    this.addedNames[this.addedCount] = name;
    this.addedValues[this.addedCount] = value;
    this.addedCount += 1;
  }

  #dropAdded(at: number): void {
    for (let i = at + 1; i < this.addedCount; i++) {
      this.addedNames[i - 1] = this.addedNames[i]!;
      this.addedValues[i - 1] = this.addedValues[i]!;
    }
    this.addedCount -= 1;
  }

  set(name: HeaderName, value: string): void {
    this.remove(name);
    this.add(name, value);
  }

  setIfAbsent(name: HeaderName, value: string): void {
    if (!this.has(name)) this.add(name, value);
  }

  /** An independent copy, for a request that goes to two places. */
  copy(): HeaderMap {
    let end = 0;
    for (let i = 0; i < this.count; i++) end = Math.max(end, this.valueEnd[i]! + 2);
    end = Math.min(end, this.bytes.length);
    const out = new HeaderMap(Math.max(16, end));
    this.bytes.copy(out.bytes, 0, 0, end);
    for (let i = 0; i < this.count; i++) {
      if (this.state[i] === GONE) continue;
      out.push(
        this.nameStart[i]!,
        this.nameEnd[i]!,
        this.valueStart[i]!,
        this.valueEnd[i]!,
        this.hashes[i]!,
        this.state[i] === KEEP,
      );
    }
    for (let i = 0; i < this.addedCount; i++) out.add(this.addedNames[i]!, this.addedValues[i]!);
    out.#original = this.#original;
    return out;
  }

  /** Calls `visit` for each header in order. */
  forEach(visit: (name: string, value: string) => void): void {
    for (let i = 0; i < this.count; i++) if (this.state[i] !== GONE) visit(this.#name(i), this.#value(i));
    for (let i = 0; i < this.addedCount; i++) visit(this.addedNames[i]!.text, this.addedValues[i]!);
  }

  /** Names and values of the head as it came, and three bytes a line: Envoy's measure of what HTTP/1 received. */
  fieldBytes(): number {
    let size = 0;
    for (let i = 0; i < this.count; i++)
      size += this.nameEnd[i]! - this.nameStart[i]! + this.valueEnd[i]! - this.valueStart[i]! + 3;
    return size;
  }

  /** Upper bound of what `write` needs. */
  writtenSize(): number {
    let size = 0;
    for (let i = 0; i < this.count; i++) if (this.state[i] !== GONE) size += this.valueEnd[i]! - this.nameStart[i]! + 4;
    for (let i = 0; i < this.addedCount; i++)
      size += this.addedNames[i]!.bytes.length + this.addedValues[i]!.length + 4;
    return size;
  }

  /** Names with an underscore; `drop` takes them away. */
  withUnderscores(drop: boolean): number {
    let found = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.state[i] === GONE || !this.bytes.subarray(this.nameStart[i], this.nameEnd[i]).includes(95)) continue;
      found += 1;
      if (drop) this.state[i] = GONE;
    }
    return found;
  }

  /**
   * Writes all headers as HTTP/1 lines at `at`; returns the end. Runs of untouched lines are one copy. `proper`: names
   * that nobody spelled otherwise are written Like-This.
   */
  write(out: Buffer, at: number, proper = false): number {
    if (proper || this.#original) return this.#writeCased(out, at, proper);
    const { bytes } = this;
    let run = -1;
    let runEnd = -1;
    for (let i = 0; i < this.count; i++) {
      const state = this.state[i];
      if (state === KEEP) {
        const start = this.nameStart[i]!;
        if (run >= 0 && runEnd !== start) {
          at += bytes.copy(out, at, run, runEnd);
          run = start;
        } else if (run < 0) run = start;
        runEnd = this.valueEnd[i]! + 2;
        continue;
      }
      if (run >= 0) at += bytes.copy(out, at, run, runEnd);
      run = -1;
      if (state === GONE) continue;
      at += bytes.copy(out, at, this.nameStart[i], this.nameEnd[i]);
      out[at++] = 58;
      out[at++] = 32;
      at += bytes.copy(out, at, this.valueStart[i], this.valueEnd[i]);
      out[at++] = 13;
      out[at++] = 10;
    }
    if (run >= 0) at += bytes.copy(out, at, run, runEnd);
    for (let i = 0; i < this.addedCount; i++) at = writeLine(out, at, this.addedNames[i]!, this.addedValues[i]!);
    return at;
  }

  #writeCased(out: Buffer, at: number, proper: boolean): number {
    const original = this.#original;
    for (let i = 0; i < this.count; i++) {
      if (this.state[i] === GONE) continue;
      const start = this.nameStart[i]!;
      const end = this.nameEnd[i]!;
      if (original) at += original.copy(out, at, start, end);
      else at = writeProper(out, at, this.bytes, start, end);
      at = colon(out, at);
      at += this.bytes.copy(out, at, this.valueStart[i], this.valueEnd[i]);
      at = putLineEnd(out, at);
    }
    for (let i = 0; i < this.addedCount; i++) {
      const name = this.addedNames[i]!;
      const spelled = original ? this.#spelling(name) : -1;
      if (original && spelled >= 0) at += original.copy(out, at, this.nameStart[spelled], this.nameEnd[spelled]);
      else if (proper) at = writeProper(out, at, name.bytes, 0, name.bytes.length);
      else at += name.bytes.copy(out, at);
      at = colon(out, at);
      at = putLineEnd(out, putValue(out, at, this.addedValues[i]!));
    }
    return at;
  }

  /** Where the head had this name, even if its line was replaced; -1 = nowhere. */
  #spelling(name: HeaderName): number {
    for (let i = 0; i < this.count; i++) if (this.hashes[i] === name.hash && this.#is(i, name)) return i;
    return -1;
  }

  #is(i: number, name: HeaderName): boolean {
    const start = this.nameStart[i]!;
    const length = this.nameEnd[i]! - start;
    if (length !== name.bytes.length) return false;
    for (let k = 0; k < length; k++) if (this.bytes[start + k] !== name.bytes[k]) return false;
    return true;
  }

  #name(i: number): string {
    return this.bytes.toString('latin1', this.nameStart[i], this.nameEnd[i]);
  }

  #value(i: number): string {
    return textOf(this.bytes, this.valueStart[i]!, this.valueEnd[i]!);
  }

  #resize(size: number): void {
    const grow = (from: Uint32Array): Uint32Array => {
      const to = new Uint32Array(size);
      to.set(from.subarray(0, size));
      return to;
    };
    this.nameStart = grow(this.nameStart);
    this.nameEnd = grow(this.nameEnd);
    this.valueStart = grow(this.valueStart);
    this.valueEnd = grow(this.valueEnd);
    const hashes = new Int32Array(size);
    hashes.set(this.hashes.subarray(0, size));
    this.hashes = hashes;
    const state = new Uint8Array(size);
    state.set(this.state.subarray(0, size));
    this.state = state;
  }
}

function wholeNumber(bytes: Buffer, start: number, end: number): number {
  if (end === start || end - start > MAX_DIGITS) return NO_NUMBER;
  let out = 0;
  for (let i = start; i < end; i++) {
    const digit = bytes[i]! - 48;
    if (digit < 0 || digit > 9) return NO_NUMBER;
    out = out * 10 + digit;
  }
  return out;
}

function withValue(before: string | string[] | undefined, value: string): string | string[] {
  if (before === undefined) return value;
  return typeof before === 'string' ? [before, value] : [...before, value];
}

/** Names beyond the table are made twice. */
function same(a: HeaderName, b: HeaderName): boolean {
  return a === b || (a.hash === b.hash && a.text === b.text);
}

/** `name: value\r\n`; a value that could split the head loses its line breaks and NULs. */
export function writeLine(out: Buffer, at: number, name: HeaderName, value: string): number {
  const { bytes } = name;
  for (let i = 0; i < bytes.length; i++) out[at++] = bytes[i]!;
  out[at++] = 58;
  out[at++] = 32;
  return putLineEnd(out, putValue(out, at, value));
}

/** A text of the configuration or of a certificate as headers have it: its UTF-8 bytes, a character each. */
export function utf8Bytes(text: string): string {
  return /[^\0-\x7f]/.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text;
}

/** The way back, for matchers: they are texts of the configuration. */
export function utf8Text(bytes: string): string {
  return /[^\0-\x7f]/.test(bytes) ? Buffer.from(bytes, 'latin1').toString('utf8') : bytes;
}

function colon(out: Buffer, at: number): number {
  out[at] = 58;
  out[at + 1] = 32;
  return at + 2;
}
