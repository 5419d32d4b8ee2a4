// Scripted upstreams: HTTP/1 from canned bytes, HTTP/2, TLS or plain TCP, told apart by the first bytes. Each remembers what
// it received byte for byte. Called by session.ts, one set per case and engine.
import { performServerHandshake, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Certificates } from './certificates.ts';
import { bytesOf, list, type Piece, pairsOf, type Reply, type UpstreamSpec } from './format.ts';
import { type Message, readHead, readMessage, reasonOf } from './h1-wire.ts';

/** The most an upstream keeps of one connection. */
const MAX_KEPT_BYTES = 8 * 1024 * 1024;
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export interface Seen {
  readonly kind: 'http/1' | 'http/2' | 'tcp';
  readonly connection: number;
  request: string;
  headers: readonly (readonly [string, string])[];
  trailers: readonly (readonly [string, string])[];
  framing: string;
  body: Buffer;
  /** tcp: everything; http/1 after an upgrade: what came through the tunnel. */
  bytes: Buffer;
  complete: boolean;
  readonly tls: Readonly<Record<string, string>> | undefined;
}

export interface Upstream {
  readonly name: string;
  readonly port: number;
  readonly seen: readonly Seen[];
  /** Everything received, as text. */
  received(): string;
  connections(): number;
  /** Ends every connection now. */
  drop(): void;
  close(): void;
}

interface State {
  readonly name: string;
  readonly spec: UpstreamSpec;
  readonly seen: Seen[];
  received: string;
  connections: number;
  answered: number;
}

export async function startUpstream(name: string, spec: UpstreamSpec, certificates: Certificates): Promise<Upstream> {
  const state: State = { name, spec, seen: [], received: '', connections: 0, answered: 0 };
  const open = new Set<Socket>();
  const accept = (socket: Socket): void => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => {});
    state.connections += 1;
    serve(state, socket, state.connections);
  };
  const server: Server = spec.tls
    ? createTlsServer(
        {
          cert: certificates.pem(`cert.${spec.tls.cert ?? 'server'}`),
          key: certificates.pem(`key.${spec.tls.cert ?? 'server'}`),
          allowHalfOpen: true,
          ...(spec.tls.alpn ? { ALPNProtocols: [...spec.tls.alpn] } : {}),
          ...(spec.tls.max ? { maxVersion: spec.tls.max as 'TLSv1.2' } : {}),
          ...(spec.tls.ca
            ? { ca: certificates.pem(`ca.${spec.tls.ca}`), requestCert: true, rejectUnauthorized: true }
            : {}),
        },
        accept,
      )
    : createServer({ allowHalfOpen: true, noDelay: true }, accept);
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve());
  });
  const drop = (): void => {
    for (const socket of open) socket.destroy();
  };
  return {
    name,
    port: (server.address() as AddressInfo).port,
    seen: state.seen,
    received: () => state.received,
    connections: () => state.connections,
    drop,
    close() {
      drop();
      server.close();
    },
  };
}

function serve(state: State, socket: Socket, connection: number): void {
  const { tcp } = state.spec;
  if (state.spec.pause_ms) {
    socket.pause();
    setTimeout(() => socket.resume(), state.spec.pause_ms);
  }
  if (tcp) {
    serveTcp(state, socket, connection);
    return;
  }
  let first = Buffer.alloc(0);
  const sniff = (chunk: Buffer): void => {
    first = Buffer.concat([first, chunk]);
    const n = Math.min(first.length, PREFACE.length);
    if (!first.subarray(0, n).equals(PREFACE.subarray(0, n))) {
      socket.off('data', sniff);
      serveH1(state, socket, connection, first);
    } else if (n === PREFACE.length) {
      socket.off('data', sniff);
      socket.pause();
      socket.unshift(first);
      serveH2(state, socket, connection);
    }
  };
  socket.on('data', sniff);
}

function tlsOf(socket: Socket): Seen['tls'] {
  if (!('getProtocol' in socket)) return undefined;
  const tls = socket as TLSSocket;
  const peer = tls.getPeerCertificate();
  return {
    protocol: tls.getProtocol() ?? '',
    sni: String((tls as TLSSocket & { servername?: string | false }).servername || ''),
    alpn: String(tls.alpnProtocol || ''),
    client: peer?.subjectaltname ?? '',
  };
}

function newSeen(kind: Seen['kind'], connection: number, socket: Socket): Seen {
  return {
    kind,
    connection,
    request: '',
    headers: [],
    trailers: [],
    framing: 'none',
    body: Buffer.alloc(0),
    bytes: Buffer.alloc(0),
    complete: false,
    tls: tlsOf(socket),
  };
}

