// Decodes HPACK header blocks straight into a HeaderMap: no object a header. Checks what HTTP/2 demands of fields.
// Used by HTTP/2 sessions of both sides.
import type { H2Head } from './h2-head.ts';
import type { HeaderMap } from './header-map.ts';
import { huffmanDecode, huffmanDecodedMax } from './hpack-huffman.ts';
import {
  AUTHORITY,
  CONNECTION,
  CONTENT_LENGTH,
  COOKIE,
  HOST,
  type HpackLines,
  HpackTable,
  kindOf,
  LINE_OVERHEAD,
  MALFORMED,
  METHOD,
  PATH,
  PROTOCOL,
  REGULAR,
  SCHEME,
  STATIC,
  STATIC_COUNT,
  STATUS,
  TE,
  UNKNOWN_PSEUDO,
} from './hpack-table.ts';
import { H } from './names.ts';
import { putBytes, putRange, textOf } from './texts.ts';

export interface HeadLimits {
  /** Bytes of names and values. */
  readonly maxBytes: number;
  readonly maxCount: number;
}

/** 1 = may stand in a name: a token without capitals. */
const NAME = new Uint8Array(256);
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") NAME[char.charCodeAt(0)] = 1;
/** 1 = may stand in a value. */
const VALUE = new Uint8Array(256).fill(1);
VALUE.fill(0, 0, 32);
VALUE[9] = 1;
VALUE[127] = 0;

