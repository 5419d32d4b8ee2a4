// The proxy as one object: made from a bootstrap and injected effects, started, asked, drained, stopped.
// Called by wiring.ts (the `envoy` process) and by tests, several in one process.
import type { Bootstrap } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import type { Node } from '#proto/envoy/config/core/v3/base_pb.js';
import type { Clock } from '../../base/runtime/clock.ts';
import { fileAccessLog } from './access-log/legacy.ts';
import { AccessLogManager } from './access-log/logger.ts';
import { refreshGauges } from './admin/gauges.ts';
import { type AdminOptions, AdminServer } from './admin/server.ts';
import type { AdminTarget, AnswerTo, Gathered, ServerState, ThreadAnswer, ThreadQuestion } from './admin/target.ts';
import { ThreadProfiler } from './admin/thread-profiler.ts';
import { ClusterManager } from './cluster/manager.ts';
import { addressOf, addressText, type SocketAddr } from './config/address.ts';
import { nodeMetadata } from './config/bootstrap.ts';
import { millis } from './config/fields.ts';
import type { EngineDeps, EngineOptions } from './engine-deps.ts';
import { localPeer } from './http-filter/peer.ts';
import { DEFAULT_STATS_FLUSH_MS, MAX_LOG_BACKLOG_BYTES } from './limits.ts';
import type { ConnectionLimit } from './listener/listener.ts';
import { ListenerManager } from './listener/manager.ts';
import { SharedBuckets } from './network-filter/connection-limits.ts';
import { readOverload } from './overload/config.ts';
import { NO_MEMORY, OverloadManager } from './overload/manager.ts';
import { noPressure, settle } from './overload/pressure.ts';
import { readWatchdogs, type WatchdogSettings, watch } from './overload/watchdog.ts';
import type { LogControl } from './process-log.ts';
import { Runtime } from './runtime/runtime.ts';
import { IstioStats } from './stats/istio-stats.ts';
import { readNaming, type StatNaming } from './stats/render.ts';
import { StatsStore } from './stats/stats.ts';
import { SharedNumbers } from './tally/numbers.ts';
import { LocalPlaces } from './tally/places.ts';
import { TapControl } from './tap/control.ts';
import { TapDesk } from './tap/desk.ts';
import { openGrpcStream } from './upstream/grpc-client.ts';
import { addUp } from './workers/numbers.ts';
import { DynamicStart, readAds } from './xds/dynamic.ts';
import { ExtensionManager } from './xds/ecds.ts';
import { createEndpointSource } from './xds/eds.ts';
import { DiscoveryHub, type HubDeps } from './xds/hub.ts';
import { ownNode } from './xds/node.ts';
import { RouteManager } from './xds/rds.ts';
import { SecretManager } from './xds/sds.ts';
import { ScopeManager } from './xds/srds.ts';

/** Values of the gauge server.state (Envoy's enum). */
const STATE_NUMBER: Readonly<Record<ServerState, number>> = {
  LIVE: 0,
  DRAINING: 1,
  PRE_INITIALIZING: 2,
  INITIALIZING: 3,
};

export class Engine implements AdminTarget {
  /** Without its static clusters, once they are applied. */
  readonly bootstrap: Bootstrap;
  readonly options: EngineOptions;
  readonly deps: EngineDeps;
  readonly stats = new StatsStore();
  readonly naming: StatNaming;
  readonly istioStats: IstioStats;
  readonly clusters: ClusterManager;
  readonly listeners: ListenerManager;
  readonly routes: RouteManager;
  readonly scopes: ScopeManager;
  readonly secrets: SecretManager;
  readonly logs: AccessLogManager;
  readonly runtime: Runtime;
  readonly hub: DiscoveryHub;
  readonly node: Node;
  readonly pressure = noPressure();
  /** Downstream connections of all listeners. */
  readonly connections: ConnectionLimit;
  readonly startedAt: number;
  readonly #dynamic: DynamicStart;
  readonly #admin: AdminServer | undefined;
  readonly #overload: OverloadManager;
  /** The tap filters of this thread, and who taps all threads. */
  readonly taps: TapDesk;
  readonly tap: TapControl;
  readonly #profiler: ThreadProfiler;
  readonly #watchdog: WatchdogSettings | undefined;
  #stopWatchdog: (() => void) | undefined;
  #state: ServerState = 'PRE_INITIALIZING';
  #begun = false;
  #startedWorkers = false;
  #failingHealth = false;
  #stopFlush: (() => void) | undefined;
  #live: (() => void)[] = [];

