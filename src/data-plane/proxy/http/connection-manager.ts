// The HTTP connection manager: owns the downstream HTTP connections of a filter chain, prepares requests for the filters
// and closes the books on each. Built from HttpConnectionManager by network-filter/registry.ts.
import type { Clock } from '../../../base/runtime/clock.ts';
import { Deadlines } from '../../../base/runtime/deadlines.ts';
import type { FormatDeps } from '../access-log/format.ts';
import type { LogEntry } from '../access-log/logger.ts';
import type { FilterPlan } from '../http-filter/plan.ts';
import type { ClusterFinder } from '../http-filter/router.ts';
import { AT_ONCE, type Drain } from '../listener/drain.ts';
import type { Closed } from '../network-filter/filter.ts';
import type { PressureView } from '../overload/pressure.ts';
import type { RouteSource } from '../route/source.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { ByteBooks } from '../stats/byte-books.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import { Tracer, tracingCounters } from '../tracing/tracer.ts';
import type { Transport } from '../transport-socket/transport.ts';
import type { ServerConnection } from './codec.ts';
import { badRequestInfo } from './connection-log.ts';
import { h2Counters } from './h2-options.ts';
import type { H2ServerConnection } from './h2-server.ts';
import { type HeaderMap, headerName } from './header-map.ts';
import {
  listenerCounters,
  type ManagerCounters,
  managerCounters,
  RARE,
  underscoreCounters,
} from './manager-counters.ts';
import { H } from './names.ts';
import { normalizePath } from './path-normalize.ts';
import { appendVia, clientAddress, clientCertificate, forwardedProto, introduce } from './request-headers.ts';
import { newRequestId } from './request-id.ts';
import { ServedConnection } from './served-connection.ts';
import type { ManagerSettings } from './settings.ts';
import type { HttpStream } from './stream.ts';
import { type ConnectionInfo, FLAG, LOG_TYPE, type StreamInfo } from './stream-info.ts';

export interface ManagerDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly clusters: ClusterFinder;
  readonly stats: StatsStore;
  /** Of the listener. */
  readonly listenerScope: StatsScope;
  readonly runtime: RuntimeView;
  readonly format: FormatDeps;
  /** What the whole process asks of connections. */
  readonly load: PressureView;
}

interface Problem {
  readonly status: number;
  readonly flags: number;
  readonly details: string;
}

function refuse(stream: HttpStream, { status, flags, details }: Problem): false {
  stream.localReply({ status, body: '', flags, details });
  return false;
}

const OVERLOADED = headerName('x-envoy-local-overloaded');

export class ConnectionManager {
  readonly settings: ManagerSettings;
  readonly deps: ManagerDeps;
  readonly routes: RouteSource;
  /** Time-outs of its requests. */
  readonly deadlines: Deadlines;
  /** The filters for requests that begin now. */
  plan: FilterPlan;
  readonly counters: ManagerCounters;
  readonly #ofListener: ReturnType<typeof listenerCounters>;
  readonly #bytes: ByteBooks;
  readonly tracer: Tracer | undefined;
  /** Made with the first connection of HTTP/2, and its counters with it. */
  #h2Deps: ConstructorParameters<typeof H2ServerConnection>[3] | undefined;
  readonly #log: LogEntry | undefined;
  readonly #connections = new Set<ServedConnection>();
  #drain: Drain | undefined;
  #sweep: (() => void) | undefined;
  /** The last authority that was found well-formed. */
  #goodHost = '';

  constructor(
    settings: ManagerSettings,
    routes: RouteSource,
    plan: FilterPlan,
    log: LogEntry | undefined,
    deps: ManagerDeps,
  ) {
    this.settings = settings;
    this.routes = routes;
    this.plan = plan;
    this.deadlines = new Deadlines(deps.clock);
    this.deps = deps;
    this.#log = log;
    underscoreCounters(deps.stats, 'http1');
    const scope = new StatsScope(deps.stats, `http.${settings.statPrefix}.`);
    this.counters = managerCounters(scope);
    this.#ofListener = listenerCounters(deps.listenerScope, settings.statPrefix);
    this.#bytes = new ByteBooks(deps.stats, this.counters.cxReceived, this.counters.cxSent, this.counters.cxWaiting);
    this.tracer = settings.tracing && new Tracer(settings.tracing, deps.runtime, deps.random, tracingCounters(scope));
  }

  get active(): number {
    return this.#connections.size;
  }

