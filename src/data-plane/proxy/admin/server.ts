// The admin interface: our own HTTP/1 codec, a table of pages. Loopback only by configuration; owned by the engine.
import { createServer, type Server, type Socket } from 'node:net';
import type { LogEntry } from '../access-log/logger.ts';
import { addressText, type SocketAddr } from '../config/address.ts';
import { ConfigError } from '../config/fields.ts';
import type { RequestHead, RequestReceiver, ResponseSender, ServerCallbacks } from '../http/codec.ts';
import { H1ServerConnection } from '../http/h1-server.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { httpDate } from '../http/status.ts';
import { type ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import { MAX_ADMIN_BODY_BYTES, REQUEST_HEAD_TIMEOUT_MS } from '../limits.ts';
import { systemReason } from '../system-words.ts';
import { SocketTransport } from '../transport-socket/socket-transport.ts';
import { findPage } from './pages.ts';
import type { AdminReply, AdminStream, AdminTarget } from './target.ts';

/** Connections of the admin interface at the same time. */
const MAX_ADMIN_CONNECTIONS = 64;
const CACHE_CONTROL = headerName('cache-control');
const NOSNIFF = headerName('x-content-type-options');
const TEXT = 'text/plain; charset=UTF-8';
const CODEC = {
  maxHeadBytes: 16 * 1024,
  maxHeaders: 100,
  acceptHttp10: true,
  enableTrailers: false,
  serverName: 'envoy',
  headTimeoutMs: REQUEST_HEAD_TIMEOUT_MS,
  delayedCloseMs: 1_000,
};

export interface AdminOptions {
  /** admin.access_log. */
  readonly log?: LogEntry | undefined;
  /** Takes a place among all connections and returns how to leave it; undefined when there is none. */
  readonly admit?: (() => (() => void) | undefined) | undefined;
}

export class AdminServer {
  bound: SocketAddr;
  readonly #target: AdminTarget;
  readonly #server: Server;
  readonly #open = new Set<H1ServerConnection>();
  #connections = 0;

  constructor(target: AdminTarget, address: SocketAddr, options: AdminOptions = {}) {
    this.#target = target;
    this.bound = address;
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => this.#accept(socket, options));
    this.#server.maxConnections = MAX_ADMIN_CONNECTIONS;
  }

  #accept(socket: Socket, { log, admit }: AdminOptions): void {
    const leave = admit?.();
    if (admit && !leave) {
      socket.destroy();
      return;
    }
    const local: SocketAddr = { kind: 'ip', ip: socket.localAddress ?? '', port: socket.localPort ?? 0 };
    const remote: SocketAddr = { kind: 'ip', ip: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
    this.#connections += 1;
    const info: ConnectionInfo = {
      id: this.#connections,
      local,
      directLocal: local,
      remote,
      directRemote: remote,
      requestedServerName: '',
      transportProtocol: 'raw_buffer',
      alpn: [],
      tls: undefined,
      listenerName: 'admin',
      chainName: '',
      direction: 'unspecified',
      state: new Map(),
      metadata: new Map(),
    };
    const callbacks: ServerCallbacks = {
      newStream: (sender) => new AdminRequest(this.#target, sender, info, log),
      onBadRequest() {},
      onConnectionClosed: () => {
        this.#open.delete(connection);
        leave?.();
      },
    };
    const transport = new SocketTransport(socket, { local, remote });
    const connection = new H1ServerConnection(transport, callbacks, CODEC, this.#target.clock);
    this.#open.add(connection);
    connection.start();
  }

  listen(): Promise<void> {
    const address = this.bound;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) => {
        const reason = systemReason(error);
        reject(
          new ConfigError('', `admin interface: cannot bind '${addressText(address)}': ${reason}`, 'admin.address'),
        );
      });
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

/** Time one turn may spend making an answer, ms; then traffic has its turn. */
const SLICE_MS = 5;
/** Parts are sent together up to this size. */
const PART_CHARS = 64 * 1024;

class AdminRequest implements RequestReceiver {
  readonly #target: AdminTarget;
  readonly #sender: ResponseSender;
  readonly #info: StreamInfo;
  readonly #log: LogEntry | undefined;
  #method = '';
  #url = '';
  readonly #body: Buffer[] = [];
  #bodyBytes = 0;
  /** Answered before its end. */
  #refused = false;
  #full = false;
  #gone = false;
  #resume: (() => void) | undefined;
  #onGone: (() => void) | undefined;

  constructor(target: AdminTarget, sender: ResponseSender, connection: ConnectionInfo, log: LogEntry | undefined) {
    this.#target = target;
    this.#sender = sender;
    this.#info = new StreamInfo(connection, target.clock.now());
    this.#log = log;
  }

  onRequestHead(head: RequestHead, headers: HeaderMap, endStream: boolean): void {
    this.#method = head.method;
    this.#url = head.target;
    this.#info.method = head.method;
    this.#info.path = head.target;
    this.#info.protocol = head.protocol;
    this.#info.requestHeaders = headers;
    if (endStream) this.#answer();
  }

  onRequestData(bytes: Buffer, start: number, end: number): void {
    if (this.#refused) return;
    this.#bodyBytes += end - start;
    if (this.#bodyBytes <= MAX_ADMIN_BODY_BYTES) {
      this.#body.push(Buffer.from(bytes.subarray(start, end)));
      return;
    }
    this.#refused = true;
    this.#sender.endConnection?.();
    this.#send({ status: 413, body: 'Payload Too Large' });
  }

  onRequestEnd(): void {
    if (!this.#refused) this.#answer();
  }

  onRequestReset(): void {
    this.#gone = true;
    this.#onGone?.();
    this.#resume?.();
  }

  onResponseBacklog(full: boolean): void {
    this.#full = full;
    if (!full) this.#resume?.();
  }

  #answer(): void {
    const reply = findPage(this.#target, this.#method, this.#url, {
      headers: this.#info.requestHeaders ?? new HeaderMap(0),
      body: Buffer.concat(this.#body).toString(),
    });
    this.#body.length = 0;
    if (!(reply instanceof Promise)) {
      this.#send(reply);
      return;
    }
    reply.then(
      (made) => this.#send(made),
      (error: unknown) =>
        this.#send({ status: 500, body: `${error instanceof Error ? error.message : String(error)}\n` }),
    );
  }

  #send(reply: AdminReply): void {
    if (this.#gone) return;
    const status = reply.status ?? 200;
    const headers = new HeaderMap(16);
    headers.add(H.contentType, reply.type ?? TEXT);
    headers.add(CACHE_CONTROL, 'no-cache, max-age=0');
    headers.add(NOSNIFF, 'nosniff');
    headers.add(H.date, httpDate(this.#target.clock.now()));
    headers.add(H.server, 'envoy');
    this.#info.responseCode = status;
    if (typeof reply.body === 'string' && !reply.stream)
      headers.add(H.contentLength, String(Buffer.byteLength(reply.body)));
    const whole = typeof reply.body === 'string' || reply.body instanceof Uint8Array;
    const parts = (whole ? [reply.body as string | Uint8Array] : (reply.body as Iterable<string | Uint8Array>))[
      Symbol.iterator
    ]();
    this.#sender.sendHead(status, headers, false);
    if (reply.stream) {
      reply.stream(this.#stream());
      return;
    }
    this.#pump(parts, () => {
      this.#finish();
      reply.after?.();
    });
  }

  #finish(): void {
    this.#sender.sendEnd();
    this.#info.duration = this.#target.clock.now() - this.#info.startTime;
    this.#log?.(this.#info);
  }

  #stream(): AdminStream {
    const full = (): boolean => this.#full;
    return {
      get full() {
        return full();
      },
      write: (text) => {
        const bytes = Buffer.from(text);
        this.#info.bytesSent += bytes.length;
        if (!this.#gone) this.#sender.sendData(bytes, 0, bytes.length);
      },
      end: () => {
        this.#onGone = undefined;
        if (!this.#gone) this.#finish();
      },
      onGone: (run) => {
        this.#onGone = run;
      },
    };
  }

  /** Sends parts while the client takes them and the turn lasts, then goes on in a later turn. */
  #pump(parts: Iterator<string | Uint8Array>, done: () => void): void {
    const { clock } = this.#target;
    const end = clock.now() + SLICE_MS;
    for (;;) {
      let text = '';
      let binary: Uint8Array | undefined;
      let last = false;
      while (text.length < PART_CHARS && !binary && clock.now() <= end) {
        const next = parts.next();
        last = next.done === true;
        if (last) break;
        if (typeof next.value === 'string') text += next.value;
        else binary = next.value;
      }
      if (this.#gone) return;
      const bytes = binary ? Buffer.concat([Buffer.from(text), binary]) : Buffer.from(text);
      if (bytes.length > 0) {
        this.#info.bytesSent += bytes.length;
        this.#sender.sendData(bytes, 0, bytes.length);
      }
      if (last) {
        done();
        return;
      }
      if (this.#full) {
        this.#resume = () => {
          this.#resume = undefined;
          if (!this.#gone) this.#pump(parts, done);
        };
        return;
      }
      if (clock.now() > end) {
        clock.after(0, () => {
          if (!this.#gone) this.#pump(parts, done);
        });
        return;
      }
    }
  }
}
