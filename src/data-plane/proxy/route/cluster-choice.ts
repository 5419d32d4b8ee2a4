// Which cluster a forwarding route means: fixed, named by a header, or one of several by weight. Used by action.ts.
import {
  type RouteAction,
  type WeightedCluster,
  type WeightedCluster_ClusterWeight,
  WeightedCluster_ClusterWeightSchema,
  WeightedClusterSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { FormatDeps } from '../access-log/format.ts';
import { metadataOf } from '../cluster/endpoints.ts';
import { type MetadataMatch, metadataMatch } from '../cluster/lb-context.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import type { PerFilter } from '../http-filter/per-filter.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { HashPolicy } from './hash-policy.ts';
import { compileEdits, type HeaderEdits, NO_EDITS } from './header-edits.ts';
import type { RequestView } from './matchers.ts';

export interface ClusterChoice {
  readonly name: string;
  readonly requestEdits: HeaderEdits;
  readonly responseEdits: HeaderEdits;
  readonly hostRewrite: string;
  readonly metadataMatch: MetadataMatch | undefined;
  /** Settings that only this weighted cluster has. */
  readonly perFilter: PerFilter | undefined;
}

export type Chooser = (request: RequestView, random: () => number) => ClusterChoice;

export interface ChoiceContext {
  readonly runtime: RuntimeView;
  readonly format: FormatDeps;
  perFilter(source: WeightedCluster_ClusterWeight['typedPerFilterConfig'], path: string): PerFilter | undefined;
}

/** The chooser, and the clusters it may name (for faults by cluster and for checks). `hash`: the route's hash policy. */
export function clusterChooser(
  message: RouteAction,
  hash: HashPolicy | undefined,
  context: ChoiceContext,
  path: string,
): readonly [Chooser, readonly string[]] {
  const spec = message.clusterSpecifier;
  const criteria = metadataMatch(message.metadataMatch && metadataOf(message.metadataMatch));
  switch (spec.case) {
    case 'cluster': {
      if (spec.value === '') throw new ConfigError(join(path, 'cluster'), 'value length must be at least 1 characters');
      const fixed = plain(spec.value, criteria);
      return [() => fixed, [spec.value]];
    }
    case 'clusterHeader':
      return [byHeader(headerName(spec.value), criteria), []];
    case 'weightedClusters':
      return weighted(spec.value, criteria, hash, context, join(path, 'weighted_clusters'));
    default:
      throw new ConfigError(join(path, 'cluster_specifier'), `'${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

function plain(name: string, criteria: MetadataMatch | undefined): ClusterChoice {
  return {
    name,
    requestEdits: NO_EDITS,
    responseEdits: NO_EDITS,
    hostRewrite: '',
    metadataMatch: criteria,
    perFilter: undefined,
  };
}

function byHeader(name: HeaderName, criteria: MetadataMatch | undefined): Chooser {
  return (request) =>
    plain(name.text === ':authority' ? request.authority : (request.headers.get(name) ?? ''), criteria);
}

interface Weighted {
  readonly weight: number;
  readonly key: string;
  readonly header: HeaderName | undefined;
  readonly choice: ClusterChoice;
}

function weighted(
  message: WeightedCluster,
  criteria: MetadataMatch | undefined,
  hash: HashPolicy | undefined,
  context: ChoiceContext,
  path: string,
): readonly [Chooser, readonly string[]] {
  only(WeightedClusterSchema, message, path, [
    'clusters',
    'total_weight',
    'runtime_key_prefix',
    'header_name',
    'use_hash_policy',
  ]);
  const prefix = message.runtimeKeyPrefix;
  const entries = message.clusters.map((entry, i) =>
    weightOf(entry, prefix, criteria, context, join(path, `clusters[${i}]`)),
  );
  const total = entries.reduce((sum, entry) => sum + entry.weight, 0);
  if (total === 0) throw new ConfigError(path, 'Sum of weights in the weighted_cluster must be greater than 0.');
  if (total > 0xffffffff)
    throw new ConfigError(path, `The sum of weights of all weighted clusters of route exceeds 4294967295`);
  const random = message.randomValueSpecifier;
  const valueHeader = random.case === 'headerName' && random.value !== '' ? headerName(random.value) : undefined;
  const byHash = random.case === 'useHashPolicy' && random.value ? hash : undefined;
  const names = entries.map((entry) => entry.choice.name).filter((name) => name !== '');
  const live = prefix !== '';
  const chooser: Chooser = (request, dice) => {
    const whole = live
      ? entries.reduce((sum, entry) => sum + context.runtime.number(entry.key, entry.weight), 0)
      : total;
    let at = valueHeader
      ? headerValue(request, valueHeader, whole)
      : byHash
        ? hashValue(request, byHash, dice, whole)
        : undefined;
    at ??= dice() * whole;
    for (const entry of entries) {
      at -= live ? context.runtime.number(entry.key, entry.weight) : entry.weight;
      if (at < 0) return named(entry, request);
    }
    return named(entries.at(-1)!, request);
  };
  return [chooser, names];
}

function named(entry: Weighted, request: RequestView): ClusterChoice {
  if (!entry.header) return entry.choice;
  return { ...entry.choice, name: request.headers.get(entry.header) ?? '' };
}

/** A place in [0, whole) from a number in the request. */
function headerValue(request: RequestView, name: HeaderName, whole: number): number | undefined {
  const text = request.headers.get(name);
  if (text === undefined || !/^\d{1,20}$/.test(text)) return undefined;
  return Number(BigInt(text) % BigInt(whole));
}

/** The same from the hash of the route; a cookie that is not there makes none. */
function hashValue(request: RequestView, policy: HashPolicy, random: () => number, whole: number): number | undefined {
  let made = false;
  const { method, path, authority, scheme, headers, info } = request;
  const addCookie = (): void => {
    made = true;
  };
  const hash = policy({ method, path, authority, scheme, headers, info, random, addCookie });
  if (hash === undefined || made) return undefined;
  return Number(((BigInt(hash.hi) << 32n) | BigInt(hash.lo)) % BigInt(whole));
}

function weightOf(
  message: WeightedCluster_ClusterWeight,
  prefix: string,
  criteria: MetadataMatch | undefined,
  context: ChoiceContext,
  path: string,
): Weighted {
  only(WeightedCluster_ClusterWeightSchema, message, path, [
    'name',
    'cluster_header',
    'weight',
    'metadata_match',
    'request_headers_to_add',
    'request_headers_to_remove',
    'response_headers_to_add',
    'response_headers_to_remove',
    'typed_per_filter_config',
    'host_rewrite_literal',
  ]);
  const { name, clusterHeader } = message;
  if (name === '' && clusterHeader === '')
    throw new ConfigError(path, 'At least one of name or cluster_header need to be specified');
  if (name !== '' && clusterHeader !== '')
    throw new ConfigError(path, 'Only one of name or cluster_header can be specified');
  return {
    weight: message.weight ?? 0,
    key: `${prefix}.${name}`,
    header: clusterHeader === '' ? undefined : headerName(clusterHeader),
    choice: {
      name,
      requestEdits: compileEdits(
        message.requestHeadersToAdd,
        message.requestHeadersToRemove,
        join(path, 'request'),
        context.format,
      ),
      responseEdits: compileEdits(
        message.responseHeadersToAdd,
        message.responseHeadersToRemove,
        join(path, 'response'),
        context.format,
      ),
      hostRewrite: message.hostRewriteSpecifier.value ?? '',
      metadataMatch: metadataMatch(message.metadataMatch && metadataOf(message.metadataMatch), criteria),
      perFilter: context.perFilter(message.typedPerFilterConfig, join(path, 'typed_per_filter_config')),
    },
  };
}
