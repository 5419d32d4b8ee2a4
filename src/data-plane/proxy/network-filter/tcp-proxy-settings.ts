// Reads a TcpProxy message: which cluster, how long, what is logged when. Called by registry.ts.
import {
  type TcpProxy,
  TcpProxy_TcpAccessLogOptionsSchema,
  TcpProxy_WeightedCluster_ClusterWeightSchema,
  TcpProxy_WeightedClusterSchema,
  TcpProxySchema,
} from '#proto/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js';
import { type HashPolicy, HashPolicySchema } from '#proto/envoy/type/v3/hash_policy_pb.js';
import { metadataOf } from '../cluster/endpoints.ts';
import { type Hash64, xxHash64 } from '../cluster/hash64.ts';
import { type MetadataMatch, metadataMatch } from '../cluster/lb-context.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';
import { DEFAULT_TCP_IDLE_MS } from '../limits.ts';

export interface TcpClusterChoice {
  readonly name: string;
  readonly metadataMatch: MetadataMatch | undefined;
}

export interface TcpProxySettings {
  readonly statPrefix: string;
  readonly choose: (random: () => number) => TcpClusterChoice;
  /** Criteria for a cluster that something else (sni_cluster) chose. */
  readonly metadataMatch: MetadataMatch | undefined;
  readonly idleMs: number;
  readonly maxAttempts: number;
  readonly maxDurationMs: number;
  readonly hash: ((info: ConnectionInfo) => Hash64 | undefined) | undefined;
  /** ms between lines of one connection; 0 = only at its end. */
  readonly logIntervalMs: number;
  readonly logOnConnected: boolean;
}

const FIELDS = [
  'stat_prefix',
  'cluster',
  'weighted_clusters',
  'metadata_match',
  'idle_timeout',
  'access_log',
  'max_connect_attempts',
  'max_downstream_connection_duration',
  'hash_policy',
  'access_log_flush_interval',
  'flush_access_log_on_connected',
  'access_log_options',
];

export function readTcpProxy(message: TcpProxy, path: string): TcpProxySettings {
  only(TcpProxySchema, message, path, FIELDS);
  if (message.statPrefix === '')
    throw new ConfigError(join(path, 'stat_prefix'), 'value length must be at least 1 characters');
  const criteria = message.metadataMatch && metadataMatch(metadataOf(message.metadataMatch));
  const options = message.accessLogOptions;
  if (options)
    only(TcpProxy_TcpAccessLogOptionsSchema, options, join(path, 'access_log_options'), [
      'access_log_flush_interval',
      'flush_access_log_on_connected',
    ]);
  return {
    statPrefix: message.statPrefix,
    choose: chooser(message, criteria, path),
    metadataMatch: criteria,
    idleMs: millis(message.idleTimeout, DEFAULT_TCP_IDLE_MS),
    maxAttempts: message.maxConnectAttempts ?? 1,
    maxDurationMs: millis(message.maxDownstreamConnectionDuration, 0),
    hash: hashOf(message.hashPolicy, path),
    logIntervalMs: millis(options?.accessLogFlushInterval ?? message.accessLogFlushInterval, 0),
    logOnConnected: options?.flushAccessLogOnConnected ?? message.flushAccessLogOnConnected,
  };
}

function chooser(message: TcpProxy, criteria: MetadataMatch | undefined, path: string): TcpProxySettings['choose'] {
  const spec = message.clusterSpecifier;
  if (spec.case === undefined) throw new ConfigError(join(path, 'cluster_specifier'), 'value is required');
  if (spec.case === 'cluster') {
    const choice = { name: spec.value, metadataMatch: criteria };
    return () => choice;
  }
  const at = join(path, 'weighted_clusters');
  only(TcpProxy_WeightedClusterSchema, spec.value, at, ['clusters']);
  const entries = spec.value.clusters.map((entry, i) => {
    const here = join(at, `clusters[${i}]`);
    only(TcpProxy_WeightedCluster_ClusterWeightSchema, entry, here, ['name', 'weight', 'metadata_match']);
    if (entry.weight < 1) throw new ConfigError(join(here, 'weight'), 'value must be greater than or equal to 1');
    const own = entry.metadataMatch && metadataOf(entry.metadataMatch);
    return { weight: entry.weight, choice: { name: entry.name, metadataMatch: metadataMatch(own, criteria) } };
  });
  if (entries.length === 0) throw new ConfigError(join(at, 'clusters'), 'value must contain at least 1 item(s)');
  const total = entries.reduce((sum, entry) => sum + entry.weight, 0);
  return (random) => {
    let left = random() * total;
    for (const entry of entries) {
      left -= entry.weight;
      if (left < 0) return entry.choice;
    }
    return entries.at(-1)!.choice;
  };
}

function hashOf(policies: readonly HashPolicy[], path: string): TcpProxySettings['hash'] {
  const [policy, ...more] = policies;
  if (!policy) return undefined;
  if (more.length > 0) throw new ConfigError(join(path, 'hash_policy'), 'value must contain no more than 1 item(s)');
  const at = join(path, 'hash_policy[0]');
  only(HashPolicySchema, policy, at, ['source_ip', 'filter_state']);
  const spec = policy.policySpecifier;
  if (spec.case === 'sourceIp')
    return ({ remote }) => (remote.kind === 'ip' ? xxHash64(Buffer.from(remote.ip)) : undefined);
  if (spec.case !== 'filterState') throw new ConfigError(join(at, 'policy_specifier'), 'value is required');
  const { key } = spec.value;
  if (key === '') throw new ConfigError(join(at, 'filter_state.key'), 'value length must be at least 1 characters');
  return ({ state }) => {
    const value = state.get(key);
    return typeof value === 'string' ? xxHash64(Buffer.from(value)) : undefined;
  };
}
