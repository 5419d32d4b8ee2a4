// One request on its way: downstream codec → filters → router → upstream and back. Made by the connection manager.

import type { RequestView } from '../route/matchers.ts';
import type { CompiledRoute } from '../route/route-table.ts';
import type { AbortReason, BodyKind, RequestHead, RequestReceiver, RequestReset, ResponseSender } from './codec.ts';
import type { ConnectionManager } from './connection-manager.ts';
import { HeaderMap } from './header-map.ts';
import { type LocalReply, localReplyBody } from './local-reply.ts';
import { H } from './names.ts';
import { httpDate } from './status.ts';
import { type ConnectionInfo, FLAG, StreamInfo } from './stream-info.ts';

/** The terminal filter's side of a stream: the router, or the admin interface. */
export interface RequestTarget {
  onRequestData(bytes: Buffer, start: number, end: number): void;
  onRequestEnd(trailers?: HeaderMap): void;
  /** The client is gone, or a local reply took over. */
  onCancel(): void;
  onResponseBacklog(full: boolean): void;
}

const RESET_FLAGS: Readonly<Record<RequestReset, number>> = {
  disconnect: FLAG.DC,
  'remote-reset': FLAG.DR,
  protocol: FLAG.DPE,
};

export class HttpStream implements RequestReceiver, RequestView {
  readonly manager: ConnectionManager;
  readonly info: StreamInfo;
  readonly connection: ConnectionInfo;
  readonly sender: ResponseSender;
  headers!: HeaderMap;
  method = '';
  path = '';
  authority = '';
  scheme = 'http';
  upgrade = '';
  body: BodyKind = 'none';
  grpc = false;
  /** ALPN list for the upstream TLS handshake, when a filter (istio.alpn) wants another than the cluster's. */
  upstreamAlpn: readonly string[] | undefined;
  requestEnded = false;
  /** Known once the request has ended. */
  requestTrailers: HeaderMap | undefined;
  responseStarted = false;
  finished = false;
  /** State of filters, by their index. */
  readonly slots: unknown[] = [];
  target: RequestTarget | undefined;
  #route: CompiledRoute | undefined;
  #routeKnown = false;
  #filter = 0;
  #early: Buffer[] | undefined;
  #cancelIdle: (() => void) | undefined;
  #cancelTimers: (() => void)[] | undefined;

  constructor(manager: ConnectionManager, connection: ConnectionInfo, sender: ResponseSender) {
    this.manager = manager;
    this.connection = connection;
    this.sender = sender;
    this.info = new StreamInfo(connection, manager.deps.clock.now());
  }

  /** The route of this request; found once. */
  get route(): CompiledRoute | undefined {
    if (!this.#routeKnown) {
      this.#routeKnown = true;
      const table = this.manager.routes.current();
      this.#route = table?.find(this, this.manager.deps.random);
      const host = this.#route?.virtualHost ?? table?.findHost(this.authority);
      this.info.virtualHost = host?.name ?? '';
      this.info.routeName = this.#route?.name ?? '';
    }
    return this.#route;
  }

  // --- from the codec

  onRequestHead(info: RequestHead, headers: HeaderMap, endStream: boolean): void {
    const stream = this.info;
    this.headers = headers;
    this.method = info.method;
    this.path = info.target;
    this.upgrade = info.upgrade;
    this.requestEnded = endStream;
    this.body = info.body;
    stream.method = info.method;
    stream.path = info.target;
    stream.protocol = info.protocol;
    stream.requestHeaders = headers;
    this.manager.counters.rqActive.value += 1;
    this.manager.counters.rqTotal.value += 1;
    if (!this.manager.admit(this)) return;
    stream.authority = this.authority;
    stream.path = this.path;
    this.grpc = headers.get(H.contentType)?.startsWith('application/grpc') ?? false;
    this.touch();
    this.continueRequest();
  }

  onRequestData(bytes: Buffer, start: number, end: number): void {
    this.info.bytesReceived += end - start;
    this.touch();
    if (this.finished) return;
    if (this.target) this.target.onRequestData(bytes, start, end);
    else {
      // Bounded by one read: the codec was told to stop.
      this.#early ??= [];
      this.#early.push(Buffer.from(bytes.subarray(start, end)));
      this.sender.pauseRequest();
    }
  }

