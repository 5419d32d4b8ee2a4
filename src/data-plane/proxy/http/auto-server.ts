// Finds out which HTTP version a client speaks (codec_type AUTO without ALPN): HTTP/2 begins with its preface. Made by
// served-connection.ts; steps aside once it knows.
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { ServerConnection } from './codec.ts';
import { PREFACE } from './h2-frames.ts';

/** So much of the preface decides: no request of HTTP/1 begins like it. */
const DECISIVE_BYTES = 'PRI * HTTP/2'.length;

export type ServerCodec = ServerConnection & TransportSink;

/** Is told which version it is, or that the client went before it said so. */
export interface CodecMaker {
  make(http2: boolean): ServerCodec;
  onConnectionClosed(failure?: TransportFailure): void;
}

export class AutoServerConnection implements ServerConnection, TransportSink {
  readonly transport: Transport;
  readonly #owner: CodecMaker;
  readonly #since: number;
  #early: Buffer | undefined;
  #inner: ServerCodec | undefined;
  #draining = false;

  /** `now`: ms, of its clock. */
  constructor(transport: Transport, owner: CodecMaker, now: number) {
    this.transport = transport;
    this.#owner = owner;
    this.#since = now;
  }

  get busy(): boolean {
    return this.#inner?.busy ?? false;
  }

  get interrupted(): boolean {
    return this.#inner?.interrupted ?? false;
  }

  get lastActive(): number {
    return this.#inner?.lastActive ?? this.#since;
  }

  start(): void {
    this.transport.start(this);
  }

  drain(): void {
    this.#draining = true;
    this.#inner?.drain();
  }

  close(): void {
    if (this.#inner) this.#inner.close();
    else this.transport.destroy();
  }

  onData(bytes: Buffer, start: number, end: number): void {
    const early = this.#early ? Buffer.concat([this.#early, bytes.subarray(start, end)]) : bytes;
    const from = this.#early ? 0 : start;
    const to = this.#early ? early.length : end;
    const decisive = Math.min(to - from, DECISIVE_BYTES);
    const http2 = early.compare(PREFACE, 0, decisive, from, from + decisive) === 0;
    if (http2 && decisive < DECISIVE_BYTES) {
      this.#early = Buffer.from(early.subarray(from, to));
      return;
    }
    this.#early = undefined;
    const inner = this.#owner.make(http2);
    this.#inner = inner;
    this.transport.redirect(inner);
    if (this.#draining) inner.drain();
    inner.onData(early, from, to);
  }

  onEnd(): void {
    this.transport.destroy();
  }

  onBacklog(): void {}

  onClose(failure: TransportFailure | undefined): void {
    this.#owner.onConnectionClosed(failure);
  }
}
