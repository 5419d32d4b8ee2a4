// Encodes the fields of a HeaderMap as an HPACK block, from the bytes they came in: no string and no object a header.
// Used by HTTP/2 sessions of both sides.
import { HEADER_TABLE_BYTES, MAX_INDEXED_VALUE_BYTES } from '../limits.ts';
import { type HeaderMap, writeLine } from './header-map.ts';
import { huffmanEncode, huffmanLength } from './hpack-huffman.ts';
import { CONNECTION, HOST, HpackTable, kindOf, LINE_OVERHEAD, STATIC, STATIC_COUNT, TE } from './hpack-table.ts';
import { H } from './names.ts';
import { putRange, putValue, safeValue } from './texts.ts';

/** How the value of a header is sent. */
const INDEX = 0;
/** Values that hardly ever come twice. */
const PLAIN = 1;
/** Secrets: no table on the way may keep them. */
const NEVER = 2;

const POLICIES: Readonly<Record<string, number>> = {
  authorization: NEVER,
  'proxy-authorization': NEVER,
  cookie: NEVER,
  'set-cookie': NEVER,
  age: PLAIN,
  'content-length': PLAIN,
  'content-range': PLAIN,
  etag: PLAIN,
  'if-modified-since': PLAIN,
  'if-none-match': PLAIN,
  'last-modified': PLAIN,
  location: PLAIN,
  range: PLAIN,
};
for (const name of ['x-request-id', 'x-client-trace-id', 'traceparent', 'x-b3-traceid', 'x-b3-spanid'])
  Object.assign(POLICIES, { [name]: PLAIN });

interface KnownName {
  readonly hash: number;
  readonly bytes: Buffer;
  /** Index in the static table; 0 = none. */
  readonly index: number;
  readonly policy: number;
  readonly kind: number;
}

/** A power of two with room for all names several times over. */
const PLACES = 512;
/** By hash, the next free place when that of a name is taken. Each field of each message asks: cheaper than a Map. */
const known: (KnownName | undefined)[] = new Array<KnownName | undefined>(PLACES).fill(undefined);

/** Where a name with this hash stands, or would. */
function placeOf(hash: number): number {
  let place = hash & (PLACES - 1);
  for (let name = known[place]; name && name.hash !== hash; name = known[place]) place = (place + 1) & (PLACES - 1);
  return place;
}

function noteName(bytes: Buffer, index: number): void {
  let hash = 0;
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) | 0;
  const place = placeOf(hash);
  if (known[place]) return;
  const policy = POLICIES[bytes.toString('latin1')] ?? INDEX;
  known[place] = { hash, bytes, index, policy, kind: kindOf(bytes, 0, bytes.length, hash) };
}
for (let i = 0; i < STATIC_COUNT; i++) {
  const start = STATIC.start[i]!;
  noteName(STATIC.bytes.subarray(start, start + STATIC.nameLength[i]!), i + 1);
}
for (const name of [...Object.keys(POLICIES), 'connection', 'keep-alive', 'proxy-connection', 'upgrade', 'te'])
  noteName(Buffer.from(name, 'latin1'), 0);

const INDEX_METHOD = 2;
const INDEX_PATH = 4;
const INDEX_SCHEME = 6;
const INDEX_STATUS = 8;
const STATUSES: ReadonlyMap<number, number> = new Map([
  [200, 8],
  [204, 9],
  [206, 10],
  [304, 11],
  [400, 12],
  [404, 13],
  [500, 14],
]);

const CHAINS = 64;
/** Beyond this many entries nothing is added: entry numbers must fit. */
const MAX_ADDED = 2 ** 30;
/** Room one field may need beside its bytes. */
const FIELD_SLACK = 12;
/** Room for table size changes and what is not in a HeaderMap. */
const BLOCK_SLACK = 64;

let scratch = Buffer.allocUnsafeSlow(4096);

/** Upper bound of an encoded block. `extra`: bytes of pseudo-header values that are no headers. */
export function encodedBound(headers: HeaderMap, extra: number): number {
  return headers.writtenSize() + (headers.count + headers.addedCount) * FIELD_SLACK + extra + BLOCK_SLACK;
}

export class HpackEncoder {
  readonly #table: HpackTable;
  readonly #own: number;
  /** A size the peer must be told before the next block; -1 = none. */
  #announce = -1;
  /** The newest entry of each chain, and the next older one of each entry. */
  readonly #heads = new Int32Array(CHAINS);
  #next = new Int32Array(16);
  /** Bytes of names and values in the block so far, as they are without HPACK. */
  fieldBytes = 0;
  /** Fields sent once: the second time they are worth an entry. */
  readonly #seen = new Int32Array(CHAINS);

