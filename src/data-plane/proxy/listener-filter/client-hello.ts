// Reads server name and application protocols from the first bytes of a TLS connection (RFC 8446 §4.1.2), without
// touching them, and what the client is known by when somebody asks. Hostile input: every length is checked. Called by the
// inspection step of listeners.
import { MAX_CLIENT_HELLO_BYTES } from '../limits.ts';
import { type Fingerprinting, type Fingerprints, fingerprintsOf } from './fingerprint.ts';

export type HelloResult =
  /** More bytes are needed. */
  | { readonly kind: 'more' }
  | { readonly kind: 'not-tls' }
  /** As many bytes as may be looked at do not hold all of it. */
  | { readonly kind: 'too-large' }
  | {
      readonly kind: 'hello';
      readonly serverName: string;
      readonly alpn: readonly string[];
      /** The client can verify ECDSA signatures. */
      readonly ecdsa: boolean;
      /** Only when asked for. */
      readonly fingerprints?: Fingerprints;
    };

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SNI = 0;
const ALPN = 16;
const SIGNATURE_ALGORITHMS = 13;
/** ECDSA with SHA-256, SHA-384 and SHA-512 (RFC 8446 §4.2.3). */
const ECDSA_SCHEMES: ReadonlySet<number> = new Set([0x0403, 0x0503, 0x0603]);
/** Of a host name. */
const MAX_NAME_BYTES = 255;
/** Protocol names in one offer. */
const MAX_PROTOCOLS = 64;

/** What tls_inspector is told beside where it stands. */
export interface TlsInspection {
  readonly fingerprinting: Fingerprinting | undefined;
  readonly maxBytes: number;
  /** What is no ClientHello may not be served. */
  readonly closeOnErrors: boolean;
}

export function readClientHello(bytes: Buffer, fingerprinting?: Fingerprinting): HelloResult {
  return new HelloReader(fingerprinting).read(bytes);
}

const MORE: HelloResult = { kind: 'more' };
const NOT_TLS: HelloResult = { kind: 'not-tls' };
const TOO_LARGE: HelloResult = { kind: 'too-large' };
/** A record's length as TLS 1.2 allows it, sealed or not. */
const MAX_RECORD_BYTES = 16_384 + 320;

/** Reads a ClientHello that comes in pieces, in as many records as it takes, and looks at each byte once. */
export class HelloReader {
  readonly #fingerprinting: Fingerprinting | undefined;
  readonly #max: number;
  /** Where the record begins that is read, and how much of what it holds is taken. */
  #at = 0;
  #taken = 0;
  /** What earlier records or pieces held. */
  #body: Buffer = NOTHING;
  #have = 0;
  #want = -1;

  constructor(fingerprinting?: Fingerprinting, max = MAX_CLIENT_HELLO_BYTES) {
    this.#fingerprinting = fingerprinting;
    this.#max = max;
  }

  /** `bytes`: everything that came so far. */
  read(bytes: Buffer): HelloResult {
    const full = bytes.length >= this.#max;
    const result = this.#look(full ? bytes.subarray(0, this.#max) : bytes);
    return full && result === MORE ? TOO_LARGE : result;
  }

