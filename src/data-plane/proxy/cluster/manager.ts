// All clusters: adds, changes and removes them; the old one serves until the new one is warm. Fed by the bootstrap, CDS and EDS.
import { toBinary } from '@bufbuild/protobuf';
import { type Cluster as ClusterMessage, ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { ClusterLoadAssignment } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ConfigError } from '../config/fields.ts';
import { DEFAULT_INITIAL_FETCH_MS } from '../limits.ts';
import { Cluster, type ClusterDeps, fingerprint } from './cluster.ts';
import { followDns, type Resolve } from './dns.ts';
import { readEndpoints } from './endpoints.ts';
import type { HostSpec } from './host.ts';

export interface ClusterManagerDeps extends ClusterDeps {
  readonly resolve: Resolve;
  /** The set of EDS names wanted has changed. */
  readonly edsNames: (names: ReadonlySet<string>) => void;
}

interface Entry {
  readonly name: string;
  readonly isStatic: boolean;
  active: Cluster | undefined;
  warming: Cluster | undefined;
  print: string;
  stops: (() => void)[];
  activeStops: (() => void)[];
}

export interface ClusterView {
  readonly name: string;
  readonly isStatic: boolean;
  readonly active: Cluster | undefined;
  readonly warming: Cluster | undefined;
}

export class ClusterManager {
  readonly #deps: ClusterManagerDeps;
  readonly #entries = new Map<string, Entry>();
  /** The last answer of EDS by name. */
  readonly #assignments = new Map<
    string,
    { readonly message: ClusterLoadAssignment; readonly specs: readonly HostSpec[] }
  >();
  #edsNames = new Set<string>();
  readonly #changed: (() => void)[] = [];

  constructor(deps: ClusterManagerDeps) {
    this.#deps = deps;
  }

  find(name: string): Cluster | undefined {
    return this.#entries.get(name)?.active;
  }

