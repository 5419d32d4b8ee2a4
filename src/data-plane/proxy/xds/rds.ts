// Route tables by name from RDS, shared by all connection managers that ask for the same name of the same source.
import type { ConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { RouteConfiguration } from '#proto/envoy/config/route/v3/route_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { join } from '../config/fields.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import type { RouteProvider } from '../network-filter/registry.ts';
import { type RouteDeps, RouteTable } from '../route/route-table.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { DiscoveryHub } from './hub.ts';
import { RDS } from './kinds.ts';
import { readSource } from './source.ts';

interface Entry {
  readonly name: string;
  table: RouteTable | undefined;
  settled: boolean;
  shares: number;
  version: string;
  updated: number;
  readonly listeners: Set<() => void>;
  release: () => void;
}

export interface RouteView {
  readonly name: string;
  readonly table: RouteTable;
  readonly version: string;
  readonly updated: number;
}

export class RouteManager implements RouteProvider {
  readonly #clock: Clock;
  readonly #deps: RouteDeps;
  readonly #hub: DiscoveryHub;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock, deps: RouteDeps, hub: DiscoveryHub) {
    this.#clock = clock;
    this.#deps = deps;
    this.#hub = hub;
  }

  /** `statPrefix`: of the connection manager that asks first, with its dot. Throws ConfigError. */
  subscribe(
    name: string,
    config: ConfigSource | undefined,
    path: string,
    statPrefix: string,
  ): { live: Live<RouteTable>; release(): void } {
    const source = readSource(config, join(path, 'config_source'));
    const key = `${source.key} ${name}`;
    const known = this.#entries.get(key);
    const shared: Entry = known ?? {
      name,
      table: undefined,
      settled: false,
      shares: 0,
      version: '',
      updated: 0,
      listeners: new Set(),
      release: () => {},
    };
    if (!known) {
      shared.release = this.#hub.named(
        source,
        RDS,
        name,
        {
          statPrefix: `${statPrefix}rds.${name}.`,
          update: (message, version) => this.#apply(shared, message, version),
          // Envoy ignores the removal of a route table: it lives as long as a listener names it.
          removed() {},
          timedOut: () => settle(shared),
        },
        path,
      );
      this.#entries.set(key, shared);
    }
    shared.shares += 1;
    let released = false;
    return {
      live: {
        name: `route '${name}'`,
        current: () => shared.table,
        ready: () => shared.settled,
        listen(changed) {
          shared.listeners.add(changed);
          return () => shared.listeners.delete(changed);
        },
      },
      release: () => {
        if (released) return;
        released = true;
        shared.shares -= 1;
        if (shared.shares > 0) return;
        this.#entries.delete(key);
        shared.release();
      },
    };
  }

  views(): RouteView[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.table ? [{ name: entry.name, table: entry.table, version: entry.version, updated: entry.updated }] : [],
    );
  }

  #apply(entry: Entry, message: RouteConfiguration, version: string): void {
    const context = { ...this.#deps, perFilter: buildPerFilter, validateClusters: false };
    entry.table = new RouteTable(message, context, `route '${message.name}'`);
    entry.version = version;
    entry.updated = this.#clock.now();
    settle(entry);
  }
}

function settle(entry: Entry): void {
  entry.settled = true;
  for (const run of [...entry.listeners]) run();
}
