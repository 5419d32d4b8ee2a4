// The overload manager: looks at memory each refresh interval and sets the pressure that listeners and the connection manager
// read. Owned by the engine.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Gauge, StatsStore } from '../stats/stats.ts';
import type { Action, Monitor, OverloadConfig } from './config.ts';
import { type Pressure, settle } from './pressure.ts';

/** How much memory is used; injected. */
export interface MemoryReader {
  heapBytes(): number;
  /** Used and allowed bytes of this process's cgroup; undefined when they cannot be read or there is no limit. */
  cgroup(): { readonly used: number; readonly limit: number | undefined } | undefined;
  /** Gives memory back that is not needed. */
  shrink(): void;
}

/** For engines that do not watch memory: a monitor of it fails to update. */
export const NO_MEMORY: MemoryReader = { heapBytes: () => Number.NaN, cgroup: () => undefined, shrink() {} };

export interface OverloadDeps {
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly memory: MemoryReader;
  readonly pressure: Pressure;
}

export class OverloadManager {
  readonly #config: OverloadConfig;
  readonly #deps: OverloadDeps;
  readonly #pressures = new Map<string, number>();
  readonly #gauges: readonly { readonly active: Gauge; readonly scale: Gauge }[];
  #cancel: (() => void) | undefined;

  constructor(config: OverloadConfig, deps: OverloadDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#gauges = config.actions.map(({ fullName }) => ({
      active: deps.stats.gauge(`overload.${fullName}.active`),
      scale: deps.stats.gauge(`overload.${fullName}.scale_percent`),
    }));
  }

  start(): void {
    if (this.#config.monitors.length === 0) return;
    const next = (): void => {
      this.refresh();
      this.#cancel = this.#deps.clock.after(this.#config.refreshMs, next);
    };
    next();
  }

  stop(): void {
    this.#cancel?.();
  }

  /** Looks now. */
  refresh(): void {
    const { stats, pressure } = this.#deps;
    for (const monitor of this.#config.monitors) {
      const value = this.#measure(monitor);
      if (value === undefined) {
        stats.counter(`overload.${monitor.name}.failed_updates`).value += 1;
        continue;
      }
      this.#pressures.set(monitor.name, value);
      stats.gauge(`overload.${monitor.name}.pressure`).value = Math.round(value * 100);
    }
    pressure.refuseRequests = 0;
    pressure.refuseConnections = 0;
    pressure.endKeepAlive = false;
    pressure.idleScale = 1;
    for (const [i, action] of this.#config.actions.entries()) this.#act(action, i);
    settle(pressure);
  }

  #act(action: Action, index: number): void {
    const { pressure, memory } = this.#deps;
    let state = 0;
    for (const trigger of action.triggers)
      state = Math.max(state, trigger.stateOf(this.#pressures.get(trigger.resource) ?? 0));
    const gauges = this.#gauges[index]!;
    gauges.active.value = state >= 1 ? 1 : 0;
    gauges.scale.value = Math.round(state * 100);
    switch (action.name) {
      case 'stop_accepting_requests':
      case 'http_connection_manager_decode_headers':
        pressure.refuseRequests = Math.max(pressure.refuseRequests, state);
        return;
      case 'stop_accepting_connections':
      case 'reject_incoming_connections':
      case 'tcp_listener_accept':
        pressure.refuseConnections = Math.max(pressure.refuseConnections, state);
        return;
      case 'disable_http_keepalive':
        if (state > 0) pressure.endKeepAlive = true;
        return;
      case 'reduce_timeouts':
        pressure.idleScale = 1 - state * (1 - action.minScale);
        pressure.minIdleMs = action.minMs;
        return;
      case 'shrink_heap':
        if (state >= 1) memory.shrink();
        return;
    }
  }

  #measure(monitor: Monitor): number | undefined {
    const { memory } = this.#deps;
    if (monitor.kind === 'fixed-heap') {
      const used = memory.heapBytes();
      return Number.isNaN(used) ? undefined : used / monitor.maxBytes;
    }
    const cgroup = memory.cgroup();
    if (!cgroup) return undefined;
    const limit = Math.min(monitor.maxBytes ?? Number.POSITIVE_INFINITY, cgroup.limit ?? Number.POSITIVE_INFINITY);
    return Number.isFinite(limit) ? cgroup.used / limit : undefined;
  }
}
