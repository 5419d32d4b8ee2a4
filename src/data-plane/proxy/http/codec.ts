// What a downstream codec and the connection manager say to each other, whatever the HTTP version.
import type { Transport } from '../transport-socket/transport.ts';
import type { HeadError, HeadInfo } from './h1-head.ts';
import type { HeaderMap } from './header-map.ts';

/** The connection manager's side of one request. */
export interface RequestReceiver {
  /** `headers` stay valid until the exchange is over. */
  onRequestHead(info: HeadInfo, headers: HeaderMap, endStream: boolean): void;
  onRequestData(bytes: Buffer, start: number, end: number): void;
  onRequestEnd(): void;
  /** The client is gone (`reset`) or spoke nonsense (`protocol`); nothing more comes or can be sent. */
  onRequestReset(reason: 'reset' | 'protocol'): void;
  /** True: the client reads too slowly, stop producing. */
  onResponseBacklog(full: boolean): void;
}

/** The codec's side of one request. */
export interface ResponseSender {
  /** `100 Continue`. */
  sendContinue(): void;
  sendHead(status: number, headers: HeaderMap, endStream: boolean): void;
  sendData(bytes: Buffer, start: number, end: number): void;
  sendEnd(): void;
  /** The response cannot be completed: the client must notice. */
  abort(): void;
  pauseRequest(): void;
  resumeRequest(): void;
  /** Bytes of the head and body on the wire so far. */
  wireBytesReceived(): number;
  wireBytesSent(): number;
}

/** Why a head was not taken. */
export type HeadRefusal = HeadError | 'headers_too_large' | 'http10_not_allowed' | 'request_header_timeout';

/** Makes a receiver for each request; told of heads that could not be read. */
export interface ServerCallbacks {
  newStream(sender: ResponseSender): RequestReceiver;
  /** A head was refused: answer with `status` was sent by the codec. */
  onBadRequest(error: HeadRefusal | 'http1.body', status: number): void;
  onConnectionClosed(): void;
}

export interface ServerCodecOptions {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  readonly acceptHttp10: boolean;
  readonly serverName: string;
}

/** A downstream connection of any HTTP version. */
export interface ServerConnection {
  readonly transport: Transport;
  /** True while a request is in progress. */
  readonly busy: boolean;
  /** Time of the last activity, ms. */
  lastActive: number;
  /** Answers say `connection: close`; an idle connection stays until its next request or the deadline. */
  drain(): void;
  close(): void;
}
