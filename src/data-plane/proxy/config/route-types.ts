// Messages that may stand inside an Any of a route or of tracing, for JSON and YAML configurations. Read by bootstrap.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import { OpenTelemetryConfigSchema } from '#proto/envoy/config/trace/v3/opentelemetry_pb.js';
import { ZipkinConfigSchema } from '#proto/envoy/config/trace/v3/zipkin_pb.js';
import { AllowListedRoutesConfigSchema } from '#proto/envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config_pb.js';
import { PreviousRoutesConfigSchema } from '#proto/envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config_pb.js';
import { SafeCrossSchemeConfigSchema } from '#proto/envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config_pb.js';
import { UriTemplateRewriteConfigSchema } from '#proto/envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite_pb.js';
import { OmitCanaryHostsPredicateSchema } from '#proto/envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts_pb.js';
import { OmitHostMetadataConfigSchema } from '#proto/envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config_pb.js';
import { PreviousPrioritiesConfigSchema } from '#proto/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js';

export const ROUTE_TYPES: readonly DescMessage[] = [
  OpenTelemetryConfigSchema,
  ZipkinConfigSchema,
  UriTemplateRewriteConfigSchema,
  OmitCanaryHostsPredicateSchema,
  OmitHostMetadataConfigSchema,
  PreviousPrioritiesConfigSchema,
  AllowListedRoutesConfigSchema,
  PreviousRoutesConfigSchema,
  SafeCrossSchemeConfigSchema,
];
