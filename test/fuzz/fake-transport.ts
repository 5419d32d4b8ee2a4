// A connection for codecs under fuzz: keeps what is sent, and gives the peer's bytes in pieces. Used by the tests of this folder.
import assert from 'node:assert/strict';
import { arena } from '../../src/data-plane/proxy/transport-socket/arena.ts';
import type { Transport, TransportSink } from '../../src/data-plane/proxy/transport-socket/transport.ts';

export class FakeTransport implements Transport {
  readonly tls = undefined;
  readonly local = { kind: 'pipe', path: '' } as const;
  readonly remote = { kind: 'pipe', path: '' } as const;
  closed = false;
  readonly peerEnded = false;
  readonly backlogBytes = 0;
  bytesRead = 0;
  bytesWritten = 0;
  bulk = false;
  paused = false;
  sink: TransportSink | undefined;
  readonly sent: Buffer[] = [];
  start(sink: TransportSink): void {
    this.sink = sink;
  }
  redirect(sink: TransportSink): void {
    this.sink = sink;
  }
  reserve(): number {
    return 0;
  }
  commit(end: number): void {
    this.sent.push(Buffer.from(arena.buffer.subarray(0, end)));
  }
  write(bytes: Buffer, start: number, end: number): void {
    this.sent.push(Buffer.from(bytes.subarray(start, end)));
  }
  forward(bytes: Buffer, start: number, end: number): boolean {
    this.write(bytes, start, end);
    return true;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  end(): void {}
  closeSoon(): void {
    this.destroy();
  }
  destroy(): void {
    if (this.closed) return;
    this.closed = true;
    this.sink?.onClose(undefined);
  }
  reset(): void {
    this.destroy();
  }
}

/** Gives `pieces` of `input` to the codec until it pauses or closes. */
export function feed(transport: FakeTransport, input: Buffer, pieces: readonly Buffer[]): void {
  let fed = 0;
  for (const piece of pieces) {
    if (transport.closed || transport.paused) break;
    arena.beginTurn();
    transport.sink?.onData(piece, 0, piece.length);
    arena.endTurn();
    fed += piece.length;
  }
  assert.ok(fed <= input.length);
}

/** `input` in small random pieces. */
export function cut(input: Buffer, random: () => number): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; at < input.length; ) {
    const size = 1 + Math.floor(random() * (random() < 0.5 ? 4 : 40));
    out.push(input.subarray(at, at + size));
    at += size;
  }
  return out;
}
