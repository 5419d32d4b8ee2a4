// What the router and an upstream connection say to each other, whatever the HTTP version: pools give exchanges out.
import type { BodyKind, Protocol } from '../http/codec.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { Transport } from '../transport-socket/transport.ts';

/** Why an exchange ended without its answer. */
export type UpstreamReset =
  | 'connection-termination'
  | 'remote-reset'
  | 'remote-refused-stream-reset'
  | 'protocol-error'
  | 'overflow';

/** Bytes of one exchange, with heads and framing; `Head`: lines of heads among them, `Fields`: the same without compression. */
export interface WireCount {
  upstreamWireSent: number;
  upstreamWireReceived: number;
  upstreamHeadSent: number;
  upstreamHeadReceived: number;
  upstreamFieldsSent: number;
  upstreamFieldsReceived: number;
}

/** The router's side of one exchange with an upstream. */
export interface ResponseReceiver {
  /** Who wants to know how much went over the wire. */
  readonly wire?: WireCount | undefined;
  /** A 1xx answer other than 101. */
  onResponseInformational(status: number, headers: HeaderMap): void;
  /** `headers` stay valid until the exchange is over. With `endStream` the exchange is over for the upstream. */
  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void;
  onResponseData(bytes: Buffer, start: number, end: number): void;
  onResponseEnd(trailers?: HeaderMap): void;
  onUpstreamReset(reason: UpstreamReset): void;
  onRequestBacklog(full: boolean): void;
}

export interface OutgoingHead {
  readonly method: string;
  readonly path: string;
  readonly scheme: string;
  /** The authority is the header `host`. */
  readonly headers: HeaderMap;
  readonly body: BodyKind;
  /** `websocket` and the like; empty for none. */
  readonly upgrade: string;
}

/** One exchange on a connection of any HTTP version. */
export interface UpstreamExchange {
  readonly transport: Transport;
  readonly protocol: Protocol;
  /** True when no byte of the response has come. */
  readonly untouched: boolean;
  /** First call: what comes back goes to `receiver`. The request is complete when it has neither body nor upgrade. */
  begin(head: OutgoingHead, receiver: ResponseReceiver): void;
  sendData(bytes: Buffer, start: number, end: number): void;
  sendEnd(trailers?: HeaderMap): void;
  /** Gives up: nothing more is delivered. */
  cancel(): void;
  pauseResponse(): void;
  resumeResponse(): void;
}

export type PoolFailure =
  | { readonly kind: 'overflow' }
  | { readonly kind: 'connect-timeout' }
  | { readonly kind: 'connect-failure'; readonly reason: string };

export interface PoolWaiter {
  /** `reused`: the connection has served others before. Call `begin` at once, or `cancel`. */
  onReady(exchange: UpstreamExchange, reused: boolean): void;
  onFailure(failure: PoolFailure): void;
}

/** The connections of a cluster to one host. */
export interface UpstreamPool {
  /** Nothing is open, nothing waits. */
  readonly empty: boolean;
  /** Calls `waiter` once, maybe at once. The returned function takes the waiter out of the queue. */
  request(waiter: PoolWaiter): () => void;
  /** Idle connections close now, busy ones after their exchanges. */
  drain(): void;
  destroy(): void;
}
