// Reads how a cluster balances load: lb_policy with its settings and lb_subset_config, or load_balancing_policy with typed
// policies. Called by config.ts.
import type { Any } from '@bufbuild/protobuf/wkt';
import {
  type Cluster_CommonLbConfig,
  Cluster_CommonLbConfig_ConsistentHashingLbConfigSchema,
  Cluster_CommonLbConfig_LocalityWeightedLbConfigSchema,
  Cluster_CommonLbConfig_ZoneAwareLbConfigSchema,
  Cluster_CommonLbConfigSchema,
  Cluster_LbSubsetConfig_LbSubsetSelectorSchema,
  Cluster_LbSubsetConfigSchema,
  Cluster_LeastRequestLbConfigSchema,
  Cluster_MaglevLbConfigSchema,
  Cluster_RingHashLbConfigSchema,
  Cluster_RoundRobinLbConfigSchema,
  type Cluster_SlowStartConfig,
  Cluster_SlowStartConfigSchema,
  type Cluster as ClusterMessage,
  Cluster_DiscoveryType as DiscoveryType,
  Cluster_RingHashLbConfig_HashFunction as LegacyHash,
  type LoadBalancingPolicy,
  LoadBalancingPolicy_PolicySchema,
  LoadBalancingPolicySchema,
  Cluster_LbPolicy as Policy,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ClusterProvidedSchema } from '#proto/envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided_pb.js';
