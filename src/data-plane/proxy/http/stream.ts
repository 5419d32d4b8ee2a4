// One request on its way: downstream codec → filters → router → upstream and back. Made by the connection manager.

import type { FilterPlan } from '../http-filter/plan.ts';
import type { RedirectHistory } from '../http-filter/router-redirect.ts';
import { MAX_EDITED_HEAD_BYTES, MAX_FILTER_BODY_BYTES } from '../limits.ts';
import { newest } from '../newest.ts';
import { decorateRequest, decorateResponse } from '../tracing/decorator.ts';
import type { TraceReason } from '../tracing/sampling.ts';
import type {
  AbortReason,
  BodyKind,
  Protocol,
  RequestHead,
  RequestReceiver,
  RequestReset,
  ResponseSender,
} from './codec.ts';
import type { ConnectionManager } from './connection-manager.ts';
import { HeaderMap } from './header-map.ts';
import { giveHeaders, noHeaders } from './header-pool.ts';
import { type LocalReply, localReplyHead } from './local-reply.ts';
import { H } from './names.ts';
import { RoutedRequest } from './routed-request.ts';
import { httpDate } from './status.ts';
import { type ConnectionInfo, FLAG, LOG_TYPE } from './stream-info.ts';

/** The terminal filter's side of a stream: the router, or the admin interface. */
export interface RequestTarget {
  onRequestData(bytes: Buffer, start: number, end: number): void;
  onRequestEnd(trailers?: HeaderMap): void;
  /** The client is gone, or a local reply took over. */
  onCancel(): void;
  onResponseBacklog(full: boolean): void;
}

const BAD_REQUEST_BYTES = 'Bad Request'.length;
const RESET_FLAGS: Readonly<Record<RequestReset, number>> = {
  disconnect: FLAG.DC,
  'remote-reset': FLAG.DR,
  protocol: FLAG.DPE,
};

/** `application/grpc` itself, or with `+proto` and the like. */
function isGrpcType(type: string | undefined): boolean {
  if (type === undefined || !type.startsWith('application/grpc')) return false;
  return type.length === 16 || type.charCodeAt(16) === 43;
}

export class HttpStream extends RoutedRequest implements RequestReceiver {
  /** The filters this request began with. */
  readonly plan: FilterPlan;
  readonly sender: ResponseSender;
  traceReason: TraceReason = 'none';
  /** The upgrade was allowed. */
  upgraded = false;
  body: BodyKind = 'none';
  /** What the client speaks. */
  protocol: Protocol = 'HTTP/1.1';
  /** ALPN list for the upstream TLS handshake, when a filter (istio.alpn) wants another than the cluster's. */
  upstreamAlpn: readonly string[] | undefined;
  /** Known once the request has ended. */
  requestTrailers: HeaderMap | undefined;
  responseStarted = false;
  finished = false;
  /** State of filters, by their index. */
  readonly slots: unknown[] = [];
  target: RequestTarget | undefined;
  /** Redirects of upstreams that this request has followed. */
  redirects: RedirectHistory | undefined;
  /** The next filter to see the request; the one before it is where the request is stopped. */
  #filter = 0;
  /** Body that waits for a stopped filter. */
  #held: Buffer[] | undefined;
  #heldBytes = 0;
  /** The end came and has not reached the target. */
  #endPending = false;
  /** Filters switched off for this request, by index; undefined = none. */
  #off: Uint8Array | undefined;
  #targetFull = false;
  #holdFull = false;
  #clientSlow = false;
  #responseHeld = false;

  constructor(manager: ConnectionManager, connection: ConnectionInfo, sender: ResponseSender) {
    super(manager, connection);
    this.plan = manager.plan;
    this.sender = sender;
  }

