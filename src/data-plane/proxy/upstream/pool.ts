// Connections to one host with one transport socket, of HTTP/1 or HTTP/2: free ones are reused, requests wait in a bounded
// queue. Owned by a cluster; the router asks for an exchange.
import type { Clock } from '../../../base/runtime/clock.ts';
import { type ClusterCounters, countFailedDial, countUpstreamEnd, RARE } from '../cluster/counters.ts';
import type { Host } from '../cluster/host.ts';
import type { Protocol } from '../http/codec.ts';
import type { H2Counters } from '../http/h2-options.ts';
import { H2_STREAMS_BEFORE_SETTINGS } from '../limits.ts';
import { dial, type ProxiedFor, type UpstreamSocket, type UpstreamSource } from '../transport-socket/dial.ts';
import type { Transport } from '../transport-socket/transport.ts';
import type { Breakers } from './breakers.ts';
import type { PoolFailure, PoolWaiter, UpstreamExchange, UpstreamPool } from './exchange.ts';
import { H1ClientConnection } from './h1-client.ts';
import { H2ClientConnection } from './h2-client.ts';
import type { UpstreamHttp } from './http-options.ts';
import { TcpClientConnection } from './tcp-client.ts';

/** A connection of any version, as the pool sees it. */
export interface PooledConnection {
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** Exchanges under way, and how many more may begin now. */
  readonly active: number;
  readonly capacity: number;
  /** Exchanges begun so far. */
  readonly served: number;
  /** It ended in the middle of an exchange. */
  readonly interrupted: boolean;
  lastActive: number;
  /** Stands in the pool's list of connections with capacity. */
  listed: boolean;
  /** Will take no more exchanges, ever. */
  readonly retired: boolean;
  start(): void;
  open(): UpstreamExchange;
  /** Takes no more exchanges; closes when the last one ends. */
  retire(): void;
}

export interface ConnectionOwner {
  /** An exchange ended, or the peer allows more of them. */
  onCapacity(connection: PooledConnection): void;
  /** The peer said that the connection will end. */
  onCloseNotify(): void;
  onClosed(connection: PooledConnection): void;
}

export interface PoolOptions {
  readonly socket: UpstreamSocket;
  readonly alpn: readonly string[] | undefined;
  /** Server name from the request, see DialOptions. */
  readonly name: { readonly name: string; readonly verify: boolean } | undefined;
  /** For whom its connections are made, where a PROXY protocol header says so. */
  readonly proxiedFor?: ProxiedFor | undefined;
  readonly source: UpstreamSource | undefined;
  readonly connectTimeoutMs: number;
  readonly keepAlive: boolean;
  readonly http: UpstreamHttp;
  /** `auto`: what ALPN says; `tcp`: a tunnel, one exchange a connection. */
  readonly protocol: 'http1' | 'http2' | 'auto' | 'tcp';
}

interface Count {
  value: number;
}

/** What the pool adds to the cluster's counters. */
export interface PoolCounters {
  readonly cxTotal: Count;
  readonly cxActive: Count;
  readonly cxHttp1Total: Count;
  readonly cxHttp2Total: Count;
  readonly cxCloseNotify: Count;
  readonly cxConnectFail: Count;
  readonly cxConnectTimeout: Count;
  readonly cxOverflow: Count;
  readonly cxIdleTimeout: Count;
  readonly cxDestroy: ClusterCounters['cxDestroy'];
  readonly cxMaxRequests: Count;
  readonly cxMaxDuration: Count;
  readonly rqPendingTotal: Count;
  readonly rqPendingActive: Count;
  readonly rqPendingOverflow: Count;
  readonly rqPendingFailure: Count;
  readonly connectMs: ClusterCounters['connectMs'];
  readonly lengthMs: ClusterCounters['lengthMs'];
  readonly rqPerCx: ClusterCounters['rqPerCx'];
  readonly rare: ClusterCounters['rare'];
  readonly bytes: ClusterCounters['bytes'];
}

export interface PoolDeps {
  readonly clock: Clock;
  readonly random: () => number;
  /** Made when the first connection speaks HTTP/2: most clusters never do. */
  readonly h2: () => H2Counters;
}

const FALLBACK_ALPN = { http1: ['http/1.1'], http2: ['h2'], auto: ['h2', 'http/1.1'], tcp: undefined } as const;
const NOTHING = (): void => {};

export class HttpPool implements UpstreamPool, ConnectionOwner {
  readonly host: Host;
  readonly options: PoolOptions;
  readonly #deps: PoolDeps;
  readonly #breakers: Breakers;
  readonly #counters: PoolCounters;
  /** Connections with capacity; the last one used stands at the end. */
  readonly #free: PooledConnection[] = [];
  /** When each of them stood, ms. */
  readonly #all = new Map<PooledConnection, number>();
  readonly #waiting: PoolWaiter[] = [];
  #dialling = 0;
  /** Exchanges a new connection is expected to take. */
  #expected: number;
  #draining = false;
  #sweep: (() => void) | undefined;
  readonly #cancels = new Set<() => void>();
  /** Ends of the timers that say when a connection is too old; kept only where there are any. */
  #ages: Map<PooledConnection, () => void> | undefined;

