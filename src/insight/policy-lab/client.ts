// Sends the requests of a test as real bytes: through the proxy of the workload that asks, or past it. Called by run-request.ts.
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { GRPC_CODES } from '../../base/grpc-codes.ts';
import { readFrame, readResponse, textFrame, webSocketHeaders, writeRequest } from './client-http1.ts';
import type { TestRequest } from './format.ts';
import { codeOf, failed, type Outcome } from './outcome.ts';

export interface ClientContext {
  /** Opens the connection of the request. */
  readonly connect: () => Promise<Socket>;
  /** PEM roots the client trusts for TLS. */
  readonly roots: string;
  readonly clientCert: { readonly certificatePem: string; readonly keyPem: string } | undefined;
  readonly now: () => number;
}

type Answer = Omit<Outcome, 'code' | 'detail' | 'ms'>;
const NO_ANSWER: Answer = { status: 0, headers: [], body: '' };

export async function send(request: TestRequest, context: ClientContext): Promise<Outcome> {
  const started = context.now();
  let socket: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  const ms = (): number => Math.round(context.now() - started);
  const timeout = new Promise<Outcome>((resolve) => {
    timer = setTimeout(
      () => resolve(failed('timeout', `no answer within ${request.timeoutMs} ms`, ms())),
      request.timeoutMs,
    );
  });
  const run = async (): Promise<Outcome> => {
    try {
      socket = await context.connect();
      const answer = await exchange(request, socket, context);
      return { code: 'ok', detail: '', ...answer, ms: ms() };
    } catch (error) {
      const problem = error as NodeJS.ErrnoException;
      return failed(
        codeOf(problem),
        problem.code === undefined ? problem.message : `${problem.code}: ${problem.message}`,
        ms(),
      );
    }
  };
  try {
    return await Promise.race([run(), timeout]);
  } finally {
    clearTimeout(timer);
    socket?.destroy();
  }
}

async function exchange(request: TestRequest, plain: Socket, context: ClientContext): Promise<Answer> {
  switch (request.scheme) {
    case 'tcp':
      return bytes(request, plain);
    case 'tls':
      return bytes(request, await secure(request, plain, context, request.alpn ?? []));
    case 'http':
      return request.http2 ? http2(request, plain, false) : http1(request, plain);
    case 'h2c':
      return http2(request, plain, false);
    case 'grpc':
      return http2(request, plain, false);
    case 'ws':
      return webSocket(request, plain);
    case 'https': {
      const socket = await secure(request, plain, context, request.alpn ?? (request.http2 ? ['h2'] : ['http/1.1']));
      return request.http2 ? http2(request, socket, true) : http1(request, socket);
    }
  }
}

function secure(
  request: TestRequest,
  socket: Socket,
  context: ClientContext,
  alpn: readonly string[],
): Promise<Socket> {
  const servername = request.sni ?? (/^[\d.]+$/.test(request.host) ? '' : request.host);
  const options: ConnectionOptions = {
    socket,
    servername,
    ca: context.roots,
    rejectUnauthorized: !request.insecureSkipVerify,
    ...(alpn.length > 0 ? { ALPNProtocols: [...alpn] } : {}),
    ...(context.clientCert ? { cert: context.clientCert.certificatePem, key: context.clientCert.keyPem } : {}),
  };
  return new Promise((resolve, reject) => {
    const wrapped = connectTls(options);
    const early = (): void =>
      reject(Object.assign(new Error('closed within the TLS handshake'), { code: 'ECONNRESET' }));
    wrapped.once('error', reject);
    wrapped.once('close', early);
    wrapped.once('secureConnect', () => {
      wrapped.removeListener('error', reject);
      wrapped.removeListener('close', early);
      wrapped.on('error', () => {});
      resolve(wrapped);
    });
  });
}

function headersOf(request: TestRequest): readonly (readonly [string, string])[] {
  const has = (name: string): boolean => request.headers.some(([n]) => n.toLowerCase() === name);
  const standard = request.scheme === 'https' ? 443 : 80;
  const host = request.host.includes(':') ? `[${request.host}]` : request.host;
  const length = Buffer.byteLength(request.body);
  return [
    ...(has('host') ? [] : [['Host', request.port === standard ? host : `${host}:${request.port}`] as const]),
    ...(has('user-agent') ? [] : [['User-Agent', 'meltemi-test'] as const]),
    ...request.headers,
    // A gRPC message is longer than its payload, and says so itself.
    ...(length > 0 && request.scheme !== 'grpc' && !has('content-length') && !has('transfer-encoding')
      ? [['Content-Length', String(length)] as const]
      : []),
  ];
}