  #decorate(): void {
    this.info.operation = decorateRequest(this.headers, this.connection.direction === 'outbound', this.route);
  }

  /** An answer of `status` sent the request elsewhere: it runs, with its whole body, through all filters again. */
  restart(status: number, body: readonly Buffer[]): void {
    const before = this.info;
    before.responseCode = status;
    before.responseDetails = 'internal_redirect';
    this.#measure();
    // What filters began for it ends with it: they see another request now.
    this.manager.completeFilters(this);
    this.info = before.again(this.manager.deps.clock.now());
    this.manager.note(before);
    this.onRoute();
    this.target = undefined;
    this.#filter = 0;
    this.slots.length = 0;
    const asked = this.path;
    if (!this.manager.normalize(this)) return;
    if (this.path !== asked) this.retarget(this.scheme, this.authority, this.path, this.method);
    if (this.manager.tracer) this.#decorate();
    if (this.body !== 'none') {
      this.#held = [...body];
      this.#endPending = true;
      for (const chunk of body) this.info.bytesReceived += chunk.length;
    }
    this.continueRequest();
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
    this.protocol = info.protocol;
    stream.method = info.method;
    stream.path = info.target;
    stream.protocol = info.protocol;
    stream.requestHeaders = headers;
    if (endStream) stream.requestEnd = stream.startTime;
    this.manager.counters.rqActive.value += 1;
    this.manager.counters.rqTotal.value += 1;
    if (!this.manager.admit(this)) return;
    stream.authority = this.authority;
    stream.path = this.path;
    stream.scheme = this.scheme;
    stream.logType = LOG_TYPE.downstreamEnd;
    this.grpc = isGrpcType(headers.get(H.contentType));
    // Filters that change the request do not change its route, unless they ask for that.
    const { route } = this;
    const { tracer } = this.manager;
    if (tracer) {
      this.traceReason = tracer.start(headers, stream, route?.tracing);
      this.#decorate();
    }
    this.manager.watch(this);
    this.touch();
    this.continueRequest();
  }

  onRequestData(bytes: Buffer, start: number, end: number): void {
    this.info.bytesReceived += end - start;
    this.touch();
    if (this.finished) return;
    if (this.plan.requestHooks.length > 0) this.passRequestData(-1, bytes, start, end);
    else if (this.target) this.target.onRequestData(bytes, start, end);
    else this.#hold(bytes, start, end);
  }

  onRequestEnd(trailers?: HeaderMap): void {
    this.requestEnded = true;
    this.requestTrailers = trailers;
    this.info.requestEnd = this.manager.deps.clock.now();
    if (!this.finished) this.#passRequestEnd(-1);
  }

  onRequestReset(reason: RequestReset, details: string): void {
    if (this.finished) return;
    const { info } = this;
    info.flags |= RESET_FLAGS[reason];
    info.responseDetails = details;
    // The codec answers a malformed body with the reason phrase.
    if (!this.responseStarted) {
      info.responseCode = reason === 'protocol' ? 400 : 0;
      if (reason === 'protocol') info.bytesSent = BAD_REQUEST_BYTES;
    }
    if (reason !== 'protocol') this.manager.counters.rqRxReset.value += 1;
    this.target?.onCancel();
    this.#complete();
  }

  onResponseBacklog(full: boolean): void {
    this.#clientSlow = full;
    this.target?.onResponseBacklog(full || this.#responseHeld);
  }

  // --- filters

  /** Runs the filters from where they stopped. */
  continueRequest(): void {
    const { filters } = this.plan;
    const from = this.#filter - 1;
    if (from < 0) this.#off = this.plan.switchedOff(this.perFilter);
    while (!this.finished && this.#filter < filters.length) {
      const index = this.#filter;
      this.#filter = index + 1;
      if (this.#off?.[index]) continue;
      if (filters[index]!.onRequest?.(this, index) !== 'stop') continue;
      if (this.#held || this.#endPending) this.#release(from);
      return;
    }
    // The last filter ends the chain: it is missing, or switched off.
    if (!this.target) this.localReply({ status: 500, body: '', flags: 0, details: 'no_terminal_filter' });
  }

  /** The terminal filter took the request. */
  attach(target: RequestTarget): void {
    this.target = target;
  }

  /** Body goes on to the filters behind `after` that have seen the head, then to the target. */
  passRequestData(after: number, bytes: Buffer, start: number, end: number): void {
    const { filters, requestHooks } = this.plan;
    for (const index of requestHooks) {
      if (index <= after) continue;
      if (index >= this.#filter) break;
      if (this.#off?.[index]) continue;
      const verdict = filters[index]!.onRequestData?.(this, bytes, start, end, index) ?? 'continue';
      if (this.finished || verdict === 'taken') return;
      if (verdict === 'continue') continue;
      this.#hold(bytes, start, end);
      return;
    }
    if (this.target) this.target.onRequestData(bytes, start, end);
    else this.#hold(bytes, start, end);
  }

  #passRequestEnd(after: number): void {
    const { filters, requestHooks } = this.plan;
    this.#endPending = true;
    for (const index of requestHooks) {
      if (index <= after) continue;
      if (index >= this.#filter) break;
      if (this.#off?.[index]) continue;
      if (filters[index]!.onRequestEnd?.(this, this.requestTrailers, index) === 'stop' || this.finished) return;
    }
    if (this.#held || !this.target) return;
    this.#endPending = false;
    this.target.onRequestEnd(this.requestTrailers);
  }

  /** A filter that does not look at the body waits with the client's socket: what comes is one read at most. */
  #hold(bytes: Buffer, start: number, end: number): void {
    this.#held ??= [];
    this.#held.push(Buffer.from(bytes.subarray(start, end)));
    this.#heldBytes += end - start;
    const waiting = this.plan.filters[this.#filter - 1];
    if (waiting?.onRequestData) {
      if (this.#heldBytes > MAX_FILTER_BODY_BYTES) this.refuseBody();
      return;
    }
    this.#holdFull = true;
    this.sender.pauseRequest();
  }

  /** The target takes no more body for now. */
  pauseRequest(): void {
    this.#targetFull = true;
    this.sender.pauseRequest();
  }

  resumeRequest(): void {
    this.#targetFull = false;
    if (!this.#holdFull) this.sender.resumeRequest();
  }

  /** 413: more body than a filter may keep. */
  refuseBody(): void {
    this.manager.counters.rqTooLarge.value += 1;
    this.localReply({ status: 413, body: 'Payload Too Large', flags: 0, details: 'request_payload_too_large' });
  }

  /** The request went on from filter `after`: so does the body it kept waiting. */
  #release(after: number): void {
    const held = this.#held;
    this.#held = undefined;
    this.#heldBytes = 0;
    if (held) for (const chunk of held) if (!this.finished) this.passRequestData(after, chunk, 0, chunk.length);
    if (this.finished) return;
    if (this.#held) return;
    this.#holdFull = false;
    if (this.#endPending) this.#passRequestEnd(after);
    else if (!this.#targetFull) this.sender.resumeRequest();
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
    const { filters } = this.plan;
    for (let i = Math.min(this.#filter, filters.length) - 1; i >= 0; i--)
      if (!this.#off?.[i]) filters[i]!.onResponse?.(this, headers, i, endStream);
    if (manager.tracer) decorateResponse(headers, this.connection.direction === 'outbound', info.operation);
    const now = manager.deps.clock.now();
    info.responseBegin = now;
    headers.setIfAbsent(H.date, httpDate(now));
    manager.finishResponseHeaders(this, headers);
    if (headers.writtenSize() > MAX_EDITED_HEAD_BYTES) {
      // Edits may repeat what others sent many times over; half a head must never leave.
      info.flags |= FLAG.UPE;
      info.responseDetails = 'response_headers_too_large';
      this.abortResponse('protocol-error');
      return;
    }
    this.sender.sendHead(status, headers, endStream);
    if (endStream) this.#answered();
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    if (this.finished) return;
    if (this.plan.responseHooks.length > 0) this.passResponseData(this.#filter, bytes, start, end);
    else this.#writeData(bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    if (!this.finished) this.passResponseEnd(this.#filter, trailers);
  }

  /** Response body goes on to the filters before `before`, then to the client. */
  passResponseData(before: number, bytes: Buffer, start: number, end: number): void {
    const { filters, responseHooks } = this.plan;
    for (const index of responseHooks) {
      if (index >= before || this.#off?.[index]) continue;
      const verdict = filters[index]!.onResponseData?.(this, bytes, start, end, index);
      if (verdict === 'taken' || this.finished) return;
    }
    this.#writeData(bytes, start, end);
  }

  passResponseEnd(before: number, trailers: HeaderMap | undefined): void {
    const { filters, responseHooks } = this.plan;
    for (const index of responseHooks) {
      if (index >= before || this.#off?.[index]) continue;
      const verdict = filters[index]!.onResponseEnd?.(this, trailers, index);
      if (verdict === 'taken' || this.finished) return;
    }
    if (this.finished) return;
    this.info.responseTrailers = trailers;
    this.sender.sendEnd(trailers);
    this.#answered();
  }

  /** A filter that keeps the response stops its source, and lets it go on. */
  holdResponse(hold: boolean): void {
    if (this.#responseHeld === hold) return;
    this.#responseHeld = hold;
    this.target?.onResponseBacklog(hold || this.#clientSlow);
  }

  #writeData(bytes: Buffer, start: number, end: number): void {
    this.info.bytesSent += end - start;
    this.touch();
    this.sender.sendData(bytes, start, end);
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
    const { status, body } = localReplyHead(this, reply, headers);
    // As in Envoy: after a bad request, and before the rest of one that still comes.
    const disorder = status === 400 && !this.manager.settings.keepAfterInvalid;
    if (disorder || !this.requestEnded) this.sender.endConnection?.();
    const hasBody = body.length > 0 && this.method !== 'HEAD';
    this.sendHead(status, headers, !hasBody);
    if (!hasBody) return;
    this.sendData(body, 0, body.length);
    this.sendEnd();
  }

  /** The answer is whole; what is left of the request is not read. */
  #answered(): void {
    if (!this.requestEnded && !this.finished) this.manager.countEarlyAnswer();
    this.#complete();
  }

  /** How long it took, and what it was on the wire. */
  #measure(): void {
    const { info, sender } = this;
    info.duration = this.manager.deps.clock.now() - info.startTime;
    info.wireBytesReceived = sender.wireBytesReceived();
    info.wireBytesSent = sender.wireBytesSent();
    info.headBytesReceived = sender.headBytesReceived();
    info.headBytesSent = sender.headBytesSent();
    info.fieldBytesReceived = sender.fieldBytesReceived();
    info.fieldBytesSent = sender.fieldBytesSent();
  }

  #complete(): void {
    if (this.finished) return;
    this.finished = true;
    // It may be large, and the stream may live on (newest.ts).
    this.#held = undefined;
    this.endTimers();
    this.#measure();
    this.manager.complete(this);
    this.#giveBack();
    newest.stream = this;
  }

  /** Pooled header maps serve the next message: who still looks at this stream sees none. */
  #giveBack(): void {
    const { info } = this;
    if (info.requestHeaders?.pooled) {
      giveHeaders(info.requestHeaders);
      info.requestHeaders = undefined;
      this.headers = noHeaders();
    }
    if (info.responseHeaders?.pooled) {
      giveHeaders(info.responseHeaders);
      info.responseHeaders = undefined;
    }
    if (this.requestTrailers?.pooled) {
      giveHeaders(this.requestTrailers);
      this.requestTrailers = undefined;
    }
    if (info.responseTrailers?.pooled) {
      giveHeaders(info.responseTrailers);
      info.responseTrailers = undefined;
    }
  }
}
