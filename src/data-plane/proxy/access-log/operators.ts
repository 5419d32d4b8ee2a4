// Command operators without arguments, by name: what they print of a finished request or connection. Used by format.ts.
import { addressText, type SocketAddr } from '../config/address.ts';
import { type HeaderMap, utf8Bytes } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { flagsText, type StreamInfo } from '../http/stream-info.ts';
import { connectTimes } from '../transport-socket/connect-times.ts';
import { addressWithoutPort } from './address-operators.ts';
import { GRPC_NAMES, givenGrpcStatus, grpcStatusNumber } from './grpc-status.ts';
import { TLS_OPERATORS } from './tls-operators.ts';
import type { Operator } from './types.ts';
import { textBytes } from './values.ts';

function port(address: SocketAddr | undefined): number | undefined {
  return address?.kind === 'ip' ? address.port : undefined;
}
function text(value: SocketAddr | undefined): string | undefined {
  if (value?.kind === 'pipe') return utf8Bytes(value.path);
  return value ? addressText(value) : undefined;
}
const ip = addressWithoutPort;
export const some = (value: string): string | undefined => (value === '' ? undefined : value);

let spaced = '';
let replaced = '';

/** White space becomes `_`; nearly every request has the same few texts. */
export function spaceless(value: string): string | undefined {
  if (value === '') return undefined;
  if (value !== spaced) {
    replaced = utf8Bytes(value.replaceAll(/\s/g, '_'));
    spaced = value;
  }
  return replaced;
}

/** ms from `from` to `to`; undefined when one of them never came. */
const span = (from: number, to: number): number | undefined =>
  from < 0 || to < 0 ? undefined : Math.max(0, Math.trunc(to - from));

/** Bytes of names and values, with the pseudo headers HTTP/1 has in its first line. */
function headerBytes(headers: HeaderMap | undefined, pseudo: readonly string[]): number {
  let bytes = 0;
  for (let i = 0; i < pseudo.length; i += 2)
    if (pseudo[i + 1] !== '') bytes += pseudo[i]!.length + pseudo[i + 1]!.length;
  headers?.forEach((name, value) => {
    // Counted as :authority.
    if (name !== 'host') bytes += name.length + value.length;
  });
  return bytes;
}

export function requestHeadBytes({ requestHeaders, method, path, authority, scheme }: StreamInfo): number {
  if (!requestHeaders) return 0;
  return headerBytes(requestHeaders, [':method', method, ':path', path, ':authority', authority, ':scheme', scheme]);
}
export function responseHeadBytes({ responseHeaders, responseCode }: StreamInfo): number {
  return responseHeaders ? headerBytes(responseHeaders, [':status', String(responseCode)]) : 0;
}
export const trailerBytes = (info: StreamInfo): number => headerBytes(info.responseTrailers, []);

const LOG_TYPES: readonly string[] = [
  'NotSet',
  'TcpUpstreamConnected',
  'TcpPeriodic',
  'TcpConnectionEnd',
  'DownstreamStart',
  'DownstreamPeriodic',
  'DownstreamEnd',
  'UpstreamPoolReady',
  'UpstreamPeriodic',
  'UpstreamEnd',
  'DownstreamTunnelSuccessfullyEstablished',
  'UdpTunnelUpstreamConnected',
  'UdpPeriodic',
  'UdpSessionEnd',
];

/** Ids of upstream connections, given when one is first asked for. */
const upstreamIds = new WeakMap<object, number>();
let lastUpstreamId = 0;
function upstreamId(info: StreamInfo): number {
  return info.upstreamTransport ? idOf(info.upstreamTransport) : 0;
}

function idOf(connection: object): number {
  let id = upstreamIds.get(connection);
  if (id === undefined) {
    lastUpstreamId += 1;
    id = lastUpstreamId;
    upstreamIds.set(connection, id);
  }
  return id;
}

/** HTTP has its connection when the request leaves; TCP, when it is made. */
export function upstreamReady(info: StreamInfo): number {
  if (info.upstreamTxBegin >= 0) return info.upstreamTxBegin;
  const times = connectTimes(info.upstreamTransport);
  return times ? Math.max(times.connected, times.secured) : -1;
}

function hostName(info: StreamInfo): string | undefined {
  if (!info.upstreamHost) return undefined;
  return utf8Bytes(info.upstreamHostName) || text(info.upstreamHost);
}