async function http1(request: TestRequest, socket: Socket): Promise<Answer> {
  writeRequest(socket, { ...request, headers: headersOf(request) });
  return readResponse(socket, request.method);
}

async function webSocket(request: TestRequest, socket: Socket): Promise<Answer> {
  writeRequest(socket, { ...request, headers: [...headersOf(request), ...webSocketHeaders()] });
  const answer = await readResponse(socket, request.method);
  if (answer.status !== 101 || request.send === undefined) return answer;
  socket.write(textFrame(request.send));
  return { ...answer, body: await readUntil(socket, (all) => readFrame(all)) };
}

/** Reads until `done` finds what it wants. */
function readUntil(socket: Socket, done: (all: Buffer) => string | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    let all = Buffer.alloc(0);
    const gone = (error?: Error): void =>
      reject(error ?? Object.assign(new Error('closed before an answer'), { code: 'ECONNRESET' }));
    socket.on('data', (chunk: Buffer) => {
      all = Buffer.concat([all, chunk]);
      const found = done(all);
      if (found !== undefined) resolve(found);
    });
    socket.once('error', gone);
    socket.once('end', () => gone());
    socket.once('close', () => gone());
    socket.resume();
  });
}

/** Sends `send` and waits until as many bytes have come back; with serverFirst, waits for the greeting before. */
async function bytes(request: TestRequest, socket: Socket): Promise<Answer> {
  const text = request.send ?? request.body;
  let got = '';
  if (request.serverFirst)
    got = await readUntil(socket, (all) => (all.includes(10) ? all.toString('latin1') : undefined));
  if (text === '') return { ...NO_ANSWER, body: got };
  const back = readUntil(socket, (all) => (all.length >= Buffer.byteLength(text) ? all.toString('latin1') : undefined));
  socket.write(text);
  return { ...NO_ANSWER, body: got + (await back) };
}

function http2(request: TestRequest, socket: Socket, tls: boolean): Promise<Answer> {
  const grpc = request.scheme === 'grpc';
  const scheme = tls ? 'https' : 'http';
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`${scheme}://${request.host}:${request.port}`, { createConnection: () => socket });
    const gone = (error?: Error): void => {
      session.destroy();
      reject(error ?? Object.assign(new Error('closed before an answer'), { code: 'ECONNRESET' }));
    };
    session.once('error', gone);
    session.once('close', () => gone());
    const fields: Record<string, string | string[]> = {};
    for (const [name, value] of headersOf(request)) {
      const key = name.toLowerCase();
      if (key === 'host') continue;
      const known = fields[key];
      fields[key] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
    }
    const host = headersOf(request).find(([n]) => n.toLowerCase() === 'host')?.[1] ?? request.host;
    if (grpc) {
      fields['content-type'] ??= 'application/grpc';
      fields.te = 'trailers';
    }
    const stream = session.request(
      {
        ...fields,
        ':method': request.method,
        ':path': request.path,
        ':authority': host,
        ':scheme': scheme,
      },
      { endStream: false },
    );
    let head: IncomingHttpHeaders | undefined;
    let trailers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    stream.on('response', (headers) => (head = headers));
    stream.on('trailers', (headers) => (trailers = headers));
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', (error: NodeJS.ErrnoException) => gone(Object.assign(error, { code: 'ECONNRESET' })));
    stream.on('end', () => {
      if (!head) return;
      const body = Buffer.concat(chunks).toString('latin1');
      const status = head['grpc-status'] ?? trailers['grpc-status'];
      resolve({
        status: Number(head[':status']),
        headers: flatten(head, trailers),
        body,
        ...(grpc && status !== undefined ? { grpcStatus: GRPC_CODES[Number(status)] ?? String(status) } : {}),
      });
      session.close();
    });
    stream.end(grpc ? grpcMessage(request.body) : request.body);
  });
}

function flatten(...all: IncomingHttpHeaders[]): readonly (readonly [string, string])[] {
  return all.flatMap((headers) =>
    Object.entries(headers).flatMap(([name, value]) =>
      name.startsWith(':') || value === undefined
        ? []
        : (Array.isArray(value) ? value : [value]).map((v) => [name, v] as const),
    ),
  );
}

/** Length-prefixed, not compressed. */
function grpcMessage(text: string): Buffer {
  const payload = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}
