// What is known about one request or TCP connection: filled along its way, read by logs, metrics and header formats.
import type { JsonObject } from '@bufbuild/protobuf';
import type { HostSpec, Metadata } from '../cluster/host.ts';
import type { SocketAddr } from '../config/address.ts';
import type { Fingerprints } from '../listener-filter/fingerprint.ts';
import type { Tlv } from '../listener-filter/proxy-protocol.ts';
import type { TraceContext } from '../tracing/context.ts';
import type { TlsDetails, Transport } from '../transport-socket/transport.ts';
import type { HeaderMap } from './header-map.ts';

/** Response flags as bits, in the order they are printed. */
export const FLAG = {
  LH: 1 << 0,
  UH: 1 << 1,
  UT: 1 << 2,
  LR: 1 << 3,
  UR: 1 << 4,
  UF: 1 << 5,
  UC: 1 << 6,
  UO: 1 << 7,
  NR: 1 << 8,
  DI: 1 << 9,
  FI: 1 << 10,
  RL: 1 << 11,
  UAEX: 1 << 12,
  RLSE: 1 << 13,
  DC: 1 << 14,
  URX: 1 << 15,
  SI: 1 << 16,
  IH: 1 << 17,
  DPE: 1 << 18,
  UMSDR: 1 << 19,
  RFCF: 1 << 20,
  NFCF: 1 << 21,
  DT: 1 << 22,
  UPE: 1 << 23,
  NC: 1 << 24,
  OM: 1 << 25,
  DF: 1 << 26,
  DO: 1 << 27,
  DR: 1 << 28,
  UDO: 1 << 29,
} as const;

/** envoy.data.accesslog.v3.AccessLogType: why a line is written. */
export const LOG_TYPE = {
  notSet: 0,
  tcpConnected: 1,
  tcpPeriodic: 2,
  tcpEnd: 3,
  downstreamStart: 4,
  downstreamPeriodic: 5,
  downstreamEnd: 6,
} as const;

const NO_FLAGS: readonly string[] = [];
const FLAG_NAMES = Object.entries(FLAG);
const LONG_NAMES: Readonly<Record<string, string>> = {
  LH: 'FailedLocalHealthCheck',
  UH: 'NoHealthyUpstream',
  UT: 'UpstreamRequestTimeout',
  LR: 'LocalReset',
  UR: 'UpstreamRemoteReset',
  UF: 'UpstreamConnectionFailure',
  UC: 'UpstreamConnectionTermination',
  UO: 'UpstreamOverflow',
  NR: 'NoRouteFound',
  DI: 'DelayInjected',
  FI: 'FaultInjected',
  RL: 'RateLimited',
  UAEX: 'UnauthorizedExternalService',
  RLSE: 'RateLimitServiceError',
  DC: 'DownstreamConnectionTermination',
  URX: 'UpstreamRetryLimitExceeded',
  SI: 'StreamIdleTimeout',
  IH: 'InvalidEnvoyRequestHeaders',
  DPE: 'DownstreamProtocolError',
  UMSDR: 'UpstreamMaxStreamDurationReached',
  RFCF: 'ResponseFromCacheFilter',
  NFCF: 'NoFilterConfigFound',
  DT: 'DurationTimeout',
  UPE: 'UpstreamProtocolError',
  NC: 'NoClusterFound',
  OM: 'OverloadManagerTerminated',
  DF: 'DnsResolutionFailed',
  DO: 'DropOverload',
  DR: 'DownstreamRemoteReset',
  UDO: 'UnconditionalDropOverload',
};

/** Flags in the order in which they were set. */
export function flagsText(info: StreamInfo, long = false): string {
  if (info.flags === 0) return '-';
  return info.flagOrder.map((name) => (long ? LONG_NAMES[name]! : name)).join(',');
}

/**
 * Where a redirected client wanted to go; undefined for one that dialled the listener itself: dialling that address would
 * only come back here.
 */
export function originalDestination({ local, directLocal }: ConnectionInfo): SocketAddr | undefined {
  return local === directLocal ? undefined : local;
}

