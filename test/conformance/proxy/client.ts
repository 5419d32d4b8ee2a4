// The harness's clients: HTTP/1 and raw bytes over TCP or TLS, HTTP/2 by node:http2. They report what came back, complete or
// not, and never throw for what a proxy did. Called by session.ts.
import { type ClientHttp2Session, connect as connectH2, constants } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import type { Certificates } from './certificates.ts';
import { bytesOf, list, type Piece, pairsOf, type Step, type TlsOptions } from './format.ts';
import { header, type Message, readHead, readMessage } from './h1-wire.ts';
import { pairwise } from './upstreams.ts';

const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** How long a connection that said `connection: close` may stay open before that is what is reported. */
const CLOSE_WAIT_MS = 2_000;

export interface Reply {
  readonly start: string;
  readonly status: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly trailers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  readonly framing: string;
  readonly informational: readonly string[];
  readonly tunnel: string | undefined;
  readonly reset: string | undefined;
}

export interface Outcome {
  readonly replies: readonly Reply[];
  /** Bytes that are no message, or everything when asked for. */
  readonly raw: string | undefined;
  readonly end: 'closed' | 'reset' | 'open';
  readonly error: string | undefined;
  readonly timedOut: boolean;
  readonly tls: Readonly<Record<string, string>> | undefined;
}

export interface ClientContext {
  readonly certificates: Certificates;
  readonly timeoutMs: number;
  awaitUpstream(name: string, contains: string | undefined): Promise<void>;
}

/** One connection that may serve several steps. */
export interface Connection {
  readonly socket: Socket;
  received: Buffer;
  ended: 'closed' | 'reset' | undefined;
  error: string | undefined;
  readonly tls: boolean;
  changed(): Promise<void>;
}

function tlsOptions(tls: TlsOptions, certificates: Certificates): ConnectionOptions {
  return {
    rejectUnauthorized: tls.ca !== undefined,
    checkServerIdentity: () => undefined,
    ...(tls.ca ? { ca: certificates.pem(`ca.${tls.ca}`) } : {}),
    ...(tls.sni ? { servername: tls.sni } : {}),
    ...(tls.alpn ? { ALPNProtocols: [...tls.alpn] } : {}),
    ...(tls.cert ? { cert: certificates.pem(`cert.${tls.cert}`), key: certificates.pem(`key.${tls.cert}`) } : {}),
    ...(tls.min ? { minVersion: tls.min as 'TLSv1.2' } : {}),
    ...(tls.max ? { maxVersion: tls.max as 'TLSv1.2' } : {}),
    ...(tls.ciphers ? { ciphers: tls.ciphers } : {}),
  };
}

export function tlsStep(step: Step): TlsOptions | undefined {
  return step.tls === true ? { sni: 'test.example' } : step.tls;
}

export async function dial(port: number, step: Step, context: ClientContext): Promise<Connection> {
  const tls = tlsStep(step);
  const socket: Socket = tls
    ? connectTls({
        host: '127.0.0.1',
        port,
        allowHalfOpen: true,
        ...tlsOptions(tls, context.certificates),
      } as ConnectionOptions)
    : connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
  let waiting = Promise.withResolvers<void>();
  const wake = (): void => {
    waiting.resolve();
    waiting = Promise.withResolvers<void>();
  };
  const connection: Connection = {
    socket,
    received: Buffer.alloc(0),
    ended: undefined,
    error: undefined,
    tls: tls !== undefined,
    changed: () => waiting.promise,
  };
  socket.on('data', (chunk: Buffer) => {
    if (connection.received.length < MAX_KEPT_BYTES) connection.received = Buffer.concat([connection.received, chunk]);
    wake();
  });
  socket.on('end', () => {
    connection.ended ??= 'closed';
    wake();
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    connection.error = error.code ?? error.message;
    connection.ended ??= 'reset';
    wake();
  });
  socket.on('close', () => {
    connection.ended ??= 'closed';
    wake();
  });
  await new Promise<void>((resolve) => {
    socket.once(tls ? 'secureConnect' : 'connect', () => resolve());
    socket.once('error', () => resolve());
    socket.once('close', () => resolve());
  });
  return connection;
}