  #look(bytes: Buffer): HelloResult {
    for (;;) {
      const at = this.#at;
      if (at >= bytes.length) return MORE;
      if (bytes[at] !== HANDSHAKE) return NOT_TLS;
      if (bytes.length > at + 1 && bytes[at + 1] !== 3) return NOT_TLS;
      if (bytes.length < at + 5) return MORE;
      const length = bytes.readUInt16BE(at + 3);
      if (length === 0 || length > MAX_RECORD_BYTES) return NOT_TLS;
      const size = Math.min(length, bytes.length - at - 5);
      this.#take(bytes, at + 5 + this.#taken, at + 5 + size);
      this.#taken = size;
      if (this.#have >= 1 && this.#body[0] !== CLIENT_HELLO) return NOT_TLS;
      if (size < length) return MORE;
      if (this.#want < 0 && this.#have >= 4) this.#want = 4 + this.#body.readUIntBE(1, 3);
      if (this.#want > MAX_CLIENT_HELLO_BYTES) return NOT_TLS;
      if (this.#want >= 0 && this.#have >= this.#want)
        return parseHello(this.#body.subarray(4, this.#want), this.#fingerprinting) ?? NOT_TLS;
      this.#at += 5 + length;
      this.#taken = 0;
    }
  }

  #take(bytes: Buffer, start: number, end: number): void {
    const size = end - start;
    if (this.#have === 0) {
      // Nearly always it is all of it.
      this.#body = bytes.subarray(start, start + size);
    } else {
      this.#body = roomFor(this.#body, this.#have, size);
      bytes.copy(this.#body, this.#have, start, start + size);
    }
    this.#have += size;
  }
}

const NOTHING = Buffer.alloc(0);

/** `buffer` with its first `used` bytes and room for `more`: another one, twice as large, when it is full. */
export function roomFor(buffer: Buffer, used: number, more: number): Buffer {
  if (used + more <= buffer.length) return buffer;
  const larger = Buffer.allocUnsafe(Math.max(used + more, 2 * used));
  buffer.copy(larger, 0, 0, used);
  return larger;
}

/** A reader that answers undefined, once and for all, when something does not fit. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  bad = false;
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  get left(): number {
    return this.#bytes.length - this.#at;
  }
  number(size: 1 | 2): number {
    if (this.left < size) {
      this.bad = true;
      this.#at = this.#bytes.length;
      return 0;
    }
    const value = this.#bytes.readUIntBE(this.#at, size);
    this.#at += size;
    return value;
  }
  take(length: number): Buffer {
    if (this.left < length) {
      this.bad = true;
      length = this.left;
    }
    const part = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return part;
  }
}

function parseHello(body: Buffer, fingerprinting: Fingerprinting | undefined): HelloResult | undefined {
  const reader = new Reader(body);
  const version = reader.number(2);
  reader.take(32);
  reader.take(reader.number(1));
  const ciphers = reader.take(reader.number(2));
  reader.take(reader.number(1));
  if (reader.bad) return undefined;
  let serverName = '';
  let alpn: string[] = [];
  // A client of TLS 1.2 that names no algorithm has SHA-1 only, which nobody signs with any more.
  let ecdsa = false;
  const parts: { type: number; data: Buffer }[] | undefined = fingerprinting && [];
  if (reader.left > 0) {
    const extensions = new Reader(reader.take(reader.number(2)));
    while (extensions.left > 0 && !extensions.bad) {
      const type = extensions.number(2);
      const bytes = extensions.take(extensions.number(2));
      parts?.push({ type, data: bytes });
      const data = new Reader(bytes);
      if (type === SNI) serverName = readServerName(data);
      if (type === ALPN) alpn = readAlpn(new Reader(bytes));
      if (type === SIGNATURE_ALGORITHMS) ecdsa = readEcdsa(data);
      if (data.bad) return undefined;
    }
    if (extensions.bad) return undefined;
  }
  if (reader.bad) return undefined;
  if (!fingerprinting || !parts) return { kind: 'hello', serverName, alpn, ecdsa };
  const fingerprints = fingerprintsOf({ version, ciphers, extensions: parts }, fingerprinting);
  return { kind: 'hello', serverName, alpn, ecdsa, fingerprints };
}

/** One host name (RFC 6066 §3), which is no C string that ends early. */
function readServerName(data: Reader): string {
  const list = new Reader(data.take(data.number(2)));
  const type = list.number(1);
  const name = list.take(list.number(2));
  if (list.bad || list.left > 0 || data.left > 0 || type !== 0 || name.includes(0)) data.bad = true;
  if (name.length === 0 || name.length > MAX_NAME_BYTES) data.bad = true;
  return name.toString('latin1').toLowerCase();
}

/** An offer that is malformed is none here: the handshake refuses it. */
function readAlpn(data: Reader): string[] {
  const list = new Reader(data.take(data.number(2)));
  const out: string[] = [];
  while (list.left > 0 && !list.bad && out.length < MAX_PROTOCOLS) {
    const name = list.take(list.number(1));
    if (name.length === 0) return [];
    out.push(name.toString('latin1'));
  }
  return list.bad || data.bad || data.left > 0 ? [] : out;
}

function readEcdsa(data: Reader): boolean {
  const list = new Reader(data.take(data.number(2)));
  let found = false;
  while (list.left > 0 && !list.bad) found = ECDSA_SCHEMES.has(list.number(2)) || found;
  if (list.bad) data.bad = true;
  return found;
}
