// Route tables by name from RDS, shared by all connection managers that ask for the same name of the same source.

import { toBinary } from '@bufbuild/protobuf';
import type { ConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type RouteConfiguration, RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { join } from '../config/fields.ts';
import { fingerprint } from '../config/fingerprint.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import { type HostMemory, type RouteDeps, RouteTable } from '../route/route-table.ts';
import type { Live } from '../transport-socket/secrets.ts';
import type { DiscoveryHub } from './hub.ts';
import { RDS } from './kinds.ts';
import { readSource } from './source.ts';
import { type FollowedHosts, HostDiscovery } from './vhds.ts';

interface Entry {
  readonly name: string;
  table: RouteTable | undefined;
  settled: boolean;
  shares: number;
  version: string;
  updated: number;
  readonly listeners: Set<() => void>;
  release: () => void;
  /** Virtual hosts that come one by one, when the table says so. */
  hosts: FollowedHosts | undefined;
}

/** A table as its user has it. */
export interface RouteShare {
  readonly live: Live<RouteTable>;
  /** Asks for the virtual host of an authority; see FollowedHosts. */
  fetchHost(authority: string, done: () => void): boolean;
  release(): void;
}

export interface RouteView {
  readonly name: string;
  readonly table: RouteTable;
  readonly version: string;
  readonly updated: number;
}

export class RouteManager {
  readonly #clock: Clock;
  readonly #deps: RouteDeps;
  readonly #hub: DiscoveryHub;
  readonly #hosts: HostDiscovery;
  readonly #entries = new Map<string, Entry>();

  constructor(clock: Clock, deps: RouteDeps, hub: DiscoveryHub) {
    this.#hosts = new HostDiscovery(hub, deps.stats);
    this.#clock = clock;
    this.#deps = deps;
    this.#hub = hub;
  }

  /** `statPrefix`: of the connection manager that asks first, with its dot. Throws ConfigError. */
  subscribe(name: string, config: ConfigSource | undefined, path: string, statPrefix: string): RouteShare {
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
      hosts: undefined,
    };
    if (!known) {
      shared.release = this.#hub.named(
        source,
        RDS,
        name,
        {
          statPrefix: `${statPrefix}rds.${name}.`,
          update: (message, version) => this.#apply(shared, message, version, statPrefix),
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
      fetchHost: (authority, done) => shared.hosts?.request(authority.toLowerCase(), done) ?? false,
      release: () => {
        if (released) return;
        released = true;
        shared.shares -= 1;
        if (shared.shares > 0) return;
        this.#entries.delete(key);
        shared.release();
        shared.hosts?.release();
      },
    };
  }

  views(): RouteView[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.table ? [{ name: entry.name, table: entry.table, version: entry.version, updated: entry.updated }] : [],
    );
  }

  /** A table that stands where it is used. Throws ConfigError. */
  compile(message: RouteConfiguration, path: string, memory?: HostMemory): RouteTable {
    const shared = this.#deps.shared?.under(
      `${path} ${fingerprint(toBinary(RouteConfigurationSchema, message))}`,
      path,
    );
    const context = { ...this.#deps, shared, perFilter: buildPerFilter, validateClusters: false };
    return new RouteTable(message, context, path, memory);
  }

  /** For a table whose virtual hosts come one by one, in an order that is not the same in all threads. */
  #memory(message: RouteConfiguration): HostMemory {
    const { shared } = this.#deps;
    const print = shared && fingerprint(toBinary(RouteConfigurationSchema, message));
    return {
      compiled: new WeakMap(),
      contextOf: (host, context, path) => ({
        ...context,
        shared: shared?.under(
          `host of ${message.name} ${print} ${fingerprint(toBinary(VirtualHostSchema, host))}`,
          path,
        ),
      }),
    };
  }

  #apply(entry: Entry, message: RouteConfiguration, version: string, statPrefix: string): void {
    const path = `route '${message.name}'`;
    const memory = message.vhds && this.#memory(message);
    const table = this.compile(message, path, memory);
    // Hosts of the table before belong to it: a new one asks anew.
    entry.hosts?.release();
    entry.hosts = undefined;
    entry.table = table;
    entry.version = version;
    entry.updated = this.#clock.now();
    if (message.vhds) {
      const at = `${path}.vhds.config_source`;
      entry.hosts = this.#hosts.follow(
        readSource(message.vhds.configSource, at),
        message.name,
        {
          statPrefix: `${statPrefix}vhds.${message.name}.`,
          update: (hosts) => {
            const merged = { ...message, virtualHosts: [...message.virtualHosts, ...hosts] };
            entry.table = this.compile(merged, path, memory);
            entry.updated = this.#clock.now();
          },
        },
        at,
      );
    }
    settle(entry);
  }
}

function settle(entry: Entry): void {
  entry.settled = true;
  for (const run of [...entry.listeners]) run();
}
