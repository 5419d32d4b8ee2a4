// A plain connection as the upstream side of a CONNECT request (connect_config): its bytes are the tunnel. Made by connection
// pools, for one exchange each.
import { HeaderMap } from '../http/header-map.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { OutgoingHead, ResponseReceiver, UpstreamExchange } from './exchange.ts';
import type { ConnectionOwner, PooledConnection } from './pool.ts';

export class TcpClientConnection implements PooledConnection, TransportSink, UpstreamExchange {
  readonly transport: Transport;
  readonly protocol = 'HTTP/1.1';
  lastActive = 0;
  served = 0;
  listed = false;
  readonly #owner: ConnectionOwner;
  #receiver: ResponseReceiver | undefined;
  #open = false;
  #answered = false;
  /** What the server said before the tunnel stood. */
  #early: Buffer[] = [];
  #ended = false;
  #paused = false;

  constructor(transport: Transport, owner: ConnectionOwner) {
    this.transport = transport;
    this.#owner = owner;
  }

  get active(): number {
    return this.#open ? 1 : 0;
  }

  get interrupted(): boolean {
    return this.#open;
  }

  get capacity(): number {
    return this.served > 0 || this.transport.closed ? 0 : 1;
  }

  /** One exchange is all it takes: `retire` adds nothing. */
  get retired(): boolean {
    return this.served > 0;
  }

  get untouched(): boolean {
    return !this.#answered;
  }

  start(): void {
    this.transport.start(this);
  }

  open(): UpstreamExchange {
    this.served = 1;
    this.#open = true;
    return this;
  }

  retire(): void {
    if (!this.#open) this.transport.closeSoon();
  }

  begin(_head: OutgoingHead, receiver: ResponseReceiver): void {
    this.#receiver = receiver;
    // The connection is the answer; the caller may still be busy with its request.
    queueMicrotask(() => this.#answer());
  }

  #answer(): void {
    const receiver = this.#receiver;
    if (!receiver) return;
    this.#answered = true;
    receiver.onResponseHead(200, new HeaderMap(16), false);
    for (const chunk of this.#early.splice(0)) this.#receiver?.onResponseData(chunk, 0, chunk.length);
    if (this.#ended) this.#end();
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    this.transport.write(bytes, start, end);
  }

  sendEnd(): void {
    this.transport.end();
  }

  cancel(): void {
    this.#receiver = undefined;
    this.transport.destroy();
  }

  pauseResponse(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.transport.pause();
  }

  resumeResponse(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.transport.resume();
  }

  onData(bytes: Buffer, start: number, end: number): void {
    if (this.#answered) this.#receiver?.onResponseData(bytes, start, end);
    else {
      // One read: what follows waits in the socket until the tunnel stands.
      this.#early.push(Buffer.from(bytes.subarray(start, end)));
      if (!this.#receiver) this.pauseResponse();
    }
  }

  onEnd(): void {
    this.#ended = true;
    if (this.#answered) this.#end();
  }

  #end(): void {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.#open = false;
    receiver?.onResponseEnd();
    this.transport.closeSoon();
  }

  onBacklog(full: boolean): void {
    this.#receiver?.onRequestBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#owner.onClosed(this);
    const receiver = this.#receiver;
    this.#receiver = undefined;
    if (!receiver) return;
    if (this.#answered && !failure) receiver.onResponseEnd();
    else receiver.onUpstreamReset('connection-termination');
  }
}
