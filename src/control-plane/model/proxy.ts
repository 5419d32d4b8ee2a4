// Who a proxy says it is: node.id and node.metadata (xds.md §5). Network input: everything is checked.
import { isIP } from 'node:net';
import { fromJson, type JsonObject, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { StructSchema } from '@bufbuild/protobuf/wkt';

export type ProxyType = 'sidecar' | 'router';

export interface ProxyNode {
  /** `<pod>.<namespace>`. */
  readonly id: string;
  /** node.id as the proxy says it. */
  readonly nodeId: string;
  readonly type: ProxyType;
  /** Our own proxy (and Istio's, which knows the same), or a stock Envoy. */
  readonly engine: 'meltemi' | 'envoy';
  /** What x-envoy-peer-metadata says of this proxy, made where the proxy cannot make it; else empty. */
  readonly peer: string;
  readonly ips: readonly string[];
  readonly podName: string;
  readonly namespace: string;
  readonly dnsDomain: string;
  readonly serviceAccount: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly clusterId: string;
  readonly istioVersion: string;
  readonly interceptionMode: 'REDIRECT' | 'TPROXY' | 'NONE';
  /** Container ports by name, for Services that name their target port. */
  readonly podPorts: ReadonlyMap<string, number>;
}

const MAX_ID_BYTES = 1024;
const MAX_LABELS = 1000;

export type ParsedProxy =
  | { readonly kind: 'ok'; readonly proxy: ProxyNode }
  | { readonly kind: 'invalid'; readonly message: string };

export function parseProxy(nodeId: string, metadata: JsonObject): ParsedProxy {
  if (nodeId.length > MAX_ID_BYTES) return bad(`node id is longer than ${MAX_ID_BYTES} bytes`);
  const parts = nodeId.split('~');
  const [type, address, id, domain] = parts;
  if (parts.length !== 4 || type === undefined || address === undefined || !id || domain === undefined)
    return bad(`missing parts in the service node ${JSON.stringify(nodeId)}`);
  if (type !== 'sidecar' && type !== 'router')
    return bad(`invalid node type (valid types: sidecar, router in the service node ${JSON.stringify(nodeId)})`);
  const given = str(metadata.INSTANCE_IPS)?.split(',') ?? [];
  const ips = [...given, address].map((ip) => ip.trim()).filter((ip) => isIP(ip) !== 0);
  if (ips.length === 0) return bad('no valid IP address in the service node id or metadata');
  const labels = textMap(metadata.LABELS);
  const domainLabels = domain.split('.');
  const namespace = str(metadata.NAMESPACE) || (domainLabels.length >= 2 ? (domainLabels[0] ?? '') : '');
  if (namespace === '') return bad('the service node names no namespace');
  const dot = id.lastIndexOf('.');
  const mode = str(metadata.INTERCEPTION_MODE);
  const engine = str(metadata.ENGINE) === 'envoy' ? 'envoy' : 'meltemi';
  return {
    kind: 'ok',
    proxy: {
      id,
      nodeId,
      type,
      engine,
      peer: engine === 'envoy' ? peerMetadata(metadata, labels) : '',
      ips: [...new Set(given.some((ip) => isIP(ip.trim())) ? ips.slice(0, given.length) : ips)],
      podName: dot > 0 ? id.slice(0, dot) : id,
      namespace,
      dnsDomain: domain,
      serviceAccount: str(metadata.SERVICE_ACCOUNT) || undefined,
      labels,
      clusterId: str(metadata.CLUSTER_ID) ?? 'Kubernetes',
      istioVersion: str(metadata.ISTIO_VERSION) ?? '',
      interceptionMode: mode === 'TPROXY' || mode === 'NONE' ? mode : 'REDIRECT',
      podPorts: readPodPorts(metadata.POD_PORTS),
    },
  };
}

const PEER_KEYS = ['CLUSTER_ID', 'NAME', 'NAMESPACE', 'OWNER', 'WORKLOAD_NAME'];
const PEER_LABELS = [
  'service.istio.io/canonical-name',
  'service.istio.io/canonical-revision',
  'app',
  'version',
  'app.kubernetes.io/name',
  'app.kubernetes.io/version',
];

/** Base64 of the Struct that proxies tell each other (observability.md §2). */
function peerMetadata(metadata: JsonObject, labels: Readonly<Record<string, string>>): string {
  const pick = (from: Readonly<Record<string, JsonValue>>, keys: readonly string[]): JsonObject =>
    Object.fromEntries(keys.flatMap((key) => (typeof from[key] === 'string' ? [[key, from[key]]] : [])));
  const struct = fromJson(StructSchema, { ...pick(metadata, PEER_KEYS), LABELS: pick(labels, PEER_LABELS) });
  return Buffer.from(toBinary(StructSchema, struct)).toString('base64');
}

function bad(message: string): ParsedProxy {
  return { kind: 'invalid', message };
}

function str(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function textMap(value: JsonValue | undefined): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return out;
  for (const [key, entry] of Object.entries(value).slice(0, MAX_LABELS))
    if (typeof entry === 'string') out[key] = entry;
  return out;
}

/** POD_PORTS arrives as a JSON text or as the list itself. */
function readPodPorts(value: JsonValue | undefined): ReadonlyMap<string, number> {
  const out = new Map<string, number>();
  let entries: unknown = value;
  if (typeof value === 'string') {
    try {
      entries = JSON.parse(value);
    } catch {
      return out;
    }
  }
  if (!Array.isArray(entries)) return out;
  for (const entry of entries.slice(0, MAX_LABELS)) {
    if (typeof entry !== 'object' || entry === null || !('name' in entry) || !('containerPort' in entry)) continue;
    if (typeof entry.name === 'string' && typeof entry.containerPort === 'number')
      out.set(entry.name, entry.containerPort);
  }
  return out;
}
