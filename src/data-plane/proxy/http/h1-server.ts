// HTTP/1 on an accepted connection: one exchange at a time, pipelined requests wait. Made by the connection manager.
import type { Clock } from '../../../base/runtime/clock.ts';
import { MAX_PIPELINED_BYTES } from '../limits.ts';
import { newest } from '../newest.ts';
import { arena } from '../transport-socket/arena.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type {
  AbortReason,
  HeadRefusal,
  RequestReceiver,
  RequestReset,
  ResponseSender,
  ServerCallbacks,
  ServerCodecOptions,
  ServerConnection,
} from './codec.ts';
import { drainAndClose } from './draining.ts';
import {
  BodyDecoder,
  type BodySink,
  chunkFrameBytes,
  LAST_CHUNK_BYTES,
  writeChunks,
  writeLastChunk,
} from './h1-body.ts';
import { BODY_NONE, findHeadEnd, HeadInfo, parseRequestHead, startsBadly } from './h1-head.ts';
import type { HeaderMap } from './header-map.ts';
import { giveHeaders, takeHeaders } from './header-pool.ts';
import { H } from './names.ts';
import { httpDate, reasonPhrase, statusLine } from './status.ts';
import { putBytes, putLineEnd } from './texts.ts';

/** Lines this file adds to a head. */
function linesOf(spell: (line: string) => string) {
  const line = (text: string): Buffer => Buffer.from(spell(text));
  return {
    chunked: line('transfer-encoding: chunked\r\n'),
    close: line('connection: close\r\n'),
    keep: line('connection: keep-alive\r\n'),
    upgrade: line('connection: upgrade\r\n'),
    empty: line('content-length: 0\r\n'),
  };
}
const LOWER = linesOf((line) => line);
const PROPER = linesOf((line) => line.replaceAll(/^[a-z]|-[a-z](?=.*:)/g, (letter) => letter.toUpperCase()));
/** What stands in the first line beside method and target. */
const REQUEST_LINE_REST = '  HTTP/1.1\r\n'.length;
/** Offset of the last digit of `HTTP/1.1`. */
const MINOR_VERSION = 7;
/** Room for the lines this file adds to a head. */
const HEAD_SLACK = 256;
/** Empty lines a client may send before a request (RFC 9112 §2.2). */
const MAX_LEADING_CRLF = 8;

export class H1ServerConnection implements ServerConnection, TransportSink, ResponseSender, BodySink {
  readonly transport: Transport;
  lastActive: number;
  interrupted = false;
  readonly #callbacks: ServerCallbacks;
  readonly #options: ServerCodecOptions;
  readonly #clock: Clock;
  readonly #info = new HeadInfo();
  readonly #decoder = new BodyDecoder();
  #stream: RequestReceiver | undefined;
  #pending: Buffer | undefined;
  /** Where a head that comes in pieces grows; `#pending` is then a part of it. */
  #store: Buffer | undefined;
  #scanned = 0;
  /** Ends the wait for the rest of a head. */
  #headTimer: (() => void) | undefined;
  #paused = false;
  #requestEnded = false;
  #responseStarted = false;
  #chunked = false;
  #headOnly = false;
  #closing = false;
  /** The last answer was given: what still comes means nothing. */
  #finished = false;
  #tunnel = false;
  #feeding = false;
  #wireIn = 0;
  #wireOut = 0;
  #headIn = 0;
  #trailersIn = 0;
  #headOut = 0;

  constructor(transport: Transport, callbacks: ServerCallbacks, options: ServerCodecOptions, clock: Clock) {
    this.transport = transport;
    this.#callbacks = callbacks;
    this.#options = options;
    this.#clock = clock;
    this.lastActive = clock.now();
    newest.h1Server = this;
  }

  get busy(): boolean {
    return this.#stream !== undefined;
  }

  start(): void {
    this.transport.start(this);
  }

  drain(): void {
    this.#closing = true;
  }

