// Reads an Envoy Cluster message into checked settings. Called by the cluster manager before anything changes.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import {
  Cluster_CustomClusterTypeSchema,
  Cluster_EdsClusterConfigSchema,
  Cluster_OriginalDstLbConfigSchema,
  type Cluster as ClusterMessage,
  ClusterSchema,
  Cluster_DiscoveryType as Type,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { ClusterConfigSchema as ForwardProxySchema } from '#proto/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js';
import type { MetadataKey } from '#proto/envoy/type/metadata/v3/metadata_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import { openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import {
  DEFAULT_CLEANUP_MS,
  DEFAULT_CONNECT_TIMEOUT_MS,
  DEFAULT_MERGE_WINDOW_MS,
  DEFAULT_PANIC_THRESHOLD,
} from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { readUpstreamHttp, type UpstreamHttp } from '../upstream/http-options.ts';
import { readSource, type Source } from '../xds/source.ts';
import type { LbPolicy } from './balancer/balancer.ts';
import { type ConnectSettings, readConnect } from './connection-config.ts';
import { type DnsSettings, readDns } from './dns-config.ts';
import { type ForwardSettings, readForward } from './forward-proxy.ts';
import { type HealthCheckSettings, readHealthCheck } from './health/settings.ts';
import { readLbPolicy } from './lb-config.ts';
import type { OriginalDstSettings } from './original-dst.ts';
import { type OutlierSettings, readOutlier } from './outlier/settings.ts';

export interface CommonLb {
  /** Percent. */
  readonly panicThreshold: number;
  readonly mergeMs: number;
  readonly warmHosts: boolean;
  readonly closeOnHostChange: boolean;
}

export interface ClusterSettings {
  readonly type: 'static' | 'eds' | 'strict-dns' | 'logical-dns' | 'original-dst' | 'forward-proxy';
  readonly policy: LbPolicy;
  readonly common: CommonLb;
  readonly originalDst: OriginalDstSettings;
  /** Only of a dynamic forward proxy. */
  readonly forward: ForwardSettings | undefined;
  /** ALPN value of Istio's TCP metadata exchange; undefined = none. */
  readonly exchange: string | undefined;
  /** Connections to a host that fails its health check are closed. */
  readonly closeOnHealthFailure: boolean;
  /** A host that discovery removes goes, even if its health checks pass. */
  readonly removeAtOnce: boolean;
  /** Downstream connections do not share upstream ones. */
  readonly poolPerDownstream: boolean;
  readonly health: HealthCheckSettings | undefined;
  readonly outlier: OutlierSettings | undefined;
  readonly connectTimeoutMs: number;
  readonly http: UpstreamHttp;
  readonly connect: ConnectSettings;
  readonly dns: DnsSettings;
  /** Where endpoints come from; only for EDS. */
  readonly edsSource: Source | undefined;
  readonly edsName: string;
}

/** Types of clusters that find hosts themselves. */
const PROVIDES: Partial<Record<ClusterSettings['type'], string>> = {
  'original-dst': 'ORIGINAL_DST',
  'forward-proxy': 'envoy.clusters.dynamic_forward_proxy',
};

const SUPPORTED = [
  'name',
  'alt_stat_name',
  'type',
  'cluster_type',
  'eds_cluster_config',
  'connect_timeout',
  'lb_policy',
  'load_assignment',
  'max_requests_per_connection',
  'circuit_breakers',
  'connection_pool_per_downstream_connection',
  'http_protocol_options',
  'http2_protocol_options',
  'common_http_protocol_options',
  'upstream_http_protocol_options',
  'typed_extension_protocol_options',
  'protocol_selection',
  'dns_refresh_rate',
  'respect_dns_ttl',
  'dns_lookup_family',
  'dns_failure_refresh_rate',
  'dns_resolvers',
  'dns_resolution_config',
  'typed_dns_resolver_config',
  'wait_for_warm_on_init',
  'upstream_bind_config',
  'least_request_lb_config',
  'ring_hash_lb_config',
  'maglev_lb_config',
  'lb_subset_config',
  'load_balancing_policy',
  'health_checks',
  'outlier_detection',
  'close_connections_on_host_health_failure',
  'ignore_health_on_host_removal',
  'original_dst_lb_config',
  'round_robin_lb_config',
  'common_lb_config',
  'transport_socket',
  'transport_socket_matches',
  'metadata',
  'upstream_connection_options',
  'cleanup_interval',
  'filters',
  // Our buffers are fixed and smaller than any limit Istio sends (64 KiB a connection).
  'per_connection_buffer_limit_bytes',
];

