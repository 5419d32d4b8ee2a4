// One forwarded request: host, connection, tries, time-outs and the answer. Made by the router filter. What it does to the
// request is router-request.ts, which answers are tried again router-retry.ts, copies router-mirror.ts.
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
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream, RequestTarget } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { ClusterChoice, ForwardSettings } from '../route/action.ts';
import type { CompiledRoute, VirtualCluster } from '../route/compiled.ts';
import { omitted, type TryFailure } from '../route/retry.ts';
import type {
  PoolFailure,
  PoolWaiter,
  ResponseReceiver,
  UpstreamExchange,
  UpstreamReset,
} from '../upstream/exchange.ts';
import { type ClusterFinder, type MirrorExchange, startMirrors } from './router-mirror.ts';
import { followRedirect } from './router-redirect.ts';
import {
  finalizeRequest,
  isSteered,
  type RouterOptions,
  removeSteering,
  STEER,
  setAuthority,
  type Timeouts,
  timeoutsOf,
  writeExpectedTimeout,
} from './router-request.ts';
import { RESETS } from './router-resets.ts';
import { RetryState } from './router-retry.ts';
import { countAnswer, countRetried, countTime } from './router-stats.ts';

const DROP_SOME = headerName('x-envoy-drop-overload');
const DROP_ALL = headerName('x-envoy-unconditional-drop-overload');

export class RouterExchange implements RequestTarget, PoolWaiter, ResponseReceiver, LbContext {
  // What the load balancer reads.
  readonly metadataMatch: MetadataMatch | undefined;
  readonly priority: RoutingPriority;
  avoid: ((host: Host) => boolean) | undefined;
  attempts = 0;
  #hash: Hash64 | undefined;
  #hashKnown = false;
  readonly #stream: HttpStream;
  readonly #route: CompiledRoute;
  readonly #action: ForwardSettings;
  readonly #cluster: Cluster;
  readonly #clusters: ClusterFinder;
  readonly #options: RouterOptions;
  #timeouts!: Timeouts;
  #retries: RetryState | undefined;
  #mirrors: MirrorExchange[] | undefined;
  #virtualCluster: VirtualCluster | undefined;
  #altName = '';
  #cookies: string[] | undefined;
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
  /** The end of the body came. */
  #ended = false;
  #trailers: HeaderMap | undefined;
  /** When the last byte of the request was there; -1 = not yet. */
  #completeAt = -1;
  #cancelTry: (() => void) | undefined;
  #cancelTryIdle: (() => void) | undefined;
  #backlogged = false;
  /** Told to the caller in the response; empty = nothing. */
  #ownDecorator = '';

  constructor(
    stream: HttpStream,
    route: CompiledRoute,
    action: ForwardSettings,
    choice: ClusterChoice,
    cluster: Cluster,
    clusters: ClusterFinder,
    options: RouterOptions,
  ) {
    this.#stream = stream;
    this.#route = route;
    this.#action = action;
    this.#cluster = cluster;
    this.#clusters = clusters;
    this.#options = options;
    this.metadataMatch = choice.metadataMatch;
    this.priority = action.priority;
  }

  get destination(): SocketAddr | undefined {
    return this.#stream.connection.local;
  }

  get requestHeaders(): HeaderMap {
    return this.#stream.headers;
  }

