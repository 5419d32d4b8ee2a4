// The one place where what the control plane made is changed for a mesh on loopback without capture. Everything else a proxy
// gets is what it would get in a cluster:
// - listeners are not bound to their port: connections are handed to them (own engine), or each listens on a port of the
//   kernel's choice and the PROXY protocol says where a connection was meant to go (stock Envoy; engine-stock.ts then chooses
//   the listener as virtualOutbound would);
// - addresses of endpoints become the loopback addresses that serve them; names found by DNS likewise, from `dns` of the test;
// - ORIGINAL_DST clusters dial what the fabric says (own engine: a hook; stock Envoy: a value that came by the PROXY protocol);
// - upstream connections of a pod start from its own loopback address, so that the other side knows who dials.
// Called by mesh.ts through the offline control plane.
import { create, type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import {
  type Cluster,
  Cluster_OriginalDstLbConfigSchema,
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { AddressSchema, BindConfigSchema } from '#proto/envoy/config/core/v3/address_pb.js';
import type { Endpoint } from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import {
  type ClusterLoadAssignment,
  ClusterLoadAssignmentSchema,
} from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import { type ListenerFilter, ListenerFilterSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { type Listener, ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { ProxyProtocolSchema } from '#proto/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js';
import { type EncodedResource, encodeResource, packAny } from '../../base/envoy-api/any.ts';
import { INBOUND_PASSTHROUGH_CLUSTER } from '../../base/xds/names.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { IpPort } from './fabric.ts';

export type EngineName = 'meltemi' | 'envoy';

export interface AdaptContext {
  readonly engine: EngineName;
  /** Loopback source of the proxy's pod. */
  readonly source: string;
  readonly reach: (at: IpPort) => IpPort;
  /** Addresses of a name, as the test's `dns` has them. */
  readonly resolve: (hostname: string) => readonly string[];
}

/** Type and key of what the PROXY protocol carries besides addresses. */
export const REACH_TLV = 0xe0;
const METADATA = 'meltemi.mesh-test';
const METADATA_KEY = 'reach';

export function adaptResources(
  resources: readonly EncodedResource[],
  typeUrl: string,
  context: AdaptContext,
): readonly EncodedResource[] {
  switch (typeUrl) {
    case TYPE_URL.listener:
      return resources.map((r) => change(ListenerSchema, r, (m) => adaptListener(m, context)));
    case TYPE_URL.cluster:
      return resources.map((r) => change(ClusterSchema, r, (m) => adaptCluster(m, context)));
    case TYPE_URL.endpoint:
      return resources.map((r) => change(ClusterLoadAssignmentSchema, r, (m) => adaptAssignment(m, context)));
    default:
      return resources;
  }
}

function change<S extends DescMessage>(
  schema: S,
  resource: EncodedResource,
  edit: (message: MessageShape<S>) => void,
): EncodedResource {
  const message = fromBinary(schema, resource.any.value);
  edit(message);
  return encodeResource(schema, resource.name, message as never);
}

function adaptListener(message: Listener, context: AdaptContext): void {
  if (context.engine === 'meltemi') {
    message.bindToPort = false;
    return;
  }
  // What the PROXY protocol carried would be lost when one listener hands a connection to another.
  message.bindToPort = true;
  message.useOriginalDst = false;
  message.address = socketAddress({ ip: '127.0.0.1', port: 0 });
  const others = message.listenerFilters.filter((f) => f.name !== 'envoy.filters.listener.original_dst');
  message.listenerFilters = [proxyProtocol(), ...others];
}

function proxyProtocol(): ListenerFilter {
  return create(ListenerFilterSchema, {
    name: 'envoy.filters.listener.proxy_protocol',
    configType: {
      case: 'typedConfig',
      value: packAny(ProxyProtocolSchema, {
        rules: [{ tlvType: REACH_TLV, onTlvPresent: { metadataNamespace: METADATA, key: METADATA_KEY } }],
      }),
    },
  });
}

function adaptCluster(message: Cluster, context: AdaptContext): void {
  const kind = message.clusterDiscoveryType;
  const type = kind.case === 'type' ? kind.value : Discovery.STATIC;
  if (type === Discovery.ORIGINAL_DST && context.engine === 'envoy')
    message.lbConfig = {
      case: 'originalDstLbConfig',
      value: create(Cluster_OriginalDstLbConfigSchema, {
        metadataKey: { key: METADATA, path: [{ segment: { case: 'key', value: METADATA_KEY } }] },
      }),
    };
  if (message.loadAssignment) {
    const named = type === Discovery.STRICT_DNS || type === Discovery.LOGICAL_DNS;
    if (named) resolveNames(message.loadAssignment, context);
    adaptAssignment(message.loadAssignment, context);
    // What the name stands for is known: nobody is asked, and names nobody knows have no endpoints.
    if (named) message.clusterDiscoveryType = { case: 'type', value: Discovery.STATIC };
  }
  const inbound = message.name.startsWith('inbound|') || message.name === INBOUND_PASSTHROUGH_CLUSTER;
  if (!inbound && !message.upstreamBindConfig)
    message.upstreamBindConfig = create(BindConfigSchema, {
      sourceAddress: { address: context.source, portSpecifier: { case: 'portValue', value: 0 } },
    });
}

function resolveNames(assignment: ClusterLoadAssignment, context: AdaptContext): void {
  for (const locality of assignment.endpoints)
    locality.lbEndpoints = locality.lbEndpoints.filter((entry) => {
      if (entry.hostIdentifier.case !== 'endpoint') return true;
      const at = addressOf(entry.hostIdentifier.value);
      if (!at) return true;
      const [ip] = /^[\d.]+$/.test(at.ip) ? [at.ip] : context.resolve(at.ip);
      if (ip === undefined) return false;
      entry.hostIdentifier.value.hostname ||= at.ip;
      entry.hostIdentifier.value.address = socketAddress({ ip, port: at.port });
      return true;
    });
}

function adaptAssignment(assignment: ClusterLoadAssignment, context: AdaptContext): void {
  for (const locality of assignment.endpoints)
    for (const entry of locality.lbEndpoints) {
      if (entry.hostIdentifier.case !== 'endpoint') continue;
      const at = addressOf(entry.hostIdentifier.value);
      if (at) entry.hostIdentifier.value.address = socketAddress(context.reach(at));
    }
}

function addressOf(endpoint: Endpoint): IpPort | undefined {
  const socket = endpoint.address?.address;
  if (socket?.case !== 'socketAddress' || socket.value.portSpecifier.case !== 'portValue') return undefined;
  return { ip: socket.value.address, port: socket.value.portSpecifier.value };
}

function socketAddress(at: IpPort) {
  return create(AddressSchema, {
    address: {
      case: 'socketAddress',
      value: { address: at.ip, portSpecifier: { case: 'portValue', value: at.port } },
    },
  });
}
