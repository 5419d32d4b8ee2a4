// HTTP/1 connections to one host with one transport socket: idle ones are reused, requests wait in a bounded queue.
// Owned by a cluster; the router asks for an exchange.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Host } from '../cluster/host.ts';
import { dial, type UpstreamSocket, type UpstreamSource } from '../transport-socket/dial.ts';
import type { Breakers } from './breakers.ts';
import type { PoolFailure, PoolWaiter, UpstreamPool } from './exchange.ts';
import { H1ClientConnection, type H1ClientOwner } from './h1-client.ts';

export interface PoolOptions {
  readonly socket: UpstreamSocket;
  readonly alpn: readonly string[] | undefined;
  /** Server name from the request, see DialOptions. */
  readonly name: { readonly name: string; readonly verify: boolean } | undefined;
  readonly source: UpstreamSource | undefined;
  readonly connectTimeoutMs: number;
  readonly idleMs: number;
  /** 0 = no limit. */
  readonly maxRequestsPerConnection: number;
  readonly keepAlive: boolean;
  /** Trailers of HTTP/1 chunked bodies are passed on. */
  readonly enableTrailers: boolean;
}

/** What the pool adds to the cluster's counters. */
export interface PoolCounters {
  readonly cxTotal: { value: number };
  readonly cxActive: { value: number };
  readonly cxConnectFail: { value: number };
  readonly cxConnectTimeout: { value: number };
  readonly cxOverflow: { value: number };
  readonly cxIdleTimeout: { value: number };
  readonly cxDestroy: { value: number };
  readonly cxMaxRequests: { value: number };
  readonly rqPendingTotal: { value: number };
  readonly rqPendingActive: { value: number };
  readonly rqPendingOverflow: { value: number };
  readonly rqPendingFailure: { value: number };
}

export class H1Pool implements UpstreamPool, H1ClientOwner {
  readonly host: Host;
  readonly options: PoolOptions;
  readonly #clock: Clock;
  readonly #breakers: Breakers;
  readonly #counters: PoolCounters;
  readonly #idle: H1ClientConnection[] = [];
  readonly #all = new Set<H1ClientConnection>();
  readonly #waiting: PoolWaiter[] = [];
  #dialling = 0;
  #draining = false;
  #sweep: (() => void) | undefined;
  readonly #cancels = new Set<() => void>();

  constructor(host: Host, options: PoolOptions, breakers: Breakers, counters: PoolCounters, clock: Clock) {
    this.host = host;
    this.options = options;
    this.#breakers = breakers;
    this.#counters = counters;
    this.#clock = clock;
  }

  /** Nothing is open, nothing waits. */
  get empty(): boolean {
    return this.#all.size === 0 && this.#waiting.length === 0 && this.#dialling === 0;
  }

  /** Calls `waiter` once, maybe at once. The returned function takes the waiter out of the queue. */
  request(waiter: PoolWaiter): () => void {
    for (let connection = this.#idle.pop(); connection; connection = this.#idle.pop()) {
      if (connection.transport.closed) continue;
      waiter.onReady(connection, connection.served > 0);
      return () => {};
    }
    const counters = this.#counters;
    if (!this.#breakers.pending.tryEnter()) {
      counters.rqPendingOverflow.value += 1;
      waiter.onFailure({ kind: 'overflow' });
      return () => {};
    }
    counters.rqPendingTotal.value += 1;
    counters.rqPendingActive.value += 1;
    this.#waiting.push(waiter);
    if (this.#dialling < this.#waiting.length) this.#dial();
    return () => {
      const at = this.#waiting.indexOf(waiter);
      if (at >= 0) {
        this.#waiting.splice(at, 1);
        this.#leaveQueue();
      }
    };
  }

  /** Idle connections close now, busy ones after their exchange. */
  drain(): void {
    this.#draining = true;
    for (const connection of this.#all) connection.retire();
    this.#idle.length = 0;
  }

  destroy(): void {
    this.drain();
    this.#sweep?.();
    for (const cancel of this.#cancels) cancel();
    for (const connection of this.#all) connection.transport.destroy();
    this.#failAll({ kind: 'connect-failure', reason: 'cluster removed' });
  }

  onIdle(connection: H1ClientConnection): void {
    const { maxRequestsPerConnection } = this.options;
    if (maxRequestsPerConnection > 0 && connection.served >= maxRequestsPerConnection) {
      this.#counters.cxMaxRequests.value += 1;
      connection.retire();
      return;
    }
    if (this.#draining && this.#waiting.length === 0) {
      connection.retire();
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter) {
      this.#leaveQueue();
      waiter.onReady(connection, connection.served > 0);
      return;
    }
    connection.lastActive = this.#clock.now();
    this.#idle.push(connection);
    if (!this.#sweep) this.#scheduleSweep();
  }

  onClosed(connection: H1ClientConnection): void {
    if (!this.#all.delete(connection)) return;
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    this.host.cxActive -= 1;
    this.#counters.cxActive.value -= 1;
    this.#counters.cxDestroy.value += 1;
    this.#breakers.connections.leave();
    if (this.#waiting.length > this.#dialling) this.#dial();
  }

  #leaveQueue(): void {
    this.#breakers.pending.leave();
    this.#counters.rqPendingActive.value -= 1;
  }

  #dial(): void {
    // At the connection limit requests wait for one to come free, unless there is none to wait for.
    if (this.host.cxActive >= this.#breakers.hostConnections || !this.#breakers.connections.tryEnter()) {
      this.#counters.cxOverflow.value += 1;
      if (this.#all.size + this.#dialling > 0) return;
      this.#breakers.connections.enter();
    }
    const counters = this.#counters;
    this.#dialling += 1;
    counters.cxTotal.value += 1;
    counters.cxActive.value += 1;
    this.host.cxTotal += 1;
    this.host.cxActive += 1;
    const { options } = this;
    const cancel = dial(
      {
        target: this.host.spec.address,
        source: options.source,
        timeoutMs: options.connectTimeoutMs,
        socket: options.socket,
        alpn: options.alpn,
        host: options.name,
        keepAlive: options.keepAlive,
        clock: this.#clock,
      },
      (result) => {
        this.#cancels.delete(cancel);
        this.#dialling -= 1;
        if (result.kind === 'connected') {
          const connection = new H1ClientConnection(result.transport, this, options.enableTrailers);
          this.#all.add(connection);
          connection.start();
          this.onIdle(connection);
          return;
        }
        this.host.cxActive -= 1;
        this.host.cxConnectFail += 1;
        counters.cxActive.value -= 1;
        counters.cxConnectFail.value += 1;
        this.#breakers.connections.leave();
        if (result.kind === 'timeout') counters.cxConnectTimeout.value += 1;
        this.#failAll(
          result.kind === 'timeout' ? { kind: 'connect-timeout' } : { kind: 'connect-failure', reason: result.reason },
        );
      },
    );
    this.#cancels.add(cancel);
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
    const { idleMs } = this.options;
    if (idleMs <= 0) return;
    this.#sweep = this.#clock.after(Math.max(100, idleMs / 2), () => {
      this.#sweep = undefined;
      const deadline = this.#clock.now() - idleMs;
      while (this.#idle.length > 0 && this.#idle[0]!.lastActive <= deadline) {
        this.#counters.cxIdleTimeout.value += 1;
        this.#idle.shift()!.retire();
      }
      if (this.#idle.length > 0) this.#scheduleSweep();
    });
  }
}
