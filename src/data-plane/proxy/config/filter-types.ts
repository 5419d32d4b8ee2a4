// Messages of filters and matchers that may stand inside an Any of a JSON or YAML configuration: those the registries of
// http-filter/, network-filter/ and listener-filter/ and the policy wing know. Called by bootstrap.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import { FilterConfigSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { ExpressionFilterSchema } from '#proto/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js';
import { BufferPerRouteSchema, BufferSchema } from '#proto/envoy/extensions/filters/http/buffer/v3/buffer_pb.js';
import { ConfigSchema as GrpcBridgeSchema } from '#proto/envoy/extensions/filters/http/grpc_http1_bridge/v3/config_pb.js';
import { GrpcWebSchema } from '#proto/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js';
import {
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
} from '#proto/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js';
import { HealthCheckSchema } from '#proto/envoy/extensions/filters/http/health_check/v3/health_check_pb.js';
import { LocalRateLimitSchema } from '#proto/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js';
import {
  OnDemandSchema,
  PerRouteConfigSchema,
} from '#proto/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.js';
import { RBACPerRouteSchema, RBACSchema } from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import { ConfigSchema as SetFilterStateSchema } from '#proto/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js';
import { ConfigSchema as SetMetadataSchema } from '#proto/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js';
import { TapSchema } from '#proto/envoy/extensions/filters/http/tap/v3/tap_pb.js';
import { ProxyProtocolSchema } from '#proto/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js';
import { ConnectionLimitSchema } from '#proto/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.js';
import { LocalRateLimitSchema as NetworkRateLimitSchema } from '#proto/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js';
import { RBACSchema as NetworkRbacSchema } from '#proto/envoy/extensions/filters/network/rbac/v3/rbac_pb.js';
import { SniClusterSchema } from '#proto/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js';
import { CelSchema as CelFormatterSchema } from '#proto/envoy/extensions/formatter/cel/v3/cel_pb.js';
import { MetadataSchema as MetadataFormatterSchema } from '#proto/envoy/extensions/formatter/metadata/v3/metadata_pb.js';
import { ReqWithoutQuerySchema } from '#proto/envoy/extensions/formatter/req_without_query/v3/req_without_query_pb.js';
import { PreserveCaseFormatterConfigSchema } from '#proto/envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case_pb.js';
import { UriTemplateMatchConfigSchema } from '#proto/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js';
import { ProxyProtocolUpstreamTransportSchema } from '#proto/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js';
import { MATCHER_TYPES } from '../../../rbac/matcher-tree.ts';

export const FILTER_TYPES: readonly DescMessage[] = [
  FilterConfigSchema,
  RBACSchema,
  RBACPerRouteSchema,
  PreserveCaseFormatterConfigSchema,
  CelFormatterSchema,
  ExpressionFilterSchema,
  MetadataFormatterSchema,
  ReqWithoutQuerySchema,
  UriTemplateMatchConfigSchema,
  LocalRateLimitSchema,
  HeaderMutationSchema,
  HeaderMutationPerRouteSchema,
  BufferSchema,
  BufferPerRouteSchema,
  HealthCheckSchema,
  GrpcWebSchema,
  GrpcBridgeSchema,
  OnDemandSchema,
  PerRouteConfigSchema,
  SetMetadataSchema,
  TapSchema,
  SetFilterStateSchema,
  NetworkRbacSchema,
  NetworkRateLimitSchema,
  ConnectionLimitSchema,
  SniClusterSchema,
  ProxyProtocolSchema,
  ProxyProtocolUpstreamTransportSchema,
  ...MATCHER_TYPES,
];
