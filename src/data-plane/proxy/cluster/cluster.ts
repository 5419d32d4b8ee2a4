// One upstream cluster: its hosts, balancer, connection pools, limits and counters. Made by the cluster manager.
import { createHash } from 'node:crypto';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { Cluster as ClusterMessage } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { SocketAddr } from '../config/address.ts';
import { ConfigError, join } from '../config/fields.ts';
import { MAX_ORIGINAL_DST_HOSTS } from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import type { UpstreamSocket } from '../transport-socket/dial.ts';
import { upstreamSocket } from '../transport-socket/factory.ts';
import type { TlsBuildContext } from '../transport-socket/tls-context.ts';
import { type Breakers, buildBreakers } from '../upstream/breakers.ts';
import type { UpstreamPool } from '../upstream/exchange.ts';
import { H1Pool } from '../upstream/h1-pool.ts';
import { type ClusterSettings, readCluster, type ServiceIdentity, serviceOf } from './config.ts';
import { metadataOf, readEndpoints } from './endpoints.ts';
import { Host, type HostSpec, type Metadata } from './host.ts';
import type { LbContext, Outcome } from './lb-context.ts';
import { createPicker, type HostPicker } from './load-balancer.ts';

export interface ClusterDeps extends TlsBuildContext {
  readonly stats: StatsStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly runtime: RuntimeView;
}

interface SocketMatch {
  readonly name: string;
  readonly match: JsonObject;
  readonly socket: UpstreamSocket;
}

export function clusterCounters(scope: StatsScope) {
  return {
    cxTotal: scope.counter('upstream_cx_total'),
    cxActive: scope.gauge('upstream_cx_active'),
    cxConnectFail: scope.counter('upstream_cx_connect_fail'),
    cxConnectTimeout: scope.counter('upstream_cx_connect_timeout'),
    cxOverflow: scope.counter('upstream_cx_overflow'),
    cxIdleTimeout: scope.counter('upstream_cx_idle_timeout'),
    cxDestroy: scope.counter('upstream_cx_destroy'),
    cxMaxRequests: scope.counter('upstream_cx_max_requests'),
    cxNoneHealthy: scope.counter('upstream_cx_none_healthy'),
    rqTotal: scope.counter('upstream_rq_total'),
    rqActive: scope.gauge('upstream_rq_active'),
    rqCompleted: scope.counter('upstream_rq_completed'),
    rqClasses: [1, 2, 3, 4, 5].map((digit) => scope.counter(`upstream_rq_${digit}xx`)),
    rqPendingTotal: scope.counter('upstream_rq_pending_total'),
    rqPendingActive: scope.gauge('upstream_rq_pending_active'),
    rqPendingOverflow: scope.counter('upstream_rq_pending_overflow'),
    rqPendingFailure: scope.counter('upstream_rq_pending_failure_eject'),
    rqTimeout: scope.counter('upstream_rq_timeout'),
    rqPerTryTimeout: scope.counter('upstream_rq_per_try_timeout'),
    rqRetry: scope.counter('upstream_rq_retry'),
    rqRetrySuccess: scope.counter('upstream_rq_retry_success'),
    rqRetryOverflow: scope.counter('upstream_rq_retry_overflow'),
    rqRetryLimit: scope.counter('upstream_rq_retry_limit_exceeded'),
    rqRxReset: scope.counter('upstream_rq_rx_reset'),
    rqTxReset: scope.counter('upstream_rq_tx_reset'),
    protocolError: scope.counter('upstream_cx_protocol_error'),
    membershipTotal: scope.gauge('membership_total'),
    membershipHealthy: scope.gauge('membership_healthy'),
    membershipChange: scope.counter('membership_change'),
  };
}
export type ClusterCounters = ReturnType<typeof clusterCounters>;

export class Cluster {
  readonly name: string;
  readonly message: ClusterMessage;
  readonly settings: ClusterSettings;
  readonly metadata: Metadata;
  readonly service: ServiceIdentity | undefined;
  readonly scope: StatsScope;
  readonly counters: ClusterCounters;
  readonly breakers: Breakers;
  /** Hosts of the message itself: static ones, or the names DNS asks for. */
  readonly configured: readonly HostSpec[];
  hosts: readonly Host[] = [];
  /** Set once hosts were given for the first time. */
  initialized = false;
  readonly #deps: ClusterDeps;
  readonly #plain: UpstreamSocket;
  readonly #matches: readonly SocketMatch[];
  readonly #pools = new Map<string, { readonly host: Host; readonly pool: UpstreamPool }>();
  readonly #dynamic = new Map<string, Host>();
  #picker: HostPicker;
  readonly #outlier: { onOutcome(host: Host, outcome: Outcome): void } | undefined = undefined;

