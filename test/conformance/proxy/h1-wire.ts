// A lenient reader of HTTP/1 messages for the harness: it shows what stands on the wire and judges nothing. It is not the
// proxy's codec, so that both engines are measured by something independent. Called by client.ts and upstreams.ts.

export interface Message {
  readonly start: string;
  /** As received: name and value, in order. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  readonly framing: 'none' | 'length' | 'chunked' | 'close';
  readonly trailers: readonly (readonly [string, string])[];
  /** False when the connection ended before the message did. */
  readonly complete: boolean;
}

export type Read =
  | { readonly kind: 'more' }
  | { readonly kind: 'head'; readonly head: Head }
  | { readonly kind: 'message'; readonly message: Message; readonly rest: Buffer };

export interface Head {
  readonly start: string;
  readonly headers: readonly (readonly [string, string])[];
  /** Bytes of the head with its empty line. */
  readonly length: number;
}

const END = Buffer.from('\r\n\r\n');

export function readHead(bytes: Buffer): Head | undefined {
  const end = bytes.indexOf(END);
  if (end < 0) return undefined;
  const [start = '', ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  return { start, headers: lines.map(fieldOf), length: end + 4 };
}

function fieldOf(line: string): readonly [string, string] {
  const colon = line.indexOf(':');
  return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')];
}

export function header(head: { readonly headers: Head['headers'] }, name: string): string | undefined {
  return head.headers.find(([key]) => key.toLowerCase() === name)?.[1];
}

/** What follows the head. `method` is the request's own, or for a response the request's it answers. */
export function framingOf(head: Head, kind: 'request' | 'response', method: string): Message['framing'] {
  const status = Number(head.start.split(' ')[1]);
  if (kind === 'response' && (method === 'HEAD' || status < 200 || status === 204 || status === 304)) return 'none';
  if (kind === 'response' && method === 'CONNECT' && status < 300) return 'none';
  if (header(head, 'transfer-encoding')?.toLowerCase().includes('chunked')) return 'chunked';
  if (header(head, 'content-length') !== undefined) return 'length';
  return kind === 'request' ? 'none' : 'close';
}

/** Reads one message from the front of `bytes`; `ended` says that no more will come. */
export function readMessage(bytes: Buffer, kind: 'request' | 'response', method: string, ended: boolean): Read {
  const head = readHead(bytes);
  if (!head) return { kind: 'more' };
  const own = kind === 'request' ? (head.start.split(' ')[0] ?? '') : method;
  const framing = framingOf(head, kind, own);
  const after = bytes.subarray(head.length);
  const done = (body: Buffer, rest: Buffer, trailers: Message['trailers'] = [], complete = true): Read => ({
    kind: 'message',
    message: { start: head.start, headers: head.headers, body, framing, trailers, complete },
    rest,
  });
  if (framing === 'none') return done(Buffer.alloc(0), after);
  if (framing === 'close') return ended ? done(after, Buffer.alloc(0)) : { kind: 'head', head };
  if (framing === 'length') {
    const length = Number(header(head, 'content-length'));
    if (after.length >= length) return done(after.subarray(0, length), after.subarray(length));
    return ended ? done(after, Buffer.alloc(0), [], false) : { kind: 'head', head };
  }
  const chunked = readChunked(after);
  if (chunked.kind === 'done') return done(chunked.body, after.subarray(chunked.length), chunked.trailers);
  return ended ? done(chunked.body, Buffer.alloc(0), [], false) : { kind: 'head', head };
}

type Chunked =
  | { readonly kind: 'more'; readonly body: Buffer }
  | { readonly kind: 'done'; readonly body: Buffer; readonly length: number; readonly trailers: Message['trailers'] };

function readChunked(bytes: Buffer): Chunked {
  const parts: Buffer[] = [];
  const more = (): Chunked => ({ kind: 'more', body: Buffer.concat(parts) });
  for (let at = 0; ; ) {
    const line = bytes.indexOf('\r\n', at);
    if (line < 0) return more();
    const size = Number.parseInt(bytes.subarray(at, line).toString('latin1'), 16);
    at = line + 2;
    if (Number.isNaN(size)) return more();
    if (size > 0) {
      if (bytes.length < at + size + 2) {
        parts.push(bytes.subarray(at, at + size));
        return more();
      }
      parts.push(bytes.subarray(at, at + size));
      at += size + 2;
      continue;
    }
    const trailers: (readonly [string, string])[] = [];
    for (;;) {
      const end = bytes.indexOf('\r\n', at);
      if (end < 0) return more();
      if (end === at) return { kind: 'done', body: Buffer.concat(parts), length: end + 2, trailers };
      trailers.push(fieldOf(bytes.subarray(at, end).toString('latin1')));
      at = end + 2;
    }
  }
}

const REASONS: Readonly<Record<number, string>> = {
  101: 'Switching Protocols',
  200: 'OK',
  201: 'Created',
  204: 'No Content',
  304: 'Not Modified',
  404: 'Not Found',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};
export const reasonOf = (status: number): string => REASONS[status] ?? 'Status';
