// HTTP/2 on a connection to an upstream host: many exchanges at a time. Made by connection pools.

import { INTERNAL_ERROR, NO_ERROR, PREFACE, PROTOCOL_ERROR, REFUSED_STREAM } from '../http/h2-frames.ts';
import type { H2Head } from '../http/h2-head.ts';
import { Keepalive } from '../http/h2-keepalive.ts';
import { H2Session, type SessionOwner } from '../http/h2-session.ts';
import { H2Stream, type StreamReset } from '../http/h2-stream.ts';
import type { HeaderMap } from '../http/header-map.ts';
import { giveHeaders } from '../http/header-pool.ts';
import { encodedBound } from '../http/hpack-encoder.ts';
import { STATUS } from '../http/hpack-table.ts';
import { H } from '../http/names.ts';
import { DEFAULT_MAX_HEAD_BYTES, H2_STREAMS_BEFORE_SETTINGS } from '../limits.ts';
import { newest } from '../newest.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { OutgoingHead, ResponseReceiver, UpstreamExchange, UpstreamReset, WireCount } from './exchange.ts';
import type { UpstreamHttp } from './http-options.ts';
import type { ConnectionOwner, PoolDeps, PooledConnection } from './pool.ts';

/** Room for `:protocol` and the names of pseudo-headers. */
const PSEUDO_SLACK = 96;
const LAST_ID = 0x7ffffffd;
const ONLY_STATUS = 1 << STATUS;

export class H2ClientConnection implements PooledConnection, TransportSink, SessionOwner {
  readonly transport: Transport;
  readonly protocol = 'HTTP/2';
  lastActive: number;
  served = 0;
  listed = false;
  interrupted = false;
  readonly session: H2Session;
  readonly #owner: ConnectionOwner;
  readonly #keepalive: Keepalive | undefined;
  #nextId = 1;
  /** No new exchanges: by GOAWAY or because the pool wants it. */
  #retired = false;