/** Facts of the downstream connection, the same for all its requests. */
export interface ConnectionInfo {
  readonly id: number;
  /** The address the client wanted to reach (original destination when it was captured). */
  readonly local: SocketAddr;
  /** The address the connection really arrived at. */
  readonly directLocal: SocketAddr;
  /** The peer: what PROXY protocol said, else the socket's own. */
  readonly remote: SocketAddr;
  /** The socket's peer. */
  readonly directRemote: SocketAddr;
  readonly requestedServerName: string;
  /** What the inspectors said: `tls` or `raw_buffer`, and application protocols. */
  readonly transportProtocol: string;
  readonly alpn: readonly string[];
  /** TLVs of the PROXY protocol header that upstreams may get. */
  readonly proxyTlvs?: readonly Tlv[] | undefined;
  /** What tls_inspector says of the client, when told to. */
  readonly fingerprints?: Fingerprints | undefined;
  readonly tls: TlsDetails | undefined;
  readonly listenerName: string;
  readonly chainName: string;
  /** Metadata of the listener and of the filter chain. */
  readonly listenerMetadata?: Metadata;
  readonly chainMetadata?: Metadata;
  /** When it was accepted, when the ClientHello was here, and when TLS stood, ms since the epoch. */
  readonly acceptedAt?: number;
  readonly helloAt?: number | undefined;
  readonly handshakeAt?: number | undefined;
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  /** The listener has an access log, which tells of its end. */
  readonly logged?: boolean;
  /** Why this proxy closed it; empty = it did not. */
  localCloseReason?: string;
  /** Whose RST ended it; undefined = nobody's. */
  resetBy?: 'LocalReset' | 'RemoteReset' | undefined;
  /** State that filters share for the life of the connection, by filter name. */
  readonly state: Map<string, unknown>;
  /** Dynamic metadata that listener and network filters left, by filter name. */
  readonly metadata: Map<string, JsonObject>;
}

/** What logs want to know of a cluster. */
export interface ClusterFacts {
  readonly name: string;
  readonly metadata: Metadata;
  /** alt_stat_name; empty = none. */
  readonly alias: string;
}

export class StreamInfo {
  readonly connection: ConnectionInfo;
  /** ms since the epoch. */
  readonly startTime: number;
  /** The client: of a trusted x-forwarded-for, else the connection's peer. */
  remote: SocketAddr;
  method = '';
  path = '';
  authority = '';
  protocol = '';
  requestHeaders: HeaderMap | undefined;
  responseHeaders: HeaderMap | undefined;
  responseTrailers: HeaderMap | undefined;
  responseCode = 0;
  responseDetails = '';
  #flags = 0;
  /** Names of the flags as they came; empty until the first. */
  flagOrder: readonly string[] = NO_FLAGS;
  connectionTermination = '';
  upstreamFailure = '';
  bytesReceived = 0;
  bytesSent = 0;
  /** Downstream bytes with heads and framing. */
  wireBytesReceived = 0;
  wireBytesSent = 0;
  /** Of that, lines of heads. */
  headBytesReceived = 0;
  headBytesSent = 0;
  /** The same without compression. */
  fieldBytesReceived = 0;
  fieldBytesSent = 0;
  /** Bytes of the last try with heads and framing, and lines of heads among them. */
  upstreamWireSent = 0;
  upstreamWireReceived = 0;
  upstreamHeadSent = 0;
  upstreamHeadReceived = 0;
  upstreamFieldsSent = 0;
  upstreamFieldsReceived = 0;
  /** ms; -1 until the end. */
  duration = -1;
  // Moments, ms since the epoch; -1 = it did not come to that.
  /** The last byte of the request was here. */
  requestEnd = -1;
  /** A connection was asked for, for the last try. */
  upstreamAsked = -1;
  upstreamTxBegin = -1;
  upstreamTxEnd = -1;
  upstreamRxBegin = -1;
  /** Noted only where a log asks. */
  upstreamBodyBegin = -1;
  upstreamRxEnd = -1;
  /** The head of the response left. */
  responseBegin = -1;
  upstreamCluster = '';
  /** alt_stat_name of the cluster; empty = its name. */
  upstreamClusterAlias = '';
  upstreamClusterMetadata: Metadata | undefined;
  upstreamHostName = '';
  upstreamMetadata: Metadata | undefined;
  /** Hosts of all tries, when there was more than one. */
  upstreamTried: HostSpec[] | undefined;
  upstreamSpec: HostSpec | undefined;
  upstreamProtocol = '';
  upstreamTransport: Transport | undefined;
  /** Of TCP: why we closed the upstream connection, and how it ended as Envoy calls it; empty = nothing to say. */
  upstreamCloseReason = '';
  upstreamCloseType = '';
  /** Connections of all tries, when there was more than one. */
  upstreamTransports: Transport[] | undefined;
  downstreamFailure = '';
  virtualHostMetadata: Metadata | undefined;
  /** Told to the caller in the response (tracing/decorator.ts); empty = nothing. */
  operation = '';
  traceId = '';
  spanId = '';
  /** The span of this proxy. */
  span: TraceContext | undefined;
  upstreamHost: SocketAddr | undefined;
  upstreamLocal: SocketAddr | undefined;
  upstreamTls: TlsDetails | undefined;
  routeName = '';
  virtualHost = '';
  virtualCluster = '';
  routeMetadata: Metadata | undefined;
  /** The body of a local reply before its format: bytes, a character each. */
  localReplyBody = '';
  scheme = '';
  /** A health check that the health_check filter knows as one. */
  healthCheck = false;
  /** Spans are, or would be, made of it. */
  traced = false;
  /** Of LOG_TYPE. */
  logType = 0;
  attempts = 0;
  /** Dynamic metadata of filters, by filter name; undefined = none. */
  metadata: Map<string, JsonObject> | undefined;
  /** Filter state of this request by key; undefined = none. The connection has its own. */
  filterState: Map<string, string> | undefined;

