// Counters of answers by status code, as the router keeps them for clusters: all, apart for callers inside and outside,
// and for tries that were made again. Named on first use.
import type { Cluster } from '../cluster/cluster.ts';
import { MAX_ALT_STAT_NAMES } from '../limits.ts';
import type { Counter, Histogram } from '../stats/stats.ts';

/** One prefix of one cluster. */
class Codes {
  readonly #cluster: Cluster;
  readonly #prefix: string;
  readonly #completed: Counter;
  readonly #codes = new Map<number, Counter>();
  readonly #classes = new Map<number, Counter>();
  #time: Histogram | undefined;

  constructor(cluster: Cluster, prefix: string) {
    this.#cluster = cluster;
    this.#prefix = prefix;
    this.#completed = cluster.scope.counter(`${prefix}upstream_rq_completed`);
  }

  count(status: number): void {
    this.#completed.value += 1;
    const digit = Math.floor(status / 100);
    let kind = this.#classes.get(digit);
    if (!kind) {
      kind = this.#cluster.scope.counter(`${this.#prefix}upstream_rq_${digit}xx`);
      this.#classes.set(digit, kind);
    }
    kind.value += 1;
    let code = this.#codes.get(status);
    if (!code) {
      code = this.#cluster.scope.counter(`${this.#prefix}upstream_rq_${status}`);
      this.#codes.set(status, code);
    }
    code.value += 1;
  }

  time(ms: number): void {
    this.#time ??= this.#cluster.scope.histogram(`${this.#prefix}upstream_rq_time`);
    this.#time.record(ms);
  }
}

/** All prefixes of one cluster. */
class ClusterCodes {
  readonly all: Codes;
  #internal: Codes | undefined;
  #external: Codes | undefined;
  readonly #cluster: Cluster;
  readonly #prefixed = new Map<string, Codes>();
  #named = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.all = new Codes(cluster, '');
  }

  get internal(): Codes {
    this.#internal ??= this.prefixed('internal.');
    return this.#internal;
  }

  get external(): Codes {
    this.#external ??= this.prefixed('external.');
    return this.#external;
  }

  prefixed(prefix: string): Codes {
    let found = this.#prefixed.get(prefix);
    if (!found) {
      found = new Codes(this.#cluster, prefix);
      this.#prefixed.set(prefix, found);
    }
    return found;
  }

  /** Names that callers chose are bounded. */
  named(name: string): Codes | undefined {
    const prefix = `${name}.`;
    const found = this.#prefixed.get(prefix);
    if (found || this.#named >= MAX_ALT_STAT_NAMES) return found;
    this.#named += 1;
    return this.prefixed(prefix);
  }
}

const clusters = new WeakMap<Cluster, ClusterCodes>();

function codesOf(cluster: Cluster): ClusterCodes {
  let codes = clusters.get(cluster);
  if (!codes) {
    codes = new ClusterCodes(cluster);
    clusters.set(cluster, codes);
  }
  return codes;
}

export function countAnswer(
  cluster: Cluster,
  status: number,
  internal: boolean,
  canary: boolean,
  altName: string,
): void {
  const codes = codesOf(cluster);
  codes.all.count(status);
  (internal ? codes.internal : codes.external).count(status);
  if (canary) codes.prefixed('canary.').count(status);
  if (altName !== '') codes.named(altName)?.count(status);
}

/** `ms`: from the last byte of the request to that of the answer. */
export function countTime(cluster: Cluster, ms: number, internal: boolean, canary: boolean, altName: string): void {
  const codes = codesOf(cluster);
  codes.all.time(ms);
  (internal ? codes.internal : codes.external).time(ms);
  if (canary) codes.prefixed('canary.').time(ms);
  if (altName !== '') codes.named(altName)?.time(ms);
}

/** An answer that was not passed on because the request is tried again. */
export function countRetried(cluster: Cluster, status: number): void {
  codesOf(cluster).prefixed('retry.').count(status);
}
