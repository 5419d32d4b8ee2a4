// Loads the bootstrap: file and --config-yaml merged as Envoy merges them, checked, unsupported parts refused by name.
import { createRegistry, fromBinary, fromJson, type JsonObject, type JsonValue } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { StructSchema } from '@bufbuild/protobuf/wkt';
import {
  AdminSchema,
  type Bootstrap,
  Bootstrap_DynamicResourcesSchema,
  Bootstrap_StaticResourcesSchema,
  BootstrapSchema,
  ClusterManager_OutlierDetectionSchema,
  ClusterManagerSchema,
} from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { ListenerManagerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { StatsConfigSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { ScaleTimersOverloadActionConfigSchema } from '#proto/envoy/config/overload/v3/overload_pb.js';
import { FileAccessLogSchema } from '#proto/envoy/extensions/access_loggers/file/v3/file_pb.js';
import {
  StderrAccessLogSchema,
  StdoutAccessLogSchema,
} from '#proto/envoy/extensions/access_loggers/stream/v3/stream_pb.js';
import { CorsPolicySchema, CorsSchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { FilterConfigSchema as GrpcStatsSchema } from '#proto/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js';
import { RouterSchema } from '#proto/envoy/extensions/filters/http/router/v3/router_pb.js';
import { HttpInspectorSchema } from '#proto/envoy/extensions/filters/listener/http_inspector/v3/http_inspector_pb.js';
import { OriginalDstSchema } from '#proto/envoy/extensions/filters/listener/original_dst/v3/original_dst_pb.js';
import { TlsInspectorSchema } from '#proto/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js';
import { HttpConnectionManagerSchema } from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { TcpProxySchema } from '#proto/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js';
import { CustomHeaderConfigSchema } from '#proto/envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header_pb.js';
import { XffConfigSchema } from '#proto/envoy/extensions/http/original_ip_detection/xff/v3/xff_pb.js';
import { GetAddrInfoDnsResolverConfigSchema } from '#proto/envoy/extensions/network/dns_resolver/getaddrinfo/v3/getaddrinfo_dns_resolver_pb.js';
import { GoogleRE2Schema } from '#proto/envoy/extensions/regex_engines/v3/google_re2_pb.js';
import { UuidRequestIdConfigSchema } from '#proto/envoy/extensions/request_id/uuid/v3/uuid_pb.js';
import { CgroupMemoryConfigSchema } from '#proto/envoy/extensions/resource_monitors/cgroup_memory/v3/cgroup_memory_pb.js';
import { DownstreamConnectionsConfigSchema } from '#proto/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.js';
import { FixedHeapConfigSchema } from '#proto/envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap_pb.js';
import { PreviousHostsPredicateSchema } from '#proto/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js';
import { RawBufferSchema } from '#proto/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { HttpProtocolOptionsSchema } from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import { FilterConfigSchema as AlpnSchema } from '#proto/istio/filters_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import { ConfigSchema as PeerMetadataSchema } from '#proto/istio/peer_metadata_pb.js';
import { PluginConfigSchema } from '#proto/istio/stats_pb.js';
import { TypedStructSchema as UdpaTypedStructSchema } from '#proto/udpa/type/v1/typed_struct_pb.js';
import { TypedStructSchema } from '#proto/xds/type/v3/typed_struct_pb.js';
import { checkConstraints } from '../../../base/envoy-api/constraints.ts';
import { errorText } from '../../../base/runtime/log.ts';
import { typeNameOf } from './any.ts';
import { CLUSTER_TYPES } from './cluster-types.ts';
import { explain, type Mistake } from './explain.ts';
import { ConfigError, only } from './fields.ts';
import { FILTER_TYPES } from './filter-types.ts';
import { mergeFrom } from './merge.ts';
import { ROUTE_TYPES } from './route-types.ts';
import { dropUnknown } from './unknown.ts';

/** Every message that may stand inside an Any of a JSON or YAML configuration. */
export const extensionRegistry = createRegistry(
  ...FILTER_TYPES,
  ...CLUSTER_TYPES,
  StructSchema,
  FileAccessLogSchema,
  StdoutAccessLogSchema,
  StderrAccessLogSchema,
  CorsSchema,
  CorsPolicySchema,
  HTTPFaultSchema,
  GrpcStatsSchema,
  RouterSchema,
  HttpInspectorSchema,
  OriginalDstSchema,
  TlsInspectorSchema,
  HttpConnectionManagerSchema,
  TcpProxySchema,
  UuidRequestIdConfigSchema,
  CustomHeaderConfigSchema,
  XffConfigSchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
  PreviousHostsPredicateSchema,
  ...ROUTE_TYPES,
  GoogleRE2Schema,
  GetAddrInfoDnsResolverConfigSchema,
  ListenerManagerSchema,
  DownstreamConnectionsConfigSchema,
  FixedHeapConfigSchema,
  CgroupMemoryConfigSchema,
  ScaleTimersOverloadActionConfigSchema,
  AlpnSchema,
  MetadataExchangeSchema,
  PeerMetadataSchema,
  PluginConfigSchema,
  TypedStructSchema,
  UdpaTypedStructSchema,
);

export interface BootstrapSource {
  /** Shown in errors. */
  readonly name: string;
  readonly text: string;
  readonly kind: 'json' | 'yaml' | 'pb' | 'pb_text';
  /** Of a binary bootstrap. */
  readonly bytes?: Uint8Array;
}

export interface LoadOptions {
  /** Parses YAML; injected because the parser is only needed for YAML. */
  readonly parseYaml: (text: string) => JsonValue;
  /** Parses the text format of protobuf; injected for the same reason. */
  readonly parseTextProto?: typeof import('./text-proto.ts').parseTextProto;
  readonly allowUnknownFields: boolean;
  /** Told about fields that `allowUnknownFields` skips. */
  readonly onUnknownField?: (text: string) => void;
}

/** Merges the sources in order (protobuf MergeFrom) and checks the result. */
export function loadBootstrap(sources: readonly BootstrapSource[], options: LoadOptions): Bootstrap {
  let merged: ReflectMessage | undefined;
  for (const source of sources) {
    const next = reflect(BootstrapSchema, parseNamed(source, options));
    if (merged) mergeFrom(merged, next);
    else merged = next;
  }
  if (!merged) throw new ConfigError('', 'At least one of --config-path or --config-yaml is required');
  const bootstrap = merged.message as Bootstrap;
  checkConstraints(BootstrapSchema, bootstrap, '');
  checkBootstrap(bootstrap);
  return bootstrap;
}

/** A mistake inside one of the sources, before they are merged. */
export class SourceError extends ConfigError {
  readonly source: string;
  constructor(source: string, error: ConfigError) {
    super(error.path, '', error.at);
    this.message = error.message;
    this.source = source;
  }
}

function parseNamed(source: BootstrapSource, options: LoadOptions): Bootstrap {
  try {
    return parseSource(source, options);
  } catch (error) {
    throw error instanceof ConfigError ? new SourceError(source.name, error) : error;
  }
}

function parseSource(source: BootstrapSource, options: LoadOptions): Bootstrap {
  switch (source.kind) {
    case 'pb':
      return parseBinary(source, options);
    case 'pb_text':
      return parseText(source, options);
    default:
      return parseJson(source, options);
  }
}

function parseBinary(source: BootstrapSource, options: LoadOptions): Bootstrap {
  let message: Bootstrap;
  try {
    message = fromBinary(BootstrapSchema, source.bytes ?? new Uint8Array());
  } catch (error) {
    throw new ConfigError(
      '',
      `Unable to parse file "${source.name}" as a binary protobuf (type ${BootstrapSchema.typeName}): ${errorText(error)}`,
    );
  }
  dropUnknown(BootstrapSchema, message, extensionRegistry, (path, numbers) => {
    const text = `Protobuf message (type ${BootstrapSchema.typeName} @ ${path || '(root)'} with unknown field set {${numbers.join(', ')}}) has unknown fields`;
    if (!options.allowUnknownFields) throw new ConfigError('', text);
    options.onUnknownField?.(text);
  });
  return message;
}

function parseText(source: BootstrapSource, options: LoadOptions): Bootstrap {
  try {
    if (!options.parseTextProto) throw new Error('the text format is not read here');
    return options.parseTextProto(BootstrapSchema, source.text, extensionRegistry);
  } catch (error) {
    throw new ConfigError(
      '',
      `Unable to parse file "${source.name}" as a text protobuf (type ${BootstrapSchema.typeName}): ${errorText(error)}`,
    );
  }
}

function parseJson(source: BootstrapSource, options: LoadOptions): Bootstrap {
  let json: JsonValue;
  try {
    json = source.kind === 'json' ? (JSON.parse(source.text) as JsonValue) : options.parseYaml(source.text);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    // The text of the error would quote the file, which may hold keys.
    const reason = errorText(error).replace(/, (?:\.\.\.)?".*$/s, '');
    throw new ConfigError(
      '',
      source.kind === 'json'
        ? `Unable to parse JSON as proto (INVALID_ARGUMENT: ${reason})${/\.json$/i.test(source.name) ? '' : '; by its name it is JSON: YAML ends in .yaml or .yml'}`
        : `Unable to parse YAML: ${reason}`,
    );
  }
  const read = (ignoreUnknownFields: boolean): Bootstrap =>
    fromJson(BootstrapSchema, json, { registry: extensionRegistry, ignoreUnknownFields });
  try {
    return read(false);
  } catch (error) {
    // The library does not say where the mistake is.
    const mistake = explain(BootstrapSchema, json, extensionRegistry);
    if (mistake?.kind !== 'unknown') throw unreadable(mistake, error);
    const text = `Protobuf message (type ${BootstrapSchema.typeName} reason INVALID_ARGUMENT: ${located(mistake)}) has unknown fields${mistake.hint ?? ''}`;
    if (!options.allowUnknownFields) throw new ConfigError('', text, mistake.at ?? mistake.path);
    options.onUnknownField?.(text);
  }
  try {
    return read(true);
  } catch (error) {
    throw unreadable(explain(BootstrapSchema, json, extensionRegistry, true), error);
  }
}

function unreadable(mistake: Mistake | undefined, error: unknown): ConfigError {
  return new ConfigError(
    '',
    `Unable to parse JSON as proto (INVALID_ARGUMENT: ${mistake ? located(mistake) : errorText(error)})${mistake?.hint ?? ''}`,
    mistake?.at ?? mistake?.path,
  );
}

function located(mistake: Mistake): string {
  const where = mistake.path === '' ? '' : ` @ ${mistake.path}`;
  return `invalid JSON in ${BootstrapSchema.typeName}${where}: ${mistake.type === '' ? '' : `${mistake.type}: `}${mistake.reason}`;
}

/** Fields with an effect here. What is not listed is refused by name. */
const BOOTSTRAP_FIELDS = [
  'node',
  'static_resources',
  'dynamic_resources',
  'admin',
  'stats_config',
  'layered_runtime',
  'overload_manager',
  'watchdogs',
  'application_log_config',
  'stats_server_version_override',
  // How often histograms start a new interval; there are no sinks.
  'stats_flush_interval',
  'stats_flush_on_admin',
  // Only say when memory is taken: stats and clusters are the same for who looks.
  'deferred_stat_options',
  'cluster_manager',
  // Checked below: only values that ask for what is done anyhow.
  'header_prefix',
  'typed_dns_resolver_config',
  'default_regex_engine',
  'listener_manager',
  'bootstrap_extensions',
];

/** Extensions that ask for what this proxy does by itself. */
const OWN_WAYS: Readonly<Record<string, string>> = {
  typedDnsResolverConfig: 'envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig',
  defaultRegexEngine: 'envoy.extensions.regex_engines.v3.GoogleRE2',
  listenerManager: 'envoy.config.listener.v3.ListenerManager',
};

function checkBootstrap(bootstrap: Bootstrap): void {
  only(BootstrapSchema, bootstrap, '', BOOTSTRAP_FIELDS);
  if (bootstrap.staticResources)
    only(Bootstrap_StaticResourcesSchema, bootstrap.staticResources, 'static_resources', [
      'listeners',
      'clusters',
      'secrets',
    ]);
  if (bootstrap.dynamicResources)
    only(Bootstrap_DynamicResourcesSchema, bootstrap.dynamicResources, 'dynamic_resources', [
      'lds_config',
      'cds_config',
      'ads_config',
    ]);
  if (bootstrap.admin)
    only(AdminSchema, bootstrap.admin, 'admin', [
      'access_log',
      'access_log_path',
      'profile_path',
      'address',
      'ignore_global_conn_limit',
    ]);
  if (bootstrap.statsConfig)
    only(StatsConfigSchema, bootstrap.statsConfig, 'stats_config', [
      'stats_tags',
      'use_all_default_tags',
      'stats_matcher',
      'histogram_bucket_settings',
    ]);
  if (bootstrap.clusterManager)
    only(ClusterManagerSchema, bootstrap.clusterManager, 'cluster_manager', [
      'enable_deferred_cluster_creation',
      'outlier_detection',
    ]);
  if (bootstrap.clusterManager?.outlierDetection)
    only(
      ClusterManager_OutlierDetectionSchema,
      bootstrap.clusterManager.outlierDetection,
      'cluster_manager.outlier_detection',
      ['event_log_path'],
    );
  if (bootstrap.headerPrefix !== '' && bootstrap.headerPrefix !== 'x-envoy')
    throw new ConfigError('header_prefix', `only 'x-envoy' is supported by this proxy`);
  for (const key of ['typedDnsResolverConfig', 'defaultRegexEngine', 'listenerManager'] as const) {
    const extension = bootstrap[key];
    if (!extension) continue;
    const path = BootstrapSchema.field[key].name;
    const type = typeNameOf(extension.typedConfig?.typeUrl ?? '');
    if (type !== OWN_WAYS[key])
      throw new ConfigError(
        path,
        `Didn't find a registered implementation for '${extension.name}' with type URL: '${type}'`,
      );
    if ((extension.typedConfig?.value.length ?? 0) > 0)
      throw new ConfigError(path, `fields of ${type} are not supported by this proxy`);
  }
  for (const [i, extension] of bootstrap.bootstrapExtensions.entries())
    throw new ConfigError(
      `bootstrap_extensions[${i}]`,
      `Didn't find a registered implementation for '${extension.name}'`,
    );
}

export function nodeMetadata(bootstrap: Bootstrap): JsonObject {
  return bootstrap.node?.metadata ?? {};
}
