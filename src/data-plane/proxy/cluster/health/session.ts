// The checks of one host: when the next one is, and what results in a row mean. Made by checker.ts.
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { Counter } from '../../stats/stats.ts';
import { HEALTH, type Host } from '../host.ts';
import type { HealthLog } from './event-log.ts';
import type { Probe, ProbeResult } from './probe.ts';
import type { HealthCheckSettings } from './settings.ts';

export interface HealthCounters {
  readonly attempt: Counter;
  readonly success: Counter;
  readonly failure: Counter;
  readonly networkFailure: Counter;
  readonly passiveFailure: Counter;
}

export interface SessionDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly settings: HealthCheckSettings;
  readonly counters: HealthCounters;
  readonly log: HealthLog | undefined;
  /** True once the cluster has made a connection for traffic. */
  readonly hasTraffic: () => boolean;
  /** Every result: whether flags of the host have changed, whether it was the first, whether it passed. */
  readonly onResult: (host: Host, changed: boolean, first: boolean, passed: boolean) => void;
}

type Change = 'none' | 'pending' | 'changed';

export class HealthSession {
  readonly host: Host;
  readonly #probe: Probe;
  readonly #deps: SessionDeps;
  #first = true;
  #healthyInRow = 0;
  #unhealthyInRow = 0;
  #cancelTimer: (() => void) | undefined;
  #cancelTimeout: (() => void) | undefined;
  #cancelProbe: (() => void) | undefined;
  #stopped = false;

  constructor(host: Host, probe: Probe, deps: SessionDeps) {
    this.host = host;
    this.#probe = probe;
    this.#deps = deps;
  }

  start(): void {
    const { settings, clock, random } = this.#deps;
    if (settings.initialJitterMs > 0)
      this.#cancelTimer = clock.after(Math.floor(random() * settings.initialJitterMs), () => this.#check());
    else this.#check();
  }

  /** Whether the result of the first check is still to come. */
  get pending(): boolean {
    return this.#first;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
    this.#cancelTimeout?.();
    this.#cancelProbe?.();
    this.#probe.stop();
  }

  #check(): void {
    const { counters, clock, settings } = this.#deps;
    counters.attempt.value += 1;
    let over = false;
    const finish = (result: ProbeResult, timedOut: boolean): void => {
      if (over || this.#stopped) return;
      over = true;
      this.#cancelTimeout?.();
      this.#cancelTimeout = undefined;
      this.#cancelProbe = undefined;
      this.#onResult(result, timedOut);
    };
    this.#cancelTimeout = clock.after(settings.timeoutMs, () => {
      if (over) return;
      this.#cancelProbe?.();
      finish({ kind: 'failed', why: 'network', retriable: true, exclude: false }, true);
    });
    const cancel = this.#probe.start((result) => finish(result, false));
    if (!over) this.#cancelProbe = cancel;
  }

  #onResult(result: ProbeResult, timedOut: boolean): void {
    const first = this.#first;
    const passed = result.kind !== 'failed';
    const change =
      result.kind === 'failed' ? this.#onFailure(result, timedOut) : this.#onSuccess(result.kind === 'degraded');
    this.#first = false;
    const { clock } = this.#deps;
    this.#deps.onResult(this.host, change === 'changed', first, passed);
    if (this.#stopped) return;
    this.#cancelTimer = clock.after(this.#interval(passed, change), () => this.#check());
  }

  #onSuccess(degraded: boolean): Change {
    const { host } = this;
    const { settings, log, counters, clock } = this.#deps;
    this.#unhealthyInRow = 0;
    let change: Change = 'none';
    if (host.has(HEALTH.failedActiveHc)) {
      this.#healthyInRow += 1;
      // The very first answer is believed at once.
      if (this.#first || this.#healthyInRow >= settings.healthyThreshold) {
        host.flags &= ~(HEALTH.failedActiveHc | HEALTH.activeHcTimeout | HEALTH.excludedByImmediateFail);
        host.healthySince = clock.now();
        change = 'changed';
        log?.write(host, { add_healthy_event: this.#first ? { first_check: true } : {} });
      } else change = 'pending';
    }
    if (this.#clearPending()) change = 'changed';
    if (degraded !== host.has(HEALTH.degradedActiveHc)) {
      host.set(HEALTH.degradedActiveHc, degraded);
      log?.write(host, degraded ? { degraded_healthy_host: {} } : { no_longer_degraded_host: {} });
      if (change === 'none') change = 'changed';
    }
    if (settings.logSuccesses) log?.write(host, { successful_health_check_event: {} });
    counters.success.value += 1;
    return change;
  }

  #onFailure(result: Extract<ProbeResult, { kind: 'failed' }>, timedOut: boolean): Change {
    const { host } = this;
    const { settings, log, counters } = this.#deps;
    const type = timedOut ? 'NETWORK_TIMEOUT' : result.why === 'network' ? 'NETWORK' : 'ACTIVE';
    this.#healthyInRow = 0;
    let change: Change = 'none';
    if (result.exclude) host.set(HEALTH.excludedByImmediateFail, true);
    if (!host.has(HEALTH.failedActiveHc)) {
      this.#unhealthyInRow += 1;
      // An answer that says no is believed at once; silence has to be repeated.
      if ((result.why === 'active' && !result.retriable) || this.#unhealthyInRow >= settings.unhealthyThreshold) {
        host.set(HEALTH.failedActiveHc, true);
        change = 'changed';
        log?.write(host, { eject_unhealthy_event: { failure_type: type } });
      } else change = 'pending';
    }
    if (host.has(HEALTH.failedActiveHc)) host.set(HEALTH.activeHcTimeout, timedOut);
    if (this.#clearPending()) change = 'changed';
    if (this.#first || settings.logFailures)
      log?.write(host, {
        health_check_failure_event: { failure_type: type, ...(this.#first ? { first_check: true } : {}) },
      });
    counters.failure.value += 1;
    if (result.why === 'network') counters.networkFailure.value += 1;
    return change;
  }

  #clearPending(): boolean {
    if (!this.host.has(HEALTH.pendingActiveHc)) return false;
    this.host.set(HEALTH.pendingActiveHc, false);
    return true;
  }

  #interval(passed: boolean, change: Change): number {
    const { settings, random, hasTraffic } = this.#deps;
    const pending = change === 'pending';
    let base: number;
    if (!hasTraffic()) base = passed && !pending ? settings.noTrafficHealthyMs : settings.noTrafficMs;
    else if (passed) base = pending ? settings.healthyEdgeMs : settings.intervalMs;
    else base = pending ? settings.unhealthyEdgeMs : settings.unhealthyMs;
    const byPercent = (base * settings.intervalJitterPercent) / 100;
    return base + Math.floor(random() * byPercent) + Math.floor(random() * settings.intervalJitterMs);
  }
}
