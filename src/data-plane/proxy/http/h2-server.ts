// HTTP/2 on an accepted connection. Made by the connection manager.
import type { Clock } from '../../../base/runtime/clock.ts';
import { PREMATURE_RESET_LIFETIME_MS, PREMATURE_RESET_STREAMS } from '../limits.ts';
import { newest } from '../newest.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type {
  AbortReason,
  H2ServerCallbacks,
  H2ServerOptions,
  RequestReceiver,
  ResponseSender,
  ServerConnection,
} from './codec.ts';
import { drainAndClose } from './draining.ts';
import {
  CONNECT_ERROR,
  ENHANCE_YOUR_CALM,
  INTERNAL_ERROR,
  MAX_WINDOW,
  NO_ERROR,
  PROTOCOL_ERROR,
  REFUSED_STREAM,
  STREAM_CLOSED,
} from './h2-frames.ts';
import type { H2Head } from './h2-head.ts';
import { Keepalive } from './h2-keepalive.ts';
import type { H2Counters } from './h2-options.ts';
import { H2Session, type SessionOwner } from './h2-session.ts';
import { H2Stream, type StreamReset } from './h2-stream.ts';
import type { HeaderMap } from './header-map.ts';
import { giveHeaders } from './header-pool.ts';
import { encodedBound } from './hpack-encoder.ts';
import { H } from './names.ts';

const ABORT_CODES: Readonly<Record<AbortReason, number>> = {
  'local-reset': INTERNAL_ERROR,
  refused: REFUSED_STREAM,
  'connect-error': CONNECT_ERROR,
  'protocol-error': PROTOCOL_ERROR,
};

export interface H2ServerDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly counters: H2Counters;
}

export class H2ServerConnection implements ServerConnection, TransportSink, SessionOwner {
  readonly transport: Transport;
  lastActive: number;
  interrupted = false;
  readonly #callbacks: H2ServerCallbacks;
  readonly #options: H2ServerOptions;
  readonly #deps: H2ServerDeps;
  readonly #session: H2Session;
  readonly #keepalive: Keepalive | undefined;
  /** 1: the end was announced; 2: no further stream is taken. */
  #draining = 0;
  #finished = false;
  #closedStreams = 0;
  #prematureResets = 0;

  constructor(transport: Transport, callbacks: H2ServerCallbacks, options: H2ServerOptions, deps: H2ServerDeps) {
    this.transport = transport;
    this.#callbacks = callbacks;
    this.#options = options;
    this.#deps = deps;
    this.lastActive = deps.clock.now();
    const context = {
      options: options.h2,
      limits: { maxBytes: options.maxHeadBytes, maxCount: options.maxHeaders },
      counters: deps.counters,
      clock: deps.clock,
      flushTimeoutMs: options.flushTimeoutMs,
    };
    this.#session = new H2Session(transport, this, context, true);
    this.#session.begin();
    this.#keepalive = Keepalive.make(options.h2.keepalive, this.#session, deps, () => this.#keepaliveLost());
    newest.h2Server = this;
  }

  get busy(): boolean {
    return this.#session.streams.size > 0;
  }

  start(): void {
    this.transport.start(this);
  }

  drain(): void {
    if (this.#draining > 0 || this.#session.dead) return;
    this.#draining = 1;
    this.#session.sendGoaway(MAX_WINDOW, NO_ERROR);
    this.#deps.clock.after(this.#options.drainTimeoutMs, () => {
      if (this.#session.dead) return;
      this.#draining = 2;
      this.#session.sendGoaway(this.#session.lastPeerId, NO_ERROR);
      if (!this.busy) this.#finish();
    });
  }

  close(): void {
    if (this.#finished) return;
    if (!this.#session.dead) this.#session.sendGoaway(this.#session.lastPeerId, NO_ERROR);
    this.#session.writer.flush();
    this.#disconnect();
    this.#finish();
  }

  #keepaliveLost(): void {
    this.#deps.counters.keepaliveTimeout.value += 1;
    this.#disconnect();
    this.transport.destroy();
  }

  #disconnect(): void {
    if (this.busy) this.interrupted = true;
    this.#session.end('disconnect');
  }

  /** Everything was said. */
  #finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#session.dead = true;
    this.#keepalive?.stop();
    this.#session.writer.flush();
    drainAndClose(this.transport, this.#deps.clock, this.#options.delayedCloseMs, this.#callbacks);
  }

  // --- from the transport

  onData(bytes: Buffer, start: number, end: number): void {
    this.#session.feed(bytes, start, end);
  }

