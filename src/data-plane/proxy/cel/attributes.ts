// Envoy's attributes (request.path, connection.mtls, xds.cluster_name ...): what expressions may ask of a stream or connection.
// A value that is not there is an error of the expression, as in Envoy. Used by compile.ts.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { givenGrpcStatus, grpcStatusNumber } from '../access-log/grpc-status.ts';
import { requestHeadBytes, responseHeadBytes, trailerBytes, upstreamReady } from '../access-log/operators.ts';
import type { Metadata } from '../cluster/host.ts';
import { addressText, type SocketAddr } from '../config/address.ts';
import { type HeaderMap, type HeaderName, headerName, utf8Bytes, utf8Text } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { filterStateText } from '../route/metadata-match.ts';
import { pathOf } from '../route/path.ts';
import type { TlsDetails } from '../transport-socket/transport.ts';
import { type CelMap, type CelMessage, duration, msNanos, timestamp, type Value } from './values.ts';

/** undefined = it is not there. */
export type Read = (info: StreamInfo) => Value | undefined;

/** Headers are read one by one: a map of them is made only for expressions that want one. */
export interface Headers {
  readonly map: (info: StreamInfo) => HeaderMap | undefined;
  readonly pseudo: ReadonlyMap<string, Read>;
}

export interface Attribute {
  readonly read: Read;
  readonly headers?: Headers;
  /** Its value is a message: it has fields, and no text. */
  readonly message?: boolean;
  /** It is a time that wants to be known finer than a millisecond. */
  readonly fine?: boolean;
}

export type Fields = ReadonlyMap<string, Attribute>;

const some = (text: string): string | undefined => (text === '' ? undefined : text);
const count = (read: (info: StreamInfo) => number): Attribute => plain((info) => BigInt(Math.trunc(read(info))));
const plain = (read: Read): Attribute => ({ read });
const message = (read: Read): Attribute => ({ read, message: true });
const unsigned = (value: number): Value => ({ kind: 'uint', value: BigInt(value) });

function addressOf(address: SocketAddr | undefined): string | undefined {
  return address && utf8Bytes(addressText(address));
}
function portOf(address: SocketAddr | undefined): bigint | undefined {
  return address?.kind === 'ip' ? BigInt(address.port) : undefined;
}

/** The time between two moments. */
function span(from: (info: StreamInfo) => number, to: (info: StreamInfo) => number): Attribute {
  return timed((info) => {
    const [begin, end] = [from(info), to(info)];
    return begin < 0 || end < begin ? undefined : duration(msNanos(end - begin));
  });
}

const timed = (read: Read): Attribute => ({ read, fine: true });

function headers(map: Headers['map'], pseudo: readonly (readonly [string, Read])[]): Attribute {
  const source: Headers = { map, pseudo: new Map(pseudo) };
  return { headers: source, read: (info) => headersMap(source, info) };
}

/** One header whose name the configuration knows; several are joined. */
export function headerReader({ map, pseudo }: Headers, text: string): Read {
  const name = text.toLowerCase();
  const own = pseudo.get(name);
  if (own) return own;
  const wanted: HeaderName = headerName(name);
  return (info) => map(info)?.getAll(wanted);
}

function headersMap(source: Headers, info: StreamInfo): CelMap {
  let made: ReadonlyMap<string, Value> | undefined;
  const all = (): ReadonlyMap<string, Value> => {
    made ??= collected(source, info);
    return made;
  };
  return {
    kind: 'map',
    get size() {
      return all().size;
    },
    get: (key) => (typeof key === 'string' ? all().get(storedName(source, key)) : undefined),
    keys: () => [...all().keys()],
  };
}

/** Requests have `host` as :authority. */
function storedName({ pseudo }: Headers, key: string): string {
  const name = key.toLowerCase();
  return name === 'host' && pseudo.has(name) ? ':authority' : name;
}