export function readCluster(message: ClusterMessage, runtime: RuntimeView, path: string): ClusterSettings {
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  only(ClusterSchema, message, path, SUPPORTED);
  const type = typeOf(message, path);
  const http = readUpstreamHttp(message, path);
  const policy = readLbPolicy(message, PROVIDES[type] ?? '', runtime, path);
  const exchange = exchangeOf(message, path);
  const eds = message.edsClusterConfig;
  if (eds) only(Cluster_EdsClusterConfigSchema, eds, join(path, 'eds_cluster_config'), ['eds_config', 'service_name']);
  if (type === 'eds' && !eds) throw new ConfigError(join(path, 'eds_cluster_config'), 'value is required');
  return {
    type,
    policy,
    common: commonOf(message, path),
    originalDst: originalDstOf(message, path),
    forward: forwardOf(message, path),
    closeOnHealthFailure: message.closeConnectionsOnHostHealthFailure,
    removeAtOnce: message.ignoreHealthOnHostRemoval,
    poolPerDownstream: message.connectionPoolPerDownstreamConnection,
    health: healthOf(message, type, http, path),
    outlier: readOutlier(message.outlierDetection, join(path, 'outlier_detection')),
    connectTimeoutMs: millis(message.connectTimeout, DEFAULT_CONNECT_TIMEOUT_MS),
    http,
    connect: readConnect(message, path),
    dns: readDns(message, path),
    edsSource: type === 'eds' ? readSource(eds?.edsConfig, join(path, 'eds_cluster_config.eds_config')) : undefined,
    edsName: eds?.serviceName || message.name,
    exchange,
  };
}

/** Network filters of upstream connections: only Istio's exchange. Answers its ALPN value. */
function exchangeOf(message: ClusterMessage, path: string): string | undefined {
  let protocol: string | undefined;
  for (const [i, filter] of message.filters.entries()) {
    const at = join(path, `filters[${i}]`);
    const any = filter.typedConfig && openAny(filter.typedConfig, at);
    const type = any?.typeName ?? '';
    if (type !== MetadataExchangeSchema.typeName)
      throw new ConfigError(at, `upstream filter '${filter.name}' of type '${type}' is not supported by this proxy`);
    protocol = any?.open(MetadataExchangeSchema).protocol;
  }
  return protocol;
}

function typeOf(message: ClusterMessage, path: string): ClusterSettings['type'] {
  const kind = message.clusterDiscoveryType;
  if (kind.case === 'clusterType') return 'forward-proxy';
  switch (kind.case === 'type' ? kind.value : Type.STATIC) {
    case Type.STATIC:
      return 'static';
    case Type.STRICT_DNS:
      return 'strict-dns';
    case Type.LOGICAL_DNS:
      return 'logical-dns';
    case Type.EDS:
      return 'eds';
    case Type.ORIGINAL_DST:
      return 'original-dst';
    default:
      throw new ConfigError(join(path, 'type'), 'unknown discovery type');
  }
}

function healthOf(
  message: ClusterMessage,
  type: ClusterSettings['type'],
  http: UpstreamHttp,
  path: string,
): HealthCheckSettings | undefined {
  const at = join(path, 'health_checks');
  const settings = readHealthCheck(message.healthChecks, at);
  if (settings && (type === 'original-dst' || type === 'forward-proxy'))
    throw new ConfigError(at, 'health checks of this cluster type are not supported by this proxy');
  if (settings?.check.kind === 'grpc' && http.protocol !== 'http2')
    throw new ConfigError(at, `${message.name} cluster must support HTTP/2 for gRPC healthchecking`);
  return settings;
}

