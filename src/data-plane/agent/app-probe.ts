// The application's own probes and hooks, asked by the kubelet at /app-health and /app-lifecycle (injection-capture.md §4).
// Called by status-server.ts. They leave from 127.0.0.6, so the capture rules let them pass to the application.
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { decodeHealthStatus, encodeHealthRequest } from './wire.ts';

/** Source address of the agent's own calls to the application. */
const PROBE_SOURCE = '127.0.0.6';
const MAX_PROBERS = 512;
const MAX_ANSWER_BYTES = 64 * 1024;
const DEFAULT_TIMEOUT_SECONDS = 1;
const SERVING = 1;

export interface Prober {
  readonly httpGet?: {
    readonly path?: string;
    readonly port: number;
    readonly host?: string;
    readonly scheme?: string;
    readonly httpHeaders?: readonly { readonly name: string; readonly value: string }[];
  };
  readonly tcpSocket?: { readonly port: number; readonly host?: string };
  readonly grpc?: { readonly port: number; readonly service?: string };
  readonly timeoutSeconds?: number;
}

export interface ProbeAnswer {
  readonly status: number;
  readonly body: string;
}

/** ISTIO_KUBE_APP_PROBERS: JSON keyed by path. Throws when it is not that; the pod was then injected wrongly. */
export function parseProbers(text: string): ReadonlyMap<string, Prober> {
  if (text === '') return new Map();
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new Error('ISTIO_KUBE_APP_PROBERS is not a JSON object');
  const out = new Map<string, Prober>();
  for (const [path, prober] of Object.entries(value)) {
    if (out.size === MAX_PROBERS) throw new Error(`ISTIO_KUBE_APP_PROBERS has over ${MAX_PROBERS} entries`);
    if (!/^\/app-(health\/[^/]+\/(livez|readyz|startupz)|lifecycle\/[^/]+\/(prestopz|poststartz))$/.test(path))
      throw new Error(`ISTIO_KUBE_APP_PROBERS has the unknown path ${path}`);
    out.set(path, checked(path, prober));
  }
  return out;
}

function checked(path: string, value: unknown): Prober {
  const prober = (value ?? {}) as Prober;
  const port = prober.httpGet?.port ?? prober.tcpSocket?.port ?? prober.grpc?.port;
  if (!Number.isInteger(port) || Number(port) < 1 || Number(port) > 65_535)
    throw new Error(`the prober of ${path} in ISTIO_KUBE_APP_PROBERS has no numeric port`);
  return prober;
}

/** `podIp` is where the application listens. Never rejects: a failed probe is status 500. */
export async function runProbe(
  prober: Prober,
  podIp: string,
  incoming: IncomingHttpHeaders,
  localAddress: string | undefined = podIp.includes(':') ? undefined : PROBE_SOURCE,
): Promise<ProbeAnswer> {
  const timeoutMs = (prober.timeoutSeconds || DEFAULT_TIMEOUT_SECONDS) * 1000;
  try {
    if (prober.httpGet) return await probeHttp(prober.httpGet, podIp, incoming, timeoutMs, localAddress);
    if (prober.tcpSocket) {
      await probeTcp(prober.tcpSocket.host || podIp, prober.tcpSocket.port, timeoutMs, localAddress);
      return { status: 200, body: '' };
    }
    if (prober.grpc) return await probeGrpc(prober.grpc, podIp, timeoutMs);
    return { status: 500, body: 'the prober has no action' };
  } catch (error) {
    return { status: 500, body: error instanceof Error ? error.message : String(error) };
  }
}

async function probeHttp(
  target: NonNullable<Prober['httpGet']>,
  podIp: string,
  incoming: IncomingHttpHeaders,
  timeoutMs: number,
  localAddress: string | undefined,
): Promise<ProbeAnswer> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming))
    if (typeof value === 'string' && name !== 'host' && name !== 'connection') headers[name] = value;
  for (const { name, value } of target.httpHeaders ?? []) headers[name.toLowerCase()] = value;
  const secure = target.scheme?.toUpperCase() === 'HTTPS';
  const send = secure ? (await import('node:https')).request : httpRequest;
  const path = target.path?.startsWith('/') ? target.path : `/${target.path ?? ''}`;
  const options = { host: target.host || podIp, port: target.port, path, headers, localAddress, agent: false };
  return new Promise((resolve, reject) => {
    // The kubelet does not check certificates of probes either.
    const call = send(secure ? { ...options, rejectUnauthorized: false } : options, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (part: string) => {
        if (body.length < MAX_ANSWER_BYTES) body += part;
      });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: probeStatus(answer.statusCode ?? 500), body }));
    });
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    call.on('close', () => clearTimeout(timer));
    call.on('error', reject);
    call.end();
  });
}

/** A redirect counts as success for the kubelet; passed on it would be followed into nothing. */
function probeStatus(status: number): number {
  return status >= 300 && status < 400 ? 200 : status;
}

function probeTcp(host: string, port: number, timeoutMs: number, localAddress: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, localAddress });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no connection within ${timeoutMs} ms`)));
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
}

async function probeGrpc(target: NonNullable<Prober['grpc']>, podIp: string, timeoutMs: number): Promise<ProbeAnswer> {
  const { Client, credentials } = await import('@grpc/grpc-js');
  const host = podIp.includes(':') ? `[${podIp}]` : podIp;
  const client = new Client(`${host}:${target.port}`, credentials.createInsecure());
  try {
    const status = await new Promise<number>((resolve, reject) =>
      client.makeUnaryRequest(
        '/grpc.health.v1.Health/Check',
        (bytes: Buffer) => bytes,
        decodeHealthStatus,
        encodeHealthRequest(target.service ?? ''),
        { deadline: Date.now() + timeoutMs },
        (error, value) => (error ? reject(error) : resolve(value ?? 0)),
      ),
    );
    return status === SERVING ? { status: 200, body: '' } : { status: 500, body: `health status is ${status}` };
  } finally {
    client.close();
  }
}
