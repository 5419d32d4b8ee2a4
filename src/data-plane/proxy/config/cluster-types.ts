// Messages of cluster extensions that may stand inside an Any of the configuration: load balancing policies, DNS resolvers,
// event sinks. Read by bootstrap.ts, which makes one registry of all of them.
import { ClusterConfigSchema as ForwardProxySchema } from '#proto/envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster_pb.js';
import {
  FilterConfigSchema as ForwardProxyFilterSchema,
  PerRouteConfigSchema as ForwardProxyPerRouteSchema,
} from '#proto/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js';
import { HealthCheckEventFileSinkSchema } from '#proto/envoy/extensions/health_check/event_sinks/file/v3/file_pb.js';
import { ClusterProvidedSchema } from '#proto/envoy/extensions/load_balancing_policies/cluster_provided/v3/cluster_provided_pb.js';
import { LeastRequestSchema } from '#proto/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js';
import { MaglevSchema } from '#proto/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js';
import { RandomSchema } from '#proto/envoy/extensions/load_balancing_policies/random/v3/random_pb.js';
import { RingHashSchema } from '#proto/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js';
import { RoundRobinSchema } from '#proto/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js';
import { SubsetSchema } from '#proto/envoy/extensions/load_balancing_policies/subset/v3/subset_pb.js';
import { WrrLocalitySchema } from '#proto/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality_pb.js';
import { CaresDnsResolverConfigSchema } from '#proto/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js';

export const CLUSTER_TYPES = [
  ForwardProxySchema,
  ForwardProxyFilterSchema,
  ForwardProxyPerRouteSchema,
  HealthCheckEventFileSinkSchema,
  ClusterProvidedSchema,
  LeastRequestSchema,
  MaglevSchema,
  RandomSchema,
  RingHashSchema,
  RoundRobinSchema,
  SubsetSchema,
  WrrLocalitySchema,
  CaresDnsResolverConfigSchema,
];
