// Transport over net.Socket and tls.TLSSocket. Made by the listener (accepted) and by upstream connections (dialled).
import type { Socket } from 'node:net';
import type { SocketAddr } from '../config/address.ts';
import { MAX_BULK_WAITING_BYTES, READ_BUFFER_BYTES } from '../limits.ts';
import { type ArenaOwner, arena } from './arena.ts';
import { bulkBuffer, handleOf, readBuffer, readInto, startReading, stopReading } from './read-buffer.ts';
import { sendNow } from './send-now.ts';
import { tlsReason } from './tls-reasons.ts';
import type { TlsDetails, Transport, TransportFailure, TransportSink } from './transport.ts';

export interface SocketTransportOptions {
  readonly local: SocketAddr;
  readonly remote: SocketAddr;
  readonly tls?: TlsDetails | undefined;
  /** Bytes an inspector already took from the socket. */
  readonly initial?: Buffer | undefined;
}

/** What is left of bulk reads, over all connections. */
let bulkWaiting = 0;

export class SocketTransport implements Transport, ArenaOwner {
  readonly local: SocketAddr;
  readonly remote: SocketAddr;
  readonly tls: TlsDetails | undefined;
  bytesRead = 0;
  bytesWritten = 0;
  closed = false;
  peerEnded = false;
  bulk = false;
  readonly #socket: Socket;
  #sink: TransportSink | undefined;
  #initial: Buffer | undefined;
  #ended = false;
  #full = false;
  #fast = false;
  #paused = false;
  #failure: TransportFailure | undefined;

