// HTTP/1 on a connection to an upstream host: one exchange at a time. Made and reused by connection pools.

import {
  BodyDecoder,
  type BodySink,
  chunkFrameBytes,
  LAST_CHUNK_BYTES,
  writeChunks,
  writeLastChunk,
} from '../http/h1-body.ts';
import {
  BODY_CHUNKED,
  BODY_NONE,
  BODY_UNTIL_CLOSE,
  findHeadEnd,
  HeadInfo,
  parseResponseHead,
} from '../http/h1-head.ts';
import type { HeaderCase } from '../http/header-case.ts';
import type { HeaderMap } from '../http/header-map.ts';
import { giveHeaders, takeHeaders } from '../http/header-pool.ts';
import { H } from '../http/names.ts';
import { putBytes, putLineEnd, putValue } from '../http/texts.ts';
import { HARD_MAX_HEAD_BYTES } from '../limits.ts';
import { newest } from '../newest.ts';
import { arena } from '../transport-socket/arena.ts';
import type { Transport, TransportFailure, TransportSink } from '../transport-socket/transport.ts';
import type { OutgoingHead, ResponseReceiver, UpstreamExchange, UpstreamReset, WireCount } from './exchange.ts';
import type { UpstreamHttp } from './http-options.ts';
import type { ConnectionOwner, PooledConnection } from './pool.ts';

const CHUNKED_LINE = Buffer.from('transfer-encoding: chunked\r\n');
const NO_BODY_LINE = Buffer.from('content-length: 0\r\n');
/** Methods whose requests say nothing about a body they do not have. */
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'DELETE', 'TRACE', 'CONNECT']);
const VERSION = Buffer.from(' HTTP/1.1\r\n');
const HEAD_SLACK = 128;

/** Behind the first line of a head. A call of `indexOf` costs more than the few bytes of a reason. */
function endOfLine(bytes: Buffer, from: number, end: number): number {
  let at = from + SHORTEST_STATUS_LINE;
  while (at < end && bytes[at] !== 10) at += 1;
  return at + 1;
}
const SHORTEST_STATUS_LINE = 'HTTP/1.1 200'.length;

const STATUS_START = Buffer.from('HTTP/1.');

function startsStatusLine(bytes: Buffer, at: number, end: number): boolean {
  const length = Math.min(end - at, STATUS_START.length);
  return bytes.compare(STATUS_START, 0, length, at, at + length) === 0;
}

export class H1ClientConnection implements PooledConnection, TransportSink, UpstreamExchange, BodySink {
  readonly transport: Transport;
  readonly protocol = 'HTTP/1.1';
  lastActive = 0;
  served = 0;
  listed = false;
  readonly #owner: ConnectionOwner;
  readonly #maxHeaders: number;
  readonly #enableTrailers: boolean;
  readonly #headerCase: HeaderCase;
  readonly #info = new HeadInfo();
  readonly #decoder = new BodyDecoder();
  #receiver: ResponseReceiver | undefined;
  /** Of the exchange under way. */
  #wire: WireCount | undefined;
  #pending: Buffer | undefined;
  #headDone = false;
  #headRequest = false;
  #upgrade = '';
  #chunked = false;
  #requestDone = false;
  #responseDone = true;
  #paused = false;
  #tunnel = false;
  #reusable = true;
  #anyByte = false;
  /** From `open` to the end of the exchange. */
  #busy = false;

  constructor(transport: Transport, owner: ConnectionOwner, http: UpstreamHttp) {
    this.transport = transport;
    this.#owner = owner;
    this.#enableTrailers = http.enableTrailers;
    this.#maxHeaders = http.maxHeaders;
    this.#headerCase = http.headerCase;
    newest.h1Client = this;
  }

  start(): void {
    this.transport.start(this);
  }

  get untouched(): boolean {
    return !this.#anyByte;
  }

  get active(): number {
    return this.#busy ? 1 : 0;
  }

  get interrupted(): boolean {
    return this.#busy && !(this.#responseDone && this.#requestDone);
  }

  get capacity(): number {
    return this.#busy || !this.#reusable || this.transport.closed ? 0 : 1;
  }

  get retired(): boolean {
    return !this.#reusable;
  }

  open(): UpstreamExchange {
    this.#busy = true;
    this.served += 1;
    return this;
  }

  begin(head: OutgoingHead, receiver: ResponseReceiver): void {
    this.#receiver = receiver;
    this.#wire = receiver.wire;
    this.#headDone = false;
    this.#requestDone = false;
    this.#responseDone = false;
    this.#tunnel = false;
    this.#anyByte = false;
    this.#sendHead(head);
  }

