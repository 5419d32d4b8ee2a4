// Reads where a resource comes from. This proxy takes listeners, clusters, routes and endpoints through ADS and secrets
// from a gRPC cluster; everything else is refused by name.
import {
  type ApiConfigSource,
  ApiConfigSourceSchema,
  ApiConfigSource_ApiType as ApiType,
  type ConfigSource,
  ConfigSourceSchema,
} from '#proto/envoy/config/core/v3/config_source_pb.js';
import { GrpcService_EnvoyGrpcSchema, GrpcServiceSchema } from '#proto/envoy/config/core/v3/grpc_service_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';

const API_FIELDS = [
  'api_type',
  'transport_api_version',
  'grpc_services',
  'set_node_on_first_message_only',
  // One stream a server: there is nothing to limit.
  'rate_limit_settings',
];

export interface GrpcSource {
  readonly cluster: string;
  readonly delta: boolean;
  readonly metadata: readonly (readonly [string, string])[];
}

export function readApiSource(message: ApiConfigSource, path: string): GrpcSource {
  only(ApiConfigSourceSchema, message, path, API_FIELDS);
  const delta = message.apiType === ApiType.DELTA_GRPC || message.apiType === ApiType.AGGREGATED_DELTA_GRPC;
  if (!delta && message.apiType !== ApiType.GRPC && message.apiType !== ApiType.AGGREGATED_GRPC)
    throw new ConfigError(join(path, 'api_type'), `${ApiType[message.apiType]} is not supported by this proxy`);
  const service = message.grpcServices[0];
  const at = join(path, 'grpc_services[0]');
  if (!service || message.grpcServices.length !== 1)
    throw new ConfigError(join(path, 'grpc_services'), 'exactly one gRPC service is required');
  only(GrpcServiceSchema, service, at, ['envoy_grpc', 'timeout', 'initial_metadata']);
  if (service.targetSpecifier.case !== 'envoyGrpc') throw new ConfigError(at, 'only envoy_grpc is supported');
  only(GrpcService_EnvoyGrpcSchema, service.targetSpecifier.value, join(at, 'envoy_grpc'), [
    'cluster_name',
    'authority',
  ]);
  return {
    cluster: service.targetSpecifier.value.clusterName,
    delta,
    metadata: service.initialMetadata.map((entry) => [entry.key.toLowerCase(), entry.value] as const),
  };
}

/** The gRPC cluster of an SDS source. */
export function grpcClusterOf(source: ConfigSource, path: string): string {
  only(ConfigSourceSchema, source, path, ['api_config_source', 'initial_fetch_timeout', 'resource_api_version']);
  const spec = source.configSourceSpecifier;
  if (spec.case !== 'apiConfigSource')
    throw new ConfigError(path, 'secrets come from an api_config_source in this proxy');
  return readApiSource(spec.value, join(path, 'api_config_source')).cluster;
}

/** Throws unless the resource comes through ADS. */
export function requireAds(source: ConfigSource | undefined, path: string): void {
  if (!source) throw new ConfigError(path, 'value is required');
  only(ConfigSourceSchema, source, path, ['ads', 'initial_fetch_timeout', 'resource_api_version']);
  if (source.configSourceSpecifier.case !== 'ads') throw new ConfigError(path, 'only `ads` is supported by this proxy');
}
