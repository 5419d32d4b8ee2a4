// One downstream HTTP connection of a connection manager: chooses its codec, hears from it, and counts it. Made by
// connection-manager.ts; one object for it all, because idle connections are many.
import type { Closed } from '../network-filter/filter.ts';
import type { Transport, TransportFailure } from '../transport-socket/transport.ts';
import { AutoServerConnection, type ServerCodec } from './auto-server.ts';
import type { H2ServerCallbacks, HeadRefusal, RequestReceiver, ResponseSender, ServerConnection } from './codec.ts';
import { httpConnectionInfo } from './connection-log.ts';
import type { ConnectionManager } from './connection-manager.ts';
import { H1ServerConnection } from './h1-server.ts';
import { H2ServerConnection } from './h2-server.ts';
import { countEnd, type httpCounters, underscoreCounters } from './manager-counters.ts';
import { HttpStream } from './stream.ts';
import type { ConnectionInfo, StreamInfo } from './stream-info.ts';

export class ServedConnection implements H2ServerCallbacks {
  /** By configuration, by ALPN, or by what the client sends first. */
  readonly codec: ServerConnection;
  readonly #manager: ConnectionManager;
  readonly #transport: Transport;
  readonly #info: ConnectionInfo;
  readonly #began: number;
  readonly #closed: Closed;
  #requests = 0;
  #protocolError = false;
  #version: ReturnType<typeof httpCounters> | undefined;
  #forgetAge: (() => void) | undefined;

  constructor(manager: ConnectionManager, transport: Transport, info: ConnectionInfo, closed: Closed) {
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
    this.#broken(error);
  }

  onUnderscores(count: number, refused: boolean, http2: boolean): void {
    const { dropped, rejected } = underscoreCounters(this.#manager.deps.stats, http2 ? 'http2' : 'http1');
    if (refused) rejected.value += 1;
    else dropped.value += count;
  }

  onProtocolError(details: string): void {
    this.#broken(details);
    this.#manager.counters.cxProtocolError.value += 1;
  }

  #broken(details: string): void {
    this.#protocolError = true;
    this.#info.localCloseReason = `codec_error:${details.replaceAll(' ', '_')}`;
  }

  onPrematureResets(): void {
    this.#manager.counters.rqTooManyResets.value += 1;
  }

  onCloseDelayed(): void {
    this.#manager.counters.cxDelayedClose.value += 1;
    this.#info.localCloseReason = 'triggered_delayed_close_timeout';
  }

  onEnding(): void {
    this.#info.localCloseReason ||= 'deferred_close_on_drained_connection';
  }

  onConnectionClosed(failure?: TransportFailure): void {
    const manager = this.#manager;
    if (!manager.forget(this, this.#transport)) return;
    this.#forgetAge?.();
    if (this.#version) this.#version.cxActive.value -= 1;
    const now = manager.deps.clock.now();
    countEnd(manager.counters, this.codec, now - this.#began);
    this.#closed(this.#info.logged ? this.#facts(failure, now) : undefined);
  }

  /** For the listener's log. */
  #facts(failure: TransportFailure | undefined, now: number): StreamInfo {
    const http2 = this.#version === this.#manager.counters.http2;
    return httpConnectionInfo(this.#info, this.#transport, {
      failure,
      protocol: this.#requests === 0 ? '' : http2 ? 'HTTP/2' : 'HTTP/1.1',
      protocolError: this.#protocolError,
      now,
    });
  }
}
