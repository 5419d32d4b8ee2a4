// istio.metadata_exchange for TCP: two proxies that agreed on its ALPN value each send who they are before the first byte
// of the connection. In front of tcp_proxy for clients, and on a cluster for servers; the TCP metrics ask for the result.
//
// On the wire: magic and length, four bytes each, then an Any with a Struct of `x-envoy-peer-metadata(-id)`.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { AnySchema, StructSchema } from '@bufbuild/protobuf/wkt';
import { type MetadataExchange, MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import type { SocketAddr } from '../config/address.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { ConnectionInfo } from '../http/stream-info.ts';
import { type LocalPeer, type Peer, peerOfStruct } from '../http-filter/peer.ts';
import { MAX_PEER_METADATA_BYTES } from '../limits.ts';
import type { Counter, StatsStore } from '../stats/stats.ts';
import type { TlsDetails, Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import { ADMIT, type NetworkFilter } from './filter.ts';

/** Names of the connection's state that hold what was learned. */
export const DOWNSTREAM_PEER = 'istio.downstream_peer';
export const UPSTREAM_PEER = 'istio.upstream_peer';

export type PeerSide = typeof DOWNSTREAM_PEER | typeof UPSTREAM_PEER;

/** Stands for a peer that agreed to the exchange and has not spoken yet. */
const PENDING = Symbol('pending');

const MAGIC = 0x3d230467;
const HEAD_BYTES = 8;
const STRUCT_URL = 'type.googleapis.com/google.protobuf.Struct';
const METADATA = 'x-envoy-peer-metadata';
const METADATA_ID = 'x-envoy-peer-metadata-id';

export interface ExchangeCounters {
  readonly found: Counter;
  readonly notFound: Counter;
  readonly noHeader: Counter;
  readonly badHeader: Counter;
  readonly sent: Counter;
}

export function exchangeCounters(stats: StatsStore): ExchangeCounters {
  const counter = (name: string) => stats.counter(`metadata_exchange.${name}`);
  return {
    found: counter('alpn_protocol_found'),
    notFound: counter('alpn_protocol_not_found'),
    noHeader: counter('initial_header_not_found'),
    badHeader: counter('header_not_found'),
    sent: counter('metadata_added'),
  };
}

export function createMetadataExchange(
  message: MetadataExchange,
  context: { readonly name: string; readonly stats: StatsStore; readonly local: LocalPeer },
  path: string,
): NetworkFilter {
  const protocol = exchangeProtocol(message, path);
  const counters = exchangeCounters(context.stats);
  return {
    name: context.name,
    admit: () => ADMIT,
    wrap: (transport, info) =>
      exchange(transport, { protocol, counters, local: context.local, info, side: DOWNSTREAM_PEER }),
  };
}

/** The ALPN value of a filter's message. */
export function exchangeProtocol(message: MetadataExchange, path: string): string {
  only(MetadataExchangeSchema, message, path, ['protocol', 'enable_discovery']);
  if (message.protocol === '') throw new ConfigError(join(path, 'protocol'), 'value is required');
  return message.protocol;
}

/** Who the client of a TCP connection is, or the server behind it; undefined = they did not say. */
export function exchangedPeer(info: ConnectionInfo, side: PeerSide): Peer | undefined {
  const known = info.state.get(side);
  return known === PENDING ? undefined : (known as Peer | undefined);
}

/** True while it is not known whether the peer will say. */
export function exchangePending(info: ConnectionInfo, side: PeerSide): boolean {
  return info.state.get(side) === PENDING;
}

export interface ExchangeOptions {
  readonly protocol: string;
  readonly counters: ExchangeCounters;
  readonly local: LocalPeer;
  /** Where what is learned is kept. */
  readonly info: ConnectionInfo;
  readonly side: PeerSide;
}

/** The transport behind the exchange, or the same one when the peer did not agree to it. */
export function exchange(transport: Transport, options: ExchangeOptions): Transport {
  if (transport.tls?.alpn !== options.protocol) {
    options.counters.notFound.value += 1;
    return transport;
  }
  options.counters.found.value += 1;
  options.info.state.set(options.side, PENDING);
  return new ExchangeTransport(transport, options);
}

const introductions = new WeakMap<LocalPeer, Buffer>();

/** What we say of ourselves; the same for every connection. */
export function introduction(local: LocalPeer): Buffer {
  const known = introductions.get(local);
  if (known) return known;
  const struct = create(StructSchema, {
    fields: {
      [METADATA]: { kind: { case: 'structValue', value: local.struct } },
      [METADATA_ID]: { kind: { case: 'stringValue', value: local.id } },
    },
  });
  const body = toBinary(AnySchema, create(AnySchema, { typeUrl: STRUCT_URL, value: toBinary(StructSchema, struct) }));
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(MAGIC, 0);
  head.writeUInt32BE(body.length, 4);
  const made = Buffer.concat([head, body]);
  introductions.set(local, made);
  return made;
}

/** What a peer says of itself. `bytes` starts at the beginning of the connection. */
export type Introduction =
  | { readonly kind: 'more' }
  /** Not the beginning of one. */
  | { readonly kind: 'none' }
  /** One that cannot be used: too large to skip, or (with its length) unreadable. */
  | { readonly kind: 'bad'; readonly length: number | undefined }
  | { readonly kind: 'peer'; readonly length: number; readonly peer: Peer };

export function readIntroduction(bytes: Buffer): Introduction {
  for (let i = 0; i < Math.min(4, bytes.length); i++)
    if (bytes[i] !== ((MAGIC >>> (24 - 8 * i)) & 255)) return { kind: 'none' };
  if (bytes.length < HEAD_BYTES) return { kind: 'more' };
  const size = bytes.readUInt32BE(4);
  if (size > MAX_PEER_METADATA_BYTES) return { kind: 'bad', length: undefined };
  const length = HEAD_BYTES + size;
  if (bytes.length < length) return { kind: 'more' };
  const peer = readPeer(bytes.subarray(HEAD_BYTES, length));
  return peer ? { kind: 'peer', length, peer } : { kind: 'bad', length };
}

function readPeer(bytes: Buffer): Peer | undefined {
  try {
    const any = fromBinary(AnySchema, bytes);
    if (any.typeUrl !== STRUCT_URL) return undefined;
    const field = fromBinary(StructSchema, any.value).fields[METADATA]?.kind;
    return field?.case === 'structValue' ? peerOfStruct(toBinary(StructSchema, field.value)) : undefined;
  } catch {
    return undefined;
  }
}

/** A transport that introduces us and takes the peer's introduction off what is read. */
class ExchangeTransport implements Transport, TransportSink {
  readonly #inner: Transport;
  readonly #options: ExchangeOptions;
  #sink: TransportSink | undefined;
  #early: Buffer | undefined = Buffer.alloc(0);

  constructor(inner: Transport, options: ExchangeOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  start(sink: TransportSink): void {
    this.#sink = sink;
    this.#inner.start(this);
    const hello = introduction(this.#options.local);
    this.#inner.write(hello, 0, hello.length);
    this.#options.counters.sent.value += 1;
  }

  redirect(sink: TransportSink): void {
    this.#sink = sink;
    if (this.#early === undefined) this.#inner.redirect(sink);
  }

  // --- from the connection, until the introduction is read

  onData(bytes: Buffer, start: number, end: number): void {
    const before = this.#early;
    if (before === undefined) {
      this.#sink?.onData(bytes, start, end);
      return;
    }
    const all = Buffer.concat([before, bytes.subarray(start, end)]);
    const read = readIntroduction(all);
    if (read.kind === 'more') {
      this.#early = all;
      return;
    }
    const { counters, info, side } = this.#options;
    if (read.kind === 'none') counters.noHeader.value += 1;
    if (read.kind === 'bad') counters.badHeader.value += 1;
    if (read.kind === 'bad' && read.length === undefined) {
      this.#inner.reset();
      return;
    }
    if (read.kind === 'peer') info.state.set(side, read.peer);
    this.#over(all, read.kind === 'none' ? 0 : read.length!);
  }

  onEnd(): void {
    if (this.#early !== undefined) this.#over(this.#early, 0);
    this.#sink?.onEnd();
  }

  onBacklog(full: boolean): void {
    this.#sink?.onBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#sink?.onClose(failure);
  }

  /** From here on the connection is the sink's own. */
  #over(bytes: Buffer, from: number): void {
    this.#early = undefined;
    const { info, side } = this.#options;
    if (exchangePending(info, side)) info.state.delete(side);
    const sink = this.#sink!;
    this.#inner.redirect(sink);
    if (from < bytes.length) sink.onData(bytes, from, bytes.length);
  }

  // --- the rest is the inner transport

  get tls(): TlsDetails | undefined {
    return this.#inner.tls;
  }
  get local(): SocketAddr {
    return this.#inner.local;
  }
  get remote(): SocketAddr {
    return this.#inner.remote;
  }
  get closed(): boolean {
    return this.#inner.closed;
  }
  get peerEnded(): boolean {
    return this.#inner.peerEnded;
  }
  get backlogBytes(): number {
    return this.#inner.backlogBytes;
  }
  get bytesRead(): number {
    return this.#inner.bytesRead;
  }
  get bytesWritten(): number {
    return this.#inner.bytesWritten;
  }
  get bulk(): boolean {
    return this.#inner.bulk;
  }
  set bulk(value: boolean) {
    this.#inner.bulk = value;
  }
  reserve(size: number): number {
    return this.#inner.reserve(size);
  }
  commit(end: number): void {
    this.#inner.commit(end);
  }
  write(bytes: Buffer, start: number, end: number): void {
    this.#inner.write(bytes, start, end);
  }
  forward(bytes: Buffer, start: number, end: number): boolean {
    return this.#inner.forward(bytes, start, end);
  }
  pause(): void {
    this.#inner.pause();
  }
  resume(): void {
    this.#inner.resume();
  }
  end(): void {
    this.#inner.end();
  }
  closeSoon(): void {
    this.#inner.closeSoon();
  }
  destroy(): void {
    this.#inner.destroy();
  }
  reset(): void {
    this.#inner.reset();
  }
}
