// Reads a ClusterLoadAssignment into host specs and its policy. Called for static clusters, DNS clusters and EDS answers.
import type { JsonObject } from '@bufbuild/protobuf';
import type { Metadata as MetadataMessage } from '#proto/envoy/config/core/v3/base_pb.js';
import { HealthStatus as Health } from '#proto/envoy/config/core/v3/health_check_pb.js';
import {
  type Endpoint,
  Endpoint_AdditionalAddressSchema,
  type Endpoint_HealthCheckConfig,
  Endpoint_HealthCheckConfigSchema,
  EndpointSchema,
  type LbEndpoint,
  LbEndpointSchema,
  type LocalityLbEndpoints,
  LocalityLbEndpoints_LbEndpointListSchema,
  LocalityLbEndpointsSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import {
  type ClusterLoadAssignment,
  type ClusterLoadAssignment_Policy,
  ClusterLoadAssignment_Policy_DropOverloadSchema,
  ClusterLoadAssignment_PolicySchema,
  ClusterLoadAssignmentSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { addressOf } from '../config/address.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { fraction } from '../config/matchers.ts';
import { MAX_PRIORITY } from '../limits.ts';
import type { EndpointGroup, EndpointHealthCheck, HealthStatus, HostSpec, Metadata } from './host.ts';
import { DEFAULT_POLICY } from './host-set.ts';

/** What an assignment says beside its endpoints. */
export interface AssignmentPolicy {
  /** Percent. */
  readonly overprovisioning: number;
  readonly weightedHealth: boolean;
  /** Share of requests that are dropped, 0..1. */
  readonly dropShare: number;
  /** Without another answer for this long the endpoints are given up, ms; 0 = never. */
  readonly staleAfterMs: number;
}

export interface Assignment {
  readonly specs: readonly HostSpec[];
  readonly policy: AssignmentPolicy;
}

export const NO_POLICY: AssignmentPolicy = { ...DEFAULT_POLICY, dropShare: 0, staleAfterMs: 0 };
export const NO_ENDPOINTS: Assignment = { specs: [], policy: NO_POLICY };

export function readEndpoints(message: ClusterLoadAssignment, path: string, allowNames: boolean): Assignment {
  only(ClusterLoadAssignmentSchema, message, path, ['cluster_name', 'endpoints', 'policy']);
  const specs: HostSpec[] = [];
  for (const [i, group] of message.endpoints.entries()) {
    readGroup(group, join(path, `endpoints[${i}]`), allowNames, specs);
  }
  return { specs, policy: policyOf(message, path) };
}

function policyOf(message: ClusterLoadAssignment, path: string): AssignmentPolicy {
  const { policy } = message;
  if (!policy) return NO_POLICY;
  const at = join(path, 'policy');
  only(ClusterLoadAssignment_PolicySchema, policy, at, [
    'drop_overloads',
    'overprovisioning_factor',
    'endpoint_stale_after',
    'weighted_priority_health',
  ]);
  if (policy.overprovisioningFactor === 0)
    throw new ConfigError(join(at, 'overprovisioning_factor'), 'value must be greater than 0');
  return {
    overprovisioning: policy.overprovisioningFactor ?? DEFAULT_POLICY.overprovisioning,
    weightedHealth: policy.weightedPriorityHealth,
    dropShare: dropShare(policy, at),
    staleAfterMs: millis(policy.endpointStaleAfter, 0),
  };
}

function dropShare(policy: ClusterLoadAssignment_Policy, path: string): number {
  const [drop, another] = policy.dropOverloads;
  if (another)
    throw new ConfigError(
      join(path, 'drop_overloads'),
      `Cluster drop_overloads config has ${policy.dropOverloads.length} categories. Envoy only support one.`,
    );
  if (!drop) return 0;
  const at = join(path, 'drop_overloads[0]');
  only(ClusterLoadAssignment_Policy_DropOverloadSchema, drop, at, ['category', 'drop_percentage']);
  if (drop.category === '') throw new ConfigError(join(at, 'category'), 'value is required');
  return fraction(drop.dropPercentage, 0);
}

function readGroup(group: LocalityLbEndpoints, path: string, allowNames: boolean, out: HostSpec[]): void {
  only(LocalityLbEndpointsSchema, group, path, [
    'locality',
    'metadata',
    'lb_endpoints',
    'load_balancer_endpoints',
    'load_balancing_weight',
    'priority',
    // For clients that pick by nearness: Envoy reads it and does nothing.
    'proximity',
  ]);
  if (group.priority > MAX_PRIORITY)
    throw new ConfigError(join(path, 'priority'), `value must be less than or equal to ${MAX_PRIORITY}`);
  if (group.loadBalancingWeight === 0)
    throw new ConfigError(join(path, 'load_balancing_weight'), 'value must be greater than or equal to 1');
  const locality = {
    region: group.locality?.region ?? '',
    zone: group.locality?.zone ?? '',
    subZone: group.locality?.subZone ?? '',
  };
  const weight = group.loadBalancingWeight ?? 0;
  const metadata = metadataOf(group.metadata);
  const key = JSON.stringify([locality, weight, metadata, group.priority, allowNames]);
  let shared: EndpointGroup | undefined;
  const add = (endpoints: readonly LbEndpoint[], at: string): void => {
    for (let k = 0; k < endpoints.length; k++) {
      const endpoint = endpoints[k]!;
      // What the decoder has kept from the last assignment was read then.
      const known = readBefore.get(endpoint);
      if (known?.key === key) {
        shared ??= known.spec.group;
        out.push(known.spec);
        continue;
      }
      shared ??= { locality, weight, metadata };
      const spec = hostSpec(endpoint, group, shared, `${at}[${k}]`, allowNames);
      readBefore.set(endpoint, { key, spec });
      out.push(spec);
    }
  };
  add(group.lbEndpoints, join(path, 'lb_endpoints'));
  const more = group.lbConfig;
  if (more.case !== 'loadBalancerEndpoints') return;
  const at = join(path, 'load_balancer_endpoints');
  only(LocalityLbEndpoints_LbEndpointListSchema, more.value, at, ['lb_endpoints']);
  add(more.value.lbEndpoints, join(at, 'lb_endpoints'));
}

/** Specs by the message they were read from, and all else they depend on. */
const readBefore = new WeakMap<LbEndpoint, { readonly key: string; readonly spec: HostSpec }>();

function hostSpec(
  message: LbEndpoint,
  group: LocalityLbEndpoints,
  shared: EndpointGroup,
  path: string,
  allowNames: boolean,
): HostSpec {
  only(LbEndpointSchema, message, path, ['endpoint', 'health_status', 'metadata', 'load_balancing_weight']);
  if (message.hostIdentifier.case !== 'endpoint') throw new ConfigError(join(path, 'endpoint'), 'value is required');
  if (message.loadBalancingWeight === 0)
    throw new ConfigError(join(path, 'load_balancing_weight'), 'value must be greater than or equal to 1');
  const endpoint = message.hostIdentifier.value;
  const at = join(path, 'endpoint');
  only(EndpointSchema, endpoint, at, ['address', 'hostname', 'health_check_config', 'additional_addresses']);
  return {
    address: addressOf(endpoint.address, join(at, 'address'), allowNames),
    additional: additionalOf(endpoint, at),
    hostname: endpoint.hostname,
    weight: message.loadBalancingWeight ?? 1,
    priority: group.priority,
    locality: shared.locality,
    group: shared,
    health: healthOf(message.healthStatus),
    healthCheck: healthCheckOf(endpoint.healthCheckConfig, join(at, 'health_check_config')),
    metadata: metadataOf(message.metadata),
  };
}

function additionalOf(endpoint: Endpoint, path: string): HostSpec['additional'] {
  if (endpoint.additionalAddresses.length === 0) return NO_ADDRESSES;
  return endpoint.additionalAddresses.map((entry, i) => {
    const at = join(path, `additional_addresses[${i}]`);
    only(Endpoint_AdditionalAddressSchema, entry, at, ['address']);
    const address = addressOf(entry.address, join(at, 'address'));
    if (address.kind !== 'ip') throw new ConfigError(at, 'additional_addresses can only be IP addresses');
    return address;
  });
}
const NO_ADDRESSES: HostSpec['additional'] = [];

function healthCheckOf(message: Endpoint_HealthCheckConfig | undefined, path: string): EndpointHealthCheck | undefined {
  if (!message) return undefined;
  only(Endpoint_HealthCheckConfigSchema, message, path, [
    'port_value',
    'hostname',
    'address',
    'disable_active_health_check',
  ]);
  if (message.portValue > 65_535) throw new ConfigError(join(path, 'port_value'), 'must be at most 65535');
  return {
    address: message.address ? addressOf(message.address, join(path, 'address')) : undefined,
    port: message.portValue,
    hostname: message.hostname,
    disabled: message.disableActiveHealthCheck,
  };
}

export const NO_METADATA: Metadata = {};

/** Typed metadata is for extensions that this proxy does not have; nothing here reads it. */
export function metadataOf(message: MetadataMessage | undefined): Metadata {
  const fields: Readonly<Record<string, JsonObject>> | undefined = message?.filterMetadata;
  return fields ?? NO_METADATA;
}

function healthOf(status: Health): HealthStatus {
  switch (status) {
    case Health.UNHEALTHY:
      return 'unhealthy';
    case Health.TIMEOUT:
      return 'timeout';
    case Health.DRAINING:
      return 'draining';
    case Health.DEGRADED:
      return 'degraded';
    default:
      return 'healthy';
  }
}
