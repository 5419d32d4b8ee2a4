// The plain HTTP ports: 8080 (/ready, /debug), 15014 (/metrics, /version, /debug), 9876 (ControlZ, loopback only).
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Metadata } from '@grpc/grpc-js';
import { errorText } from '../../base/runtime/log.ts';
import type { SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import type { Authenticate } from '../ca/types.ts';
import { DebugError, type DebugHandler } from './debug.ts';

export interface HttpOptions {
  readonly ready: () => boolean;
  readonly metrics: () => string;
  /** One line of build information. */
  readonly versionLine: string;
  /** Absent: /debug is switched off (ENABLE_DEBUG_ON_HTTP=false). */
  readonly debug: DebugHandler | undefined;
  readonly authenticate: Authenticate;
  readonly controlZ: () => string;
}

const MAX_HEADER_BYTES = 32 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;

type Handler = (path: string, request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

/** Serves GET only; what a handler throws becomes 500 without its stack. */
function server(handler: Handler): Server {
  const made = createServer({ maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_TIMEOUT_MS }, (req, res) => {
    req.resume();
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      reply(res, 405, 'only GET is served here\n');
      return;
    }
    const path = new URL(req.url ?? '/', 'http://istiod').pathname;
    Promise.resolve(handler(path, req, res)).catch((error: unknown) => {
      if (!res.headersSent) reply(res, 500, `${errorText(error)}\n`);
    });
  });
  made.on('clientError', (_error, socket) => socket.destroy());
  return made;
}

function reply(response: ServerResponse, code: number, body: string, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

export function createReadyServer(options: HttpOptions): Server {
  return server((path, request, response) => {
    if (path === '/ready') return reply(response, options.ready() ? 200 : 503, '');
    if (path.startsWith('/debug')) return debug(options, request, response);
    return reply(response, 404, 'not found; this port serves /ready and /debug\n');
  });
}

export function createMonitoringServer(options: HttpOptions): Server {
  return server((path, request, response) => {
    if (path === '/metrics') return reply(response, 200, options.metrics(), 'text/plain; version=0.0.4; charset=utf-8');
    if (path === '/version') return reply(response, 200, options.versionLine);
    if (path.startsWith('/debug')) return debug(options, request, response);
    return reply(response, 404, 'not found; this port serves /metrics, /version and /debug\n');
  });
}

export function createControlZServer(options: HttpOptions): Server {
  return server((path, _request, response) =>
    path === '/' || path.startsWith('/versionz')
      ? reply(response, 200, options.controlZ(), 'text/html; charset=utf-8')
      : reply(response, 404, 'not found\n'),
  );
}

async function debug(options: HttpOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!options.debug) return reply(response, 404, 'debug endpoints are switched off (ENABLE_DEBUG_ON_HTTP=false)\n');
  const remote = request.socket.remoteAddress ?? '';
  const local = remote === '127.0.0.1' || remote === '::1' || remote === '::ffff:127.0.0.1';
  let caller: readonly SpiffeId[] | 'local' = 'local';
  if (!local) {
    const metadata = new Metadata();
    if (request.headers.authorization) metadata.set('authorization', request.headers.authorization);
    const result = await options.authenticate(metadata, { address: remote });
    if (result.kind === 'refused') return reply(response, 401, 'unauthenticated: send a bearer token\n');
    caller = result.caller.identities;
  }
  try {
    const url = new URL(request.url ?? '/', 'http://istiod');
    const answer = await options.debug(url.pathname.replace(/^\/debug\/?/, ''), url.searchParams, caller);
    reply(response, 200, answer.body, answer.contentType);
  } catch (error) {
    if (!(error instanceof DebugError)) throw error;
    reply(response, error.code, `${error.message}\n`);
  }
}

export function htmlEscape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
