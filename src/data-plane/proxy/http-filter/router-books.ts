// What a forwarded request adds to the statistics of its cluster, virtual cluster and route. Kept by router-exchange.ts.
import type { Cluster } from '../cluster/cluster.ts';
import type { Host } from '../cluster/host.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { CompiledRoute, VirtualCluster } from '../route/compiled.ts';
import type { RetryDecision } from './router-retry.ts';
import { countAnswer, countTime } from './router-stats.ts';

export class RequestBooks {
  /** When the last byte of the request was there, ms; -1 = not yet. */
  completeAt = -1;
  /** From x-envoy-upstream-alt-stat-name. */
  altName = '';
  readonly #stream: HttpStream;
  readonly #route: CompiledRoute;
  readonly #cluster: Cluster;
  readonly #byCode: boolean;
  #virtual: VirtualCluster | undefined;
  #canary = false;
  #timed = false;

  constructor(stream: HttpStream, route: CompiledRoute, cluster: Cluster, byCode: boolean) {
    this.#stream = stream;
    this.#route = route;
    this.#cluster = cluster;
    this.#byCode = byCode;
  }

  /** Which share of the virtual host's requests this one belongs to. */
  classify(): void {
    const { virtualClusters } = this.#route.virtualHost;
    if (virtualClusters.length === 0) return;
    this.#virtual = virtualClusters.find((entry) => entry.tests.every((test) => test(this.#stream)));
    this.#stream.info.virtualCluster = this.#virtual?.name ?? '';
  }

  /** A try has a connection. */
  started(): void {
    const { counters } = this.#cluster;
    counters.rqTotal.value += 1;
    counters.rqActive.value += 1;
    this.#virtual?.stats.started();
    this.#route.stats?.started();
  }

  /** The answer of this request, from upstream or from us. */
  answered(status: number, host: Host | undefined, fromUpstream: boolean): void {
    if (!this.#byCode) return;
    this.#canary = host?.spec.metadata['envoy.lb']?.canary === true;
    this.#timed = fromUpstream;
    countAnswer(this.#cluster, status, this.#stream.internal, this.#canary, this.altName);
    this.#virtual?.stats.answered(status);
    this.#route.stats?.answered(status);
  }

  /** The answer from upstream has ended: answers of ours have no time. */
  ended(now: number): void {
    if (!this.#timed || this.completeAt < 0) return;
    const ms = now - this.completeAt;
    countTime(this.#cluster, ms, this.#stream.internal, this.#canary, this.altName);
    this.#virtual?.stats.took(ms);
    this.#route.stats?.took(ms);
  }

  retrySucceeded(): void {
    this.#cluster.counters.rqRetrySuccess.value += 1;
    if (this.#virtual) this.#virtual.stats.retrySuccess.value += 1;
  }

  timedOut(): void {
    this.#cluster.counters.rqTimeout.value += 1;
    if (this.#virtual) this.#virtual.stats.timeout.value += 1;
  }

  /** Counts what became of the wish to try again, and flags what stood against it. */
  decided(decision: RetryDecision): void {
    const { counters } = this.#cluster;
    const stats = this.#virtual?.stats;
    switch (decision) {
      case 'no':
        return;
      case 'limit':
        counters.rqRetryLimit.value += 1;
        if (stats) stats.retryLimit.value += 1;
        this.#stream.info.flags |= FLAG.URX;
        return;
      case 'overflow':
        counters.rqRetryOverflow.value += 1;
        if (stats) stats.retryOverflow.value += 1;
        this.#stream.info.flags |= FLAG.UO;
        return;
      case 'retry':
        counters.rqRetry.value += 1;
        if (stats) stats.retry.value += 1;
    }
  }
}
