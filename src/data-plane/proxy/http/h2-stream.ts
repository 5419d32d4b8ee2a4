// One stream of an HTTP/2 connection: what waits in each direction, flow control, and its end. The server's and the
// client's streams extend it with what heads mean to them.
import { H2_STREAM_HIGH_BYTES } from '../limits.ts';
import { WINDOW_UPDATE } from './h2-frames.ts';
import type { H2Head } from './h2-head.ts';
import type { H2Session } from './h2-session.ts';
import { HeaderMap, headerName } from './header-map.ts';

/** Who ended a stream early: the peer by RST_STREAM, the loss of the connection, or nonsense from the peer. */
export type StreamReset = 'remote' | 'disconnect' | 'protocol';

/** Bytes one stream sends before others have their turn. */
const QUANTUM = 16_384;

export abstract class H2Stream {
  /** 0 until the head of an exchange of ours is sent. */
  id: number;
  readonly session: H2Session;
  sendWindow: number;
  recvWindow: number;
  /** END_STREAM was sent / received. */
  localEnded = false;
  remoteEnded = false;
  /** Ends the wait for the peer's window. */
  cancelFlush: (() => void) | undefined;
  /** Nothing more is sent or taken from the peer. */
  closed = false;
  /** Body bytes the peer announced; -1 = it did not. */
  expected = -1;
  #received = 0;
  /** Bytes that were taken and for which the peer has no new window yet. */
  #credit = 0;
  #outbox: Buffer[] | undefined;
  #outboxBytes = 0;
  #endQueued = false;
  #queuedTrailers: HeaderMap | undefined;
  #backlogged = false;
  #inbox: Buffer[] | undefined;
  #paused = false;
  #endHeld = false;
  #heldTrailers: HeaderMap | undefined;

  constructor(session: H2Session, id: number) {
    this.session = session;
    this.id = id;
    this.sendWindow = session.peerStreamWindow;
    this.recvWindow = session.options.streamWindow;
  }

  /** Trailers left: bytes of their block, and of their names and values. */
  abstract trailersSent(wireBytes: number, fieldBytes: number): void;
  /** A header block of this stream after the one that opened it. */
  abstract onBlock(head: H2Head, headers: HeaderMap, endStream: boolean): void;
  protected abstract onBodyData(bytes: Buffer, start: number, end: number): void;
  protected abstract onBodyEnd(trailers: HeaderMap | undefined): void;
  protected abstract onBacklog(full: boolean): void;
  /** END_STREAM was sent and the peer's has not come. */
  abstract onLocalEnded(): void;
  /** The stream is gone. */
  abstract onReset(reason: StreamReset, code: number): void;

  // --- to the peer

  /** Bytes that wait for a window or for the socket. */
  get waiting(): number {
    return this.#outboxBytes;
  }

  protected sendBody(bytes: Buffer, start: number, end: number): void {
    if (this.closed || this.#endQueued) return;
    let at = start;
    if (this.#outboxBytes === 0) at += this.session.outlet.send(this, bytes, at, end);
    if (at >= end) return;
    this.#outbox ??= [];
    this.#outbox.push(Buffer.from(bytes.subarray(at, end)));
    this.#outboxBytes += end - at;
    this.session.outlet.await(this);
    if (this.#outboxBytes <= H2_STREAM_HIGH_BYTES || this.#backlogged) return;
    this.#backlogged = true;
    this.onBacklog(true);
  }

  protected finishBody(trailers: HeaderMap | undefined): void {
    if (this.closed || this.#endQueued) return;
    this.#endQueued = true;
    if (this.#outboxBytes === 0) {
      this.session.sendEnd(this, trailers);
      return;
    }
    // The caller's map may serve another message before the bytes have left.
    if (trailers) this.#queuedTrailers = copyOf(trailers);
    this.session.awaitFlush(this);
  }

  /** A window or the socket opened: sends a share of what waits. False = nothing could be sent. */
  pump(): boolean {
    const outbox = this.#outbox;
    const first = outbox?.[0];
    if (!outbox || !first) return false;
    const sent = this.session.outlet.send(this, first, 0, Math.min(first.length, QUANTUM));
    if (sent === 0) return false;
    this.#outboxBytes -= sent;
    if (sent === first.length) outbox.shift();
    else outbox[0] = first.subarray(sent);
    if (this.#outboxBytes === 0 && this.#endQueued) this.session.sendEnd(this, this.#queuedTrailers);
    if (this.#backlogged && this.#outboxBytes <= H2_STREAM_HIGH_BYTES / 2) {
      this.#backlogged = false;
      this.onBacklog(false);
    }
    return true;
  }

  /** Forgets what waits for the peer. */
  dropOutput(): void {
    this.#outbox = undefined;
    this.#outboxBytes = 0;
    this.#queuedTrailers = undefined;
  }

  // --- from the peer

  /** Payload of a DATA frame; flow control was checked. False: more than was announced. */
  receive(bytes: Buffer, start: number, end: number): boolean {
    this.#received += end - start;
    if (this.expected >= 0 && this.#received > this.expected) return false;
    if (this.#paused) {
      this.#inbox ??= [];
      this.#inbox.push(Buffer.from(bytes.subarray(start, end)));
      return true;
    }
    this.onBodyData(bytes, start, end);
    this.take(end - start);
    return true;
  }

  /** END_STREAM. False: less than was announced. */
  receiveEnd(trailers: HeaderMap | undefined): boolean {
    this.remoteEnded = true;
    if (this.expected >= 0 && this.#received !== this.expected) return false;
    if (this.#inbox) {
      this.#endHeld = true;
      this.#heldTrailers = trailers;
    } else this.onBodyEnd(trailers);
    return true;
  }

  /** `bytes` were taken: the peer may send as many again. */
  take(bytes: number): void {
    this.session.take(bytes);
    if (this.remoteEnded || this.closed) return;
    this.#credit += bytes;
    if (this.#credit < this.session.options.streamWindow / 2) return;
    this.recvWindow += this.#credit;
    this.session.writer.numbers(WINDOW_UPDATE, this.id, this.#credit);
    this.#credit = 0;
  }

  pauseBody(): void {
    this.#paused = true;
  }

  resumeBody(): void {
    if (!this.#paused) return;
    this.#paused = false;
    const inbox = this.#inbox;
    if (!inbox) return;
    while (inbox.length > 0) {
      const piece = inbox.shift()!;
      this.onBodyData(piece, 0, piece.length);
      this.take(piece.length);
      if (this.#paused) return;
    }
    if (this.#inbox !== inbox) return;
    this.#inbox = undefined;
    if (!this.#endHeld) return;
    this.#endHeld = false;
    this.onBodyEnd(this.#heldTrailers);
  }

  /** Nobody wants what came: the connection's window gets it back. */
  dropInput(): void {
    const inbox = this.#inbox;
    this.#inbox = undefined;
    this.#endHeld = false;
    if (inbox) for (const piece of inbox.splice(0)) this.session.take(piece.length);
  }
}

function copyOf(headers: HeaderMap): HeaderMap {
  const copy = new HeaderMap(64);
  headers.forEach((name, value) => {
    copy.add(headerName(name), value);
  });
  return copy;
}
