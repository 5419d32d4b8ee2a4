// One HTTPS call of an admission webhook: resolve, dial, verify, POST, read. Called by webhooks/admit.ts.
import { request as httpRequest } from 'node:http';
import { connect as netConnect, type Socket } from 'node:net';
import { checkServerIdentity, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { at, type Dict, dict, isDict, num, str } from '../json.ts';

const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;
const DEFAULT_HTTPS_PORT = 443;

/** A TCP connection to a ClusterIP or pod address, from where those can be reached. */
export type Dial = (ip: string, port: number, timeoutMs: number) => Promise<Socket>;

export interface WebhookCaller {
  /** Posts `review`; rejects with an Error that says what failed, in the words of a real API server. */
  call(clientConfig: Dict, review: Dict, timeoutMs: number): Promise<Dict>;
}

export interface WebhookCallerOptions {
  readonly service: (namespace: string, name: string) => Dict | undefined;
  readonly dial: Dial;
}

interface Endpoint {
  readonly url: URL;
  readonly serverName: string;
  readonly address: string;
  readonly open: (timeoutMs: number) => Promise<Socket>;
}

export function createWebhookCaller(options: WebhookCallerOptions): WebhookCaller {
  return {
    async call(clientConfig, review, timeoutMs) {
      const shown = shownUrl(clientConfig, timeoutMs);
      try {
        const endpoint = resolve(options, clientConfig, shown);
        return await withTimeout(timeoutMs, (signal) => post(endpoint, clientConfig, review, timeoutMs, signal));
      } catch (error) {
        throw new Error(`failed to call webhook: Post "${shown}": ${goText(error)}`, { cause: error });
      }
    },
  };
}

function shownUrl(clientConfig: Dict, timeoutMs: number): string {
  const query = `timeout=${timeoutMs / 1000}s`;
  if (typeof clientConfig.url === 'string') {
    return `${clientConfig.url}${clientConfig.url.includes('?') ? '&' : '?'}${query}`;
  }
  const service = dict(clientConfig.service);
  const path = str(service.path).replace(/^\/?/, '/');
  const port = num(service.port, DEFAULT_HTTPS_PORT);
  return `https://${str(service.name)}.${str(service.namespace)}.svc:${port}${path}${path.includes('?') ? '&' : '?'}${query}`;
}

function resolve(options: WebhookCallerOptions, clientConfig: Dict, shown: string): Endpoint {
  const url = new URL(shown);
  if (url.protocol !== 'https:') throw new Error(`only https is spoken, not ${url.protocol}`);
  const port = url.port === '' ? DEFAULT_HTTPS_PORT : Number(url.port);
  if (typeof clientConfig.url === 'string') {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    return { url, serverName: host, address: `${host}:${port}`, open: () => connectTcp(host, port) };
  }
  const service = dict(clientConfig.service);
  const namespace = str(service.namespace);
  const name = str(service.name);
  const found = options.service(namespace, name);
  if (!found) throw new Error(`service "${name}" not found`);
  const ip = str(at(found, 'spec', 'clusterIP'));
  if (ip === '' || ip === 'None') throw new Error(`service "${name}" has no ClusterIP`);
  const ports = at(found, 'spec', 'ports');
  if (!Array.isArray(ports) || !ports.some((item) => at(item, 'port') === port))
    throw new Error(`no service port ${port} found for service "${name}"`);
  return {
    url,
    serverName: `${name}.${namespace}.svc`,
    address: `${ip}:${port}`,
    open: async (timeoutMs) => {
      try {
        return await options.dial(ip, port, timeoutMs);
      } catch (error) {
        throw new DialError(`${ip}:${port}`, error);
      }
    },
  };
}

class DialError extends Error {
  constructor(address: string, cause: unknown) {
    super(`dial tcp ${address}: ${dialText(cause)}`, { cause });
  }
}

function dialText(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  if (code === 'ECONNREFUSED') return 'connect: connection refused';
  if (code === 'EHOSTUNREACH') return 'connect: no route to host';
  if (code === 'ETIMEDOUT') return 'i/o timeout';
  return error instanceof Error ? error.message : String(error);
}

function connectTcp(host: string, port: number): Promise<Socket> {
  return new Promise((done, fail) => {
    const socket = netConnect({ host, port });
    socket.once('error', (error) => fail(new DialError(`${host}:${port}`, error)));
    socket.once('connect', () => done(socket));
  });
}

function withTimeout<T>(timeoutMs: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = AbortSignal.timeout(timeoutMs);
  const late = new Promise<never>((_, fail) => {
    signal.addEventListener('abort', () => fail(new Error('context deadline exceeded')), { once: true });
  });
  return Promise.race([run(signal), late]);
}

async function post(
  endpoint: Endpoint,
  clientConfig: Dict,
  review: Dict,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Dict> {
  const plain = await endpoint.open(timeoutMs);
  if (signal.aborted) {
    plain.destroy();
    throw new Error('context deadline exceeded');
  }
  signal.addEventListener('abort', () => plain.destroy(), { once: true });
  const secure = await handshake(plain, endpoint, str(clientConfig.caBundle));
  try {
    return await exchange(secure, endpoint, JSON.stringify(review));
  } finally {
    secure.destroy();
  }
}

function handshake(plain: Socket, endpoint: Endpoint, caBundle: string): Promise<TLSSocket> {
  return new Promise((done, fail) => {
    const socket = tlsConnect({
      socket: plain,
      servername: /^[\d.]+$|:/.test(endpoint.serverName) ? '' : endpoint.serverName,
      ALPNProtocols: ['http/1.1'],
      minVersion: 'TLSv1.2',
      ...(caBundle ? { ca: Buffer.from(caBundle, 'base64') } : {}),
      checkServerIdentity: (_host, certificate) => checkServerIdentity(endpoint.serverName, certificate),
    });
    socket.once('secureConnect', () => done(socket));
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('EOF')));
  });
}

function exchange(socket: TLSSocket, endpoint: Endpoint, body: string): Promise<Dict> {
  return new Promise((done, fail) => {
    const request = httpRequest(
      {
        createConnection: () => socket,
        method: 'POST',
        path: endpoint.url.pathname + endpoint.url.search,
        headers: {
          host: endpoint.url.host,
          'content-type': 'application/json',
          accept: 'application/json, */*',
          'user-agent': 'kube-apiserver-admission',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_RESPONSE_BYTES)
            request.destroy(new Error(`the answer is larger than ${MAX_RESPONSE_BYTES} bytes`));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          if (response.statusCode !== 200)
            return fail(
              new Error(
                `an error on the server ("${text.slice(0, 200).trim()}") has prevented the request from succeeding`,
              ),
            );
          try {
            const answer: unknown = JSON.parse(text);
            if (!isDict(answer)) throw new Error('not an object');
            done(answer);
          } catch (error) {
            fail(
              new Error('expected response.response to be an AdmissionReview, but the answer is not JSON', {
                cause: error,
              }),
            );
          }
        });
      },
    );
    request.on('error', fail);
    request.end(body);
  });
}

const UNKNOWN_AUTHORITY: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
]);

/** The failure as Go's client words it, which is what people search for. */
function goText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = str((error as { code?: unknown }).code);
  if (UNKNOWN_AUTHORITY.has(code))
    return 'tls: failed to verify certificate: x509: certificate signed by unknown authority';
  if (code === 'CERT_HAS_EXPIRED')
    return 'tls: failed to verify certificate: x509: certificate has expired or is not yet valid';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `tls: failed to verify certificate: x509: ${error.message}`;
  if (code === 'ECONNRESET') return 'read: connection reset by peer';
  return error.message;
}
