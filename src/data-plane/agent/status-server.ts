// HTTP on 15020 (probes, merged metrics, quit and drain) and on 127.0.0.1:15004 (istiod's debug answers). identity.md §12.
// Called by wiring.ts.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { type Prober, runProbe } from './app-probe.ts';
import type { Readiness } from './readiness.ts';

/** Probes and scrapes are small and rare: more than this is not the kubelet. */
export const MAX_CONNECTIONS = 256;
const HEADERS_TIMEOUT_MS = 10_000;
const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8';
const LOCAL = /^(::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/;

export interface StatusServerOptions {
  readonly port: number;
  readonly host?: string;
  readonly readiness: Readiness;
  readonly probers: ReadonlyMap<string, Prober>;
  readonly podIp: string;
  /** Agent, proxy and application metrics as one page. */
  readonly metrics: () => Promise<string>;
  readonly onQuit: () => void;
  readonly onDrain: () => Promise<void>;
  readonly log: Logger;
  /** Tests only: probes leave from here. */
  readonly probeSource?: string;
}

interface Answer {
  readonly status: number;
  readonly body?: string;
  readonly type?: string;
}

/** Rejects when the port cannot be bound. */
export async function startStatusServer(options: StatusServerOptions): Promise<Server> {
  let lastProblem: string | undefined = '';
  const ready = async (): Promise<Answer> => {
    const problem = await options.readiness.check();
    if (problem !== lastProblem) {
      if (problem === undefined) options.log.info('Envoy proxy is ready');
      else options.log.warn('Envoy proxy is NOT ready', { reason: problem });
      lastProblem = problem;
    }
    return problem === undefined ? { status: 200 } : { status: 503, body: problem };
  };
  const server = createServer((request, response) => {
    route(request, options, ready)
      .catch((error): Answer => {
        options.log.warn('status request failed', { path: request.url, error: errorText(error) });
        return { status: 500, body: 'internal error' };
      })
      .then((answer) => send(response, answer));
  });
  return listen(server, options.port, options.host);
}

async function route(
  request: IncomingMessage,
  options: StatusServerOptions,
  ready: () => Promise<Answer>,
): Promise<Answer> {
  const [path = '/'] = (request.url ?? '/').split('?');
  if (path === '/healthz/ready') return ready();
  if (path === '/stats/prometheus' || path === '/metrics')
    return { status: 200, body: await options.metrics(), type: PROMETHEUS };
  if (path === '/quitquitquit' || path === '/drain') return control(request, path, options);
  if (path.startsWith('/app-health/') || path.startsWith('/app-lifecycle/')) {
    const prober = options.probers.get(path);
    if (!prober) return { status: 400, body: `no probe is configured for ${JSON.stringify(path.slice(0, 200))}` };
    const answer = await runProbe(prober, options.podIp, request.headers, options.probeSource);
    if (answer.status >= 400) options.log.info('application probe failed', { path, status: answer.status });
    return answer;
  }
  return { status: 404, body: '404 page not found' };
}

async function control(request: IncomingMessage, path: string, options: StatusServerOptions): Promise<Answer> {
  if (!LOCAL.test(request.socket.remoteAddress ?? ''))
    return { status: 403, body: 'Only requests from localhost are allowed' };
  if (request.method !== 'POST') return { status: 405, body: 'Method Not Allowed' };
  if (path === '/quitquitquit') setImmediate(options.onQuit);
  else await options.onDrain();
  return { status: 200, body: 'OK' };
}

export interface DebugServerOptions {
  readonly port: number;
  /** Asks istiod; rejects when it does not answer. */
  readonly debug: (command: string) => Promise<readonly Buffer[]>;
  readonly log: Logger;
}

/** `GET /debug/<command>`: asked of istiod over xDS, answered as JSON. Rejects when the port cannot be bound. */
export async function startDebugServer(options: DebugServerOptions): Promise<Server> {
  const server = createServer((request, response) => {
    const match = /^\/debug\/([A-Za-z_]{1,64}(?:\?[!-~]{0,1024})?)$/.exec(request.url ?? '');
    if (!match) return send(response, { status: 404, body: 'ask for /debug/<command>, for example /debug/syncz' });
    options.debug(match[1] ?? '').then(
      (parts) => send(response, { status: 200, body: parts.map(String).join('\n'), type: 'application/json' }),
      (error) => send(response, { status: 503, body: `istiod did not answer: ${errorText(error)}` }),
    );
  });
  return listen(server, options.port, '127.0.0.1');
}

function send(response: ServerResponse, answer: Answer): void {
  response.statusCode = answer.status;
  if (answer.type !== undefined) response.setHeader('content-type', answer.type);
  response.end(answer.body);
}

function listen(server: Server, port: number, host: string | undefined): Promise<Server> {
  server.maxConnections = MAX_CONNECTIONS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new Error(`cannot listen on port ${port}: ${error.message}`)));
    server.listen({ port, host }, () => resolve(server));
  });
}
