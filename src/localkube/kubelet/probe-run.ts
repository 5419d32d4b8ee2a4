// One probe or lifecycle hook against a container: HTTP, TCP, gRPC health or a command. Texts are the kubelet's.
// Called by the prober and by hooks.
import http from 'node:http';
import http2 from 'node:http2';
import type { Socket } from 'node:net';
import tls from 'node:tls';
import type { Container, HttpGetAction, ProbeHandler } from '../../api/kubernetes/container.ts';
import { errorText } from '../../base/runtime/log.ts';
import type { NodeNetwork } from '../network/types.ts';
import type { Execution } from './exec.ts';

export type ProbeResult = { readonly ok: true } | { readonly ok: false; readonly message: string };

export interface ProbeTarget {
  readonly podIp: string;
  readonly containerId: string;
  readonly container: Container;
}

export interface ProbeTools {
  readonly network: Pick<NodeNetwork, 'dial'>;
  readonly execution: Execution;
}

const MAX_BODY = 10 * 1024;
const USER_AGENT = 'kube-probe/1.33';

export async function runProbe(
  handler: ProbeHandler,
  target: ProbeTarget,
  timeoutMs: number,
  tools: ProbeTools,
): Promise<ProbeResult> {
  if (handler.exec) return execProbe(handler.exec.command ?? [], target, timeoutMs, tools);
  if (handler.httpGet) return httpProbe(handler.httpGet, target, timeoutMs, tools);
  if (handler.tcpSocket) {
    const port = portNumber(handler.tcpSocket.port, target.container);
    const host = handler.tcpSocket.host || target.podIp;
    if (port === undefined) return badPort(handler.tcpSocket.port);
    return tcpProbe(host, port, timeoutMs, tools);
  }
  if (handler.grpc) return grpcProbe(handler.grpc.port, handler.grpc.service ?? '', target, timeoutMs, tools);
  return { ok: false, message: `missing probe handler for ${target.container.name}` };
}

export function portNumber(port: number | string, container: Container): number | undefined {
  const named = container.ports?.find((p) => p.name === port)?.containerPort;
  const value = named ?? Number(port);
  return Number.isInteger(value) && value > 0 && value < 65536 ? value : undefined;
}

function badPort(port: number | string): ProbeResult {
  return { ok: false, message: `couldn't find port: ${JSON.stringify(port)}` };
}

/** In the words of Go's net package. */
function dialFailure(error: unknown, address: string): ProbeResult {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const why: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'connect: connection refused',
    EHOSTUNREACH: 'connect: no route to host',
    ENETUNREACH: 'connect: network is unreachable',
    ETIMEDOUT: 'i/o timeout',
    ECONNRESET: 'read: connection reset by peer',
  };
  return { ok: false, message: `dial tcp ${address}: ${why[code] ?? errorText(error)}` };
}

async function tcpProbe(host: string, port: number, timeoutMs: number, tools: ProbeTools): Promise<ProbeResult> {
  try {
    const socket = await tools.network.dial(host, port, timeoutMs);
    socket.destroy();
    return { ok: true };
  } catch (error) {
    return dialFailure(error, `${host}:${port}`);
  }
}

async function execProbe(
  command: readonly string[],
  target: ProbeTarget,
  timeoutMs: number,
  tools: ProbeTools,
): Promise<ProbeResult> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const { code, output } = await tools.execution.capture(target.containerId, command, MAX_BODY, signal);
    return code === 0 ? { ok: true } : { ok: false, message: output || `command exited with status ${code}` };
  } catch (error) {
    const text = signal.aborted
      ? `command timed out: ${JSON.stringify(command.join(' '))} timed out after ${timeoutMs / 1000}s`
      : errorText(error);
    return { ok: false, message: text };
  }
}

