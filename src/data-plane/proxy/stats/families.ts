// Statistics as Prometheus sees them: families of samples with labels. Made from the store and by Istio's own metrics; written as
// text here and as protobuf by prometheus-proto.ts.
import { QUANTILES, quantile, shortNumber } from './histogram-text.ts';
import type { StatsQuery } from './query.ts';
import type { Histogram, StatsStore } from './stats.ts';
import { type TagRules, takeTags } from './tags.ts';

export type FamilyType = 'counter' | 'gauge' | 'histogram' | 'summary';

/** Labels are written as in the text format. */
export type Sample =
  | { readonly labels: string; readonly value: number }
  | { readonly labels: string; readonly histogram: Histogram };

export interface Family {
  readonly name: string;
  readonly type: FamilyType;
  readonly samples: readonly Sample[];
}

/** Counters that Envoy makes when there is something to count. */
export function unborn(name: string, value: number): boolean {
  if (value !== 0 || !name.startsWith('cluster.')) return false;
  // Not those of outlier detection (…consecutive_5xx), which are there from the start.
  return (name.endsWith('xx') && /_rq_\dxx$/.test(name)) || name.endsWith('.upstream_rq_drop_overload');
}

/** Counters, gauges, texts and histograms, in this order; `type` of the query says nothing here, as in Envoy. */
export function familiesOf(stats: StatsStore, tags: TagRules, query: StatsQuery): Family[] {
  const keep = (name: string, value: number, used = false): boolean =>
    !query.hiddenOnly &&
    (!query.usedOnly || value !== 0 || used) &&
    !unborn(name, value) &&
    stats.shown(name) &&
    query.wanted(name);
  const counters = new Collection('counter', tags);
  for (const { name, value } of stats.allCounters())
    if (keep(name, value)) counters.add(name, (labels) => ({ labels, value }));
  const gauges = new Collection('gauge', tags);
  for (const { name, value, used } of stats.gauges.values())
    if (keep(name, value, used)) gauges.add(name, (labels) => ({ labels, value }));
  const texts = new Collection('gauge', tags);
  if (query.textReadouts)
    for (const [name, value] of stats.texts)
      if (keep(name, 1))
        texts.add(name, (labels) => ({ labels: joined(labels, `text_value="${escapeLabel(value)}"`), value: 0 }));
  const histograms = new Collection(
    query.buckets === 'summary' || query.buckets === 'none' ? 'summary' : 'histogram',
    tags,
  );
  for (const histogram of stats.histograms.values())
    if (keep(histogram.name, histogram.count)) histograms.add(histogram.name, (labels) => ({ labels, histogram }));
  return [counters, gauges, texts, histograms].flatMap((each) => each.sorted());
}

class Collection {
  readonly #type: FamilyType;
  readonly #tags: TagRules;
  readonly #families = new Map<string, Sample[]>();

  constructor(type: FamilyType, tags: TagRules) {
    this.#type = type;
    this.#tags = tags;
  }

  add(stat: string, make: (labels: string) => Sample): void {
    const { name, labels } = takeTags(stat, this.#tags);
    const samples = this.#families.get(name);
    if (samples) samples.push(make(labels));
    else this.#families.set(name, [make(labels)]);
  }

  sorted(): Family[] {
    return [...this.#families]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, samples]) => ({ name, type: this.#type, samples }));
  }
}

export function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

const joined = (labels: string, more: string): string => (labels === '' ? more : `${labels},${more}`);

export function familyText({ name, type, samples }: Family): string {
  let out = `# TYPE ${name} ${type}\n`;
  for (const sample of samples)
    if ('value' in sample) out += `${name}{${sample.labels}} ${sample.value}\n`;
    else if (type === 'summary') out += summaryLines(name, sample.labels, sample.histogram);
    else out += histogramLines(name, sample.labels, sample.histogram);
  return out;
}

/** Cumulative buckets, sum and count of one series. */
function histogramLines(name: string, labels: string, histogram: Histogram): string {
  let total = 0;
  let out = '';
  for (const [i, bound] of histogram.bounds.entries()) {
    total += histogram.cells[i]!;
    out += `${name}_bucket{${joined(labels, `le="${bound}"`)}} ${total}\n`;
  }
  out += `${name}_bucket{${joined(labels, 'le="+Inf"')}} ${histogram.count}\n`;
  return `${out}${name}_sum{${labels}} ${histogram.sum}\n${name}_count{${labels}} ${histogram.count}\n`;
}

/** Of the last interval, as Envoy's. */
function summaryLines(name: string, labels: string, histogram: Histogram): string {
  const lines = QUANTILES.map(
    (percent) =>
      `${name}{${joined(labels, `quantile="${percent / 100}"`)}} ${shortNumber(quantile(histogram.bounds, histogram.interval, percent))}\n`,
  );
  const { sum, count } = intervalTotals(histogram);
  return `${lines.join('')}${name}_sum{${labels}} ${sum}\n${name}_count{${labels}} ${count}\n`;
}

export function intervalTotals({ interval, intervalSum }: Histogram): {
  readonly sum: number;
  readonly count: number;
} {
  let count = 0;
  for (const cell of interval ?? []) count += cell;
  return { sum: intervalSum, count };
}