/** 1 = may stand in a method, a path, an authority: what HTTP/1 could not carry would change its request line. */
const METHOD_BYTES = new Uint8Array(NAME);
for (let i = 65; i <= 90; i++) METHOD_BYTES[i] = 1;
const PATH_BYTES = new Uint8Array(VALUE);
PATH_BYTES[9] = 0;
PATH_BYTES[32] = 0;
const AUTHORITY_BYTES = new Uint8Array(256);
for (const char of "-._~!$&'()*+,;=:%[]0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  AUTHORITY_BYTES[char.charCodeAt(0)] = 1;

const MAX_INTEGER = 1 << 27;

export class HpackDecoder {
  readonly table: HpackTable;
  /** What we allow the peer's encoder to use. */
  readonly #allowed: number;
  #at = 0;
  #used = 0;
  #bytes = 0;

  constructor(tableSize: number) {
    this.#allowed = tableSize;
    this.table = new HpackTable(tableSize);
  }

  /**
   * Reads `block[start, end)`. False: the block is no HPACK and the connection cannot go on. What is wrong with the
   * fields themselves stands in `head.problem`; the whole block is read in any case, because the table depends on it.
   */
  decode(block: Buffer, start: number, end: number, headers: HeaderMap, head: H2Head, limits: HeadLimits): boolean {
    head.clear();
    headers.clear();
    this.#at = start;
    this.#used = 0;
    this.#bytes = 0;
    let fields = 0;
    while (this.#at < end) {
      const byte = block[this.#at]!;
      if ((byte & 0xe0) === 0x20) {
        const size = this.#integer(block, end, 31);
        if (fields > 0 || size < 0 || size > this.#allowed) return false;
        this.table.resize(size);
        continue;
      }
      fields += 1;
      const ok =
        (byte & 0x80) !== 0
          ? this.#indexed(block, end, headers, head, limits)
          : this.#literal(block, end, byte, headers, head, limits);
      if (!ok) return false;
    }
    head.fieldBytes = this.#bytes;
    if (head.cookies > 1) this.#joinCookies(headers);
    return true;
  }

  /** An integer of `mask` bits in the byte at hand and those after it; -1 = refused. */
  #integer(block: Buffer, end: number, mask: number): number {
    let value = block[this.#at]! & mask;
    this.#at += 1;
    if (value < mask) return value;
    let shift = 0;
    for (;;) {
      if (this.#at >= end || shift > 28) return -1;
      const byte = block[this.#at]!;
      this.#at += 1;
      value += (byte & 127) * 2 ** shift;
      if (value > MAX_INTEGER) return -1;
      if ((byte & 128) === 0) return value;
      shift += 7;
    }
  }

  /** Slot of an index in the static (negative, `~slot`) or the dynamic table; undefined = no such entry. */
  #lookup(index: number): number | undefined {
    if (index <= STATIC_COUNT) return index === 0 ? undefined : -index;
    const back = index - STATIC_COUNT - 1;
    return back < this.table.count ? this.table.slot(this.table.added - back) : undefined;
  }

  #indexed(block: Buffer, end: number, headers: HeaderMap, head: H2Head, limits: HeadLimits): boolean {
    const index = this.#integer(block, end, 127);
    if (index < 0) return false;
    const found = this.#lookup(index);
    if (found === undefined) return false;
    const lines: HpackLines = found < 0 ? STATIC : this.table;
    const slot = found < 0 ? -found - 1 : found;
    const nameLength = lines.nameLength[slot]!;
    const valueLength = lines.valueLength[slot]!;
    const from = lines.start[slot]!;
    const at = this.#used;
    headers.reserve(at, nameLength + valueLength + LINE_OVERHEAD);
    putRange(headers.bytes, at, lines.bytes, from, from + nameLength + valueLength + LINE_OVERHEAD);
    this.#field(headers, head, limits, nameLength, valueLength, lines.hash[slot]!, lines.kind[slot]!);
    return true;
  }

  #literal(block: Buffer, end: number, byte: number, headers: HeaderMap, head: H2Head, limits: HeadLimits): boolean {
    const indexing = (byte & 0x40) !== 0;
    const index = this.#integer(block, end, indexing ? 63 : 15);
    if (index < 0) return false;
    const at = this.#used;
    let nameLength: number;
    let hash: number;
    let kind: number;
    if (index === 0) {
      nameLength = this.#string(block, end, headers, at);
      if (nameLength < 0) return false;
      hash = hashOf(headers.bytes, at, at + nameLength);
      kind = kindOf(headers.bytes, at, at + nameLength, hash);
      if (!nameAllowed(headers.bytes, at, at + nameLength)) kind |= MALFORMED;
    } else {
      const found = this.#lookup(index);
      if (found === undefined) return false;
      const lines: HpackLines = found < 0 ? STATIC : this.table;
      const slot = found < 0 ? -found - 1 : found;
      nameLength = lines.nameLength[slot]!;
      const from = lines.start[slot]!;
      headers.reserve(at, nameLength + LINE_OVERHEAD);
      putRange(headers.bytes, at, lines.bytes, from, from + nameLength);
      hash = lines.hash[slot]!;
      // A bad value of the entry says nothing about its name; a bad name is seen again here.
      kind = lines.kind[slot]! & ~MALFORMED;
      if (found >= 0 && !nameAllowed(headers.bytes, at, at + nameLength)) kind |= MALFORMED;
    }
    const valueAt = at + nameLength + 2;
    const valueLength = this.#string(block, end, headers, valueAt);
    if (valueLength < 0) return false;
    const { bytes } = headers;
    bytes[at + nameLength] = 58;
    bytes[at + nameLength + 1] = 32;
    const stop = valueAt + valueLength;
    for (let i = valueAt; i < stop; i++) if (VALUE[bytes[i]!] === 0) kind |= MALFORMED;
    bytes[stop] = 13;
    bytes[stop + 1] = 10;
    if (indexing) this.table.add(bytes, at, nameLength, valueLength, hash, kind);
    this.#field(headers, head, limits, nameLength, valueLength, hash, kind);
    return true;
  }

  /** Reads a string to `headers.bytes` at `at`, leaving room for a line's end; returns its length or -1. */
  #string(block: Buffer, end: number, headers: HeaderMap, at: number): number {
    if (this.#at >= end) return -1;
    const huffman = (block[this.#at]! & 128) !== 0;
    const length = this.#integer(block, end, 127);
    const from = this.#at;
    if (length < 0 || length > end - from) return -1;
    this.#at = from + length;
    if (huffman) {
      headers.reserve(at, huffmanDecodedMax(length) + LINE_OVERHEAD);
      const stop = huffmanDecode(block, from, from + length, headers.bytes, at);
      return stop < 0 ? -1 : stop - at;
    }
    headers.reserve(at, length + LINE_OVERHEAD);
    const { bytes } = headers;
    putRange(bytes, at, block, from, from + length);
    return length;
  }

  /** The line at `#used` is a field: takes it over, or notes what is wrong with it. */
  #field(
    headers: HeaderMap,
    head: H2Head,
    limits: HeadLimits,
    nameLength: number,
    valueLength: number,
    hash: number,
    kind: number,
  ): void {
    this.#bytes += nameLength + valueLength;
    if (this.#bytes > limits.maxBytes) head.refuse('too-large');
    const at = this.#used;
    if (kind >= MALFORMED) {
      head.refuse('invalid-field');
      return;
    }
    if (kind >= METHOD && kind <= UNKNOWN_PSEUDO) {
      this.#pseudo(headers, head, at, nameLength, valueLength, kind);
      return;
    }
    head.regular = true;
    if (kind !== REGULAR && !this.#special(headers, head, at + nameLength + 2, valueLength, kind)) return;
    // Once refused nothing more is kept: memory stays within the limits.
    if (head.problem !== '') return;
    if (headers.count >= limits.maxCount) {
      head.refuse('too-many');
      return;
    }
    headers.push(at, at + nameLength, at + nameLength + 2, at + nameLength + 2 + valueLength, hash, true);
    this.#used = at + nameLength + valueLength + LINE_OVERHEAD;
  }

  /** Fields with a meaning; false = not to be kept. */
  #special(headers: HeaderMap, head: H2Head, at: number, length: number, kind: number): boolean {
    const { bytes } = headers;
    switch (kind) {
      case CONNECTION:
        head.refuse('invalid-field');
        return false;
      case TE:
        if (bytes.toString('latin1', at, at + length).toLowerCase() !== 'trailers') head.refuse('invalid-field');
        return true;
      case HOST:
        if (!only(AUTHORITY_BYTES, bytes, at, at + length)) head.refuse('invalid-field');
        // `:authority` says it already.
        return !head.authority;
      case CONTENT_LENGTH:
        this.#contentLength(head, bytes, at, length);
        return true;
      case COOKIE:
        head.cookies += 1;
        return true;
      default:
        return true;
    }
  }

  #contentLength(head: H2Head, bytes: Buffer, at: number, length: number): void {
    if (length === 0 || length > 15 || head.contentLength >= 0) {
      head.refuse('invalid-content-length');
      return;
    }
    let value = 0;
    for (let i = at; i < at + length; i++) {
      const digit = bytes[i]! - 48;
      if (digit < 0 || digit > 9) head.refuse('invalid-content-length');
      value = value * 10 + digit;
    }
    head.contentLength = value;
  }

  #pseudo(headers: HeaderMap, head: H2Head, at: number, nameLength: number, valueLength: number, kind: number): void {
    const bit = 1 << kind;
    if (head.regular || kind === UNKNOWN_PSEUDO || (head.pseudo & bit) !== 0) {
      head.refuse('invalid-pseudo-header');
      return;
    }
    head.pseudo |= bit;
    const { bytes } = headers;
    const from = at + nameLength + 2;
    const to = from + valueLength;
    const allowed = ALLOWED[kind];
    if (allowed && !only(allowed, bytes, from, to)) {
      head.refuse('invalid-pseudo-header');
      return;
    }
    switch (kind) {
      case METHOD:
        head.method = textOf(bytes, from, to);
        return;
      case SCHEME:
        head.scheme = textOf(bytes, from, to).toLowerCase();
        return;
      case PATH:
        head.target = textOf(bytes, from, to);
        return;
      case PROTOCOL:
        head.protocolText = bytes.toString('latin1', from, to).toLowerCase();
        return;
      case STATUS: {
        const status = valueLength === 3 ? Number(textOf(bytes, from, to)) : 0;
        if (status >= 100 && status <= 999) head.status = status;
        else head.refuse('invalid-pseudo-header');
        return;
      }
      case AUTHORITY:
        if (valueLength === 0) return;
        head.authority = true;
        // `:authority: x` becomes `host: x`: the authority has the same place in both versions.
        bytes.copyWithin(at + 6, from, to + 2);
        putBytes(bytes, at, H.host.bytes);
        bytes[at + 4] = 58;
        bytes[at + 5] = 32;
        if (head.problem !== '') return;
        headers.push(at, at + 4, at + 6, at + 6 + valueLength, H.host.hash, true);
        this.#used = at + 8 + valueLength;
    }
  }

  /** Crumbs of a cookie are one header again (RFC 9113 §8.2.3). */
  #joinCookies(headers: HeaderMap): void {
    let text = '';
    headers.forEach((name, value) => {
      if (name === 'cookie') text = text === '' ? value : `${text}; ${value}`;
    });
    headers.remove(H.cookie);
    headers.add(H.cookie, text);
  }
}

const ALLOWED: readonly (Uint8Array | undefined)[] = [];
Object.assign(ALLOWED, { [METHOD]: METHOD_BYTES, [SCHEME]: METHOD_BYTES, [PROTOCOL]: METHOD_BYTES });
Object.assign(ALLOWED, { [PATH]: PATH_BYTES, [AUTHORITY]: AUTHORITY_BYTES });

function only(allowed: Uint8Array, bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (allowed[bytes[i]!] === 0) return false;
  return true;
}

function hashOf(bytes: Buffer, start: number, end: number): number {
  let hash = 0;
  for (let i = start; i < end; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0;
  return hash;
}

function nameAllowed(bytes: Buffer, start: number, end: number): boolean {
  let i = bytes[start] === 58 ? start + 1 : start;
  if (i >= end) return false;
  for (; i < end; i++) if (NAME[bytes[i]!] === 0) return false;
  return true;
}