function collected(source: Headers, info: StreamInfo): ReadonlyMap<string, Value> {
  const all = new Map<string, string>();
  for (const [name, read] of source.pseudo) {
    const value = read(info);
    if (typeof value === 'string' && name !== 'host') all.set(name, value);
  }
  source.map(info)?.forEach((name, value) => {
    if (name === 'host' && source.pseudo.has(name)) return;
    const before = all.get(name);
    all.set(name, before === undefined ? value : `${before},${value}`);
  });
  return all;
}

const authority: Read = (info) => (info.requestHeaders ? some(info.authority) : undefined);
const REQUEST_HEADERS = headers(
  (info) => info.requestHeaders,
  [
    [':method', (info) => some(info.method)],
    [':path', (info) => some(info.path)],
    [':authority', authority],
    ['host', authority],
    [':scheme', (info) => some(info.scheme)],
  ],
);
const header = (name: HeaderName): Attribute => plain((info) => info.requestHeaders?.get(name));

function requestSize(info: StreamInfo): Value | undefined {
  const given = info.requestHeaders?.get(H.contentLength);
  if (given === undefined) return BigInt(info.bytesReceived);
  return /^\d{1,18}$/.test(given) ? BigInt(given) : undefined;
}

function query({ path, requestHeaders }: StreamInfo): string | undefined {
  if (!requestHeaders) return undefined;
  const at = path.indexOf('?');
  if (at < 0) return '';
  const end = path.indexOf('#', at);
  return path.slice(at + 1, end < 0 ? undefined : end);
}

const REQUEST: Fields = new Map<string, Attribute>([
  ['headers', REQUEST_HEADERS],
  ['time', timed((info) => timestamp(msNanos(info.startTime)))],
  ['size', plain(requestSize)],
  ['headers_bytes', count(requestHeadBytes)],
  ['total_size', count((info) => info.bytesReceived + requestHeadBytes(info))],
  ['duration', timed((info) => (info.duration < 0 ? undefined : duration(msNanos(info.duration))))],
  ['protocol', plain((info) => some(info.protocol))],
  ['path', plain((info) => some(info.path))],
  ['url_path', plain((info) => (info.requestHeaders ? pathOf(info.path) : undefined))],
  ['host', plain(authority)],
  ['scheme', plain((info) => some(info.scheme))],
  ['method', plain((info) => some(info.method))],
  ['referer', header(headerName('referer'))],
  ['id', header(H.requestId)],
  ['useragent', header(headerName('user-agent'))],
  ['query', plain(query)],
]);

function grpcStatus(info: StreamInfo): bigint | undefined {
  const name = H.grpcStatus;
  if (info.responseTrailers?.has(name) || info.responseHeaders?.has(name)) {
    const status = givenGrpcStatus(info) ?? -1;
    return BigInt(status > 16 ? -1 : status);
  }
  if (info.responseCode === 0) return undefined;
  // Success without a status is none, where %GRPC_STATUS% says OK.
  return info.responseCode === 200 ? 2n : BigInt(grpcStatusNumber(info));
}

const code: Read = (info) => (info.responseCode > 0 ? BigInt(info.responseCode) : undefined);
const RESPONSE: Fields = new Map<string, Attribute>([
  ['code', plain(code)],
  ['code_details', plain((info) => utf8Bytes(info.responseDetails) || undefined)],
  ['size', count((info) => info.bytesSent)],
  ['headers_bytes', count(responseHeadBytes)],
  ['total_size', count((info) => info.bytesSent + responseHeadBytes(info) + trailerBytes(info))],
  [
    'headers',
    headers(
      (info) => info.responseHeaders,
      [[':status', (info) => (info.responseHeaders && info.responseCode > 0 ? String(info.responseCode) : undefined)]],
    ),
  ],
  ['trailers', headers((info) => info.responseTrailers, [])],
  // Bits of FLAG; the highest is no sign.
  ['flags', count((info) => info.flags >>> 0)],
  ['grpc_status', plain(grpcStatus)],
  [
    'backend_latency',
    span(
      (info) => info.upstreamTxBegin,
      (info) => info.upstreamRxEnd,
    ),
  ],
]);

