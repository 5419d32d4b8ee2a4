// HTTP/1 bodies: the decoder (fixed length, chunked, until close) gives the payload on, framing stays here; and the writer
// of chunks. Used by both sides of HTTP/1.
import { MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES } from '../limits.ts';
import { arena } from '../transport-socket/arena.ts';
import type { Transport } from '../transport-socket/transport.ts';
import { BODY_CHUNKED, BODY_LENGTH, BODY_NONE, BODY_UNTIL_CLOSE, type BodyMode, parseTrailers } from './h1-head.ts';
import { HeaderMap } from './header-map.ts';

export interface BodySink {
  onBodyData(bytes: Buffer, start: number, end: number): void;
}

/** Steps of the chunked state machine. */
const SIZE = 0;
const EXTENSION = 1;
const SIZE_LF = 2;
const DATA = 3;
const DATA_CR = 4;
const DATA_LF = 5;
const TRAILER_START = 6;
const TRAILER_LINE = 7;
const TRAILER_LF = 8;
const END_LF = 9;

const MAX_SIZE_DIGITS = 13;

export class BodyDecoder {
  mode: BodyMode = BODY_NONE;
  #left = 0;
  #step = SIZE;
  #digits = 0;
  #line = 0;
  #keepTrailers = false;
  #trailerBytes: number[] | undefined;
  /** Trailers of the body, once it is done and when they are wanted. */
  trailers: HeaderMap | undefined;

  begin(mode: BodyMode, contentLength: number, keepTrailers = false): void {
    this.mode = mode;
    this.#keepTrailers = keepTrailers;
    this.#trailerBytes = undefined;
    this.trailers = undefined;
    this.#left = mode === BODY_LENGTH ? contentLength : 0;
    this.#step = SIZE;
    this.#digits = 0;
    this.#line = 0;
  }

  get done(): boolean {
    return this.mode === BODY_NONE;
  }

