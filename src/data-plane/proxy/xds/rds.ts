// Route tables by name from RDS, shared by all connection managers that ask for the same name.

import type { ConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { RouteConfiguration } from '#proto/envoy/config/route/v3/route_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { join, millis } from '../config/fields.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import { DEFAULT_INITIAL_FETCH_MS } from '../limits.ts';
import type { RouteProvider } from '../network-filter/registry.ts';
import { RouteTable } from '../route/route-table.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { Live } from '../transport-socket/secrets.ts';
import { requireAds } from './config-source.ts';

interface Entry {
  readonly name: string;
  table: RouteTable | undefined;
  settled: boolean;
  shares: number;
  version: string;
  updated: number;
  readonly listeners: Set<() => void>;
  cancelWait: (() => void) | undefined;
}

export interface RouteView {
  readonly name: string;
  readonly table: RouteTable;
  readonly version: string;
  readonly updated: number;
}

export class RouteManager implements RouteProvider {
  readonly #clock: Clock;
  readonly #runtime: RuntimeView;
  readonly #wanted: (names: ReadonlySet<string>) => void;
  readonly #entries = new Map<string, Entry>();

  /** `wanted` is told the names that somebody uses, whenever they change. */
  constructor(clock: Clock, runtime: RuntimeView, wanted: (names: ReadonlySet<string>) => void) {
    this.#clock = clock;
    this.#runtime = runtime;
    this.#wanted = wanted;
  }

  subscribe(name: string, source: ConfigSource | undefined, path: string): { live: Live<RouteTable>; release(): void } {
    requireAds(source, join(path, 'config_source'));
    let entry = this.#entries.get(name);
    if (!entry) {
      entry = {
        name,
        table: undefined,
        settled: false,
        shares: 0,
        version: '',
        updated: 0,
        listeners: new Set(),
        cancelWait: undefined,
      };
      this.#entries.set(name, entry);
      this.#wait(entry, millis(source?.initialFetchTimeout, DEFAULT_INITIAL_FETCH_MS));
      this.#tell();
    }
    const shared = entry;
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
        shared.cancelWait?.();
        if (this.#entries.get(name) === shared) this.#entries.delete(name);
        this.#tell();
      },
    };
  }

  /** Throws ConfigError and changes nothing when the message cannot be used. */
  apply(message: RouteConfiguration, version: string): void {
    const table = new RouteTable(
      message,
      { perFilter: buildPerFilter, runtime: this.#runtime },
      `route '${message.name}'`,
    );
    const entry = this.#entries.get(message.name);
    if (!entry) return;
    entry.table = table;
    entry.version = version;
    entry.updated = this.#clock.now();
    this.#settle(entry);
  }

  views(): RouteView[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.table ? [{ name: entry.name, table: entry.table, version: entry.version, updated: entry.updated }] : [],
    );
  }

  #settle(entry: Entry): void {
    entry.cancelWait?.();
    entry.settled = true;
    for (const run of [...entry.listeners]) run();
  }

  #wait(entry: Entry, ms: number): void {
    if (ms > 0) entry.cancelWait = this.#clock.after(ms, () => this.#settle(entry));
  }

  #tell(): void {
    this.#wanted(new Set(this.#entries.keys()));
  }
}
