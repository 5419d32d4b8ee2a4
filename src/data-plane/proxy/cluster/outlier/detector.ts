// Outlier detection: hosts whose answers are bad are taken out for a while. Fed with outcomes by the cluster; tells it when
// the health of a host has changed.
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { RuntimeView } from '../../runtime/runtime.ts';
import type { StatsScope } from '../../stats/stats.ts';
import { HEALTH, type Host } from '../host.ts';
import type { Outcome } from '../lb-context.ts';
import type { OutlierLog } from './event-log.ts';
import { HostMonitor, type RateWindow } from './monitor.ts';
import { OUTLIER_NUMBERS, type OutlierNumber, type OutlierSettings } from './settings.ts';

export type EjectionType =
  | 'consecutive_5xx'
  | 'consecutive_gateway_failure'
  | 'consecutive_local_origin_failure'
  | 'success_rate'
  | 'local_origin_success_rate'
  | 'failure_percentage'
  | 'failure_percentage_local_origin';

/** Names of types in `ejections_enforced_…` and `ejections_detected_…`. */
const STAT_NAME: Readonly<Record<EjectionType, string>> = {
  consecutive_5xx: 'consecutive_5xx',
  consecutive_gateway_failure: 'consecutive_gateway_failure',
  consecutive_local_origin_failure: 'consecutive_local_origin_failure',
  success_rate: 'success_rate',
  local_origin_success_rate: 'local_origin_success_rate',
  failure_percentage: 'failure_percentage',
  failure_percentage_local_origin: 'local_origin_failure_percentage',
};
const TYPES = Object.keys(STAT_NAME) as EjectionType[];

export interface DetectorDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly runtime: RuntimeView;
  readonly scope: StatsScope;
  readonly log: OutlierLog | undefined;
  readonly hosts: () => readonly Host[];
  /** Health flags of a host have changed. */
  readonly changed: (host: Host) => void;
}

/** Mean and threshold of the last round, for /clusters; -1 = not known. */
export interface SuccessRates {
  average: number;
  threshold: number;
}

export class OutlierDetector {
  readonly external: SuccessRates = { average: -1, threshold: -1 };
  readonly local: SuccessRates = { average: -1, threshold: -1 };
  readonly #settings: OutlierSettings;
  readonly #deps: DetectorDeps;
  readonly #monitors = new Map<Host, HostMonitor>();
  readonly #stats: ReturnType<typeof outlierStats>;
  #cancel: () => void;

  constructor(settings: OutlierSettings, deps: DetectorDeps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#stats = outlierStats(deps.scope);
    this.#cancel = deps.clock.after(this.#number('interval_ms'), () => this.#round());
  }

  stop(): void {
    this.#cancel();
    this.#stats.active.value = 0;
  }

  onRemoved(hosts: readonly Host[]): void {
    for (const host of hosts) {
      if (!this.#monitors.delete(host)) continue;
      if (host.has(HEALTH.failedOutlier)) this.#stats.active.value -= 1;
    }
  }

  /** A health check has passed. */
  onHealthCheckPassed(host: Host): void {
    const monitor = this.#monitors.get(host);
    if (!monitor || !this.#settings.unejectByHealthCheck || !host.has(HEALTH.failedOutlier)) return;
    this.#uneject(monitor);
    this.#deps.changed(host);
  }

  onOutcome(host: Host, outcome: Outcome): void {
    let monitor = this.#monitors.get(host);
    if (!monitor) {
      monitor = new HostMonitor(host);
      host.outlier = monitor;
      this.#monitors.set(host, monitor);
    }
    if (typeof outcome === 'number') {
      this.#onStatus(monitor, outcome);
      return;
    }
    const { split } = this.#settings;
    switch (outcome) {
      case 'connected':
        if (split) this.#onLocal(monitor, true);
        return;
      case 'success':
        if (split) this.#onLocal(monitor, true);
        else this.#onStatus(monitor, 200);
        return;
      case 'connect-failure':
      case 'reset':
        if (split) this.#onLocal(monitor, false);
        else this.#onStatus(monitor, 503);
        return;
      case 'connect-timeout':
      case 'request-timeout':
        if (split) this.#onLocal(monitor, false);
        else this.#onStatus(monitor, 504);
        return;
      default:
        outcome satisfies never;
    }
  }

  #onStatus(monitor: HostMonitor, status: number): void {
    monitor.external.total += 1;
    if (status < 500 || status > 599) {
      monitor.external.successes += 1;
      monitor.consecutive5xx = 0;
      monitor.consecutiveGateway = 0;
      return;
    }
    if (status >= 502 && status <= 504) {
      monitor.consecutiveGateway += 1;
      if (monitor.consecutiveGateway === this.#number('consecutive_gateway_failure')) {
        this.#onConsecutive(monitor, 'consecutive_gateway_failure');
        monitor.consecutiveGateway = 0;
      }
    } else monitor.consecutiveGateway = 0;
    monitor.consecutive5xx += 1;
    if (monitor.consecutive5xx === this.#number('consecutive_5xx')) {
      this.#onConsecutive(monitor, 'consecutive_5xx');
      monitor.consecutive5xx = 0;
    }
  }

  #onLocal(monitor: HostMonitor, success: boolean): void {
    monitor.local.total += 1;
    if (success) {
      monitor.local.successes += 1;
      monitor.consecutiveLocal = 0;
      return;
    }
    monitor.consecutiveLocal += 1;
    if (monitor.consecutiveLocal === this.#number('consecutive_local_origin_failure')) {
      this.#onConsecutive(monitor, 'consecutive_local_origin_failure');
      monitor.consecutiveLocal = 0;
    }
  }