function serveTcp(state: State, socket: Socket, connection: number): void {
  const { tcp } = state.spec;
  const seen = newSeen('tcp', connection, socket);
  state.seen.push(seen);
  const script = typeof tcp === 'object' ? tcp : undefined;
  if (script?.on_connect) socket.write(bytesOf(script.on_connect));
  socket.on('data', (chunk: Buffer) => {
    if (seen.bytes.length < MAX_KEPT_BYTES) seen.bytes = Buffer.concat([seen.bytes, chunk]);
    state.received += chunk.toString('latin1');
    if (tcp === 'echo') socket.write(chunk);
    if (script?.on_data) socket.write(bytesOf(script.on_data));
    if (script?.reset) socket.resetAndDestroy();
    else if (script?.close) socket.end();
  });
  socket.on('end', () => {
    seen.complete = true;
    if (script?.on_end) socket.end(bytesOf(script.on_end));
    else socket.end();
  });
}

function replyFor(state: State, path: string): Reply {
  const replies = list(state.spec.respond);
  const byPath = replies.find((reply) => reply.path === path);
  if (byPath) return byPath;
  const inTurn = replies.filter((reply) => reply.path === undefined);
  const reply = inTurn[Math.min(state.answered, inTurn.length - 1)];
  state.answered += 1;
  return reply ?? { body: state.name };
}

function serveH1(state: State, socket: Socket, connection: number, first: Buffer): void {
  let bytes = Buffer.alloc(0);
  let current: Seen | undefined;
  let answering = false;
  let ended = false;
  let tunnel: Seen | undefined;
  let early: Promise<void> | undefined;
  const begin = (): Seen => {
    if (!current) {
      current = newSeen('http/1', connection, socket);
      state.seen.push(current);
    }
    return current;
  };
  const fill = (seen: Seen, message: Message): void => {
    seen.request = message.start;
    seen.headers = message.headers;
    seen.trailers = message.trailers;
    seen.framing = message.framing;
    seen.body = message.body;
    seen.complete = message.complete;
  };
  const pump = async (): Promise<void> => {
    if (answering) return;
    answering = true;
    while (bytes.length > 0) {
      const head = readHead(bytes);
      if (!head) break;
      const seen = begin();
      seen.request = head.start;
      seen.headers = head.headers;
      const reply =
        (early === undefined ? undefined : current && replies.get(current)) ?? replyFor(state, pathOf(head.start));
      replies.set(seen, reply);
      if (reply.early && !early) early = answerH1(state, socket, reply, head.start);
      const read = readMessage(bytes, 'request', '', ended);
      if (read.kind !== 'message') {
        seen.body = bytes.subarray(head.length);
        break;
      }
      fill(seen, read.message);
      bytes = Buffer.from(read.rest);
      current = undefined;
      await (early ?? answerH1(state, socket, reply, head.start));
      early = undefined;
      if (reply.tunnel) {
        tunnel = seen;
        onTunnel(bytes);
        bytes = Buffer.alloc(0);
      }
      if (reply.hang) return;
    }
    answering = false;
    if (ended) socket.end();
  };
  const replies = new Map<Seen, Reply>();
  const onTunnel = (chunk: Buffer): void => {
    if (!tunnel || chunk.length === 0) return;
    tunnel.bytes = Buffer.concat([tunnel.bytes, chunk]);
    socket.write(chunk);
  };
  const onData = (chunk: Buffer): void => {
    state.received += chunk.toString('latin1');
    if (tunnel) {
      onTunnel(chunk);
      return;
    }
    if (bytes.length < MAX_KEPT_BYTES) bytes = Buffer.concat([bytes, chunk]);
    // A request waits for its body in a half-read state: look again.
    if (answering && current) answering = false;
    void pump();
  };
  socket.on('data', onData);
  socket.on('end', () => {
    ended = true;
    if (tunnel) socket.end();
    void pump();
  });
  onData(first);
}

const pathOf = (start: string): string => (start.split(' ')[1] ?? '').split('?')[0]!;

async function answerH1(state: State, socket: Socket, reply: Reply, start: string): Promise<void> {
  if (reply.delay_ms) await new Promise((resolve) => setTimeout(resolve, reply.delay_ms));
  if (reply.hang && !reply.raw) return;
  if (reply.raw) await sendPieces(socket, list(reply.raw));
  else if (reply.status !== undefined || reply.body !== undefined || reply.headers || !(reply.close || reply.reset))
    socket.write(h1Response(state, reply, start));
  if (reply.reset) {
    // What was written goes out first.
    if (reply.raw ?? reply.status) await new Promise((resolve) => setTimeout(resolve, 20));
    socket.resetAndDestroy();
  } else if (reply.close || reply.until_close) socket.end();
}