async function httpProbe(
  action: HttpGetAction,
  target: ProbeTarget,
  timeoutMs: number,
  tools: ProbeTools,
): Promise<ProbeResult> {
  const port = portNumber(action.port, target.container);
  if (port === undefined) return badPort(action.port);
  const host = action.host || target.podIp;
  const scheme = (action.scheme ?? 'HTTP').toLowerCase();
  const url = `${scheme}://${host}:${port}${action.path?.startsWith('/') ? '' : '/'}${action.path ?? ''}`;
  try {
    const status = await httpStatus(action, url, host, port, timeoutMs, tools);
    // Redirects count as success.
    if (status >= 200 && status < 400) return { ok: true };
    return { ok: false, message: `HTTP probe failed with statuscode: ${status}` };
  } catch (error) {
    if (error instanceof ProbeTimeout)
      return {
        ok: false,
        message: `Get ${JSON.stringify(url)}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
      };
    const failure = dialFailure(error, `${host}:${port}`);
    return failure.ok ? failure : { ...failure, message: `Get ${JSON.stringify(url)}: ${failure.message}` };
  }
}

class ProbeTimeout extends Error {}

async function httpStatus(
  action: HttpGetAction,
  url: string,
  host: string,
  port: number,
  timeoutMs: number,
  tools: ProbeTools,
): Promise<number> {
  const plain = await tools.network.dial(host, port, timeoutMs);
  // The kubelet does not verify a probe's certificate.
  const socket: Socket = action.scheme === 'HTTPS' ? tls.connect({ socket: plain, rejectUnauthorized: false }) : plain;
  const headers: Record<string, string | string[]> = { 'User-Agent': USER_AGENT, Accept: '*/*', Connection: 'close' };
  for (const { name, value } of action.httpHeaders ?? []) headers[name] = value;
  const { pathname, search } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = http.request({ createConnection: () => socket, host, port, path: pathname + search, headers });
    const timer = setTimeout(() => request.destroy(new ProbeTimeout()), timeoutMs);
    const end = (): void => {
      clearTimeout(timer);
      plain.destroy();
    };
    request.on('response', (response) => {
      end();
      response.on('error', () => {});
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    request.on('error', (error) => {
      end();
      reject(error);
    });
    request.end();
  });
}

const SERVING = 1;
const GRPC_STATES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

async function grpcProbe(
  port: number,
  service: string,
  target: ProbeTarget,
  timeoutMs: number,
  tools: ProbeTools,
): Promise<ProbeResult> {
  const address = `${target.podIp}:${port}`;
  let socket: Socket;
  try {
    socket = await tools.network.dial(target.podIp, port, timeoutMs);
  } catch {
    return {
      ok: false,
      message: `timeout: failed to connect service "${address}" within ${timeoutMs / 1000}s: context deadline exceeded`,
    };
  }
  const session = http2.connect(`http://${address}`, { createConnection: () => socket });
  try {
    const state = await checkHealth(session, service, timeoutMs);
    if (state === SERVING) return { ok: true };
    return { ok: false, message: `service unhealthy (responded with "${GRPC_STATES[state] ?? state}")` };
  } catch (error) {
    return {
      ok: false,
      message:
        error instanceof ProbeTimeout
          ? `timeout: health rpc did not complete within ${timeoutMs / 1000}s`
          : `error: health rpc probe failed: ${errorText(error)}`,
    };
  } finally {
    session.destroy();
  }
}

/** grpc.health.v1.Health/Check by hand: one string field in, one enum field out. Resolves to the enum. */
function checkHealth(session: http2.ClientHttp2Session, service: string, timeoutMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new ProbeTimeout()), timeoutMs);
    const fail = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    session.on('error', fail);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': USER_AGENT,
    });
    const chunks: Buffer[] = [];
    let size = 0;
    let grpcStatus = '';
    const status = (headers: http2.IncomingHttpHeaders): void => {
      grpcStatus = String(headers['grpc-status'] ?? grpcStatus);
    };
    stream.on('response', status);
    stream.on('trailers', status);
    stream.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_BODY) return fail(new Error('answer too long'));
      chunks.push(chunk);
    });
    stream.on('error', fail);
    stream.on('end', () => {
      clearTimeout(timer);
      if (grpcStatus !== '0') return reject(new Error(`rpc error: code = ${grpcStatus}`));
      resolve(parseHealth(Buffer.concat(chunks)));
    });
    stream.end(healthRequest(service));
  });
}

export function healthRequest(service: string): Buffer {
  const name = Buffer.from(service);
  const length =
    name.length === 0
      ? []
      : name.length < 128
        ? [0x0a, name.length]
        : [0x0a, (name.length & 0x7f) | 0x80, name.length >> 7];
  const message = Buffer.concat([Buffer.from(length), name]);
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(message.length, 1);
  return Buffer.concat([frame, message]);
}

/** The first field of the first message; an empty message is UNKNOWN. */
export function parseHealth(body: Buffer): number {
  return body.length >= 7 && body[5] === 0x08 ? body[6]! : 0;
}
