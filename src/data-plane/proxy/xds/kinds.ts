// Every type of resource this proxy discovers: type URL, the services that stream it, and the name inside a resource.
// Read by the discovery hub and by whoever subscribes.
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { ScopedRouteConfigurationSchema } from '#proto/envoy/config/route/v3/scoped_route_pb.js';
import { SecretSchema } from '#proto/envoy/extensions/transport_sockets/tls/v3/secret_pb.js';
import { RuntimeSchema } from '#proto/envoy/service/runtime/v3/rtds_pb.js';
import { decodeAssignment } from '../cluster/assignment-decoder.ts';
import { typeNameOf } from '../config/any.ts';
import { ConfigError } from '../config/fields.ts';

export interface ResourceKind<D extends DescMessage = DescMessage> {
  readonly schema: D;
  readonly typeUrl: string;
  /** `/package.Service/Method` of a stream for this type alone; undefined where there is none. */
  readonly sotw: string | undefined;
  readonly delta: string | undefined;
  /** True: each name has a stream of its own, as Envoy does for secrets. */
  readonly ownStream: boolean;
  nameOf(message: MessageShape<D>): string;
  /** A faster way than fromBinary; throws like it. */
  readonly decode: ((bytes: Uint8Array) => MessageShape<D>) | undefined;
}

const PREFIX = 'type.googleapis.com/';

function kind<D extends DescMessage>(
  schema: D,
  service: string,
  what: string,
  nameOf: (message: MessageShape<D>) => string,
  how: {
    readonly ownStream?: boolean;
    readonly deltaOnly?: boolean;
    readonly decode?: (bytes: Uint8Array) => MessageShape<D>;
  } = {},
): ResourceKind<D> {
  return {
    schema,
    typeUrl: PREFIX + schema.typeName,
    sotw: how.deltaOnly ? undefined : `/envoy.service.${service}/Stream${what}`,
    delta: `/envoy.service.${service}/Delta${what}`,
    ownStream: how.ownStream ?? false,
    nameOf,
    decode: how.decode,
  };
}

export const CDS = kind(ClusterSchema, 'cluster.v3.ClusterDiscoveryService', 'Clusters', (m) => m.name);
export const LDS = kind(ListenerSchema, 'listener.v3.ListenerDiscoveryService', 'Listeners', (m) => m.name);
export const EDS = kind(
  ClusterLoadAssignmentSchema,
  'endpoint.v3.EndpointDiscoveryService',
  'Endpoints',
  (m) => m.clusterName,
  { decode: decodeAssignment },
);
export const RDS = kind(RouteConfigurationSchema, 'route.v3.RouteDiscoveryService', 'Routes', (m) => m.name);
export const SRDS = kind(
  ScopedRouteConfigurationSchema,
  'route.v3.ScopedRoutesDiscoveryService',
  'ScopedRoutes',
  (m) => m.name,
);
export const VHDS = kind(VirtualHostSchema, 'route.v3.VirtualHostDiscoveryService', 'VirtualHosts', (m) => m.name, {
  deltaOnly: true,
});
export const SDS = kind(SecretSchema, 'secret.v3.SecretDiscoveryService', 'Secrets', (m) => m.name, {
  ownStream: true,
});
export const RTDS = kind(RuntimeSchema, 'runtime.v3.RuntimeDiscoveryService', 'Runtime', (m) => m.name);
export const ECDS = kind(
  TypedExtensionConfigSchema,
  'extension.v3.ExtensionConfigDiscoveryService',
  'ExtensionConfigs',
  (m) => m.name,
);

export const KINDS: readonly ResourceKind[] = [CDS, LDS, EDS, RDS, SRDS, VHDS, SDS, RTDS, ECDS].map(
  (each) => each as ResourceKind<DescMessage>,
);

export const ADS_SOTW = '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources';
export const ADS_DELTA = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';

/** Decodes a resource of `wanted`. Throws ConfigError when it is something else. */
export function readResource<D extends DescMessage>(wanted: ResourceKind<D>, any: Any): MessageShape<D> {
  if (typeNameOf(any.typeUrl) !== wanted.schema.typeName)
    throw new ConfigError('', `expected ${wanted.schema.typeName}, got ${any.typeUrl}`);
  try {
    return wanted.decode ? wanted.decode(any.value) : fromBinary(wanted.schema, any.value);
  } catch (error) {
    throw new ConfigError(
      '',
      `cannot read ${wanted.schema.typeName}: ${error instanceof Error ? error.message : error}`,
    );
  }
}
