// envoy.filters.network.tcp_proxy: joins a downstream connection to one of a cluster's hosts, byte for byte, with
// back-pressure and half-close in both directions.

import type { JsonObject } from '@bufbuild/protobuf';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { LogEntry } from '../access-log/logger.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { countFailedDial, countUpstreamEnd } from '../cluster/counters.ts';
import type { Hash64 } from '../cluster/hash64.ts';
import type { Host } from '../cluster/host.ts';
import type { LbContext, MetadataMatch } from '../cluster/lb-context.ts';
import type { SocketAddr } from '../config/address.ts';
import { type ConnectionInfo, FLAG, LOG_TYPE, originalDestination, StreamInfo } from '../http/stream-info.ts';
import type { LocalPeer } from '../http-filter/peer.ts';
import type { ClusterFinder } from '../http-filter/router.ts';
import { DEFAULT_TCP_IDLE_MS, READ_BUFFER_BYTES } from '../limits.ts';
import { newest } from '../newest.ts';
import { CLUSTER_STATE } from '../route/metadata-match.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import { connectTimes, noteConnectTimes } from '../transport-socket/connect-times.ts';
import { dial } from '../transport-socket/dial.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { Closed, ConnectionHandler, TcpObserver } from './filter.ts';
import { exchange, exchangeCounters, UPSTREAM_PEER } from './metadata-exchange.ts';
import type { TcpProxySettings } from './tcp-proxy-settings.ts';

export interface TcpProxyDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly clusters: ClusterFinder;
  readonly stats: StatsStore;
  readonly local: LocalPeer;
}

function countersOf(scope: StatsScope) {
  return {
    total: scope.counter('downstream_cx_total'),
    noRoute: scope.counter('downstream_cx_no_route'),
    received: scope.counter('downstream_cx_rx_bytes_total'),
    sent: scope.counter('downstream_cx_tx_bytes_total'),
    idle: scope.counter('idle_timeout'),
    maxDuration: scope.counter('max_downstream_connection_duration'),
    flushTotal: scope.counter('upstream_flush_total'),
    flushActive: scope.gauge('upstream_flush_active'),
  };
}

export class TcpProxyHandler implements ConnectionHandler {
  readonly settings: TcpProxySettings;
  readonly deps: TcpProxyDeps;
  readonly log: LogEntry | undefined;
  readonly observers: readonly TcpObserver[];
  readonly counters: ReturnType<typeof countersOf>;
  readonly #open = new Set<TcpSession>();

  constructor(
    settings: TcpProxySettings,
    log: LogEntry | undefined,
    observers: readonly TcpObserver[],
    deps: TcpProxyDeps,
  ) {
    this.settings = settings;
    this.log = log;
    this.observers = observers;
    this.deps = deps;
    this.counters = countersOf(new StatsScope(deps.stats, `tcp.${settings.statPrefix}.`));
  }

  get active(): number {
    return this.#open.size;
  }

