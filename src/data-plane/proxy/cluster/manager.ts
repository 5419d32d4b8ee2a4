// All clusters: adds, changes and removes them; the old one serves until the new one is warm. Fed by the bootstrap, CDS and EDS.
import { toBinary } from '@bufbuild/protobuf';
import { type Cluster as ClusterMessage, ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { ClusterLoadAssignment } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ConfigError } from '../config/fields.ts';
import { fingerprint } from '../config/fingerprint.ts';
import { StatsScope } from '../stats/stats.ts';
import type { Source } from '../xds/source.ts';
import { Cluster, type ClusterDeps, type Encoded, statNameOf } from './cluster.ts';
import { followDns, type Resolve } from './dns.ts';
import { DnsCaches, type SharedNames } from './dns-cache.ts';
import { NO_ENDPOINTS, readEndpoints } from './endpoints.ts';

export interface ClusterManagerDeps extends Omit<ClusterDeps, 'dnsCaches'> {
  readonly resolve: Resolve;
  readonly sharedNames?: SharedNames | undefined;
  readonly endpoints: EndpointSource;
}

/** A cluster that follows the endpoints of a name. */
export interface EndpointSink {
  /** Throws ConfigError and changes nothing when they cannot be used. */
  given(message: ClusterLoadAssignment): void;
  /** The name does not exist, or nothing came in time. */
  missing(): void;
}

/** Endpoint discovery; xds/eds.ts. */
export interface EndpointSource {
  /** What is known already is given at once. Throws ConfigError when the source cannot be used. */
  follow(source: Source, name: string, statPrefix: string, sink: EndpointSink): () => void;
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
  readonly #clusterDeps: ClusterDeps;
  readonly #caches: DnsCaches;
  readonly #entries = new Map<string, Entry>();
  readonly #changed: (() => void)[] = [];

  constructor(deps: ClusterManagerDeps) {
    this.#deps = deps;
    this.#caches = new DnsCaches(deps);
    this.#clusterDeps = { ...deps, dnsCaches: this.#caches };
  }

  find(name: string): Cluster | undefined {
    return this.#entries.get(name)?.active;
  }

  /** True also while it is warming. */
  knows(name: string): boolean {
    return this.#entries.has(name);
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
    const bytes = toBinary(ClusterSchema, message);
    const print = fingerprint(bytes);
    const entry = this.#entries.get(message.name);
    if (entry?.isStatic && !isStatic) return false;
    if (entry?.isStatic && isStatic)
      throw new ConfigError('', `cluster manager: duplicate cluster '${message.name}'`, `cluster '${message.name}'`);
    if (entry?.print === print) return false;
    const cluster = this.#create(message, { bytes, print });
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
    const before = target.stops;
    target.warming?.drain();
    target.warming = cluster;
    target.stops = [];
    this.#count(entry ? 'cluster_modified' : 'cluster_added');
    this.#warm(target, cluster);
    // Only now: endpoints that both follow must not be forgotten in between.
    for (const stop of before) stop();
    return true;
  }

  #create(message: ClusterMessage, encoded: Encoded): Cluster {
    const secrets = this.#deps.secrets.lease();
    const scope = new StatsScope(this.#deps.stats, `cluster.${statNameOf(message)}.`);
    try {
      return new Cluster(message, encoded, this.#clusterDeps, { secrets, scope }, `cluster '${message.name}'`);
    } catch (error) {
      secrets.release();
      scope.drop();
      throw error;
    }
  }

  remove(name: string): boolean {
    const entry = this.#entries.get(name);
    if (!entry || entry.isStatic) return false;
    this.#entries.delete(name);
    for (const stop of [...entry.stops, ...entry.activeStops]) stop();
    entry.warming?.drain();
    entry.active?.drain();
    this.#count('cluster_removed');
    this.#gauges();
    this.#notify();
    return true;
  }

  dynamicNames(): string[] {
    return [...this.#entries.values()].flatMap((entry) => (entry.isStatic ? [] : [entry.name]));
  }

  stop(): void {
    this.#caches.stop();
    for (const entry of this.#entries.values()) {
      for (const stop of [...entry.stops, ...entry.activeStops]) stop();
      entry.active?.destroy();
      entry.warming?.destroy();
    }
  }

  #warm(entry: Entry, cluster: Cluster): void {
    const { settings } = cluster;
    // Activation gives these to the entry as those of the active cluster.
    const { stops } = entry;
    const again = (): void => this.#tryActivate(entry, cluster);
    stops.push(cluster.listenSecrets(again));
    cluster.onWarm(again);
    if (settings.type === 'strict-dns' || settings.type === 'logical-dns')
      stops.push(followDns(cluster, this.#deps.resolve, this.#deps.clock, this.#deps.random, again));
    if (settings.edsSource)
      stops.push(
        this.#deps.endpoints.follow(settings.edsSource, settings.edsName, cluster.scope.prefix, {
          given(message) {
            cluster.assign(readEndpoints(message, `endpoints of '${message.clusterName}'`, false));
            again();
          },
          // A cluster that waits goes on without hosts; others keep theirs (as in Envoy).
          missing() {
            if (cluster.assigned) return;
            cluster.assign(NO_ENDPOINTS);
            again();
          },
        }),
      );
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
    cluster.activate();
    before?.drain();
    this.#gauges();
    this.#notify();
  }

  #notify(): void {
    for (const run of this.#changed) run();
  }

  #count(name: string): void {
    this.#deps.stats.counter(`cluster_manager.${name}`).value += 1;
  }

  #gauges(): void {
    let active = 0;
    let warming = 0;
    for (const entry of this.#entries.values()) {
      if (entry.active) active += 1;
      if (entry.warming) warming += 1;
    }
    this.#deps.stats.gauge('cluster_manager.active_clusters').value = active;
    this.#deps.stats.gauge('cluster_manager.warming_clusters').value = warming;
  }
}
