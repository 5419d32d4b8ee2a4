// DATA of an HTTP/2 connection on its way to the peer: the connection's window, the socket's room, and the streams that wait for
// either. Owned by the session.
import { DATA, DEFAULT_WINDOW, MAX_FRAME, MAX_WINDOW } from './h2-frames.ts';
import type { H2Guard } from './h2-guard.ts';
import type { H2Stream } from './h2-stream.ts';
import type { H2Writer } from './h2-writer.ts';

export class H2Outlet {
  readonly #writer: H2Writer;
  readonly #guard: H2Guard;
  readonly #waiting = new Set<H2Stream>();
  #window = DEFAULT_WINDOW;
  /** The socket takes no more. */
  #blocked = false;

  constructor(writer: H2Writer, guard: H2Guard) {
    this.#writer = writer;
    this.#guard = guard;
  }

  /** WINDOW_UPDATE of the connection; false = it grew beyond its limit. */
  grow(more: number): boolean {
    this.#window += more;
    if (this.#window > MAX_WINDOW) return false;
    this.pump();
    return true;
  }

  /** Sends what the windows allow as DATA; returns the number of bytes. */
  send(stream: H2Stream, bytes: Buffer, start: number, end: number): number {
    const allowed = Math.min(end - start, stream.sendWindow, this.#window);
    let sent = 0;
    while (sent < allowed && !this.#blocked) {
      const size = Math.min(allowed - sent, MAX_FRAME);
      this.#writer.streamFrame(DATA, stream.id, bytes, start + sent, start + sent + size);
      this.#guard.dataFrames += 1;
      sent += size;
    }
    stream.sendWindow -= sent;
    this.#window -= sent;
    return sent;
  }

  await(stream: H2Stream): void {
    this.#waiting.add(stream);
  }

  forget(stream: H2Stream): void {
    this.#waiting.delete(stream);
  }

  onBacklog(full: boolean): void {
    this.#blocked = full;
    if (full) return;
    this.#writer.settle();
    this.pump();
  }

  /** Gives every waiting stream its share until nothing moves. */
  pump(): void {
    let moved = this.#waiting.size > 0;
    while (moved && !this.#blocked && this.#window > 0) {
      moved = false;
      for (const stream of this.#waiting) {
        if (stream.pump()) moved = true;
        if (stream.waiting === 0) this.#waiting.delete(stream);
      }
    }
  }
}