async function sendPieces(socket: Socket, pieces: readonly Piece[]): Promise<void> {
  for (const piece of pieces) {
    if (typeof piece === 'object' && 'wait_ms' in piece)
      await new Promise((resolve) => setTimeout(resolve, piece.wait_ms));
    else if (typeof piece === 'object' && ('await' in piece || 'await_upstream' in piece))
      throw new Error('an upstream sends bytes and waits wait_ms, nothing else');
    else socket.write(bytesOf(piece));
  }
}

function h1Response(state: State, reply: Reply, start: string): Buffer {
  const status = reply.status ?? 200;
  const body = bytesOf(reply.body ?? (reply.status === undefined ? state.name : ''));
  const bodiless = status < 200 || status === 204 || status === 304 || reply.tunnel === true;
  const lines = [`HTTP/1.1 ${status} ${reasonOf(status)}`];
  for (const [name, value] of pairsOf(reply.headers)) lines.push(`${name}: ${value}`);
  const chunked = reply.chunked || reply.trailers !== undefined;
  if (!bodiless && chunked) lines.push('transfer-encoding: chunked');
  else if (
    !bodiless &&
    !reply.until_close &&
    !pairsOf(reply.headers).some(([name]) => name.toLowerCase() === 'content-length')
  )
    lines.push(`content-length: ${body.length}`);
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  if (bodiless || start.startsWith('HEAD ')) return head;
  if (!chunked) return Buffer.concat([head, body]);
  const size = body.length > 0 ? [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')] : [];
  const trailers = pairsOf(reply.trailers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([head, ...size, Buffer.from(`0\r\n${trailers.join('')}\r\n`, 'latin1')]);
}

function serveH2(state: State, socket: Socket, connection: number): void {
  const session = performServerHandshake(socket, {
    settings: { enableConnectProtocol: true },
    strictFieldWhitespaceValidation: false,
  } as Parameters<typeof performServerHandshake>[1]);
  session.on('error', () => {});
  session.on('stream', (stream, _headers, _flags, rawHeaders) => {
    const seen = newSeen('http/2', connection, socket);
    state.seen.push(seen);
    const pairs = pairwise(rawHeaders as unknown as readonly string[]);
    const pseudo = new Map(pairs.filter(([name]) => name.startsWith(':')));
    seen.request = `${pseudo.get(':method')} ${pseudo.get(':path') ?? ''} HTTP/2`;
    seen.headers = pairs;
    state.received += `${seen.request}\n`;
    const reply = replyFor(state, (pseudo.get(':path') ?? '').split('?')[0]!);
    const chunks: Buffer[] = [];
    let answered = false;
    const answer = (): void => {
      if (answered) return;
      answered = true;
      void answerH2(state, stream, reply);
    };
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      seen.body = Buffer.concat(chunks);
      state.received += chunk.toString('latin1');
      if (reply.tunnel) stream.write(chunk);
    });
    stream.on('trailers', (_trailers: unknown, _flags: unknown, raw?: readonly string[]) => {
      seen.trailers = pairwise(raw ?? []);
    });
    stream.on('end', () => {
      seen.complete = true;
      seen.framing = seen.body.length > 0 ? 'data' : 'none';
      if (reply.tunnel) stream.end();
      else answer();
    });
    stream.on('error', () => {});
    if (reply.early || reply.tunnel) answer();
  });
}

export function pairwise(raw: readonly string[]): (readonly [string, string])[] {
  const out: (readonly [string, string])[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) out.push([raw[i]!, raw[i + 1]!]);
  return out;
}

async function answerH2(state: State, stream: ServerHttp2Stream, reply: Reply): Promise<void> {
  if (reply.delay_ms) await new Promise((resolve) => setTimeout(resolve, reply.delay_ms));
  if (reply.hang || stream.destroyed) return;
  const headers: Record<string, string | string[] | number> = { ':status': reply.status ?? 200 };
  for (const [name, value] of pairsOf(reply.headers)) {
    const before = headers[name];
    headers[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [String(before)]), value];
  }
  if (reply.close) {
    stream.session?.destroy();
    return;
  }
  if (reply.reset !== undefined && reply.status === undefined) {
    stream.close(typeof reply.reset === 'number' ? reply.reset : 0);
    return;
  }
  const trailers = pairsOf(reply.trailers);
  const body = bytesOf(reply.body ?? (reply.status === undefined ? state.name : ''));
  if (reply.tunnel) {
    stream.respond(headers);
    return;
  }
  if (trailers.length > 0) stream.once('wantTrailers', () => stream.sendTrailers(Object.fromEntries(trailers)));
  const bare = body.length === 0 && trailers.length === 0 && reply.reset === undefined;
  stream.respond(headers, { waitForTrailers: trailers.length > 0, endStream: bare });
  if (reply.reset !== undefined) {
    stream.write(body);
    setTimeout(() => stream.close(typeof reply.reset === 'number' ? reply.reset : 2), 20);
  } else if (!bare) stream.end(body);
}