  constructor(host: Host, options: PoolOptions, breakers: Breakers, counters: PoolCounters, deps: PoolDeps) {
    this.host = host;
    this.options = options;
    this.#breakers = breakers;
    this.#counters = counters;
    this.#deps = deps;
    // Until ALPN has spoken once, one connection is tried for all.
    this.#expected =
      options.protocol === 'http2' ? this.#streams() : options.protocol === 'auto' ? Number.POSITIVE_INFINITY : 1;
  }

  #streams(): number {
    return Math.min(this.options.http.h2.maxStreams, H2_STREAMS_BEFORE_SETTINGS);
  }

  get empty(): boolean {
    return this.#all.size === 0 && this.#waiting.length === 0 && this.#dialling === 0;
  }

  request(waiter: PoolWaiter): () => void {
    const free = this.#free;
    for (let connection = free[free.length - 1]; connection; connection = free[free.length - 1]) {
      if (!connection.transport.closed && connection.capacity > 0) {
        this.#give(connection, waiter);
        return NOTHING;
      }
      free.pop();
      connection.listed = false;
    }
    const counters = this.#counters;
    if (!this.#breakers.pending.tryEnter()) {
      counters.rqPendingOverflow.value += 1;
      waiter.onFailure({ kind: 'overflow' });
      return NOTHING;
    }
    counters.rqPendingTotal.value += 1;
    counters.rqPendingActive.value += 1;
    this.host.pending += 1;
    this.#waiting.push(waiter);
    this.#dialIfNeeded();
    return () => {
      const at = this.#waiting.indexOf(waiter);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      this.#counters.rare.add(RARE.rqCancelled);
      this.#leaveQueue();
    };
  }

  #give(connection: PooledConnection, waiter: PoolWaiter): void {
    const reused = connection.served > 0;
    const exchange = connection.open();
    if (connection.listed && this.#free[this.#free.length - 1] === connection && connection.capacity <= 0) {
      this.#free.pop();
      connection.listed = false;
    }
    waiter.onReady(exchange, reused);
    const { maxRequestsPerConnection } = this.options.http;
    if (maxRequestsPerConnection <= 0 || connection.served < maxRequestsPerConnection) return;
    this.#counters.cxMaxRequests.value += 1;
    // After the request began: a connection without any closes at once.
    connection.retire();
  }

  drain(): void {
    this.#draining = true;
    for (const connection of this.#all.keys()) connection.retire();
    this.#free.length = 0;
  }

  destroy(): void {
    this.drain();
    this.#sweep?.();
    for (const cancel of this.#cancels) cancel();
    for (const connection of this.#all.keys()) connection.transport.destroy();
    this.#failAll({ kind: 'connect-failure', reason: 'cluster removed' });
  }

  onCapacity(connection: PooledConnection): void {
    while (this.#waiting.length > 0 && connection.capacity > 0) {
      const waiter = this.#waiting.shift()!;
      this.#leaveQueue();
      this.#give(connection, waiter);
    }
    if (this.#draining && connection.active === 0) {
      connection.retire();
      return;
    }
    if (connection.active === 0) connection.lastActive = this.#deps.clock.now();
    if (connection.capacity <= 0 || connection.listed) return;
    connection.listed = true;
    this.#free.push(connection);
    if (!this.#sweep) this.#scheduleSweep();
  }

  onCloseNotify(): void {
    this.#counters.cxCloseNotify.value += 1;
  }

  onClosed(connection: PooledConnection): void {
    const began = this.#all.get(connection);
    if (began === undefined) return;
    this.#all.delete(connection);
    this.#ages?.get(connection)?.();
    this.#ages?.delete(connection);
    const { transport } = connection;
    this.#counters.bytes.close(transport);
    this.#counters.rqPerCx.record(connection.served);
    countUpstreamEnd(this.#counters, transport.peerEnded, connection.interrupted, this.#deps.clock.now() - began);
    if (connection.listed) this.#free.splice(this.#free.indexOf(connection), 1);
    connection.listed = false;
    this.host.endConnection();
    this.#counters.cxActive.value -= 1;
    this.#breakers.connections.leave();
    this.#dialIfNeeded();
  }

  #leaveQueue(): void {
    this.#breakers.pending.leave();
    this.#counters.rqPendingActive.value -= 1;
    this.host.pending -= 1;
  }

  #dialIfNeeded(): void {
    if (this.#waiting.length > 0 && (this.#dialling === 0 || this.#waiting.length > this.#dialling * this.#expected))
      this.#dial();
  }

  #hostFull(): boolean {
    return this.host.connections >= this.#breakers.hostConnections;
  }

  #dial(): void {
    // At the connection limit requests wait for one to come free, unless there is none to wait for.
    if (this.#hostFull() || !this.#breakers.connections.tryEnter()) {
      this.#counters.cxOverflow.value += 1;
      if (this.#all.size + this.#dialling > 0) return;
      this.#breakers.connections.enter();
    }
    const counters = this.#counters;
    this.#dialling += 1;
    counters.cxTotal.value += 1;
    counters.cxActive.value += 1;
    this.host.cxTotal += 1;
    this.host.beginConnection();
    const { options } = this;
    if (options.protocol === 'http1') counters.cxHttp1Total.value += 1;
    else if (options.protocol === 'http2') counters.cxHttp2Total.value += 1;
    const { socket } = options;
    const began = this.#deps.clock.now();
    const configured = socket.kind === 'tls' && socket.context.alpn.length > 0;
    const cancel = dial(
      {
        target: this.host.spec.address,
        source: options.source,
        timeoutMs: options.connectTimeoutMs,
        socket,
        alpn: options.alpn ?? (configured ? undefined : FALLBACK_ALPN[options.protocol]),
        host: options.name,
        keepAlive: options.keepAlive,
        proxiedFor: options.proxiedFor,
        clock: this.#deps.clock,
      },
      (result) => {
        this.#cancels.delete(cancel);
        this.#dialling -= 1;
        if (result.kind === 'connected') {
          counters.connectMs.record(this.#deps.clock.now() - began);
          this.#connected(result.transport);
          return;
        }
        this.host.endConnection();
        this.host.cxConnectFail += 1;
        counters.cxActive.value -= 1;
        counters.cxConnectFail.value += 1;
        countFailedDial(counters, result.kind === 'timeout');
        this.#breakers.connections.leave();
        if (result.kind === 'timeout') counters.cxConnectTimeout.value += 1;
        this.#failAll(
          result.kind === 'timeout' ? { kind: 'connect-timeout' } : { kind: 'connect-failure', reason: result.reason },
        );
      },
    );
    this.#cancels.add(cancel);
  }

  #connected(transport: Transport): void {
    const { options } = this;
    const http2 = options.protocol === 'http2' || (options.protocol === 'auto' && transport.tls?.alpn === 'h2');
    if (options.protocol === 'auto') this.#expected = http2 ? this.#streams() : 1;
    // The others were counted when they were dialled.
    if (options.protocol === 'auto') (http2 ? this.#counters.cxHttp2Total : this.#counters.cxHttp1Total).value += 1;
    const connection: PooledConnection = http2
      ? new H2ClientConnection(transport, this, options.http, this.#deps)
      : options.protocol === 'tcp'
        ? new TcpClientConnection(transport, this)
        : new H1ClientConnection(transport, this, options.http);
    this.#all.set(connection, this.#deps.clock.now());
    this.#counters.bytes.open(transport);
    if (options.http.maxConnectionMs > 0) this.#limitAge(connection, options.http.maxConnectionMs);
    connection.start();
    this.onCapacity(connection);
    this.#dialIfNeeded();
  }

  /** max_connection_duration: requests under way go on, others take another connection. */
  #limitAge(connection: PooledConnection, ms: number): void {
    this.#ages ??= new Map();
    this.#ages.set(
      connection,
      this.#deps.clock.after(ms, () => {
        this.#ages?.delete(connection);
        if (connection.retired) return;
        this.#counters.cxMaxDuration.value += 1;
        if (connection.listed) this.#free.splice(this.#free.indexOf(connection), 1);
        connection.listed = false;
        connection.retire();
      }),
    );
  }

  /** All requests that wait for this host learn that it cannot be reached (Envoy does the same). */
  #failAll(failure: PoolFailure): void {
    const waiting = this.#waiting.splice(0);
    for (const waiter of waiting) {
      this.#leaveQueue();
      this.#counters.rqPendingFailure.value += 1;
      waiter.onFailure(failure);
    }
  }

  #scheduleSweep(): void {
    const { idleMs } = this.options.http;
    if (idleMs <= 0) return;
    this.#sweep = this.#deps.clock.after(Math.max(100, idleMs / 2), () => {
      this.#sweep = undefined;
      const deadline = this.#deps.clock.now() - idleMs;
      const old = this.#free.filter((connection) => connection.active === 0 && connection.lastActive <= deadline);
      for (const connection of old) {
        this.#free.splice(this.#free.indexOf(connection), 1);
        connection.listed = false;
        this.#counters.cxIdleTimeout.value += 1;
        connection.retire();
      }
      if (this.#free.length > 0) this.#scheduleSweep();
    });
  }
}
