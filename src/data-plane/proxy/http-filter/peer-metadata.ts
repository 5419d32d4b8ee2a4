// istio.metadata_exchange for HTTP: peers tell each other who they are in x-envoy-peer-metadata headers, which never
// reach an application.
import {
  type Config,
  Config_DiscoveryMethodSchema,
  Config_PropagationMethodSchema,
  ConfigSchema,
} from '#proto/istio/peer_metadata_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import type { HttpFilter } from './filter.ts';
import { decodePeer, type LocalPeer, type Peer } from './peer.ts';
import type { ClusterFinder } from './router.ts';

/** Where filters find the peers of a stream. */
export interface StreamPeers {
  downstream?: Peer;
  upstream?: Peer;
}
const peers = new WeakMap<HttpStream, StreamPeers>();

const NO_PEERS: StreamPeers = {};

export function peersOf(stream: HttpStream): StreamPeers {
  return peers.get(stream) ?? NO_PEERS;
}

interface Ways {
  readonly headers: boolean;
  readonly skipExternal: boolean;
}

export function createPeerMetadataFilter(
  message: Config,
  context: { readonly name: string; readonly local: LocalPeer; readonly clusters: ClusterFinder },
  path: string,
): HttpFilter {
  only(ConfigSchema, message, path, [
    'downstream_discovery',
    'upstream_discovery',
    'downstream_propagation',
    'upstream_propagation',
    'shared_with_upstream',
  ]);
  const fromClient = discovery(message.downstreamDiscovery, join(path, 'downstream_discovery'));
  const fromServer = discovery(message.upstreamDiscovery, join(path, 'upstream_discovery'));
  const toClient = propagation(message.downstreamPropagation, join(path, 'downstream_propagation'));
  const toServer = propagation(message.upstreamPropagation, join(path, 'upstream_propagation'));
  const { local } = context;
  return {
    name: context.name,
    onRequest(stream, index) {
      const known: StreamPeers = {};
      peers.set(stream, known);
      const { headers } = stream;
      if (fromClient) {
        const value = headers.get(H.peerMetadata);
        if (value !== undefined) known.downstream = decodePeer(value);
        stream.slots[index] = value !== undefined || headers.has(H.peerMetadataId);
        headers.remove(H.peerMetadata);
        headers.remove(H.peerMetadataId);
      }
      if (toServer.headers && !(toServer.skipExternal && isExternal(stream, context.clusters))) {
        headers.set(H.peerMetadataId, local.id);
        headers.set(H.peerMetadata, local.encoded);
      }
      return 'continue';
    },
    onResponse(stream, headers, index) {
      if (fromServer) {
        const value = headers.get(H.peerMetadata);
        const known = peers.get(stream);
        if (value !== undefined && known) known.upstream = decodePeer(value);
        headers.remove(H.peerMetadata);
        headers.remove(H.peerMetadataId);
      }
      // Only a peer that asked is answered.
      if (toClient.headers && stream.slots[index] === true) {
        headers.set(H.peerMetadataId, local.id);
        headers.set(H.peerMetadata, local.encoded);
      }
    },
  };
}

function isExternal(stream: HttpStream, clusters: ClusterFinder): boolean {
  const action = stream.route?.action;
  if (action?.kind !== 'forward') return false;
  const name = action.clusters[0] ?? '';
  if (name === 'PassthroughCluster') return true;
  return clusters.find(name)?.metadata.istio?.external === true;
}

/** True when the headers are a way to learn the peer. */
function discovery(methods: Config['downstreamDiscovery'], path: string): boolean {
  let headers = false;
  for (const [i, method] of methods.entries()) {
    only(Config_DiscoveryMethodSchema, method, join(path, `[${i}]`), ['workload_discovery', 'istio_headers']);
    // workload_discovery looks into the ambient workload table, which a sidecar has not: it finds nothing, as in Istio.
    if (method.methodSpecifier.case === 'istioHeaders') headers = true;
  }
  return headers;
}

function propagation(methods: Config['downstreamPropagation'], path: string): Ways {
  let out: Ways = { headers: false, skipExternal: false };
  for (const [i, method] of methods.entries()) {
    only(Config_PropagationMethodSchema, method, join(path, `[${i}]`), ['istio_headers']);
    if (method.methodSpecifier.case !== 'istioHeaders') throw new ConfigError(path, 'istio_headers is required');
    out = { headers: true, skipExternal: method.methodSpecifier.value.skipExternalClusters };
  }
  return out;
}
