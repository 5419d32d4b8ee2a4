// What a request is, which route it takes and how long it may: the base of a stream (stream.ts), so that none of it is an object of
// its own.
import type { Deadline } from '../../../base/runtime/deadlines.ts';
import type { PerFilter } from '../http-filter/per-filter.ts';
import { streamDuration } from '../http-filter/router-request.ts';
import type { ClusterChoice } from '../route/action.ts';
import type { CompiledRoute } from '../route/compiled.ts';
import { applyEdits } from '../route/header-edits.ts';
import type { RequestView } from '../route/matchers.ts';
import type { ConnectionManager } from './connection-manager.ts';
import type { HeaderMap } from './header-map.ts';
import type { LocalReply } from './local-reply.ts';
import { H } from './names.ts';
import { type ConnectionInfo, FLAG, StreamInfo } from './stream-info.ts';

const GRPC_DEADLINE_EXCEEDED = 4;

export abstract class RoutedRequest implements RequestView {
  readonly manager: ConnectionManager;
  info: StreamInfo;
  readonly connection: ConnectionInfo;
  headers!: HeaderMap;
  method = '';
  path = '';
  authority = '';
  scheme = 'http';
  upgrade = '';
  grpc = false;
  /** The caller is one of ours (x-envoy-internal). */
  internal = false;
  requestEnded = false;
  /** The cluster a forwarding route chose for this request. */
  choice: ClusterChoice | undefined;
  #idleMs: number;
  #cancelDuration: (() => void) | undefined;
  #route: CompiledRoute | undefined;
  #routeKnown = false;
  #idle: { cancel(): void } | undefined;
  #touchedAt = 0;
  #timers: Deadline[] | undefined;

  constructor(manager: ConnectionManager, connection: ConnectionInfo) {
    this.manager = manager;
    this.connection = connection;
    this.info = new StreamInfo(connection, manager.deps.clock.now());
    this.#idleMs = manager.settings.streamIdleMs;
  }

  /** Answers by ourselves. */
  abstract localReply(reply: LocalReply): void;

  // --- where it goes

  /** The route of this request; found once. */
  get route(): CompiledRoute | undefined {
    if (!this.#routeKnown) {
      this.#routeKnown = true;
      const table = this.manager.routes.tableFor(this);
      // Before anything can match them.
      if (table && !this.internal) for (const name of table.internalOnly) this.headers.remove(name);
      this.#route = table?.find(this, this.manager.deps.random);
      const host = this.#route?.virtualHost ?? table?.hostOf(this);
      this.info.virtualHost = host?.name ?? '';
      this.onRoute();
    }
    return this.#route;
  }

  /** What a route says about the whole stream: cluster, idle time, duration. */
  protected onRoute(): void {
    const route = this.#route;
    const { settings, deps } = this.manager;
    this.info.routeName = route?.name ?? '';
    this.info.routeMetadata = route?.metadata;
    this.info.virtualHostMetadata = route?.virtualHost.metadata;
    const forward = route?.action.kind === 'forward' ? route.action : undefined;
    this.choice = forward?.choose(this, deps.random);
    // A cluster that does not exist is no upstream.
    const name = this.choice?.name ?? '';
    this.info.setCluster(name === '' ? undefined : deps.clusters.find(name));
    const idleMs = forward && forward.idleTimeoutMs >= 0 ? forward.idleTimeoutMs : settings.streamIdleMs;
    if (idleMs !== this.#idleMs) {
      this.#idleMs = idleMs;
      this.#idle?.cancel();
      this.#idle = undefined;
      this.touch();
    }
    this.#cancelDuration?.();
    this.#cancelDuration = undefined;
    const duration = streamDuration(forward?.duration, settings.maxStreamMs, this);
    if (duration > 0) this.#cancelDuration = this.after(duration, () => this.#tooLong());
  }

  setScheme(scheme: string): void {
    this.scheme = scheme;
    this.info.scheme = scheme;
  }

  /** The request asks for something else; the route is looked up anew. */
  retarget(scheme: string, authority: string, path: string, method: string): void {
    this.setScheme(scheme);
    this.authority = authority;
    this.path = path;
    this.method = method;
    this.info.method = method;
    this.info.path = path;
    this.info.authority = authority;
    this.headers.set(H.host, authority);
    this.forgetRoute();
  }

  /** Undoes a look-up that `retarget` caused. */
  keepRoute(route: CompiledRoute): void {
    this.#route = route;
    this.#routeKnown = true;
    this.onRoute();
  }

  /** Header edits that the route and its weighted cluster want on every answer. */
  applyResponseEdits(headers: HeaderMap): void {
    const route = this.#route;
    if (!route) return;
    const own = this.choice?.responseEdits;
    if (own && !route.specificLast) applyEdits(own, headers, this.info);
    for (const edits of route.responseEdits) applyEdits(edits, headers, this.info);
    if (own && route.specificLast) applyEdits(own, headers, this.info);
  }

  /** The table may have changed: the route is looked up again. */
  forgetRoute(): void {
    this.#routeKnown = false;
  }

  /** Settings of the route, virtual host or table for a filter, the most specific ones. */
  settingsOf(name: string): unknown {
    return this.perFilter?.get(name)?.settings;
  }

  /** Settings of all levels, the most specific first. */
  levelsOf(name: string): unknown[] {
    const out: unknown[] = [];
    for (let entry = this.perFilter?.get(name); entry; entry = entry.outer)
      if (entry.settings !== undefined) out.push(entry.settings);
    return out;
  }

  get perFilter(): PerFilter | undefined {
    // First: with the route the choice is another.
    const { route } = this;
    return this.choice?.perFilter ?? route?.perFilter;
  }

  // --- how long it may

  /** A timer that ends with the stream. */
  after(delayMs: number, run: () => void): () => void {
    const timer = this.manager.deadlines.after(delayMs, run);
    this.#timers ??= [];
    this.#timers.push(timer);
    return () => timer.cancel();
  }

  /** Something happened: the idle clock starts again. */
  touch(): void {
    const ms = this.#idleMs;
    if (ms <= 0) return;
    this.#touchedAt = this.manager.deps.clock.now();
    this.#idle ??= this.manager.deadlines.after(ms, () => this.#checkIdle());
  }

  /** One timer a stream, however often it is touched: when it ends early it waits for the rest. */
  #checkIdle(): void {
    const { clock } = this.manager.deps;
    const left = this.#touchedAt + this.#idleMs - clock.now();
    if (left > 0) {
      const cancel = clock.after(left, () => this.#checkIdle());
      this.#idle = { cancel };
      return;
    }
    this.manager.counters.rqIdleTimeout.value += 1;
    this.localReply({
      status: this.requestEnded ? 504 : 408,
      body: 'stream timeout',
      flags: FLAG.SI,
      details: 'stream_idle_timeout',
    });
  }

  #tooLong(): void {
    this.manager.counters.rqMaxDuration.value += 1;
    this.localReply({
      status: this.requestEnded ? 504 : 408,
      body: 'downstream duration timeout',
      flags: 0,
      grpcStatus: GRPC_DEADLINE_EXCEEDED,
      details: 'max_duration_timeout',
    });
  }

  protected endTimers(): void {
    this.#idle?.cancel();
    if (this.#timers) for (const timer of this.#timers) timer.cancel();
  }
}