  constructor(message: ClusterMessage, deps: ClusterDeps, path: string) {
    this.message = message;
    this.name = message.name;
    this.settings = readCluster(message, path);
    this.metadata = metadataOf(message.metadata);
    this.service = serviceOf(this.metadata.istio);
    this.#deps = deps;
    this.scope = new StatsScope(deps.stats, `cluster.${message.altStatName || message.name}.`);
    const context = { ...deps, scope: this.scope };
    this.#plain = upstreamSocket(message.transportSocket, context, join(path, 'transport_socket'));
    this.#matches = message.transportSocketMatches.map((entry, i) => ({
      name: entry.name,
      match: entry.match ?? {},
      socket: upstreamSocket(
        entry.transportSocket,
        context,
        join(path, `transport_socket_matches[${i}].transport_socket`),
      ),
    }));
    const { type } = this.settings;
    if (message.loadAssignment && (type === 'eds' || type === 'original-dst'))
      throw new ConfigError(join(path, 'load_assignment'), `is not allowed for cluster type ${type}`);
    this.configured = message.loadAssignment
      ? readEndpoints(
          message.loadAssignment,
          join(path, 'load_assignment'),
          type === 'strict-dns' || type === 'logical-dns',
        )
      : [];
    this.counters = clusterCounters(this.scope);
    this.breakers = buildBreakers(message.circuitBreakers, this.scope, join(path, 'circuit_breakers'));
    this.#picker = createPicker([], this.settings.policy, deps.random);
    if (type === 'static') this.setHosts(this.configured);
    if (type === 'original-dst') this.initialized = true;
  }

  /** Names of TLS secrets this cluster waits for. */
  awaitedSecrets(): string[] {
    return this.#sockets().flatMap((socket) => (socket.kind === 'tls' ? socket.context.awaited() : []));
  }

  /** Calls back when a secret of this cluster changes. */
  listenSecrets(changed: () => void): () => void {
    const stops = this.#sockets().flatMap((socket) => (socket.kind === 'tls' ? [socket.context.listen(changed)] : []));
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Replaces the host set; hosts that stay keep their counters and connections. */
  setHosts(specs: readonly HostSpec[]): void {
    const before = new Map(this.hosts.map((host) => [host.key, host]));
    const after = new Map<string, Host>();
    for (const spec of specs) {
      const fresh = new Host(spec);
      const known = before.get(fresh.key);
      const same = known && JSON.stringify(known.spec.metadata) === JSON.stringify(spec.metadata);
      if (known && same) known.spec = spec;
      after.set(fresh.key, known && same ? known : fresh);
    }
    for (const host of this.hosts) if (after.get(host.key) !== host) this.#dropPools(host);
    this.hosts = [...after.values()];
    this.#picker = createPicker(this.hosts, this.settings.policy, this.#deps.random);
    this.initialized = true;
    this.counters.membershipTotal.value = this.hosts.length;
    this.counters.membershipHealthy.value = this.hosts.filter((host) => host.usable).length;
    this.counters.membershipChange.value += 1;
  }

  /** A host for a new connection or request. */
  pick(context: LbContext): Host | undefined {
    const host =
      this.settings.type === 'original-dst'
        ? this.#originalDst(context.destination)
        : this.#picker.pick(context.avoid, context.attempts);
    if (!host) this.counters.cxNoneHealthy.value += 1;
    return host;
  }

  /** How an exchange with `host` went. Called by the router and tcp_proxy. */
  onOutcome(host: Host, outcome: Outcome): void {
    this.#outlier?.onOutcome(host, outcome);
  }

  /** The transport socket for `host`: the first match by its metadata, else the cluster's own. */
  socketFor(host: Host): UpstreamSocket {
    if (this.#matches.length === 0) return this.#plain;
    const labels = host.spec.metadata['envoy.transport_socket_match'] ?? {};
    const found = this.#matches.find((entry) =>
      Object.entries(entry.match).every(([key, want]) => equal(labels[key], want)),
    );
    return found ? found.socket : this.#plain;
  }

  source(host: Host): string | undefined {
    const { address } = host.spec;
    if (address.kind !== 'ip') return undefined;
    return address.ip.includes(':') ? this.settings.source6 : this.settings.source4;
  }

  /**
   * The pool of connections to `host`. Connections with another ALPN list, or another server name taken from
   * `authority` (auto_sni), are not shared.
   */
  pool(host: Host, alpn: readonly string[] | undefined, authority: string): UpstreamPool {
    const socket = this.socketFor(host);
    const tls = socket.kind === 'tls';
    const { settings } = this;
    const name = tls && settings.autoSni && socket.sni === '' ? hostOf(authority) : '';
    const key = `${host.key}|${tls && alpn ? alpn.join(',') : ''}|${name}`;
    const known = this.#pools.get(key);
    if (known?.host === host) return known.pool;
    this.#dropEmptyPools();
    const made = new H1Pool(
      host,
      {
        socket,
        alpn: tls ? alpn : undefined,
        name: name === '' ? undefined : { name, verify: settings.autoSanValidation },
        source: this.source(host),
        connectTimeoutMs: settings.connectTimeoutMs,
        idleMs: settings.idleMs,
        maxRequestsPerConnection: settings.maxRequestsPerConnection,
        keepAlive: settings.keepAlive,
        enableTrailers: settings.enableTrailers,
      },
      this.breakers,
      this.counters,
      this.#deps.clock,
    );
    this.#pools.set(key, { host, pool: made });
    return made;
  }

  /** Server names come from clients: pools that hold nothing must not pile up. */
  #dropEmptyPools(): void {
    if (this.#pools.size < MAX_IDLE_POOLS) return;
    for (const [key, { pool }] of this.#pools) if (pool.empty) this.#pools.delete(key);
  }

  /** This cluster was replaced or removed: connections end when their exchange does. */
  drain(): void {
    for (const { pool } of this.#pools.values()) pool.drain();
    for (const socket of this.#sockets()) if (socket.kind === 'tls') socket.context.dispose();
  }

  destroy(): void {
    for (const { pool } of this.#pools.values()) pool.destroy();
    this.#pools.clear();
  }

  /** TLS material in use, for /certs. */
  tlsSockets(): readonly UpstreamSocket[] {
    return this.#sockets().filter((socket) => socket.kind === 'tls');
  }

  #sockets(): UpstreamSocket[] {
    return [this.#plain, ...this.#matches.map((entry) => entry.socket)];
  }

  #dropPools(host: Host): void {
    for (const [key, { host: owner, pool }] of this.#pools)
      if (owner === host) {
        pool.drain();
        this.#pools.delete(key);
      }
  }

  #originalDst(destination: SocketAddr | undefined): Host | undefined {
    if (destination?.kind !== 'ip') return undefined;
    const { portOverride } = this.settings;
    const address: SocketAddr = portOverride === undefined ? destination : { ...destination, port: portOverride };
    const host = new Host({
      address,
      hostname: '',
      weight: 1,
      priority: 0,
      locality: NOWHERE,
      health: 'healthy',
      metadata: {},
    });
    const known = this.#dynamic.get(host.key);
    if (known) return known;
    if (this.#dynamic.size >= MAX_ORIGINAL_DST_HOSTS) this.#forgetIdle();
    this.#dynamic.set(host.key, host);
    this.hosts = [...this.#dynamic.values()];
    return host;
  }

  #forgetIdle(): void {
    for (const [key, host] of this.#dynamic) {
      if (host.active > 0 || host.cxActive > 0) continue;
      this.#dropPools(host);
      this.#dynamic.delete(key);
      return;
    }
    // All are busy: the oldest is only forgotten, its connections live on.
    const oldest = this.#dynamic.keys().next().value;
    if (oldest !== undefined) this.#dynamic.delete(oldest);
  }
}

/** Pools of one cluster beyond which empty ones are forgotten. */
const MAX_IDLE_POOLS = 256;

function hostOf(authority: string): string {
  return authority.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
}

const NOWHERE = { region: '', zone: '', subZone: '' };

function equal(a: JsonValue | undefined, b: JsonValue): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/** Identity of a configuration: equal messages need no update. */
export function fingerprint(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}
