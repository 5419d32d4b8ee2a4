// The applications of a mesh under test: they answer what reached them. One server per replica and port speaks whatever comes:
// HTTP/1.1, HTTP/2, gRPC, WebSocket, TLS, or bytes. Called by mesh.ts.
import { createServer as createHttp1, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import {
  createServer as createHttp2,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Socket } from 'node:net';
import { createSecureContext, TLSSocket } from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import type { ScriptedAnswer } from './format.ts';
import { MAX_REMEMBERED, MAX_RESPONSE_BYTES } from './limits.ts';
import type { TestPod } from './objects.ts';

/** One request, or one connection of bytes, that reached an application. */
export interface Arrived {
  /** `<namespace>/<workload>`. */
  readonly workload: string;
  readonly pod: string;
  readonly port: number;
  readonly protocol: string;
  readonly method: string;
  readonly path: string;
  readonly host: string;
  /** In the order of arrival; names in lower case. */
  readonly headers: readonly (readonly [string, string])[];
  body: string;
  readonly tls: boolean;
}

/** What the applications of one mesh share: what arrived, and what the test wants of them now. */
export interface AppState {
  readonly arrived: Arrived[];
  script: ScriptedAnswer[];
  serverFirst: boolean;
  certificate(serverName: string): Promise<{ readonly certificatePem: string; readonly keyPem: string }>;
}

/** The header by which the test knows who answered. */
export const RESPONDER = 'x-meltemi-responder';
const PREFACE = 'PRI * HTTP/2.0';
const TLS_HANDSHAKE = 0x16;
const REQUEST_LINE = /^[A-Z]{3,10} \S/;

interface AppContext {
  readonly pod: TestPod;
  readonly port: number;
  readonly state: AppState;
}

export interface App {
  accept(socket: Socket): void;
  close(): void;
}

export function createApp(context: AppContext): App {
  const http1 = createHttp1Server(context, false);
  const http2 = createHttp2Server(context, false);
  const secure1 = createHttp1Server(context, true);
  const secure2 = createHttp2Server(context, true);
  const sockets = new WebSocketServer({ noServer: true });
  for (const server of [http1, secure1])
    server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      if (request.headers.upgrade?.toLowerCase() !== 'websocket') return socket.destroy();
      remember(context, http1Arrival(context, request, server === secure1));
      sockets.handleUpgrade(request, socket, head, (ws: WebSocket) => {
        ws.on('message', (data, binary) => ws.send(data, { binary }));
        ws.on('error', () => {});
      });
      return undefined;
    });
  const sniff = (socket: Socket, secure: boolean): void => {
    socket.once('data', (chunk: Buffer) => {
      socket.pause();
      const text = chunk.subarray(0, PREFACE.length).toString('latin1');
      if (!secure && chunk[0] === TLS_HANDSHAKE) {
        socket.unshift(chunk);
        void terminate(context, socket).then((inner) => sniff(inner, true));
      } else if (PREFACE.startsWith(text) || REQUEST_LINE.test(text)) {
        socket.unshift(chunk);
        const server = PREFACE.startsWith(text) ? (secure ? secure2 : http2) : secure ? secure1 : http1;
        server.emit('connection', socket);
        // HTTP/2 takes what was read from the stopped socket itself.
        if (server === http1 || server === secure1) socket.resume();
      } else echoBytes(context, socket, chunk, secure);
    });
  };
  return {
    accept(socket) {
      if (context.state.serverFirst) socket.write(greeting(context));
      if (context.pod.workload.image.kind === 'tcp-echo') {
        socket.once('data', (chunk: Buffer) => echoBytes(context, socket, chunk, false));
        return;
      }
      sniff(socket, false);
    },
    close() {
      for (const server of [http1, secure1]) server.close();
      http2.close();
      secure2.close();
    },
  };
}

export function greeting(context: AppContext): string {
  return `hello from ${context.pod.key}\n`;
}

/** TLS with a certificate for the name the client asked for. */
async function terminate(context: AppContext, socket: Socket): Promise<Socket> {
  const fallback = await context.state.certificate(`${context.pod.workload.name}.${context.pod.workload.namespace}`);
  const inner = new TLSSocket(socket, {
    isServer: true,
    ALPNProtocols: ['h2', 'http/1.1'],
    key: fallback.keyPem,
    cert: fallback.certificatePem,
    SNICallback(name, done) {
      context.state.certificate(name).then(
        (issued) => done(null, createSecureContext({ key: issued.keyPem, cert: issued.certificatePem })),
        (error: Error) => done(error),
      );
    },
  });
  inner.on('error', () => socket.destroy());
  return inner;
}

function echoBytes(context: AppContext, socket: Socket, first: Buffer, tls: boolean): void {
  const arrived = remember(context, {
    workload: context.pod.key,
    pod: context.pod.name,
    port: context.port,
    protocol: 'TCP',
    method: '',
    path: '',
    host: '',
    headers: [],
    body: '',
    tls,
  });
  let size = 0;
  const onData = (chunk: Buffer): void => {
    size += chunk.length;
    if (size <= MAX_RESPONSE_BYTES) arrived.body += chunk.toString('latin1');
    if (!socket.write(chunk)) {
      socket.pause();
      socket.once('drain', () => socket.resume());
    }
  };
  socket.on('data', onData);
  socket.on('end', () => socket.end());
  onData(first);
  socket.resume();
}

function remember(context: AppContext, arrived: Arrived): Arrived {
  if (context.state.arrived.length < MAX_REMEMBERED) context.state.arrived.push(arrived);
  return arrived;
}

