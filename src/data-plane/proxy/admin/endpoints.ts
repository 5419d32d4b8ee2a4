// The endpoints a cluster uses, as /config_dump?include_eds shows them: what came from discovery, DNS or the configuration, with
// the health they have now.
import { fromBinary, type JsonObject } from '@bufbuild/protobuf';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import type { Cluster } from '../cluster/cluster.ts';
import type { Host } from '../cluster/host.ts';
import type { ResourceRecord } from '../xds/hub.ts';
import { addressJson } from './listeners.ts';

const DEFAULT_OVERPROVISIONING = 140;

export function assignmentOf(cluster: Cluster, name: string, record: ResourceRecord | undefined): JsonObject {
  const given =
    record && record.updated > 0
      ? fromBinary(ClusterLoadAssignmentSchema, record.any.value)
      : cluster.decode().loadAssignment;
  const groups = new Map<string, Host[]>();
  for (const host of cluster.hosts) {
    const { locality, priority } = host.spec;
    const key = JSON.stringify([priority, locality]);
    const group = groups.get(key);
    if (group) group.push(host);
    else groups.set(key, [host]);
  }
  const endpoints = [...groups.values()]
    .sort(([a], [b]) => a!.spec.priority - b!.spec.priority)
    .map((hosts) => localityJson(hosts));
  return {
    '@type': `type.googleapis.com/${ClusterLoadAssignmentSchema.typeName}`,
    cluster_name: name,
    ...(endpoints.length === 0 ? {} : { endpoints }),
    policy: { overprovisioning_factor: given?.policy?.overprovisioningFactor ?? DEFAULT_OVERPROVISIONING },
  };
}

function localityJson(hosts: readonly Host[]): JsonObject {
  const { locality, priority, group } = hosts[0]!.spec;
  return {
    locality: given({ region: locality.region, zone: locality.zone, sub_zone: locality.subZone }),
    lb_endpoints: hosts.map(hostJson),
    load_balancing_weight: group.weight,
    ...(priority === 0 ? {} : { priority }),
  };
}

function hostJson(host: Host): JsonObject {
  const { address, hostname, healthCheck, weight, metadata, additional } = host.spec;
  const check: JsonObject = healthCheck
    ? {
        ...(healthCheck.port === 0 ? {} : { port_value: healthCheck.port }),
        ...given({ hostname: healthCheck.hostname }),
        ...(healthCheck.address ? { address: addressJson(healthCheck.address) as JsonObject } : {}),
        ...(healthCheck.disabled ? { disable_active_health_check: true } : {}),
      }
    : {};
  return {
    endpoint: {
      address: addressJson(address) as JsonObject,
      health_check_config: check,
      ...given({ hostname }),
      ...(additional.length === 0
        ? {}
        : { additional_addresses: additional.map((each) => ({ address: addressJson(each) as JsonObject })) }),
    },
    health_status: host.healthy ? 'HEALTHY' : host.degraded ? 'DEGRADED' : 'UNHEALTHY',
    ...(Object.keys(metadata).length === 0 ? {} : { metadata: { filter_metadata: { ...metadata } } }),
    load_balancing_weight: weight,
  };
}

function given(texts: Readonly<Record<string, string>>): JsonObject {
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ''));
}
