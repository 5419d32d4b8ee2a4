// What a downstream codec and the connection manager say to each other, whatever the HTTP version.
import type { Transport, TransportFailure } from '../transport-socket/transport.ts';
import type { HeadError } from './h1-head.ts';
import type { H2Options } from './h2-options.ts';
import type { HeaderCase } from './header-case.ts';
import type { HeaderMap } from './header-map.ts';

export type Protocol = 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2';

/** How a request body will come: none, of the length its headers say, or of unknown length. */
export type BodyKind = 'none' | 'length' | 'chunked';

/** What the head of a request says beside its headers. The codec may use the object again after the call. */
export interface RequestHead {
  readonly method: string;
  /** The request target of HTTP/1, `:path` of HTTP/2. The authority is the header `host` in both. */
  readonly target: string;
  /** `:scheme` of HTTP/2; empty in HTTP/1. */
  readonly scheme: string;
  readonly protocol: Protocol;
  readonly body: BodyKind;
  /** `websocket` and the like, from `upgrade` or `:protocol`; empty for none. */
  readonly upgrade: string;
}

/** Why a request ended without its answer: the connection is gone, the client reset the stream, or spoke nonsense. */
export type RequestReset = 'disconnect' | 'remote-reset' | 'protocol';

/** The connection manager's side of one request. */
export interface RequestReceiver {
  /** `headers` stay valid until the exchange is over. */
  onRequestHead(head: RequestHead, headers: HeaderMap, endStream: boolean): void;
  onRequestData(bytes: Buffer, start: number, end: number): void;
  /** `trailers` stay valid until the exchange is over. */
  onRequestEnd(trailers?: HeaderMap): void;
  /** Nothing more comes or can be sent. `details` are the response code details of the access log. */
  onRequestReset(reason: RequestReset, details: string): void;
  /** True: the client reads too slowly, stop producing. */
  onResponseBacklog(full: boolean): void;
}

/** Why the proxy breaks off a response; HTTP/2 tells the client by its error code. */
export type AbortReason = 'local-reset' | 'refused' | 'connect-error' | 'protocol-error';

/** The codec's side of one request. */
export interface ResponseSender {
  /** A 1xx answer other than 101; the final one follows. */
  sendInformational(status: number, headers: HeaderMap | undefined): void;
  sendHead(status: number, headers: HeaderMap, endStream: boolean): void;
  sendData(bytes: Buffer, start: number, end: number): void;
  /** `trailers` are dropped where the client cannot get them (HTTP/1 without `enable_trailers`). */
  sendEnd(trailers?: HeaderMap): void;
  /** The response cannot be completed: the client must notice. */
  abort(reason: AbortReason): void;
  pauseRequest(): void;
  resumeRequest(): void;
  /** The answer that follows is the connection's last, where one connection carries one exchange at a time. */
  endConnection?(): void;
  /** Bytes of the head and body on the wire so far. */
  wireBytesReceived(): number;
  wireBytesSent(): number;
  /** Lines of heads among them. */
  headBytesReceived(): number;
  headBytesSent(): number;
  /** Of heads and trailers without compression: names and values (HTTP/2), or the same lines (HTTP/1). */
  fieldBytesReceived(): number;
  fieldBytesSent(): number;
}

/** Why a head was not taken. */
export type HeadRefusal =
  | HeadError
  | 'http1.headers_too_large'
  | 'http1.unexpected_underscore'
  | 'request_header_timeout';

/** Makes a receiver for each request; told of heads that could not be read. */
export interface ServerCallbacks {
  newStream(sender: ResponseSender): RequestReceiver;
  /** A head was refused: answer with `status` was sent by the codec. */
  onBadRequest(error: HeadRefusal | 'http1.body', status: number, bodyBytes: number): void;
  /** Headers with an underscore in their name were dropped, or the request refused for them. */
  onUnderscores?(count: number, refused: boolean, http2: boolean): void;
  /** A client did not go after its last answer and is cut off. */
  onCloseDelayed?(): void;
  /** The last answer was given: we end the connection. */
  onEnding?(): void;
  /** `failure`: it broke. */
  onConnectionClosed(failure?: TransportFailure): void;
}

/** What HTTP/2 has to tell beside that. */
export interface H2ServerCallbacks extends ServerCallbacks {
  /** The connection ends because of what the client sent. */
  onProtocolError(details: string): void;
  /** The client resets too many streams before they have an answer. */
  onPrematureResets(): void;
}

export interface ServerCodecOptions {
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  readonly acceptHttp10: boolean;
  /** Trailers of chunked bodies are passed on (HTTP/1 only; HTTP/2 always does). */
  readonly enableTrailers: boolean;
  /** How long a request head may take from its first byte, ms. */
  readonly headTimeoutMs: number;
  readonly serverName: string;
  /** How names are spelled in answers, and whether the spelling of requests is kept (HTTP/1). */
  readonly headerCase?: HeaderCase;
  /** What becomes of header names with an underscore. */
  readonly underscores?: 'allow' | 'reject' | 'drop';
  /** How long the last answer of a connection may take to leave, ms; 0 = the connection is closed at once. */
  readonly delayedCloseMs: number;
}

export interface H2ServerOptions extends ServerCodecOptions {
  /** Between announcing the end of a connection and ending it, ms. */
  readonly drainTimeoutMs: number;
  /** How long a complete answer may wait for the window of its stream, ms; 0 = for ever. */
  readonly flushTimeoutMs: number;
  readonly h2: H2Options;
}

/** A downstream connection of any HTTP version. */
export interface ServerConnection {
  readonly transport: Transport;
  /** True while a request is in progress. */
  readonly busy: boolean;
  /** It ended in the middle of a request. */
  readonly interrupted: boolean;
  /** Time of the last activity, ms. */
  readonly lastActive: number;
  start(): void;
  /** Answers say `connection: close`; an idle connection stays until its next request or the deadline. */
  drain(): void;
  close(): void;
}
