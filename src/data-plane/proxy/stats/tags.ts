// Tags that stand inside the names of stats: which part of a name is a label to Prometheus, and what is left of the name.
// Called by render.ts.
import type { RE2JS } from 're2js';
import type { StatsConfig } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { TagSpecifierSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { only } from '../config/fields.ts';
import { compileRegex } from '../config/matchers.ts';
import { escapeLabel } from './families.ts';

/** A part of a name: its value, and what of the name it takes away. */
interface Part {
  readonly value: string;
  readonly from: number;
  readonly to: number;
}

interface TagRule {
  readonly name: string;
  readonly find: (stat: string) => Part | undefined;
}

export interface TagRules {
  /** `name="value"` that every stat carries. */
  readonly fixed: readonly string[];
  readonly rules: readonly TagRule[];
}

/** One word between dots. */
const W = '[^.]+';
const ADDRESS = `(?:\\[[_0-9a-fA-F]*\\]|[0-9.]+)_[0-9]+|${W}`;
const TLS = '^(?:listener|cluster)\\..*?\\.ssl\\.';

/**
 * Envoy's own tags for the stats this proxy has, in the order of their labels. The first group leaves the name, the second is
 * the value.
 */
const DEFAULTS: readonly (readonly [tag: string, pattern: string])[] = [
  ['envoy_response_code', '_rq(_(\\d{3}))$'],
  ['envoy_response_code_class', '_rq_((\\d))xx$'],
  ['envoy_rbac_prefix', `^((${W})\\.)rbac\\.`],
  ['envoy_local_http_ratelimit_prefix', `^((${W})\\.)http_local_rate_limit\\.`],
  ['envoy_grpc_bridge_method', `^cluster\\.${W}\\.grpc\\.${W}\\.((${W})\\.)`],
  ['envoy_virtual_cluster', `^vhost\\.${W}\\.vcluster\\.((${W})\\.)`],
  ['envoy_fault_downstream_cluster', `^http\\.${W}\\.fault\\.((${W})\\.)`],
  ['envoy_ssl_cipher', '^listener\\..*?\\.ssl\\.ciphers(\\.(.*))$'],
  ['cipher_suite', '^cluster\\..*?\\.ssl\\.ciphers(\\.(.*))$'],
  ['envoy_ssl_curve', `${TLS}curves(\\.(.*))$`],
  ['envoy_ssl_sigalg', `${TLS}sigalgs(\\.(.*))$`],
  ['envoy_ssl_version', `${TLS}versions(\\.(.*))$`],
  ['envoy_tls_certificate', `${TLS}certificate\\.((${W})\\.)`],
  ['envoy_grpc_bridge_service', `^cluster\\.${W}\\.grpc\\.((${W})\\.)`],
  ['envoy_tcp_prefix', `^tcp\\.((${W})\\.)`],
  ['envoy_cluster_name', `^cluster\\.((${W})\\.)`],
  ['envoy_rds_route_config', `^http\\.${W}\\.rds\\.((.*?)\\.)\\w+$`],
  ['envoy_scoped_rds_config', `^http\\.${W}\\.scoped_rds\\.((.*?)\\.)\\w+$`],
  ['envoy_rbac_http_prefix', `^http\\.${W}\\.rbac\\.((?!policy\\.)(${W})\\.)`],
  ['envoy_http_conn_manager_prefix', `^listener\\.(?:${ADDRESS})\\.(?:.*?\\.)?http\\.((${W})\\.)`],
  ['envoy_http_conn_manager_prefix', `^http\\.((${W})\\.)`],
  ['envoy_listener_address', `^listener\\.((${ADDRESS})\\.)`],
  ['envoy_virtual_host', `^vhost\\.((${W})\\.)`],
  ['envoy_route', `^vhost\\.${W}\\.route\\.((${W})\\.)`],
  ['envoy_connection_limit_prefix', `^connection_limit\\.((${W})\\.)`],
  ['envoy_local_network_ratelimit_prefix', `^local_rate_limit\\.((${W})\\.)`],
  ['envoy_xds_resource_name', '^sds\\.((.+?)\\.)\\w+$'],
  ['envoy_proxy_protocol_prefix', `^proxy_proto\\.((?!versions\\.)(${W})\\.)`],
  ['envoy_proxy_protocol_version', `^proxy_proto\\.(?:${W}\\.)?(versions\\.v(\\d)\\.)`],
];

const defaults: readonly TagRule[] = DEFAULTS.map(([name, pattern]) => {
  const regex = new RegExp(pattern, 'd');
  return {
    name,
    find(stat) {
      const [whole, value] = regex.exec(stat)?.indices?.slice(1) ?? [];
      return whole && value && { value: stat.slice(...value), from: whole[0], to: whole[1] };
    },
  };
});

/** Tags of `stats_config` and, unless it says otherwise, Envoy's own. `fixed`: `tag:value` of --stats-tag. */
export function readTags(config: StatsConfig | undefined, fixed: readonly string[]): TagRules {
  const labels = fixed.map((tag) => {
    const colon = tag.indexOf(':');
    return label(tag.slice(0, colon), tag.slice(colon + 1));
  });
  const rules: TagRule[] = [];
  for (const [i, tag] of (config?.statsTags ?? []).entries()) {
    const path = `stats_config.stats_tags[${i}]`;
    only(TagSpecifierSchema, tag, path, ['tag_name', 'regex', 'fixed_value']);
    const { tagValue, tagName: name } = tag;
    if (tagValue.case === 'fixedValue') labels.push(label(name, tagValue.value));
    else if (tagValue.case === 'regex' && tagValue.value !== '')
      rules.push({ name, find: finder(compileRegex(tagValue.value, path)) });
    // A name alone asks for the default of that name.
    else if (config?.useAllDefaultTags === false) rules.push(...defaults.filter((rule) => rule.name === name));
  }
  const own =
    config?.useAllDefaultTags === false ? [] : defaults.filter(({ name }) => !rules.some((r) => r.name === name));
  return { fixed: labels, rules: [...rules, ...own] };
}

function finder(regex: RE2JS): TagRule['find'] {
  return (stat) => {
    const matcher = regex.matcher(stat);
    if (!matcher.find() || matcher.groupCount() === 0) return undefined;
    const value = matcher.group(matcher.groupCount() >= 2 ? 2 : 1);
    const from = matcher.start(1);
    return value === null || from < 0 ? undefined : { value, from, to: matcher.end(1) };
  };
}

const label = (name: string, value: string): string => `${name.replaceAll('.', '_')}="${escapeLabel(value)}"`;

export interface Tagged {
  /** With the prefix `envoy_`. */
  readonly name: string;
  readonly labels: string;
}
const caches = new WeakMap<TagRules, Map<string, Tagged>>();
/** Names whose tags are remembered. */
const MAX_TAG_CACHE = 20_000;

export function takeTags(stat: string, rules: TagRules): Tagged {
  let cache = caches.get(rules);
  if (!cache) {
    cache = new Map();
    caches.set(rules, cache);
  }
  const known = cache.get(stat);
  if (known) return known;
  const tagged = extract(stat, rules);
  if (cache.size < MAX_TAG_CACHE) cache.set(stat, tagged);
  return tagged;
}

/** Every rule looks at the whole name; what they take is left out together. */
function extract(stat: string, { fixed, rules }: TagRules): Tagged {
  const labels = [...fixed];
  const taken: Part[] = [];
  const seen = new Set<string>();
  for (const { name, find } of rules) {
    const part = seen.has(name) ? undefined : find(stat);
    if (!part) continue;
    seen.add(name);
    labels.push(label(name, part.value));
    taken.push(part);
  }
  let rest = '';
  let at = 0;
  for (const { from, to } of taken.sort((a, b) => a.from - b.from)) {
    rest += stat.slice(at, Math.max(at, from));
    at = Math.max(at, to);
  }
  rest += stat.slice(at);
  return { name: `envoy_${rest.replaceAll(/[^a-zA-Z0-9_]/g, '_')}`, labels: labels.join(',') };
}
