// One forwarded request: host, connection, tries, time-outs and the answer. Made by the router filter.
import type { Cluster } from '../cluster/cluster.ts';
import type { Hash64 } from '../cluster/hash64.ts';
import type { Host } from '../cluster/host.ts';
import {
  grpcHttpStatus,
  type LbContext,
  type MetadataMatch,
  type Outcome,
  type RoutingPriority,
} from '../cluster/lb-context.ts';
import type { SocketAddr } from '../config/address.ts';
import type { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream, RequestTarget } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import { MAX_RETRY_BODY_BYTES } from '../limits.ts';
import type { ClusterChoice, ForwardSettings } from '../route/action.ts';
import { applyEdits } from '../route/header-edits.ts';
import { shouldRetry, type TryOutcome } from '../route/retry.ts';
import type { CompiledRoute } from '../route/route-table.ts';
import type {
  PoolFailure,
  PoolWaiter,
  ResponseReceiver,
  UpstreamExchange,
  UpstreamReset,
} from '../upstream/exchange.ts';

export interface RouterOptions {
  /** Do not add x-envoy-* headers. */
  readonly suppressEnvoyHeaders: boolean;
}

/** Envoy's words for an upstream's end without an answer. */
const RESETS: Readonly<
  Record<UpstreamReset, { readonly text: string; readonly flag: number; readonly details: string }>
> = {
  'connection-termination': { text: 'connection termination', flag: FLAG.UC, details: 'connection_termination' },
  'remote-reset': { text: 'remote reset', flag: FLAG.UR, details: 'remote_reset' },
  'remote-refused-stream-reset': {
    text: 'remote refused stream reset',
    flag: FLAG.UR,
    details: 'remote_refused_stream_reset',
  },
  'protocol-error': { text: 'protocol error', flag: FLAG.UPE, details: 'protocol_error' },
  overflow: { text: 'overflow', flag: FLAG.UO, details: 'overflow' },
};

export class RouterExchange implements RequestTarget, PoolWaiter, ResponseReceiver, LbContext {
  // What the load balancer reads.
  readonly hash: Hash64 | undefined = undefined;
  readonly metadataMatch: MetadataMatch | undefined = undefined;
  readonly priority: RoutingPriority = 'default';
  avoid: ((host: Host) => boolean) | undefined;
  readonly attempts: number;
  readonly #stream: HttpStream;
  readonly #route: CompiledRoute;
  readonly #action: ForwardSettings;
  readonly #choice: ClusterChoice;
  readonly #cluster: Cluster;
  readonly #options: RouterOptions;
  #host: Host | undefined;
  #exchange: UpstreamExchange | undefined;
  #leaveQueue: (() => void) | undefined;
  #tried: Set<Host> | undefined;
  #attempt = 0;
  #reused = false;
  #freeRetryUsed = false;
  /** Body kept for another try; undefined = too large or not needed. */
  #kept: Buffer[] | undefined = [];
  #keptBytes = 0;
  #done = false;
  #retryPending = false;
  #answering = false;
  #holdsRequest = false;
  #holdsRetry = false;
  #sentAt = 0;
  #cancelTry: (() => void) | undefined;
  #backlogged = false;
  /** Told to the caller in the response; empty = nothing. */
  #ownDecorator = '';

  constructor(
    stream: HttpStream,
    route: CompiledRoute,
    action: ForwardSettings,
    choice: ClusterChoice,
    cluster: Cluster,
    options: RouterOptions,
  ) {
    this.#stream = stream;
    this.#route = route;
    this.#action = action;
    this.#choice = choice;
    this.#cluster = cluster;
    this.#options = options;
    this.attempts = action.retry?.hostAttempts ?? 0;
  }

  get destination(): SocketAddr | undefined {
    return this.#stream.connection.local;
  }

  get requestHeaders(): HeaderMap {
    return this.#stream.headers;
  }

