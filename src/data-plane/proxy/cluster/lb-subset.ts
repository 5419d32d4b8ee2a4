// Reads subset load balancing, from lb_subset_config or the typed policy. Called by lb-config.ts.
import type { JsonObject } from '@bufbuild/protobuf';
import type { Cluster_LbSubsetConfig } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { ConfigError, join } from '../config/fields.ts';
import type { SubsetPolicy, SubsetSelector } from './balancer/balancer.ts';
import { valueText } from './lb-context.ts';

export const SELECTOR_FIELDS = ['keys', 'single_host_per_subset', 'fallback_policy', 'fallback_keys_subset'];

/** The two messages have the same fields and numbers. */
type SubsetLike = Pick<
  Cluster_LbSubsetConfig,
  'defaultSubset' | 'localityWeightAware' | 'scaleLocalityWeight' | 'panicModeAny' | 'listAsAny'
> & {
  readonly fallbackPolicy: number;
  readonly metadataFallbackPolicy: number;
  readonly subsetSelectors: readonly {
    readonly keys: readonly string[];
    readonly singleHostPerSubset: boolean;
    readonly fallbackPolicy: number;
    readonly fallbackKeysSubset: readonly string[];
  }[];
};

const FALLBACK = ['none', 'any', 'default'] as const;
const SELECTOR_FALLBACK = ['not-defined', 'none', 'any', 'default', 'keys'] as const;

export function subsetOf(message: SubsetLike, path: string): Omit<SubsetPolicy, 'child' | 'allowRedundantKeys'> {
  const fallback = FALLBACK[message.fallbackPolicy];
  if (!fallback) throw new ConfigError(join(path, 'fallback_policy'), 'value is not known');
  return {
    kind: 'subset',
    fallback,
    defaultSubset: new Map(
      Object.entries((message.defaultSubset ?? {}) as JsonObject).map(([k, v]) => [k, valueText(v)]),
    ),
    selectors: message.subsetSelectors.map((selector, i) => selectorOf(selector, join(path, `subset_selectors[${i}]`))),
    localityWeightAware: message.localityWeightAware,
    scaleLocalityWeight: message.scaleLocalityWeight,
    panicModeAny: message.panicModeAny,
    listAsAny: message.listAsAny,
    fallbackList: message.metadataFallbackPolicy === 1,
  };
}

function selectorOf(message: SubsetLike['subsetSelectors'][number], path: string): SubsetSelector {
  const keys = [...new Set(message.keys)].sort();
  const fallback = SELECTOR_FALLBACK[message.fallbackPolicy];
  if (!fallback) throw new ConfigError(join(path, 'fallback_policy'), 'value is not known');
  const single = message.singleHostPerSubset;
  const fallbackKeys = message.fallbackKeysSubset;
  if (fallback === 'keys') {
    if (fallbackKeys.length === 0)
      throw new ConfigError(join(path, 'fallback_keys_subset'), 'fallback_keys_subset cannot be empty');
    if (!fallbackKeys.every((key) => keys.includes(key)))
      throw new ConfigError(
        join(path, 'fallback_keys_subset'),
        'fallback_keys_subset must be a subset of selector keys',
      );
    if (new Set(fallbackKeys).size === keys.length)
      throw new ConfigError(join(path, 'fallback_keys_subset'), 'fallback_keys_subset cannot be equal to keys');
  } else if (fallbackKeys.length > 0)
    throw new ConfigError(
      join(path, 'fallback_keys_subset'),
      'fallback_keys_subset can be set only for KEYS_SUBSET fallback_policy',
    );
  return { keys, single, fallback, fallbackKeys };
}