function http1Arrival(context: AppContext, request: IncomingMessage, tls: boolean): Arrived {
  const headers: (readonly [string, string])[] = [];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2)
    headers.push([request.rawHeaders[i]!.toLowerCase(), request.rawHeaders[i + 1]!]);
  return {
    workload: context.pod.key,
    pod: context.pod.name,
    port: context.port,
    protocol: `HTTP/${request.httpVersion}`,
    method: request.method ?? '',
    path: request.url ?? '',
    host: request.headers.host ?? '',
    headers,
    body: '',
    tls,
  };
}

function http2Arrival(context: AppContext, headers: IncomingHttpHeaders, tls: boolean): Arrived {
  const list = Object.entries(headers).flatMap(([name, value]) =>
    name.startsWith(':') || value === undefined
      ? []
      : (Array.isArray(value) ? value : [value]).map((v) => [name, v] as const),
  );
  const text = (name: string): string => String(headers[name] ?? '');
  return {
    workload: context.pod.key,
    pod: context.pod.name,
    port: context.port,
    protocol: 'HTTP/2',
    method: text(':method'),
    path: text(':path'),
    host: text(':authority') || text('host'),
    headers: list,
    body: '',
    tls,
  };
}

/** What is sent back: status, headers and body. */
interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

function answerTo(
  context: AppContext,
  arrived: Arrived,
): { readonly answer: Answer; readonly delayMs: number; readonly close?: 'reset' | 'fin' } {
  const { image } = context.pod.workload;
  const base = { [RESPONDER]: arrived.workload };
  if (image.kind === 'scripted') {
    const next = context.state.script.shift();
    if (next)
      return {
        answer: { status: next.status, headers: { ...base, ...next.headers }, body: next.body },
        delayMs: next.delayMs,
        ...(next.close ? { close: next.close } : {}),
      };
  }
  const status = image.kind === 'status' ? image.status : 200;
  return {
    answer: {
      status,
      headers: { ...base, 'content-type': 'application/json' },
      body: `${describe(context, arrived)}\n`,
    },
    delayMs: image.kind === 'slow' ? image.ms : 0,
  };
}

/** The echo: what arrived, as JSON. */
function describe(context: AppContext, arrived: Arrived): string {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of arrived.headers) {
    const known = headers[name];
    headers[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
  }
  const { workload } = context.pod;
  return JSON.stringify({
    method: arrived.method,
    path: arrived.path,
    host: arrived.host,
    headers,
    protocol: arrived.protocol,
    peer: peerOf(arrived) ?? null,
    workload: arrived.workload,
    pod: arrived.pod,
    version: workload.labels.version ?? null,
    port: arrived.port,
    tls: arrived.tls,
    body: arrived.body,
  });
}

/** The client's identity, as the server's proxy tells the application (x-forwarded-client-cert, last element). */
export function peerOf(arrived: Arrived): string | undefined {
  const header = arrived.headers.find(([name]) => name === 'x-forwarded-client-cert')?.[1];
  if (header === undefined) return undefined;
  return /(?:^|;)URI=([^;,"]+)/.exec(header.split(',').at(-1) ?? '')?.[1];
}

function createHttp1Server(context: AppContext, tls: boolean): Server {
  const server = createHttp1({ keepAliveTimeout: 60_000, requestTimeout: 0 }, (request, response) => {
    const arrived = remember(context, http1Arrival(context, request, tls));
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => {});
    request.on('end', () => {
      arrived.body = Buffer.concat(chunks).toString('latin1');
      const { answer, delayMs, close } = answerTo(context, arrived);
      const send = (): void => {
        if (close === 'reset') return void request.socket.resetAndDestroy();
        if (close === 'fin') return void request.socket.destroy();
        writeHttp1(response, answer);
      };
      if (delayMs > 0) setTimeout(send, delayMs);
      else send();
    });
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

function writeHttp1(response: ServerResponse, answer: Answer): void {
  response.on('error', () => {});
  response.writeHead(answer.status, { ...answer.headers, 'content-length': Buffer.byteLength(answer.body) });
  response.end(answer.body);
}

function createHttp2Server(context: AppContext, tls: boolean): Http2Server {
  const server = createHttp2();
  server.on('sessionError', () => {});
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const arrived = remember(context, http2Arrival(context, headers, tls));
    const chunks: Buffer[] = [];
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      const body = Buffer.concat(chunks);
      arrived.body = body.toString('latin1');
      const { answer, delayMs, close } = answerTo(context, arrived);
      const send = (): void => {
        if (stream.destroyed) return;
        if (close) return void stream.close(close === 'reset' ? 2 : 8);
        if (String(headers['content-type'] ?? '').startsWith('application/grpc')) {
          writeGrpc(stream, answer, body);
          return;
        }
        stream.respond({ ...answer.headers, ':status': answer.status });
        stream.end(answer.body);
      };
      if (delayMs > 0) setTimeout(send, delayMs);
      else send();
    });
  });
  return server;
}

/** The request's messages come back; `grpc-status` of a scripted answer becomes the trailer. */
function writeGrpc(stream: ServerHttp2Stream, answer: Answer, body: Buffer): void {
  const { 'grpc-status': status = '0', ...rest } = answer.headers;
  if (answer.status !== 200) {
    stream.respond({ ...rest, ':status': answer.status, 'content-type': 'application/grpc' });
    stream.end();
    return;
  }
  stream.respond({ ...rest, ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
  stream.end(body);
}
