// Takes an authorized upgrade request, agrees on a protocol, and joins it to the node's exec, attach or port-forward.
// Called by the API server on `upgrade`.
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import type { NodeBackend } from '../../node-backend.ts';
import type { Session } from './exec.ts';
import { SPDY_PORT_FORWARD_PROTOCOL, servePortForward, TUNNEL_PROTOCOL } from './port-forward.ts';
import { parseExec, parseQuery, refuseUpgrade } from './query.ts';
import { MAX_FRAME_BYTES } from './spdy/connection.ts';
import { SPDY_EXEC_PROTOCOL, serveSpdyExec } from './spdy-exec.ts';
import type { StreamTarget } from './target.ts';
import { EXEC_PROTOCOLS, serveWebSocketExec } from './ws-exec.ts';

export type { StreamTarget } from './target.ts';

/** Each takes the socket over and answers refusals (400, 403, 429) on it itself. The query string is read from `request.url`. */
export interface Streaming {
  exec(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  attach(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  portForward(request: IncomingMessage, socket: Duplex, head: Buffer, target: StreamTarget): void;
  /** Ends every stream. */
  close(): void;
}

/** Sessions at one time. */
export const MAX_SESSIONS = 1024;

export function createStreaming(backend: NodeBackend): Streaming {
  const sockets = new Set<Duplex>();
  const admit = (socket: Duplex): boolean => {
    if (sockets.size >= MAX_SESSIONS) {
      refuseUpgrade(
        socket,
        429,
        `this server serves at most ${MAX_SESSIONS} exec, attach and port-forward sessions at one time`,
      );
      return false;
    }
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
    return true;
  };
  const exec = (
    mode: Session['mode'],
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    target: StreamTarget,
  ): void => {
    const query = parseExec(parseQuery(request), mode === 'exec');
    if (typeof query === 'string') {
      refuseUpgrade(socket, 400, query);
      return;
    }
    const session: Session = { mode, ...target, query };
    const upgrade = negotiate(request, EXEC_PROTOCOLS, SPDY_EXEC_PROTOCOL);
    if (upgrade.kind === 'refused') refuseUpgrade(socket, upgrade.code, upgrade.message);
    else if (!admit(socket)) return;
    else if (upgrade.kind === 'websocket') {
      upgradeWebSocket(request, socket, head, upgrade.protocol, (ws) =>
        serveWebSocketExec(backend, session, ws, upgrade.protocol),
      );
    } else {
      switchToSpdy(socket, SPDY_EXEC_PROTOCOL);
      serveSpdyExec(backend, session, socket, head);
    }
  };
  return {
    exec: (request, socket, head, target) => exec('exec', request, socket, head, target),
    attach: (request, socket, head, target) => exec('attach', request, socket, head, target),
    portForward(request, socket, head, target) {
      const upgrade = negotiate(request, [TUNNEL_PROTOCOL], SPDY_PORT_FORWARD_PROTOCOL);
      if (upgrade.kind === 'refused') refuseUpgrade(socket, upgrade.code, upgrade.message);
      else if (!admit(socket)) return;
      else if (upgrade.kind === 'websocket') {
        upgradeWebSocket(request, socket, head, upgrade.protocol, (ws) => {
          servePortForward(backend, target, createWebSocketStream(ws), Buffer.alloc(0));
        });
      } else {
        switchToSpdy(socket, SPDY_PORT_FORWARD_PROTOCOL);
        servePortForward(backend, target, socket, head);
      }
    },
    close() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

type Upgrade =
  | { readonly kind: 'websocket'; readonly protocol: string }
  | { readonly kind: 'spdy' }
  | { readonly kind: 'refused'; readonly code: number; readonly message: string };

function negotiate(request: IncomingMessage, webSocket: readonly string[], spdy: string): Upgrade {
  const wanted = (request.headers.upgrade ?? '').toLowerCase();
  if (wanted === 'websocket') {
    const protocol = chooseWebSocket(request, webSocket);
    if (protocol !== undefined) return { kind: 'websocket', protocol };
    return { kind: 'refused', code: 400, message: unsupported(request, webSocket) };
  }
  if (wanted !== 'spdy/3.1') {
    return { kind: 'refused', code: 400, message: 'Upgrade request required: WebSocket or SPDY/3.1' };
  }
  if (listed(request.headers['x-stream-protocol-version']).includes(spdy)) return { kind: 'spdy' };
  return { kind: 'refused', code: 403, message: `unable to upgrade: only ${spdy} is supported over SPDY` };
}

function listed(value: string | readonly string[] | undefined): string[] {
  const text = Array.isArray(value) ? value.join(',') : ((value as string | undefined) ?? '');
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

/** '' when the client named none: plain channels. */
function chooseWebSocket(request: IncomingMessage, supported: readonly string[]): string | undefined {
  const asked = listed(request.headers['sec-websocket-protocol']);
  if (asked.length === 0) return supported.includes('channel.k8s.io') ? '' : undefined;
  return supported.find((protocol) => asked.includes(protocol));
}

function unsupported(request: IncomingMessage, supported: readonly string[]): string {
  const asked = listed(request.headers['sec-websocket-protocol']).join(', ') || 'none';
  return `unable to upgrade: subprotocol ${asked} is not supported (supported: ${supported.join(', ')})`;
}

function upgradeWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocol: string,
  serve: (ws: WebSocket) => void,
): void {
  // The tunnel's name has a "/", which the library refuses to read or write: the choice is made here and told by hand.
  delete request.headers['sec-websocket-protocol'];
  const server = new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME_BYTES, perMessageDeflate: false });
  if (protocol !== '') server.on('headers', (lines) => lines.push(`Sec-WebSocket-Protocol: ${protocol}`));
  server.handleUpgrade(request, socket, head, serve);
}

function switchToSpdy(socket: Duplex, protocol: string): void {
  const lines = [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    'Upgrade: SPDY/3.1',
    `X-Stream-Protocol-Version: ${protocol}`,
  ];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
}
