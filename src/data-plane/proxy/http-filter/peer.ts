// Who a peer is, for metrics: from x-envoy-peer-metadata, from the TCP exchange, or from endpoint metadata.
import { fromBinary, fromJson, type JsonObject, type JsonValue, toBinary, toJson } from '@bufbuild/protobuf';
import { type Struct, StructSchema } from '@bufbuild/protobuf/wkt';
import type { Metadata } from '../cluster/host.ts';
import { MAX_PEER_CACHE, MAX_PEER_METADATA_BYTES } from '../limits.ts';

export interface Peer {
  readonly workload: string;
  readonly namespace: string;
  readonly app: string;
  readonly version: string;
  readonly canonicalName: string;
  readonly canonicalRevision: string;
  readonly cluster: string;
}

export const UNKNOWN_PEER: Peer = {
  workload: 'unknown',
  namespace: 'unknown',
  app: 'unknown',
  version: 'unknown',
  canonicalName: 'unknown',
  canonicalRevision: 'latest',
  cluster: 'unknown',
};

/** This proxy's own identity, from the node of the bootstrap. */
export interface LocalPeer {
  readonly peer: Peer;
  /** node.id, the value of x-envoy-peer-metadata-id. */
  readonly id: string;
  /** Base64 of the serialized Struct, the value of x-envoy-peer-metadata. */
  readonly encoded: string;
  readonly struct: Struct;
}

const LABELS_SENT = [
  'service.istio.io/canonical-name',
  'service.istio.io/canonical-revision',
  'app',
  'version',
  'app.kubernetes.io/name',
  'app.kubernetes.io/version',
];

export function localPeer(nodeId: string, metadata: JsonObject): LocalPeer {
  const labels = object(metadata.LABELS);
  const sent: Record<string, JsonValue> = {};
  for (const key of ['CLUSTER_ID', 'NAME', 'NAMESPACE', 'OWNER', 'WORKLOAD_NAME'])
    if (typeof metadata[key] === 'string') sent[key] = metadata[key];
  const sentLabels: Record<string, JsonValue> = {};
  for (const key of LABELS_SENT) if (typeof labels[key] === 'string') sentLabels[key] = labels[key];
  sent.LABELS = sentLabels;
  const struct = fromJson(StructSchema, sent);
  return {
    peer: peerOf(metadata),
    id: nodeId,
    struct,
    encoded: Buffer.from(toBinary(StructSchema, struct)).toString('base64'),
  };
}

export function peerOf(metadata: JsonObject): Peer {
  const labels = object(metadata.LABELS);
  const text = (value: JsonValue | undefined, fallback: string) =>
    typeof value === 'string' && value !== '' ? value : fallback;
  const workload = text(metadata.WORKLOAD_NAME, 'unknown');
  const app = text(labels.app, 'unknown');
  const version = text(labels.version, 'unknown');
  return {
    workload,
    namespace: text(metadata.NAMESPACE, 'unknown'),
    app,
    version,
    canonicalName: text(
      labels['service.istio.io/canonical-name'],
      text(labels['app.kubernetes.io/name'], app === 'unknown' ? workload : app),
    ),
    canonicalRevision: text(
      labels['service.istio.io/canonical-revision'],
      text(labels['app.kubernetes.io/version'], version === 'unknown' ? 'latest' : version),
    ),
    cluster: text(metadata.CLUSTER_ID, 'unknown'),
  };
}

function object(value: JsonValue | undefined): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}

const cache = new Map<string, Peer>();

/** Reads the header's value; undefined when it is not what a proxy sends. */
export function decodePeer(encoded: string): Peer | undefined {
  if (encoded.length > MAX_PEER_METADATA_BYTES) return undefined;
  const known = cache.get(encoded);
  if (known) return known;
  const peer = peerOfStruct(Buffer.from(encoded, 'base64'));
  if (!peer) return undefined;
  if (cache.size >= MAX_PEER_CACHE) {
    const oldest = cache.keys().next().value;
    if (oldest !== undefined) cache.delete(oldest);
  }
  cache.set(encoded, peer);
  return peer;
}

export function peerOfStruct(bytes: Uint8Array): Peer | undefined {
  try {
    return peerOf(toJson(StructSchema, fromBinary(StructSchema, bytes)) as JsonObject);
  } catch {
    return undefined;
  }
}

/** Istio's endpoint metadata `istio.workload` = `name;namespace;canonical name;canonical revision;cluster`. */
export function peerOfEndpoint(metadata: Metadata): Peer | undefined {
  const text = metadata.istio?.workload;
  if (typeof text !== 'string') return undefined;
  const parts = text.split(';');
  if (parts.length < 5) return undefined;
  const [workload, namespace, canonicalName, canonicalRevision, cluster] = parts.map((part) => part || 'unknown');
  return {
    ...UNKNOWN_PEER,
    workload: workload!,
    namespace: namespace!,
    canonicalName: canonicalName!,
    canonicalRevision: canonicalRevision === 'unknown' ? 'latest' : canonicalRevision!,
    cluster: cluster!,
    app: canonicalName!,
    version: canonicalRevision!,
  };
}
