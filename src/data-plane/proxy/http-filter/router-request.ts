// What the router does to a request before its first try: edits, rewrites, and the timeouts that the route and the
// caller's own headers ask for. Called by router-exchange.ts.
import { type HeaderMap, type HeaderName, headerName, nameGroup } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { MAX_EDITED_HEAD_BYTES, MAX_STEERED_MS } from '../limits.ts';
import type { ClusterChoice, ForwardSettings, StreamDuration } from '../route/action.ts';
import type { CompiledRoute } from '../route/compiled.ts';
import { applyEdits } from '../route/header-edits.ts';
import { pathOf } from '../route/path.ts';

export interface RouterOptions {
  /** Do not add x-envoy-* headers. */
  readonly suppressEnvoyHeaders: boolean;
  /** A timeout that an earlier proxy wrote down counts. */
  readonly respectExpectedTimeout: boolean;
  /** x-envoy-* headers whose values are refused when they make no sense. */
  readonly strictHeaders: readonly StrictHeader[];
  /** False: no statistics of clusters, virtual clusters and routes by status code. */
  readonly dynamicStats: boolean;
}

export interface StrictHeader {
  readonly name: HeaderName;
  readonly valid: (value: string) => boolean;
}

/** Headers by which a trusted caller steers the router; all are taken out of the request. */
export const STEER = {
  timeout: headerName('x-envoy-upstream-rq-timeout-ms'),
  perTry: headerName('x-envoy-upstream-rq-per-try-timeout-ms'),
  altResponse: headerName('x-envoy-upstream-rq-timeout-alt-response'),
  duration: headerName('x-envoy-upstream-stream-duration-ms'),
  retryOn: headerName('x-envoy-retry-on'),
  retryGrpcOn: headerName('x-envoy-retry-grpc-on'),
  maxRetries: headerName('x-envoy-max-retries'),
  statusCodes: headerName('x-envoy-retriable-status-codes'),
  headerNames: headerName('x-envoy-retriable-header-names'),
  altStat: headerName('x-envoy-upstream-alt-stat-name'),
  // Hedging is not done: the wish is only taken out.
  hedge: headerName('x-envoy-hedge-on-per-try-timeout'),
} as const;
const STEER_NAMES = Object.values(STEER);
const STEERING = nameGroup(STEER_NAMES);
const GRPC_TIMEOUT = headerName('grpc-timeout');

/** Nearly all requests have none of these headers. */
export function isSteered(headers: HeaderMap): boolean {
  return headers.anyOf(STEERING);
}

export function removeSteering(headers: HeaderMap): void {
  for (const name of STEER_NAMES) headers.remove(name);
}

/** ms; 0 = none. */
export interface Timeouts {
  global: number;
  perTry: number;
  perTryIdle: number;
  /** Of one try: from the caller's header, else the cluster's. */
  maxStream: number;
  /** What a timeout answers with. */
  status: number;
}

export function timeoutsOf(
  stream: HttpStream,
  action: ForwardSettings,
  options: RouterOptions,
  steered: boolean,
  clusterMaxStream: number,
): Timeouts {
  const out: Timeouts = {
    // The newer max_stream_duration takes the place of all older rules, the default of 15 s among them.
    global: action.duration ? 0 : action.timeoutMs,
    perTry: action.retry?.perTryTimeoutMs ?? 0,
    perTryIdle: action.retry?.perTryIdleTimeoutMs ?? 0,
    maxStream: clusterMaxStream,
    status: 504,
  };
  const { headers } = stream;
  if (stream.grpc && action.maxGrpcTimeoutMs !== undefined && !action.duration)
    out.global = grpcGlobal(headers, action.maxGrpcTimeoutMs, action.grpcOffsetMs);
  const expected = options.respectExpectedTimeout ? number(headers, H.expectedTimeout) : undefined;
  if (expected !== undefined) out.global = expected;
  if (steered) {
    if (expected === undefined) out.global = number(headers, STEER.timeout) ?? out.global;
    out.perTry = number(headers, STEER.perTry) ?? out.perTry;
    out.maxStream = number(headers, STEER.duration) ?? clusterMaxStream;
    if (headers.has(STEER.altResponse)) out.status = 204;
  }
  if (out.global > 0 && out.perTry >= out.global) out.perTry = 0;
  return out;
}

function number(headers: HeaderMap, name: HeaderName): number | undefined {
  const text = headers.get(name);
  if (text === undefined || !/^\d{1,19}$/.test(text)) return undefined;
  return Math.min(Number(text), MAX_STEERED_MS);
}

/** A caller without a timeout, and one with too long a one, get the largest that is allowed; 0 = no bound. */
function grpcGlobal(headers: HeaderMap, max: number, offset: number): number {
  let asked = grpcTimeout(headers) ?? 0;
  if (offset > 0 && offset < asked) asked -= offset;
  return max !== 0 && (asked === 0 || asked > max) ? max : asked;
}

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** ms of `grpc-timeout: 10S`, rounded up. */
export function grpcTimeout(headers: HeaderMap): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(headers.get(GRPC_TIMEOUT) ?? '');
  return match ? Math.min(Math.ceil(Number(match[1]) * UNITS[match[2]!]!), MAX_STEERED_MS) : undefined;
}

