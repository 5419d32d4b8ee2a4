// Reads where a resource comes from: ADS, a gRPC stream of its own, or a file. Called by everything that names a ConfigSource;
// the discovery hub opens what is read here. REST, `self` and google_grpc are refused by name.

import { BackoffStrategySchema } from '#proto/envoy/config/core/v3/backoff_pb.js';
import { RetryPolicySchema, WatchedDirectorySchema } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  type ApiConfigSource,
  ApiConfigSourceSchema,
  ApiConfigSource_ApiType as ApiType,
  type ConfigSource,
  ConfigSourceSchema,
  PathConfigSourceSchema,
  RateLimitSettingsSchema,
} from '#proto/envoy/config/core/v3/config_source_pb.js';
import { GrpcService_EnvoyGrpcSchema, GrpcServiceSchema } from '#proto/envoy/config/core/v3/grpc_service_pb.js';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import {
  DEFAULT_INITIAL_FETCH_MS,
  XDS_BACKOFF_BASE_MS,
  XDS_BACKOFF_MAX_MS,
  XDS_RATE_FILL_PER_S,
  XDS_RATE_TOKENS,
} from '../limits.ts';

/** A gRPC discovery server and how to talk to it. */
export interface GrpcSource {
  readonly cluster: string;
  /** Empty: the cluster's name. */
  readonly authority: string;
  readonly delta: boolean;
  readonly metadata: readonly (readonly [string, string])[];
  /** The node is told once a stream instead of in each request. */
  readonly nodeOnce: boolean;
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
  /** Requests that may be sent at once and their refill; undefined: unlimited. */
  readonly rate: { readonly tokens: number; readonly perSecond: number } | undefined;
}

interface Common {
  /** Equal for sources that can share what is open. */
  readonly key: string;
  /** How long somebody waits for the first answer, ms; 0 = for ever. */
  readonly initialFetchMs: number;
}

export type Source =
  | (Common & { readonly kind: 'ads' })
  | (Common & { readonly kind: 'grpc'; readonly api: GrpcSource })
  | (Common & { readonly kind: 'path'; readonly path: string; readonly watched: string | undefined });

/** Throws ConfigError with the path of what is not supported. */
export function readSource(source: ConfigSource | undefined, path: string): Source {
  if (!source) throw new ConfigError(path, 'value is required');
  only(ConfigSourceSchema, source, path, [
    'ads',
    'api_config_source',
    'path_config_source',
    'path',
    'initial_fetch_timeout',
    'resource_api_version',
  ]);
  const initialFetchMs = millis(source.initialFetchTimeout, DEFAULT_INITIAL_FETCH_MS);
  const spec = source.configSourceSpecifier;
  switch (spec.case) {
    case 'ads':
      return { kind: 'ads', key: 'ads', initialFetchMs };
    case 'apiConfigSource': {
      const api = readApiSource(spec.value, join(path, 'api_config_source'));
      return { kind: 'grpc', key: `grpc ${JSON.stringify(api)}`, initialFetchMs, api };
    }
    case 'path':
      return { kind: 'path', key: `path ${spec.value}`, initialFetchMs, path: spec.value, watched: undefined };
    case 'pathConfigSource': {
      const at = join(path, 'path_config_source');
      only(PathConfigSourceSchema, spec.value, at, ['path', 'watched_directory']);
      const directory = spec.value.watchedDirectory;
      if (directory) only(WatchedDirectorySchema, directory, join(at, 'watched_directory'), ['path']);
      if (spec.value.path === '') throw new ConfigError(join(at, 'path'), 'value is required');
      const watched = directory?.path || undefined;
      return {
        kind: 'path',
        key: `path ${spec.value.path} ${watched ?? ''}`,
        initialFetchMs,
        path: spec.value.path,
        watched,
      };
    }
    default:
      throw new ConfigError(path, `config source '${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

export function readApiSource(message: ApiConfigSource, path: string): GrpcSource {
  only(ApiConfigSourceSchema, message, path, [
    'api_type',
    'transport_api_version',
    'grpc_services',
    'set_node_on_first_message_only',
    'rate_limit_settings',
  ]);
  const delta = message.apiType === ApiType.DELTA_GRPC || message.apiType === ApiType.AGGREGATED_DELTA_GRPC;
  if (!delta && message.apiType !== ApiType.GRPC && message.apiType !== ApiType.AGGREGATED_GRPC)
    throw new ConfigError(join(path, 'api_type'), `${ApiType[message.apiType]} is not supported by this proxy`);
  const service = message.grpcServices[0];
  const at = join(path, 'grpc_services[0]');
  if (!service || message.grpcServices.length !== 1)
    throw new ConfigError(join(path, 'grpc_services'), 'exactly one gRPC service is required');
  // A discovery stream has no end: `timeout` says nothing about it, in Envoy neither.
  only(GrpcServiceSchema, service, at, ['envoy_grpc', 'timeout', 'initial_metadata']);
  if (service.targetSpecifier.case !== 'envoyGrpc') throw new ConfigError(at, 'only envoy_grpc is supported');
  const grpc = service.targetSpecifier.value;
  const grpcAt = join(at, 'envoy_grpc');
  only(GrpcService_EnvoyGrpcSchema, grpc, grpcAt, ['cluster_name', 'authority', 'retry_policy']);
  if (grpc.clusterName === '') throw new ConfigError(join(grpcAt, 'cluster_name'), 'value is required');
  const retryAt = join(grpcAt, 'retry_policy');
  if (grpc.retryPolicy) only(RetryPolicySchema, grpc.retryPolicy, retryAt, ['retry_back_off']);
  const backoff = grpc.retryPolicy?.retryBackOff;
  if (backoff) only(BackoffStrategySchema, backoff, join(retryAt, 'retry_back_off'), ['base_interval', 'max_interval']);
  const baseMs = millis(backoff?.baseInterval, XDS_BACKOFF_BASE_MS);
  const limits = message.rateLimitSettings;
  if (limits) only(RateLimitSettingsSchema, limits, join(path, 'rate_limit_settings'), ['max_tokens', 'fill_rate']);
  return {
    cluster: grpc.clusterName,
    authority: grpc.authority,
    delta,
    metadata: service.initialMetadata.map((entry) => [entry.key.toLowerCase(), entry.value] as const),
    nodeOnce: message.setNodeOnFirstMessageOnly,
    backoffBaseMs: baseMs,
    backoffMaxMs: millis(backoff?.maxInterval, backoff ? baseMs * 10 : XDS_BACKOFF_MAX_MS),
    rate: limits && {
      tokens: limits.maxTokens ?? XDS_RATE_TOKENS,
      perSecond: limits.fillRate ?? XDS_RATE_FILL_PER_S,
    },
  };
}
