// Counters, gauges and histograms of the proxy. A part asks once for its counter and adds to `value` on its hot path;
// names are rendered only when somebody looks.
import { MAX_SHARED_STAT_LEAVES } from '../limits.ts';
import { RecentLookups } from './recent-lookups.ts';

/** Its name is put together when somebody looks: of thousands of clusters each has some fifty. */
export class Counter {
  readonly #prefix: string;
  readonly leaf: string;
  value = 0;
  constructor(leaf: string, prefix = '') {
    this.#prefix = prefix;
    this.leaf = leaf;
  }
  get name(): string {
    return this.#prefix + this.leaf;
  }
}

export class Gauge {
  readonly #prefix: string;
  readonly leaf: string;
  /** It was set once, though maybe to 0. */
  used = false;
  #value = 0;
  constructor(leaf: string, prefix = '') {
    this.#prefix = prefix;
    this.leaf = leaf;
  }
  get name(): string {
    return this.#prefix + this.leaf;
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

/**
 * What a field for fractions begins with: V8 gives an object whose field began as a small integer another shape with the first
 * fraction, at the first `turn`, seconds after the start, and all code that records would have to be compiled again.
 */
const FRACTION = 0.5;

export class Histogram {
  readonly #prefix: string;
  readonly leaf: string;
  readonly bounds: readonly number[];
  /** One cell a bound and one for +Inf; not cumulative. */
  readonly cells: Float64Array;
  sum = FRACTION;
  count = 0;
  /** What came between the last two calls of `turn`; absent before anything did. */
  interval: Float64Array | undefined;
  /** Of the interval. */
  intervalSum = FRACTION;
  #markSum = FRACTION;
  #mark: Float64Array | undefined;
  constructor(leaf: string, bounds: readonly number[] = HISTOGRAM_BOUNDS, prefix = '') {
    this.#prefix = prefix;
    this.leaf = leaf;
    this.bounds = bounds;
    this.cells = new Float64Array(bounds.length + 1);
    this.sum = 0;
    this.intervalSum = 0;
    this.#markSum = 0;
  }
  get name(): string {
    return this.#prefix + this.leaf;
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
    const mark = new Float64Array(this.cells);
    const interval = new Float64Array(mark.length);
    for (let i = 0; i < mark.length; i++) interval[i] = mark[i]! - (this.#mark?.[i] ?? 0);
    this.interval = interval;
    this.#mark = mark;
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

interface Named {
  readonly name: string;
  readonly leaf: string;
}

/** What one prefix has; all scopes of that prefix add to it. */
interface Shelf {
  readonly counters: Counter[];
  readonly gauges: Gauge[];
  readonly histograms: Histogram[];
  /** Scopes that were not dropped. */
  scopes: number;
}

type Shelves = ReadonlyMap<string, Shelf>;

/** The statistics of one kind by their whole names; those of scopes stand on shelves, which hold no whole names. */
export class StatTable<T extends Named> implements Iterable<readonly [string, T]> {
  readonly #shelves: Shelves;
  readonly #of: (shelf: Shelf) => readonly T[];
  readonly #single = new Map<string, T>();

  constructor(shelves: Shelves, of: (shelf: Shelf) => readonly T[]) {
    this.#shelves = shelves;
    this.#of = of;
  }

  get(name: string): T | undefined {
    const single = this.#single.get(name);
    if (single) return single;
    let dot = -1;
    do {
      const shelf = this.#shelves.get(name.slice(0, dot + 1));
      const found = shelf && onShelf(this.#of(shelf), name.slice(dot + 1));
      if (found) return found;
      dot = name.indexOf('.', dot + 1);
    } while (dot >= 0);
    return undefined;
  }

  get size(): number {
    let size = this.#single.size;
    for (const shelf of this.#shelves.values()) size += this.#of(shelf).length;
    return size;
  }

  *values(): Generator<T> {
    yield* this.#single.values();
    for (const shelf of this.#shelves.values()) yield* this.#of(shelf);
  }

  *[Symbol.iterator](): Generator<readonly [string, T]> {
    for (const each of this.values()) yield [each.name, each];
  }

  /** One that no scope owns. */
  single(name: string, make: () => T): T {
    let found = this.get(name);
    if (!found) {
      found = make();
      this.#single.set(name, found);
    }
    return found;
  }

  /** Only those that no scope owns. */
  getSingle(name: string): T | undefined {
    return this.#single.get(name);
  }

  forget(prefix: string): void {
    for (const name of this.#single.keys()) if (belongsTo(name, prefix, this.#shelves)) this.#single.delete(name);
  }
}

/** The name starts with this prefix, and with no longer one that is in use: `cluster.a.` is not the owner of `cluster.a.b.x`. */
function belongsTo(name: string, prefix: string, shelves: Shelves): boolean {
  if (!name.startsWith(prefix)) return false;
  for (let dot = name.indexOf('.', prefix.length); dot >= 0; dot = name.indexOf('.', dot + 1))
    if (shelves.has(name.slice(0, dot + 1))) return false;
  return true;
}

const SHARED = new Map<string, string>();

/** The same text as one string: names put together of parts would be a new one for each of thousands of clusters. */
function shared(leaf: string): string {
  const known = SHARED.get(leaf);
  if (known === undefined && SHARED.size < MAX_SHARED_STAT_LEAVES) SHARED.set(leaf, leaf);
  return known ?? leaf;
}

/** Asked when parts are made: a few dozen short names, which are one object each. */
function onShelf<T extends Named>(list: readonly T[], leaf: string): T | undefined {
  for (const each of list) if (each.leaf === leaf) return each;
  return undefined;
}

export class StatsStore {
  readonly #shelves = new Map<string, Shelf>();
  readonly counters = new StatTable<Counter>(this.#shelves, (shelf) => shelf.counters);
  readonly gauges = new StatTable<Gauge>(this.#shelves, (shelf) => shelf.gauges);
  readonly histograms = new StatTable<Histogram>(this.#shelves, (shelf) => shelf.histograms);
  /** Text readouts such as `cluster_manager.cds.version_text`. */
  readonly texts = new Map<string, string>();
  /** Counters of a prefix that are not made before they count something: shown as 0. */
  readonly unmade = new Map<string, readonly string[]>();
  readonly lagging = new Set<Lagging>();
  readonly lookups = new RecentLookups();
  shown: StatFilter = () => true;
  /** Bounds of histograms by name (histogram_bucket_settings). */
  bounds: (name: string) => readonly number[] = () => HISTOGRAM_BOUNDS;

  counter(name: string): Counter {
    this.lookups.note(name);
    return this.counters.single(name, () => new Counter(name));
  }

  gauge(name: string): Gauge {
    this.lookups.note(name);
    return this.gauges.single(name, () => new Gauge(name));
  }

  histogram(name: string): Histogram {
    this.lookups.note(name);
    return this.histograms.single(name, () => new Histogram(name, this.bounds(name)));
  }

  /** @internal For StatsScope. */
  open(prefix: string): Shelf {
    let shelf = this.#shelves.get(prefix);
    if (!shelf) {
      shelf = { counters: [], gauges: [], histograms: [], scopes: 0 };
      this.#shelves.set(prefix, shelf);
    }
    shelf.scopes += 1;
    return shelf;
  }

  /** @internal Forgets all of a prefix, those that were asked for by whole names too. */
  close(prefix: string): void {
    this.#shelves.delete(prefix);
    for (const table of [this.counters, this.gauges, this.histograms]) table.forget(prefix);
    for (const name of this.texts.keys()) if (belongsTo(name, prefix, this.#shelves)) this.texts.delete(name);
    this.unmade.delete(prefix);
  }

  /** Brings everything up to date; called before somebody looks. */
  settle(): void {
    for (const each of this.lagging) each.settle();
  }

  /** Counters, those that were never needed too. */
  *allCounters(): Generator<{ readonly name: string; readonly value: number }> {
    yield* this.counters.values();
    for (const [prefix, names] of this.unmade)
      for (const name of names) if (!this.counters.get(prefix + name)) yield { name: prefix + name, value: 0 };
  }

  /** Starts a new interval of all histograms. */
  turn(): void {
    for (const histogram of this.histograms.values()) histogram.turn();
  }

  resetCounters(): void {
    for (const counter of this.counters.values()) counter.value = 0;
  }
}

/**
 * The stats of one cluster or listener: all names start with `prefix`. Scopes of one prefix share what they have; `drop` of the
 * last one forgets it. A scope must not ask for what belongs to a scope inside it (`a.` for `b.c` where there is `a.b.`).
 */
export class StatsScope {
  readonly prefix: string;
  readonly #store: StatsStore;
  readonly #shelf: Shelf;
  #dropped = false;

  constructor(store: StatsStore, prefix: string) {
    this.#store = store;
    this.prefix = prefix;
    this.#shelf = store.open(prefix);
  }

  counter(leaf: string): Counter {
    this.#store.lookups.note(leaf, this.prefix);
    const { counters } = this.#shelf;
    let found = onShelf(counters, leaf) ?? this.#store.counters.getSingle(this.prefix + leaf);
    if (!found) {
      found = new Counter(shared(leaf), this.prefix);
      counters.push(found);
    }
    return found;
  }

  gauge(leaf: string): Gauge {
    this.#store.lookups.note(leaf, this.prefix);
    const { gauges } = this.#shelf;
    let found = onShelf(gauges, leaf) ?? this.#store.gauges.getSingle(this.prefix + leaf);
    if (!found) {
      found = new Gauge(shared(leaf), this.prefix);
      gauges.push(found);
    }
    return found;
  }

  histogram(leaf: string): Histogram {
    this.#store.lookups.note(leaf, this.prefix);
    const { histograms } = this.#shelf;
    const name = this.prefix + leaf;
    let found = onShelf(histograms, leaf) ?? this.#store.histograms.getSingle(name);
    if (!found) {
      found = new Histogram(shared(leaf), this.#store.bounds(name), this.prefix);
      histograms.push(found);
    }
    return found;
  }

  /** Counters that most owners of a scope never need; one set a scope. */
  sparse<Name extends string>(names: readonly Name[]): SparseCounters {
    this.#store.unmade.set(this.prefix, names);
    return new SparseCounters(this, names);
  }

  text(name: string, value: string): void {
    this.#store.texts.set(this.prefix + name, value);
  }

  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.#shelf.scopes -= 1;
    if (this.#shelf.scopes === 0) this.#store.close(this.prefix);
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
