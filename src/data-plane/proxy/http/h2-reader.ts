// Cuts the bytes of an HTTP/2 connection into frames. DATA passes through as it comes; other frames are given whole, and
// only one that is cut by a read is copied. Used by the session.
import {
  DATA,
  FRAME_HEAD,
  FRAME_SIZE_ERROR,
  MAX_FRAME,
  PADDED,
  PREFACE,
  PROTOCOL_ERROR,
  readNumber,
} from './h2-frames.ts';

export interface FrameSink {
  /** A whole frame other than DATA; `bytes[start, end)` is its payload. */
  onFrame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void;
  /** A DATA frame of `length` bytes begins. */
  onDataBegin(flags: number, id: number, length: number): void;
  /** Payload of that frame, without its padding. */
  onDataPiece(bytes: Buffer, start: number, end: number): void;
  onDataEnd(): void;
  /** The bytes are no HTTP/2; nothing is read after that. */
  onBadFrame(code: number): void;
}

const NO_DATA = -1;

export class H2Reader {
  readonly #sink: FrameSink;
  /** Bytes of the client's preface still to come. */
  #preface: number;
  /** A frame that is not complete, from its head on. */
  #partial: Buffer | undefined;
  #have = 0;
  /** Bytes left of the DATA frame at hand, of its padding, and whether the length of the padding is still to come. */
  #left = NO_DATA;
  #padding = 0;
  #padLength = false;
  /** Set to stop reading for good. */
  stopped = false;

  constructor(sink: FrameSink, expectPreface: boolean) {
    this.#sink = sink;
    this.#preface = expectPreface ? PREFACE.length : 0;
  }

  feed(bytes: Buffer, start: number, end: number): void {
    let at = start;
    if (this.#preface > 0) {
      while (at < end && this.#preface > 0) {
        if (bytes[at] !== PREFACE[PREFACE.length - this.#preface]) {
          this.#bad(PROTOCOL_ERROR);
          return;
        }
        this.#preface -= 1;
        at += 1;
      }
    }
    while (at < end && !this.stopped)
      at = this.#left === NO_DATA ? this.#frame(bytes, at, end) : this.#data(bytes, at, end);
  }

  #bad(code: number): void {
    this.stopped = true;
    this.#partial = undefined;
    this.#sink.onBadFrame(code);
  }

  #frame(bytes: Buffer, at: number, end: number): number {
    if (this.#partial) return this.#complete(bytes, at, end);
    if (end - at < FRAME_HEAD) return this.#keep(bytes, at, end, FRAME_HEAD);
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    if (length > MAX_FRAME) {
      this.#bad(FRAME_SIZE_ERROR);
      return end;
    }
    const type = bytes[at + 3]!;
    if (type === DATA) {
      this.#beginData(bytes, at, length);
      return at + FRAME_HEAD;
    }
    if (end - at < FRAME_HEAD + length) return this.#keep(bytes, at, end, FRAME_HEAD + length);
    const from = at + FRAME_HEAD;
    this.#sink.onFrame(type, bytes[at + 4]!, readNumber(bytes, at + 5), bytes, from, from + length);
    return from + length;
  }

  #keep(bytes: Buffer, at: number, end: number, size: number): number {
    const partial = Buffer.allocUnsafe(size);
    this.#have = bytes.copy(partial, 0, at, end);
    this.#partial = partial;
    return end;
  }

  /** Adds to the frame that began in an earlier read. */
  #complete(bytes: Buffer, at: number, end: number): number {
    let partial = this.#partial!;
    if (this.#have < FRAME_HEAD) {
      const stop = Math.min(end, at + FRAME_HEAD - this.#have);
      this.#have += bytes.copy(partial, this.#have, at, stop);
      at = stop;
      if (this.#have < FRAME_HEAD) return at;
      const length = (partial[0]! << 16) | (partial[1]! << 8) | partial[2]!;
      if (length > MAX_FRAME) {
        this.#bad(FRAME_SIZE_ERROR);
        return end;
      }
      if (partial[3] === DATA) {
        this.#partial = undefined;
        this.#beginData(partial, 0, length);
        return at;
      }
      if (partial.length < FRAME_HEAD + length) {
        const larger = Buffer.allocUnsafe(FRAME_HEAD + length);
        partial.copy(larger, 0, 0, FRAME_HEAD);
        this.#partial = larger;
        partial = larger;
      }
    }
    const size = FRAME_HEAD + ((partial[0]! << 16) | (partial[1]! << 8) | partial[2]!);
    const stop = Math.min(end, at + size - this.#have);
    this.#have += bytes.copy(partial, this.#have, at, stop);
    if (this.#have === size) {
      this.#partial = undefined;
      this.#sink.onFrame(partial[3]!, partial[4]!, readNumber(partial, 5), partial, FRAME_HEAD, size);
    }
    return stop;
  }

  #beginData(bytes: Buffer, at: number, length: number): void {
    const flags = bytes[at + 4]!;
    const padded = (flags & PADDED) !== 0;
    if (padded && length === 0) {
      this.#bad(FRAME_SIZE_ERROR);
      return;
    }
    this.#left = length;
    this.#padding = 0;
    this.#padLength = padded;
    this.#sink.onDataBegin(flags, readNumber(bytes, at + 5), length);
    if (this.#left === 0 && !this.stopped) this.#endData();
  }

  #data(bytes: Buffer, at: number, end: number): number {
    if (this.#padLength) {
      this.#padLength = false;
      this.#padding = bytes[at]!;
      this.#left -= 1;
      if (this.#padding > this.#left) {
        this.#bad(PROTOCOL_ERROR);
        return end;
      }
      at += 1;
    }
    const payload = Math.min(end - at, this.#left - this.#padding);
    if (payload > 0) {
      this.#left -= payload;
      this.#sink.onDataPiece(bytes, at, at + payload);
      at += payload;
    }
    if (this.#left === this.#padding && this.#padding > 0) {
      const skip = Math.min(end - at, this.#padding);
      this.#left -= skip;
      this.#padding -= skip;
      at += skip;
    }
    if (this.#left === 0 && !this.stopped) this.#endData();
    return at;
  }

  #endData(): void {
    this.#left = NO_DATA;
    this.#sink.onDataEnd();
  }
}