function forwardOf(message: ClusterMessage, path: string): ForwardSettings | undefined {
  const kind = message.clusterDiscoveryType;
  if (kind.case !== 'clusterType') return undefined;
  const at = join(path, 'cluster_type');
  only(Cluster_CustomClusterTypeSchema, kind.value, at, ['name', 'typed_config']);
  const { name, typedConfig } = kind.value;
  const any = typedConfig && openAny(typedConfig, at);
  if (any?.typeName !== ForwardProxySchema.typeName)
    throw new ConfigError(
      at,
      `Didn't find a registered cluster factory implementation for name: '${name}' (type '${any?.typeName ?? ''}')`,
    );
  return readForward(any.open(ForwardProxySchema), join(at, 'typed_config'));
}

/** common_lb_config without what lb-config.ts reads. */
function commonOf(message: ClusterMessage, path: string): CommonLb {
  const common = message.commonLbConfig;
  const threshold = common?.healthyPanicThreshold?.value ?? DEFAULT_PANIC_THRESHOLD;
  if (!(threshold >= 0 && threshold <= 100))
    throw new ConfigError(
      join(path, 'common_lb_config.healthy_panic_threshold'),
      'value must be inside range [0, 100]',
    );
  return {
    panicThreshold: Math.floor(threshold),
    mergeMs: millis(common?.updateMergeWindow, DEFAULT_MERGE_WINDOW_MS),
    warmHosts: common?.ignoreNewHostsUntilFirstHc ?? false,
    closeOnHostChange: common?.closeConnectionsOnHostSetChange ?? false,
  };
}

function originalDstOf(message: ClusterMessage, path: string): OriginalDstSettings {
  const own = message.lbConfig.case === 'originalDstLbConfig' ? message.lbConfig.value : undefined;
  const at = join(path, 'original_dst_lb_config');
  if (own)
    only(Cluster_OriginalDstLbConfigSchema, own, at, [
      'use_http_header',
      'http_header_name',
      'upstream_port_override',
      'metadata_key',
    ]);
  const port = own?.upstreamPortOverride;
  if (port !== undefined && port > 65_535)
    throw new ConfigError(join(at, 'upstream_port_override'), 'value must be less than or equal to 65535');
  return {
    header: own?.useHttpHeader ? headerName(own.httpHeaderName || 'x-envoy-original-dst-host') : undefined,
    metadata: metadataKeyOf(own?.metadataKey, join(at, 'metadata_key')),
    portOverride: port,
    cleanupMs: millis(message.cleanupInterval, DEFAULT_CLEANUP_MS),
  };
}

function metadataKeyOf(message: MetadataKey | undefined, path: string): OriginalDstSettings['metadata'] {
  if (!message) return undefined;
  if (message.key === '') throw new ConfigError(join(path, 'key'), 'value length must be at least 1 characters');
  const keys = message.path.map(({ segment }, i) => {
    if (segment.case !== 'key' || segment.value === '')
      throw new ConfigError(join(path, `path[${i}].key`), 'value is required');
    return segment.value;
  });
  if (keys.length === 0) throw new ConfigError(join(path, 'path'), 'value must contain at least 1 item(s)');
  return { filter: message.key, keys };
}

/** The `istio` metadata of a cluster: what services it stands for, for metrics. */
export interface ServiceIdentity {
  readonly host: string;
  readonly name: string;
  readonly namespace: string;
}

export function serviceOf(metadata: JsonObject | undefined): ServiceIdentity | undefined {
  const services = metadata?.services;
  const first: JsonValue | undefined = Array.isArray(services) ? services[0] : undefined;
  if (typeof first !== 'object' || first === null || Array.isArray(first)) return undefined;
  const text = (key: string) => (typeof first[key] === 'string' ? first[key] : '');
  return { host: text('host'), name: text('name'), namespace: text('namespace') };
}