/** max_stream_duration of a stream, ms: the route's, or a gRPC caller's own within the route's bound, or `manager`'s. */
export function streamDuration(
  duration: StreamDuration | undefined,
  manager: number,
  stream: Pick<HttpStream, 'grpc' | 'headers'>,
): number {
  if (!duration) return manager;
  const own = stream.grpc && duration.grpcMaxMs !== undefined ? grpcTimeout(stream.headers) : undefined;
  if (own === undefined) return duration.maxMs ?? manager;
  const max = duration.grpcMaxMs ?? 0;
  let asked = max !== 0 && (own === 0 || own > max) ? max : own;
  if (duration.grpcOffsetMs > 0 && duration.grpcOffsetMs < asked) asked -= duration.grpcOffsetMs;
  // The upstream is told what is left of its caller's wish.
  if (asked > 0) stream.headers.set(GRPC_TIMEOUT, `${Math.round(asked)}m`);
  return asked;
}

/** Tells the upstream how long it has; called again for every later try. */
export function writeExpectedTimeout(
  stream: HttpStream,
  action: ForwardSettings,
  options: RouterOptions,
  timeouts: Timeouts,
  elapsed: number,
): void {
  let expected = timeouts.perTry;
  // 0 would mean for ever.
  if (timeouts.global > 0) {
    const left = Math.max(1, timeouts.global - elapsed);
    expected = expected === 0 ? left : Math.min(expected, left);
  }
  if (expected <= 0) return;
  const { headers } = stream;
  if (!options.suppressEnvoyHeaders) headers.set(H.expectedTimeout, String(Math.round(expected)));
  if (stream.grpc && action.maxGrpcTimeoutMs !== undefined && !action.duration)
    headers.set(GRPC_TIMEOUT, `${Math.round(expected)}m`);
}

/** Edits may repeat what a client sent many times over; a head that was not touched is within the codec's own bound. */
export function isTooLarge(
  stream: HttpStream,
  route: CompiledRoute,
  action: ForwardSettings,
  choice: ClusterChoice,
): boolean {
  const touched =
    route.requestEdits.length > 0 ||
    choice.requestEdits.add.length > 0 ||
    action.rewritePath !== undefined ||
    action.hostRewrite !== undefined;
  return touched && stream.path.length + stream.headers.writtenSize() > MAX_EDITED_HEAD_BYTES;
}

/** Edits and rewrites; called once, before the first try. */
export function finalizeRequest(
  stream: HttpStream,
  route: CompiledRoute,
  action: ForwardSettings,
  choice: ClusterChoice,
  options: RouterOptions,
): void {
  const { headers, info } = stream;
  if (!route.specificLast) applyEdits(choice.requestEdits, headers, info);
  for (const edits of route.requestEdits) applyEdits(edits, headers, info);
  if (route.specificLast) applyEdits(choice.requestEdits, headers, info);
  rewriteHost(stream, action, choice, options);
  const rewritten = action.rewritePath?.(stream.path, info);
  if (rewritten === undefined) return;
  if (!options.suppressEnvoyHeaders) headers.set(H.originalPath, stream.path);
  stream.path = rewritten;
  info.path = rewritten;
}

function rewriteHost(stream: HttpStream, action: ForwardSettings, choice: ClusterChoice, options: RouterOptions): void {
  // The route's goes over that of the weighted cluster.
  if (choice.hostRewrite !== '') replaceAuthority(stream, choice.hostRewrite);
  const rewrite = action.hostRewrite;
  if (!rewrite) return;
  let authority: string | undefined;
  switch (rewrite.kind) {
    case 'literal':
      authority = rewrite.value;
      break;
    case 'header':
      authority = stream.headers.get(rewrite.name);
      break;
    case 'path':
      authority = rewrite.replace(pathOf(stream.path));
      break;
    case 'format':
      authority = rewrite.format(stream.info);
      break;
    case 'auto':
      // Known with the host.
      return;
  }
  if (authority) setAuthority(stream, action, authority, options);
}

/** Of weighted clusters: the old authority is not told. */
function replaceAuthority(stream: HttpStream, authority: string): void {
  stream.authority = authority;
  stream.info.authority = authority;
  stream.headers.set(H.host, authority);
}

export function setAuthority(
  stream: HttpStream,
  action: ForwardSettings,
  authority: string,
  options: RouterOptions,
): void {
  const { headers } = stream;
  if (!options.suppressEnvoyHeaders) headers.set(H.originalHost, stream.authority);
  if (action.appendForwardedHost && stream.authority !== '') {
    const before = headers.getAll(H.forwardedHost);
    headers.set(H.forwardedHost, before ? `${before},${stream.authority}` : stream.authority);
  }
  replaceAuthority(stream, authority);
}
