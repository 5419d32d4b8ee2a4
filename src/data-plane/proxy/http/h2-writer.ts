// Collects the frames of an HTTP/2 connection and sends them together once a turn of the event loop: what many streams
// answer in one turn leaves as one write. Used by the session.
import { H2_OUTPUT_BYTES, MAX_SPARE_OUTPUTS } from '../limits.ts';
import { arena } from '../transport-socket/arena.ts';
import type { Transport } from '../transport-socket/transport.ts';
import {
  CONTINUATION,
  END_HEADERS,
  END_STREAM,
  FRAME_HEAD,
  HEADERS,
  MAX_FRAME,
  writeFrameHead,
  writeNumber,
} from './h2-frames.ts';

const NOTHING = Buffer.alloc(0);

/** Writers with something to send; sent by one callback. */
let dirty: H2Writer[] = [];
let scheduled = false;
/** Buffers that nobody uses now. */
const spare: Buffer[] = [];

function flushAll(): void {
  scheduled = false;
  const list = dirty;
  dirty = [];
  arena.beginTurn();
  try {
    for (const writer of list) writer.flush();
  } finally {
    arena.endTurn();
  }
}

export class H2Writer {
  readonly #transport: Transport;
  buffer: Buffer = NOTHING;
  #end = 0;
  #dirty = false;
  /** Flags byte of the newest frame, while it is here and belongs to a stream: it can still end the stream. */
  #flagsAt = -1;
  #flagsId = 0;
  /** Frames not known to be with the kernel; and those of types PING, SETTINGS and RST_STREAM among them. */
  frames = 0;
  controlFrames = 0;
  /** Of these, the ones in `buffer`. */
  #batch = 0;
  #controlBatch = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Offset in `buffer` with room for `size` bytes. Follow with `commit`. */
  reserve(size: number): number {
    if (this.#end + size > this.buffer.length) {
      this.flush();
      this.buffer =
        size > H2_OUTPUT_BYTES ? Buffer.allocUnsafe(size) : (spare.pop() ?? Buffer.allocUnsafeSlow(H2_OUTPUT_BYTES));
    }
    return this.#end;
  }

  commit(end: number): void {
    this.#end = end;
    this.#flagsAt = -1;
    this.frames += 1;
    this.#batch += 1;
    if (this.#dirty) return;
    this.#dirty = true;
    dirty.push(this);
    if (scheduled) return;
    scheduled = true;
    setImmediate(flushAll);
  }

  /** The frame just committed answers the peer or resets a stream. */
  countControl(): void {
    this.controlFrames += 1;
    this.#controlBatch += 1;
  }

  #markStream(at: number, id: number): void {
    this.#flagsAt = at + 4;
    this.#flagsId = id;
  }

  /** Sets `flag` on the newest frame if that is one of stream `id` and has not left. */
  addFlag(id: number, flag: number): boolean {
    if (this.#flagsAt < 0 || this.#flagsId !== id) return false;
    this.buffer[this.#flagsAt]! |= flag;
    this.#flagsAt = -1;
    return true;
  }

  /** A frame with the payload `bytes[start, end)`. */
  frame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void {
    const from = this.reserve(FRAME_HEAD + end - start);
    const at = writeFrameHead(this.buffer, from, end - start, type, flags, id);
    bytes.copy(this.buffer, at, start, end);
    this.commit(at + end - start);
  }

  /** Bytes that are no frame: the client's preface. */
  raw(bytes: Buffer): void {
    const from = this.reserve(bytes.length);
    this.commit(from + bytes.copy(this.buffer, from));
  }

  /** A frame of `type` on a stream; its end can still be marked. */
  streamFrame(type: number, id: number, bytes: Buffer, start: number, end: number): void {
    this.frame(type, 0, id, bytes, start, end);
    this.#markStream(this.#end - (end - start) - FRAME_HEAD, id);
  }

  /** A frame of one or two 32-bit numbers: RST_STREAM, WINDOW_UPDATE, GOAWAY, PING. */
  numbers(type: number, id: number, first: number, second?: number): void {
    const size = second === undefined ? 4 : 8;
    const from = this.reserve(FRAME_HEAD + size);
    const { buffer } = this;
    let at = writeNumber(buffer, writeFrameHead(buffer, from, size, type, 0, id), first);
    if (second !== undefined) at = writeNumber(buffer, at, second);
    this.commit(at);
  }

  /** Offset in `buffer` at which a header block of at most `bound` bytes is to be written. Follow with `endBlock`. */
  beginBlock(bound: number): number {
    return this.reserve(FRAME_HEAD + bound) + FRAME_HEAD;
  }

  /** The block ends at `end`; returns its size on the wire. */
  endBlock(end: number, id: number, endStream: boolean): number {
    const { buffer } = this;
    const from = this.#end;
    const length = end - from - FRAME_HEAD;
    const flags = endStream ? END_STREAM : 0;
    if (length <= MAX_FRAME) {
      writeFrameHead(buffer, from, length, HEADERS, flags | END_HEADERS, id);
      this.commit(end);
      if (!endStream) this.#markStream(from, id);
      return end - from;
    }
    const block = Buffer.from(buffer.subarray(from + FRAME_HEAD, end));
    for (let at = 0; at < length; at += MAX_FRAME) {
      const stop = Math.min(length, at + MAX_FRAME);
      const last = stop === length ? END_HEADERS : 0;
      this.frame(at === 0 ? HEADERS : CONTINUATION, at === 0 ? flags | last : last, id, block, at, stop);
    }
    return length + FRAME_HEAD;
  }

  /** Gives everything to the transport. */
  flush(): void {
    this.#dirty = false;
    this.#flagsAt = -1;
    const { buffer } = this;
    const end = this.#end;
    if (buffer === NOTHING) return;
    this.#end = 0;
    this.buffer = NOTHING;
    // What was sent before has left: only these frames wait.
    if (this.#transport.backlogBytes === 0) this.#forget(this.#batch, this.#controlBatch);
    this.#batch = 0;
    this.#controlBatch = 0;
    if (end > 0) this.#transport.forward(buffer, 0, end);
    if (buffer.length === H2_OUTPUT_BYTES && spare.length < MAX_SPARE_OUTPUTS) spare.push(buffer);
  }

  /** Sends now and finds out what the kernel takes. */
  settle(): void {
    this.flush();
    arena.flush();
    if (this.#transport.backlogBytes === 0) this.#forget(0, 0);
  }

  #forget(frames: number, controlFrames: number): void {
    this.frames = frames;
    this.controlFrames = controlFrames;
  }
}
