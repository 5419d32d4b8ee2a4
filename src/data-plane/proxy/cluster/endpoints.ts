// Reads a ClusterLoadAssignment into host specs. Called for static clusters, DNS clusters and EDS answers.
import type { Metadata as MetadataMessage } from '#proto/envoy/config/core/v3/base_pb.js';
import { HealthStatus as Health } from '#proto/envoy/config/core/v3/health_check_pb.js';
import {
  EndpointSchema,
  type LbEndpoint,
  LbEndpointSchema,
  type LocalityLbEndpoints,
  LocalityLbEndpointsSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignment_PolicySchema,
  ClusterLoadAssignmentSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { addressOf } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { HealthStatus, HostSpec, Metadata } from './host.ts';

export function readEndpoints(message: ClusterLoadAssignment, path: string, allowNames: boolean): HostSpec[] {
  only(ClusterLoadAssignmentSchema, message, path, ['cluster_name', 'endpoints', 'policy']);
  if (message.policy)
    // The overprovisioning factor only matters with degraded priorities, which spill over completely here.
    only(ClusterLoadAssignment_PolicySchema, message.policy, join(path, 'policy'), ['overprovisioning_factor']);
  const out: HostSpec[] = [];
  for (const [i, group] of message.endpoints.entries()) {
    const at = join(path, `endpoints[${i}]`);
    only(LocalityLbEndpointsSchema, group, at, [
      'locality',
      'metadata',
      'lb_endpoints',
      'load_balancing_weight',
      'priority',
      'proximity',
    ]);
    for (const [k, endpoint] of group.lbEndpoints.entries())
      out.push(hostSpec(endpoint, group, join(at, `lb_endpoints[${k}]`), allowNames));
  }
  return out;
}

function hostSpec(message: LbEndpoint, group: LocalityLbEndpoints, path: string, allowNames: boolean): HostSpec {
  only(LbEndpointSchema, message, path, ['endpoint', 'health_status', 'metadata', 'load_balancing_weight']);
  if (message.hostIdentifier.case !== 'endpoint') throw new ConfigError(join(path, 'endpoint'), 'value is required');
  const endpoint = message.hostIdentifier.value;
  const at = join(path, 'endpoint');
  only(EndpointSchema, endpoint, at, ['address', 'hostname', 'health_check_config']);
  return {
    address: addressOf(endpoint.address, join(at, 'address'), allowNames),
    hostname: endpoint.hostname,
    weight: message.loadBalancingWeight ?? 1,
    priority: group.priority,
    locality: {
      region: group.locality?.region ?? '',
      zone: group.locality?.zone ?? '',
      subZone: group.locality?.subZone ?? '',
    },
    health: healthOf(message.healthStatus),
    metadata: metadataOf(message.metadata),
  };
}

export function metadataOf(message: MetadataMessage | undefined): Metadata {
  return message?.filterMetadata ?? {};
}

function healthOf(status: Health): HealthStatus {
  switch (status) {
    case Health.UNHEALTHY:
    case Health.TIMEOUT:
      return 'unhealthy';
    case Health.DRAINING:
      return 'draining';
    case Health.DEGRADED:
      return 'degraded';
    default:
      return 'healthy';
  }
}
