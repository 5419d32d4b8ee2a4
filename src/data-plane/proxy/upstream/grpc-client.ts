// A gRPC call of the proxy itself to one of its clusters: balanced, over TLS or DNS as the cluster says, on its HTTP/2 pool.
// Called by discovery; access log services, ext_authz and rate limits find it ready.
import type { Cluster } from '../cluster/cluster.ts';
import { NO_CONTEXT } from '../cluster/lb-context.ts';
import { HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { MAX_GRPC_WAITING_BYTES, MAX_XDS_MESSAGE_BYTES } from '../limits.ts';
import type { OutgoingHead, PoolFailure, PoolWaiter, ResponseReceiver, UpstreamExchange } from './exchange.ts';
import { frameMessage, messageReader } from './grpc-messages.ts';

export interface GrpcCall {
  /** `/package.Service/Method`. */
  readonly method: string;
  /** Empty: the cluster's name. */
  readonly authority: string;
  readonly metadata: readonly (readonly [string, string])[];
  readonly onMessage: (bytes: Buffer) => void;
  /** Once: the stream is over, whoever ended it. */
  readonly onClose: (reason: string) => void;
}

export interface GrpcStream {
  send(message: Uint8Array): void;
  close(): void;
}

/** Undefined when the cluster has no usable host. */
export function openGrpcStream(cluster: Cluster, call: GrpcCall): GrpcStream | undefined {
  const host = cluster.pick(NO_CONTEXT);
  if (!host) return undefined;
  const authority = call.authority || cluster.name;
  const pool = cluster.pool(host, undefined, authority, 'HTTP/2');
  if (!pool) return undefined;
  const stream = new Stream(authority, call);
  stream.begin((waiter) => pool.request(waiter));
  return stream;
}

const TE = headerName('te');
const METADATA_NAME = /^[a-z0-9_.-]+$/;

class Stream implements GrpcStream, PoolWaiter, ResponseReceiver {
  readonly #call: GrpcCall;
  readonly #head: OutgoingHead;
  readonly #take: (chunk: Buffer) => string | undefined;
  #exchange: UpstreamExchange | undefined;
  #leaveQueue: (() => void) | undefined;
  /** Frames that wait for a connection. */
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #closed = false;
  #status = '';

  constructor(authority: string, call: GrpcCall) {
    this.#call = call;
    const headers = new HeaderMap(16);
    headers.add(H.host, authority);
    headers.add(H.contentType, 'application/grpc');
    headers.add(TE, 'trailers');
    for (const [name, value] of call.metadata) if (METADATA_NAME.test(name)) headers.add(headerName(name), value);
    this.#head = { method: 'POST', path: call.method, scheme: 'http', headers, body: 'chunked', upgrade: '' };
    this.#take = messageReader(MAX_XDS_MESSAGE_BYTES, (bytes) => {
      if (!this.#closed) call.onMessage(bytes);
    });
  }

  begin(request: (waiter: PoolWaiter) => () => void): void {
    const leave = request(this);
    if (!this.#exchange && !this.#closed) this.#leaveQueue = leave;
  }

  send(message: Uint8Array): void {
    if (this.#closed) return;
    const frame = frameMessage(message);
    if (this.#exchange) {
      this.#exchange.sendData(frame, 0, frame.length);
      return;
    }
    this.#waitingBytes += frame.length;
    if (this.#waitingBytes <= MAX_GRPC_WAITING_BYTES) this.#waiting.push(frame);
    else this.#finish('too much waits for a connection');
  }

  close(): void {
    this.#finish('closed by us');
  }

  // --- from the pool

  onReady(exchange: UpstreamExchange): void {
    this.#leaveQueue = undefined;
    if (this.#closed) {
      exchange.cancel();
      return;
    }
    if (exchange.protocol !== 'HTTP/2') {
      exchange.cancel();
      this.#finish('the cluster does not speak HTTP/2');
      return;
    }
    this.#exchange = exchange;
    exchange.begin(this.#head, this);
    for (const frame of this.#waiting.splice(0)) exchange.sendData(frame, 0, frame.length);
  }

  onFailure(failure: PoolFailure): void {
    this.#leaveQueue = undefined;
    // Not while the caller is still opening: it does not know the stream yet.
    queueMicrotask(() => this.#finish(failure.kind === 'connect-failure' ? failure.reason : failure.kind));
  }

  // --- from the exchange

  onResponseInformational(): void {}

  onResponseHead(status: number, headers: HeaderMap, endStream: boolean): void {
    if (status !== 200) this.#status = `HTTP status ${status}`;
    this.#note(headers);
    if (endStream) {
      this.#exchange = undefined;
      this.#finish(this.#status || 'stream ended');
    } else if (status !== 200) this.#finish(this.#status);
  }

  onResponseData(bytes: Buffer, start: number, end: number): void {
    if (this.#closed) return;
    // The bytes are ours only during the call; a message may come in pieces.
    const problem = this.#take(Buffer.from(bytes.subarray(start, end)));
    if (problem) this.#finish(problem);
  }

  onResponseEnd(trailers?: HeaderMap): void {
    if (trailers) this.#note(trailers);
    this.#exchange = undefined;
    this.#finish(this.#status || 'stream ended');
  }

  onUpstreamReset(reason: string): void {
    this.#exchange = undefined;
    this.#finish(this.#status || reason);
  }

  onRequestBacklog(): void {}

  #note(headers: HeaderMap): void {
    const code = headers.get(H.grpcStatus);
    if (code !== undefined && code !== '0')
      this.#status = `gRPC status ${code}: ${decoded(headers.get(H.grpcMessage) ?? '')}`;
  }

  #finish(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leaveQueue?.();
    this.#exchange?.cancel();
    this.#exchange = undefined;
    this.#waiting.length = 0;
    this.#call.onClose(reason);
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
