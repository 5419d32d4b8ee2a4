// What /stats asks for, read from its query. Called by the admin interface.
import { RE2JS } from 're2js';

export type StatType = 'Counters' | 'Gauges' | 'Histograms' | 'TextReadouts' | 'All';
export type Buckets = 'none' | 'cumulative' | 'disjoint' | 'detailed' | 'summary';
export type StatsFormat = 'text' | 'json' | 'html' | 'prometheus';

export interface StatsQuery {
  readonly usedOnly: boolean;
  /** Whether a name is asked for by `filter`. */
  readonly wanted: (name: string) => boolean;
  readonly type: StatType;
  readonly buckets: Buckets;
  readonly format: StatsFormat;
  /** Prometheus shows texts as gauges with the value 0. */
  readonly textReadouts: boolean;
}

/** Longest filter expression. */
const MAX_FILTER_CHARS = 1024;
const TYPES: Readonly<Record<string, StatType>> = {
  counters: 'Counters',
  gauges: 'Gauges',
  histograms: 'Histograms',
  textreadouts: 'TextReadouts',
  all: 'All',
};
const BUCKETS: readonly Buckets[] = ['none', 'cumulative', 'disjoint', 'detailed', 'summary'];

/** The query, or Envoy's words for what is wrong with it. */
export function readStatsQuery(query: URLSearchParams, prometheus: boolean): StatsQuery | string {
  const format = query.get('format') ?? 'text';
  if (format === 'active-html')
    return 'active-html is not supported by this proxy: use format=html, text, json or prometheus\n';
  if (!prometheus && format !== 'text' && format !== 'json' && format !== 'html' && format !== 'prometheus')
    return 'usage: /stats?format=(html|active-html|json|prometheus|text)\n\n';
  const buckets = (query.get('histogram_buckets') ?? 'none') as Buckets;
  if (!BUCKETS.includes(buckets)) return 'usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n';
  const type = TYPES[(query.get('type') ?? 'All').toLowerCase()];
  if (!type) return 'invalid &type= param';
  const filter = readFilter(query.get('filter'), query.has('invert_filter'));
  if (typeof filter === 'string') return filter;
  return {
    usedOnly: query.has('usedonly'),
    wanted: filter,
    type,
    buckets,
    format: prometheus ? 'prometheus' : (format as StatsFormat),
    textReadouts: query.has('text_readouts'),
  };
}

function readFilter(text: string | null, invert: boolean): ((name: string) => boolean) | string {
  if (text === null || text === '') return () => true;
  if (text.length > MAX_FILTER_CHARS) return `Invalid re2 regex: longer than ${MAX_FILTER_CHARS} characters`;
  try {
    const regex = RE2JS.compile(text);
    return (name) => regex.matcher(name).find() !== invert;
  } catch (error) {
    return `Invalid re2 regex: ${error instanceof Error ? error.message.replace(/^error parsing regexp: /, '') : text}`;
  }
}