/** The bytes of a structured request. */
export function h1Request(step: Step): { readonly bytes: Buffer; readonly method: string } {
  const [method = 'GET', target = '/'] = (step.request ?? 'GET /').split(' ');
  const lines = [`${method} ${target} ${step.version ?? 'HTTP/1.1'}`];
  if (step.host !== null) lines.push(`host: ${step.host ?? 'test.example'}`);
  const headers = pairsOf(step.headers);
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  const body = step.body === undefined ? undefined : bytesOf(step.body);
  const chunked = step.chunked || step.trailers !== undefined;
  if (chunked) lines.push('transfer-encoding: chunked');
  else if (body && !headers.some(([name]) => name.toLowerCase() === 'content-length'))
    lines.push(`content-length: ${body.length}`);
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  if (!chunked) return { bytes: body ? Buffer.concat([head, body]) : head, method };
  const data =
    body && body.length > 0 ? [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')] : [];
  const trailers = pairsOf(step.trailers).map(([name, value]) => `${name}: ${value}\r\n`);
  return { bytes: Buffer.concat([head, ...data, Buffer.from(`0\r\n${trailers.join('')}\r\n`, 'latin1')]), method };
}

/** Sends the step's bytes on `connection` and reads the answers it expects. */
export async function converse(connection: Connection, step: Step, context: ClientContext): Promise<Outcome> {
  const deadline = AbortSignal.timeout(context.timeoutMs);
  const expired = new Promise<'timeout'>((resolve) => deadline.addEventListener('abort', () => resolve('timeout')));
  const structured = step.send === undefined ? h1Request(step) : undefined;
  const pieces: readonly Piece[] = structured ? [{ hex: structured.bytes.toString('hex') }] : list(step.send);
  const methods = structured ? [structured.method] : methodsOf(pieces);
  let timedOut = false;
  const wait = async (done: () => boolean): Promise<void> => {
    while (!done() && !timedOut)
      if ((await Promise.race([connection.changed(), expired])) === 'timeout') timedOut = true;
  };
  for (const piece of pieces) {
    if (typeof piece === 'object' && 'wait_ms' in piece)
      await new Promise((resolve) => setTimeout(resolve, piece.wait_ms));
    else if (typeof piece === 'object' && 'await' in piece)
      await wait(() => connection.received.includes(piece.await, 0, 'latin1') || connection.ended !== undefined);
    else if (typeof piece === 'object' && 'await_upstream' in piece)
      await context.awaitUpstream(piece.await_upstream, piece.contains);
    else if (!connection.socket.destroyed && !connection.socket.writableEnded) connection.socket.write(bytesOf(piece));
  }
  if (step.half_close) connection.socket.end();
  const replies: Reply[] = [];
  const wanted = step.responses ?? (step.until === undefined ? 1 : Number.POSITIVE_INFINITY);
  const text = (): string => connection.received.toString('latin1');
  const { until } = step;
  const raw = step.show_raw || until !== undefined;
  let shown = '';
  if (until !== undefined) {
    await wait(() => connection.ended !== undefined || (until !== 'close' && text().includes(until.text)));
    shown = text();
  }
  const informational: string[] = [];
  const readOne = (): boolean => {
    const reply = takeReply(connection, methods[replies.length] ?? 'GET', informational);
    if (reply) replies.push(reply);
    return reply !== undefined;
  };
  const before = connection.received;
  while (replies.length < wanted) {
    if (readOne()) continue;
    if (connection.ended !== undefined || until !== undefined || timedOut) break;
    const length = connection.received.length;
    await wait(() => connection.received.length !== length || connection.ended !== undefined);
  }
  const last = replies.at(-1);
  if (connection.ended === undefined && last && header(last, 'connection')?.toLowerCase().includes('close')) {
    const patience = AbortSignal.timeout(CLOSE_WAIT_MS);
    const over = new Promise<void>((resolve) => patience.addEventListener('abort', () => resolve()));
    await Promise.race([wait(() => connection.ended !== undefined), over]);
  }
  const left = connection.received.toString('latin1');
  return {
    replies,
    raw: raw ? shown || before.toString('latin1') : left !== '' ? left : undefined,
    end: connection.ended ?? 'open',
    error: connection.error,
    timedOut,
    tls: connection.tls ? tlsSeen(connection.socket as TLSSocket) : undefined,
  };
}

function methodsOf(pieces: readonly Piece[]): readonly string[] {
  const text = pieces
    .map((piece) =>
      typeof piece === 'object' && ('await' in piece || 'wait_ms' in piece || 'await_upstream' in piece)
        ? ''
        : bytesOf(piece).toString('latin1'),
    )
    .join('');
  return [...text.matchAll(/(?:^|\n)([A-Z]+) \S+ HTTP\/1\.\d/g)].map((match) => match[1]!);
}

/** Takes one final response from the front of what was received; 1xx go into `informational`. */
function takeReply(connection: Connection, method: string, informational: string[]): Reply | undefined {
  for (;;) {
    const head = readHead(connection.received);
    if (!head?.start.startsWith('HTTP/')) return undefined;
    const status = Number(head.start.split(' ')[1]);
    const tunnel = status === 101 || (method === 'CONNECT' && status >= 200 && status < 300);
    if (tunnel) {
      const rest = connection.received.subarray(head.length).toString('latin1');
      connection.received = Buffer.alloc(0);
      return {
        ...messageReply(
          { ...head, body: Buffer.alloc(0), framing: 'none', trailers: [], complete: true },
          informational,
        ),
        tunnel: rest,
      };
    }
    const read = readMessage(connection.received, 'response', method, connection.ended !== undefined);
    if (read.kind !== 'message') return undefined;
    connection.received = Buffer.from(read.rest);
    if (status >= 200) return messageReply(read.message, informational.splice(0));
    informational.push(read.message.start);
  }
}

function messageReply(message: Message, informational: readonly string[]): Reply {
  return {
    start: message.start,
    status: message.start.split(' ')[1] ?? '',
    headers: message.headers,
    trailers: message.trailers,
    body: message.body,
    framing: message.complete ? message.framing : `${message.framing}, cut off`,
    informational,
    tunnel: undefined,
    reset: undefined,
  };
}

function tlsSeen(socket: TLSSocket): Readonly<Record<string, string>> {
  const peer = socket.getPeerCertificate();
  return {
    protocol: socket.getProtocol() ?? '',
    alpn: String(socket.alpnProtocol || ''),
    cipher: socket.getCipher()?.name ?? '',
    server: peer?.subjectaltname ?? '',
    resumed: String(socket.isSessionReused()),
    authorized: socket.authorized ? 'true' : String(socket.authorizationError ?? 'false'),
  };
}

export interface H2Connection {
  readonly session: ClientHttp2Session;
  goaway: number | undefined;
  closed: boolean;
  error: string | undefined;
  readonly ready: Promise<void>;
}

export function dialH2(port: number, step: Step, context: ClientContext): H2Connection {
  const tls = tlsStep(step);
  const session = connectH2(
    `${tls ? 'https' : 'http'}://127.0.0.1:${port}`,
    tls ? { ...tlsOptions({ alpn: ['h2'], ...tls }, context.certificates) } : {},
  );
  const ready = Promise.withResolvers<void>();
  const connection: H2Connection = {
    session,
    goaway: undefined,
    closed: false,
    error: undefined,
    ready: ready.promise,
  };
  session.on('remoteSettings', () => ready.resolve());
  session.on('goaway', (code) => {
    connection.goaway = code;
  });
  session.on('error', (error: NodeJS.ErrnoException) => {
    connection.error = error.code ?? error.message;
    ready.resolve();
  });
  session.on('close', () => {
    connection.closed = true;
    ready.resolve();
  });
  return connection;
}

const codeName = (code: number): string =>
  Object.entries(constants)
    .find(([name, value]) => value === code && /^NGHTTP2_[A-Z_]+$/.test(name) && H2_CODES.has(name))?.[0]
    .slice(8) ?? String(code);
const H2_CODES: ReadonlySet<string> = new Set(
  [
    'NO_ERROR',
    'PROTOCOL_ERROR',
    'INTERNAL_ERROR',
    'FLOW_CONTROL_ERROR',
    'SETTINGS_TIMEOUT',
    'STREAM_CLOSED',
    'FRAME_SIZE_ERROR',
    'REFUSED_STREAM',
    'CANCEL',
    'COMPRESSION_ERROR',
    'CONNECT_ERROR',
    'ENHANCE_YOUR_CALM',
    'INADEQUATE_SECURITY',
    'HTTP_1_1_REQUIRED',
  ].map((name) => `NGHTTP2_${name}`),
);

/** One HTTP/2 request; pseudo headers from the step. */
export async function exchangeH2(connection: H2Connection, step: Step, context: ClientContext): Promise<Outcome> {
  await connection.ready;
  const none = (error: string | undefined, timedOut = false): Outcome => ({
    replies: [],
    raw: undefined,
    end: connection.closed ? 'closed' : 'open',
    error,
    timedOut,
    tls: undefined,
  });
  if (connection.error || connection.closed) return none(connection.error ?? 'closed');
  const [method = 'GET', target = '/'] = (step.request ?? 'GET /').split(' ');
  const headers: (string | string[])[] = [];
  const pseudo: [string, string | null | undefined][] = [
    [':method', method],
    [':scheme', method === 'CONNECT' ? undefined : (step.scheme ?? (tlsStep(step) ? 'https' : 'http'))],
    [':authority', step.host === undefined ? 'test.example' : step.host],
    [':path', method === 'CONNECT' ? undefined : target],
  ];
  for (const [name, value] of pseudo) if (value !== undefined && value !== null) headers.push(name, value);
  for (const [name, value] of pairsOf(step.headers)) headers.push(name, value);
  const body = step.body === undefined ? undefined : bytesOf(step.body);
  const trailers = pairsOf(step.trailers);
  return new Promise<Outcome>((resolve) => {
    const state = {
      start: '',
      headers: [] as (readonly [string, string])[],
      trailers: [] as (readonly [string, string])[],
      informational: [] as string[],
    };
    const chunks: Buffer[] = [];
    let reset: string | undefined;
    const finish = (timedOut: boolean): void => {
      clearTimeout(timer);
      if (state.start === '' && reset === undefined && !timedOut) {
        resolve({ ...none(connection.error ?? 'stream closed without an answer'), tls: h2Tls(connection) });
        return;
      }
      const data = Buffer.concat(chunks);
      const reply: Reply = {
        start: state.start,
        status: state.start,
        headers: state.headers,
        trailers: state.trailers,
        body: data,
        framing: 'h2',
        informational: state.informational,
        tunnel: method === 'CONNECT' ? data.toString('latin1') : undefined,
        reset,
      };
      resolve({ ...none(undefined, timedOut), replies: [reply], tls: h2Tls(connection) });
    };
    const timer = setTimeout(() => finish(true), context.timeoutMs);
    try {
      const stream = connection.session.request(headers as unknown as Record<string, string>, {
        endStream: body === undefined && trailers.length === 0 && method !== 'CONNECT',
        waitForTrailers: trailers.length > 0,
      });
      stream.on('wantTrailers', () => stream.sendTrailers(Object.fromEntries(trailers)));
      stream.on('headers', (info: { ':status'?: number }) => state.informational.push(String(info[':status'])));
      stream.on('response', (_headers: unknown, _flags: unknown, raw?: readonly string[]) => {
        const pairs = pairwise(raw ?? []);
        state.start = pairs.find(([name]) => name === ':status')?.[1] ?? '';
        state.headers = pairs.filter(([name]) => name !== ':status');
      });
      stream.on('trailers', (_headers: unknown, _flags: unknown, raw?: readonly string[]) => {
        state.trailers = pairwise(raw ?? []);
      });
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', () => {});
      stream.on('close', () => {
        if (stream.rstCode !== 0) reset = codeName(stream.rstCode);
        finish(false);
      });
      if (body !== undefined || trailers.length > 0 || method === 'CONNECT') stream.end(body ?? Buffer.alloc(0));
    } catch (error) {
      clearTimeout(timer);
      resolve(none(error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? error.message) : String(error)));
    }
  });
}

function h2Tls(connection: H2Connection): Outcome['tls'] {
  const { socket } = connection.session as unknown as { socket?: TLSSocket };
  if (!socket || !connection.session.encrypted) return undefined;
  return tlsSeen(socket);
}