  /** Throws ConfigError when the bootstrap cannot be used; nothing is opened then. */
  constructor(bootstrap: Bootstrap, options: EngineOptions, deps: EngineDeps) {
    this.bootstrap = bootstrap;
    this.options = options;
    this.deps = deps;
    const { clock, random, log, reader } = deps;
    const { stats } = this;
    this.startedAt = clock.now();
    this.#profiler = new ThreadProfiler(clock);
    this.naming = readNaming(bootstrap.statsConfig, options.statsTags);
    stats.shown = this.naming.shown;
    stats.bounds = this.naming.bounds;
    const node = nodeMetadata(bootstrap);
    this.istioStats = new IstioStats(stats, typeof node.ISTIO_VERSION === 'string' ? node.ISTIO_VERSION : undefined);
    const nodeMessage = ownNode(bootstrap.node, options, this.version);
    this.node = nodeMessage;
    this.runtime = new Runtime(bootstrap.layeredRuntime, {
      stats,
      files: deps.runtimeFiles,
      serviceCluster: nodeMessage.cluster,
    });
    const { runtime } = this;
    this.taps = new TapDesk(runtime);
    this.tap = new TapControl(this.taps, deps.workers);
    const overload = readOverload(bootstrap.overloadManager);
    const shared = deps.shared && new SharedNumbers(deps.shared);
    this.connections = {
      max: overload.maxConnections,
      places: shared?.counters('connections')(0) ?? new LocalPlaces(),
    };
    this.#overload = new OverloadManager(overload, {
      clock,
      stats,
      memory: deps.memory ?? NO_MEMORY,
      pressure: this.pressure,
    });
    const watchdogs = readWatchdogs(bootstrap.watchdogs);
    this.#watchdog = options.isWorker ? watchdogs.worker : watchdogs.main;
    const format = {
      hostname: deps.hostname,
      localAddress: deps.localAddress,
      variable: reader.variable,
      random,
      now: clock.now,
    };
    this.logs = new AccessLogManager({
      files: deps.files,
      clock,
      stats,
      flushMs: options.logFlushMs,
      flushBytes: Math.min(options.logFlushBytes, MAX_LOG_BACKLOG_BYTES),
      runtime,
      random,
      reader,
      format,
    });
    const hubDeps: HubDeps = {
      node: nodeMessage,
      unknownFields: options.unknownFields,
      clock,
      random,
      stats,
      log: log.scope('upstream'),
      files: deps.watchedFiles,
      open: ({ source, method, onMessage, onClose }) => {
        const cluster = this.clusters.find(source.cluster);
        const { authority, metadata } = source;
        return cluster && openGrpcStream(cluster, { method, authority, metadata, onMessage, onClose });
      },
    };
    this.hub = deps.createHub?.(hubDeps) ?? new DiscoveryHub(hubDeps);
    this.secrets = new SecretManager({ reader, clock, hub: this.hub });
    for (const [i, secret] of (bootstrap.staticResources?.secrets ?? []).entries())
      this.secrets.addStatic(secret, `static_resources.secrets[${i}]`);
    const routeDeps = {
      format,
      runtime,
      reader,
      stats,
      clock,
      shared,
      knownCluster: (name: string) => this.clusters.knows(name),
    };
    this.routes = new RouteManager(clock, routeDeps, this.hub);
    this.scopes = new ScopeManager(this.hub, this.routes);
    this.clusters = new ClusterManager({
      stats,
      clock,
      random,
      reader,
      secrets: this.secrets,
      resolve: deps.resolve,
      capture: deps.capture,
      runtime,
      eventLog: (path) => this.logs.writer(path),
      outlierLogPath: bootstrap.clusterManager?.outlierDetection?.eventLogPath ?? '',
      endpoints: createEndpointSource(this.hub),
      healthTeller: deps.healthTeller,
      toldHealth: deps.toldHealth,
      shared,
      sharedHosts: deps.sharedHosts,
      sharedNames: deps.sharedNames,
      tlsTransport: deps.tlsTransport ?? 'openssl',
    });
    this.listeners = new ListenerManager({
      healthFailed: () => this.#failingHealth,
      sharedBuckets: new SharedBuckets(shared),
      shared,
      serviceCluster: nodeMessage.cluster,
      tlsTransport: deps.tlsTransport ?? 'openssl',
      capture: deps.capture,
      stats,
      clock,
      random,
      reader,
      log: log.scope('config'),
      secrets: this.secrets,
      clusters: this.clusters,
      routes: this.routes,
      routeDeps,
      format,
      scopes: this.scopes,
      extensions: new ExtensionManager(this.hub),
      logs: this.logs,
      local: localPeer(options.nodeId || bootstrap.node?.id || '', node),
      istioStats: this.istioStats,
      taps: this.taps,
      runtime,
      sockets: deps.sockets,
      drain: { drainMs: options.drainMs, strategy: options.drainStrategy },
      pressure: this.pressure,
      connections: this.connections,
    });
    try {
      readAds(bootstrap, this.hub);
      this.#loadClusters();
      this.#dynamic = new DynamicStart(bootstrap, {
        hub: this.hub,
        clusters: this.clusters,
        listeners: this.listeners,
        runtime,
        clock,
        changed: () => this.#advance(),
      });
      this.#loadListeners();
      this.#admin =
        bootstrap.admin?.address && !options.isWorker
          ? new AdminServer(this, addressOf(bootstrap.admin.address, 'admin.address'), this.#adminOptions())
          : undefined;
    } catch (error) {
      this.#dispose();
      throw error;
    }
    this.#gauges();
  }

  get state(): ServerState {
    return this.#failingHealth && this.#state === 'LIVE' ? 'DRAINING' : this.#state;
  }

  /** Address of the admin interface once started. */
  get adminAddress(): SocketAddr | undefined {
    return this.#admin?.bound;
  }

  /** Opens the admin interface, asks the control plane, and listens when everything needed has arrived. */
  async start(): Promise<void> {
    this.runtime.watch();
    this.#flushStats();
    this.#overload.start();
    if (this.#watchdog)
      this.#stopWatchdog = watch(
        this.#watchdog,
        this.options.isWorker ? 'workers' : 'main_thread',
        this.clock,
        this.stats,
      );
    await this.#admin?.listen();
    if (this.#admin) this.deps.log.info(`admin address: ${addressText(this.#admin.bound)}`);
    this.#begun = true;
    const again = (): void => this.#advance();
    this.clusters.onChange(again);
    this.listeners.onChange(again);
    this.deps.workers?.start((error) => this.#cannotStart(error));
    if (this.#dynamic.used) await this.listeners.startStatic();
    this.hub.start();
    this.#advance();
  }

  get version(): string {
    return this.options.version;
  }

  get commandLine(): EngineOptions['commandLine'] {
    return this.options.commandLine;
  }

  get clock(): Clock {
    return this.deps.clock;
  }

  get log(): LogControl {
    const { logLevel } = this.options;
    const { workers } = this.deps;
    if (!workers) return logLevel;
    const tell = (done: boolean, logger: string | undefined, level: string): boolean => {
      if (done) workers.command({ kind: 'log', logger, level });
      return done;
    };
    return {
      current: () => logLevel.current(),
      all: () => logLevel.all(),
      set: (level) => tell(logLevel.set(level), undefined, level),
      setOne: (logger, level) => tell(logLevel.setOne(logger, level), logger, level),
    };
  }

  gather(): Gathered | Promise<Gathered> {
    refreshGauges(this);
    this.stats.settle();
    const { workers } = this.deps;
    if (workers) return workers.gather().then((numbers) => addUp(this.stats, this.istioStats, numbers));
    return { stats: this.stats, istioStats: this.istioStats, hosts: undefined };
  }

  async askThreads<Q extends ThreadQuestion>(question: Q): Promise<readonly ThreadAnswer<Q>[]> {
    const own = this.answer(question).then((answer) => ({ thread: 'main', answer }));
    const [first, others] = await Promise.all([own, this.deps.workers?.askWorkers(question) ?? []]);
    return [first, ...others];
  }

  /** This thread alone. */
  async answer<Q extends ThreadQuestion>(question: Q): Promise<AnswerTo<Q>> {
    const answer =
      question.kind === 'lookups' ? this.stats.lookups.answer(question) : await this.#profiler.answer(question);
    return answer as AnswerTo<Q>;
  }

  overrideRuntime(values: ReadonlyMap<string, string>): boolean {
    if (!this.runtime.override(values)) return false;
    this.deps.workers?.command({ kind: 'runtime', values: [...values] });
    return true;
  }

  resetCounters(): void {
    this.stats.resetCounters();
    this.deps.workers?.command({ kind: 'reset-counters' });
  }

  reopenLogs(): void {
    this.logs.reopen();
    this.deps.workers?.command({ kind: 'reopen-logs' });
  }

  drainListeners(how: { readonly inboundOnly: boolean; readonly graceful: boolean; readonly skipExit: boolean }): void {
    this.listeners.drain(how);
    this.deps.workers?.command({ kind: 'drain', ...how });
  }

  quit(): void {
    this.options.onQuit(0);
  }

  /** Resolves when the state is LIVE. */
  whenLive(): Promise<void> {
    if (this.#state === 'LIVE') return Promise.resolve();
    return new Promise((resolve) => this.#live.push(resolve));
  }

  setHealthFailing(failing: boolean): void {
    this.#failingHealth = failing;
    this.pressure.failingHealth = failing;
    settle(this.pressure);
    this.#gauges();
    this.deps.workers?.command({ kind: 'health', failing });
  }

  /** Closes everything now. */
  stop(): void {
    this.#dispose();
    this.#admin?.close();
    this.logs.flush();
  }

  #dispose(): void {
    this.#stopFlush?.();
    this.#overload.stop();
    this.#stopWatchdog?.();
    this.runtime.stop();
    this.hub.stop();
    this.listeners.stop();
    this.clusters.stop();
  }

  #loadClusters(): void {
    // The clusters keep them as bytes: whoever holds the bootstrap would hold thousands of messages.
    for (const cluster of this.bootstrap.staticResources?.clusters.splice(0) ?? []) this.clusters.apply(cluster, true);
  }

  #loadListeners(): void {
    for (const [i, listener] of (this.bootstrap.staticResources?.listeners ?? []).entries()) {
      // Static listeners may come without a name.
      if (listener.name === '') listener.name = `listener_${i}`;
      this.listeners.apply(listener, true);
    }
  }

  /** The order of start: clusters, then listeners, then traffic. */
  #advance(): void {
    if (!this.#begun || this.#startedWorkers) return;
    const ready = this.#dynamic.advance();
    if (this.#state === 'PRE_INITIALIZING' && this.#dynamic.clustersDone) this.#setState('INITIALIZING');
    if (!ready || this.#startedWorkers) return;
    this.#startedWorkers = true;
    void Promise.all([this.listeners.start(), this.deps.workers?.started()]).then(
      () => {
        this.#setState('LIVE');
        this.stats.histogram('server.initialization_time_ms').record(this.clock.now() - this.startedAt);
        this.deps.log.info('all dependencies initialized. starting workers');
        for (const run of this.#live.splice(0)) run();
      },
      (error: unknown) => this.#cannotStart(error),
    );
  }

  #cannotStart(error: unknown): void {
    this.deps.log.error('cannot start', { error: error instanceof Error ? error.message : String(error) });
    this.options.onQuit(1);
  }

  /** stats_flush_interval: histograms start a new interval. With stats_flush_on_admin that is when somebody looks. */
  #flushStats(): void {
    const { statsFlush, statsFlushInterval } = this.bootstrap;
    if (statsFlush.case === 'statsFlushOnAdmin') return;
    const ms = millis(statsFlushInterval, DEFAULT_STATS_FLUSH_MS);
    const next = (): void => {
      this.#stopFlush = this.deps.clock.after(ms, () => {
        this.stats.turn();
        next();
      });
    };
    next();
  }

  #setState(state: ServerState): void {
    this.#state = state;
    this.#gauges();
  }

  #gauges(): void {
    this.stats.gauge('server.state').value = STATE_NUMBER[this.state];
    this.stats.gauge('server.live').value = this.state === 'DRAINING' ? 0 : 1;
  }

  #adminOptions(): AdminOptions {
    const admin = this.bootstrap.admin;
    const legacy = admin?.accessLogPath ? [fileAccessLog(admin.accessLogPath)] : [];
    const { connections } = this;
    return {
      log: this.logs.build([...(admin?.accessLog ?? []), ...legacy], 'admin'),
      admit: admin?.ignoreGlobalConnLimit
        ? undefined
        : () => {
            if (!connections.places.tryEnter(connections.max)) return undefined;
            return () => connections.places.leave();
          },
    };
  }
}