  constructor(transport: Transport, owner: ConnectionOwner, http: UpstreamHttp, deps: PoolDeps) {
    this.transport = transport;
    this.#owner = owner;
    this.lastActive = deps.clock.now();
    const context = {
      options: http.h2,
      limits: { maxBytes: DEFAULT_MAX_HEAD_BYTES, maxCount: http.maxHeaders },
      counters: deps.h2(),
      clock: deps.clock,
      flushTimeoutMs: 0,
    };
    this.session = new H2Session(transport, this, context, false);
    this.session.writer.raw(PREFACE);
    this.session.begin();
    this.#keepalive = Keepalive.make(http.h2.keepalive, this.session, deps, () => {
      deps.h2().keepaliveTimeout.value += 1;
      this.#end();
    });
    newest.h2Client = this;
  }

  get active(): number {
    return this.session.streams.size;
  }

  get capacity(): number {
    const { session } = this;
    if (this.#retired || session.dead || this.transport.closed) return 0;
    const allowed = session.peerSettingsSeen ? session.peerMaxStreams : H2_STREAMS_BEFORE_SETTINGS;
    return Math.min(allowed, session.options.maxStreams) - session.streams.size;
  }

  get retired(): boolean {
    return this.#retired || this.session.dead;
  }

  start(): void {
    this.transport.start(this);
  }

  open(): UpstreamExchange {
    this.served += 1;
    if (this.session.streams.size === 0) this.#keepalive?.beforeRequest(this.lastActive);
    return new H2ClientStream(this);
  }

  /** Stream ids count up in the order in which heads are sent. */
  takeId(): number {
    const id = this.#nextId;
    this.#nextId += 2;
    if (id >= LAST_ID) this.#retired = true;
    return id;
  }

  retire(): void {
    this.#retired = true;
    if (this.active === 0) this.#closeSoon();
  }

  #closeSoon(): void {
    this.#keepalive?.stop();
    this.session.writer.flush();
    this.session.dead = true;
    this.transport.closeSoon();
  }

  #disconnect(): void {
    if (this.active > 0) this.interrupted = true;
    this.session.end('disconnect');
  }

  #end(): void {
    this.#keepalive?.stop();
    this.#disconnect();
    this.transport.destroy();
  }

  // --- from the transport

  onData(bytes: Buffer, start: number, end: number): void {
    this.session.feed(bytes, start, end);
  }

  onEnd(): void {
    this.#end();
  }

  onBacklog(full: boolean): void {
    this.session.outlet.onBacklog(full);
  }

  onClose(_failure: TransportFailure | undefined): void {
    this.#keepalive?.stop();
    this.#disconnect();
    this.#owner.onClosed(this);
  }

  // --- from the session

  isIdle(id: number): boolean {
    return (id & 1) === 0 || id >= this.#nextId;
  }

  onNewBlock(id: number, _head: H2Head, headers: HeaderMap): void {
    giveHeaders(headers);
    // A response that was on its way when we gave up means nothing.
    if (this.isIdle(id)) this.session.fail(PROTOCOL_ERROR, 'http2.codec_error');
  }

  onStreamClosed(): void {
    if (this.#retired && this.active === 0 && !this.session.dead) this.#closeSoon();
    else this.#owner.onCapacity(this);
  }

  onGoaway(lastId: number): void {
    if (!this.#retired) this.#owner.onCloseNotify();
    this.#retired = true;
    // The server did not look at these: they can be sent elsewhere.
    for (const stream of [...this.session.streams.values()])
      if (stream.id > lastId) this.session.drop(stream, REFUSED_STREAM);
    if (this.active === 0 && !this.session.dead) this.#closeSoon();
  }

  onSettings(): void {
    this.#owner.onCapacity(this);
  }

  onSessionError(): void {
    this.#keepalive?.stop();
    this.transport.closeSoon();
  }
}

class H2ClientStream extends H2Stream implements UpstreamExchange {
  readonly transport: Transport;
  readonly protocol = 'HTTP/2';
  readonly #connection: H2ClientConnection;
  #receiver: ResponseReceiver | undefined;
  #wire: WireCount | undefined;
  #upgrade = '';
  #headRequest = false;
  #headDone = false;
  #touched = false;

  constructor(connection: H2ClientConnection) {
    super(connection.session, 0);
    this.#connection = connection;
    this.transport = connection.transport;
    newest.h2ClientStream = this;
  }

  get untouched(): boolean {
    return !this.#touched;
  }

  begin(head: OutgoingHead, receiver: ResponseReceiver): void {
    const { session } = this;
    this.#receiver = receiver;
    this.#wire = receiver.wire;
    if (session.dead) {
      // It died between the choice and now.
      this.closed = true;
      this.#receiver = undefined;
      receiver.onUpstreamReset('connection-termination');
      return;
    }
    this.id = this.#connection.takeId();
    this.#upgrade = head.upgrade;
    this.#headRequest = head.method === 'HEAD';
    session.add(this);
    const ends = head.body === 'none' && head.upgrade === '';
    this.#sendHead(head, ends);
    if (ends) session.localEnd(this);
  }

  #sendHead(head: OutgoingHead, ends: boolean): void {
    const { writer, encoder } = this.session;
    const { headers, path, upgrade } = head;
    let at = writer.beginBlock(encodedBound(headers, head.method.length + path.length + PSEUDO_SLACK + upgrade.length));
    const out = writer.buffer;
    at = encoder.begin(out, at);
    at = encoder.method(out, at, upgrade === '' ? head.method : 'CONNECT');
    if (upgrade !== 'connect') {
      if (upgrade !== '') at = encoder.protocol(out, at, upgrade);
      at = encoder.scheme(out, at, head.scheme);
      at = encoder.path(out, at, path);
    }
    const authority = headers.get(H.host);
    if (authority !== undefined) at = encoder.authority(out, at, authority);
    at = encoder.fields(out, at, headers);
    const size = writer.endBlock(at, this.id, ends);
    if (!this.#wire) return;
    this.#wire.upstreamWireSent += size;
    this.#wire.upstreamHeadSent += size;
    this.#wire.upstreamFieldsSent += encoder.fieldBytes;
  }

  trailersSent(wireBytes: number, fieldBytes: number): void {
    if (!this.#wire) return;
    this.#wire.upstreamWireSent += wireBytes;
    this.#wire.upstreamHeadSent += wireBytes;
    this.#wire.upstreamFieldsSent += fieldBytes;
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    if (this.#wire) this.#wire.upstreamWireSent += end - start;
    this.sendBody(bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    if (!this.localEnded) this.finishBody(trailers);
  }

  cancel(): void {
    this.#receiver = undefined;
    if (this.id !== 0) this.session.reset(this, INTERNAL_ERROR, undefined);
    this.closed = true;
  }

  pauseResponse(): void {
    this.pauseBody();
  }

  resumeResponse(): void {
    this.resumeBody();
  }

  // --- from the session

  onBlock(head: H2Head, headers: HeaderMap, endStream: boolean): void {
    this.#touched = true;
    if (this.#wire) {
      this.#wire.upstreamWireReceived += head.wireBytes;
      this.#wire.upstreamHeadReceived += head.wireBytes;
      this.#wire.upstreamFieldsReceived += head.fieldBytes;
    }
    if (this.#headDone) {
      if (endStream && head.pseudo === 0) this.session.endOfStream(this, headers);
      else this.session.messageError(this.id);
      return;
    }
    const { status } = head;
    if (head.pseudo !== ONLY_STATUS || status === 101 || (status < 200 && endStream)) {
      this.session.messageError(this.id);
      return;
    }
    if (status < 200) {
      this.#receiver?.onResponseInformational(status, headers);
      giveHeaders(headers);
      return;
    }
    this.#headDone = true;
    const bodyless = this.#headRequest || status === 204 || status === 304;
    if (!bodyless) this.expected = head.contentLength;
    if (endStream) {
      this.#wholeAnswer(status, headers, bodyless ? -1 : head.contentLength);
      return;
    }
    // Success of an extended CONNECT is what HTTP/1 calls switching protocols.
    const switching = this.#upgrade !== '' && this.#upgrade !== 'connect' && status === 200;
    if (switching) headers.set(H.upgrade, this.#upgrade);
    this.#receiver?.onResponseHead(switching ? 101 : status, headers, false);
  }

  #wholeAnswer(status: number, headers: HeaderMap, contentLength: number): void {
    if (contentLength > 0) {
      this.session.messageError(this.id);
      return;
    }
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.remoteEnded = true;
    // Free first: what the receiver starts next may use this place.
    this.#finish();
    receiver?.onResponseHead(status, headers, true);
  }

  protected onBodyData(bytes: Buffer, start: number, end: number): void {
    if (this.#wire) this.#wire.upstreamWireReceived += end - start;
    if (this.#headDone) this.#receiver?.onResponseData(bytes, start, end);
    else this.session.messageError(this.id);
  }

  protected onBodyEnd(trailers: HeaderMap | undefined): void {
    if (!this.#headDone) {
      this.session.messageError(this.id);
      return;
    }
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.#finish();
    receiver?.onResponseEnd(trailers);
  }

  /** The answer is complete: the rest of the request is of no use. */
  #finish(): void {
    if (this.localEnded) this.session.closeWhenDone(this);
    else this.session.reset(this, NO_ERROR, undefined);
  }

  protected onBacklog(full: boolean): void {
    this.#receiver?.onRequestBacklog(full);
  }

  onLocalEnded(): void {}

  onReset(reason: StreamReset, code: number): void {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    receiver?.onUpstreamReset(resetOf(reason, code));
  }
}

function resetOf(reason: StreamReset, code: number): UpstreamReset {
  if (reason === 'disconnect') return 'connection-termination';
  if (reason === 'protocol') return 'protocol-error';
  return code === REFUSED_STREAM ? 'remote-refused-stream-reset' : 'remote-reset';
}