export function grpcName(info: StreamInfo): string | undefined {
  if (!isGrpc(info)) return undefined;
  const status = givenGrpcStatus(info) ?? grpcStatusNumber(info);
  return GRPC_NAMES[status] ?? String(status);
}

export function isGrpc(info: StreamInfo): boolean {
  return info.requestHeaders?.get(H.contentType)?.startsWith('application/grpc') ?? false;
}

/** Names in certificates are bytes already; subjects are texts. */
const TEXTS = /(?:SUBJECT|ISSUER)$/;

function ofCertificate(name: string, read: Operator): Operator {
  const text = TEXTS.test(name);
  return (info) => {
    const value = read(info);
    return typeof value === 'string' && (text || /[^\0-\xff]/.test(value)) ? utf8Bytes(value) : value;
  };
}

/** Whose value is a number in JSON. */
export const SIMPLE: Readonly<Record<string, Operator>> = {
  ...Object.fromEntries(Object.entries(TLS_OPERATORS).map(([name, read]) => [name, ofCertificate(name, read)])),
  ACCESS_LOG_TYPE: (i) => LOG_TYPES[i.logType] ?? 'NotSet',
  PROTOCOL: (i) => some(i.protocol),
  UPSTREAM_PROTOCOL: (i) => some(i.upstreamProtocol),
  RESPONSE_CODE: (i) => i.responseCode,
  RESPONSE_FLAGS: (i) => flagsText(i),
  RESPONSE_FLAGS_LONG: (i) => flagsText(i, true),
  CUSTOM_FLAGS: () => '',
  CONNECTION_TERMINATION_DETAILS: textBytes((i) => some(i.connectionTermination)),
  UPSTREAM_TRANSPORT_FAILURE_REASON: (i) => spaceless(i.upstreamFailure),
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: (i) => spaceless(i.downstreamFailure),
  // Envoy writes the line of a request before the connection is closed: there is never a reason in it.
  DOWNSTREAM_LOCAL_CLOSE_REASON: textBytes((i) =>
    i.requestHeaders ? undefined : i.connection.localCloseReason || undefined,
  ),
  DOWNSTREAM_DETECTED_CLOSE_TYPE: (i) => (i.requestHeaders ? undefined : i.connection.resetBy) ?? 'Normal',
  UPSTREAM_LOCAL_CLOSE_REASON: (i) => some(i.upstreamCloseReason),
  UPSTREAM_DETECTED_CLOSE_TYPE: (i) => some(i.upstreamCloseType) ?? (i.upstreamHost ? 'Normal' : undefined),
  LOCAL_REPLY_BODY: (i) => i.localReplyBody,
  GRPC_STATUS_NUMBER: (i) => (isGrpc(i) ? grpcStatusNumber(i) : undefined),

  BYTES_RECEIVED: (i) => i.bytesReceived,
  // Only QUIC counts them.
  BYTES_RETRANSMITTED: () => 0,
  PACKETS_RETRANSMITTED: () => 0,
  BYTES_SENT: (i) => i.bytesSent,
  DOWNSTREAM_WIRE_BYTES_RECEIVED: (i) => i.wireBytesReceived,
  DOWNSTREAM_WIRE_BYTES_SENT: (i) => i.wireBytesSent,
  DOWNSTREAM_HEADER_BYTES_RECEIVED: (i) => i.headBytesReceived,
  DOWNSTREAM_HEADER_BYTES_SENT: (i) => i.headBytesSent,
  UPSTREAM_WIRE_BYTES_SENT: (i) => i.upstreamWireSent,
  UPSTREAM_WIRE_BYTES_RECEIVED: (i) => i.upstreamWireReceived,
  UPSTREAM_HEADER_BYTES_SENT: (i) => i.upstreamHeadSent,
  UPSTREAM_HEADER_BYTES_RECEIVED: (i) => i.upstreamHeadReceived,
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: (i) => i.fieldBytesReceived,
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: (i) => i.fieldBytesSent,
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: (i) => i.upstreamFieldsSent,
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: (i) => i.upstreamFieldsReceived,
  REQUEST_HEADERS_BYTES: requestHeadBytes,
  RESPONSE_HEADERS_BYTES: responseHeadBytes,
  RESPONSE_TRAILERS_BYTES: trailerBytes,

  DURATION: (i) => (i.duration < 0 ? undefined : Math.trunc(i.duration)),
  REQUEST_DURATION: (i) => span(i.startTime, i.requestEnd),
  REQUEST_TX_DURATION: (i) => span(i.startTime, i.upstreamTxEnd),
  RESPONSE_DURATION: (i) => span(i.startTime, i.upstreamRxBegin),
  RESPONSE_TX_DURATION: (i) =>
    i.upstreamRxBegin < 0 || i.duration < 0 ? undefined : span(i.upstreamRxBegin, i.startTime + i.duration),
  UPSTREAM_CONNECTION_POOL_READY_DURATION: (i) => span(i.upstreamAsked, upstreamReady(i)),
  // Counted from the request, which may have come long after.
  DOWNSTREAM_HANDSHAKE_DURATION: (i) =>
    i.connection.handshakeAt === undefined ? undefined : Math.trunc(i.connection.handshakeAt - i.startTime),
  // Only QUIC measures them.
  ROUNDTRIP_DURATION: () => undefined,
  DOWNSTREAM_CX_RTT: () => 0,

  UPSTREAM_HOST: (i) => text(i.upstreamHost),
  UPSTREAM_HOST_NAME: hostName,
  UPSTREAM_HOST_NAME_WITHOUT_PORT: (i) => utf8Bytes(i.upstreamHost ? i.upstreamHostName : '') || ip(i.upstreamHost),
  UPSTREAM_HOSTS_ATTEMPTED: (i) => i.upstreamTried?.map((one) => text(one.address)).join(',') ?? text(i.upstreamHost),
  UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT: (i) =>
    i.upstreamTried?.map((one) => ip(one.address)).join(',') ?? ip(i.upstreamHost),
  UPSTREAM_HOST_NAMES_ATTEMPTED: (i) =>
    i.upstreamTried?.map((one) => utf8Bytes(one.hostname) || text(one.address)).join(',') ?? hostName(i),
  UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT: (i) =>
    i.upstreamTried?.map((one) => utf8Bytes(one.hostname) || ip(one.address)).join(',') ??
    (utf8Bytes(i.upstreamHostName) || ip(i.upstreamHost)),
  UPSTREAM_CONNECTION_IDS_ATTEMPTED: (i) =>
    (i.upstreamTransports ?? (i.upstreamTransport ? [i.upstreamTransport] : undefined))?.map(idOf).join(','),
  // Only internal addresses have one, and there are none.
  DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID: () => '',
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID: () => '',
  UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID: (i) => (i.upstreamHost ? '' : undefined),
  UPSTREAM_CLUSTER: textBytes((i) => some(i.upstreamClusterAlias || i.upstreamCluster)),
  UPSTREAM_CLUSTER_RAW: textBytes((i) => some(i.upstreamCluster)),
  UPSTREAM_CONNECTION_ID: upstreamId,
  UPSTREAM_LOCAL_ADDRESS: (i) => text(i.upstreamLocal),
  UPSTREAM_LOCAL_PORT: (i) => port(i.upstreamLocal),
  UPSTREAM_REMOTE_ADDRESS: (i) => text(i.upstreamHost),
  UPSTREAM_REMOTE_PORT: (i) => port(i.upstreamHost),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: (i) => i.attempts,

  DOWNSTREAM_LOCAL_ADDRESS: (i) => text(i.connection.local),
  DOWNSTREAM_LOCAL_PORT: (i) => port(i.connection.local),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: (i) => text(i.connection.directLocal),
  DOWNSTREAM_DIRECT_LOCAL_PORT: (i) => port(i.connection.directLocal),
  DOWNSTREAM_REMOTE_ADDRESS: (i) => text(i.remote),
  DOWNSTREAM_REMOTE_PORT: (i) => port(i.remote),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: (i) => text(i.connection.directRemote),
  DOWNSTREAM_DIRECT_REMOTE_PORT: (i) => port(i.connection.directRemote),
  CONNECTION_ID: (i) => i.connection.id,

  ROUTE_NAME: textBytes((i) => some(i.routeName)),
  VIRTUAL_CLUSTER_NAME: textBytes((i) => some(i.virtualCluster)),
  FILTER_CHAIN_NAME: textBytes((i) => some(i.connection.chainName)),
  LISTENER_NAME: textBytes((i) => some(i.connection.listenerName)),
  TRACE_ID: (i) => some(i.traceId),
  SPAN_ID: (i) => some(i.spanId),
  STREAM_ID: (i) => i.requestHeaders?.get(H.requestId),
};