  begin(): void {
    const stream = this.#stream;
    const cluster = this.#cluster;
    if (cluster.settings.protocol === 'http2') {
      stream.localReply({
        status: 503,
        body: 'upstream speaks HTTP/2 only, which this proxy does not originate',
        flags: FLAG.UPE,
        details: 'http2_upstream_not_supported',
      });
      return;
    }
    this.#prepareHeaders();
    if (!cluster.breakers.requests.tryEnter()) {
      cluster.counters.rqPendingOverflow.value += 1;
      this.#overflow();
      return;
    }
    this.#holdsRequest = true;
    cluster.counters.rqTotal.value += 1;
    cluster.counters.rqActive.value += 1;
    const { timeoutMs, maxDurationMs } = this.#action;
    if (timeoutMs > 0) stream.after(timeoutMs, () => this.#onTimeout('upstream_response_timeout'));
    if (maxDurationMs > 0) stream.after(maxDurationMs, () => this.#onMaxDuration());
    // Without a connection yet the body waits in the client's socket.
    if (stream.body !== 'none' || stream.upgrade !== '') stream.pauseRequest();
    this.#try();
    if (!this.#done) stream.attach(this);
  }

  #prepareHeaders(): void {
    const stream = this.#stream;
    const action = this.#action;
    const { headers } = stream;
    applyEdits(this.#choice.requestEdits, headers, stream.info);
    for (const edits of this.#route.requestEdits) applyEdits(edits, headers, stream.info);
    const rewritten = action.rewritePath?.(stream.path);
    if (rewritten !== undefined) {
      if (!this.#options.suppressEnvoyHeaders) headers.set(H.originalPath, stream.path);
      stream.path = rewritten;
    }
    this.#rewriteHost();
    this.#decorate(headers);
    if (action.timeoutMs > 0 && !this.#options.suppressEnvoyHeaders)
      headers.set(H.expectedTimeout, String(Math.round(action.timeoutMs)));
    else headers.remove(H.expectedTimeout);
  }

  /** Outbound proxies tell the next one the operation; an inbound one consumes that, or tells a caller outside the mesh its own. */
  #decorate(headers: HeaderMap): void {
    const { decorator, decoratorPropagates } = this.#route;
    if (this.#stream.connection.direction === 'inbound') {
      this.#ownDecorator = headers.get(H.decorator) === undefined && decoratorPropagates ? decorator : '';
      headers.remove(H.decorator);
    } else if (decorator !== '' && decoratorPropagates) headers.set(H.decorator, decorator);
  }

  #rewriteHost(): void {
    const stream = this.#stream;
    const action = this.#action;
    const authority =
      this.#choice.hostRewrite ||
      action.hostRewrite ||
      (action.hostRewriteHeader ? stream.headers.get(action.hostRewriteHeader) : undefined) ||
      this.#choice.requestEdits.authority?.(stream.info) ||
      this.#route.requestEdits.find((edits) => edits.authority)?.authority?.(stream.info);
    if (authority) this.#setAuthority(authority);
  }

  #setAuthority(authority: string): void {
    const { headers } = this.#stream;
    if (this.#action.appendForwardedHost) {
      const before = headers.getAll(H.forwardedHost);
      headers.set(H.forwardedHost, before ? `${before}, ${this.#stream.authority}` : this.#stream.authority);
    }
    this.#stream.authority = authority;
    headers.set(H.host, authority);
  }

  // --- one try

  #try(): void {
    const cluster = this.#cluster;
    const stream = this.#stream;
    const retry = this.#action.retry;
    this.#attempt += 1;
    stream.info.attempts = this.#attempt;
    if (this.#route.virtualHost.includeAttempts) stream.headers.set(H.attemptCount, String(this.#attempt));
    const tried = this.#tried;
    if (tried && retry?.avoidPrevious) this.avoid ??= (candidate) => tried.has(candidate);
    const host = cluster.pick(this);
    if (!host) {
      this.#finish();
      stream.localReply({ status: 503, body: 'no healthy upstream', flags: FLAG.UH, details: 'no_healthy_upstream' });
      return;
    }
    this.#host = host;
    if (this.#action.autoHostRewrite && host.spec.hostname !== '') this.#setAuthority(host.spec.hostname);
    host.active += 1;
    host.rqTotal += 1;
    if (retry) {
      this.#tried ??= new Set();
      this.#tried.add(host);
    }
    stream.info.upstreamHost = host.spec.address;
    if (retry && retry.perTryTimeoutMs > 0)
      this.#cancelTry = stream.after(retry.perTryTimeoutMs, () => this.#onPerTryTimeout());
    const leave = cluster.pool(host, stream.upstreamAlpn, stream.authority).request(this);
    if (!this.#exchange && !this.#done) this.#leaveQueue = leave;
  }

  onReady(exchange: UpstreamExchange, reused: boolean): void {
    const stream = this.#stream;
    const { info } = stream;
    this.#leaveQueue = undefined;
    this.#exchange = exchange;
    this.#reused = reused;
    info.upstreamLocal = exchange.transport.local;
    info.upstreamTls = exchange.transport.tls;
    this.#sentAt = stream.manager.deps.clock.now();
    this.#report('connected');
    exchange.begin(stream, this);
    const kept = this.#kept;
    if (kept) for (const chunk of kept) exchange.sendData(chunk, 0, chunk.length);
    if (stream.body !== 'none' || stream.upgrade !== '') {
      // Before `attach` the stream itself passes the body and its end on.
      if (stream.requestEnded && stream.target === this) exchange.sendEnd(stream.requestTrailers);
      stream.resumeRequest();
    }
  }

  onFailure(failure: PoolFailure): void {
    const stream = this.#stream;
    this.#leaveQueue = undefined;
    // An overflow is the cluster's limit, not the host's fault.
    if (failure.kind !== 'overflow') this.#report(failure.kind);
    this.#leaveHost('error');
    if (failure.kind === 'overflow') {
      this.#overflow();
      return;
    }
    const reason = failure.kind === 'connect-failure' ? failure.reason : '';
    stream.info.upstreamFailure = reason;
    if (this.#retry({ kind: 'connect-failure' })) return;
    const text =
      failure.kind === 'connect-timeout'
        ? 'connection timeout'
        : `remote connection failure, transport failure reason: ${reason}`;
    const details =
      failure.kind === 'connect-timeout'
        ? 'upstream_reset_before_response_started{connection_timeout}'
        : `upstream_reset_before_response_started{remote_connection_failure|${reason}}`;
    this.#failed(text, FLAG.UF, details);
  }

  #overflow(): void {
    this.#finish();
    this.#stream.localReply({
      status: 503,
      body: 'upstream connect error or disconnect/reset before headers. reset reason: overflow',
      flags: FLAG.UO,
      details: 'upstream_reset_before_response_started{overflow}',
      edit: (headers) => headers.set(H.overloaded, 'true'),
    });
  }

  /** Answers with Envoy's text for a request that reached no response. */
  #failed(reason: string, flag: number, details: string): void {
    const retried = this.#attempt > 1 && this.#action.retry !== undefined;
    const limit = retried && this.#attempt > (this.#action.retry?.retries ?? 0);
    if (limit) this.#cluster.counters.rqRetryLimit.value += 1;
    const verb = retried ? 'retried and the latest reset reason' : 'reset reason';
    this.#finish();
    this.#stream.localReply({
      status: 503,
      body: `upstream connect error or disconnect/reset before headers. ${verb}: ${reason}`,
      flags: flag | (limit ? FLAG.URX : 0),
      details,
    });
  }

  // --- request body

  onRequestData(bytes: Buffer, start: number, end: number): void {
    if (this.#done) return;
    if (this.#kept) this.#keep(bytes, start, end);
    this.#exchange?.sendData(bytes, start, end);
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    this.#keptBytes += end - start;
    const needed = this.#action.retry !== undefined || !this.#exchange || this.#reused;
    if (!needed || this.#keptBytes > MAX_RETRY_BODY_BYTES) {
      // What waits for a connection must not be lost: the codec is paused, so this is one read at most.
      if (this.#exchange) this.#kept = undefined;
      else this.#kept?.push(Buffer.from(bytes.subarray(start, end)));
      return;
    }
    this.#kept?.push(Buffer.from(bytes.subarray(start, end)));
  }

  onRequestEnd(trailers?: HeaderMap): void {
    if (!this.#done) this.#exchange?.sendEnd(trailers);
  }

  onRequestBacklog(full: boolean): void {
    if (full) this.#stream.pauseRequest();
    else this.#stream.resumeRequest();
  }

  onResponseBacklog(full: boolean): void {
    this.#backlogged = full;
    if (full) this.#exchange?.pauseResponse();
    else this.#exchange?.resumeResponse();
  }

  onCancel(): void {
    const exchange = this.#exchange;
    if (!this.#done && exchange) this.#cluster.counters.rqTxReset.value += 1;
    this.#finish();
  }

  // --- response

  onResponseInformational(status: number, headers: HeaderMap): void {
    this.#stream.sendInformational(status, headers);
  }

  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void {
    const stream = this.#stream;
    this.#cancelTry?.();
    // A finished exchange has given its connection back already.
    if (endStream) this.#exchange = undefined;
    const grpcStatus = headers.get(H.grpcStatus);
    this.#report(stream.grpc && grpcStatus !== undefined ? grpcHttpStatus(Number(grpcStatus)) : status);
    // Another try takes this connection away: it cannot be read on.
    if (this.#retry({ kind: 'status', status, grpcStatus })) return;
    if (this.#attempt > 1 && status < 500) this.#cluster.counters.rqRetrySuccess.value += 1;
    this.#countStatus(status);
    const { info } = stream;
    info.responseDetails = 'via_upstream';
    const now = stream.manager.deps.clock.now();
    info.firstUpstreamByte = now - info.startTime;
    if (!this.#options.suppressEnvoyHeaders)
      headers.set(H.serviceTime, String(Math.max(0, Math.round(now - this.#sentAt))));
    if (this.#ownDecorator !== '') headers.set(H.decorator, this.#ownDecorator);
    else if (stream.connection.direction === 'outbound') headers.remove(H.decorator);
    if (this.#route.virtualHost.includeAttemptsInResponse) headers.set(H.attemptCount, String(this.#attempt));
    applyEdits(this.#choice.responseEdits, headers, info);
    for (const edits of this.#route.responseEdits) applyEdits(edits, headers, info);
    this.#answering = true;
    if (endStream) this.#finish();
    stream.sendHead(status, headers, endStream);
    if (!endStream && this.#backlogged) this.#exchange?.pauseResponse();
  }

  onResponseData(bytes: Buffer, start: number, end: number): void {
    this.#stream.sendData(bytes, start, end);
  }

  onResponseEnd(trailers?: HeaderMap): void {
    this.#exchange = undefined;
    this.#finish();
    this.#stream.sendEnd(trailers);
  }

  onUpstreamReset(reason: UpstreamReset): void {
    const stream = this.#stream;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#cancelTry?.();
    this.#cluster.counters.rqRxReset.value += 1;
    if (this.#answering) {
      this.#report('reset');
      stream.info.flags |= RESETS[reason].flag;
      stream.info.responseDetails = `upstream_reset_after_response_started{${RESETS[reason].details}}`;
      this.#finish();
      stream.abortResponse(reason === 'protocol-error' ? 'protocol-error' : 'local-reset');
      return;
    }
    const host = this.#host;
    this.#leaveHost('error');
    if (exchange && this.#diedIdle(exchange)) {
      this.#try();
      return;
    }
    if (reason === 'overflow') {
      this.#overflow();
      return;
    }
    if (host) this.#cluster.onOutcome(host, 'reset');
    if (reason === 'protocol-error') this.#cluster.counters.protocolError.value += 1;
    if (this.#retry({ kind: 'reset', requestSent: true, refused: reason === 'remote-refused-stream-reset' })) return;
    if (reason === 'protocol-error') {
      this.#finish();
      stream.localReply({
        status: 502,
        body: 'upstream connect error or disconnect/reset before headers. reset reason: protocol error',
        flags: FLAG.UPE,
        details: 'upstream_reset_before_response_started{protocol_error}',
      });
      return;
    }
    const { text, flag, details } = RESETS[reason];
    this.#failed(text, flag, `upstream_reset_before_response_started{${details}}`);
  }

  /** A kept-alive connection that the server closed while we wrote to it: nothing was answered, so a repeatable request is sent again once. */
  #diedIdle(exchange: UpstreamExchange): boolean {
    const { method } = this.#stream;
    if (!this.#reused || this.#freeRetryUsed || !exchange.untouched || this.#kept === undefined) return false;
    if (
      method !== 'GET' &&
      method !== 'HEAD' &&
      method !== 'PUT' &&
      method !== 'DELETE' &&
      method !== 'OPTIONS' &&
      method !== 'TRACE'
    )
      return false;
    this.#freeRetryUsed = true;
    this.#attempt -= 1;
    return true;
  }

  // --- time and retries

  #onTimeout(details: string): void {
    if (this.#done) return;
    this.#cluster.counters.rqTimeout.value += 1;
    if (this.#host) {
      this.#host.rqTimeout += 1;
      // A body that comes slowly after a good head was judged by its status.
      if (!this.#answering) this.#report('request-timeout');
    }
    this.#dropConnection();
    this.#finish();
    this.#stream.localReply({ status: 504, body: 'upstream request timeout', flags: FLAG.UT, details });
  }

  #onPerTryTimeout(): void {
    if (this.#done || this.#answering) return;
    this.#cluster.counters.rqPerTryTimeout.value += 1;
    this.#report('request-timeout');
    this.#dropConnection();
    this.#leaveHost('error');
    if (this.#retry({ kind: 'per-try-timeout' })) return;
    this.#onTimeout('upstream_per_try_timeout');
  }

  #onMaxDuration(): void {
    if (this.#done) return;
    this.#dropConnection();
    this.#finish();
    this.#stream.localReply({
      status: 504,
      body: 'upstream max stream duration reached',
      flags: FLAG.UMSDR,
      details: 'upstream_max_stream_duration_reached',
    });
  }

  #retry(outcome: TryOutcome): boolean {
    const retry = this.#action.retry;
    const stream = this.#stream;
    if (!retry || this.#done || this.#answering || stream.finished) return false;
    if (!shouldRetry(retry, outcome)) return false;
    if (this.#attempt > retry.retries) {
      if (outcome.kind === 'status' && retry.retries > 0) stream.info.flags |= FLAG.URX;
      return false;
    }
    if (this.#kept === undefined) return false;
    const { breakers, counters } = this.#cluster;
    if (!breakers.retries.tryEnter()) {
      counters.rqRetryOverflow.value += 1;
      return false;
    }
    counters.rqRetry.value += 1;
    this.#dropConnection();
    this.#leaveHost('error');
    this.#retryPending = true;
    this.#holdsRetry = true;
    const base = Math.min(retry.baseMs * 2 ** (this.#attempt - 1), retry.maxMs);
    stream.after(base * stream.manager.deps.random(), () => {
      if (this.#done || !this.#retryPending) return;
      this.#retryPending = false;
      this.#releaseRetry();
      this.#try();
    });
    return true;
  }

  #releaseRetry(): void {
    if (!this.#holdsRetry) return;
    this.#holdsRetry = false;
    this.#cluster.breakers.retries.leave();
  }

  #dropConnection(): void {
    this.#leaveQueue?.();
    this.#leaveQueue = undefined;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.cancel();
  }

  #report(outcome: Outcome): void {
    if (this.#host) this.#cluster.onOutcome(this.#host, outcome);
  }

  #countStatus(status: number): void {
    const digit = Math.floor(status / 100);
    if (digit >= 1 && digit <= 5) this.#cluster.counters.rqClasses[digit - 1]!.value += 1;
    const host = this.#host;
    if (!host) return;
    if (status >= 500) host.rqError += 1;
    else host.rqSuccess += 1;
  }

  #leaveHost(result: 'error' | 'done'): void {
    this.#cancelTry?.();
    this.#cancelTry = undefined;
    const host = this.#host;
    if (!host) return;
    this.#host = undefined;
    host.active -= 1;
    if (result === 'error') host.rqError += 1;
  }

  /** Gives back everything; safe to call twice. */
  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#retryPending = false;
    this.#releaseRetry();
    this.#dropConnection();
    this.#leaveHost('done');
    this.#kept = undefined;
    if (!this.#holdsRequest) return;
    const { breakers, counters } = this.#cluster;
    breakers.requests.leave();
    counters.rqActive.value -= 1;
    counters.rqCompleted.value += 1;
  }
}