  constructor(tableSize: number) {
    this.#own = tableSize;
    this.#table = new HpackTable(Math.min(tableSize, HEADER_TABLE_BYTES));
    if (tableSize < HEADER_TABLE_BYTES) this.#announce = tableSize;
  }

  /** SETTINGS_HEADER_TABLE_SIZE of the peer. */
  allow(size: number): void {
    const next = Math.min(size, this.#own);
    if (next === this.#table.maxSize) return;
    this.#table.resize(next);
    this.#announce = next;
  }

  /** First call of every block. */
  begin(out: Buffer, at: number): number {
    this.fieldBytes = 0;
    if (this.#announce < 0) return at;
    const size = this.#announce;
    this.#announce = -1;
    return integer(out, at, 0x20, 31, size);
  }

  status(out: Buffer, at: number, status: number): number {
    this.fieldBytes += ':status200'.length;
    const index = STATUSES.get(status);
    if (index !== undefined) {
      out[at] = 0x80 | index;
      return at + 1;
    }
    return text(out, integer(out, at, 0, 15, INDEX_STATUS), String(status));
  }

  method(out: Buffer, at: number, method: string): number {
    this.fieldBytes += ':method'.length + method.length;
    if (method === 'GET' || method === 'POST') {
      out[at] = 0x80 | (method === 'GET' ? 2 : 3);
      return at + 1;
    }
    return text(out, integer(out, at, 0, 15, INDEX_METHOD), method);
  }

  scheme(out: Buffer, at: number, scheme: string): number {
    this.fieldBytes += ':scheme'.length + scheme.length;
    if (scheme === 'http' || scheme === 'https') {
      out[at] = 0x80 | (scheme === 'http' ? 6 : 7);
      return at + 1;
    }
    return text(out, integer(out, at, 0, 15, INDEX_SCHEME), scheme);
  }

  path(out: Buffer, at: number, path: string): number {
    this.fieldBytes += ':path'.length + path.length;
    if (path === '/') {
      out[at] = 0x84;
      return at + 1;
    }
    return text(out, integer(out, at, 0, 15, INDEX_PATH), safeValue(path));
  }

  authority(out: Buffer, at: number, authority: string): number {
    return this.#added(out, at, H.authorityName, authority);
  }

  protocol(out: Buffer, at: number, protocol: string): number {
    this.fieldBytes += ':protocol'.length + protocol.length;
    return text(out, text(out, integer(out, at, 0, 15, 0), ':protocol'), protocol);
  }

  /** All fields but `host` and those that belong to a connection. */
  fields(out: Buffer, at: number, headers: HeaderMap): number {
    const { bytes } = headers;
    for (let i = 0; i < headers.count; i++) {
      if (headers.gone(i)) continue;
      const start = headers.nameStart[i]!;
      const nameLength = headers.nameEnd[i]! - start;
      const valueLength = headers.valueEnd[i]! - headers.valueStart[i]!;
      if (headers.isLine(i)) at = this.#line(out, at, bytes, start, nameLength, valueLength, headers.hashes[i]!);
      else {
        room(nameLength + valueLength + LINE_OVERHEAD);
        bytes.copy(scratch, 0, start, start + nameLength);
        finishLine(nameLength);
        bytes.copy(scratch, nameLength + 2, headers.valueStart[i], headers.valueEnd[i]);
        at = this.#line(out, at, scratch, 0, nameLength, valueLength, headers.hashes[i]!);
      }
    }
    for (let i = 0; i < headers.addedCount; i++)
      at = this.#added(out, at, headers.addedNames[i]!, headers.addedValues[i]!);
    return at;
  }

  #added(out: Buffer, at: number, name: HeaderMap['addedNames'][number], value: string): number {
    room(name.bytes.length + value.length + LINE_OVERHEAD);
    const end = writeLine(scratch, 0, name, value);
    return this.#line(out, at, scratch, 0, name.bytes.length, end - LINE_OVERHEAD - name.bytes.length, name.hash);
  }

  /** `source` has `name: value\r\n` at `start`. */
  #line(
    out: Buffer,
    at: number,
    source: Buffer,
    start: number,
    nameLength: number,
    valueLength: number,
    hash: number,
  ): number {
    const name = find(source, start, nameLength, hash);
    const valueAt = start + nameLength + 2;
    let policy = INDEX;
    let index = 0;
    if (name) {
      const { kind } = name;
      if (kind === CONNECTION || kind === HOST) return at;
      if (kind === TE && !isTrailers(source, valueAt, valueLength)) return at;
      policy = name.policy;
      index = name.index;
    }
    this.fieldBytes += nameLength + valueLength;
    if (policy !== INDEX || valueLength > MAX_INDEXED_VALUE_BYTES)
      return plain(out, at, policy === NEVER ? 0x10 : 0, index, source, start, nameLength, valueLength);
    let mixed = hash;
    for (let i = valueAt; i < valueAt + valueLength; i++) mixed = (Math.imul(mixed, 31) + source[i]!) | 0;
    const id = this.#find(source, start, nameLength, valueLength, hash, mixed);
    if (id !== 0) return integer(out, at, 0x80, 127, STATIC_COUNT + 1 + this.#table.added - id);
    const cell = mixed & (CHAINS - 1);
    if (this.#seen[cell] !== mixed || this.#table.added >= MAX_ADDED) {
      this.#seen[cell] = mixed;
      return plain(out, at, 0, index, source, start, nameLength, valueLength);
    }
    if (!this.#remember(source, start, nameLength, valueLength, hash, mixed))
      return plain(out, at, 0, index, source, start, nameLength, valueLength);
    at = integer(out, at, 0x40, 63, index);
    if (index === 0) at = coded(out, at, source, start, nameLength);
    return coded(out, at, source, valueAt, valueLength);
  }

  #find(source: Buffer, start: number, nameLength: number, valueLength: number, hash: number, mixed: number): number {
    const table = this.#table;
    const oldest = table.added - table.count;
    for (let id = this.#heads[mixed & (CHAINS - 1)]!; id > oldest; id = this.#next[table.slot(id)]!) {
      const slot = table.slot(id);
      if (table.kind[slot] !== mixed || table.hash[slot] !== hash) continue;
      if (table.nameLength[slot] !== nameLength || table.valueLength[slot] !== valueLength) continue;
      if (sameBytes(table.bytes, table.start[slot]!, source, start, nameLength + valueLength + 2)) return id;
    }
    return 0;
  }

  /** A new entry; false = it does not fit, and must not be announced as one. */
  #remember(
    source: Buffer,
    start: number,
    nameLength: number,
    valueLength: number,
    hash: number,
    mixed: number,
  ): boolean {
    const table = this.#table;
    if (nameLength + valueLength + 32 > table.maxSize) return false;
    table.add(source, start, nameLength, valueLength, hash, mixed);
    if (this.#next.length !== table.start.length) {
      const larger = new Int32Array(table.start.length);
      for (let id = table.added - table.count + 1; id < table.added; id++)
        larger[table.slot(id)] = this.#next[id & (this.#next.length - 1)]!;
      this.#next = larger;
    }
    const cell = mixed & (CHAINS - 1);
    this.#next[table.slot(table.added)] = this.#heads[cell]!;
    this.#heads[cell] = table.added;
    return true;
  }
}

function find(source: Buffer, start: number, length: number, hash: number): KnownName | undefined {
  const name = known[placeOf(hash)];
  return name && name.bytes.length === length && sameBytes(name.bytes, 0, source, start, length) ? name : undefined;
}

function sameBytes(a: Buffer, aStart: number, b: Buffer, bStart: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[aStart + i] !== b[bStart + i]) return false;
  return true;
}