  /** Only balancers that hash ask for it. */
  get hash(): Hash64 | undefined {
    const { hash } = this.#action;
    if (this.#hashKnown || !hash) return this.#hash;
    this.#hashKnown = true;
    const { method, path, authority, scheme, headers, info, manager } = this.#stream;
    const addCookie = (value: string): void => {
      this.#cookies ??= [];
      this.#cookies.push(value);
    };
    this.#hash = hash({ method, path, authority, scheme, headers, info, random: manager.deps.random, addCookie });
    return this.#hash;
  }

  begin(choice: ClusterChoice): void {
    const stream = this.#stream;
    const cluster = this.#cluster;
    this.#prepare(choice);
    const drop = cluster.dropOverload();
    if (drop !== 'none') {
      this.#dropped(drop === 'all');
      return;
    }
    if (!cluster.breakersFor(this.priority).requests.tryEnter()) {
      cluster.counters.rqActiveOverflow.value += 1;
      this.#overflow();
      return;
    }
    this.#holdsRequest = true;
    cluster.counters.rqTotal.value += 1;
    cluster.counters.rqActive.value += 1;
    this.#virtualCluster?.stats.started();
    this.#route.stats?.started();
    // Without a connection yet the body waits in the client's socket.
    if (stream.body !== 'none' || stream.upgrade !== '') stream.pauseRequest();
    else this.#requestComplete();
    if (this.#action.mirrors.length > 0 && stream.upgrade === '')
      this.#mirrors = startMirrors(stream, this.#action.mirrors, this.#clusters, this.#timeouts.global);
    this.#try();
    if (!this.#done) stream.attach(this);
  }

  #prepare(choice: ClusterChoice): void {
    const stream = this.#stream;
    const { headers, info } = stream;
    const action = this.#action;
    const steered = isSteered(headers);
    this.#timeouts = timeoutsOf(stream, action, this.#options, steered);
    this.#retries = RetryState.create(action.retry, stream, steered);
    if (steered) {
      this.#altName = headers.get(STEER.altStat) ?? '';
      removeSteering(headers);
    }
    const { virtualClusters } = this.#route.virtualHost;
    if (virtualClusters.length > 0) {
      this.#virtualCluster = virtualClusters.find((entry) => entry.tests.every((test) => test(stream)));
      info.virtualCluster = this.#virtualCluster?.name ?? '';
    }
    finalizeRequest(stream, this.#route, action, choice, this.#options);
    this.#decorate(headers);
    writeExpectedTimeout(stream, action, this.#options, this.#timeouts, 0);
    if (this.#retries) {
      const { settings } = this.#retries;
      this.attempts = settings.hostAttempts;
      if (settings.avoidPrevious || settings.omitCanary || settings.omitMetadata)
        this.avoid = (host) =>
          this.#attempt > 1 &&
          ((settings.avoidPrevious && (this.#tried?.has(host) ?? false)) || omitted(settings, host));
    }
  }

  /** Outbound proxies tell the next one the operation; an inbound one consumes that, or tells a caller outside the mesh its own. */
  #decorate(headers: HeaderMap): void {
    const { decorator, decoratorPropagates } = this.#route;
    if (this.#stream.connection.direction === 'inbound') {
      this.#ownDecorator = headers.get(H.decorator) === undefined && decoratorPropagates ? decorator : '';
      headers.remove(H.decorator);
    } else if (decorator !== '' && decoratorPropagates) headers.set(H.decorator, decorator);
  }

  // --- one try

  #try(): void {
    const cluster = this.#cluster;
    const stream = this.#stream;
    this.#attempt += 1;
    stream.info.attempts = this.#attempt;
    if (this.#route.virtualHost.includeAttempts) stream.headers.set(H.attemptCount, String(this.#attempt));
    const host = cluster.pick(this);
    if (!host) {
      this.#noHost();
      return;
    }
    this.#host = host;
    const { hostname } = host.spec;
    if (this.#action.hostRewrite?.kind === 'auto' && hostname !== '')
      setAuthority(stream, this.#action, hostname, this.#options);
    host.active += 1;
    host.rqTotal += 1;
    if (this.#retries) {
      this.#tried ??= new Set();
      this.#tried.add(host);
    }
    this.#noteHost(host);
    if (this.#completeAt >= 0) this.#startTryTimers();
    const pool = cluster.pool(
      host,
      stream.upstreamAlpn,
      stream.authority,
      stream.upgrade === 'connect' && this.#action.terminatesConnect ? 'tcp' : stream.protocol,
      this.priority,
      stream.connection.id,
      stream.connection,
    );
    if (!pool) {
      this.#noHost();
      return;
    }
    const leave = pool.request(this);
    if (!this.#exchange && !this.#done) this.#leaveQueue = leave;
  }

  #noteHost(host: Host): void {
    const { info, manager } = this.#stream;
    const before = info.upstreamHost;
    info.setHost(host.spec);
    info.upstreamAsked = manager.deps.clock.now();
    if (this.#attempt < 2) return;
    info.upstreamTried ??= before ? [before] : [];
    info.upstreamTried.push(host.spec.address);
  }

  /** The control plane says to drop this share of requests. */
  #dropped(all: boolean): void {
    this.#finish();
    this.#charge(503);
    this.#stream.localReply({
      status: 503,
      body: all ? 'unconditional drop overload' : 'drop overload',
      flags: all ? FLAG.UDO : FLAG.DO,
      details: all ? 'unconditional_drop_overload' : 'drop_overload',
      edit: (headers) => {
        if (!this.#options.suppressEnvoyHeaders) headers.set(all ? DROP_ALL : DROP_SOME, 'true');
      },
    });
  }

  /** Nobody to ask, or no pool to ask through. */
  #noHost(): void {
    this.#finish();
    this.#charge(503);
    this.#stream.localReply({
      status: 503,
      body: 'no healthy upstream',
      flags: FLAG.UH,
      details: 'no_healthy_upstream',
    });
  }

  onReady(exchange: UpstreamExchange, reused: boolean): void {
    const stream = this.#stream;
    const { info } = stream;
    this.#leaveQueue = undefined;
    this.#exchange = exchange;
    this.#reused = reused;
    info.setUpstream(exchange.transport);
    info.upstreamProtocol = exchange.protocol;
    info.upstreamTxBegin = stream.manager.deps.clock.now();
    if (stream.body === 'none') info.upstreamTxEnd = info.upstreamTxBegin;
    this.#report('connected');
    exchange.begin(stream, this);
    const kept = this.#kept;
    if (kept) for (const chunk of kept) exchange.sendData(chunk, 0, chunk.length);
    if (stream.body !== 'none' || stream.upgrade !== '') {
      if (this.#ended) exchange.sendEnd(this.#trailers);
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
    if (this.#retryFailure('connect-failure')) return;
    if (failure.kind === 'connect-timeout') this.#failed('connection timeout', FLAG.UF, 'connection_timeout');
    else this.#failed('remote connection failure', FLAG.UF, `remote_connection_failure|${reason}`);
  }

  #overflow(): void {
    this.#failed('overflow', FLAG.UO, 'overflow', (headers) => {
      if (!this.#options.suppressEnvoyHeaders) headers.set(H.overloaded, 'true');
    });
  }

  /** Answers with Envoy's text for a request that reached no response. */
  #failed(reason: string, flags: number, details: string, edit?: (headers: HeaderMap) => void): void {
    const verb = this.#retries && this.#retries.made > 0 ? 'retried and the latest reset reason' : 'reset reason';
    const status = details === 'protocol_error' ? 502 : 503;
    this.#finish();
    this.#charge(status);
    this.#stream.localReply({
      status,
      body: `upstream connect error or disconnect/reset before headers. ${verb}: ${reason}`,
      flags,
      details: `upstream_reset_before_response_started{${details}}`,
      edit: (headers) => {
        this.#countAttempts(headers);
        edit?.(headers);
      },
    });
  }

  // --- request body

  onRequestData(bytes: Buffer, start: number, end: number): void {
    if (this.#done) return;
    if (this.#kept) this.#keep(bytes, start, end);
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.onRequestData(bytes, start, end);
    this.#exchange?.sendData(bytes, start, end);
  }

  #keep(bytes: Buffer, start: number, end: number): void {
    this.#keptBytes += end - start;
    const needed =
      this.#retries !== undefined || this.#action.internalRedirect !== undefined || !this.#exchange || this.#reused;
    if (!needed || this.#keptBytes > this.#route.bufferLimit) {
      // What waits for a connection must not be lost: the codec is paused, so this is one read at most.
      if (this.#exchange) this.#kept = undefined;
      else this.#kept?.push(Buffer.from(bytes.subarray(start, end)));
      return;
    }
    this.#kept?.push(Buffer.from(bytes.subarray(start, end)));
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
    if (this.#completeAt >= 0) return;
    const stream = this.#stream;
    this.#completeAt = stream.manager.deps.clock.now();
    if (this.#exchange && this.#ended) stream.info.upstreamTxEnd = this.#completeAt;
    const { global } = this.#timeouts;
    if (global > 0) stream.after(global, () => this.#onTimeout());
    if (this.#host) this.#startTryTimers();
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
    if (this.#mirrors) for (const mirror of this.#mirrors) mirror.onRequestCancelled();
    this.#finish();
  }

  // --- response

  onResponseInformational(status: number, headers: HeaderMap): void {
    this.#stream.sendInformational(status, headers);
  }

  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void {
    const stream = this.#stream;
    this.#cancelTry?.();
    this.#touchTry();
    // A finished exchange has given its connection back already.
    if (endStream) this.#exchange = undefined;
    const grpcStatus = headers.get(H.grpcStatus);
    this.#report(stream.grpc && grpcStatus !== undefined ? grpcHttpStatus(Number(grpcStatus)) : status);
    // Another try takes this connection away: it cannot be read on.
    if (this.#retries && this.#retryStatus(this.#retries, status, headers)) return;
    const { internalRedirect } = this.#action;
    if (internalRedirect?.codes.has(status) && this.#redirected(status, headers)) return;
    if (this.#attempt > 1 && status < 500) {
      this.#cluster.counters.rqRetrySuccess.value += 1;
      if (this.#virtualCluster) this.#virtualCluster.stats.retrySuccess.value += 1;
    }
    this.#countStatus(status);
    const { info } = stream;
    info.responseDetails = 'via_upstream';
    const now = stream.manager.deps.clock.now();
    info.upstreamRxBegin = now;
    if (endStream) info.upstreamRxEnd = now;
    if (this.#completeAt >= 0 && !this.#options.suppressEnvoyHeaders)
      headers.set(H.serviceTime, String(Math.max(0, Math.round(now - this.#completeAt))));
    if (this.#ownDecorator !== '') headers.set(H.decorator, this.#ownDecorator);
    else if (stream.connection.direction === 'outbound') headers.remove(H.decorator);
    this.#countAttempts(headers);
    if (this.#cookies) for (const cookie of this.#cookies) headers.add(H.setCookie, cookie);
    stream.applyResponseEdits(headers);
    this.#answering = true;
    if (endStream) this.#finish();
    stream.sendHead(status, headers, endStream);
    if (!endStream && this.#backlogged) this.#exchange?.pauseResponse();
  }

  #countAttempts(headers: HeaderMap): void {
    if (this.#route.virtualHost.includeAttemptsInResponse) headers.set(H.attemptCount, String(this.#attempt));
  }

  onResponseData(bytes: Buffer, start: number, end: number): void {
    this.#touchTry();
    this.#stream.sendData(bytes, start, end);
  }

  onResponseEnd(trailers?: HeaderMap): void {
    this.#exchange = undefined;
    const { info, manager } = this.#stream;
    info.upstreamRxEnd = manager.deps.clock.now();
    this.#finish();
    this.#stream.sendEnd(trailers);
  }

  onUpstreamReset(reason: UpstreamReset): void {
    const stream = this.#stream;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#stopTryTimers();
    this.#cluster.counters.rqRxReset.value += 1;
    const { text, flag, details } = RESETS[reason];
    if (this.#answering) {
      this.#report('reset');
      stream.info.flags |= flag;
      stream.info.responseDetails = `upstream_reset_after_response_started{${details}}`;
      this.#finish();
      stream.abortResponse(reason === 'protocol-error' ? 'protocol-error' : 'local-reset');
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
    if (reason === 'protocol-error') this.#cluster.counters.protocolError.value += 1;
    if (this.#retryFailure(reason === 'remote-refused-stream-reset' ? 'refused-stream' : 'reset')) return;
    this.#failed(text, flag, details);
  }

  /** A kept-alive connection that the server closed while we wrote to it: nothing was answered, so a repeatable request is sent again once. */
  #diedIdle(exchange: UpstreamExchange): boolean {
    if (!this.#reused || this.#freeRetryUsed || !exchange.untouched || this.#kept === undefined) return false;
    if (!REPEATABLE.has(this.#stream.method)) return false;
    this.#freeRetryUsed = true;
    this.#attempt -= 1;
    return true;
  }

  // --- time

  #startTryTimers(): void {
    const { perTry, perTryIdle, maxStream } = this.#timeouts;
    if (perTry > 0) this.#cancelTry = this.#stream.after(perTry, () => this.#onTryTimeout('per-try'));
    if (maxStream > 0) this.#stream.after(maxStream, () => this.#onMaxDuration());
    if (perTryIdle > 0) this.#touchTry();
  }

  #touchTry(): void {
    const { perTryIdle } = this.#timeouts;
    if (perTryIdle <= 0 || this.#done) return;
    this.#cancelTryIdle?.();
    this.#cancelTryIdle = this.#stream.manager.deps.clock.after(perTryIdle, () => this.#onTryTimeout('idle'));
  }

  #stopTryTimers(): void {
    this.#cancelTry?.();
    this.#cancelTry = undefined;
    this.#cancelTryIdle?.();
    this.#cancelTryIdle = undefined;
  }

  #onTimeout(): void {
    if (this.#done) return;
    this.#cluster.counters.rqTimeout.value += 1;
    if (this.#virtualCluster) this.#virtualCluster.stats.timeout.value += 1;
    if (this.#host) {
      this.#host.rqTimeout += 1;
      // A body that comes slowly after a good head was judged by its status.
      if (!this.#answering) this.#report('request-timeout');
    }
    this.#timedOut('response_timeout');
  }

  #onTryTimeout(kind: 'per-try' | 'idle'): void {
    if (this.#done || (this.#answering && kind === 'per-try')) return;
    const { counters } = this.#cluster;
    if (kind === 'per-try') counters.rqPerTryTimeout.value += 1;
    else this.#cluster.scope.counter('upstream_rq_per_try_idle_timeout').value += 1;
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
    const { status } = this.#timeouts;
    this.#dropConnection();
    this.#finish();
    if (!this.#answering) this.#charge(status);
    this.#stream.localReply({
      status,
      body: status === 204 ? '' : 'upstream request timeout',
      flags: FLAG.UT,
      details,
      edit: (headers) => this.#countAttempts(headers),
    });
  }

  #onMaxDuration(): void {
    if (this.#done) return;
    this.#dropConnection();
    if (!this.#answering) {
      this.#leaveHost('error');
      if (this.#retryFailure('reset')) return;
      this.#charge(408);
    }
    this.#finish();
    this.#stream.localReply({
      status: this.#stream.requestEnded ? 504 : 408,
      body: 'upstream max stream duration reached',
      flags: FLAG.UMSDR,
      details: 'upstream_max_stream_duration_reached',
    });
  }

  // --- tries again

  #retryStatus(retries: RetryState, status: number, headers: HeaderMap): boolean {
    if (!this.#mayRetry()) return false;
    const decision = retries.onStatus(status, headers, this.#stream, this.#cluster.breakersFor(this.priority).retries);
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
    return !this.#done && !this.#answering && !this.#stream.finished && this.#kept !== undefined;
  }

  #act(decision: 'retry' | 'no' | 'limit' | 'overflow', retries: RetryState, timeout: boolean): boolean {
    const stream = this.#stream;
    const { counters } = this.#cluster;
    const stats = this.#virtualCluster?.stats;
    if (decision === 'limit') {
      counters.rqRetryLimit.value += 1;
      if (stats) stats.retryLimit.value += 1;
      stream.info.flags |= FLAG.URX;
    } else if (decision === 'overflow') {
      counters.rqRetryOverflow.value += 1;
      if (stats) stats.retryOverflow.value += 1;
      stream.info.flags |= FLAG.UO;
    }
    if (decision !== 'retry') return false;
    counters.rqRetry.value += 1;
    if (stats) stats.retry.value += 1;
    this.#dropConnection();
    this.#leaveHost('error');
    this.#retryPending = true;
    this.#holdsRetry = true;
    stream.after(retries.wait(stream.manager.deps.random), () => {
      if (this.#done || !this.#retryPending) return;
      this.#retryPending = false;
      this.#releaseRetry();
      if (this.#route.virtualHost.includeTimeoutRetry) stream.headers.set(H.isTimeoutRetry, String(timeout));
      if (this.#completeAt >= 0) {
        const elapsed = stream.manager.deps.clock.now() - this.#completeAt;
        writeExpectedTimeout(stream, this.#action, this.#options, this.#timeouts, elapsed);
      }
      this.#try();
    });
    return true;
  }

  /** The answer sends the request elsewhere, and it went: this exchange is over. */
  #redirected(status: number, headers: HeaderMap): boolean {
    const stream = this.#stream;
    const kept = this.#kept;
    const settings = this.#action.internalRedirect!;
    const { scope } = this.#cluster;
    const complete = stream.requestEnded && kept !== undefined && stream.upgrade === '';
    if (!complete || !followRedirect(stream, this.#route, settings, status, headers)) {
      scope.counter('upstream_internal_redirect_failed_total').value += 1;
      return false;
    }
    scope.counter('upstream_internal_redirect_succeeded_total').value += 1;
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
    exchange?.cancel();
  }

  // --- the books

  #report(outcome: Outcome): void {
    if (this.#host) this.#cluster.onOutcome(this.#host, outcome);
  }

  #countStatus(status: number): void {
    this.#charge(status);
    const host = this.#host;
    if (!host) return;
    if (status >= 500) host.rqError += 1;
    else host.rqSuccess += 1;
  }

  /** The answer of this request, from upstream or from us, in the statistics by code. */
  #charge(status: number): void {
    if (!this.#options.dynamicStats) return;
    const stream = this.#stream;
    const canary = this.#host?.spec.metadata['envoy.lb']?.canary === true;
    countAnswer(this.#cluster, status, stream.internal, canary, this.#altName);
    const ms = this.#completeAt < 0 ? -1 : stream.manager.deps.clock.now() - this.#completeAt;
    if (ms >= 0) countTime(this.#cluster, ms, stream.internal, canary, this.#altName);
    this.#virtualCluster?.stats.answered(status, ms);
    this.#route.stats?.answered(status, ms);
  }

  #leaveHost(result: 'error' | 'done'): void {
    this.#stopTryTimers();
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
    this.#cluster.breakersFor(this.priority).requests.leave();
    this.#cluster.counters.rqActive.value -= 1;
  }
}

const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']);