/** What both sides of TLS tell; of names, the first. */
function certificates(tls: (info: StreamInfo) => TlsDetails | undefined): readonly (readonly [string, Attribute])[] {
  const text = (read: (tls: TlsDetails) => string | undefined): Attribute =>
    plain((info) => {
      const details = tls(info);
      const value = details && read(details);
      // Names in certificates are bytes already, where they are no text.
      return value === undefined || /^[\0-\xff]*$/.test(value) ? value : utf8Bytes(value);
    });
  return [
    ['tls_version', text((one) => one.version)],
    ['subject_local_certificate', plain((info) => tls(info) && utf8Bytes(tls(info)!.localSubject))],
    ['subject_peer_certificate', plain((info) => tls(info) && utf8Bytes(tls(info)!.peerSubject))],
    ['uri_san_local_certificate', text((one) => one.localUris[0])],
    ['uri_san_peer_certificate', text((one) => one.peerUris[0])],
    ['dns_san_local_certificate', text((one) => one.localDns[0])],
    ['dns_san_peer_certificate', text((one) => one.peerDns[0])],
    ['peer_certificate', text((one) => one.peer?.pem)],
    ['sha256_peer_certificate_digest', text((one) => one.peer?.fingerprint256)],
  ];
}

const CONNECTION: Fields = new Map<string, Attribute>([
  ['id', plain((info) => unsigned(info.connection.id))],
  ['mtls', plain((info) => info.connection.tls?.peer !== undefined)],
  ['requested_server_name', plain((info) => utf8Bytes(info.connection.requestedServerName))],
  ['termination_details', plain((info) => some(utf8Bytes(info.connectionTermination)))],
  ['transport_failure_reason', plain((info) => some(utf8Bytes(info.downstreamFailure)))],
  ...certificates((info) => info.connection.tls),
]);

const hasUpstream = (info: StreamInfo): boolean => info.upstreamCluster !== '' || info.upstreamHost !== undefined;

const UPSTREAM: Fields = new Map<string, Attribute>([
  ['address', plain((info) => addressOf(info.upstreamHost))],
  ['port', plain((info) => portOf(info.upstreamHost))],
  ['local_address', plain((info) => addressOf(info.upstreamLocal))],
  ['transport_failure_reason', plain((info) => (hasUpstream(info) ? utf8Bytes(info.upstreamFailure) : undefined))],
  ['request_attempt_count', plain((info) => unsigned(info.attempts))],
  ['cx_pool_ready_duration', span((info) => info.upstreamAsked, upstreamReady)],
  ['locality', message(locality)],
  ...certificates((info) => info.upstreamTls),
]);

function locality({ upstreamSpec }: StreamInfo): Value | undefined {
  if (!upstreamSpec) return undefined;
  const { region, zone, subZone } = upstreamSpec.locality;
  return messageOf({ region: utf8Bytes(region), zone: utf8Bytes(zone), sub_zone: utf8Bytes(subZone) });
}

const peer = (side: (info: StreamInfo) => SocketAddr): Fields =>
  new Map<string, Attribute>([
    ['address', plain((info) => addressOf(side(info)))],
    ['port', plain((info) => portOf(side(info)))],
  ]);

const DIRECTIONS = { unspecified: 0n, inbound: 1n, outbound: 2n } as const;
const hasRoute = (info: StreamInfo): boolean => info.routeMetadata !== undefined;

