// One downstream HTTP connection of a connection manager: chooses its codec, hears from it, and counts it. Made by
// connection-manager.ts; one object for it all, because idle connections are many.
import type { Transport } from '../transport-socket/transport.ts';
import { AutoServerConnection, type ServerCodec } from './auto-server.ts';
import type { H2ServerCallbacks, HeadRefusal, RequestReceiver, ResponseSender, ServerConnection } from './codec.ts';
import type { ConnectionManager } from './connection-manager.ts';
import { H1ServerConnection } from './h1-server.ts';
import { H2ServerConnection } from './h2-server.ts';
import { countEnd, type httpCounters, underscoreCounters } from './manager-counters.ts';
import { HttpStream } from './stream.ts';
import type { ConnectionInfo } from './stream-info.ts';

export class ServedConnection implements H2ServerCallbacks {
  /** By configuration, by ALPN, or by what the client sends first. */
  readonly codec: ServerConnection;
  readonly #manager: ConnectionManager;
  readonly #transport: Transport;
  readonly #info: ConnectionInfo;
  readonly #began: number;
  readonly #closed: () => void;
  #requests = 0;
  #version: ReturnType<typeof httpCounters> | undefined;
  #forgetAge: (() => void) | undefined;

  constructor(manager: ConnectionManager, transport: Transport, info: ConnectionInfo, closed: () => void) {
    this.#manager = manager;
    this.#transport = transport;
    this.#info = info;
    this.#closed = closed;
    this.#began = manager.deps.clock.now();
    const { counters } = manager;
    counters.cxTotal.value += 1;
    counters.cxActive.value += 1;
    if (transport.tls) {
      counters.cxSsl.value += 1;
      counters.cxSslActive.value += 1;
    }
    this.codec = this.#chooseCodec();
  }

  #chooseCodec(): ServerConnection {
    const { codec } = this.#manager.settings;
    if (codec !== 'auto') return this.make(codec === 'http2');
    const alpn = this.#transport.tls?.alpn ?? '';
    if (alpn === 'h2' || alpn.startsWith('http/1')) return this.make(alpn === 'h2');
    return new AutoServerConnection(this.#transport, this, this.#began);
  }

  /** The codec of this version, which is known now. */
  make(http2: boolean): ServerCodec {
    const manager = this.#manager;
    const version = http2 ? manager.counters.http2 : manager.counters.http1;
    this.#version = version;
    version.cxTotal.value += 1;
    version.cxActive.value += 1;
    return http2
      ? new H2ServerConnection(this.#transport, this, manager.settings, manager.h2())
      : new H1ServerConnection(this.#transport, this, manager.settings, manager.deps.clock);
  }

  start(): void {
    this.codec.start();
    const { maxConnectionMs } = this.#manager.settings;
    if (maxConnectionMs > 0) this.#forgetAge = this.#manager.deps.clock.after(maxConnectionMs, () => this.#tooOld());
  }

  /** max_connection_duration: the connection ends, but not in the middle of a request. */
  #tooOld(): void {
    const { counters, deps, settings } = this.#manager;
    counters.cxMaxDuration.value += 1;
    this.codec.drain();
    this.#forgetAge = deps.clock.after(settings.drainTimeoutMs, () => {
      if (!this.codec.busy) this.codec.close();
    });
  }

  // --- from the codec

  newStream(sender: ResponseSender): RequestReceiver {
    const manager = this.#manager;
    this.#requests += 1;
    this.#version!.rqTotal.value += 1;
    const { maxRequestsPerConnection } = manager.settings;
    if (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection) {
      manager.counters.cxMaxRequests.value += 1;
      this.codec.drain();
    }
    manager.endSoon(this.codec);
    return new HttpStream(manager, this.#info, sender);
  }

  onBadRequest(error: HeadRefusal | 'http1.body', status: number, bodyBytes: number): void {
    if (error !== 'http1.body') this.#version!.rqTotal.value += 1;
    this.#manager.badRequest(this.#info, error, status, bodyBytes);
  }

  onUnderscores(count: number, refused: boolean, http2: boolean): void {
    const { dropped, rejected } = underscoreCounters(this.#manager.deps.stats, http2 ? 'http2' : 'http1');
    if (refused) rejected.value += 1;
    else dropped.value += count;
  }

  onProtocolError(): void {
    this.#manager.counters.cxProtocolError.value += 1;
  }

  onPrematureResets(): void {
    this.#manager.counters.rqTooManyResets.value += 1;
  }

  onCloseDelayed(): void {
    this.#manager.counters.cxDelayedClose.value += 1;
  }

  onConnectionClosed(): void {
    const manager = this.#manager;
    if (!manager.forget(this, this.#transport)) return;
    this.#forgetAge?.();
    if (this.#version) this.#version.cxActive.value -= 1;
    countEnd(manager.counters, this.codec, manager.deps.clock.now() - this.#began);
    this.#closed();
  }
}
