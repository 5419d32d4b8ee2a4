// Active health checks of a cluster: one session for each host. Owned by the cluster.
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { Gauge, StatsScope } from '../../stats/stats.ts';
import { HEALTH, type Host } from '../host.ts';
import { healthLog } from './event-log.ts';
import type { Probe } from './probe.ts';
import { HealthSession, type SessionDeps } from './session.ts';
import type { HealthCheckSettings } from './settings.ts';

export interface CheckerDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly scope: StatsScope;
  readonly clusterName: string;
  readonly writer: (path: string) => (line: string) => void;
  readonly hasTraffic: () => boolean;
  readonly makeProbe: (host: Host) => Probe;
  /** A host was checked, whatever came of it. */
  readonly result: (host: Host) => void;
  /** The health of a host has changed. */
  readonly changed: (host: Host) => void;
  /** A check has passed, whatever was before. */
  readonly passed: (host: Host) => void;
  /** The first results of all hosts are there. */
  readonly warm: () => void;
}

export class HealthChecker {
  readonly #deps: CheckerDeps;
  readonly #sessions = new Map<Host, HealthSession>();
  readonly #sessionDeps: SessionDeps;
  readonly #healthy: Gauge;
  readonly #degraded: Gauge;

  constructor(settings: HealthCheckSettings, deps: CheckerDeps) {
    this.#deps = deps;
    const { scope, clock, random } = deps;
    const counter = (name: string) => scope.counter(`health_check.${name}`);
    this.#healthy = scope.gauge('health_check.healthy');
    this.#degraded = scope.gauge('health_check.degraded');
    const writers = settings.logs.map(deps.writer);
    const type = settings.check.kind === 'http' ? 'HTTP' : settings.check.kind === 'tcp' ? 'TCP' : 'GRPC';
    this.#sessionDeps = {
      clock,
      random,
      settings,
      hasTraffic: deps.hasTraffic,
      counters: {
        attempt: counter('attempt'),
        success: counter('success'),
        failure: counter('failure'),
        networkFailure: counter('network_failure'),
        passiveFailure: counter('passive_failure'),
      },
      log:
        writers.length === 0
          ? undefined
          : healthLog(deps.clusterName, type, clock, (line) => {
              for (const write of writers) write(line);
            }),
      onResult: (host, changed, first, passed) => this.#onResult(host, changed, first, passed),
    };
  }

  /** True while some host has not been checked once. */
  get warming(): boolean {
    for (const session of this.#sessions.values()) if (session.pending) return true;
    return false;
  }

  onMembers(added: readonly Host[], removed: readonly Host[]): void {
    for (const host of removed) {
      this.#sessions.get(host)?.stop();
      this.#sessions.delete(host);
    }
    const started: HealthSession[] = [];
    for (const host of added) {
      if (host.spec.healthCheck?.disabled) continue;
      const session = new HealthSession(host, this.#deps.makeProbe(host), this.#sessionDeps);
      this.#sessions.set(host, session);
      started.push(session);
    }
    for (const session of started) session.start();
    this.#gauges();
  }

  stop(): void {
    for (const session of this.#sessions.values()) session.stop();
    this.#sessions.clear();
  }

  #onResult(host: Host, changed: boolean, first: boolean, passed: boolean): void {
    if (changed) this.#gauges();
    this.#deps.result(host);
    if (passed) this.#deps.passed(host);
    if (changed) this.#deps.changed(host);
    if (first && !this.warming) this.#deps.warm();
  }

  #gauges(): void {
    let healthy = 0;
    let degraded = 0;
    for (const host of this.#sessions.keys()) {
      if (!host.has(HEALTH.failedActiveHc)) healthy += 1;
      if (host.has(HEALTH.degradedActiveHc)) degraded += 1;
    }
    this.#healthy.value = healthy;
    this.#degraded.value = degraded;
  }
}
