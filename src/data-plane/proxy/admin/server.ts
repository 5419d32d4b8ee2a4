// The admin interface: our own HTTP/1 codec, a table of pages. Loopback only by configuration; owned by the engine.
import { createServer, type Server } from 'node:net';
import type { SocketAddr } from '../config/address.ts';
import type { Engine } from '../engine.ts';
import type { RequestHead, RequestReceiver, ResponseSender, ServerCallbacks } from '../http/codec.ts';
import { H1ServerConnection } from '../http/h1-server.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { httpDate } from '../http/status.ts';
import { SocketTransport } from '../transport-socket/socket-transport.ts';
import { type AdminReply, findPage } from './pages.ts';

/** Connections of the admin interface at the same time. */
const MAX_ADMIN_CONNECTIONS = 64;
const CACHE_CONTROL = headerName('cache-control');
const NOSNIFF = headerName('x-content-type-options');
const CODEC = {
  maxHeadBytes: 16 * 1024,
  maxHeaders: 100,
  acceptHttp10: true,
  enableTrailers: false,
  serverName: 'envoy',
};

export class AdminServer {
  bound: SocketAddr;
  readonly #engine: Engine;
  readonly #server: Server;
  readonly #open = new Set<H1ServerConnection>();

  constructor(engine: Engine, address: SocketAddr) {
    this.#engine = engine;
    this.bound = address;
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      const local: SocketAddr = { kind: 'ip', ip: socket.localAddress ?? '', port: socket.localPort ?? 0 };
      const remote: SocketAddr = { kind: 'ip', ip: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
      const callbacks: ServerCallbacks = {
        newStream: (sender) => new AdminRequest(this.#engine, sender),
        onBadRequest() {},
        onConnectionClosed: () => this.#open.delete(connection),
      };
      const connection = new H1ServerConnection(
        new SocketTransport(socket, { local, remote }),
        callbacks,
        CODEC,
        engine.deps.clock,
      );
      this.#open.add(connection);
      connection.start();
    });
    this.#server.maxConnections = MAX_ADMIN_CONNECTIONS;
  }

  listen(): Promise<void> {
    const address = this.bound;
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(
        address.kind === 'pipe' ? { path: address.path } : { host: address.ip, port: address.port },
        () => {
          const real = this.#server.address();
          if (real && typeof real === 'object' && address.kind === 'ip') this.bound = { ...address, port: real.port };
          resolve();
        },
      );
    });
  }

  close(): void {
    this.#server.close();
    for (const connection of this.#open) connection.close();
  }
}

class AdminRequest implements RequestReceiver {
  readonly #engine: Engine;
  readonly #sender: ResponseSender;
  #method = '';
  #target = '';

  constructor(engine: Engine, sender: ResponseSender) {
    this.#engine = engine;
    this.#sender = sender;
  }

  onRequestHead(info: RequestHead, _headers: HeaderMap, endStream: boolean): void {
    this.#method = info.method;
    this.#target = info.target;
    if (endStream) this.#answer();
  }

  /** Bodies of admin requests mean nothing. */
  onRequestData(): void {}

  onRequestEnd(): void {
    this.#answer();
  }

  onRequestReset(): void {}
  onResponseBacklog(): void {}

  #answer(): void {
    const reply = findPage(this.#engine, this.#method, this.#target);
    const body = Buffer.from(reply.body);
    const headers = new HeaderMap(16);
    headers.add(H.contentType, reply.type ?? typeOf(reply));
    headers.add(CACHE_CONTROL, 'no-cache, max-age=0');
    headers.add(NOSNIFF, 'nosniff');
    headers.add(H.contentLength, String(body.length));
    headers.add(H.date, httpDate(this.#engine.deps.clock.now()));
    headers.add(H.server, 'envoy');
    this.#sender.sendHead(reply.status ?? 200, headers, false);
    this.#sender.sendData(body, 0, body.length);
    this.#sender.sendEnd();
    reply.after?.();
  }
}

function typeOf(reply: AdminReply): string {
  return reply.body.startsWith('{') || reply.body.startsWith('[') ? 'application/json' : 'text/plain; charset=UTF-8';
}
