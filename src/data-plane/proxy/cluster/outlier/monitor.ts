// What outlier detection remembers of one host: failures in a row, successes of the interval, ejections. Made by the
// detector with the host's first outcome.
import type { Host, OutlierView } from '../host.ts';

/** Requests and successes of the interval under way and of the one before. */
export class RateWindow {
  total = 0;
  successes = 0;
  #lastTotal = 0;
  #lastSuccesses = 0;

  turn(): void {
    this.#lastTotal = this.total;
    this.#lastSuccesses = this.successes;
    this.total = 0;
    this.successes = 0;
  }

  /** Of the last whole interval. */
  get volume(): number {
    return this.#lastTotal;
  }

  /** Percent; only meaningful when `volume` is above 0. */
  get rate(): number {
    return (100 * this.#lastSuccesses) / this.#lastTotal;
  }
}

export class HostMonitor implements OutlierView {
  readonly host: Host;
  readonly external = new RateWindow();
  readonly local = new RateWindow();
  consecutive5xx = 0;
  consecutiveGateway = 0;
  consecutiveLocal = 0;
  successRate = -1;
  localOriginSuccessRate = -1;
  ejections = 0;
  /** ms; -1 = never. */
  lastEjected = -1;
  lastUnejected = -1;
  jitterMs = 0;
  /** How many base times the next ejection lasts. */
  backoff = 0;

  constructor(host: Host) {
    this.host = host;
  }

  resetConsecutive(): void {
    this.consecutive5xx = 0;
    this.consecutiveGateway = 0;
    this.consecutiveLocal = 0;
  }
}
