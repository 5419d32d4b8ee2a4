// One forwarded request: host, connection, tries, time-outs and the answer. Made by the router filter. What it does to the
// request is router-request.ts, which answers are tried again router-retry.ts, copies router-mirror.ts.
import { LOG_NEEDS } from '../access-log/needs.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { RARE } from '../cluster/counters.ts';
import type { Host } from '../cluster/host.ts';
import { grpcHttpStatus, type Outcome } from '../cluster/lb-context.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { LocalReply } from '../http/local-reply.ts';
import { H } from '../http/names.ts';
import type { HttpStream, RequestTarget } from '../http/stream.ts';
import { MAX_STALE_CONNECTIONS } from '../limits.ts';
import type { ClusterChoice, ForwardSettings } from '../route/action.ts';
import type { CompiledRoute } from '../route/compiled.ts';
import type { TryFailure } from '../route/retry.ts';
import type {
  PoolFailure,
  PoolWaiter,
  ResponseReceiver,
  UpstreamExchange,
  UpstreamReset,
  WireCount,
} from '../upstream/exchange.ts';
import { KeptBody } from './router-body.ts';
import { RequestBooks } from './router-books.ts';
import { RouterLbContext } from './router-lb-context.ts';
import { type ClusterFinder, type MirrorExchange, startMirrors } from './router-mirror.ts';
import { followRedirect } from './router-redirect.ts';
import {
  CONNECT_TIMEOUT,
  connectFailure,
  droppedReply,
  durationReply,
  type Failure,
  failedReply,
  HEAD_TOO_LARGE,
  HIDE_REASON,
  maintenanceReply,
  NO_HOST,
  overloaded,
  RESETS,
  timeoutReply,
} from './router-replies.ts';
import {
  finalizeRequest,
  isSteered,
  isTooLarge,
  type RouterOptions,
  removeSteering,
  STEER,
  setAuthority,
  type Timeouts,
  timeoutsOf,
  writeExpectedTimeout,
} from './router-request.ts';
import { type RetryDecision, RetryState } from './router-retry.ts';
import { countRetried } from './router-stats.ts';
import { type TryTimerOwner, TryTimers } from './router-timers.ts';

