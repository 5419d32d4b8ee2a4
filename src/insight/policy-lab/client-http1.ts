// An HTTP/1.1 client that writes exactly what the test says and reads what comes, on a socket that is already connected.
// Called by client.ts.
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { MAX_RESPONSE_BYTES } from './limits.ts';

export interface Http1Request {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

export interface Http1Response {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

export function writeRequest(socket: Socket, request: Http1Request): void {
  let head = `${request.method} ${request.path} HTTP/1.1\r\n`;
  for (const [name, value] of request.headers) head += `${name}: ${value}\r\n`;
  socket.write(Buffer.concat([Buffer.from(`${head}\r\n`, 'latin1'), Buffer.from(request.body)]));
}

/** Resolves with the whole answer; rejects with the socket's error, or `closed before an answer`. */
export function readResponse(socket: Socket, method: string): Promise<Http1Response> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    let head: Head | undefined;
    const stop = (): void => {
      socket.removeListener('data', onData);
      socket.removeListener('end', onEnd);
      socket.removeListener('error', onError);
      socket.removeListener('close', onEnd);
    };
    const finish = (body: Buffer): void => {
      stop();
      resolve({ status: head!.status, headers: head!.headers, body: body.toString('latin1') });
    };
    const onError = (error: Error): void => {
      stop();
      reject(error);
    };
    const advance = (ended: boolean): void => {
      while (!head) {
        const end = bytes.indexOf('\r\n\r\n');
        if (end < 0) {
          if (ended)
            onError(closed(bytes.length === 0 ? 'closed before an answer' : 'closed within the head of the answer'));
          return;
        }
        const parsed = parseHead(bytes.subarray(0, end).toString('latin1'));
        bytes = bytes.subarray(end + 4);
        if (!parsed) {
          onError(closed('the answer is not HTTP/1.1'));
          return;
        }
        if (parsed.status >= 200 || parsed.status === 101) head = parsed;
      }
      const body = bodyOf(head, method, bytes, ended);
      if (body === 'more') {
        if (ended) onError(closed('closed within the body of the answer'));
        return;
      }
      finish(body);
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (bytes.length > MAX_RESPONSE_BYTES) onError(closed('the answer is too large'));
      else advance(false);
    };
    const onEnd = (): void => advance(true);
    socket.on('data', onData);
    socket.once('end', onEnd);
    socket.once('close', onEnd);
    socket.once('error', onError);
    socket.resume();
  });
}

function closed(message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code: 'ECONNRESET' });
}

interface Head {
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
}

function parseHead(text: string): Head | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(first);
  if (!status) return undefined;
  const headers = lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  return { status: Number(status[1]), headers };
}

function bodyOf(head: Head, method: string, bytes: Buffer, ended: boolean): Buffer | 'more' {
  const of = (name: string): string | undefined => head.headers.find(([n]) => n === name)?.[1];
  if (method === 'HEAD' || head.status === 204 || head.status === 304 || head.status === 101) return Buffer.alloc(0);
  if (of('transfer-encoding')?.toLowerCase().includes('chunked')) return dechunk(bytes);
  const length = of('content-length');
  if (length !== undefined) return bytes.length >= Number(length) ? bytes.subarray(0, Number(length)) : 'more';
  return ended ? bytes : 'more';
}

function dechunk(bytes: Buffer): Buffer | 'more' {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return 'more';
    const size = Number.parseInt(bytes.subarray(at, end).toString('latin1'), 16);
    if (size === 0) return bytes.indexOf('\r\n\r\n', end) >= 0 ? Buffer.concat(parts) : 'more';
    if (bytes.length < end + 2 + size + 2) return 'more';
    parts.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

/** The headers of a WebSocket handshake. */
export function webSocketHeaders(): readonly (readonly [string, string])[] {
  return [
    ['Connection', 'Upgrade'],
    ['Upgrade', 'websocket'],
    ['Sec-WebSocket-Version', '13'],
    ['Sec-WebSocket-Key', randomBytes(16).toString('base64')],
  ];
}

/** One masked text frame of less than 64 KB. */
export function textFrame(text: string): Buffer {
  const payload = Buffer.from(text);
  const mask = randomBytes(4);
  const head =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0xfe, payload.length >> 8, payload.length & 255]);
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i & 3]!)]);
}

/** The payload of the first frame; undefined = more bytes are needed. */
export function readFrame(bytes: Buffer): string | undefined {
  if (bytes.length < 2) return undefined;
  let length = bytes[1]! & 0x7f;
  let at = 2;
  if (length === 126) {
    if (bytes.length < 4) return undefined;
    length = bytes.readUInt16BE(2);
    at = 4;
  }
  return bytes.length >= at + length ? bytes.subarray(at, at + length).toString() : undefined;
}
