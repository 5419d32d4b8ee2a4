// One upstream cluster: its hosts, balancer, connection pools, limits and counters. Made by the cluster manager.
import { createHash } from 'node:crypto';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { Cluster as ClusterMessage } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { SocketAddr } from '../config/address.ts';
import { ConfigError, join } from '../config/fields.ts';
import type { Capture } from '../listener/capture.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import type { UpstreamSocket } from '../transport-socket/dial.ts';
import { upstreamSocket } from '../transport-socket/factory.ts';
import type { TlsBuildContext } from '../transport-socket/tls-context.ts';
import { type Breakers, buildBreakers } from '../upstream/breakers.ts';
import type { UpstreamPool } from '../upstream/exchange.ts';
import { H1Pool } from '../upstream/h1-pool.ts';
import { type Balancer, balancerCounters } from './balancer/balancer.ts';
import { createBalancer } from './balancer/make.ts';
import { type ClusterSettings, readCluster, type ServiceIdentity, serviceOf } from './config.ts';
import { type ClusterCounters, clusterCounters } from './counters.ts';
import { type Assignment, metadataOf, NO_ENDPOINTS, readEndpoints } from './endpoints.ts';
import type { Host, Metadata } from './host.ts';
import type { LbContext, Outcome } from './lb-context.ts';
import { Membership } from './membership.ts';
import { OriginalDst } from './original-dst.ts';

export interface ClusterDeps extends TlsBuildContext {
  readonly stats: StatsStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly runtime: RuntimeView;
  readonly capture?: Capture | undefined;
}

interface SocketMatch {
  readonly name: string;
  readonly match: JsonObject;
  readonly socket: UpstreamSocket;
}

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
  readonly configured: Assignment;
  /** Set once hosts were given for the first time. */
  initialized = false;
  readonly #deps: ClusterDeps;
  readonly #plain: UpstreamSocket;
  readonly #matches: readonly SocketMatch[];
  readonly #pools = new Map<string, { readonly host: Host; readonly pool: UpstreamPool }>();
  readonly #membership: Membership;
  readonly #balancer: Balancer;
  readonly #originalDst: OriginalDst | undefined;
  readonly #outlier: { onOutcome(host: Host, outcome: Outcome): void } | undefined = undefined;

  constructor(message: ClusterMessage, deps: ClusterDeps, path: string) {
    this.message = message;
    this.name = message.name;
    this.settings = readCluster(message, deps.runtime, path);
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
      : NO_ENDPOINTS;
    this.counters = clusterCounters(this.scope, deps.stats);
    this.breakers = buildBreakers(message.circuitBreakers, this.scope, join(path, 'circuit_breakers'));
    this.#balancer = this.#makeBalancer();
    this.#membership = this.#makeMembership();
    if (type === 'static') this.assign(this.configured);
    if (type !== 'original-dst') return;
    const { originalDst } = this.settings;
    const { capture } = deps;
    const reach = capture && ((address: SocketAddr) => capture.reach(address, message.name));
    this.#originalDst = new OriginalDst(originalDst, deps.clock, this.counters, (host) => this.#dropPools(host), reach);
    this.initialized = true;
  }

  #makeBalancer(): Balancer {
    const { settings, counters, scope } = this;
    const { random, clock, runtime } = this.#deps;
    return createBalancer(settings.policy, {
      random,
      now: () => clock.now(),
      runtime,
      scope,
      counters: balancerCounters(scope),
      panicThreshold: settings.common.panicThreshold,
      active: () => counters.rqActive.value,
    });
  }

  #makeMembership(): Membership {
    const { settings, counters } = this;
    return new Membership({
      checked: false,
      warmHosts: settings.common.warmHosts,
      removeAtOnce: settings.removeAtOnce,
      mergeMs: settings.common.mergeMs,
      clock: this.#deps.clock,
      counters,
      onSets: (sets) => this.#balancer.update(sets),
      onMembers: (_added, removed) => {
        if (settings.common.closeOnHostChange) for (const { pool } of this.#pools.values()) pool.drain();
        else for (const host of removed) this.#dropPools(host);
      },
    });
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

  /** Hosts known now; of an ORIGINAL_DST cluster those somebody went to. */
  get hosts(): readonly Host[] {
    return this.#originalDst ? this.#originalDst.hosts : this.#membership.hosts;
  }

  /** Replaces the host set; hosts that stay keep their counters and connections. */
  assign(assignment: Assignment): void {
    this.initialized = true;
    this.#membership.assign(assignment);
  }

  /** A host for a new connection or request. */
  pick(context: LbContext): Host | undefined {
    const host = this.#originalDst ? this.#originalDst.pick(context) : this.#balancer.pick(context);
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
    this.#stop();
    for (const { pool } of this.#pools.values()) pool.drain();
    for (const socket of this.#sockets()) if (socket.kind === 'tls') socket.context.dispose();
  }

  destroy(): void {
    this.#stop();
    for (const { pool } of this.#pools.values()) pool.destroy();
    this.#pools.clear();
  }

  #stop(): void {
    this.#membership.stop();
    this.#originalDst?.stop();
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
}

/** Pools of one cluster beyond which empty ones are forgotten. */
const MAX_IDLE_POOLS = 256;

function hostOf(authority: string): string {
  return authority.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
}

function equal(a: JsonValue | undefined, b: JsonValue): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/** Identity of a configuration: equal messages need no update. */
export function fingerprint(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}