const XDS: Fields = new Map<string, Attribute>([
  ['cluster_name', plain((info) => some(utf8Bytes(info.upstreamCluster)))],
  ['cluster_metadata', message((info) => metadataOf(info.upstreamClusterMetadata))],
  ['route_name', plain((info) => (hasRoute(info) ? utf8Bytes(info.routeName) : undefined))],
  ['route_metadata', message((info) => metadataOf(info.routeMetadata))],
  ['virtual_host_name', plain((info) => some(utf8Bytes(info.virtualHost)))],
  ['virtual_host_metadata', message((info) => metadataOf(info.virtualHostMetadata))],
  [
    'upstream_host_metadata',
    message((info) => (info.upstreamHost ? metadataOrNull(info.upstreamMetadata) : undefined)),
  ],
  [
    'upstream_host_locality_metadata',
    message((info) => info.upstreamSpec && metadataOrNull(info.upstreamSpec.group.metadata)),
  ],
  ['filter_chain_name', plain((info) => utf8Bytes(info.connection.chainName))],
  ['listener_metadata', message((info) => metadataOf(info.connection.listenerMetadata ?? {}))],
  ['listener_direction', plain((info) => DIRECTIONS[info.connection.direction])],
]);

/** Envoy's names of which nothing is known here. */
export const UNKNOWN_HERE: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['xds', new Set(['node'])],
  ['upstream', new Set(['num_endpoints'])],
]);

export const GROUPS: ReadonlyMap<string, Fields> = new Map<string, Fields>([
  ['request', REQUEST],
  ['response', RESPONSE],
  ['connection', CONNECTION],
  ['upstream', UPSTREAM],
  ['source', peer((info) => info.remote)],
  ['destination', peer((info) => info.connection.local)],
  ['xds', XDS],
]);

/** Variables that are more than a group of attributes. */
export const VARIABLES: ReadonlyMap<string, Attribute> = new Map<string, Attribute>([
  ['metadata', message((info) => metadataOf(Object.fromEntries(info.metadata ?? [])))],
  ['filter_state', plain((info) => lookup((key) => stateBytes(info, key)))],
  // No filter leaves state with the upstream connection.
  ['upstream_filter_state', plain((info) => (info.upstreamHost ? lookup(() => undefined) : undefined))],
]);

function stateBytes(info: StreamInfo, key: string): Value | undefined {
  const value = filterStateText(info, utf8Text(key));
  return value === undefined ? undefined : { kind: 'bytes', bytes: utf8Bytes(value) };
}

/** A map that tells single keys and not which it has. */
export function lookup(get: (key: string) => Value | undefined): CelMap {
  return {
    kind: 'map',
    size: 0,
    keys: () => undefined,
    get: (key) => (typeof key === 'string' ? get(key) : undefined),
  };
}

export function groupMap(fields: Fields, info: StreamInfo): CelMap {
  return lookup((key) => fields.get(key)?.read(info));
}

function messageOf(fields: Readonly<Record<string, Value>>): CelMessage {
  return {
    kind: 'message',
    names: Object.keys(fields),
    field: (name) => (Object.hasOwn(fields, name) ? fields[name] : undefined),
  };
}

/** envoy.config.core.v3.Metadata. */
function metadataOf(metadata: Metadata | undefined): Value | undefined {
  return metadata && messageOf({ filter_metadata: structMap({ ...metadata }), typed_filter_metadata: structMap({}) });
}

/** Of endpoints, where Envoy keeps no message for none. */
function metadataOrNull(metadata: Metadata | undefined): Value | undefined {
  return metadata && Object.keys(metadata).length > 0 ? metadataOf(metadata) : null;
}

/** A Struct; its keys and strings are texts. */
function structMap(struct: JsonObject): CelMap {
  return {
    kind: 'map',
    get size() {
      return Object.keys(struct).length;
    },
    keys: () => Object.keys(struct).map(utf8Bytes),
    get: (key) => {
      if (typeof key !== 'string') return undefined;
      const name = utf8Text(key);
      return Object.hasOwn(struct, name) ? structValue(struct[name]!) : undefined;
    },
  };
}

function structValue(value: JsonValue): Value {
  if (typeof value === 'string') return utf8Bytes(value);
  if (typeof value !== 'object' || value === null) return value;
  return Array.isArray(value) ? { kind: 'list', items: value.map(structValue) } : structMap(value);
}