import {
  type ConsistentHashingLbConfig,
  ConsistentHashingLbConfigSchema,
  type LocalityLbConfig,
  LocalityLbConfig_ZoneAwareLbConfigSchema,
  LocalityLbConfigSchema,
  type SlowStartConfig,
  SlowStartConfigSchema,
} from '#proto/envoy/extensions/load_balancing_policies/common/v3/common_pb.js';
import {
  LeastRequest_SelectionMethod,
  LeastRequestSchema,
} from '#proto/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js';
import { MaglevSchema } from '#proto/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js';
import { RandomSchema } from '#proto/envoy/extensions/load_balancing_policies/random/v3/random_pb.js';
import {
  RingHash_HashFunction,
  RingHashSchema,
} from '#proto/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js';
import { RoundRobinSchema } from '#proto/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js';
import {
  Subset_LbSubsetSelectorSchema,
  SubsetSchema,
} from '#proto/envoy/extensions/load_balancing_policies/subset/v3/subset_pb.js';
import { WrrLocalitySchema } from '#proto/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js';
import { type Extension, extension, openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import {
  DEFAULT_MAGLEV_TABLE,
  DEFAULT_MAX_RING,
  DEFAULT_MIN_RING,
  MAX_LB_POLICY_DEPTH,
  MAX_MAGLEV_TABLE,
  MAX_RING,
} from '../limits.ts';
import { type RuntimeView, runtimeNumber } from '../runtime/runtime.ts';
import type { Hashing, LbPolicy, LocalityLb, SlowStart } from './balancer/balancer.ts';
import { SELECTOR_FIELDS, subsetOf } from './lb-subset.ts';

const FLAT: LocalityLb = { weighted: false, failOnPanic: false };

interface Reading {
  readonly runtime: RuntimeView;
  readonly clusterName: string;
  readonly depth: number;
  /** A policy around this one wants localities to be drawn by weight. */
  readonly localityWeighted: boolean;
}

export function readLbPolicy(message: ClusterMessage, provides: string, runtime: RuntimeView, path: string): LbPolicy {
  const reading: Reading = { runtime, clusterName: message.name, depth: 0, localityWeighted: false };
  const policy = message.loadBalancingPolicy;
  const type = message.clusterDiscoveryType;
  if (
    message.commonLbConfig?.consistentHashingLbConfig?.useHostnameForHashing &&
    type.value !== DiscoveryType.STRICT_DNS
  )
    throw new ConfigError(
      join(path, 'common_lb_config.consistent_hashing_lb_config'),
      'Cannot use hostname for consistent hashing loadbalancing for a cluster of another type than STRICT_DNS',
    );
  if (policy) {
    const common = message.commonLbConfig;
    if (common?.localityConfigSpecifier.case || common?.consistentHashingLbConfig)
      throw new ConfigError(
        path,
        'cluster: load_balancing_policy cannot be combined with partial fields (zone_aware_lb_config, locality_weighted_lb_config, consistent_hashing_lb_config) of common_lb_config',
      );
    if (message.lbSubsetConfig)
      throw new ConfigError(path, 'cluster: load_balancing_policy cannot be combined with lb_subset_config');
    return checkProvided(typedPolicy(policy, reading, join(path, 'load_balancing_policy')), provides, message, path);
  }
  const base = checkProvided(legacyPolicy(message, provides, reading, path), provides, message, path);
  const subset = message.lbSubsetConfig;
  if (!subset || subset.subsetSelectors.length === 0) return base;
  if (provides !== '')
    throw new ConfigError(path, `cluster: cluster type '${provides}' may not be used with lb_subset_config`);
  const at = join(path, 'lb_subset_config');
  only(Cluster_LbSubsetConfigSchema, subset, at, [
    'fallback_policy',
    'default_subset',
    'subset_selectors',
    'locality_weight_aware',
    'scale_locality_weight',
    'panic_mode_any',
    'list_as_any',
    'metadata_fallback_policy',
  ]);
  for (const [i, selector] of subset.subsetSelectors.entries())
    only(Cluster_LbSubsetConfig_LbSubsetSelectorSchema, selector, join(at, `subset_selectors[${i}]`), SELECTOR_FIELDS);
  return { ...subsetOf(subset, at), allowRedundantKeys: false, child: base };
}

function checkProvided(policy: LbPolicy, provides: string, message: ClusterMessage, path: string): LbPolicy {
  if (provides !== '' && policy.kind !== 'cluster-provided')
    throw new ConfigError(
      join(path, 'lb_policy'),
      provides === 'ORIGINAL_DST'
        ? `cluster: LB policy ${Policy[message.lbPolicy]} is not valid for Cluster type ${provides}. Only 'CLUSTER_PROVIDED' is allowed with cluster type '${provides}'`
        : `cluster manager: cluster provided LB not specified but cluster '${message.name}' provided one. Check cluster documentation.`,
    );
  if (provides === '' && policy.kind === 'cluster-provided')
    throw new ConfigError(
      join(path, 'lb_policy'),
      `cluster manager: cluster provided LB specified but cluster '${message.name}' did not provide one. Check cluster documentation.`,
    );
  return policy;
}

// --- lb_policy

function legacyPolicy(message: ClusterMessage, provides: string, reading: Reading, path: string): LbPolicy {
  const { lbConfig } = message;
  const { runtime } = reading;
  const locality = legacyLocality(message.commonLbConfig, join(path, 'common_lb_config'));
  const hashing = legacyHashing(message.commonLbConfig, locality.weighted, join(path, 'common_lb_config'));
  switch (message.lbPolicy) {
    case Policy.ROUND_ROBIN: {
      const own = lbConfig.case === 'roundRobinLbConfig' ? lbConfig.value : undefined;
      const at = join(path, 'round_robin_lb_config');
      if (own) only(Cluster_RoundRobinLbConfigSchema, own, at, ['slow_start_config']);
      return { kind: 'round-robin', slowStart: slowStartOf(own?.slowStartConfig, runtime, at), locality };
    }
    case Policy.LEAST_REQUEST: {
      const own = lbConfig.case === 'leastRequestLbConfig' ? lbConfig.value : undefined;
      const at = join(path, 'least_request_lb_config');
      if (own)
        only(Cluster_LeastRequestLbConfigSchema, own, at, ['choice_count', 'active_request_bias', 'slow_start_config']);
      return {
        kind: 'least-request',
        choices: choicesOf(own?.choiceCount, at),
        fullScan: false,
        bias: runtimeNumber(runtime, own?.activeRequestBias, 1),
        slowStart: slowStartOf(own?.slowStartConfig, runtime, at),
        locality,
      };
    }
    case Policy.RANDOM:
      return { kind: 'random', locality };
    case Policy.RING_HASH: {
      const own = lbConfig.case === 'ringHashLbConfig' ? lbConfig.value : undefined;
      const at = join(path, 'ring_hash_lb_config');
      if (own)
        only(Cluster_RingHashLbConfigSchema, own, at, ['minimum_ring_size', 'maximum_ring_size', 'hash_function']);
      const murmur = own?.hashFunction === LegacyHash.MURMUR_HASH_2;
      return { kind: 'ring-hash', ...ringSizes(own, at), murmur, hashing };
    }
    case Policy.MAGLEV: {
      const own = lbConfig.case === 'maglevLbConfig' ? lbConfig.value : undefined;
      const at = join(path, 'maglev_lb_config');
      if (own) only(Cluster_MaglevLbConfigSchema, own, at, ['table_size']);
      return { kind: 'maglev', tableSize: tableSize(own?.tableSize, at), hashing };
    }
    case Policy.CLUSTER_PROVIDED:
      return { kind: 'cluster-provided' };
    case Policy.LOAD_BALANCING_POLICY_CONFIG:
      throw new ConfigError(join(path, 'lb_policy'), 'cluster: field load_balancing_policy need to be set');
    default:
      if (provides !== '') return { kind: 'cluster-provided' };
      throw new ConfigError(join(path, 'lb_policy'), `unknown load balancing policy ${message.lbPolicy}`);
  }
}

function legacyLocality(common: Cluster_CommonLbConfig | undefined, path: string): LocalityLb {
  if (!common) return FLAT;
  only(Cluster_CommonLbConfigSchema, common, path, [
    'healthy_panic_threshold',
    'zone_aware_lb_config',
    'locality_weighted_lb_config',
    'update_merge_window',
    'ignore_new_hosts_until_first_hc',
    'close_connections_on_host_set_change',
    'consistent_hashing_lb_config',
    'override_host_status',
  ]);
  const kind = common.localityConfigSpecifier;
  if (kind.case === 'localityWeightedLbConfig') {
    only(
      Cluster_CommonLbConfig_LocalityWeightedLbConfigSchema,
      kind.value,
      join(path, 'locality_weighted_lb_config'),
      [],
    );
    return { weighted: true, failOnPanic: false };
  }
  if (kind.case !== 'zoneAwareLbConfig') return FLAT;
  only(Cluster_CommonLbConfig_ZoneAwareLbConfigSchema, kind.value, join(path, 'zone_aware_lb_config'), ZONE_FIELDS);
  return { weighted: false, failOnPanic: kind.value.failTrafficOnPanic };
}

/** Zone aware routing needs a local cluster, which this proxy refuses: without one Envoy does nothing with the first two either. */
const ZONE_FIELDS = ['routing_enabled', 'min_cluster_size', 'fail_traffic_on_panic'];

function legacyHashing(common: Cluster_CommonLbConfig | undefined, localityWeighted: boolean, path: string): Hashing {
  const own = common?.consistentHashingLbConfig;
  const at = join(path, 'consistent_hashing_lb_config');
  if (own)
    only(Cluster_CommonLbConfig_ConsistentHashingLbConfigSchema, own, at, [
      'use_hostname_for_hashing',
      'hash_balance_factor',
    ]);
  return {
    useHostname: own?.useHostnameForHashing ?? false,
    balanceFactor: balanceFactor(own?.hashBalanceFactor, at),
    localityWeighted,
  };
}

// --- pieces both forms have

function slowStartOf(
  message: Cluster_SlowStartConfig | SlowStartConfig | undefined,
  runtime: RuntimeView,
  path: string,
): SlowStart | undefined {
  if (!message) return undefined;
  const at = join(path, 'slow_start_config');
  const fields = ['slow_start_window', 'aggression', 'min_weight_percent'];
  if (message.$typeName === Cluster_SlowStartConfigSchema.typeName)
    only(Cluster_SlowStartConfigSchema, message as Cluster_SlowStartConfig, at, fields);
  else only(SlowStartConfigSchema, message as SlowStartConfig, at, fields);
  const windowMs = millis(message.slowStartWindow, 0);
  if (windowMs <= 0) return undefined;
  return {
    windowMs,
    aggression: runtimeNumber(runtime, message.aggression, 1),
    minWeight: (message.minWeightPercent?.value ?? 10) / 100,
  };
}

function choicesOf(count: number | undefined, path: string): number {
  if (count !== undefined && count < 2)
    throw new ConfigError(join(path, 'choice_count'), 'value must be greater than or equal to 2');
  return count ?? 2;
}

function ringSizes(
  own: { readonly minimumRingSize?: bigint; readonly maximumRingSize?: bigint } | undefined,
  path: string,
): { minSize: number; maxSize: number } {
  const minSize = Number(own?.minimumRingSize ?? BigInt(DEFAULT_MIN_RING));
  const maxSize = Number(own?.maximumRingSize ?? BigInt(DEFAULT_MAX_RING));
  for (const [name, size] of [
    ['minimum_ring_size', minSize],
    ['maximum_ring_size', maxSize],
  ] as const)
    if (size > MAX_RING) throw new ConfigError(join(path, name), `value must be less than or equal to ${MAX_RING}`);
  if (minSize > maxSize)
    throw new ConfigError(path, `ring hash: minimum_ring_size (${minSize}) > maximum_ring_size (${maxSize})`);
  return { minSize: Math.max(1, minSize), maxSize: Math.max(1, maxSize) };
}

function tableSize(given: bigint | undefined, path: string): number {
  const size = Number(given ?? BigInt(DEFAULT_MAGLEV_TABLE));
  if (size > MAX_MAGLEV_TABLE)
    throw new ConfigError(join(path, 'table_size'), `value must be less than or equal to ${MAX_MAGLEV_TABLE}`);
  let prime = size >= 2;
  for (let i = 2; prime && i * i <= size; i++) if (size % i === 0) prime = false;
  if (!prime) throw new ConfigError(join(path, 'table_size'), 'The table size of maglev must be prime number');
  return size;
}

function balanceFactor(factor: number | undefined, path: string): number {
  if (factor !== undefined && factor < 100)
    throw new ConfigError(join(path, 'hash_balance_factor'), 'value must be greater than or equal to 100');
  return factor ?? 0;
}

// --- load_balancing_policy

const TYPED: readonly Extension<Reading, LbPolicy>[] = [
  extension(RoundRobinSchema, (message, reading, path) => {
    only(RoundRobinSchema, message, path, ['slow_start_config', 'locality_lb_config']);
    return {
      kind: 'round-robin',
      slowStart: slowStartOf(message.slowStartConfig, reading.runtime, path),
      locality: typedLocality(message.localityLbConfig, reading, path),
    };
  }),
  extension(LeastRequestSchema, (message, reading, path) => {
    only(LeastRequestSchema, message, path, [
      'choice_count',
      'active_request_bias',
      'slow_start_config',
      'locality_lb_config',
      'enable_full_scan',
      'selection_method',
    ]);
    return {
      kind: 'least-request',
      choices: choicesOf(message.choiceCount, path),
      fullScan: (message.enableFullScan ?? false) || message.selectionMethod === LeastRequest_SelectionMethod.FULL_SCAN,
      bias: runtimeNumber(reading.runtime, message.activeRequestBias, 1),
      slowStart: slowStartOf(message.slowStartConfig, reading.runtime, path),
      locality: typedLocality(message.localityLbConfig, reading, path),
    };
  }),
  extension(RandomSchema, (message, reading, path) => {
    only(RandomSchema, message, path, ['locality_lb_config']);
    return { kind: 'random', locality: typedLocality(message.localityLbConfig, reading, path) };
  }),
  extension(RingHashSchema, (message, reading, path) => {
    only(RingHashSchema, message, path, [
      'hash_function',
      'minimum_ring_size',
      'maximum_ring_size',
      'use_hostname_for_hashing',
      'hash_balance_factor',
      'consistent_hashing_lb_config',
      'locality_weighted_lb_config',
    ]);
    return {
      kind: 'ring-hash',
      ...ringSizes(message, path),
      murmur: message.hashFunction === RingHash_HashFunction.MURMUR_HASH_2,
      hashing: typedHashing(
        message.consistentHashingLbConfig,
        message.localityWeightedLbConfig !== undefined,
        reading,
        path,
        {
          useHostname: message.useHostnameForHashing,
          balanceFactor: balanceFactor(message.hashBalanceFactor, path),
        },
      ),
    };
  }),
  extension(MaglevSchema, (message, reading, path) => {
    only(MaglevSchema, message, path, ['table_size', 'consistent_hashing_lb_config', 'locality_weighted_lb_config']);
    const weighted = message.localityWeightedLbConfig !== undefined;
    return {
      kind: 'maglev',
      tableSize: tableSize(message.tableSize, path),
      hashing: typedHashing(message.consistentHashingLbConfig, weighted, reading, path),
    };
  }),
  extension(ClusterProvidedSchema, () => ({ kind: 'cluster-provided' })),
  extension(WrrLocalitySchema, (message, reading, path) => {
    only(WrrLocalitySchema, message, path, ['endpoint_picking_policy']);
    if (!message.endpointPickingPolicy)
      throw new ConfigError(join(path, 'endpoint_picking_policy'), 'value is required');
    return typedPolicy(
      message.endpointPickingPolicy,
      { ...reading, localityWeighted: true },
      join(path, 'endpoint_picking_policy'),
    );
  }),
  extension(SubsetSchema, (message, reading, path) => {
    only(SubsetSchema, message, path, [
      'fallback_policy',
      'default_subset',
      'subset_selectors',
      'allow_redundant_keys',
      'locality_weight_aware',
      'scale_locality_weight',
      'panic_mode_any',
      'list_as_any',
      'metadata_fallback_policy',
      'subset_lb_policy',
    ]);
    for (const [i, selector] of message.subsetSelectors.entries())
      only(Subset_LbSubsetSelectorSchema, selector, join(path, `subset_selectors[${i}]`), SELECTOR_FIELDS);
    if (!message.subsetLbPolicy) throw new ConfigError(join(path, 'subset_lb_policy'), 'value is required');
    const child = typedPolicy(message.subsetLbPolicy, reading, join(path, 'subset_lb_policy'));
    if (child.kind === 'subset')
      throw new ConfigError(join(path, 'subset_lb_policy'), 'a subset policy inside another is not supported');
    return { ...subsetOf(message, path), allowRedundantKeys: message.allowRedundantKeys, child };
  }),
];

/** The first policy of the list that is known. */
function typedPolicy(message: LoadBalancingPolicy, outer: Reading, path: string): LbPolicy {
  only(LoadBalancingPolicySchema, message, path, ['policies']);
  if (outer.depth >= MAX_LB_POLICY_DEPTH) throw new ConfigError(path, 'load balancing policies are nested too deeply');
  const reading = { ...outer, depth: outer.depth + 1 };
  const names: string[] = [];
  for (const [i, policy] of message.policies.entries()) {
    const at = join(path, `policies[${i}]`);
    only(LoadBalancingPolicy_PolicySchema, policy, at, ['typed_extension_config']);
    const typed = policy.typedExtensionConfig;
    if (!typed) throw new ConfigError(join(at, 'typed_extension_config'), 'value is required');
    only(TypedExtensionConfigSchema, typed, join(at, 'typed_extension_config'), ['name', 'typed_config']);
    names.push(typed.name);
    const inner = join(at, 'typed_extension_config.typed_config');
    const built = buildTyped(typed.typedConfig, reading, inner);
    if (built) return built;
  }
  throw new ConfigError(
    path,
    `cluster: didn't find a registered load balancer factory implementation for cluster: '${outer.clusterName}' with names from [${names.join(', ')}]`,
  );
}

function buildTyped(any: Any | undefined, reading: Reading, path: string): LbPolicy | undefined {
  if (!any) return undefined;
  const opened = openAny(any, path);
  return TYPED.find((entry) => entry.typeName === opened.typeName)?.build(opened, reading, path);
}

function typedLocality(message: LocalityLbConfig | undefined, reading: Reading, path: string): LocalityLb {
  if (!message) return reading.localityWeighted ? { weighted: true, failOnPanic: false } : FLAT;
  const at = join(path, 'locality_lb_config');
  only(LocalityLbConfigSchema, message, at, ['zone_aware_lb_config', 'locality_weighted_lb_config']);
  const kind = message.localityConfigSpecifier;
  if (kind.case === 'localityWeightedLbConfig') return { weighted: true, failOnPanic: false };
  if (kind.case !== 'zoneAwareLbConfig') return FLAT;
  only(LocalityLbConfig_ZoneAwareLbConfigSchema, kind.value, join(at, 'zone_aware_lb_config'), ZONE_FIELDS);
  return { weighted: false, failOnPanic: kind.value.failTrafficOnPanic };
}

function typedHashing(
  message: ConsistentHashingLbConfig | undefined,
  weighted: boolean,
  reading: Reading,
  path: string,
  older = { useHostname: false, balanceFactor: 0 },
): Hashing {
  const localityWeighted = weighted || reading.localityWeighted;
  if (!message) return { ...older, localityWeighted };
  const at = join(path, 'consistent_hashing_lb_config');
  only(ConsistentHashingLbConfigSchema, message, at, ['use_hostname_for_hashing', 'hash_balance_factor']);
  return {
    useHostname: message.useHostnameForHashing,
    balanceFactor: balanceFactor(message.hashBalanceFactor, at),
    localityWeighted,
  };
}
