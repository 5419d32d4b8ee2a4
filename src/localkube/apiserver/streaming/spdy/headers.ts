// Header blocks of SPDY/3.1: name/value pairs in one zlib stream per direction, primed with the protocol's dictionary.
// Called by connection.ts.
import { createInflate, type Inflate } from 'node:zlib';

/** Bytes of one header block once unpacked. */
export const MAX_HEADER_BYTES = 64 * 1024;
const MAX_PAIRS = 128;

const WORDS =
  'options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status'
    .split(' ')
    .concat('200 OK', 'version', 'HTTP/1.1', 'url', 'public', 'set-cookie', 'keep-alive', 'origin');

const TAIL =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.';

/** The dictionary both ends start with: words with their lengths, then bare text. */
export const DICTIONARY: Buffer = Buffer.concat([...WORDS.map(counted), Buffer.from(TAIL)]);

function counted(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

function adler32(bytes: Buffer): number {
  let a = 1;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return b * 65536 + a;
}

export type Headers = ReadonlyMap<string, string>;

/** An empty stored block: Go's reader hands out what it has only when it meets one. */
const FLUSH = Buffer.from([0, 0, 0, 0xff, 0xff]);

/** Writes blocks of one direction. Stored, not packed: our answers carry next to nothing. */
export function createHeaderWriter(): (headers: Headers) => Buffer {
  let first = true;
  return (headers) => {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(headers.size);
    const plain = Buffer.concat([
      count,
      ...[...headers].flatMap(([name, value]) => [counted(name.toLowerCase()), counted(value)]),
    ]);
    const stored = Buffer.alloc(5);
    stored.writeUInt16LE(plain.length, 1);
    stored.writeUInt16LE(~plain.length & 0xffff, 3);
    const parts = [stored, plain, FLUSH];
    if (first) {
      // zlib header that announces the dictionary by its checksum.
      const start = Buffer.alloc(6);
      start.writeUInt16BE(0x78bb);
      start.writeUInt32BE(adler32(DICTIONARY), 2);
      parts.unshift(start);
      first = false;
    }
    return Buffer.concat(parts);
  };
}

export interface HeaderReader {
  /** Blocks must be given in the order they came, one after the other. Rejects when a block is damaged or too large. */
  read(block: Buffer): Promise<Headers>;
  close(): void;
}

export function createHeaderReader(): HeaderReader {
  const inflate: Inflate = createInflate({ dictionary: DICTIONARY });
  let failure: Error | undefined;
  let chunks: Buffer[] = [];
  let size = 0;
  let wake: ((error?: Error) => void) | undefined;
  inflate.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > MAX_HEADER_BYTES)
      inflate.destroy(new Error(`SPDY header block is larger than ${MAX_HEADER_BYTES} bytes`));
    else chunks.push(chunk);
  });
  inflate.on('error', (error: Error) => {
    failure = error;
    wake?.(error);
  });
  return {
    async read(block) {
      if (failure) throw failure;
      chunks = [];
      size = 0;
      await new Promise<void>((resolve, reject) => {
        wake = (error) => (error ? reject(error) : resolve());
        inflate.write(block, (error) => wake?.(error ?? undefined));
      });
      return parsePairs(Buffer.concat(chunks));
    },
    close: () => inflate.destroy(),
  };
}

function parsePairs(block: Buffer): Headers {
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw new Error('SPDY header block ends too early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const string = (): string => {
    const length = number();
    if (at + length > block.length) throw new Error('SPDY header block ends too early');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  const count = number();
  if (count > MAX_PAIRS) throw new Error(`SPDY header block has more than ${MAX_PAIRS} pairs`);
  const headers = new Map<string, string>();
  for (let i = 0; i < count; i++) {
    const name = string().toLowerCase();
    headers.set(name, string());
  }
  return headers;
}
