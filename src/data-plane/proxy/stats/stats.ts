// Counters, gauges and histograms of the proxy. A part asks once for its counter and adds to `value` on its hot path;
// names are rendered only when somebody looks.

export class Counter {
  readonly name: string;
  value = 0;
  constructor(name: string) {
    this.name = name;
  }
}

export class Gauge {
  readonly name: string;
  /** It was set once, though maybe to 0. */
  used = false;
  #value = 0;
  constructor(name: string) {
    this.name = name;
  }
  get value(): number {
    return this.#value;
  }
  set value(next: number) {
    this.used = true;
    this.#value = next;
  }
}

/** Upper bounds of Envoy's default histogram buckets, ms. */
export const HISTOGRAM_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
];

export class Histogram {
  readonly name: string;
  readonly bounds: readonly number[];
  /** One cell a bound and one for +Inf; not cumulative. */
  readonly cells: Float64Array;
  sum = 0;
  count = 0;
  /** What came between the last two calls of `turn`; absent before anything did. */
  interval: Float64Array | undefined;
  /** Of the interval. */
  intervalSum = 0;
  #markSum = 0;
  #mark: Float64Array | undefined;
  constructor(name: string, bounds: readonly number[] = HISTOGRAM_BOUNDS) {
    this.name = name;
    this.bounds = bounds;
    this.cells = new Float64Array(bounds.length + 1);
  }
  record(value: number): void {
    const { bounds } = this;
    let i = 0;
    while (i < bounds.length && value > bounds[i]!) i += 1;
    this.cells[i]! += 1;
    this.sum += value;
    this.count += 1;
  }
  /** Ends an interval (stats_flush_interval). */
  turn(): void {
    if (this.count === 0) return;
    const before = this.#mark;
    this.interval = before ? this.cells.map((value, i) => value - before[i]!) : this.cells.slice();
    this.#mark = this.cells.slice();
    this.intervalSum = this.sum - this.#markSum;
    this.#markSum = this.sum;
  }
}

/** Something whose counters are behind what it knows until `settle` is called. */
export interface Lagging {
  settle(): void;
}

/** Which names are shown by the admin interface. */
export type StatFilter = (name: string) => boolean;

export class StatsStore {
  readonly counters = new Map<string, Counter>();
  readonly gauges = new Map<string, Gauge>();
  readonly histograms = new Map<string, Histogram>();
  /** Text readouts such as `cluster_manager.cds.version_text`. */
  readonly texts = new Map<string, string>();
  /** Counters of a prefix that are not made before they count something: shown as 0. */
  readonly unmade = new Map<string, readonly string[]>();
  readonly lagging = new Set<Lagging>();
  shown: StatFilter = () => true;
  /** Bounds of histograms by name (histogram_bucket_settings). */
  bounds: (name: string) => readonly number[] = () => HISTOGRAM_BOUNDS;

  counter(name: string): Counter {
    let found = this.counters.get(name);
    if (!found) {
      found = new Counter(name);
      this.counters.set(name, found);
    }
    return found;
  }

  gauge(name: string): Gauge {
    let found = this.gauges.get(name);
    if (!found) {
      found = new Gauge(name);
      this.gauges.set(name, found);
    }
    return found;
  }

  histogram(name: string): Histogram {
    let found = this.histograms.get(name);
    if (!found) {
      found = new Histogram(name, this.bounds(name));
      this.histograms.set(name, found);
    }
    return found;
  }

  /** Brings everything up to date; called before somebody looks. */
  settle(): void {
    for (const each of this.lagging) each.settle();
  }

  /** Counters, those that were never needed too. */
  *allCounters(): Generator<{ readonly name: string; readonly value: number }> {
    yield* this.counters.values();
    for (const [prefix, names] of this.unmade)
      for (const name of names) if (!this.counters.has(prefix + name)) yield { name: prefix + name, value: 0 };
  }

  /** Starts a new interval of all histograms. */
  turn(): void {
    for (const histogram of this.histograms.values()) histogram.turn();
  }

  resetCounters(): void {
    for (const counter of this.counters.values()) counter.value = 0;
  }
}

/** The stats of one cluster or listener: all names start with `prefix`; `drop` forgets them together. */
export class StatsScope {
  readonly prefix: string;
  readonly #store: StatsStore;
  readonly #names = new Set<string>();

  constructor(store: StatsStore, prefix: string) {
    this.#store = store;
    this.prefix = prefix;
  }

  counter(name: string): Counter {
    return this.#store.counter(this.#own(name));
  }

  gauge(name: string): Gauge {
    return this.#store.gauge(this.#own(name));
  }

  histogram(name: string): Histogram {
    return this.#store.histogram(this.#own(name));
  }

  /** Counters that most owners of a scope never need; one set a scope. */
  sparse<Name extends string>(names: readonly Name[]): SparseCounters {
    this.#store.unmade.set(this.prefix, names);
    return new SparseCounters(this, names);
  }

  text(name: string, value: string): void {
    this.#store.texts.set(this.#own(name), value);
  }

  drop(): void {
    for (const name of this.#names) {
      this.#store.counters.delete(name);
      this.#store.gauges.delete(name);
      this.#store.histograms.delete(name);
      this.#store.texts.delete(name);
    }
    this.#names.clear();
    this.#store.unmade.delete(this.prefix);
  }

  #own(name: string): string {
    const full = this.prefix + name;
    this.#names.add(full);
    return full;
  }
}

/** Counters that are made when they first count, found by their place in a list: thousands of clusters have some hundred each. */
export class SparseCounters {
  readonly #scope: StatsScope;
  readonly #names: readonly string[];
  readonly #made: (Counter | undefined)[] = [];

  constructor(scope: StatsScope, names: readonly string[]) {
    this.#scope = scope;
    this.#names = names;
  }

  add(place: number): void {
    let counter = this.#made[place];
    if (!counter) {
      counter = this.#scope.counter(this.#names[place]!);
      this.#made[place] = counter;
    }
    counter.value += 1;
  }
}

/** A histogram that is made with its first value. */
export class SparseHistogram {
  readonly #scope: StatsScope;
  readonly #name: string;
  #made: Histogram | undefined;

  constructor(scope: StatsScope, name: string) {
    this.#scope = scope;
    this.#name = name;
  }

  record(value: number): void {
    this.#made ??= this.#scope.histogram(this.#name);
    this.#made.record(value);
  }
}