  onRequestEnd(trailers?: HeaderMap): void {
    this.requestEnded = true;
    this.requestTrailers = trailers;
    if (!this.finished && !this.#early) this.target?.onRequestEnd(trailers);
  }

  onRequestReset(reason: RequestReset, details: string): void {
    if (this.finished) return;
    const { info } = this;
    info.flags |= RESET_FLAGS[reason];
    info.responseDetails = details;
    if (!this.responseStarted) info.responseCode = reason === 'protocol' ? 400 : 0;
    if (reason !== 'protocol') this.manager.counters.rqRxReset.value += 1;
    this.target?.onCancel();
    this.#complete();
  }

  onResponseBacklog(full: boolean): void {
    this.target?.onResponseBacklog(full);
  }

  // --- filters

  /** Runs the filters from where they stopped. */
  continueRequest(): void {
    const { filters } = this.manager;
    while (!this.finished && this.#filter < filters.length) {
      const index = this.#filter;
      this.#filter = index + 1;
      if (filters[index]!.onRequest?.(this, index) === 'stop') return;
    }
  }

  /** The terminal filter took the request: body that came early goes to it. */
  attach(target: RequestTarget): void {
    this.target = target;
    const early = this.#early;
    this.#early = undefined;
    if (!early) {
      if (this.requestEnded && this.body !== 'none') target.onRequestEnd(this.requestTrailers);
      return;
    }
    for (const chunk of early) target.onRequestData(chunk, 0, chunk.length);
    if (this.requestEnded) target.onRequestEnd(this.requestTrailers);
    else this.sender.resumeRequest();
  }

  /** A timer that ends with the stream. */
  after(delayMs: number, run: () => void): () => void {
    const cancel = this.manager.deps.clock.after(delayMs, run);
    this.#cancelTimers ??= [];
    this.#cancelTimers.push(cancel);
    return cancel;
  }

  // --- response

  /** A 1xx answer of the upstream: passed on when the configuration says so. */
  sendInformational(status: number, headers: HeaderMap): void {
    if (this.finished || this.responseStarted || !this.manager.settings.proxy100Continue) return;
    this.sender.sendInformational(status, headers);
  }

  sendHead(status: number, headers: HeaderMap, endStream: boolean): void {
    if (this.finished || this.responseStarted) return;
    const { manager, info } = this;
    this.responseStarted = true;
    info.responseCode = status;
    info.responseHeaders = headers;
    for (let i = Math.min(this.#filter, manager.filters.length) - 1; i >= 0; i--)
      manager.filters[i]!.onResponse?.(this, headers, i);
    manager.finishResponseHeaders(this, headers);
    headers.setIfAbsent(H.date, httpDate(manager.deps.clock.now()));
    this.sender.sendHead(status, headers, endStream);
    if (endStream) this.#complete();
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    if (this.finished) return;
    this.info.bytesSent += end - start;
    this.touch();
    this.sender.sendData(bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    if (this.finished) return;
    this.info.responseTrailers = trailers;
    this.sender.sendEnd(trailers);
    this.#complete();
  }

  /** The response broke off after its head was sent. */
  abortResponse(reason: AbortReason = 'local-reset'): void {
    if (this.finished) return;
    this.sender.abort(reason);
    this.#complete();
  }

  /** Answers by ourselves. After the head was sent only the connection can be broken. */
  localReply(reply: LocalReply): void {
    if (this.finished) return;
    const { info } = this;
    info.flags |= reply.flags;
    info.responseDetails = reply.details;
    this.target?.onCancel();
    this.target = undefined;
    if (this.responseStarted) {
      this.abortResponse();
      return;
    }
    const headers = new HeaderMap(16);
    const body = localReplyBody(this, reply, headers);
    reply.edit?.(headers);
    const hasBody = body.length > 0 && this.method !== 'HEAD';
    const status = this.grpc ? 200 : reply.status;
    this.sendHead(status, headers, !hasBody);
    if (!hasBody) return;
    this.sendData(body, 0, body.length);
    this.sendEnd();
  }

  /** Something happened: the idle clock starts again. */
  touch(): void {
    const ms = this.manager.settings.streamIdleMs;
    if (ms <= 0) return;
    this.#cancelIdle?.();
    this.#cancelIdle = this.manager.deps.clock.after(ms, () => {
      this.manager.counters.rqIdleTimeout.value += 1;
      this.localReply({
        status: this.requestEnded ? 504 : 408,
        body: 'stream timeout',
        flags: FLAG.SI,
        details: 'stream_idle_timeout',
      });
    });
  }

  #complete(): void {
    if (this.finished) return;
    this.finished = true;
    this.#cancelIdle?.();
    if (this.#cancelTimers) for (const cancel of this.#cancelTimers) cancel();
    const { info, manager } = this;
    info.duration = manager.deps.clock.now() - info.startTime;
    info.wireBytesReceived = this.sender.wireBytesReceived();
    info.wireBytesSent = this.sender.wireBytesSent();
    manager.complete(this);
  }
}
