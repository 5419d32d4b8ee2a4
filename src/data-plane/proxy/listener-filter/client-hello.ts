// Reads server name and application protocols from the first bytes of a TLS connection (RFC 8446 §4.1.2), without
// touching them. Hostile input: every length is checked. Called by the inspection step of listeners.
import { MAX_CLIENT_HELLO_BYTES } from '../limits.ts';

export type HelloResult =
  /** More bytes are needed. */
  | { readonly kind: 'more' }
  | { readonly kind: 'not-tls' }
  | {
      readonly kind: 'hello';
      readonly serverName: string;
      readonly alpn: readonly string[];
      /** The client can verify ECDSA signatures. */
      readonly ecdsa: boolean;
    };

const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SNI = 0;
const ALPN = 16;
const SIGNATURE_ALGORITHMS = 13;
/** ECDSA with SHA-256, SHA-384 and SHA-512 (RFC 8446 §4.2.3). */
const ECDSA_SCHEMES: ReadonlySet<number> = new Set([0x0403, 0x0503, 0x0603]);
/** Protocol names in one offer. */
const MAX_PROTOCOLS = 64;

export function readClientHello(bytes: Buffer): HelloResult {
  const body = handshakeBody(bytes);
  if (body === 'more') return { kind: 'more' };
  if (body === 'not-tls') return { kind: 'not-tls' };
  return parseHello(body) ?? { kind: 'not-tls' };
}

/** The ClientHello's body, put together from as many records as it takes. */
function handshakeBody(bytes: Buffer): Buffer | 'more' | 'not-tls' {
  const parts: Buffer[] = [];
  let have = 0;
  let want = -1;
  let at = 0;
  for (;;) {
    if (at >= bytes.length) return 'more';
    if (bytes[at] !== HANDSHAKE) return 'not-tls';
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) return 'not-tls';
    if (bytes.length < at + 5) return 'more';
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > MAX_CLIENT_HELLO_BYTES) return 'not-tls';
    const chunk = bytes.subarray(at + 5, at + 5 + length);
    parts.push(chunk);
    have += chunk.length;
    if (want < 0 && have >= 1 && first(parts) !== CLIENT_HELLO) return 'not-tls';
    if (want < 0 && have >= 4) {
      const head = Buffer.concat(parts);
      want = 4 + head.readUIntBE(1, 3);
      if (want > MAX_CLIENT_HELLO_BYTES) return 'not-tls';
    }
    if (want >= 0 && have >= want) return Buffer.concat(parts).subarray(4, want);
    if (chunk.length < length) return 'more';
    at += 5 + length;
    if (at > 2 * MAX_CLIENT_HELLO_BYTES) return 'not-tls';
  }
}

function first(parts: readonly Buffer[]): number {
  return parts.find((part) => part.length > 0)?.[0] ?? CLIENT_HELLO;
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

function parseHello(body: Buffer): HelloResult | undefined {
  const reader = new Reader(body);
  reader.take(2 + 32);
  reader.take(reader.number(1));
  reader.take(reader.number(2));
  reader.take(reader.number(1));
  if (reader.bad) return undefined;
  let serverName = '';
  let alpn: string[] = [];
  // A client of TLS 1.2 that names no algorithm has SHA-1 only, which nobody signs with any more.
  let ecdsa = false;
  if (reader.left > 0) {
    const extensions = new Reader(reader.take(reader.number(2)));
    while (extensions.left > 0 && !extensions.bad) {
      const type = extensions.number(2);
      const data = new Reader(extensions.take(extensions.number(2)));
      if (type === SNI) serverName = readServerName(data);
      if (type === ALPN) alpn = readAlpn(data);
      if (type === SIGNATURE_ALGORITHMS) ecdsa = readEcdsa(data);
      if (data.bad) return undefined;
    }
    if (extensions.bad) return undefined;
  }
  return reader.bad ? undefined : { kind: 'hello', serverName, alpn, ecdsa };
}

function readServerName(data: Reader): string {
  const list = new Reader(data.take(data.number(2)));
  while (list.left > 0 && !list.bad) {
    const type = list.number(1);
    const name = list.take(list.number(2));
    if (type === 0) return name.toString('latin1').toLowerCase();
  }
  if (list.bad) data.bad = true;
  return '';
}

function readAlpn(data: Reader): string[] {
  const list = new Reader(data.take(data.number(2)));
  const out: string[] = [];
  while (list.left > 0 && !list.bad && out.length < MAX_PROTOCOLS) {
    const name = list.take(list.number(1));
    if (name.length > 0) out.push(name.toString('latin1'));
  }
  if (list.bad) data.bad = true;
  return out;
}

function readEcdsa(data: Reader): boolean {
  const list = new Reader(data.take(data.number(2)));
  let found = false;
  while (list.left > 0 && !list.bad) found = ECDSA_SCHEMES.has(list.number(2)) || found;
  if (list.bad) data.bad = true;
  return found;
}
