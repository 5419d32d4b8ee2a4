// What a cluster knows of the health of its hosts beyond discovery: active health checks and outlier detection. This thread
// finds out by itself, or, in a worker, is told by the main thread. Made by the cluster.

import type { StatsScope } from '../stats/stats.ts';
import type { UpstreamSocket, UpstreamSource } from '../transport-socket/dial.ts';
import type { ClusterDeps } from './cluster.ts';
import type { ClusterSettings } from './config.ts';
import type { ClusterCounters } from './counters.ts';
import { HealthChecker } from './health/checker.ts';
import { createProbe, type ProbeDeps } from './health/make-probe.ts';
import { RemoteHealth } from './health/remote.ts';
import type { HealthCheckSettings } from './health/settings.ts';
import type { Host } from './host.ts';
import type { Outcome } from './lb-context.ts';
import { OutlierDetector, type SuccessRates } from './outlier/detector.ts';
import { outlierLog } from './outlier/event-log.ts';
import type { SocketMatches } from './socket-matches.ts';

/** How exchanges with hosts went. */
export interface OutcomeSink {
  onOutcome(host: Host, outcome: Outcome): void;
}

export interface HostHealth {
  /** True while some host was not checked once. */
  readonly warming: boolean;
  /** What outlier detection found in its last round. */
  readonly rates: { readonly external: SuccessRates; readonly local: SuccessRates } | undefined;
  /** Undefined: nobody asks. */
  readonly outcomes: OutcomeSink | undefined;
  onMembers(added: readonly Host[], removed: readonly Host[]): void;
  /** The cluster has a connection for traffic. */
  onTraffic(): void;
  stop(): void;
}

export interface HostHealthParts {
  readonly name: string;
  /** The same in all threads for the same configuration of the cluster. */
  readonly key: string;
  readonly settings: ClusterSettings;
  readonly deps: ClusterDeps;
  readonly scope: StatsScope;
  readonly counters: ClusterCounters;
  readonly sockets: SocketMatches;
  readonly source: (host: Host) => UpstreamSource | undefined;
  readonly hosts: () => readonly Host[];
  /** By the name of `hostName`. */
  readonly find: (name: string) => Host | undefined;
  /** Health flags of a host have changed. */
  readonly changed: (host: Host) => void;
  /** The first results of all hosts are there. */
  readonly warm: () => void;
}

/** The main thread's knowledge on its way to the workers; workers/health-desk.ts. */
export interface HealthTeller {
  /** Told when it is news. */
  tell(cluster: string, host: string, flags: number, healthySince: number): void;
  /** Undefined: all hosts of the cluster. */
  forget(cluster: string, host: string | undefined): void;
  /** Some worker has made a connection for traffic. */
  hasTraffic(cluster: string): boolean;
  /** Outcomes that workers report, so many at a time; the returned function ends that. */
  outcomes(cluster: string, take: (host: string, outcome: Outcome, count: number) => void): () => void;
}

/** Undefined: neither checks nor outlier detection are configured. */
export function createHostHealth(parts: HostHealthParts): HostHealth | undefined {
  const { settings, deps } = parts;
  if (!settings.health && !settings.outlier) return undefined;
  return deps.toldHealth ? new RemoteHealth(parts, deps.toldHealth) : new OwnHealth(parts, deps.healthTeller);
}

/** The name of a host that all threads know it by; that of LOGICAL_DNS stands for whatever address it has now. */
export function hostName(host: Host, settings: ClusterSettings): string {
  return settings.type === 'logical-dns' ? '' : host.key;
}

class OwnHealth implements HostHealth {
  readonly #parts: HostHealthParts;
  readonly #teller: HealthTeller | undefined;
  readonly #outlier: OutlierDetector | undefined;
  readonly #checker: HealthChecker | undefined;
  readonly #endOutcomes: (() => void) | undefined;

  constructor(parts: HostHealthParts, teller: HealthTeller | undefined) {
    this.#parts = parts;
    this.#teller = teller;
    this.#checker = this.#makeChecker();
    // Its timer runs from now on.
    this.#outlier = this.#makeOutlier();
    const outlier = this.#outlier;
    if (!teller || !outlier) return;
    const { key, find } = parts;
    this.#endOutcomes = teller.outcomes(key, (name, outcome, count) => {
      const host = find(name);
      if (host) for (let i = 0; i < count; i++) outlier.onOutcome(host, outcome);
    });
  }

  get warming(): boolean {
    return this.#checker?.warming ?? false;
  }

  get rates(): OutlierDetector | undefined {
    return this.#outlier;
  }

  get outcomes(): OutcomeSink | undefined {
    return this.#outlier;
  }

  onMembers(added: readonly Host[], removed: readonly Host[]): void {
    this.#outlier?.onRemoved(removed);
    const { key, settings } = this.#parts;
    for (const host of removed) this.#teller?.forget(key, hostName(host, settings));
    this.#checker?.onMembers(added, removed);
  }

  onTraffic(): void {}

  stop(): void {
    this.#checker?.stop();
    this.#outlier?.stop();
    this.#endOutcomes?.();
    this.#teller?.forget(this.#parts.key, undefined);
  }

  #tell(host: Host): void {
    const { key, settings } = this.#parts;
    this.#teller?.tell(key, hostName(host, settings), host.flags, host.healthySince);
  }

  #changed(host: Host): void {
    this.#tell(host);
    this.#parts.changed(host);
  }

  #makeOutlier(): OutlierDetector | undefined {
    const { settings, deps, name, scope, hosts } = this.#parts;
    if (!settings.outlier) return undefined;
    const { clock, random, runtime, eventLog, outlierLogPath } = deps;
    return new OutlierDetector(settings.outlier, {
      clock,
      random,
      runtime,
      scope,
      log: outlierLogPath === '' ? undefined : outlierLog(name, clock, eventLog(outlierLogPath)),
      hosts,
      changed: (host) => this.#changed(host),
    });
  }

  #makeChecker(): HealthChecker | undefined {
    const { settings, deps, name, key, scope, counters } = this.#parts;
    if (!settings.health) return undefined;
    const { clock, random, eventLog } = deps;
    const probes = this.#probes(settings.health);
    const teller = this.#teller;
    return new HealthChecker(settings.health, {
      clock,
      random,
      scope,
      clusterName: name,
      writer: eventLog,
      hasTraffic: teller ? () => teller.hasTraffic(key) : () => counters.cxTotal.value > 0,
      makeProbe: (host) => createProbe(settings.health!, host, probes),
      result: (host) => this.#tell(host),
      changed: (host) => this.#changed(host),
      passed: (host) => this.#outlier?.onHealthCheckPassed(host),
      warm: () => this.#parts.warm(),
    });
  }

  #probes(health: HealthCheckSettings): ProbeDeps {
    const { settings, deps, name, scope, sockets, source } = this.#parts;
    const verified = scope.counter('health_check.verify_cluster');
    return {
      clusterName: name,
      clock: deps.clock,
      connectTimeoutMs: settings.connectTimeoutMs,
      source,
      socket: (host): UpstreamSocket =>
        health.socketCriteria ? sockets.byCriteria(health.socketCriteria) : sockets.for(host),
      onVerify: () => {
        verified.value += 1;
      },
    };
  }
}