  constructor(socket: Socket, options: SocketTransportOptions) {
    this.#socket = socket;
    this.local = options.local;
    this.remote = options.remote;
    this.tls = options.tls;
    this.#initial = options.initial;
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.peerEnded = true;
      this.#failure ??= failureOf(error);
    });
    socket.once('close', () => this.#close());
    socket.on('drain', () => this.#drained());
  }

  get backlogBytes(): number {
    return this.#socket.writableLength + arena.pending(this);
  }

  start(sink: TransportSink): void {
    this.#sink = sink;
    const socket = this.#socket;
    if (socket.destroyed) {
      this.closed = true;
      queueMicrotask(() => this.#deliverClose());
      return;
    }
    socket.on('end', () => this.#end());
    this.#fast = readInto(
      socket,
      (bytes, length) => this.#deliver(bytes, length),
      // TLS reads in records: a larger buffer would only be wasted cache.
      this.tls ? undefined : () => (this.bulk && bulkWaiting < MAX_BULK_WAITING_BYTES ? bulkBuffer() : readBuffer),
    );
    if (!this.#fast) {
      socket.on('data', (chunk: Buffer) => this.#deliver(chunk, chunk.length));
      if (this.#paused) socket.pause();
    }
    const early: Buffer[] = this.#initial ? [this.#initial] : [];
    this.#initial = undefined;
    if (this.#fast) {
      // What the stream already holds must not be lost when the user buffer takes over.
      for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null)
        early.push(chunk);
    }
    for (const chunk of early) this.#deliver(chunk, chunk.length);
    // The end came while an inspector looked: it will not come again.
    if (socket.readableEnded) queueMicrotask(() => this.#end());
    // An inspector's pause of the stream leaves the handle reading: into our buffer, from now on.
    if (this.#fast && this.#paused) stopReading(socket);
    if (this.#fast && !this.#paused && !this.closed) startReading(socket);
    // Makes the stream notice an end of input that came together with the early bytes.
    if (this.#fast && !this.#paused && !this.closed) socket.read(0);
  }

  redirect(sink: TransportSink): void {
    this.#sink = sink;
  }

  reserve(size: number): number {
    return arena.reserve(this, size);
  }

  commit(end: number): void {
    arena.commit(end);
  }

  write(bytes: Buffer, start: number, end: number): void {
    while (start < end) {
      const size = Math.min(end - start, 65_536);
      const at = arena.reserve(this, size);
      bytes.copy(arena.buffer, at, start, start + size);
      arena.commit(at + size);
      start += size;
    }
  }

  flushArena(buffer: Buffer, start: number, end: number): boolean {
    const socket = this.#socket;
    if (this.closed || socket.destroyed || this.#ended) return false;
    this.bytesWritten += end - start;
    // Past the stream: its bookkeeping costs more than the system call.
    if (this.tls === undefined && socket.writableLength === 0) {
      start += sendNow(handleOf(socket)?.fd ?? -1, buffer, start, end);
      if (start === end) return false;
    }
    return this.#send(buffer.subarray(start, end));
  }

  /** True when the kernel has not taken all of it: the bytes must stay. */
  #send(bytes: Buffer): boolean {
    const socket = this.#socket;
    const room = socket.write(bytes);
    const stuck = socket.writableLength > 0;
    if (!room && stuck && !this.#full) {
      this.#full = true;
      this.#sink?.onBacklog(true);
    }
    return stuck;
  }

  /** Bytes wait for the kernel, and the sink was told so. */
  get backlogged(): boolean {
    return this.#full;
  }

  /** Sends at once, past the arena: for a layer that has put its bytes together already. */
  send(bytes: Buffer, start: number, end: number): void {
    const socket = this.#socket;
    if (this.closed || socket.destroyed || this.#ended) return;
    this.bytesWritten += end - start;
    const sent = socket.writableLength > 0 ? 0 : sendNow(handleOf(socket)?.fd ?? -1, bytes, start, end);
    if (sent === end - start) return;
    const room = socket.write(Buffer.from(bytes.subarray(start + sent, end)));
    if (room || this.#full) return;
    this.#full = true;
    this.#sink?.onBacklog(true);
  }

  forward(bytes: Buffer, start: number, end: number): boolean {
    const socket = this.#socket;
    const size = end - start;
    if (size < READ_BUFFER_BYTES / 2 || this.#full) {
      this.write(bytes, start, end);
      return !this.#full;
    }
    arena.flushOwner(this);
    if (this.closed || socket.destroyed || this.#ended) return false;
    if (socket.writableLength > 0) {
      this.write(bytes, start, end);
      return false;
    }
    if (this.tls) {
      // OpenSSL takes the bytes in before `write` returns.
      this.bytesWritten += size;
      return !this.#send(bytes.subarray(start, end));
    }
    const sent = sendNow(handleOf(socket)?.fd ?? -1, bytes, start, end);
    this.bytesWritten += size;
    if (sent === size) return true;
    this.#queue(Buffer.from(bytes.subarray(start + sent, end)));
    return false;
  }

  /** What the kernel did not take of a bulk read waits as a copy, and the other side is told to stop at once. */
  #queue(rest: Buffer): void {
    bulkWaiting += rest.length;
    const room = this.#socket.write(rest, () => {
      bulkWaiting -= rest.length;
    });
    if (room || this.#full) return;
    this.#full = true;
    this.#sink?.onBacklog(true);
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    if (!this.#sink) return;
    if (this.#fast) stopReading(this.#socket);
    else this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#sink || this.closed) return;
    if (this.#fast) startReading(this.#socket);
    else this.#socket.resume();
  }

  end(): void {
    if (this.#ended || this.closed) return;
    arena.flushOwner(this);
    this.#ended = true;
    this.#socket.end();
  }

  closeSoon(): void {
    if (this.closed) return;
    arena.flushOwner(this);
    this.#ended = true;
    this.#socket.destroySoon();
  }

  destroy(): void {
    if (this.closed) return;
    arena.flushOwner(this);
    this.#socket.destroy();
  }

  reset(): void {
    if (this.closed) return;
    resetSocket(this.#socket);
  }

  #deliver(bytes: Buffer, length: number): void {
    this.bytesRead += length;
    const sink = this.#sink;
    if (!sink || this.closed) return;
    arena.beginTurn();
    try {
      sink.onData(bytes, 0, length);
    } finally {
      arena.endTurn();
    }
  }

  #end(): void {
    this.peerEnded = true;
    this.#inTurn(() => this.#sink?.onEnd());
  }

  #drained(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#inTurn(() => this.#sink?.onBacklog(false));
  }

  #inTurn(run: () => void): void {
    arena.beginTurn();
    try {
      run();
    } finally {
      arena.endTurn();
    }
  }

  #close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#deliverClose();
  }

  #deliverClose(): void {
    const sink = this.#sink;
    this.#sink = undefined;
    if (sink) this.#inTurn(() => sink.onClose(this.#failure));
  }
}

/** RST when the kernel allows it (plain TCP), otherwise a plain close. */
export function resetSocket(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    socket.destroy();
  }
}

export function failureOf(error: NodeJS.ErrnoException): TransportFailure {
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code === 'EPIPE') return { kind: 'reset', reason: code };
  if (code === 'ETIMEDOUT') return { kind: 'timeout', reason: code };
  if (code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS')) return { kind: 'tls', reason: tlsReason(error) };
  return { kind: 'io', reason: code || error.message };
}