  /** Not to be used again after the current exchange. */
  retire(): void {
    this.#reusable = false;
    if (!this.#busy) this.transport.closeSoon();
  }

  // --- request

  #sendHead(head: OutgoingHead): void {
    const { transport } = this;
    const { headers } = head;
    this.#headRequest = head.method === 'HEAD';
    this.#upgrade = head.upgrade;
    const connect = head.upgrade === 'connect';
    let at = transport.reserve(2 * headers.writtenSize() + head.method.length + head.path.length + HEAD_SLACK);
    const from = at;
    const out = arena.buffer;
    at = putValue(out, at, head.method);
    out[at++] = 32;
    at = putValue(out, at, connect ? (headers.get(H.host) ?? '') : head.path);
    at = putBytes(out, at, VERSION);
    const first = at;
    at = headers.write(out, at, this.#headerCase.proper);
    this.#chunked = head.body === 'chunked';
    if (this.#chunked) at = putBytes(out, at, CHUNKED_LINE);
    if (head.body === 'none' && head.upgrade === '' && !BODILESS.has(head.method) && !headers.has(H.contentLength))
      at = putBytes(out, at, NO_BODY_LINE);
    if (head.upgrade !== '' && !connect)
      at += out.write(`connection: upgrade\r\nupgrade: ${head.upgrade}\r\n`, at, 'latin1');
    at = putLineEnd(out, at);
    transport.commit(at);
    const wire = this.#wire;
    if (wire) {
      wire.upstreamWireSent += at - from;
      wire.upstreamHeadSent += at - first - 2;
      wire.upstreamFieldsSent += at - first - 2;
    }
    if (head.body === 'none' && head.upgrade === '') this.#requestDone = true;
  }

  sendData(bytes: Buffer, start: number, end: number): void {
    if (start === end) return;
    if (this.#wire) this.#wire.upstreamWireSent += end - start + (this.#chunked ? chunkFrameBytes(end - start) : 0);
    if (this.#chunked) writeChunks(this.transport, bytes, start, end);
    else this.transport.write(bytes, start, end);
  }

  sendEnd(trailers?: HeaderMap): void {
    if (this.#tunnel || this.#upgrade !== '') {
      this.transport.end();
      return;
    }
    if (this.#chunked && !this.#requestDone) {
      const size = writeLastChunk(this.transport, this.#enableTrailers ? trailers : undefined);
      if (this.#wire) {
        this.#wire.upstreamWireSent += size;
        this.#wire.upstreamHeadSent += size - LAST_CHUNK_BYTES;
        this.#wire.upstreamFieldsSent += size - LAST_CHUNK_BYTES;
      }
    }
    this.#requestDone = true;
    if (this.#responseDone) this.#finish();
  }

  cancel(): void {
    this.#receiver = undefined;
    this.#reusable = false;
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

  // --- response

  onData(bytes: Buffer, start: number, end: number): void {
    if (!this.#receiver) {
      // An upstream that speaks out of turn is not trusted with another request.
      this.#reusable = false;
      this.transport.destroy();
      return;
    }
    this.#anyByte = true;
    if (this.#pending) {
      const all = Buffer.concat([this.#pending, bytes.subarray(start, end)]);
      this.#pending = undefined;
      this.#feed(all, 0, all.length);
    } else this.#feed(bytes, start, end);
  }

  #feed(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      const receiver = this.#receiver;
      if (!receiver) break;
      if (this.#tunnel) {
        if (this.#wire) this.#wire.upstreamWireReceived += end - at;
        receiver.onResponseData(bytes, at, end);
        return;
      }
      if (!this.#headDone) {
        at = this.#head(bytes, at, end, receiver);
        if (at < 0) return;
        continue;
      }
      if (this.#responseDone) break;
      const from = at;
      at = this.#decoder.feed(bytes, from, end, this);
      if (at > from && this.#wire) this.#wire.upstreamWireReceived += at - from;
      if (at < 0) {
        this.#fail('protocol-error');
        return;
      }
      if (this.#decoder.done) this.#bodyDone(at === end);
    }
  }

  onBodyData(bytes: Buffer, start: number, end: number): void {
    this.#receiver?.onResponseData(bytes, start, end);
  }

  #head(bytes: Buffer, at: number, end: number, receiver: ResponseReceiver): number {
    const stop = findHeadEnd(bytes, at, end);
    if (stop === -2) {
      this.#fail('protocol-error');
      return -1;
    }
    if (stop < 0 ? end - at > HARD_MAX_HEAD_BYTES : stop - at > HARD_MAX_HEAD_BYTES) {
      this.#fail('protocol-error');
      return -1;
    }
    if (stop < 0) {
      if (!startsStatusLine(bytes, at, end)) {
        this.#fail('protocol-error');
        return -1;
      }
      this.#pending = Buffer.from(bytes.subarray(at, end));
      return -1;
    }
    // Of the pool: idle connections hold none. The stream of the receiver gives it back.
    const headers = takeHeaders();
    headers.load(bytes, at, stop, this.#headerCase.keep);
    const info = this.#info;
    const error = parseResponseHead(headers, stop - at, info, this.#maxHeaders);
    // A status without a body that says it has one: who believed which would lose step.
    const bodiless = info.status === 204 && (info.contentLength > 0 || info.bodyMode === BODY_CHUNKED);
    if (error || bodiless || (info.status === 101 && (this.#upgrade === '' || this.#upgrade === 'connect'))) {
      giveHeaders(headers);
      this.#fail('protocol-error');
      return -1;
    }
    const wire = this.#wire;
    if (wire) {
      wire.upstreamWireReceived += stop - at;
      // Without the status line and the empty line, and a byte less for each line: as Envoy counts.
      const lines = stop - endOfLine(bytes, at, stop) - 2 - headers.count;
      wire.upstreamHeadReceived += lines;
      wire.upstreamFieldsReceived += lines;
    }
    if (info.status < 200 && info.status !== 101) {
      receiver.onResponseInformational(info.status, headers);
      giveHeaders(headers);
      return stop;
    }
    this.#beginResponse(info, headers, receiver, stop === end);
    return stop;
  }

  #beginResponse(info: HeadInfo, headers: HeaderMap, receiver: ResponseReceiver, last: boolean): void {
    this.#headDone = true;
    const { status } = info;
    if (status === 101) {
      this.#tunnel = true;
      this.#reusable = false;
      headers.set(H.upgrade, this.#upgrade);
      receiver.onResponseHead(status, headers, false);
      return;
    }
    if (this.#upgrade === 'connect' && status < 300) {
      this.#tunnel = true;
      this.#reusable = false;
      receiver.onResponseHead(status, headers, false);
      return;
    }
    const bodyless = this.#headRequest || status === 204 || status === 304;
    const mode = bodyless ? BODY_NONE : info.contentLength === 0 ? BODY_NONE : info.bodyMode;
    if (info.close) this.#owner.onCloseNotify();
    if (info.close || mode === BODY_UNTIL_CLOSE) this.#reusable = false;
    this.#upgrade = '';
    this.#decoder.begin(mode, info.contentLength, this.#enableTrailers);
    if (mode !== BODY_NONE) {
      receiver.onResponseHead(status, headers, false);
      return;
    }
    this.#responseDone = true;
    if (!last) this.#reusable = false;
    // Free first: what the receiver starts next may use this connection.
    this.#finish();
    receiver.onResponseHead(status, headers, true);
  }

  #bodyDone(last: boolean): void {
    this.#responseDone = true;
    // Bytes after the response are nobody's: never give them to the next exchange.
    if (!last) this.#reusable = false;
    const receiver = this.#receiver;
    const { trailers } = this.#decoder;
    if (trailers && this.#wire) this.#wire.upstreamHeadReceived += trailers.fieldBytes();
    this.#finish();
    receiver?.onResponseEnd(trailers);
  }

  /** After response end; a request still being sent makes the connection useless. */
  #finish(): void {
    this.#receiver = undefined;
    this.#wire = undefined;
    if (this.#paused) {
      this.#paused = false;
      this.transport.resume();
    }
    if (!this.#requestDone || !this.#reusable || this.transport.closed) {
      this.#reusable = false;
      this.transport.destroy();
      return;
    }
    this.#busy = false;
    this.#owner.onCapacity(this);
  }

  #fail(reason: UpstreamReset): void {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    this.#reusable = false;
    this.transport.destroy();
    receiver?.onUpstreamReset(reason);
  }

  onEnd(): void {
    this.#reusable = false;
    const receiver = this.#receiver;
    if (!receiver) {
      this.transport.destroy();
      return;
    }
    if (this.#tunnel) {
      this.#receiver = undefined;
      this.#responseDone = true;
      receiver.onResponseEnd();
      this.transport.closeSoon();
      return;
    }
    if (this.#headDone && this.#decoder.mode === BODY_UNTIL_CLOSE) {
      this.#decoder.mode = BODY_NONE;
      this.#bodyDone(true);
      return;
    }
    this.#fail(this.#headDone ? 'protocol-error' : 'connection-termination');
  }

  onBacklog(full: boolean): void {
    this.#receiver?.onRequestBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#owner.onClosed(this);
    const receiver = this.#receiver;
    this.#receiver = undefined;
    if (!receiver) return;
    if (this.#headDone && this.#decoder.mode === BODY_UNTIL_CLOSE && !failure) receiver.onResponseEnd();
    // A body that was promised and did not come whole.
    else receiver.onUpstreamReset(this.#headDone && !this.#tunnel ? 'protocol-error' : 'connection-termination');
  }
}
