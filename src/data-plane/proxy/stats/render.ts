// Stats as text, JSON and Prometheus; names shown and tags taken by the bootstrap's stats_config. Used by the admin interface.

import type { StatsConfig } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { HistogramBucketSettingsSchema, StatsMatcherSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { ConfigError, only } from '../config/fields.ts';
import { stringTest } from '../config/matchers.ts';
import { type Family, familyText, unborn } from './families.ts';
import { histogramsJson, histogramText } from './histogram-text.ts';
import { familyProto } from './prometheus-proto.ts';
import type { StatsQuery } from './query.ts';
import { HISTOGRAM_BOUNDS, type Histogram, type StatFilter, type StatsStore } from './stats.ts';
import { readTags, type TagRules } from './tags.ts';

/** How names become Prometheus names and labels. */
export interface StatNaming {
  readonly shown: StatFilter;
  /** Bounds of a histogram by its name. */
  readonly bounds: (name: string) => readonly number[];
  readonly tags: TagRules;
}

/** `fixed`: `tag:value` of --stats-tag. */
export function readNaming(config: StatsConfig | undefined, fixed: readonly string[] = []): StatNaming {
  return { shown: shownBy(config), tags: readTags(config, fixed), bounds: boundsBy(config) };
}

function boundsBy(config: StatsConfig | undefined): (name: string) => readonly number[] {
  const settings = (config?.histogramBucketSettings ?? []).map((setting, i) => {
    const path = `stats_config.histogram_bucket_settings[${i}]`;
    only(HistogramBucketSettingsSchema, setting, path, ['match', 'buckets']);
    const match = setting.match;
    if (!match) throw new ConfigError(`${path}.match`, 'value is required');
    if (setting.buckets.length === 0 || setting.buckets.some((bound) => !(bound > 0)))
      throw new ConfigError(`${path}.buckets`, 'at least one bound above 0 is required');
    if (new Set(setting.buckets).size !== setting.buckets.length)
      throw new ConfigError(`${path}.buckets`, 'repeated value must contain unique items');
    return { test: stringTest(match, `${path}.match`), bounds: [...setting.buckets].sort((a, b) => a - b) };
  });
  return (name) => settings.find(({ test }) => test(name))?.bounds ?? HISTOGRAM_BOUNDS;
}

function shownBy(config: StatsConfig | undefined): StatFilter {
  const matcher = config?.statsMatcher;
  if (!matcher) return () => true;
  only(StatsMatcherSchema, matcher, 'stats_config.stats_matcher', ['reject_all', 'inclusion_list', 'exclusion_list']);
  const spec = matcher.statsMatcher;
  if (spec.case === 'rejectAll') return () => !spec.value;
  if (spec.case === undefined) return () => true;
  const tests = spec.value.patterns.map((pattern, i) =>
    stringTest(pattern, `stats_config.stats_matcher.patterns[${i}]`),
  );
  const include = spec.case === 'inclusionList';
  const cache = new Map<string, boolean>();
  return (name) => {
    let known = cache.get(name);
    if (known === undefined) {
      known = tests.some((test) => test(name)) === include;
      cache.set(name, known);
    }
    return known;
  };
}

interface Shown {
  readonly name: string;
  readonly value: number;
  /** Of gauges: it was set, and may be 0 again. */
  readonly used?: boolean;
}

type Entry = readonly [name: string, value: number | string];

/** Counters and gauges, and texts before them as Envoy lists them. */
function entries(stats: StatsStore, query: StatsQuery): { readonly texts: Entry[]; readonly numbers: Entry[] } {
  const keep = (name: string): boolean => !query.hiddenOnly && stats.shown(name) && query.wanted(name);
  const numbers: Entry[] = [];
  const add = (all: Iterable<Shown>): void => {
    for (const { name, value, used } of all)
      if ((!query.usedOnly || value !== 0 || used) && !unborn(name, value) && keep(name)) numbers.push([name, value]);
  };
  if (query.type === 'All' || query.type === 'Counters') add(stats.allCounters());
  if (query.type === 'All' || query.type === 'Gauges') add(stats.gauges.values());
  const texts: Entry[] = [];
  if (query.type === 'All' || query.type === 'TextReadouts')
    for (const [name, value] of stats.texts) if (keep(name)) texts.push([name, value]);
  return { texts: texts.sort(byName), numbers: numbers.sort(byName) };
}

const byName = (a: Entry, b: Entry) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);

function shownHistograms(stats: StatsStore, query: StatsQuery): Histogram[] {
  if (query.hiddenOnly || (query.type !== 'All' && query.type !== 'Histograms')) return [];
  return [...stats.histograms.values()]
    .filter(
      (histogram) =>
        (!query.usedOnly || histogram.count > 0) && stats.shown(histogram.name) && query.wanted(histogram.name),
    )
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Lines of one answer are made this many at a time, so that a large one does not hold up traffic. */
const SLICE = 500;

function* slices<T>(items: readonly T[], render: (item: T) => string): Generator<string> {
  for (let i = 0; i < items.length; i += SLICE) {
    let out = '';
    for (const item of items.slice(i, i + SLICE)) out += render(item);
    yield out;
  }
}

export function* statsText(stats: StatsStore, query: StatsQuery): Generator<string> {
  const { texts, numbers } = entries(stats, query);
  yield* slices(texts, ([name, value]) => `${name}: "${value}"\n`);
  yield* slices(numbers, ([name, value]) => `${name}: ${value}\n`);
  yield* slices(shownHistograms(stats, query), (histogram) => histogramText(histogram, query.buckets));
}

export function* statsJson(stats: StatsStore, query: StatsQuery): Generator<string> {
  const { texts, numbers } = entries(stats, query);
  let comma = '';
  yield '{"stats":[';
  yield* slices([...texts, ...numbers], ([name, value]) => {
    const text = comma + JSON.stringify({ name, value });
    comma = ',';
    return text;
  });
  const histograms = shownHistograms(stats, query);
  if (histograms.length > 0) yield comma + JSON.stringify(histogramsJson(histograms, query.buckets));
  yield ']}';
}

/** Prometheus' text, some families at a time. */
export function* statsPrometheus(families: readonly Family[]): Generator<string> {
  yield* slices(families, familyText);
}

/** The same as protobuf. */
export function* statsPrometheusProto(families: readonly Family[], native: boolean): Generator<Uint8Array> {
  for (let i = 0; i < families.length; i += SLICE)
    yield Buffer.concat(families.slice(i, i + SLICE).map((family) => familyProto(family, native)));
}
