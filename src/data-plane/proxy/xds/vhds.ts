// Virtual hosts of a route table that come one by one (VHDS): pushed, or asked for when a request wants a host nobody knows.
// One stream a source for all tables. Called by rds.ts.
import { fromBinary } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { type VirtualHost, VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { errorText } from '../../../base/runtime/log.ts';
import { MAX_ON_DEMAND_ABSENT, MAX_ON_DEMAND_HOSTS, MAX_ON_DEMAND_WAITING } from '../limits.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { Channel, DiscoveryHub } from './hub.ts';
import { readResource, VHDS } from './kinds.ts';
import type { Source } from './source.ts';
import type { ReceivedResource, Receiver, Rejection, ResourceUpdate } from './update.ts';

export interface HostSink {
  readonly statPrefix: string;
  /** The hosts known now. Throws ConfigError: refused, the old ones stay. */
  update(hosts: readonly VirtualHost[]): void;
}

/** The hosts of one table. */
export interface FollowedHosts {
  /** Asks for a host; `done` is called once there is an answer, whatever it is. False: it was asked, or may not be. */
  request(host: string, done: () => void): boolean;
  release(): void;
}

interface Table {
  readonly sink: HostSink;
  readonly hosts: Map<string, VirtualHost>;
  /** Requests that wait, by host. */
  readonly waiting: Map<string, (() => void)[]>;
  /** Names a host was found by, and names that have none, oldest first. Nobody asks for them again. */
  readonly found: Set<string>;
  readonly absent: Set<string>;
  /** Forgotten in this turn: until the server has heard of it, it would not answer again. */
  readonly leaving: Set<string>;
}

export class HostDiscovery {
  readonly #hub: DiscoveryHub;
  readonly #stats: StatsStore;
  readonly #streams = new Map<string, HostStream>();

  constructor(hub: DiscoveryHub, stats: StatsStore) {
    this.#hub = hub;
    this.#stats = stats;
  }

  follow(source: Source, table: string, sink: HostSink, path: string): FollowedHosts {
    let stream = this.#streams.get(source.key);
    if (!stream) {
      stream = new HostStream(this.#stats);
      stream.channel = this.#hub.receive(source, VHDS, stream, new Set([table]), path);
      this.#streams.set(source.key, stream);
    }
    const shared = stream;
    const followed = shared.add(table, sink);
    return {
      request: (host, done) => followed.request(host, done),
      release: () => {
        if (!shared.remove(table)) return;
        this.#streams.delete(source.key);
        shared.channel?.stop();
      },
    };
  }
}

class HostStream implements Receiver {
  readonly typeUrl = VHDS.typeUrl;
  readonly #stats: StatsStore;
  readonly #tables = new Map<string, Table>();
  channel: Channel | undefined;

  constructor(stats: StatsStore) {
    this.#stats = stats;
  }

  add(name: string, sink: HostSink): Pick<FollowedHosts, 'request'> {
    const table: Table = {
      sink,
      hosts: new Map(),
      waiting: new Map(),
      found: new Set(),
      absent: new Set(),
      leaving: new Set(),
    };
    this.#tables.set(name, table);
    this.#tell();
    return { request: (host, done) => this.#request(table, host, done) };
  }

  /** True when nobody is left. */
  remove(name: string): boolean {
    const table = this.#tables.get(name);
    this.#tables.delete(name);
    if (table) for (const runs of table.waiting.values()) for (const run of runs) run();
    this.#tell();
    return this.#tables.size === 0;
  }

  #request(table: Table, host: string, done: () => void): boolean {
    if (table.found.has(host) || table.absent.has(host) || table.leaving.has(host)) return false;
    const runs = table.waiting.get(host);
    if (runs) {
      if (runs.length >= MAX_ON_DEMAND_WAITING) return false;
      runs.push(done);
      return true;
    }
    if (table.waiting.size >= MAX_ON_DEMAND_WAITING || table.found.size >= MAX_ON_DEMAND_HOSTS) return false;
    table.waiting.set(host, [done]);
    this.#tell();
    return true;
  }

  /** For a worker; see workers/mirror-hub.ts. */
  ask(name: string): boolean {
    const owner = this.#tableOf(name);
    const table = owner === undefined ? undefined : this.#tables.get(owner);
    if (owner === undefined || !table) return false;
    const host = name.slice(owner.length + 1);
    return table.found.has(host) || this.#request(table, host, () => {});
  }

  #tell(): void {
    const names = new Set<string>();
    for (const [name, table] of this.#tables) {
      names.add(name);
      for (const host of table.waiting.keys()) names.add(`${name}/${host}`);
      for (const host of table.found) names.add(`${name}/${host}`);
      for (const host of table.absent) names.add(`${name}/${host}`);
    }
    this.channel?.setNames(names);
  }

  nameOf(any: Any): string {
    try {
      return fromBinary(VirtualHostSchema, any.value).name;
    } catch {
      return '';
    }
  }

  apply(update: ResourceUpdate): readonly Rejection[] {
    const rejected: Rejection[] = [];
    const touched = new Map<string, ReceivedResource[]>();
    for (const resource of update.resources) {
      const owner = this.#ownerOf(resource);
      if (owner !== undefined) touched.set(owner, [...(touched.get(owner) ?? []), resource]);
    }
    for (const name of update.removed) {
      const owner = this.#tableOf(name);
      if (owner !== undefined && !touched.has(owner)) touched.set(owner, []);
    }
    for (const [name, resources] of touched) rejected.push(...this.#change(name, resources, update.removed));
    return rejected;
  }

  /** Resource names are `TABLE/HOST`; a table's own name may hold slashes. */
  #tableOf(name: string): string | undefined {
    for (const table of this.#tables.keys()) if (name.startsWith(`${table}/`)) return table;
    return undefined;
  }

  #ownerOf(resource: ReceivedResource): string | undefined {
    for (const name of [resource.name, ...resource.aliases]) {
      const owner = this.#tableOf(name);
      if (owner !== undefined) return owner;
    }
    return undefined;
  }

  #change(name: string, resources: readonly ReceivedResource[], removed: readonly string[]): Rejection[] {
    const table = this.#tables.get(name)!;
    const before = new Map(table.hosts);
    const prefix = `${name}/`;
    const { stats } = { stats: this.#stats };
    try {
      let changed = false;
      for (const resource of resources) {
        if (!resource.any) continue;
        table.hosts.set(resource.name, readResource(VHDS, resource.any));
        changed = true;
      }
      for (const gone of removed) if (table.hosts.delete(gone)) changed = true;
      // That there is no such host changes nothing: clients may ask for many.
      if (changed) table.sink.update([...table.hosts.values()]);
      stats.counter(`${table.sink.statPrefix}update_success`).value += 1;
    } catch (error) {
      table.hosts.clear();
      for (const [key, host] of before) table.hosts.set(key, host);
      stats.counter(`${table.sink.statPrefix}update_rejected`).value += 1;
      return resources.map((resource) => ({ name: resource.name, reason: errorText(error) }));
    } finally {
      for (const resource of resources)
        for (const each of [resource.name, ...resource.aliases])
          if (each.startsWith(prefix)) this.#answer(table, each.slice(prefix.length), table.hosts.has(resource.name));
      for (const each of removed) if (each.startsWith(prefix)) this.#answer(table, each.slice(prefix.length), false);
    }
    return [];
  }

  #answer(table: Table, host: string, there: boolean): void {
    const runs = table.waiting.get(host);
    const { found, absent } = table;
    table.waiting.delete(host);
    if (there) {
      absent.delete(host);
      found.add(host);
    } else {
      found.delete(host);
      absent.add(host);
      if (absent.size > MAX_ON_DEMAND_ABSENT) this.#forget(table, absent.values().next().value!);
    }
    for (const run of runs ?? []) run();
  }

  #forget(table: Table, absent: string): void {
    table.absent.delete(absent);
    table.leaving.add(absent);
    this.#tell();
    // What was told in this turn is sent at its end.
    queueMicrotask(() => table.leaving.delete(absent));
  }

  refusal(rejected: readonly Rejection[]): string {
    return rejected.map(({ reason }) => reason).join('\n');
  }

  attempted(): void {
    for (const { sink } of this.#tables.values()) this.#stats.counter(`${sink.statPrefix}update_attempt`).value += 1;
  }

  failed(): void {
    for (const { sink } of this.#tables.values()) this.#stats.counter(`${sink.statPrefix}update_failure`).value += 1;
  }
}
