// Header names the proxy itself reads or writes.
import { type HeaderMap, headerName, nameGroup } from './header-map.ts';

export const H = {
  host: headerName('host'),
  connection: headerName('connection'),
  keepAlive: headerName('keep-alive'),
  proxyConnection: headerName('proxy-connection'),
  transferEncoding: headerName('transfer-encoding'),
  contentLength: headerName('content-length'),
  contentType: headerName('content-type'),
  upgrade: headerName('upgrade'),
  expect: headerName('expect'),
  te: headerName('te'),
  via: headerName('via'),
  trailer: headerName('trailer'),
  date: headerName('date'),
  server: headerName('server'),
  location: headerName('location'),
  origin: headerName('origin'),
  vary: headerName('vary'),
  cookie: headerName('cookie'),
  userAgent: headerName('user-agent'),
  http2Settings: headerName('http2-settings'),
  requestId: headerName('x-request-id'),
  forwardedFor: headerName('x-forwarded-for'),
  forwardedProto: headerName('x-forwarded-proto'),
  forwardedHost: headerName('x-forwarded-host'),
  forwardedPort: headerName('x-forwarded-port'),
  xfcc: headerName('x-forwarded-client-cert'),
  envoyInternal: headerName('x-envoy-internal'),
  externalAddress: headerName('x-envoy-external-address'),
  attemptCount: headerName('x-envoy-attempt-count'),
  decorator: headerName('x-envoy-decorator-operation'),
  serviceTime: headerName('x-envoy-upstream-service-time'),
  expectedTimeout: headerName('x-envoy-expected-rq-timeout-ms'),
  originalHost: headerName('x-envoy-original-host'),
  forceTrace: headerName('x-envoy-force-trace'),
  originalPath: headerName('x-envoy-original-path'),
  overloaded: headerName('x-envoy-overloaded'),
  rateLimited: headerName('x-envoy-ratelimited'),
  isTimeoutRetry: headerName('x-envoy-is-timeout-retry'),
  setCookie: headerName('set-cookie'),
  peerMetadata: headerName('x-envoy-peer-metadata'),
  peerMetadataId: headerName('x-envoy-peer-metadata-id'),
  grpcStatus: headerName('grpc-status'),
  grpcMessage: headerName('grpc-message'),
  authorityName: headerName(':authority'),
} as const;

/** What only our own proxies may say to each other: taken from every request that does not come from inside. */
const INTERNAL_ONLY = [
  'x-envoy-retriable-status-codes',
  'x-envoy-retriable-header-names',
  'x-envoy-retry-on',
  'x-envoy-retry-grpc-on',
  'x-envoy-max-retries',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-upstream-rq-timeout-ms',
  'x-envoy-upstream-rq-per-try-timeout-ms',
  'x-envoy-upstream-rq-timeout-alt-response',
  'x-envoy-upstream-stream-duration-ms',
  'x-envoy-expected-rq-timeout-ms',
  'x-envoy-force-trace',
  'x-envoy-ip-tags',
  'x-envoy-original-url',
  'x-envoy-hedge-on-per-try-timeout',
].map(headerName);

/** Taken from requests of clients at the edge as well. */
const EDGE_ONLY = [
  'x-envoy-decorator-operation',
  'x-envoy-downstream-service-cluster',
  'x-envoy-downstream-service-node',
  // The access log prefers it to the path: a client must not write its own.
  'x-envoy-original-path',
  'x-envoy-original-dst-host',
].map(headerName);

const INTERNAL = nameGroup(INTERNAL_ONLY);
const EDGE = nameGroup(EDGE_ONLY);

/** For a request that does not come from inside. */
export function removeInternalHeaders(headers: HeaderMap, edge: boolean): void {
  if (headers.anyOf(INTERNAL)) for (const name of INTERNAL_ONLY) headers.remove(name);
  if (edge && headers.anyOf(EDGE)) for (const name of EDGE_ONLY) headers.remove(name);
}