  views(): ClusterView[] {
    return [...this.#entries.values()];
  }

  /** Resolves waiting when no cluster is warming. */
  get warm(): boolean {
    for (const entry of this.#entries.values()) if (entry.warming) return false;
    return true;
  }

  onChange(run: () => void): void {
    this.#changed.push(run);
  }

  /** Throws ConfigError and changes nothing when the message cannot be used. False = nothing to do. */
  apply(message: ClusterMessage, isStatic: boolean): boolean {
    const print = fingerprint(toBinary(ClusterSchema, message));
    const entry = this.#entries.get(message.name);
    if (entry?.isStatic && !isStatic) return false;
    if (entry?.isStatic && isStatic) throw new ConfigError('', `cluster manager: duplicate cluster '${message.name}'`);
    if (entry?.print === print) return false;
    const cluster = new Cluster(message, this.#deps, `cluster '${message.name}'`);
    const target: Entry = entry ?? {
      name: message.name,
      isStatic,
      active: undefined,
      warming: undefined,
      print,
      stops: [],
      activeStops: [],
    };
    this.#entries.set(message.name, target);
    target.print = print;
    for (const stop of target.stops) stop();
    target.warming?.drain();
    target.warming = cluster;
    target.stops = [];
    this.#count(entry ? 'cluster_modified' : 'cluster_added');
    this.#warm(target, cluster);
    this.#refreshEdsNames();
    return true;
  }

  remove(name: string): boolean {
    const entry = this.#entries.get(name);
    if (!entry || entry.isStatic) return false;
    this.#entries.delete(name);
    for (const stop of [...entry.stops, ...entry.activeStops]) stop();
    entry.warming?.drain();
    entry.active?.drain();
    entry.active?.scope.drop();
    this.#count('cluster_removed');
    this.#refreshEdsNames();
    this.#gauges();
    this.#notify();
    return true;
  }

  dynamicNames(): string[] {
    return [...this.#entries.values()].flatMap((entry) => (entry.isStatic ? [] : [entry.name]));
  }

  /** An answer of EDS. Throws ConfigError and changes nothing when it cannot be used. */
  applyEndpoints(message: ClusterLoadAssignment): void {
    const specs = readEndpoints(message, `endpoints of '${message.clusterName}'`, false);
    this.#assignments.set(message.clusterName, { message, specs });
    this.#give(message.clusterName, specs);
  }

  /** EDS says the name does not exist: a cluster that waits for it goes on without hosts, others keep theirs (as in Envoy). */
  removeEndpoints(name: string): void {
    for (const entry of this.#entries.values()) {
      const cluster = entry.warming;
      if (cluster?.settings.type !== 'eds' || cluster.settings.edsName !== name || cluster.initialized) continue;
      cluster.setHosts([]);
      this.#tryActivate(entry, cluster);
    }
  }

  assignment(name: string): ClusterLoadAssignment | undefined {
    return this.#assignments.get(name)?.message;
  }

  stop(): void {
    for (const entry of this.#entries.values()) {
      for (const stop of [...entry.stops, ...entry.activeStops]) stop();
      entry.active?.destroy();
      entry.warming?.destroy();
    }
  }

  #give(edsName: string, specs: readonly HostSpec[]): void {
    for (const entry of this.#entries.values())
      for (const cluster of [entry.active, entry.warming])
        if (cluster?.settings.type === 'eds' && cluster.settings.edsName === edsName) {
          cluster.setHosts(specs);
          if (cluster === entry.warming) this.#tryActivate(entry, cluster);
        }
  }

  #warm(entry: Entry, cluster: Cluster): void {
    const { settings } = cluster;
    const again = (): void => this.#tryActivate(entry, cluster);
    entry.stops.push(cluster.listenSecrets(again));
    if (settings.type === 'strict-dns' || settings.type === 'logical-dns')
      entry.stops.push(followDns(cluster, this.#deps.resolve, this.#deps.clock, again));
    if (settings.type === 'eds') {
      const known = this.#assignments.get(settings.edsName);
      // Endpoints we hold stay true until EDS says otherwise: a changed cluster need not wait for them again.
      if (known) cluster.setHosts(known.specs);
      const wait = settings.initialFetchMs < 0 ? DEFAULT_INITIAL_FETCH_MS : settings.initialFetchMs;
      if (!known && wait > 0)
        entry.stops.push(
          this.#deps.clock.after(wait, () => {
            if (cluster.initialized) return;
            cluster.scope.counter('init_fetch_timeout').value += 1;
            cluster.setHosts([]);
            again();
          }),
        );
    }
    this.#tryActivate(entry, cluster);
  }

  #tryActivate(entry: Entry, cluster: Cluster): void {
    if (entry.warming !== cluster) return;
    if (!cluster.initialized || cluster.awaitedSecrets().length > 0) {
      this.#gauges();
      return;
    }
    entry.warming = undefined;
    for (const stop of entry.activeStops) stop();
    entry.activeStops = entry.stops;
    entry.stops = [];
    const before = entry.active;
    entry.active = cluster;
    before?.drain();
    this.#gauges();
    this.#notify();
  }

  #refreshEdsNames(): void {
    const names = new Set<string>();
    for (const entry of this.#entries.values())
      for (const cluster of [entry.active, entry.warming])
        if (cluster?.settings.type === 'eds') names.add(cluster.settings.edsName);
    if (names.size === this.#edsNames.size && [...names].every((name) => this.#edsNames.has(name))) return;
    this.#edsNames = names;
    for (const name of this.#assignments.keys()) if (!names.has(name)) this.#assignments.delete(name);
    this.#deps.edsNames(names);
  }

  #notify(): void {
    for (const run of this.#changed) run();
  }

  #count(name: string): void {
    this.#deps.stats.counter(`cluster_manager.${name}`).value += 1;
  }

  #gauges(): void {
    const all = [...this.#entries.values()];
    this.#deps.stats.gauge('cluster_manager.active_clusters').value = all.filter((entry) => entry.active).length;
    this.#deps.stats.gauge('cluster_manager.warming_clusters').value = all.filter((entry) => entry.warming).length;
  }
}