export class RouterExchange
  extends RouterLbContext
  implements RequestTarget, PoolWaiter, ResponseReceiver, TryTimerOwner
{
  readonly #route: CompiledRoute;
  readonly #cluster: Cluster;
  readonly #clusters: ClusterFinder;
  readonly #options: RouterOptions;
  readonly #books: RequestBooks;
  readonly #body: KeptBody;
  #timeouts!: Timeouts;
  #retries: RetryState | undefined;
  #mirrors: MirrorExchange[] | undefined;
  #timers: TryTimers | undefined;
  #host: Host | undefined;
  #exchange: UpstreamExchange | undefined;
  #leaveQueue: (() => void) | undefined;
  #attempt = 0;
  #reused = false;
  #staleConnections = 0;
  #done = false;
  #retryPending = false;
  #answering = false;
  #holdsRequest = false;
  /** The try is among the active requests of its cluster. */
  #counted = false;
  #holdsRetry = false;
  /** The end of the body came. */
  #ended = false;
  #trailers: HeaderMap | undefined;
  #backlogged = false;

  constructor(
    stream: HttpStream,
    route: CompiledRoute,
    action: ForwardSettings,
    choice: ClusterChoice,
    cluster: Cluster,
    clusters: ClusterFinder,
    options: RouterOptions,
  ) {
    super(stream, action, choice);
    this.#route = route;
    this.#cluster = cluster;
    this.#clusters = clusters;
    this.#options = options;
    this.#books = new RequestBooks(stream, route, cluster, options.dynamicStats);
    this.#body = new KeptBody(route.bufferLimit);
  }

  begin(choice: ClusterChoice): void {
    const stream = this.stream;
    const cluster = this.#cluster;
    this.#prepare(choice);
    if (isTooLarge(stream, this.#route, this.action, choice)) {
      this.#answer(HEAD_TOO_LARGE);
      return;
    }
    if (cluster.inMaintenance()) {
      this.#answer(maintenanceReply(this.#options.suppressEnvoyHeaders));
      return;
    }
    const drop = cluster.dropOverload();
    if (drop !== 'none') {
      this.#answer(droppedReply(drop === 'all', this.#options.suppressEnvoyHeaders));
      return;
    }
    if (!cluster.breakersFor(this.priority).requests.tryEnter()) {
      cluster.counters.rqActiveOverflow.value += 1;
      this.#overflow();
      return;
    }
    this.#holdsRequest = true;
    // Without a connection yet the body waits in the client's socket.
    if (stream.body !== 'none' || stream.upgrade !== '') stream.pauseRequest();
    else this.#requestComplete();
    if (this.action.mirrors.length > 0 && stream.upgrade === '')
      this.#mirrors = startMirrors(stream, this.action.mirrors, this.#clusters, this.#timeouts.global);
    this.#try();
    if (!this.#done) stream.attach(this);
  }

  #prepare(choice: ClusterChoice): void {
    const stream = this.stream;
    const { headers } = stream;
    const action = this.action;
    const steered = isSteered(headers);
    this.#timeouts = timeoutsOf(stream, action, this.#options, steered, this.#cluster.settings.http.maxStreamMs);
    this.#timers = TryTimers.create(stream, this.#timeouts, this);
    this.#retries = RetryState.create(action.retry, stream, steered);
    if (steered) {
      this.#books.altName = headers.get(STEER.altStat) ?? '';
      removeSteering(headers);
    }
    this.#books.classify();
    finalizeRequest(stream, this.#route, action, choice, this.#options);
    writeExpectedTimeout(stream, action, this.#options, this.#timeouts, 0);
    if (this.#retries) this.follow(this.#retries.settings);
  }

  // --- one try

  #try(): void {
    const cluster = this.#cluster;
    const stream = this.stream;
    this.#attempt += 1;
    stream.info.attempts = this.#attempt;
    if (this.#route.virtualHost.includeAttempts) stream.headers.set(H.attemptCount, String(this.#attempt));
    const { tracer } = stream.manager;
    if (tracer?.spawns) tracer.spawn(stream.headers, stream.info);
    const host = cluster.pick(this);
    if (!host) {
      this.#answer(NO_HOST);
      return;
    }
    this.#host = host;
    const { hostname } = host.spec;
    if (this.action.hostRewrite?.kind === 'auto' && hostname !== '')
      setAuthority(stream, this.action, hostname, this.#options);
    if (stream.manager.settings.schemeOfUpstream)
      stream.setScheme(cluster.socketFor(host).kind === 'tls' ? 'https' : 'http');
    host.beginRequest();
    this.noteHost(host, this.#attempt);
    if (this.#books.completeAt >= 0) this.#timers?.start();
    const pool = cluster.pool(
      host,
      stream.upstreamAlpn,
      cluster.nameFor(stream.headers, stream.authority),
      stream.upgrade === 'connect' && this.action.terminatesConnect ? 'tcp' : stream.protocol,
      this.priority,
      stream.connection.id,
      stream.connection,
    );
    if (!pool) {
      this.#answer(NO_HOST);
      return;
    }
    const leave = pool.request(this);
    if (!this.#exchange && !this.#done) this.#leaveQueue = leave;
  }

  /** Nothing came from upstream, and nothing will. */
  #answer(reply: LocalReply): void {
    const host = this.#host;
    this.#finish();
    this.#books.answered(reply.status, host, false);
    this.stream.localReply(reply);
  }

  onReady(exchange: UpstreamExchange, reused: boolean): void {
    const stream = this.stream;
    const { info } = stream;
    this.#leaveQueue = undefined;
    this.#exchange = exchange;
    this.#reused = reused;
    this.#books.started();
    this.#counted = true;
    if (this.#host) this.#host.rqTotal += 1;
    info.setUpstream(exchange.transport);
    info.upstreamProtocol = exchange.protocol;
    info.upstreamTxBegin = stream.manager.deps.clock.now();
    if (stream.body === 'none') info.upstreamTxEnd = info.upstreamTxBegin;
    this.#report('connected');
    exchange.begin(stream, this);
    const kept = this.#body.chunks;
    if (kept) for (const chunk of kept) exchange.sendData(chunk, 0, chunk.length);
    if (stream.body !== 'none' || stream.upgrade !== '') {
      if (this.#ended) exchange.sendEnd(this.#trailers);
      // What follows an upgrade is for a peer that agreed to it: to any other it would be one more request. HTTP/1 keeps it.
      if (stream.upgrade === '' || stream.protocol !== 'HTTP/2') stream.resumeRequest();
    }
  }

  onFailure(failure: PoolFailure): void {
    const stream = this.stream;
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
    if (this.#retryFailure('connect-failure')) return;
    if (failure.kind === 'connect-timeout') this.#failed(CONNECT_TIMEOUT);
    else this.#failed(connectFailure(reason, !stream.manager.deps.runtime.featureEnabled(HIDE_REASON, true)));
  }

  #overflow(): void {
    this.#failed(RESETS.overflow);
  }

  /** Answers with Envoy's text for a request that reached no response. */
  #failed(failure: Failure): void {
    const retried = this.#retries !== undefined && this.#retries.made > 0;
    const edit = (headers: HeaderMap): void => {
      this.#countAttempts(headers);
      if (failure === RESETS.overflow) overloaded(headers, this.#options.suppressEnvoyHeaders);
    };
    this.#answer(failedReply(failure, retried, edit));
  }

  get wire(): WireCount {
    return this.stream.info;
  }

  // --- request body

  onRequestData(bytes: Buffer, start: number, end: number): void {
    if (this.#done) return;
    const body = this.#body;
    const whole = body.chunks !== undefined;
    body.keep(bytes, start, end, this.#mayRepeat(), !this.#exchange);
    if (whole && body.chunks === undefined && (this.#retries || this.action.internalRedirect))
      this.#cluster.counters.rare.add(RARE.retryAbandoned);
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.onRequestData(bytes, start, end);
    this.#exchange?.sendData(bytes, start, end);
  }

  /** Something may ask for the body again. */
  #mayRepeat(): boolean {
    return this.#retries !== undefined || this.action.internalRedirect !== undefined || this.#reused;
  }

  onRequestEnd(trailers?: HeaderMap): void {
    if (this.#done) return;
    this.#ended = true;
    this.#trailers = trailers;
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.onRequestEnd(trailers);
    this.#exchange?.sendEnd(trailers);
    this.#requestComplete();
  }

  /** The whole request is there: from now on its time counts. */
  #requestComplete(): void {
    const books = this.#books;
    if (books.completeAt >= 0) return;
    const stream = this.stream;
    books.completeAt = stream.manager.deps.clock.now();
    if (this.#exchange && this.#ended) stream.info.upstreamTxEnd = books.completeAt;
    const { global } = this.#timeouts;
    if (global > 0) stream.after(global, () => this.#onTimeout());
    if (this.#host) this.#timers?.start();
  }

  onRequestBacklog(full: boolean): void {
    const { stream } = this;
    const { counters } = stream.manager;
    this.#cluster.counters.rare.add(full ? RARE.backedUp : RARE.drained);
    (full ? counters.flowPaused : counters.flowResumed).value += 1;
    if (full) stream.pauseRequest();
    else stream.resumeRequest();
  }

  onResponseBacklog(full: boolean): void {
    this.#backlogged = full;
    this.#cluster.counters.rare.add(full ? RARE.pausedReading : RARE.resumedReading);
    if (full) this.#exchange?.pauseResponse();
    else this.#exchange?.resumeResponse();
  }

  onCancel(): void {
    this.#finish();
  }

  // --- response

  onResponseInformational(status: number, headers: HeaderMap): void {
    this.stream.sendInformational(status, headers);
  }

  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void {
    const stream = this.stream;
    this.#timers?.answered();
    // A finished exchange has given its connection back already.
    if (endStream) this.#exchange = undefined;
    const grpcStatus = headers.get(H.grpcStatus);
    this.#report(stream.grpc && grpcStatus !== undefined ? grpcHttpStatus(Number(grpcStatus)) : status);
    // Another try takes this connection away: it cannot be read on.
    if (this.#retries && this.#retryStatus(this.#retries, status, headers)) return;
    const { internalRedirect } = this.action;
    if (internalRedirect?.codes.has(status) && this.#redirected(status, headers)) return;
    if (this.#attempt > 1 && status < 500) this.#books.retrySucceeded();
    this.#countStatus(status);
    const { info } = stream;
    info.responseDetails = 'via_upstream';
    const now = stream.manager.deps.clock.now();
    info.upstreamRxBegin = now;
    if (endStream) {
      info.upstreamRxEnd = now;
      this.#books.ended(now);
    }
    const { completeAt } = this.#books;
    if (completeAt >= 0 && !this.#options.suppressEnvoyHeaders)
      headers.set(H.serviceTime, String(Math.max(0, Math.round(now - completeAt))));
    this.#countAttempts(headers);
    if (this.cookies) for (const cookie of this.cookies) headers.add(H.setCookie, cookie);
    // Edits may name the status.
    stream.info.responseCode = status;
    stream.applyResponseEdits(headers);
    this.#answering = true;
    if (endStream) this.#finish();
    else if (status === 101 || (stream.upgrade === 'connect' && status < 300)) stream.resumeRequest();
    stream.sendHead(status, headers, endStream);
    if (!endStream && this.#backlogged) this.#exchange?.pauseResponse();
  }

  #countAttempts(headers: HeaderMap): void {
    if (this.#route.virtualHost.includeAttemptsInResponse) headers.set(H.attemptCount, String(this.#attempt));
  }

  onResponseData(bytes: Buffer, start: number, end: number): void {
    this.#timers?.touch();
    if (LOG_NEEDS.bodyBegin) this.#noteBody();
    this.stream.sendData(bytes, start, end);
  }

  #noteBody(): void {
    const { info, manager } = this.stream;
    if (info.upstreamBodyBegin < 0) info.upstreamBodyBegin = manager.deps.clock.now();
  }

  onResponseEnd(trailers?: HeaderMap): void {
    this.#exchange = undefined;
    const { info, manager } = this.stream;
    info.upstreamRxEnd = manager.deps.clock.now();
    this.#books.ended(info.upstreamRxEnd);
    this.#finish();
    this.stream.sendEnd(trailers);
  }

  onUpstreamReset(reason: UpstreamReset): void {
    const stream = this.stream;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#timers?.stop();
    const { counters } = this.#cluster;
    if (exchange?.protocol === 'HTTP/2')
      (reason === 'connection-termination' ? counters.rqPendingFailure : counters.rqRxReset).value += 1;
    if (this.#answering) {
      const { flag, details } = RESETS[reason];
      this.#report('reset');
      stream.info.flags |= flag;
      stream.manager.counters.rqResetLate.value += 1;
      stream.info.responseDetails = `upstream_reset_after_response_started{${details}}`;
      this.#finish();
      stream.abortResponse();
      return;
    }
    const host = this.#host;
    this.#leaveHost('error');
    if (exchange && reason === 'connection-termination' && this.#diedIdle(exchange)) {
      this.#try();
      return;
    }
    if (reason === 'overflow') {
      this.#overflow();
      return;
    }
    if (host) this.#cluster.onOutcome(host, 'reset');
    if (reason === 'protocol-error') counters.protocolError.value += 1;
    if (this.#retryFailure(reason === 'remote-refused-stream-reset' ? 'refused-stream' : 'reset')) return;
    this.#failed(RESETS[reason]);
  }

  /**
   * A kept-alive connection that the server closed while we wrote to it: nothing was answered, so a repeatable request is sent
   * again. A server that was away closes many at once: the next one may be as old.
   */
  #diedIdle(exchange: UpstreamExchange): boolean {
    if (
      !this.#reused ||
      this.#staleConnections >= MAX_STALE_CONNECTIONS ||
      !exchange.untouched ||
      this.#body.chunks === undefined
    )
      return false;
    if (!REPEATABLE.has(this.stream.method)) return false;
    this.#staleConnections += 1;
    this.#attempt -= 1;
    return true;
  }

  // --- time

  #onTimeout(): void {
    if (this.#done) return;
    this.#books.timedOut();
    if (this.#host) {
      this.#host.rqTimeout += 1;
      // A body that comes slowly after a good head was judged by its status.
      if (!this.#answering) this.#report('request-timeout');
    }
    this.#timedOut('response_timeout');
  }

  onTryTimeout(kind: 'per-try' | 'idle'): void {
    if (this.#done || (this.#answering && kind === 'per-try')) return;
    const { counters } = this.#cluster;
    if (kind === 'per-try') counters.rqPerTryTimeout.value += 1;
    else this.#cluster.counters.rare.add(RARE.perTryIdleTimeout);
    if (this.#host) this.#host.rqTimeout += 1;
    if (!this.#answering) {
      this.#report('request-timeout');
      this.#dropConnection();
      this.#leaveHost('error');
      if (this.#retryFailure('timeout')) return;
    }
    this.#timedOut(kind === 'per-try' ? 'upstream_per_try_timeout' : 'upstream_per_try_idle_timeout');
  }

  #timedOut(details: string): void {
    this.#dropConnection();
    this.#giveUp(timeoutReply(this.#timeouts.status, details, (headers) => this.#countAttempts(headers)));
  }

  onMaxDuration(): void {
    if (this.#done) return;
    this.#cluster.counters.rare.add(RARE.rqMaxDuration);
    this.#dropConnection();
    if (!this.#answering) {
      this.#leaveHost('error');
      if (this.#retryFailure('reset')) return;
    }
    this.#giveUp(durationReply(this.stream.requestEnded));
  }

  /** An answer whose head has left was counted already. */
  #giveUp(reply: LocalReply): void {
    if (!this.#answering) {
      this.#answer(reply);
      return;
    }
    this.#finish();
    this.stream.localReply(reply);
  }

  // --- tries again

  #retryStatus(retries: RetryState, status: number, headers: HeaderMap): boolean {
    if (!this.#mayRetry()) return false;
    const decision = retries.onStatus(status, headers, this.stream, this.#cluster.breakersFor(this.priority).retries);
    if (decision === 'retry') countRetried(this.#cluster, status);
    return this.#act(decision, retries, false);
  }

  #retryFailure(failure: TryFailure): boolean {
    const retries = this.#retries;
    if (!retries || !this.#mayRetry()) return false;
    const decision = retries.onFailure(failure, this.#cluster.breakersFor(this.priority).retries);
    return this.#act(decision, retries, failure === 'timeout');
  }

  #mayRetry(): boolean {
    return !this.#done && !this.#answering && !this.stream.finished && this.#body.chunks !== undefined;
  }

  #act(decision: RetryDecision, retries: RetryState, timeout: boolean): boolean {
    const stream = this.stream;
    this.#books.decided(decision);
    if (decision !== 'retry') return false;
    this.#dropConnection();
    this.#leaveHost('error');
    this.#retryPending = true;
    this.#holdsRetry = true;
    this.#cluster.counters.rare.add(retries.asked ? RARE.retryBackoffAsked : RARE.retryBackoff);
    stream.after(retries.wait(stream.manager.deps.random), () => {
      if (this.#done || !this.#retryPending) return;
      this.#retryPending = false;
      this.#releaseRetry();
      if (this.#route.virtualHost.includeTimeoutRetry) stream.headers.set(H.isTimeoutRetry, String(timeout));
      const { completeAt } = this.#books;
      if (completeAt >= 0) {
        const elapsed = stream.manager.deps.clock.now() - completeAt;
        writeExpectedTimeout(stream, this.action, this.#options, this.#timeouts, elapsed);
      }
      this.#try();
    });
    return true;
  }

  /** The answer sends the request elsewhere, and it went: this exchange is over. */
  #redirected(status: number, headers: HeaderMap): boolean {
    const stream = this.stream;
    const kept = this.#body.chunks;
    const settings = this.action.internalRedirect!;
    const { rare } = this.#cluster.counters;
    const complete = stream.requestEnded && kept !== undefined && stream.upgrade === '';
    if (!complete || !followRedirect(stream, this.#route, settings, status, headers)) {
      rare.add(RARE.redirectFailed);
      return false;
    }
    rare.add(RARE.redirectSucceeded);
    this.#countStatus(status);
    this.#dropConnection();
    this.#finish();
    stream.restart(status, kept);
    return true;
  }

  #releaseRetry(): void {
    if (!this.#holdsRetry) return;
    this.#holdsRetry = false;
    this.#cluster.breakersFor(this.priority).retries.leave();
  }

  #dropConnection(): void {
    this.#leaveQueue?.();
    this.#leaveQueue = undefined;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    if (!exchange) return;
    // With HTTP/1 it is the connection that ends.
    if (exchange.protocol === 'HTTP/2') this.#cluster.counters.rqTxReset.value += 1;
    exchange.cancel();
  }

  // --- the books

  #report(outcome: Outcome): void {
    if (this.#host) this.#cluster.onOutcome(this.#host, outcome);
  }

  #countStatus(status: number): void {
    const host = this.#host;
    this.#books.answered(status, host, true);
    if (!host) return;
    if (status >= 500) host.rqError += 1;
    else host.rqSuccess += 1;
  }

  #leaveHost(result: 'error' | 'done'): void {
    this.#timers?.stop();
    if (this.#counted) {
      this.#counted = false;
      this.#cluster.counters.rqActive.value -= 1;
    }
    const host = this.#host;
    if (!host) return;
    this.#host = undefined;
    host.endRequest();
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
    this.#body.forget();
    // What the request did not say, its copies cannot.
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.onRequestCancelled();
    if (!this.#holdsRequest) return;
    this.#cluster.breakersFor(this.priority).requests.leave();
  }
}

const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']);