  close(): void {
    this.#closing = true;
    if (!this.#stream) this.transport.end();
    this.transport.destroy();
  }

  // --- from the transport

  onData(bytes: Buffer, start: number, end: number): void {
    if (this.#pending) {
      const all = this.#append(this.#pending, bytes, start, end);
      this.#pending = undefined;
      this.#feed(all, 0, all.length);
    } else this.#feed(bytes, start, end);
  }

  /** A client that trickles pays with a copy of each of its bytes, not of all before them. */
  #append(pending: Buffer, bytes: Buffer, start: number, end: number): Buffer {
    const size = pending.length + end - start;
    let from = this.#store?.buffer === pending.buffer ? pending.byteOffset : -1;
    if (!this.#store || from < 0 || from + size > this.#store.length) {
      this.#store = Buffer.allocUnsafeSlow(2 * size);
      pending.copy(this.#store);
      from = 0;
    }
    bytes.copy(this.#store, from + pending.length, start, end);
    return this.#store.subarray(from, from + size);
  }

  onEnd(): void {
    // A client that half-closes is taken as gone, as Envoy's HTTP codecs do.
    if (this.#stream) this.#dropStream('disconnect');
    this.transport.end();
    if (!this.#tunnel) this.transport.destroy();
  }

  onBacklog(full: boolean): void {
    this.#stream?.onResponseBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#headSettled();
    this.#dropStream('disconnect');
    this.#callbacks.onConnectionClosed(failure);
  }

  // --- requests

  #feed(bytes: Buffer, start: number, end: number): void {
    this.#feeding = true;
    let at = start;
    while (at < end && !this.#finished && !this.transport.closed) {
      const next = this.#step(bytes, at, end);
      if (next < 0) break;
      at = next;
    }
    this.#feeding = false;
  }

  /** Consumes something and returns the next offset; -1 when the rest was kept or dropped. */
  #step(bytes: Buffer, at: number, end: number): number {
    const stream = this.#stream;
    if (!stream) return this.#head(bytes, at, end);
    if (this.#requestEnded && !this.#tunnel) return this.#keep(bytes, at, end, MAX_PIPELINED_BYTES);
    if (this.#paused) return this.#keep(bytes, at, end, 0);
    if (this.#tunnel) {
      this.#wireIn += end - at;
      stream.onRequestData(bytes, at, end);
      return end;
    }
    // Nothing is sent on before the upstream agreed to the upgrade.
    if (this.#info.upgrade !== '') return this.#keep(bytes, at, end, MAX_PIPELINED_BYTES);
    const next = this.#decoder.feed(bytes, at, end, this);
    if (next < 0) {
      this.#badBody();
      return -1;
    }
    this.#wireIn += next - at;
    if (this.#decoder.done) {
      this.#requestEnded = true;
      const { trailers } = this.#decoder;
      if (trailers) this.#trailersIn = trailers.fieldBytes();
      stream.onRequestEnd(trailers);
    }
    return next;
  }

  onBodyData(bytes: Buffer, start: number, end: number): void {
    this.#stream?.onRequestData(bytes, start, end);
  }

  #head(bytes: Buffer, from: number, end: number): number {
    let at = from;
    while (at < end && at - from < MAX_LEADING_CRLF && (bytes[at] === 13 || bytes[at] === 10)) at += 1;
    const resume = Math.max(at, at + this.#scanned - 3);
    const stop = findHeadEnd(bytes, resume, end);
    const limit = this.#options.maxHeadBytes;
    if (stop === -2) return this.#refuse('http1.codec_error', 400);
    if (stop < 0 && end - at <= limit) {
      this.#scanned = end - at;
      if (at === end) return end;
      if (startsBadly(bytes, at, end)) return this.#refuse('http1.codec_error', 400);
      this.#headTimer ??= this.#clock.after(this.#options.headTimeoutMs, () => {
        this.#headTimer = undefined;
        if (!this.transport.closed) this.#refuse('request_header_timeout', 408);
      });
      return this.#keep(bytes, at, end, limit);
    }
    this.#headSettled();
    if (stop < 0 || stop - at > limit) return this.#refuse('http1.headers_too_large', 431);
    // Of the pool: idle connections are many, and hold none.
    const headers = takeHeaders();
    headers.load(bytes, at, stop, this.#options.headerCase?.keep);
    const error = parseRequestHead(headers, stop - at, this.#info, this.#options.maxHeaders);
    const refusal =
      error && bytes.subarray(at, stop).includes(0) ? 'http1.invalid_characters' : (error ?? this.#unwanted(headers));
    if (refusal) {
      giveHeaders(headers);
      return this.#refuse(refusal, statusOf(refusal));
    }
    this.#begin(headers, stop - at);
    return stop;
  }

  /** A well-formed head that the configuration does not allow. */
  #unwanted(headers: HeaderMap): HeadRefusal | undefined {
    const { acceptHttp10, underscores } = this.#options;
    if (this.#info.minorVersion === 0 && !acceptHttp10) return 'low_version';
    if (underscores === undefined || underscores === 'allow') return undefined;
    const found = headers.withUnderscores(underscores === 'drop');
    if (found === 0) return undefined;
    this.#callbacks.onUnderscores?.(found, underscores === 'reject', false);
    return underscores === 'reject' ? 'http1.unexpected_underscore' : undefined;
  }

  /** No head is waited for any more. */
  #headSettled(): void {
    this.#store = undefined;
    this.#scanned = 0;
    this.#headTimer?.();
    this.#headTimer = undefined;
  }

  #begin(headers: HeaderMap, headBytes: number): void {
    const info = this.#info;
    if (info.method === 'CONNECT') info.upgrade = 'connect';
    else if (info.bodyMode !== BODY_NONE) info.upgrade = '';
    const ended = info.bodyMode === BODY_NONE && info.upgrade === '';
    this.#wireIn = headBytes;
    this.#wireOut = 0;
    // Without the first line and the empty one, and a byte less for each line: as Envoy counts.
    const lines = headBytes - info.method.length - info.target.length - REQUEST_LINE_REST - 2;
    this.#headIn = Math.max(0, lines - headers.count);
    this.#trailersIn = 0;
    this.#headOut = 0;
    this.#requestEnded = ended;
    this.#responseStarted = false;
    this.#headOnly = info.method === 'HEAD';
    this.#paused = false;
    this.#decoder.begin(info.bodyMode, info.contentLength, this.#options.enableTrailers);
    const stream = this.#callbacks.newStream(this);
    this.#stream = stream;
    stream.onRequestHead(info, headers, ended);
  }

  /** Keeps bytes for later and stops reading when there are more than `room`. */
  #keep(bytes: Buffer, at: number, end: number, room: number): number {
    const rest = bytes.subarray(at, end);
    this.#pending = bytes.buffer === this.#store?.buffer ? rest : Buffer.from(rest);
    if (this.#stream && this.#pending.length > room) this.transport.pause();
    return -1;
  }

  #refuse(error: HeadRefusal, status: number): number {
    const reason = error === 'request_header_timeout' ? 'request header timeout' : reasonPhrase(status);
    this.#callbacks.onBadRequest(error, status, reason.length);
    return this.#answer(status, reason);
  }

  /** The codec's own answer, the connection's last. */
  #answer(status: number, reason: string): number {
    const head = `${statusLine(status)}content-length: ${reason.length}\r\ncontent-type: text/plain\r\ndate: ${httpDate(
      this.#clock.now(),
    )}\r\n${this.#options.serverName ? `server: ${this.#options.serverName}\r\n` : ''}connection: close\r\n\r\n`;
    const text = Buffer.from(head + reason, 'latin1');
    this.transport.write(text, 0, text.length);
    this.#finishConnection();
    return -1;
  }

  /** A body that cannot be read: if nothing was answered yet the client hears 400, in any case the connection ends. */
  #badBody(): void {
    this.#callbacks.onBadRequest('http1.body', 400, 0);
    const started = this.#responseStarted;
    this.#dropStream('protocol');
    if (started) this.transport.destroy();
    else this.#answer(400, reasonPhrase(400));
  }

  #dropStream(reason: RequestReset): void {
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream && reason === 'disconnect') this.interrupted = true;
    stream?.onRequestReset(reason, reason === 'protocol' ? 'http1.codec_error' : 'downstream_remote_disconnect');
  }