  /** Consumes what belongs to the body and returns the next offset, or -1 when the framing is broken. */
  feed(bytes: Buffer, start: number, end: number, sink: BodySink): number {
    switch (this.mode) {
      case BODY_NONE:
        return start;
      case BODY_UNTIL_CLOSE:
        if (end > start) sink.onBodyData(bytes, start, end);
        return end;
      case BODY_LENGTH: {
        const stop = Math.min(end, start + this.#left);
        this.#left -= stop - start;
        if (this.#left === 0) this.mode = BODY_NONE;
        if (stop > start) sink.onBodyData(bytes, start, stop);
        return stop;
      }
      case BODY_CHUNKED:
        return this.#chunked(bytes, start, end, sink);
    }
  }

  #chunked(bytes: Buffer, start: number, end: number, sink: BodySink): number {
    let i = start;
    while (i < end) {
      if (this.#step === DATA) {
        const stop = Math.min(end, i + this.#left);
        this.#left -= stop - i;
        if (this.#left === 0) this.#step = DATA_CR;
        sink.onBodyData(bytes, i, stop);
        i = stop;
        continue;
      }
      if (!this.#step1(bytes[i]!)) return -1;
      i += 1;
      if (this.mode === BODY_NONE) return i;
    }
    return i;
  }

  /** One byte outside chunk data; false = refused. */
  #step1(byte: number): boolean {
    switch (this.#step) {
      case SIZE:
        return this.#size(byte);
      case EXTENSION:
        this.#line += 1;
        if (this.#line > MAX_CHUNK_LINE_BYTES) return false;
        if (byte === 13) this.#step = SIZE_LF;
        else if (byte < 32 && byte !== 9) return false;
        return true;
      case SIZE_LF:
        if (byte !== 10) return false;
        this.#step = this.#left === 0 ? TRAILER_START : DATA;
        this.#line = 0;
        return true;
      case DATA_CR:
        this.#step = DATA_LF;
        return byte === 13;
      case DATA_LF:
        this.#step = SIZE;
        this.#digits = 0;
        return byte === 10;
      default:
        return this.#trailer(byte);
    }
  }

  #size(byte: number): boolean {
    const digit =
      byte >= 48 && byte <= 57 ? byte - 48 : (byte | 32) >= 97 && (byte | 32) <= 102 ? (byte | 32) - 87 : -1;
    if (digit >= 0) {
      this.#digits += 1;
      this.#left = this.#left * 16 + digit;
      return this.#digits <= MAX_SIZE_DIGITS;
    }
    if (this.#digits === 0) return false;
    this.#line = 0;
    if (byte === 13) this.#step = SIZE_LF;
    else if (byte === 59) this.#step = EXTENSION;
    else return false;
    return true;
  }

  /** Trailers are read within a limit, checked, and dropped unless wanted (Envoy's default). */
  #trailer(byte: number): boolean {
    this.#line += 1;
    if (this.#line > MAX_TRAILER_BYTES) return false;
    // As a rule there is only the blank line, which needs no room.
    if (this.#trailerBytes) this.#trailerBytes.push(byte);
    else if (byte !== 13 && byte !== 10) this.#trailerBytes = [byte];
    switch (this.#step) {
      case TRAILER_START:
        if (byte === 13) this.#step = END_LF;
        else if (byte <= 32 || byte === 127) return false;
        else this.#step = TRAILER_LINE;
        return true;
      case TRAILER_LINE:
        if (byte === 13) this.#step = TRAILER_LF;
        else if (byte < 32 && byte !== 9) return false;
        return true;
      case TRAILER_LF:
        this.#step = TRAILER_START;
        return byte === 10;
      default:
        if (byte !== 10 || !this.#parseTrailers()) return false;
        this.mode = BODY_NONE;
        return true;
    }
  }

  #parseTrailers(): boolean {
    const text = this.#trailerBytes;
    if (!text) return true;
    const bytes = Buffer.from(text);
    const trailers = new HeaderMap(bytes.length);
    trailers.load(bytes, 0, bytes.length);
    if (this.#keepTrailers) this.trailers = trailers;
    return parseTrailers(trailers, bytes.length) === undefined;
  }
}

const HEX = '0123456789abcdef';

/** Largest chunk we make. */
const MAX_CHUNK_BYTES = 65_536;

/** Chunks with their framing. */
export function writeChunks(transport: Transport, bytes: Buffer, start: number, end: number): void {
  for (let at = start; at < end; at += MAX_CHUNK_BYTES)
    writeChunk(transport, bytes, at, Math.min(end, at + MAX_CHUNK_BYTES));
}

function writeChunk(transport: Transport, bytes: Buffer, start: number, end: number): void {
  const length = end - start;
  let at = transport.reserve(length + 16);
  const out = arena.buffer;
  let shift = 28;
  while (shift > 0 && ((length >>> shift) & 15) === 0) shift -= 4;
  for (; shift >= 0; shift -= 4) out[at++] = HEX.charCodeAt((length >>> shift) & 15);
  out[at++] = 13;
  out[at++] = 10;
  at += bytes.copy(out, at, start, end);
  out[at++] = 13;
  out[at++] = 10;
  transport.commit(at);
}

const LAST_CHUNK = Buffer.from('0\r\n');
const CRLF = Buffer.from('\r\n');

/** What frames a chunk of `size` bytes: its length and two line ends. */
export const chunkFrameBytes = (size: number): number => 4 + ((35 - Math.clz32(size)) >> 2);
/** `0` and two line ends. */
export const LAST_CHUNK_BYTES = 5;

/** The end of a chunked body, with trailers. Returns the number of bytes. */
export function writeLastChunk(transport: Transport, trailers: HeaderMap | undefined): number {
  const from = transport.reserve((trailers?.writtenSize() ?? 0) + 8);
  const out = arena.buffer;
  let at = from + LAST_CHUNK.copy(out, from);
  if (trailers) at = trailers.write(out, at);
  at += CRLF.copy(out, at);
  transport.commit(at);
  return at - from;
}