  accept(transport: Transport, info: ConnectionInfo, closed: Closed): void {
    const session = new TcpSession(this, transport, info, closed, () => this.#open.delete(session));
    this.#open.add(session);
    session.begin();
  }

  /** TCP has no moment between requests: connections go on until the drain time ends. */
  drain(): void {}

  closeAll(): void {
    for (const session of this.#open) session.close('DT');
  }

  refused(info: StreamInfo): void {
    info.metadata = info.connection.metadata;
    info.logType = LOG_TYPE.tcpEnd;
    this.log?.(info);
  }
}

/** Envoy's numbers of why there is no upstream connection. */
const CONNECT_FAILED = 0;
const NO_HEALTHY_UPSTREAM = 1;
const RESOURCE_LIMIT = 2;
const NO_ROUTE = 3;

/** Sends what came from `from` to `to`; large reads go on as long as the other side takes all of them at once. */
function pump(from: Transport, to: Transport, bytes: Buffer, start: number, end: number): void {
  const took = to.forward(bytes, start, end);
  from.bulk = took && end - start >= READ_BUFFER_BYTES;
}

class TcpSession implements LbContext {
  // What the load balancer reads.
  metadataMatch: MetadataMatch | undefined;
  readonly requestHeaders = undefined;
  readonly avoid = undefined;
  readonly attempts = 0;
  readonly priority = 'default';
  readonly #handler: TcpProxyHandler;
  readonly #down: Transport;
  readonly #info: StreamInfo;
  readonly #closed: Closed;
  readonly #gone: () => void;
  #up: Transport | undefined;
  #cluster: Cluster | undefined;
  #host: Host | undefined;
  #attempts = 0;
  #joinedAt = 0;
  #over = false;
  /** Connections that send what waits although the session is over: they count as open until they have gone. */
  #lingering = 0;
  #downEnded = false;
  #upEnded = false;
  /** Its end was the end of the session. */
  #upEndedLast = false;
  #early: Buffer[] = [];
  #giveUp: (() => void) | undefined;
  #leaveWatch: (() => void) | undefined;
  #cancelIdle: (() => void) | undefined;
  #cancelDuration: (() => void) | undefined;
  #cancelLog: (() => void) | undefined;
  #counted = false;

  /** `closed`: the downstream connection has gone; `gone`: the upstream one too. */
  constructor(handler: TcpProxyHandler, down: Transport, info: ConnectionInfo, closed: Closed, gone: () => void) {
    this.#handler = handler;
    this.#down = down;
    this.#closed = closed;
    this.#gone = gone;
    // A connection begins when it is accepted; the handshake is part of it.
    this.#info = new StreamInfo(info, info.acceptedAt ?? handler.deps.clock.now());
    this.#info.metadata = info.metadata;
    this.#info.upstreamCloseType = 'Normal';
    newest.tcpSession = this;
  }

  get hash(): Hash64 | undefined {
    return this.#handler.settings.hash?.(this.#info.connection);
  }

  get destination(): SocketAddr | undefined {
    return originalDestination(this.#info.connection);
  }

  begin(): void {
    const { settings, deps } = this.#handler;
    const info = this.#info;
    this.#handler.counters.total.value += 1;
    const chosen = info.connection.state.get(CLUSTER_STATE);
    const choice =
      typeof chosen === 'string'
        ? { name: chosen, metadataMatch: settings.metadataMatch }
        : settings.choose(deps.random);
    this.metadataMatch = choice.metadataMatch;
    this.#down.pause();
    this.#down.start(this.#downSink);
    this.#cluster = deps.clusters.find(choice.name);
    info.setCluster(this.#cluster);
    if (!this.#cluster) {
      this.#handler.counters.noRoute.value += 1;
      this.#fail(FLAG.NC, '', NO_ROUTE);
      return;
    }
    if (!this.#cluster.breakers.connections.tryEnter()) {
      this.#cluster.counters.cxOverflow.value += 1;
      this.#fail(FLAG.UO, '', RESOURCE_LIMIT);
      return;
    }
    this.#counted = true;
    for (const observer of this.#handler.observers) observer.onOpen(info);
    if (settings.maxDurationMs > 0)
      this.#cancelDuration = deps.clock.after(settings.maxDurationMs, () => {
        this.#handler.counters.maxDuration.value += 1;
        this.close('DT', 'max_connection_duration_reached');
      });
    this.#connect();
  }

  close(flag: 'DT' | 'none', reason = ''): void {
    if (flag === 'DT') this.#info.flags |= FLAG.DT;
    if (!this.#over) {
      this.#info.connection.localCloseReason = reason;
      if (this.#up) this.#info.upstreamCloseReason = reason;
    }
    this.#down.destroy();
    if (this.#over) this.#up?.destroy();
    this.#finish();
  }

  #connect(): void {
    const cluster = this.#cluster!;
    const info = this.#info;
    this.#attempts += 1;
    info.attempts = this.#attempts;
    const host = cluster.pick(this);
    if (!host) {
      this.#fail(FLAG.UH, '', NO_HEALTHY_UPSTREAM);
      return;
    }
    this.#host = host;
    host.beginRequest();
    host.cxTotal += 1;
    host.beginConnection();
    cluster.counters.cxTotal.value += 1;
    cluster.counters.cxActive.value += 1;
    cluster.counters.rqPendingTotal.value += 1;
    info.setHost(host.spec);
    const asked = this.#handler.deps.clock.now();
    info.upstreamAsked = asked;
    this.#giveUp = dial(
      {
        target: host.spec.address,
        source: cluster.source(host),
        timeoutMs: cluster.settings.connectTimeoutMs,
        socket: cluster.socketFor(host),
        alpn: undefined,
        host: undefined,
        keepAlive: cluster.settings.connect.keepAlive !== undefined,
        exchange: cluster.settings.exchange !== undefined,
        proxiedFor: info.connection,
        clock: this.#handler.deps.clock,
      },
      (result) => {
        this.#giveUp = undefined;
        if (result.kind === 'connected') {
          this.#joinedAt = this.#handler.deps.clock.now();
          cluster.counters.connectMs.record(this.#joinedAt - asked);
          cluster.counters.rqTotal.value += 1;
          host.rqTotal += 1;
          return this.#joined(result.transport);
        }
        cluster.counters.cxConnectFail.value += 1;
        host.cxConnectFail += 1;
        cluster.onOutcome(host, result.kind === 'timeout' ? 'connect-timeout' : 'connect-failure');
        this.#leaveHost(result.kind === 'timeout');
        if (this.#attempts < this.#handler.settings.maxAttempts) return this.#connect();
        if (result.kind === 'timeout') cluster.counters.cxConnectTimeout.value += 1;
        cluster.counters.cxAttemptsExceeded.value += 1;
        const reason = result.kind === 'timeout' ? 'connection_timeout' : result.reason;
        this.#fail(FLAG.UF | FLAG.URX, reason, CONNECT_FAILED);
      },
    );
  }

  #joined(raw: Transport): void {
    const up = this.#introduced(raw);
    this.#up = up;
    if (this.#cluster && this.#host) this.#cluster.onOutcome(this.#host, 'success');
    if (this.#cluster && this.#host)
      this.#leaveWatch = this.#cluster.onHostFailure(this.#host, () => {
        this.#info.upstreamCloseReason = 'non_pooled_tcp_connection_host_health_failure';
        this.close('none');
      });
    const info = this.#info;
    info.setUpstream(up);
    up.start(this.#upSink);
    for (const chunk of this.#early) up.write(chunk, 0, chunk.length);
    this.#early = [];
    if (this.#downEnded) up.end();
    this.#down.resume();
    this.#touch();
    const { settings, log } = this.#handler;
    if (!log) return;
    if (settings.logOnConnected) this.#log(LOG_TYPE.tcpConnected);
    if (settings.logIntervalMs > 0) this.#logLater(settings.logIntervalMs);
  }

  /** Long connections have lines before their end. */
  #logLater(intervalMs: number): void {
    this.#cancelLog = this.#handler.deps.clock.after(intervalMs, () => {
      this.#log(LOG_TYPE.tcpPeriodic);
      this.#logLater(intervalMs);
    });
  }

  #log(type: number): void {
    const info = this.#info;
    info.logType = type;
    info.duration = this.#handler.deps.clock.now() - info.startTime;
    this.#handler.log?.(info);
  }

  /** Behind Istio's exchange, when the server agreed to it. */
  #introduced(up: Transport): Transport {
    const protocol = this.#cluster?.settings.exchange;
    if (protocol === undefined) return up;
    const { local, stats } = this.#handler.deps;
    const wrapped = exchange(up, {
      protocol,
      local,
      counters: exchangeCounters(stats),
      info: this.#info.connection,
      side: UPSTREAM_PEER,
    });
    const times = connectTimes(up);
    if (times) noteConnectTimes(wrapped, times);
    return wrapped;
  }

  readonly #downSink: TransportSink = {
    onData: (bytes, start, end) => {
      this.#info.bytesReceived += end - start;
      this.#touch();
      if (this.#up) pump(this.#down, this.#up, bytes, start, end);
      // Reading is paused until the upstream is there: one read at most comes here.
      else this.#early.push(Buffer.from(bytes.subarray(start, end)));
    },
    onEnd: () => {
      this.#downEnded = true;
      this.#up?.end();
      this.#bothEnded();
    },
    onBacklog: (full) => {
      if (full) this.#up?.pause();
      else this.#up?.resume();
    },
    onClose: (failure) => {
      if (this.#over) return;
      if (failure?.kind === 'reset') this.#info.connection.resetBy = 'RemoteReset';
      // All was read: what the upstream has not taken yet still goes there.
      const whole = !failure && this.#upEnded && this.#downEnded;
      const lingers = whole && this.#up !== undefined && this.#lingerUpstream(this.#up);
      this.#finish(lingers ? 'upstream' : undefined);
    },
  };

  readonly #upSink: TransportSink = {
    onData: (bytes, start, end) => {
      this.#info.bytesSent += end - start;
      this.#touch();
      pump(this.#up!, this.#down, bytes, start, end);
    },
    onEnd: () => {
      this.#upEnded = true;
      this.#upEndedLast = this.#downEnded;
      this.#down.end();
      this.#bothEnded();
    },
    onBacklog: (full) => {
      if (full) this.#down.pause();
      else this.#down.resume();
    },
    onClose: (failure: TransportFailure | undefined) => {
      if (this.#over) return;
      if (failure) {
        if (!this.#downEnded) this.#info.flags |= failure.kind === 'reset' ? FLAG.UR : FLAG.UC;
        if (failure.kind === 'tls') this.#info.upstreamFailure = failure.reason;
        if (failure.kind === 'reset') {
          this.#info.upstreamCloseType = 'RemoteReset';
          this.#info.connection.resetBy = 'LocalReset';
        }
        this.#down.reset();
        this.#finish();
      } else this.#finish(this.#linger(this.#down, () => this.#downstreamGone()) ? 'downstream' : undefined);
    },
  };

  #lingerUpstream(up: Transport): boolean {
    const { counters } = this.#handler;
    const lingers = this.#linger(up, () => {
      counters.flushActive.value -= 1;
      this.#leaveUpstream();
    });
    if (!lingers) return false;
    counters.flushTotal.value += 1;
    counters.flushActive.value += 1;
    return true;
  }

  metadataOf(filter: string): JsonObject | undefined {
    return this.#info.connection.metadata.get(filter);
  }

  /** Lets what waits leave although the session is over, for as long as an idle one may last. False: it has gone already. */
  #linger(transport: Transport, left: () => void): boolean {
    if (transport.closed) return false;
    const { clock } = this.#handler.deps;
    const cancel = clock.after(this.#handler.settings.idleMs || DEFAULT_TCP_IDLE_MS, () => transport.destroy());
    this.#lingering += 1;
    const onClose = (): void => {
      cancel();
      this.#lingering -= 1;
      left();
      this.#gone();
    };
    transport.redirect({ onData() {}, onEnd() {}, onBacklog() {}, onClose });
    transport.closeSoon();
    return true;
  }

  #bothEnded(): void {
    if (!this.#downEnded || !this.#upEnded) return;
    this.#down.closeSoon();
    this.#up?.closeSoon();
  }

  #touch(): void {
    const { idleMs } = this.#handler.settings;
    this.#lastActive = this.#handler.deps.clock.now();
    if (idleMs <= 0 || this.#cancelIdle) return;
    this.#armIdle(idleMs);
  }
  #lastActive = 0;

  /** One timer that looks again, not one a read. */
  #armIdle(delayMs: number): void {
    const { clock } = this.#handler.deps;
    this.#cancelIdle = clock.after(delayMs, () => {
      this.#cancelIdle = undefined;
      const left = this.#lastActive + this.#handler.settings.idleMs - clock.now();
      if (left > 0) return this.#armIdle(left);
      this.#handler.counters.idle.value += 1;
      this.close('none', 'tcp_session_idle_timeout');
    });
  }

  #fail(flags: number, reason: string, kind: number): void {
    this.#info.flags |= flags;
    // Envoy's spelling.
    this.#info.connection.localCloseReason = `tcp_initializion_failure:${kind}`;
    this.#info.upstreamFailure = reason;
    this.#down.destroy();
    this.#finish();
  }

  #leaveHost(timedOut = false): void {
    const host = this.#host;
    const cluster = this.#cluster;
    this.#host = undefined;
    if (!host || !cluster) return;
    host.endRequest();
    host.endConnection();
    const { counters } = cluster;
    counters.cxActive.value -= 1;
    if (this.#up)
      countUpstreamEnd(
        counters,
        this.#up.peerEnded && (!this.#upEnded || this.#upEndedLast),
        true,
        this.#handler.deps.clock.now() - this.#joinedAt,
      );
    else countFailedDial(counters, timedOut);
  }

  #leaveUpstream(): void {
    this.#leaveHost();
    if (this.#counted) this.#cluster?.breakers.connections.leave();
  }

  /** `lingers`: the side that what was read may still be on its way to. */
  #finish(lingers?: 'upstream' | 'downstream'): void {
    if (this.#over) return;
    this.#over = true;
    this.#giveUp?.();
    this.#leaveWatch?.();
    this.#cancelIdle?.();
    this.#cancelDuration?.();
    this.#cancelLog?.();
    if (lingers !== 'upstream') this.#up?.destroy();
    if (this.#cluster && this.#up) {
      this.#cluster.counters.cxReceived.value += this.#info.bytesSent;
      this.#cluster.counters.cxSent.value += this.#info.bytesReceived;
    }
    if (lingers !== 'upstream') this.#leaveUpstream();
    const info = this.#info;
    info.duration = this.#handler.deps.clock.now() - info.startTime;
    info.wireBytesReceived = info.bytesReceived;
    info.wireBytesSent = info.bytesSent;
    if (this.#up) {
      info.upstreamWireSent = info.bytesReceived;
      info.upstreamWireReceived = info.bytesSent;
    }
    this.#handler.counters.received.value += info.bytesReceived;
    this.#handler.counters.sent.value += info.bytesSent;
    if (this.#counted) for (const observer of this.#handler.observers) observer.onClose(info);
    if (lingers !== 'downstream') this.#downstreamGone();
    if (this.#lingering === 0) this.#gone();
  }

  /** The listener's line comes first, as Envoy writes them. */
  #downstreamGone(): void {
    this.#closed(this.#info);
    this.#log(LOG_TYPE.tcpEnd);
  }
}
