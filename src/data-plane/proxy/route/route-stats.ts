// Counters of virtual clusters and of routes with a stat_prefix: `vhost.<host>.vcluster.<name>.` and
// `vhost.<host>.route.<prefix>.`. Told by the router.
import { type Counter, type Histogram, StatsScope, type StatsStore } from '../stats/stats.ts';

export class RouteStats {
  readonly name: string;
  readonly #scope: StatsScope;
  readonly #total: Counter;
  readonly #completed: Counter;
  #time: Histogram | undefined;
  readonly #codes = new Map<number, Counter>();
  readonly #classes = new Map<number, Counter>();
  readonly retry: Counter;
  readonly retryLimit: Counter;
  readonly retryOverflow: Counter;
  readonly retrySuccess: Counter;
  readonly timeout: Counter;

  constructor(stats: StatsStore, prefix: string, name: string) {
    this.name = name;
    this.#scope = new StatsScope(stats, prefix);
    this.#total = this.#scope.counter('upstream_rq_total');
    this.#completed = this.#scope.counter('upstream_rq_completed');
    this.retry = this.#scope.counter('upstream_rq_retry');
    this.retryLimit = this.#scope.counter('upstream_rq_retry_limit_exceeded');
    this.retryOverflow = this.#scope.counter('upstream_rq_retry_overflow');
    this.retrySuccess = this.#scope.counter('upstream_rq_retry_success');
    this.timeout = this.#scope.counter('upstream_rq_timeout');
  }

  started(): void {
    this.#total.value += 1;
  }

  answered(status: number): void {
    this.#completed.value += 1;
    this.#counter(this.#codes, status, `upstream_rq_${status}`).value += 1;
    const digit = Math.floor(status / 100);
    this.#counter(this.#classes, digit, `upstream_rq_${digit}xx`).value += 1;
  }

  /** `ms`: from the last byte of the request to that of the answer. */
  took(ms: number): void {
    this.#time ??= this.#scope.histogram('upstream_rq_time');
    this.#time.record(ms);
  }

  #counter(known: Map<number, Counter>, key: number, name: string): Counter {
    let counter = known.get(key);
    if (!counter) {
      counter = this.#scope.counter(name);
      known.set(key, counter);
    }
    return counter;
  }
}
