// What a request or connection tells the load balancer, and what it later tells the cluster about the host it got.
// Filled by the router and tcp_proxy; read by the balancers and outlier detection of a cluster.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import type { SocketAddr } from '../config/address.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { Hash64 } from './hash64.ts';
import type { Host, Metadata } from './host.ts';

/** Envoy's RoutingPriority: which circuit breakers count. */
export type RoutingPriority = 'default' | 'high';

/** The router's exchange and the TCP session are such objects themselves: a pick allocates nothing. */
export interface LbContext {
  /** Where the client wanted to go; what ORIGINAL_DST dials. */
  readonly destination: SocketAddr | undefined;
  /** Result of the route's hash policy; undefined = none was configured or none applied. */
  readonly hash: Hash64 | undefined;
  /** `metadata_match` of the route and its weighted cluster, joined; chooses the subset. */
  readonly metadataMatch: MetadataMatch | undefined;
  /** Request headers, for `http_header_name` of ORIGINAL_DST and the override_host policy. */
  readonly requestHeaders: HeaderMap | undefined;
  /** Dynamic metadata of a filter, for `metadata_key` of ORIGINAL_DST. */
  metadataOf?(filter: string): JsonObject | undefined;
  /** Hosts a retry should not take again. */
  readonly avoid: ((host: Host) => boolean) | undefined;
  /** How often another host is asked for when `avoid` refuses one (host_selection_retry_max_attempts). */
  readonly attempts: number;
  readonly priority: RoutingPriority;
  /** Priorities of endpoints that a retry leaves out while others have hosts (previous_priorities). */
  readonly avoidPriorities?: ReadonlySet<number> | undefined;
}

/** Nothing is known: control plane connections, health checks, tests. */
export const NO_CONTEXT: LbContext = {
  destination: undefined,
  hash: undefined,
  metadataMatch: undefined,
  requestHeaders: undefined,
  avoid: undefined,
  attempts: 0,
  priority: 'default',
};

/** Keys of `envoy.lb` that a host must carry, sorted by name; values as canonical text (see `valueText`). */
export interface MetadataMatch {
  readonly keys: readonly string[];
  readonly values: readonly string[];
}

/** The criteria in `metadata`; those of `parent` (the route, for a weighted cluster) hold where it says nothing. */
export function metadataMatch(metadata: Metadata | undefined, parent?: MetadataMatch): MetadataMatch | undefined {
  const own = metadata?.['envoy.lb'];
  if (!own) return parent;
  const all = new Map<string, string>();
  for (const [i, key] of (parent?.keys ?? []).entries()) all.set(key, parent!.values[i]!);
  for (const [key, value] of Object.entries(own)) all.set(key, valueText(value));
  const keys = [...all.keys()].sort();
  return { keys, values: keys.map((key) => all.get(key)!) };
}

/** Equal values have equal texts, whatever the order of their fields. */
export function valueText(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = Object.keys(value).sort();
  return `{${fields.map((key) => `${JSON.stringify(key)}:${valueText(value[key]!)}`).join(',')}}`;
}

/**
 * How an exchange with a host went, for outlier detection; reported once for each thing that happened:
 * - a number: the HTTP status of the answer; for gRPC the status that its grpc-status stands for (`grpcHttpStatus`);
 * - `connected`: a connection for a request was there;
 * - `connect-failure`, `connect-timeout`: there was none;
 * - `reset`: the exchange ended before an answer;
 * - `request-timeout`: the try or the whole request took too long;
 * - `success`: a TCP session was joined (nothing more will be said).
 */
export type Outcome =
  | number
  | 'connected'
  | 'connect-failure'
  | 'connect-timeout'
  | 'reset'
  | 'request-timeout'
  | 'success';

/** The HTTP status Envoy takes for a gRPC status. */
export function grpcHttpStatus(grpcStatus: number): number {
  return GRPC_TO_HTTP[grpcStatus] ?? 500;
}
const GRPC_TO_HTTP: readonly number[] = [
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];
