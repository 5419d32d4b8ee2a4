// What a filter chain ends in, what may stand before that and refuse or change a connection, and what only watches.

import type { ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import type { Drain } from '../listener/drain.ts';
import type { Transport } from '../transport-socket/transport.ts';

/** `facts`: what the connection's own stream was, where it had one (TCP). */
export type Closed = (facts?: StreamInfo) => void;

/** The terminal filter of a chain: HTTP connection manager or tcp_proxy. */
export interface ConnectionHandler {
  /** Connections now served. */
  readonly active: number;
  /** Takes the connection over; `closed` is called once when it is gone. */
  accept(transport: Transport, info: ConnectionInfo, closed: Closed): void;
  /** The chain was removed: end politely, as `drain` says. */
  drain(drain: Drain): void;
  /** The drain time is over. */
  closeAll(): void;
  /** A filter in front refused the connection: for the access log. */
  refused?(info: StreamInfo): void;
}

/** What a filter in front of the terminal one says to a new connection. */
export type Admission =
  | { readonly kind: 'admit' }
  | {
      readonly kind: 'refuse';
      /** `first-byte`: the client learns of it when it speaks, as from Envoy; nothing is dialled meanwhile. */
      readonly when: 'now' | 'first-byte';
      /** ms from then to the end of the connection. */
      readonly delayMs: number;
      /** For the access log: why it may not come in (empty = not said), and why it is closed. */
      readonly details: string;
      readonly closeReason: string;
      readonly flags: number;
    };

export const ADMIT: Admission = { kind: 'admit' };

/** A network filter in front of the terminal one: one object serves all connections of a chain. See gate.ts. */
export interface NetworkFilter {
  readonly name: string;
  admit(info: ConnectionInfo): Admission;
  /** The refused client has spoken, or left: for statistics. */
  onRefused?(info: ConnectionInfo): void;
  /** Changes what the terminal filter reads and writes. */
  wrap?(transport: Transport, info: ConnectionInfo): Transport;
  /** For every connection that was asked for `admit`, once. */
  onClose?(info: ConnectionInfo): void;
}

/** A network filter before tcp_proxy that only counts (istio.stats). */
export interface TcpObserver {
  onOpen(info: StreamInfo): void;
  onClose(info: StreamInfo): void;
}