  constructor(connection: ConnectionInfo, startTime: number) {
    this.connection = connection;
    this.startTime = startTime;
    this.remote = connection.remote;
  }

  /** The same request on its way again, after an internal redirect. */
  again(now: number): StreamInfo {
    const next = new StreamInfo(this.connection, now);
    next.method = this.method;
    next.path = this.path;
    next.authority = this.authority;
    next.scheme = this.scheme;
    next.protocol = this.protocol;
    next.remote = this.remote;
    next.requestHeaders = this.requestHeaders;
    next.bytesReceived = this.bytesReceived;
    next.requestEnd = now;
    next.logType = this.logType;
    next.metadata = this.metadata;
    next.filterState = this.filterState;
    next.traced = this.traced;
    next.traceId = this.traceId;
    next.spanId = this.spanId;
    next.span = this.span;
    return next;
  }

  get flags(): number {
    return this.#flags;
  }

  set flags(next: number) {
    const added = next & ~this.#flags;
    this.#flags = next;
    if (added === 0) return;
    this.flagOrder = [...this.flagOrder, ...FLAG_NAMES.filter(([, bit]) => (added & bit) !== 0).map(([name]) => name)];
  }

  /** The cluster the request or connection goes to; undefined = there is none of that name. */
  setCluster(cluster: ClusterFacts | undefined): void {
    this.upstreamCluster = cluster?.name ?? '';
    this.upstreamClusterAlias = cluster?.alias ?? '';
    this.upstreamClusterMetadata = cluster?.metadata;
  }

  setHost(spec: HostSpec): void {
    this.upstreamSpec = spec;
    this.upstreamHost = spec.address;
    this.upstreamHostName = spec.hostname;
    this.upstreamMetadata = spec.metadata;
  }

  setUpstream(transport: Transport): void {
    if (this.upstreamTransport) {
      this.upstreamTransports ??= [this.upstreamTransport];
      this.upstreamTransports.push(transport);
    }
    this.upstreamTransport = transport;
    this.upstreamWireSent = 0;
    this.upstreamWireReceived = 0;
    this.upstreamHeadSent = 0;
    this.upstreamHeadReceived = 0;
    this.upstreamFieldsSent = 0;
    this.upstreamFieldsReceived = 0;
    this.upstreamLocal = transport.local;
    this.upstreamTls = transport.tls;
  }

  /** Adds to a filter's dynamic metadata; top-level keys are replaced. */
  addMetadata(filter: string, values: JsonObject): void {
    this.metadata ??= new Map();
    const before = this.metadata.get(filter);
    this.metadata.set(filter, before ? { ...before, ...values } : values);
  }
}