  accept(transport: Transport, info: ConnectionInfo, closed: Closed): void {
    this.#bytes.open(transport);
    const connection = new ServedConnection(this, transport, info, closed);
    this.#connections.add(connection);
    if (!this.#sweep && this.settings.idleMs > 0) this.#scheduleSweep();
    connection.start();
  }

  /** False: it was forgotten before. */
  forget(connection: ServedConnection, transport: Transport): boolean {
    if (!this.#connections.delete(connection)) return false;
    this.#bytes.close(transport);
    return true;
  }

  /** From now on responses close their connections as `drain` says. */
  drain(drain: Drain = AT_ONCE): void {
    this.#drain ??= drain;
    // HTTP/2 tells its clients now; HTTP/1 with its next answer.
    if (drain.closes()) for (const { codec } of this.#connections) this.#close(codec);
  }

  /** A request begins: if it shall be one of the last of its connection, the answer says so. */
  endSoon(connection: ServerConnection): void {
    const { pressure, drainsOnFailingHealth, bypass } = this.deps.load;
    if (this.#drain === undefined && !pressure.any) return;
    if (this.#drain?.closes() || (pressure.failingHealth && drainsOnFailingHealth)) this.#close(connection);
    if (pressure.endKeepAlive && !bypass) {
      this.counters.cxOverload.value += 1;
      connection.drain();
    }
  }

  #close(connection: ServerConnection): void {
    this.counters.cxDrainClose.value += 1;
    connection.drain();
  }

  /** The drain time is over. */
  closeAll(): void {
    for (const { codec } of this.#connections) codec.close();
    this.#sweep?.();
    this.#sweep = undefined;
  }

  /** The overload manager lets a share of requests go unserved. */
  #overloaded(stream: HttpStream): boolean {
    const { pressure, bypass } = this.deps.load;
    const share = pressure.refuseRequests;
    if (share <= 0 || bypass || (share < 1 && this.deps.random() >= share)) return false;
    this.counters.rqOverload.value += 1;
    stream.localReply({
      status: 503,
      body: 'envoy overloaded',
      flags: FLAG.OM,
      details: 'overload',
      edit: (headers) => headers.set(OVERLOADED, 'true'),
    });
    return true;
  }

  /** Prepares a request; false = it was answered here. */
  admit(stream: HttpStream): boolean {
    if (this.deps.load.pressure.any && this.#overloaded(stream)) return false;
    const { headers } = stream;
    const problem = this.#target(stream);
    stream.info.authority = stream.authority;
    if (problem) return refuse(stream, problem);
    const { settings } = this;
    const { connection } = stream;
    const internal = clientAddress(headers, stream.info, settings.client);
    if (typeof internal === 'number') {
      this.counters.rare.add(RARE.rejectedByIp);
      return refuse(stream, { status: internal, flags: 0, details: 'rejecting because detection failed' });
    }
    stream.internal = internal;
    stream.setScheme(forwardedProto(headers, connection.tls !== undefined, settings.client));
    if (settings.ownName) introduce(headers, settings.ownName);
    if (!clientCertificate(headers, connection.tls, settings.xfcc))
      return refuse(stream, { status: 431, flags: 0, details: 'request_headers_too_large' });
    this.#requestId(headers, internal);
    if (settings.via !== '') appendVia(headers, settings.via);
    if (!this.normalize(stream)) return false;
    // Asks the route: nothing that a client only claims may be left by now.
    const denied = this.#upgrade(stream);
    if (denied) return refuse(stream, denied);
    if (!settings.proxy100Continue && headers.get(H.expect)?.toLowerCase() === '100-continue') {
      headers.remove(H.expect);
      if (!stream.requestEnded) stream.sender.sendInformational(100, undefined);
    }
    this.#timers(stream);
    return true;
  }

  /** The path as routes and policies see it; false = the request was answered here. */
  normalize(stream: HttpStream): boolean {
    const normal = normalizePath(stream.path, this.settings.path);
    if (normal.kind === 'ok') {
      stream.path = normal.path;
      return true;
    }
    const details = 'path_normalization_failed';
    const { counters } = this;
    (normal.kind === 'reject' ? counters.rqBadPath : counters.rqOtherPath).value += 1;
    if (normal.kind === 'reject') stream.localReply({ status: 400, body: '', flags: 0, details });
    else {
      const edit = (reply: HeaderMap): void => reply.set(H.location, normal.path);
      stream.localReply({ status: 307, body: '', flags: 0, details, edit });
    }
    return false;
  }

  /** Host and target; undefined when they are in order. */
  #target(stream: HttpStream): Problem | undefined {
    const { headers } = stream;
    const host = headers.getAll(H.host);
    const { settings } = this;
    if (stream.method === 'CONNECT') {
      // HTTP/1 has the authority in place of the path.
      stream.authority = stream.path === '' ? (host ?? '') : stream.path;
      stream.path = '';
      stream.info.path = '';
      headers.set(H.host, stream.authority);
      return undefined;
    }
    const absolute = stream.path.charCodeAt(0) === 47 ? null : /^https?:\/\/([^/?#]*)(.*)$/i.exec(stream.path);
    if (absolute && settings.allowAbsoluteUrl) {
      stream.authority = absolute[1]!;
      stream.path = absolute[2]!.startsWith('/') ? absolute[2]! : `/${absolute[2]}`;
      headers.set(H.host, stream.authority);
    } else if (host === undefined) {
      if (stream.info.protocol !== 'HTTP/1.0') return { status: 400, flags: 0, details: 'missing_host_header' };
      stream.authority = settings.defaultHost;
      if (settings.defaultHost !== '') headers.set(H.host, settings.defaultHost);
    } else stream.authority = host;
    if (stream.authority !== this.#goodHost) {
      // Two Host headers join with a comma, which no host contains.
      if (/[^!-~]|[,/?#@\\<>^`{|}"]/.test(stream.authority))
        return { status: 400, flags: FLAG.DPE, details: 'invalid_authority' };
      this.#goodHost = stream.authority;
    }
    if (stream.path.charCodeAt(0) !== 47) {
      this.counters.rqNotRelative.value += 1;
      return { status: 404, flags: 0, details: 'absolute_path_rejected' };
    }
    // A fragment never belongs into a request: what comes after it would be seen by one server and not by the next.
    if (stream.path.includes('#')) return { status: 400, flags: 0, details: 'path_normalization_failed' };
    if (this.settings.stripHostDot) this.#stripDot(stream);
    this.#stripPort(stream);
    return undefined;
  }

  /** `a.example.:80` → `a.example:80`. */
  #stripDot(stream: HttpStream): void {
    const bare = stream.authority.replace(/\.(?=(:\d+)?$)/, '');
    if (bare === stream.authority) return;
    stream.authority = bare;
    stream.headers.set(H.host, bare);
  }

  #stripPort(stream: HttpStream): void {
    const { stripPort } = this.settings;
    if (stripPort === 'no') return;
    const match = /^(.*):(\d+)$/.exec(stream.authority);
    if (!match) return;
    const { local } = stream.connection;
    if (stripPort === 'matching' && !(local.kind === 'ip' && String(local.port) === match[2])) return;
    stream.authority = match[1]!;
    stream.headers.set(H.host, stream.authority);
  }

  #upgrade(stream: HttpStream): Problem | undefined {
    if (stream.upgrade === '') return undefined;
    if (stream.upgrade === 'h2c') {
      // An offer, not a demand: go on with HTTP/1.1.
      stream.upgrade = '';
      stream.headers.remove(H.http2Settings);
      return undefined;
    }
    const { route } = stream;
    if (stream.upgrade === 'connect' && !route) return { status: 404, flags: FLAG.NR, details: 'route_not_found' };
    const byRoute = route?.action.kind === 'forward' ? route.action.upgrades.get(stream.upgrade) : undefined;
    const allowed = byRoute ?? this.settings.upgrades.get(stream.upgrade) ?? false;
    if (!allowed) {
      this.counters.rqNoUpgrade.value += 1;
      return { status: 403, flags: 0, details: 'upgrade_failed' };
    }
    stream.upgraded = true;
    this.counters.cxUpgrades.value += 1;
    this.counters.cxUpgradesActive.value += 1;
    return undefined;
  }

  #requestId(headers: HeaderMap, internal: boolean): void {
    if (!this.settings.generateRequestId) return;
    const edge = this.settings.client.useRemoteAddress && !internal;
    if (edge && !this.settings.preserveExternalRequestId) headers.remove(H.requestId);
    if (!headers.has(H.requestId)) headers.add(H.requestId, newRequestId(this.deps.random));
  }

  #timers(stream: HttpStream): void {
    const { requestTimeoutMs } = this.settings;
    if (requestTimeoutMs > 0 && !stream.requestEnded)
      stream.after(requestTimeoutMs, () => {
        if (stream.requestEnded) return;
        this.counters.rqTimeout.value += 1;
        stream.localReply({ status: 408, body: 'request timeout', flags: 0, details: 'request_overall_timeout' });
      });
  }

  finishResponseHeaders(stream: HttpStream, headers: HeaderMap): void {
    this.tracer?.answered(stream.traceReason);
    const { settings } = this;
    if (settings.serverHeader === 'overwrite') headers.set(H.server, settings.serverName);
    else if (settings.serverHeader === 'if-absent') headers.setIfAbsent(H.server, settings.serverName);
    if (settings.via !== '') appendVia(headers, settings.via);
    // Who forces a trace wants to find it.
    if (settings.alwaysSetRequestIdInResponse || stream.headers?.has(H.forceTrace)) {
      const id = stream.headers.get(H.requestId);
      if (id !== undefined) headers.set(H.requestId, id);
    }
  }

  /** Lines at the start of a request and while it lasts, where the configuration wants them. */
  watch(stream: HttpStream): void {
    const { atStart, everyMs } = this.settings.logging;
    if (!this.#log) return;
    if (atStart) this.#noteAs(stream.info, LOG_TYPE.downstreamStart);
    if (everyMs > 0) this.#every(stream, everyMs);
  }

  #every(stream: HttpStream, ms: number): void {
    stream.after(ms, () => {
      const { info } = stream;
      info.duration = this.deps.clock.now() - info.startTime;
      this.#noteAs(info, LOG_TYPE.downstreamPeriodic);
      info.duration = -1;
      this.#every(stream, ms);
    });
  }

  h2(): ConstructorParameters<typeof H2ServerConnection>[3] {
    const { clock, random, stats } = this.deps;
    this.#h2Deps ??= { clock, random, counters: h2Counters(stats) };
    return this.#h2Deps;
  }

  #noteAs(info: StreamInfo, type: number): void {
    const { logType } = info;
    info.logType = type;
    this.note(info);
    info.logType = logType;
  }

  /** One more line in the access log: a part of a request that goes on. */
  note(info: StreamInfo): void {
    this.#log?.(info);
  }

  complete(stream: HttpStream): void {
    this.tracer?.finish(stream.info, stream.route?.decorator || stream.authority);
    const { counters } = this;
    const { info } = stream;
    counters.rqActive.value -= 1;
    if (stream.upgraded) counters.cxUpgradesActive.value -= 1;
    this.#countAnswer(info.responseCode);
    counters.rqTime.record(info.duration);
    this.completeFilters(stream);
    this.#log?.(info);
  }

  completeFilters(stream: HttpStream): void {
    const { filters } = stream.plan;
    for (let i = 0; i < filters.length; i++) filters[i]!.onComplete?.(stream, i);
  }

  /** The whole answer stood before the whole request; what is left of it is reset. */
  countEarlyAnswer(): void {
    this.counters.rqEarlyAnswer.value += 1;
    this.counters.rqRxReset.value += 1;
  }

  #countAnswer(status: number): void {
    this.counters.rqCompleted.value += 1;
    this.#ofListener.rqCompleted.value += 1;
    const digit = Math.floor(status / 100);
    if (digit < 1 || digit > 5) return;
    this.counters.rqClasses[digit - 1]!.value += 1;
    this.#ofListener.rqClasses[digit - 1]!.value += 1;
  }

  /** A request that never became a stream still has its log line. */
  badRequest(connection: ConnectionInfo, error: string, status: number, bytes: number): void {
    const { counters } = this;
    if (error === 'http1.body') {
      counters.cxProtocolError.value += 1;
      return;
    }
    counters.rqTotal.value += 1;
    this.#countAnswer(status);
    this.countEarlyAnswer();
    this.tracer?.answered('none');
    const timedOut = error === 'request_header_timeout';
    (timedOut ? counters.rqHeaderTimeout : counters.cxProtocolError).value += 1;
    this.#log?.(
      badRequestInfo(connection, { error, status, bytes, flags: timedOut ? 0 : FLAG.DPE, now: this.deps.clock.now() }),
    );
  }

  #scheduleSweep(): void {
    const { idleMs } = this.settings;
    this.#sweep = this.deps.clock.after(Math.max(250, idleMs / 4), () => {
      this.#sweep = undefined;
      const { pressure, bypass } = this.deps.load;
      // reduce_timeouts: under load idle connections go sooner.
      const wait = bypass ? idleMs : Math.max(pressure.minIdleMs, idleMs * pressure.idleScale);
      const deadline = this.deps.clock.now() - Math.min(wait, idleMs);
      for (const { codec } of this.#connections)
        if (!codec.busy && codec.lastActive <= deadline) {
          this.counters.cxIdleTimeout.value += 1;
          codec.close();
        }
      if (this.#connections.size > 0) this.#scheduleSweep();
    });
  }
}
