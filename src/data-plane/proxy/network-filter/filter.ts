// What a filter chain ends in, and what other network filters can watch.

import type { ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import type { Drain } from '../listener/drain.ts';
import type { Transport } from '../transport-socket/transport.ts';

/** The terminal filter of a chain: HTTP connection manager or tcp_proxy. */
export interface ConnectionHandler {
  /** Connections now served. */
  readonly active: number;
  /** Takes the connection over; `closed` is called once when it is gone. */
  accept(transport: Transport, info: ConnectionInfo, closed: () => void): void;
  /** The chain was removed: end politely, as `drain` says. */
  drain(drain: Drain): void;
  /** The drain time is over. */
  closeAll(): void;
}

/** A network filter before tcp_proxy that only counts (istio.stats). */
export interface TcpObserver {
  onOpen(info: StreamInfo): void;
  onClose(info: StreamInfo): void;
}