function isTrailers(bytes: Buffer, start: number, length: number): boolean {
  return length === 8 && bytes.toString('latin1', start, start + length).toLowerCase() === 'trailers';
}

function room(size: number): void {
  if (scratch.length < size) scratch = Buffer.allocUnsafeSlow(Math.max(size, 2 * scratch.length));
}

function finishLine(at: number): void {
  scratch[at] = 58;
  scratch[at + 1] = 32;
}

/** A field that no table keeps, as it is. */
function plain(
  out: Buffer,
  at: number,
  pattern: number,
  index: number,
  source: Buffer,
  start: number,
  nameLength: number,
  valueLength: number,
): number {
  at = integer(out, at, pattern, 15, index);
  if (index === 0) at = raw(out, at, source, start, nameLength);
  return raw(out, at, source, start + nameLength + 2, valueLength);
}

function raw(out: Buffer, at: number, source: Buffer, start: number, length: number): number {
  at = integer(out, at, 0, 127, length);
  return putRange(out, at, source, start, start + length);
}

/** With the Huffman code where that is shorter. */
function coded(out: Buffer, at: number, source: Buffer, start: number, length: number): number {
  const short = huffmanLength(source, start, start + length);
  if (short >= length) return raw(out, at, source, start, length);
  return huffmanEncode(source, start, start + length, out, integer(out, at, 0x80, 127, short));
}

function text(out: Buffer, at: number, value: string): number {
  at = integer(out, at, 0, 127, value.length);
  return putValue(out, at, value);
}

function integer(out: Buffer, at: number, pattern: number, mask: number, value: number): number {
  if (value < mask) {
    out[at] = pattern | value;
    return at + 1;
  }
  out[at++] = pattern | mask;
  let rest = value - mask;
  while (rest > 127) {
    out[at++] = (rest & 127) | 128;
    rest = Math.floor(rest / 128);
  }
  out[at] = rest;
  return at + 1;
}