  pauseRequest(): void {
    if (this.#paused || this.#requestEnded) return;
    this.#paused = true;
    this.transport.pause();
  }

  resumeRequest(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.transport.resume();
    if (!this.#feeding) this.#feedPending();
  }

  #feedPending(): void {
    const pending = this.#pending;
    if (!pending) return;
    this.#pending = undefined;
    arena.beginTurn();
    this.#feed(pending, 0, pending.length);
    arena.endTurn();
  }

  // --- responses

  wireBytesReceived(): number {
    return this.#wireIn;
  }

  wireBytesSent(): number {
    return this.#wireOut;
  }

  headBytesReceived(): number {
    return this.#headIn + this.#trailersIn;
  }

  headBytesSent(): number {
    return this.#headOut;
  }

  /** HTTP/1 compresses nothing. */
  fieldBytesReceived(): number {
    return this.#headIn;
  }

  fieldBytesSent(): number {
    return this.#headOut;
  }

  sendInformational(status: number, headers: HeaderMap | undefined): void {
    // HTTP/1.0 knows no 1xx.
    if (this.#info.minorVersion === 0) return;
    const { transport } = this;
    let at = transport.reserve((headers?.writtenSize() ?? 0) + HEAD_SLACK);
    const from = at;
    const out = arena.buffer;
    at = putBytes(out, at, statusLine(status));
    if (headers) at = headers.write(out, at);
    at = putLineEnd(out, at);
    transport.commit(at);
    this.#wireOut += at - from;
  }

  sendHead(status: number, headers: HeaderMap, endStream: boolean): void {
    const { transport } = this;
    this.#responseStarted = true;
    const bodyless = this.#headOnly || status === 204 || status === 304;
    // The answer to CONNECT has no body: what follows are the bytes of the tunnel.
    const connected = this.#info.upgrade === 'connect' && status >= 200 && status < 300 && !endStream;
    const switching = status === 101 || connected;
    const proper = this.#options.headerCase?.proper ?? false;
    const lines = proper ? PROPER : LOWER;
    // What is left of the request is not waited for: the connection cannot be used again.
    if (!switching && !this.#requestEnded) this.#closing = true;
    let at = transport.reserve(headers.writtenSize() + HEAD_SLACK);
    const from = at;
    const out = arena.buffer;
    const line = statusLine(status);
    at = putBytes(out, at, line);
    // The answer speaks the request's version.
    if (this.#info.minorVersion === 0) out[from + MINOR_VERSION] = 48;
    if (!switching && !headers.has(H.contentLength)) {
      if (status === 204 || status === 304 || (this.#headOnly && endStream)) this.#chunked = false;
      else if (endStream) at = putBytes(out, at, lines.empty);
      else if (this.#info.minorVersion === 1) {
        this.#chunked = !bodyless;
        at = putBytes(out, at, lines.chunked);
      } else this.#closing = true;
    } else this.#chunked = false;
    at = headers.write(out, at, proper);
    if (switching) {
      if (!connected) at = putBytes(out, at, lines.upgrade);
      this.#tunnel = true;
    } else if (this.#closing || this.#info.close) at = putBytes(out, at, lines.close);
    else if (this.#info.minorVersion === 0) at = putBytes(out, at, lines.keep);
    at = putLineEnd(out, at);
    transport.commit(at);
    this.#wireOut += at - from;
    this.#headOut = at - from - line.length - 2;
    if (bodyless) this.#headOnly = true;
    if (endStream) this.#exchangeDone();
    else if (switching && this.#pending && !this.#feeding) this.#feedPending();
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    if (this.#headOnly || start === end) return;
    this.#wireOut += end - start + (this.#chunked ? chunkFrameBytes(end - start) : 0);
    if (!this.#chunked) {
      this.transport.write(bytes, start, end);
      return;
    }
    writeChunks(this.transport, bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    if (this.#tunnel) {
      this.#stream = undefined;
      this.#finishConnection();
      return;
    }
    if (this.#chunked) {
      const size = writeLastChunk(this.transport, this.#options.enableTrailers ? trailers : undefined);
      this.#wireOut += size;
      this.#headOut += size - LAST_CHUNK_BYTES;
    }
    this.#exchangeDone();
  }

  endConnection(): void {
    this.#closing = true;
  }

  abort(_reason: AbortReason): void {
    this.#stream = undefined;
    this.transport.destroy();
  }

  #exchangeDone(): void {
    this.#stream = undefined;
    this.#chunked = false;
    this.lastActive = this.#clock.now();
    if (this.#closing || this.#info.close || !this.#requestEnded) {
      this.#finishConnection();
      return;
    }
    // After the stream has asked for its numbers, since those of the next request take their place; before what the transport holds.
    if (this.#pending && !this.#feeding) queueMicrotask(() => this.#feedPending());
    this.transport.resume();
  }

  /** Lets the answer leave, then closes; a client that goes on sending is cut off. */
  #finishConnection(): void {
    this.#closing = true;
    this.#finished = true;
    this.#pending = undefined;
    this.#headSettled();
    // A client that asked for the end sends no more: nothing is to be waited for.
    const delayMs = this.#info.close && this.#requestEnded ? 0 : this.#options.delayedCloseMs;
    drainAndClose(this.transport, this.#clock, delayMs, this.#callbacks);
  }
}

function statusOf(error: HeadRefusal): number {
  if (error === 'http1.invalid_transfer_encoding') return 501;
  if (error === 'http1.too_many_headers') return 431;
  if (error === 'low_version') return 426;
  return 400;
}
