// What /stats asks for, read from its query. Called by the admin interface.
import { RE2JS } from 're2js';
import { errorText } from '../../../base/runtime/log.ts';

export type StatType = 'Counters' | 'Gauges' | 'Histograms' | 'TextReadouts' | 'All';
export type Buckets = 'none' | 'cumulative' | 'disjoint' | 'detailed' | 'summary' | 'prometheusnative';
export type StatsFormat = 'text' | 'json' | 'html' | 'active-html' | 'prometheus';

export interface StatsQuery {
  readonly usedOnly: boolean;
  /** Whether a name is asked for by `filter`. */
  readonly wanted: (name: string) => boolean;
  readonly type: StatType;
  readonly buckets: Buckets;
  readonly format: StatsFormat;
  /** Prometheus shows texts as gauges with the value 0. */
  readonly textReadouts: boolean;
  /** Only stats that are kept from view: there are none here. */
  readonly hiddenOnly: boolean;
}

/** Longest filter expression. */
const MAX_FILTER_CHARS = 1024;
const TYPES: readonly StatType[] = ['All', 'Counters', 'Gauges', 'Histograms', 'TextReadouts'];
const BUCKETS: readonly Buckets[] = ['none', 'cumulative', 'disjoint', 'detailed', 'summary', 'prometheusnative'];
const FORMATS: readonly StatsFormat[] = ['text', 'json', 'html', 'active-html', 'prometheus'];

/** The query, or Envoy's words for what is wrong with it. */
export function readStatsQuery(query: URLSearchParams, prometheus: boolean): StatsQuery | string {
  const asked = (name: string): string | undefined => query.get(name) || undefined;
  const filter = readFilter(query.get('filter'), query.has('invert_filter'));
  if (typeof filter === 'string') return filter;
  const named = FORMATS.find((each) => each === (asked('format') ?? 'text'));
  const format = prometheus && named ? 'prometheus' : named;
  // Prometheus has buckets unless another form is named.
  const bucketsName = asked('histogram_buckets') ?? (prometheus || format === 'prometheus' ? 'cumulative' : 'none');
  const buckets = BUCKETS.find((each) => each === bucketsName);
  if (!buckets) return 'usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n';
  const typeName = asked('type') ?? 'All';
  const type = TYPES.find((each) => each === typeName);
  if (!type) return 'invalid &type= param';
  const hidden = asked('hidden') ?? 'exclude';
  if (!['include', 'only', 'exclude'].includes(hidden)) return 'usage: /stats?hidden=(include|only|exclude)\n\n';
  if (!format) return 'usage: /stats?format=(html|active-html|json|prometheus|text)\n\n';
  if (format !== 'prometheus' && buckets === 'prometheusnative')
    return 'Invalid histogram_buckets type for non prometheus stats type';
  if (format === 'prometheus' && (buckets === 'disjoint' || buckets === 'detailed'))
    return 'unsupported prometheus histogram bucket mode';
  return {
    usedOnly: query.has('usedonly'),
    wanted: filter,
    type,
    buckets,
    format,
    textReadouts: query.has('text_readouts'),
    hiddenOnly: hidden === 'only',
  };
}

function readFilter(text: string | null, invert: boolean): ((name: string) => boolean) | string {
  if (text === null || text === '') return () => true;
  if (text.length > MAX_FILTER_CHARS) return `Invalid re2 regex: longer than ${MAX_FILTER_CHARS} characters`;
  try {
    const regex = RE2JS.compile(text);
    return (name) => regex.matcher(name).find() !== invert;
  } catch (error) {
    return `Invalid re2 regex: ${regexProblem(error)}`;
  }
}

/** RE2's words in C++ for those of its other implementations. */
const RE2_WORDS: readonly (readonly [string, string])[] = [
  ['missing closing ]', 'missing ]'],
  ['missing closing )', 'missing )'],
  ['trailing backslash at end of expression', 'trailing \\'],
  ['missing argument to repetition operator', 'no argument for repetition operator'],
  ['invalid repeat count', 'invalid repetition size'],
  ['invalid nested repetition operator', 'bad repetition operator'],
  ['invalid or unsupported Perl syntax', 'invalid perl operator'],
  ['invalid named capture', 'invalid named capture group'],
];

/** What is wrong with an expression, as Envoy says it. */
export function regexProblem(error: unknown): string {
  const text = errorText(error).replace(/^error parsing regexp: /, '');
  const at = /^(.*): `(.*)`$/s.exec(text);
  const [, code = text, part] = at ?? [];
  const words = RE2_WORDS.find(([theirs]) => theirs === code)?.[1] ?? code;
  return part === undefined ? words : `${words}: ${part}`;
}
