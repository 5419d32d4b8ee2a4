// One upstream cluster: its hosts, balancer, connection pools, limits and counters. Made by the cluster manager.
import { fromBinary } from '@bufbuild/protobuf';
import { type Cluster as ClusterMessage, ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { SocketAddr } from '../config/address.ts';
import { ConfigError, join } from '../config/fields.ts';
import type { Protocol } from '../http/codec.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { Capture } from '../listener/capture.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { StatsScope, StatsStore } from '../stats/stats.ts';
import type { HostLedger, SharedHosts } from '../tally/host-numbers.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { ProxiedFor, UpstreamSocket, UpstreamSource } from '../transport-socket/dial.ts';
import type { SecretLease, SecretStore, TlsBuildContext } from '../transport-socket/tls-context.ts';
import { type Breakers, buildBreakers } from '../upstream/breakers.ts';
import type { UpstreamPool } from '../upstream/exchange.ts';
import { type Balancer, BalancerCounters } from './balancer/balancer.ts';
import { createBalancer, goesByLoad } from './balancer/make.ts';
import { type ClusterSettings, readCluster, type ServiceIdentity, serviceOf } from './config.ts';
import { inTurns } from './connection-config.ts';
import { type ClusterCounters, clusterCounters, RARE } from './counters.ts';
import type { DnsCaches } from './dns-cache.ts';
import { type Assignment, metadataOf, NO_ENDPOINTS, readEndpoints } from './endpoints.ts';
import { ForwardProxy } from './forward-proxy.ts';
import type { ToldHealth } from './health/remote.ts';
import { HEALTH, type Host, type Metadata } from './host.ts';
import { createHostHealth, type HealthTeller, type HostHealth, hostName, type OutcomeSink } from './host-health.ts';
import type { LbContext, Outcome, RoutingPriority } from './lb-context.ts';
import { Membership } from './membership.ts';
import { OriginalDst } from './original-dst.ts';
import type { SuccessRates } from './outlier/detector.ts';
import { ClusterPools } from './pools.ts';
import { SocketMatches } from './socket-matches.ts';

export interface ClusterDeps extends Omit<TlsBuildContext, 'secrets'> {
  readonly secrets: SecretStore;
  readonly stats: StatsStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly runtime: RuntimeView;
  readonly capture?: Capture | undefined;
  /** Opens a file for lines of events. */
  readonly eventLog: (path: string) => (line: string) => void;
  /** The bootstrap's file for events of outlier detection; empty = none. */
  readonly outlierLogPath: string;
  /** What limits count by when there are workers. */
  readonly shared?: SharedNumbers | undefined;
  readonly sharedHosts?: SharedHosts | undefined;
  /** Of the main thread of workers: they learn what it finds about hosts. */
  readonly healthTeller?: HealthTeller | undefined;
  /** Of a worker: it is told about hosts, and neither checks nor ejects any. */
  readonly toldHealth?: ToldHealth | undefined;
  /** DNS caches of dynamic forward proxies. */
  readonly dnsCaches: DnsCaches;
}

export interface Encoded {
  readonly bytes: Uint8Array;
  /** Their fingerprint, the same in all threads. */
  readonly print: string;
}

/** Given back with the cluster, or by who made it when it is refused. */
export interface Owned {
  readonly secrets: SecretLease;
  readonly scope: StatsScope;
}

/** What the statistics of a cluster are called by. */
export function statNameOf({ altStatName, name }: ClusterMessage): string {
  return altStatName || name;
}

export class Cluster {
  readonly name: string;
  /** alt_stat_name; empty = none. */
  readonly alias: string;
  /** What its statistics are called by. */
  readonly statName: string;
  readonly #packed: string;
  readonly settings: ClusterSettings;
  readonly metadata: Metadata;
  readonly service: ServiceIdentity | undefined;
  readonly scope: StatsScope;
  readonly counters: ClusterCounters;
  /** Circuit breakers of the default priority. */
  readonly breakers: Breakers;
  /** Hosts of the message itself: static ones, or the names DNS asks for. */
  readonly configured: Assignment;
  readonly #byPriority: { readonly high: Breakers };
  /** What all workers use of the hosts; undefined = nobody asks, or this thread serves alone. */
  readonly #ledger: HostLedger | undefined;
  readonly #deps: ClusterDeps;
  readonly #print: string;
  readonly #sockets: SocketMatches;
  readonly #secrets: SecretLease;
  /** Made for the first connection: many clusters never have any. */
  #pools: ClusterPools | undefined;
  readonly #membership: Membership;
  readonly #balancer: Balancer;
  readonly #originalDst: OriginalDst | undefined;
  /** Hosts that requests name; undefined = another cluster type. */
  readonly forward: ForwardProxy | undefined;
  readonly #health: HostHealth | undefined;
  readonly #outcomes: OutcomeSink | undefined;
  #assigned = false;
  #maintenanceVersion = -1;
  #maintenanceShare = 0;
  #cancelStale: (() => void) | undefined;
  /** TCP sessions to close when their host fails. */
  readonly #sessions = new Map<Host, Set<() => void>>();
  #onWarm: () => void = () => {};

  /** `encoded`: the message. */
  constructor(message: ClusterMessage, encoded: Encoded, deps: ClusterDeps, owned: Owned, path: string) {
    const { bytes, print } = encoded;
    const { secrets } = owned;
    this.#packed = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    this.name = message.name;
    this.alias = message.altStatName;
    this.statName = statNameOf(message);
    this.settings = readCluster(message, deps.runtime, path);
    this.metadata = metadataOf(message.metadata);
    this.service = serviceOf(this.metadata.istio);
    this.#deps = deps;
    this.#print = print;
    this.scope = owned.scope;
    this.#secrets = secrets;
    this.#sockets = new SocketMatches(message, { ...deps, secrets }, this.scope, path);
    const { type } = this.settings;
    if (message.loadAssignment && (type === 'eds' || type === 'original-dst' || type === 'forward-proxy'))
      throw new ConfigError(join(path, 'load_assignment'), `is not allowed for cluster type ${type}`);
    this.configured = message.loadAssignment
      ? readEndpoints(
          message.loadAssignment,
          join(path, 'load_assignment'),
          type === 'strict-dns' || type === 'logical-dns',
        )
      : NO_ENDPOINTS;
    if (type === 'logical-dns' && this.configured.specs.length !== 1)
      throw new ConfigError(
        join(path, 'load_assignment'),
        'LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint',
      );
    this.counters = clusterCounters(this.scope, deps.stats);
    const breakers = buildBreakers(
      message.circuitBreakers,
      {
        scope: this.scope,
        runtime: deps.runtime,
        clusterName: message.name,
        shared: deps.shared?.counters(`cluster ${message.name} ${print}`),
      },
      join(path, 'circuit_breakers'),
    );
    this.breakers = breakers.default;
    this.#byPriority = breakers;
    this.#balancer = this.#makeBalancer();
    this.#membership = this.#makeMembership();
    this.forward = this.#makeForward(path);
    // From here on something runs that has to be stopped.
    try {
      this.#ledger = this.#makeLedger((message.circuitBreakers?.perHostThresholds.length ?? 0) > 0);
      this.#health = this.#makeHealth();
      this.#outcomes = this.#health?.outcomes;
      if (type === 'static') this.assign(this.configured);
    } catch (error) {
      this.#stop();
      throw error;
    }
    if (type !== 'original-dst') return;
    const { originalDst } = this.settings;
    const { capture } = deps;
    const reach = capture && ((address: SocketAddr) => capture.reach(address, this.name));
    this.#originalDst = new OriginalDst(
      originalDst,
      deps.clock,
      this.counters,
      (host) => this.#pools?.dropHost(host),
      reach,
    );
    this.#assigned = true;
  }

  /** The configuration, made from its bytes at each call: a message is ten times as large, and there may be thousands. */
  decode(): ClusterMessage {
    return fromBinary(ClusterSchema, Buffer.from(this.#packed, 'latin1'));
  }

  /** Discovery has spoken. */
  get assigned(): boolean {
    return this.#assigned;
  }

  /** Hosts were given, and each was checked once. */
  get initialized(): boolean {
    return this.#assigned && !this.#health?.warming;
  }

  /** It serves from now on. */
  activate(): void {
    this.#membership.counting = true;
  }

  /** Calls back when the first health checks are over. */
  onWarm(run: () => void): void {
    this.#onWarm = run;
  }

  #makeForward(path: string): ForwardProxy | undefined {
    const { forward, http } = this.settings;
    if (!forward) return undefined;
    const tls = this.#sockets.plain.kind === 'tls';
    if (tls && !forward.insecure && !(http.autoSni && http.autoSanValidation))
      throw new ConfigError(
        path,
        'dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true unless allow_insecure_cluster_options is set.',
      );
    this.#assigned = true;
    const cache = this.#deps.dnsCaches.get(forward.cache, forward.path);
    return new ForwardProxy(cache, tls ? 443 : 80, this.counters.membershipTotal, (host) =>
      this.#pools?.dropHost(host),
    );
  }

  #makeBalancer(): Balancer {
    const { settings, counters, scope } = this;
    const { random, clock, runtime } = this.#deps;
    return createBalancer(settings.policy, {
      random,
      now: () => clock.now(),
      runtime,
      scope,
      counters: new BalancerCounters(scope),
      panicThreshold: settings.common.panicThreshold,
      active: () => this.hosts[0]?.numbers?.clusterActive ?? counters.rqActive.value,
    });
  }

  #makeMembership(): Membership {
    const { settings, counters } = this;
    return new Membership({
      checked: settings.health !== undefined,
      single: settings.type === 'logical-dns',
      warmHosts: settings.common.warmHosts,
      removeAtOnce: settings.removeAtOnce,
      mergeMs: settings.common.mergeMs,
      clock: this.#deps.clock,
      counters,
      onSets: (sets) => this.#balancer.update(sets),
      onMembers: (added, removed) => {
        this.#ledger?.removed(removed.map((host) => hostName(host, settings)));
        this.#ledger?.added(added.map((host) => hostName(host, settings)));
        this.#health?.onMembers(added, removed);
        if (settings.common.closeOnHostChange) this.#pools?.dropAll();
        else for (const host of removed) this.#pools?.dropHost(host);
      },
    });
  }

  #makeLedger(hostsLimited: boolean): HostLedger | undefined {
    const { sharedHosts } = this.#deps;
    if (!goesByLoad(this.settings.policy) && !hostsLimited) return undefined;
    return sharedHosts?.open(`${this.name} ${this.#print}`, (host, numbers) =>
      this.#membership.find(host)?.share(numbers),
    );
  }

  #makeHealth(): HostHealth | undefined {
    return createHostHealth({
      name: this.name,
      key: `${this.name} ${this.#print}`,
      settings: this.settings,
      deps: this.#deps,
      scope: this.scope,
      counters: this.counters,
      sockets: this.#sockets,
      source: (host) => this.source(host),
      hosts: () => this.#membership.hosts,
      find: (name) => this.#membership.find(name),
      changed: (host) => this.#onHealth(host),
      warm: () => {
        this.#membership.publishPending();
        this.#onWarm();
      },
    });
  }

  /** A check or an ejection has changed what a host is good for. */
  #onHealth(host: Host): void {
    // Another connection may do better than those of a host that failed.
    if (host.has(HEALTH.failedActiveHc | HEALTH.failedOutlier)) {
      this.#pools?.dropHost(host);
      for (const close of [...(this.#sessions.get(host) ?? [])]) close();
    }
    this.#membership.refresh();
  }

  /** Names of TLS secrets this cluster waits for. */
  awaitedSecrets(): string[] {
    return this.#sockets.all().flatMap((socket) => (socket.kind === 'tls' ? socket.context.awaited() : []));
  }

  /** Calls back when a secret of this cluster changes. */
  listenSecrets(changed: () => void): () => void {
    const stops = this.#sockets
      .all()
      .flatMap((socket) => (socket.kind === 'tls' ? [socket.context.listen(changed)] : []));
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Hosts known now; of an ORIGINAL_DST cluster those somebody went to. */
  get hosts(): readonly Host[] {
    return (this.#originalDst ?? this.forward ?? this.#membership).hosts;
  }

  /** Replaces the host set; hosts that stay keep their counters and connections. */
  assign(assignment: Assignment): void {
    this.#assigned = true;
    this.#cancelStale?.();
    this.#cancelStale = undefined;
    const { staleAfterMs } = assignment.policy;
    if (staleAfterMs > 0 && this.settings.type === 'eds') {
      this.scope.counter('assignment_timeout_received').value += 1;
      this.#cancelStale = this.#deps.clock.after(staleAfterMs, () => {
        this.scope.counter('assignment_stale').value += 1;
        this.#membership.assign(NO_ENDPOINTS);
      });
    }
    this.#membership.assign(assignment);
  }

  /** Whether drop_overloads of the assignment takes this request, or takes all. */
  dropOverload(): 'none' | 'some' | 'all' {
    const { dropShare } = this.#membership.policy;
    if (dropShare === 0 || this.#deps.random() >= dropShare) return 'none';
    this.counters.rqDropOverload.value += 1;
    return dropShare === 1 ? 'all' : 'some';
  }

  /** Whether `upstream.maintenance_mode.<cluster>` of the runtime, a percentage, keeps this request away. */
  inMaintenance(): boolean {
    const { runtime, random } = this.#deps;
    if (runtime.version !== this.#maintenanceVersion) {
      this.#maintenanceVersion = runtime.version;
      this.#maintenanceShare = runtime.share(`upstream.maintenance_mode.${this.name}`, 0);
    }
    if (this.#maintenanceShare === 0 || random() >= this.#maintenanceShare) return false;
    this.counters.rare.add(RARE.maintenance);
    return true;
  }

  /** A host for a new connection or request. */
  pick(context: LbContext): Host | undefined {
    const host = (this.#originalDst ?? this.forward ?? this.#balancer).pick(context);
    if (!host) this.counters.cxNoneHealthy.value += 1;
    return host;
  }

  /** What outlier detection found in its last round; undefined = there is none. */
  get outlierRates(): { readonly external: SuccessRates; readonly local: SuccessRates } | undefined {
    return this.#health?.rates;
  }

  /** How an exchange with `host` went. Called by the router and tcp_proxy. */
  onOutcome(host: Host, outcome: Outcome): void {
    this.#outcomes?.onOutcome(host, outcome);
  }

  /**
   * Calls `close` when `host` fails and the cluster wants its connections closed then. The returned function ends that;
   * undefined = nobody cares.
   */
  onHostFailure(host: Host, close: () => void): (() => void) | undefined {
    if (!this.settings.closeOnHealthFailure) return undefined;
    let sessions = this.#sessions.get(host);
    if (!sessions) {
      sessions = new Set();
      this.#sessions.set(host, sessions);
    }
    sessions.add(close);
    return () => {
      sessions.delete(close);
      if (sessions.size === 0) this.#sessions.delete(host);
    };
  }

  /** The transport socket for `host`: the first match by its metadata, else the cluster's own. */
  socketFor(host: Host): UpstreamSocket {
    return this.#sockets.for(host);
  }

  /** How sockets to `host` are made. */
  source(host: Host): UpstreamSource | undefined {
    const { address, additional } = host.spec;
    if (address.kind !== 'ip') return undefined;
    const { connect } = this.settings;
    const from = address.ip.includes(':') ? connect.source6 : connect.source4;
    if (!from && additional.length === 0 && connect.options.length === 0 && !connect.keepAlive) return undefined;
    return {
      ip: from?.ip,
      port: from?.port ?? 0,
      options: connect.options,
      keepAlive: connect.keepAlive,
      targets: () =>
        host.spec.additional.length === 0 ? [] : inTurns([host.spec.address, ...host.spec.additional], connect),
    };
  }

  /** Sets gauges of limits that other threads count too. */
  showLimits(): void {
    this.breakers.show?.();
    if (this.#deps.shared) this.#byPriority.high.show?.();
  }

  breakersFor(priority: RoutingPriority): Breakers {
    return priority === 'high' ? this.#byPriority.high : this.breakers;
  }

  /** What names the server for TLS (auto_sni): the authority, or a header that replaces it. */
  nameFor(headers: HeaderMap, authority: string): string {
    const { sniHeader } = this.settings.http;
    return (sniHeader && headers.get(sniHeader)) || authority;
  }

  /** See ClusterPools.get. */
  pool(
    host: Host,
    alpn: readonly string[] | undefined,
    authority: string,
    speaks: Protocol | 'tcp',
    priority: RoutingPriority = 'default',
    downstream = 0,
    proxiedFor?: ProxiedFor,
  ): UpstreamPool | undefined {
    this.#pools ??= new ClusterPools(this, this.#deps);
    return this.#pools.get(host, alpn, authority, speaks, priority, downstream, proxiedFor);
  }

  /** A connection for traffic is about to be made. */
  onPool(): void {
    this.#health?.onTraffic();
  }

  /** This cluster was replaced or removed: connections end when their exchange does. */
  drain(): void {
    this.#stop();
    this.#pools?.drain();
    for (const socket of this.#sockets.all()) if (socket.kind === 'tls') socket.context.dispose();
    this.#secrets.release();
    this.scope.drop();
  }

  destroy(): void {
    this.#stop();
    this.#pools?.destroy();
  }

  #stop(): void {
    this.#cancelStale?.();
    this.#membership.stop();
    this.#originalDst?.stop();
    this.forward?.stop();
    this.#health?.stop();
    this.#ledger?.close();
  }

  /** TLS material in use, for /certs. */
  tlsSockets(): readonly UpstreamSocket[] {
    return this.#sockets.all().filter((socket) => socket.kind === 'tls');
  }
}
