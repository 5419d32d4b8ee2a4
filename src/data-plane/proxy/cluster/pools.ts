// The connection pools of a cluster: one for each host and way to connect to it. Made by the cluster for its first connection.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Protocol } from '../http/codec.ts';
import { type H2Counters, h2Counters } from '../http/h2-options.ts';
import type { StatsScope } from '../stats/stats.ts';
import type { ProxiedFor, UpstreamSocket, UpstreamSource } from '../transport-socket/dial.ts';
import type { Breakers } from '../upstream/breakers.ts';
import type { UpstreamPool } from '../upstream/exchange.ts';
import { HttpPool, type PoolDeps } from '../upstream/pool.ts';
import type { ClusterSettings } from './config.ts';
import type { ClusterCounters } from './counters.ts';
import type { Host } from './host.ts';
import type { RoutingPriority } from './lb-context.ts';

/** What of its cluster a pool is made of. */
export interface PoolOwner {
  readonly settings: ClusterSettings;
  readonly scope: StatsScope;
  readonly counters: ClusterCounters;
  socketFor(host: Host): UpstreamSocket;
  source(host: Host): UpstreamSource | undefined;
  breakersFor(priority: RoutingPriority): Breakers;
  /** A pool is new. */
  onPool(): void;
}

interface PoolEntry {
  readonly host: Host;
  readonly socket: UpstreamSocket;
  readonly pool: UpstreamPool;
  readonly breakers: Breakers;
}

/** Pools of one cluster beyond which empty ones are forgotten. */
const MAX_IDLE_POOLS = 256;

export class ClusterPools {
  readonly #cluster: PoolOwner;
  readonly #deps: PoolDeps;
  readonly #pools = new Map<string, PoolEntry>();
  #h2: H2Counters | undefined;

  constructor(cluster: PoolOwner, { clock, random }: { readonly clock: Clock; readonly random: () => number }) {
    this.#cluster = cluster;
    this.#deps = {
      clock,
      random,
      h2: () => {
        this.#h2 ??= h2Counters(cluster.scope);
        return this.#h2;
      },
    };
  }

  /**
   * The pool of connections to `host`. Connections with another ALPN list, or another server name taken from
   * `authority` (auto_sni), are not shared; nor are those of the two priorities, or of downstream connections
   * (connection_pool_per_downstream_connection). Undefined = max_connection_pools are open.
   */
  get(
    host: Host,
    alpn: readonly string[] | undefined,
    authority: string,
    speaks: Protocol | 'tcp',
    priority: RoutingPriority,
    downstream: number,
    proxiedFor: ProxiedFor | undefined,
  ): UpstreamPool | undefined {
    const cluster = this.#cluster;
    const socket = cluster.socketFor(host);
    const tls = socket.kind === 'tls';
    const { settings } = cluster;
    const { http } = settings;
    const protocol =
      speaks === 'tcp'
        ? 'tcp'
        : http.protocol !== 'downstream'
          ? http.protocol
          : speaks === 'HTTP/2'
            ? 'http2'
            : 'http1';
    const last = host.lastPool;
    if (
      last &&
      last.socket === socket &&
      last.alpn === alpn &&
      last.protocol === protocol &&
      last.priority === priority &&
      !settings.poolPerDownstream
    )
      return last.pool;
    const name = tls && http.autoSni && socket.sni === '' ? hostOf(authority) : '';
    // A header that names the client makes a connection that client's own.
    const own = settings.poolPerDownstream || socket.proxyProtocol ? downstream : '';
    const key = `${host.id}|${tls && alpn ? alpn.join(',') : ''}|${name}|${priority === 'high' ? 'h' : ''}|${own}|${protocol}`;
    const known = this.#pools.get(key);
    // Discovery may have chosen another transport socket for the host.
    if (known?.host === host && known.socket === socket) {
      if (name === '' && own === '') host.lastPool = { socket, alpn, protocol, priority, pool: known.pool };
      return known.pool;
    }
    if (known) this.#drop(key);
    const breakers = cluster.breakersFor(priority);
    if (this.#pools.size >= MAX_IDLE_POOLS || breakers.pools.full) this.#dropEmpty();
    if (!breakers.pools.tryEnter()) {
      cluster.counters.cxPoolOverflow.value += 1;
      return undefined;
    }
    const made = new HttpPool(
      host,
      {
        socket,
        alpn: tls ? alpn : undefined,
        name: name === '' ? undefined : { name, verify: http.autoSanValidation },
        proxiedFor: socket.proxyProtocol ? proxiedFor : undefined,
        source: cluster.source(host),
        connectTimeoutMs: settings.connectTimeoutMs,
        keepAlive: settings.connect.keepAlive !== undefined,
        http,
        protocol,
      },
      breakers,
      cluster.counters,
      this.#deps,
    );
    this.#pools.set(key, { host, socket, pool: made, breakers });
    cluster.onPool();
    return made;
  }

  /** Server names come from clients: pools that hold nothing must not pile up. */
  #dropEmpty(): void {
    for (const [key, { pool }] of this.#pools) if (pool.empty) this.#drop(key);
  }

  dropHost(host: Host): void {
    for (const [key, { host: owner }] of this.#pools) if (owner === host) this.#drop(key);
  }

  dropAll(): void {
    for (const key of [...this.#pools.keys()]) this.#drop(key);
  }

  /** Connections end when their exchange does. */
  drain(): void {
    for (const { pool } of this.#pools.values()) pool.drain();
  }

  destroy(): void {
    for (const { pool } of this.#pools.values()) pool.destroy();
    this.#pools.clear();
  }

  #drop(key: string): void {
    const entry = this.#pools.get(key);
    if (!entry) return;
    if (entry.host.lastPool?.pool === entry.pool) entry.host.lastPool = undefined;
    entry.pool.drain();
    entry.breakers.pools.leave();
    this.#pools.delete(key);
  }
}

function hostOf(authority: string): string {
  return authority.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
}
