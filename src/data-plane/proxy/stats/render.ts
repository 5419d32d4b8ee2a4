// Stats as text, JSON and Prometheus; names shown and tags taken by the bootstrap's stats_config. Used by the admin interface.

import { RE2JS } from 're2js';
import type { StatsConfig } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { StatsMatcherSchema, TagSpecifierSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { only } from '../config/fields.ts';
import { compileRegex, stringTest } from '../config/matchers.ts';
import { escapeLabel, histogramLines } from './istio-stats.ts';
import { HISTOGRAM_BOUNDS, type Histogram, type StatFilter, type StatsStore } from './stats.ts';

interface TagRule {
  readonly name: string;
  readonly regex: RE2JS | undefined;
  readonly fixed: string;
}

/** How names become Prometheus names and labels. */
export interface StatNaming {
  readonly shown: StatFilter;
  readonly tags: readonly TagRule[];
}

/** Envoy's own tags, used when use_all_default_tags is not false. */
const DEFAULT_TAGS: readonly (readonly [string, string])[] = [
  [
    'envoy_cluster_name',
    '^cluster\\.((.+?)\\.)(?:circuit_breakers|upstream|membership|ssl|update|version|init|external|internal|bind|assignment)',
  ],
  [
    'envoy_http_conn_manager_prefix',
    '^http\\.((.+?)\\.)(?:downstream|rds|no_route|no_cluster|rq_|tracing|passthrough)',
  ],
  ['envoy_listener_address', '^listener\\.(((?:\\[[_0-9a-fA-F:]*\\]|[0-9.]+)_[0-9]+)\\.)'],
  ['envoy_response_code_class', '_rq(_([1-5])xx)$'],
];

/** `fixed`: `tag:value` of --stats-tag. */
export function readNaming(config: StatsConfig | undefined, fixed: readonly string[] = []): StatNaming {
  const tags: TagRule[] = fixed.map((tag) => {
    const colon = tag.indexOf(':');
    return { name: tag.slice(0, colon), regex: undefined, fixed: tag.slice(colon + 1) };
  });
  for (const [i, tag] of (config?.statsTags ?? []).entries()) {
    const path = `stats_config.stats_tags[${i}]`;
    only(TagSpecifierSchema, tag, path, ['tag_name', 'regex', 'fixed_value']);
    tags.push({
      name: tag.tagName,
      regex:
        tag.tagValue.case === 'regex' && tag.tagValue.value !== '' ? compileRegex(tag.tagValue.value, path) : undefined,
      fixed: tag.tagValue.case === 'fixedValue' ? tag.tagValue.value : '',
    });
  }
  if (config?.useAllDefaultTags ?? true)
    for (const [name, regex] of DEFAULT_TAGS)
      if (!tags.some((tag) => tag.name === name)) tags.push({ name, regex: RE2JS.compile(regex), fixed: '' });
  return { shown: shownBy(config), tags };
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

export interface StatsQuery {
  readonly usedOnly: boolean;
  readonly filter: RE2JS | undefined;
}

function* entries(stats: StatsStore, query: StatsQuery): Iterable<[string, number | string]> {
  const keep = (name: string) => stats.shown(name) && (!query.filter || query.filter.matcher(name).find());
  for (const { name, value } of stats.counters.values())
    if (keep(name) && (!query.usedOnly || value !== 0)) yield [name, value];
  for (const { name, value } of stats.gauges.values())
    if (keep(name) && (!query.usedOnly || value !== 0)) yield [name, value];
  for (const [name, value] of stats.texts) if (keep(name)) yield [name, `"${value}"`];
}

const byName = (a: readonly [string, unknown], b: readonly [string, unknown]) =>
  a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;

export function statsText(stats: StatsStore, query: StatsQuery): string {
  let out = '';
  for (const [name, value] of [...entries(stats, query)].sort(byName)) out += `${name}: ${value}\n`;
  for (const histogram of shownHistograms(stats, query)) out += `${histogram.name}: ${quantiles(histogram)}\n`;
  return out;
}

export function statsJson(stats: StatsStore, query: StatsQuery): string {
  const list: unknown[] = [...entries(stats, query)].sort(byName).map(([name, value]) => ({ name, value }));
  return JSON.stringify({ stats: list });
}

function shownHistograms(stats: StatsStore, query: StatsQuery): Histogram[] {
  return [...stats.histograms.values()].filter(
    (histogram) =>
      stats.shown(histogram.name) &&
      (!query.usedOnly || histogram.count > 0) &&
      (!query.filter || query.filter.matcher(histogram.name).find()),
  );
}

const QUANTILES = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100];

/** `P50(nan,12)` and so on; both values are the whole life's, there is no interval here. */
function quantiles(histogram: Histogram): string {
  if (histogram.count === 0) return 'No recorded values';
  return QUANTILES.map((q) => {
    const value = quantile(histogram, q / 100);
    return `P${q}(${value},${value})`;
  }).join(' ');
}

function quantile(histogram: Histogram, share: number): number {
  let left = share * histogram.count;
  for (let i = 0; i < histogram.cells.length; i++) {
    left -= histogram.cells[i]!;
    if (left <= 0 && histogram.cells[i]! > 0) return HISTOGRAM_BOUNDS[i] ?? HISTOGRAM_BOUNDS.at(-1)!;
  }
  return HISTOGRAM_BOUNDS.at(-1)!;
}

/** Prometheus text of Envoy's own stats; names get the prefix `envoy_`. */
export function statsPrometheus(stats: StatsStore, naming: StatNaming, query: StatsQuery): string {
  const families = new Map<string, { type: string; lines: string[] }>();
  const add = (name: string, type: string, line: (family: string, labels: string) => string) => {
    const tagged = takeTags(name, naming.tags);
    let family = families.get(tagged.name);
    if (!family) {
      family = { type, lines: [] };
      families.set(tagged.name, family);
    }
    family.lines.push(line(tagged.name, tagged.labels));
  };
  const sample = (value: number) => (family: string, labels: string) => `${family}{${labels}} ${value}\n`;
  const keep = (name: string, value: number) =>
    stats.shown(name) && (!query.usedOnly || value !== 0) && (!query.filter || query.filter.matcher(name).find());
  for (const { name, value } of stats.counters.values()) if (keep(name, value)) add(name, 'counter', sample(value));
  for (const { name, value } of stats.gauges.values()) if (keep(name, value)) add(name, 'gauge', sample(value));
  for (const histogram of shownHistograms(stats, query))
    add(histogram.name, 'histogram', (family, labels) => histogramLines(family, labels, histogram));
  let out = '';
  for (const [name, { type, lines }] of families) out += `# TYPE ${name} ${type}\n${lines.join('')}`;
  return out;
}

interface Tagged {
  readonly name: string;
  readonly labels: string;
}
const tagCache = new WeakMap<readonly TagRule[], Map<string, Tagged>>();
/** Names whose tags are remembered. */
const MAX_TAG_CACHE = 20_000;

function takeTags(name: string, rules: readonly TagRule[]): Tagged {
  let cache = tagCache.get(rules);
  if (!cache) {
    cache = new Map();
    tagCache.set(rules, cache);
  }
  const known = cache.get(name);
  if (known) return known;
  let rest = name;
  const labels: string[] = [];
  for (const rule of rules) {
    if (!rule.regex) {
      if (rule.fixed !== '') labels.push(`${rule.name}="${escapeLabel(rule.fixed)}"`);
      continue;
    }
    const matcher = rule.regex.matcher(rest);
    if (!matcher.find()) continue;
    // Group 1 leaves the name, group 2 (or 1) is the value.
    const value = matcher.group(matcher.groupCount() >= 2 ? 2 : 1);
    const from = matcher.start(1);
    if (value === null || from < 0) continue;
    labels.push(`${rule.name.replaceAll('.', '_')}="${escapeLabel(value)}"`);
    rest = rest.slice(0, from) + rest.slice(matcher.end(1));
  }
  const tagged = { name: `envoy_${rest.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`, labels: labels.join(',') };
  if (cache.size < MAX_TAG_CACHE) cache.set(name, tagged);
  return tagged;
}
