// The tables of HPACK: the static one, and dynamic ones of both directions. Every entry is a line `name: value\r\n`, the
// layout of HeaderMap, so that taking a field from a table is one copy. Used by the HPACK decoder and encoder.
import { headerName } from './header-map.ts';

/** What the name of a field means to HTTP/2. */
export const REGULAR = 0;
export const METHOD = 1;
export const SCHEME = 2;
export const PATH = 3;
export const AUTHORITY = 4;
export const PROTOCOL = 5;
export const STATUS = 6;
/** A name that begins with a colon and is none of those above. */
export const UNKNOWN_PSEUDO = 7;
/** Belongs to a connection: not allowed in HTTP/2. */
export const CONNECTION = 8;
export const TE = 9;
export const HOST = 10;
export const CONTENT_LENGTH = 11;
export const COOKIE = 12;
/** Added to a kind: the name or the value has bytes that no header may have. */
export const MALFORMED = 16;

const KINDS: Readonly<Record<string, number>> = {
  ':method': METHOD,
  ':scheme': SCHEME,
  ':path': PATH,
  ':authority': AUTHORITY,
  ':protocol': PROTOCOL,
  ':status': STATUS,
  connection: CONNECTION,
  'keep-alive': CONNECTION,
  'proxy-connection': CONNECTION,
  'transfer-encoding': CONNECTION,
  upgrade: CONNECTION,
  te: TE,
  host: HOST,
  'content-length': CONTENT_LENGTH,
  cookie: COOKIE,
};
const special = new Map(
  Object.entries(KINDS).map(([name, kind]) => [headerName(name).hash, { name: headerName(name), kind }]),
);

/** The kind of the name `bytes[start, end)` whose hash is known. */
export function kindOf(bytes: Buffer, start: number, end: number, hash: number): number {
  const found = special.get(hash);
  if (found && end - start === found.name.bytes.length && found.name.bytes.equals(bytes.subarray(start, end)))
    return found.kind;
  return bytes[start] === 58 ? UNKNOWN_PSEUDO : REGULAR;
}

/** Overhead of an entry in the size of a table (RFC 7541 §4.1). */
export const ENTRY_OVERHEAD = 32;
/** `: ` and `\r\n`. */
export const LINE_OVERHEAD = 4;

/** Lines and what is known about them; an entry is addressed by its slot. */
export interface HpackLines {
  readonly bytes: Buffer;
  readonly start: Int32Array;
  readonly nameLength: Int32Array;
  readonly valueLength: Int32Array;
  readonly hash: Int32Array;
  readonly kind: Int32Array;
}

const STATIC_TEXT =
  ':authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|' +
  ':status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|' +
  'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
  'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
  'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
  'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
  'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate';

export const STATIC_COUNT = 61;

/** Entry n of the static table stands in slot n - 1. */
export const STATIC: HpackLines = ((): HpackLines => {
  const entries = STATIC_TEXT.split('|').map((entry) => {
    const space = entry.indexOf(' ');
    return space < 0 ? { name: entry, value: '' } : { name: entry.slice(0, space), value: entry.slice(space + 1) };
  });
  const column = () => new Int32Array(STATIC_COUNT);
  const table = { start: column(), nameLength: column(), valueLength: column(), hash: column(), kind: column() };
  let text = '';
  for (const [i, { name, value }] of entries.entries()) {
    table.start[i] = text.length;
    table.nameLength[i] = name.length;
    table.valueLength[i] = value.length;
    table.hash[i] = headerName(name).hash;
    table.kind[i] = KINDS[name] ?? REGULAR;
    text += `${name}: ${value}\r\n`;
  }
  return { bytes: Buffer.from(text, 'latin1'), ...table };
})();

const FIRST_ENTRIES = 16;
const FIRST_BYTES = 512;

/** A dynamic table. Memory grows with what is in it, up to twice its size limit. */
export class HpackTable implements HpackLines {
  bytes: Buffer = Buffer.allocUnsafeSlow(FIRST_BYTES);
  start = new Int32Array(FIRST_ENTRIES);
  nameLength = new Int32Array(FIRST_ENTRIES);
  valueLength = new Int32Array(FIRST_ENTRIES);
  hash = new Int32Array(FIRST_ENTRIES);
  kind = new Int32Array(FIRST_ENTRIES);
  /** Entries ever added; the newest has the number `added`. */
  added = 0;
  count = 0;
  /** As RFC 7541 §4.1 counts. */
  size = 0;
  maxSize: number;
  #end = 0;

  constructor(maxSize: number) {
    this.maxSize = maxSize;
  }

  /** Slot of the entry with the number `id`. */
  slot(id: number): number {
    return id & (this.start.length - 1);
  }

  resize(maxSize: number): void {
    this.maxSize = maxSize;
    this.#evict(0);
  }

  /** Copies the line that begins at `at` in `source`. False: it is larger than the table, which is now empty. */
  add(source: Buffer, at: number, nameLength: number, valueLength: number, hash: number, kind: number): boolean {
    const size = nameLength + valueLength + ENTRY_OVERHEAD;
    this.#evict(size);
    if (size > this.maxSize) return false;
    const length = nameLength + valueLength + LINE_OVERHEAD;
    if (this.#end + length > this.bytes.length) this.#makeRoom(length);
    if (this.count === this.start.length) this.#grow();
    this.added += 1;
    const slot = this.slot(this.added);
    this.start[slot] = this.#end;
    this.nameLength[slot] = nameLength;
    this.valueLength[slot] = valueLength;
    this.hash[slot] = hash;
    this.kind[slot] = kind;
    this.#end += source.copy(this.bytes, this.#end, at, at + length);
    this.count += 1;
    this.size += size;
    return true;
  }

  #evict(size: number): void {
    while (this.count > 0 && this.size + size > this.maxSize) {
      const slot = this.slot(this.added - this.count + 1);
      this.size -= this.nameLength[slot]! + this.valueLength[slot]! + ENTRY_OVERHEAD;
      this.count -= 1;
    }
    if (this.count === 0) this.#end = 0;
  }

  /** Moves the living lines to the front of the same or a larger buffer. */
  #makeRoom(length: number): void {
    const from = this.count === 0 ? this.#end : this.start[this.slot(this.added - this.count + 1)]!;
    const living = this.#end - from;
    let target = this.bytes;
    if (2 * (living + length) > target.length)
      target = Buffer.allocUnsafeSlow(2 * Math.max(target.length, living + length));
    this.bytes.copy(target, 0, from, this.#end);
    this.bytes = target;
    this.#end = living;
    for (let id = this.added - this.count + 1; id <= this.added; id++) this.start[this.slot(id)]! -= from;
  }

  #grow(): void {
    const size = this.start.length * 2;
    const move = (from: Int32Array) => {
      const to = new Int32Array(size);
      for (let id = this.added - this.count + 1; id <= this.added; id++) to[id & (size - 1)] = from[this.slot(id)]!;
      return to;
    };
    const start = move(this.start);
    this.nameLength = move(this.nameLength);
    this.valueLength = move(this.valueLength);
    this.hash = move(this.hash);
    this.kind = move(this.kind);
    this.start = start;
  }
}