  onEnd(): void {
    this.#disconnect();
    this.transport.end();
    this.transport.destroy();
  }

  onBacklog(full: boolean): void {
    this.#session.outlet.onBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#keepalive?.stop();
    this.#disconnect();
    this.#callbacks.onConnectionClosed(failure);
  }

  // --- from the session

  isIdle(id: number): boolean {
    return (id & 1) === 0 || id > this.#session.lastPeerId;
  }

  onNewBlock(id: number, head: H2Head, headers: HeaderMap, endStream: boolean): void {
    const session = this.#session;
    if ((id & 1) === 0) {
      session.fail(PROTOCOL_ERROR, 'http2.codec_error');
      return;
    }
    if (id <= session.lastPeerId) {
      const past = session.past.find(id);
      if (past !== 'reset') session.fail(past === 'closed' ? STREAM_CLOSED : PROTOCOL_ERROR, 'http2.codec_error');
      return;
    }
    session.lastPeerId = id;
    // After the final GOAWAY streams are not ours any more, nor what still comes on them.
    if (this.#draining === 2) {
      session.past.add(id, true);
      giveHeaders(headers);
      return;
    }
    if (session.streams.size >= this.#options.h2.maxStreams) {
      this.#deps.counters.streamRefused.value += 1;
      session.writeReset(id, REFUSED_STREAM);
      giveHeaders(headers);
      return;
    }
    if (head.problem === '') checkRequest(head, headers, endStream, this.#options.h2.allowConnect);
    const { underscores } = this.#options;
    if (underscores !== undefined && underscores !== 'allow' && head.problem === '') {
      const found = headers.withUnderscores(underscores === 'drop');
      if (found > 0) this.#callbacks.onUnderscores?.(found, underscores === 'reject', true);
      if (found > 0 && underscores === 'reject') {
        giveHeaders(headers);
        session.writeReset(id, PROTOCOL_ERROR);
        return;
      }
    }
    if (head.problem !== '') {
      giveHeaders(headers);
      session.refuseBlock(id, head);
      return;
    }
    const stream = new H2ServerStream(session, id, this);
    stream.expected = head.contentLength;
    stream.wireIn = head.wireBytes;
    stream.headIn = head.wireBytes;
    stream.fieldsIn = head.fieldBytes;
    session.add(stream);
    stream.receiver = this.#callbacks.newStream(stream);
    stream.remoteEnded = endStream;
    stream.receiver.onRequestHead(head, headers, endStream);
    session.closeWhenDone(stream);
  }

  onStreamClosed(): void {
    this.#closedStreams += 1;
    this.lastActive = this.#deps.clock.now();
    if (this.#draining === 2 && !this.busy && !this.#session.dead) this.#finish();
  }

  onGoaway(): void {
    // The client opens no more streams; what is open goes on.
  }

  onSettings(): void {}

  onSessionError(_code: number, details: string): void {
    this.#callbacks.onProtocolError(details);
    this.#finish();
  }

  now(): number {
    return this.#deps.clock.now();
  }

  /**
   * A client reset a stream before it had its answer, or broke the rules on it so that we had to: many of those are an attack
   * (rapid reset, MadeYouReset).
   */
  onEarlyReset(started: number): void {
    if (this.#session.dead) return;
    if (this.#deps.clock.now() - started > PREMATURE_RESET_LIFETIME_MS) return;
    this.#prematureResets += 1;
    if (this.#prematureResets * 2 < Math.max(PREMATURE_RESET_STREAMS, this.#closedStreams)) return;
    this.#callbacks.onPrematureResets();
    this.#session.fail(ENHANCE_YOUR_CALM, 'too_many_premature_resets');
  }
}

function pathOk(method: string, path: string): boolean {
  return path.charCodeAt(0) === 47 || (path === '*' && method === 'OPTIONS');
}

/** What every request needs (RFC 9113 §8.3.1, RFC 8441). Notes the problem in `head`. */
function checkRequest(head: H2Head, headers: HeaderMap, endStream: boolean, allowConnect: boolean): void {
  const extended = head.protocolText !== '';
  if (head.status !== 0 || head.method === '') head.refuse('invalid-pseudo-header');
  else if (head.method === 'CONNECT' && !extended) {
    if (head.scheme !== '' || head.target !== '' || !head.authority) head.refuse('invalid-pseudo-header');
    head.upgrade = 'connect';
  } else if (head.scheme === '' || !pathOk(head.method, head.target) || !(head.authority || headers.has(H.host)))
    head.refuse('invalid-pseudo-header');
  else if (extended) {
    if (!allowConnect || head.method !== 'CONNECT' || !head.authority) head.refuse('invalid-pseudo-header');
    // To everything behind the codec it is the upgrade of HTTP/1.
    head.method = 'GET';
    head.upgrade = head.protocolText;
  }
  if (endStream && head.contentLength > 0) head.refuse('invalid-content-length');
  if (endStream || head.upgrade !== '') head.body = 'none';
  else head.body = head.contentLength >= 0 ? 'length' : 'chunked';
  if (head.upgrade !== '') head.contentLength = -1;
}

class H2ServerStream extends H2Stream implements ResponseSender {
  receiver!: RequestReceiver;
  wireIn = 0;
  headIn = 0;
  fieldsIn = 0;
  readonly #connection: H2ServerConnection;
  readonly #started: number;
  #wireOut = 0;
  #headOut = 0;
  #fieldsOut = 0;
  #headSent = false;

  constructor(session: H2Session, id: number, connection: H2ServerConnection) {
    super(session, id);
    this.#connection = connection;
    this.#started = connection.now();
  }

  // --- from the session

  onBlock(head: H2Head, headers: HeaderMap, endStream: boolean): void {
    if (!endStream || head.pseudo !== 0) {
      this.session.messageError(this.id);
      return;
    }
    this.wireIn += head.wireBytes;
    this.headIn += head.wireBytes;
    this.fieldsIn += head.fieldBytes;
    this.session.endOfStream(this, headers);
  }

  protected onBodyData(bytes: Buffer, start: number, end: number): void {
    this.wireIn += end - start;
    this.receiver.onRequestData(bytes, start, end);
  }

  protected onBodyEnd(trailers: HeaderMap | undefined): void {
    this.receiver.onRequestEnd(trailers);
  }

  protected onBacklog(full: boolean): void {
    this.receiver.onResponseBacklog(full);
  }

  onLocalEnded(): void {
    // The answer is complete and the rest of the request is of no use.
    if (!this.remoteEnded) this.session.reset(this, NO_ERROR, undefined);
  }

  onReset(reason: StreamReset, _code: number): void {
    if (reason === 'remote') this.receiver.onRequestReset('remote-reset', 'http2.remote_reset');
    else if (reason === 'protocol') this.receiver.onRequestReset('protocol', 'http2.codec_error');
    else this.receiver.onRequestReset('disconnect', 'downstream_remote_disconnect');
    if (reason !== 'disconnect' && !this.#headSent) this.#connection.onEarlyReset(this.#started);
  }

  // --- from the connection manager

  sendInformational(status: number, headers: HeaderMap | undefined): void {
    if (this.closed) return;
    this.#block(status, headers, false);
  }

  sendHead(status: number, headers: HeaderMap, endStream: boolean): void {
    if (this.closed) return;
    this.#headSent = true;
    // What HTTP/1 calls switching protocols is success of an extended CONNECT.
    this.#block(status === 101 ? 200 : status, headers, endStream);
    if (endStream) this.session.localEnd(this);
  }

  #block(status: number, headers: HeaderMap | undefined, endStream: boolean): void {
    const { writer, encoder } = this.session;
    let at = writer.beginBlock(headers ? encodedBound(headers, 8) : 64);
    at = encoder.status(writer.buffer, encoder.begin(writer.buffer, at), status);
    if (headers) at = encoder.fields(writer.buffer, at, headers);
    const size = writer.endBlock(at, this.id, endStream);
    this.#wireOut += size;
    this.#headOut += size;
    this.#fieldsOut += encoder.fieldBytes;
  }

  trailersSent(wireBytes: number, fieldBytes: number): void {
    this.#wireOut += wireBytes;
    this.#headOut += wireBytes;
    this.#fieldsOut += fieldBytes;
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    this.#wireOut += end - start;
    this.sendBody(bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    this.finishBody(trailers);
  }

  abort(reason: AbortReason): void {
    this.session.reset(this, ABORT_CODES[reason], undefined);
  }

  pauseRequest(): void {
    this.pauseBody();
  }

  resumeRequest(): void {
    this.resumeBody();
  }

  wireBytesReceived(): number {
    return this.wireIn;
  }

  wireBytesSent(): number {
    return this.#wireOut;
  }

  headBytesReceived(): number {
    return this.headIn;
  }

  headBytesSent(): number {
    return this.#headOut;
  }

  fieldBytesReceived(): number {
    return this.fieldsIn;
  }

  fieldBytesSent(): number {
    return this.#fieldsOut;
  }
}
