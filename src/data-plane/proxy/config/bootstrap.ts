// Loads the bootstrap: file and --config-yaml merged as Envoy merges them, checked, unsupported parts refused by name.
import {
  createRegistry,
  type DescField,
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
} from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';
import { StructSchema } from '@bufbuild/protobuf/wkt';
import {
  AdminSchema,
  type Bootstrap,
  Bootstrap_DynamicResourcesSchema,
  Bootstrap_StaticResourcesSchema,
  BootstrapSchema,
} from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { StatsConfigSchema } from '#proto/envoy/config/metrics/v3/stats_pb.js';
import { OverloadManagerSchema } from '#proto/envoy/config/overload/v3/overload_pb.js';
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
import { UuidRequestIdConfigSchema } from '#proto/envoy/extensions/request_id/uuid/v3/uuid_pb.js';
import { DownstreamConnectionsConfigSchema } from '#proto/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.js';
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
import { openAny } from './any.ts';
import { ConfigError, only } from './fields.ts';

/** Every message that may stand inside an Any of a JSON or YAML configuration. */
export const extensionRegistry = createRegistry(
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
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
  PreviousHostsPredicateSchema,
  DownstreamConnectionsConfigSchema,
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
  readonly kind: 'json' | 'yaml';
}

export interface LoadOptions {
  /** Parses YAML; injected because the parser is only needed for YAML. */
  readonly parseYaml: (text: string) => JsonValue;
  readonly allowUnknownFields: boolean;
}

/** Merges the sources in order (protobuf MergeFrom) and checks the result. */
export function loadBootstrap(sources: readonly BootstrapSource[], options: LoadOptions): Bootstrap {
  let merged: ReflectMessage | undefined;
  for (const source of sources) {
    const message = parseMessage(BootstrapSchema, source, options);
    const next = reflect(BootstrapSchema, message);
    if (merged) mergeFrom(merged, next);
    else merged = next;
  }
  if (!merged) throw new ConfigError('', 'At least one of --config-path or --config-yaml is required');
  const bootstrap = merged.message as Bootstrap;
  checkBootstrap(bootstrap);
  return bootstrap;
}

function parseMessage<D extends DescMessage>(
  schema: D,
  source: BootstrapSource,
  options: LoadOptions,
): MessageShape<D> {
  let json: JsonValue;
  try {
    json = source.kind === 'json' ? (JSON.parse(source.text) as JsonValue) : options.parseYaml(source.text);
  } catch (error) {
    throw new ConfigError(
      '',
      `Unable to parse ${source.kind.toUpperCase()}: ${error instanceof Error ? error.message : error}`,
    );
  }
  try {
    return fromJson(schema, json, { registry: extensionRegistry, ignoreUnknownFields: options.allowUnknownFields });
  } catch (error) {
    throw new ConfigError(
      '',
      `Protobuf message (type ${schema.typeName}) cannot be read: ${error instanceof Error ? error.message : error}`,
    );
  }
}

/** protobuf MergeFrom: scalars overwrite when set, messages merge, lists append, members of a oneof replace. */
export function mergeFrom(target: ReflectMessage, source: ReflectMessage): void {
  for (const field of source.fields) {
    if (!source.isSet(field)) continue;
    mergeField(target, source, field);
  }
}

function mergeField(target: ReflectMessage, source: ReflectMessage, field: DescField): void {
  switch (field.fieldKind) {
    case 'list': {
      const into = target.get(field);
      for (const item of source.get(field)) into.add(item);
      return;
    }
    case 'map': {
      const into = target.get(field);
      for (const [key, value] of source.get(field)) into.set(key, value);
      return;
    }
    case 'message':
      if (target.isSet(field) && field.message.typeName !== StructSchema.typeName)
        mergeFrom(target.get(field), source.get(field));
      else target.set(field, source.get(field));
      return;
    default:
      target.set(field, source.get(field));
  }
}

/** Fields with an effect here, and fields whose effect this proxy has by itself or that only matter to Envoy's insides. */
const BOOTSTRAP_FIELDS = [
  'node',
  'static_resources',
  'dynamic_resources',
  'admin',
  'stats_config',
  'layered_runtime',
  'stats_flush_interval',
  // Parts of Envoy's own machinery that does not exist here: nothing would be lost by them.
  'cluster_manager',
  'enable_dispatcher_stats',
  'overload_manager',
  'deferred_stat_options',
  'watchdogs',
  'use_tcp_for_dns_lookups',
  'typed_dns_resolver_config',
  'bootstrap_extensions',
  'application_log_config',
  'default_regex_engine',
];

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
  for (const [i, extension] of bootstrap.bootstrapExtensions.entries())
    throw new ConfigError(
      `bootstrap_extensions[${i}]`,
      `Didn't find a registered implementation for '${extension.name}'`,
    );
}

/** Connections all listeners together may have; Infinity when the overload manager says nothing. */
export function connectionLimit(bootstrap: Bootstrap): number {
  const manager = bootstrap.overloadManager;
  if (!manager) return Number.POSITIVE_INFINITY;
  only(OverloadManagerSchema, manager, 'overload_manager', ['refresh_interval', 'resource_monitors']);
  let limit = Number.POSITIVE_INFINITY;
  for (const [i, monitor] of manager.resourceMonitors.entries()) {
    const path = `overload_manager.resource_monitors[${i}]`;
    const any = monitor.configType.value && openAny(monitor.configType.value, path);
    if (any?.typeName !== DownstreamConnectionsConfigSchema.typeName)
      throw new ConfigError(path, `resource monitor '${monitor.name}' is not supported by this proxy`);
    limit = Number(any.open(DownstreamConnectionsConfigSchema).maxActiveDownstreamConnections);
  }
  return limit;
}

export function nodeMetadata(bootstrap: Bootstrap): JsonObject {
  return bootstrap.node?.metadata ?? {};
}