  #onConsecutive(monitor: HostMonitor, type: EjectionType): void {
    if (monitor.host.has(HEALTH.failedOutlier) || !this.#deps.hosts().includes(monitor.host)) return;
    this.#stats.detected[type].value += 1;
    if (type === 'consecutive_5xx') this.#stats.consecutive5xx.value += 1;
    if (this.#eject(monitor, type)) this.#deps.changed(monitor.host);
  }

  #eject(monitor: HostMonitor, type: EjectionType): boolean {
    const stats = this.#stats;
    const { clock, random, log } = this.#deps;
    const most = Math.min(100, this.#number('max_ejection_percent'));
    // With this one.
    const percent = (100 * (stats.active.value + 1)) / this.#deps.hosts().length;
    const one = this.#settings.alwaysEjectOne && stats.active.value === 0;
    if (percent > most && !one) {
      stats.overflow.value += 1;
      return false;
    }
    stats.total.value += 1;
    const enforced = random() * 100 < this.#number(`enforcing_${type}`);
    if (!enforced) {
      log?.ejected(monitor, type, false, this);
      return false;
    }
    stats.active.value += 1;
    stats.enforcedTotal.value += 1;
    stats.enforced[type].value += 1;
    monitor.host.set(HEALTH.failedOutlier, true);
    monitor.ejections += 1;
    const jitter = this.#number('max_ejection_time_jitter_ms');
    monitor.jitterMs = Math.floor(random() * (jitter + 1));
    const base = this.#number('base_ejection_time_ms');
    if (monitor.backoff * base < this.#number('max_ejection_time_ms') + base) monitor.backoff += 1;
    log?.ejected(monitor, type, true, this);
    monitor.lastEjected = clock.now();
    return true;
  }

  #uneject(monitor: HostMonitor): void {
    this.#stats.active.value -= 1;
    monitor.host.set(HEALTH.failedOutlier, false);
    monitor.resetConsecutive();
    this.#deps.log?.unejected(monitor);
    monitor.lastUnejected = this.#deps.clock.now();
  }

  #round(): void {
    const { clock } = this.#deps;
    const now = clock.now();
    const changed: Host[] = [];
    const present = new Set(this.#deps.hosts());
    for (const monitor of this.#monitors.values()) {
      // Outcomes of requests that were under way when discovery removed the host.
      if (!present.has(monitor.host)) {
        this.#monitors.delete(monitor.host);
        continue;
      }
      if (this.#due(monitor, now)) {
        this.#uneject(monitor);
        changed.push(monitor.host);
      }
      monitor.external.turn();
      monitor.local.turn();
      monitor.successRate = -1;
      monitor.localOriginSuccessRate = -1;
    }
    this.#judge('external', 'success_rate', 'failure_percentage', changed);
    this.#judge('local', 'local_origin_success_rate', 'failure_percentage_local_origin', changed);
    // A host that was good for a whole interval is trusted again, step by step.
    for (const monitor of this.#monitors.values())
      if (monitor.backoff > 0 && !monitor.host.has(HEALTH.failedOutlier) && monitor.lastUnejected !== now)
        monitor.backoff -= 1;
    for (const host of changed) this.#deps.changed(host);
    this.#cancel = clock.after(this.#number('interval_ms'), () => this.#round());
  }

  #due(monitor: HostMonitor, now: number): boolean {
    if (!monitor.host.has(HEALTH.failedOutlier)) return false;
    const most = this.#number('max_ejection_time_ms');
    const time = Math.min(this.#number('base_ejection_time_ms') * monitor.backoff, most) + monitor.jitterMs;
    return now - monitor.lastEjected >= time;
  }

  /** Success rates of the last interval against each other, and against the threshold of failures. */
  #judge(side: 'external' | 'local', byRate: EjectionType, byFailures: EjectionType, changed: Host[]): void {
    const rates = this[side];
    rates.average = -1;
    rates.threshold = -1;
    const rateHosts = this.#number('success_rate_minimum_hosts');
    const failureHosts = this.#number('failure_percentage_minimum_hosts');
    const count = this.#deps.hosts().length;
    if (count < rateHosts && count < failureHosts) return;
    const rateVolume = this.#number('success_rate_request_volume');
    const failureVolume = this.#number('failure_percentage_request_volume');
    const byRateHosts: HostMonitor[] = [];
    const byFailureHosts: HostMonitor[] = [];
    for (const monitor of this.#monitors.values()) {
      const window = monitor[side];
      if (monitor.host.has(HEALTH.failedOutlier) || window.volume === 0) continue;
      if (window.volume >= Math.min(rateVolume, failureVolume)) setRate(monitor, side, window);
      if (window.volume >= rateVolume) byRateHosts.push(monitor);
      if (window.volume >= failureVolume) byFailureHosts.push(monitor);
    }
    const eject = (monitor: HostMonitor, type: EjectionType): void => {
      this.#stats.detected[type].value += 1;
      if (this.#eject(monitor, type)) changed.push(monitor.host);
    };
    if (byRateHosts.length > 0 && byRateHosts.length >= rateHosts) {
      Object.assign(rates, threshold(byRateHosts, side, this.#number('success_rate_stdev_factor') / 1000));
      for (const monitor of byRateHosts)
        if (monitor[side].rate < rates.threshold) {
          this.#stats.successRate.value += 1;
          eject(monitor, byRate);
        }
    }
    if (byFailureHosts.length > 0 && byFailureHosts.length >= failureHosts) {
      const most = this.#number('failure_percentage_threshold');
      for (const monitor of byFailureHosts) if (100 - monitor[side].rate >= most) eject(monitor, byFailures);
    }
  }

  #number(name: OutlierNumber): number {
    return this.#deps.runtime.number(RUNTIME_KEY[name], this.#settings.numbers[name]);
  }
}

/** Keys made once: outcomes ask for them. */
const RUNTIME_KEY = Object.fromEntries(OUTLIER_NUMBERS.map((name) => [name, `outlier_detection.${name}`])) as Record<
  OutlierNumber,
  string
>;

function setRate(monitor: HostMonitor, side: 'external' | 'local', window: RateWindow): void {
  if (side === 'external') monitor.successRate = window.rate;
  else monitor.localOriginSuccessRate = window.rate;
}

/** mean − factor × standard deviation */
function threshold(monitors: readonly HostMonitor[], side: 'external' | 'local', factor: number): SuccessRates {
  const average = monitors.reduce((sum, monitor) => sum + monitor[side].rate, 0) / monitors.length;
  const variance = monitors.reduce((sum, monitor) => sum + (monitor[side].rate - average) ** 2, 0) / monitors.length;
  return { average, threshold: average - factor * Math.sqrt(variance) };
}

function outlierStats(scope: StatsScope) {
  const counter = (name: string) => scope.counter(`outlier_detection.${name}`);
  const all = (prefix: string) =>
    Object.fromEntries(TYPES.map((type) => [type, counter(`${prefix}_${STAT_NAME[type]}`)])) as Record<
      EjectionType,
      ReturnType<typeof counter>
    >;
  return {
    active: scope.gauge('outlier_detection.ejections_active'),
    overflow: counter('ejections_overflow'),
    total: counter('ejections_total'),
    consecutive5xx: counter('ejections_consecutive_5xx'),
    successRate: counter('ejections_success_rate'),
    enforcedTotal: counter('ejections_enforced_total'),
    enforced: all('ejections_enforced'),
    detected: all('ejections_detected'),
  };
}
