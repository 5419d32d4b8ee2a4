// The protocol of one HTTP/2 connection, the same for both sides: settings, streams, flow control, errors. What a new
// stream or a response means is the owner's: h2-server.ts and upstream/h2-client.ts.
import type { Transport } from '../transport-socket/transport.ts';
import { HeaderBlock } from './h2-block.ts';
import {
  ACK,
  COMPRESSION_ERROR,
  CONTINUATION,
  DATA,
  DEFAULT_WINDOW,
  END_HEADERS,
  END_STREAM,
  ENHANCE_YOUR_CALM,
  FLOW_CONTROL_ERROR,
  FRAME_HEAD,
  FRAME_SIZE_ERROR,
  GOAWAY,
  HEADERS,
  INTERNAL_ERROR,
  MAX_WINDOW,
  NO_ERROR,
  PADDED,
  PING,
  PRIORITY,
  PROTOCOL_ERROR,
  PUSH_PROMISE,
  RST_STREAM,
  readNumber,
  SETTINGS,
  STREAM_CLOSED,
  WINDOW_UPDATE,
  WITH_PRIORITY,
} from './h2-frames.ts';
import { H2Guard } from './h2-guard.ts';
import { H2Head } from './h2-head.ts';
import type { H2Options, SessionContext } from './h2-options.ts';
import { H2Outlet } from './h2-outlet.ts';
import { PastStreams } from './h2-past.ts';
import { type FrameSink, H2Reader } from './h2-reader.ts';
import { applySettings, writeSettings } from './h2-settings.ts';
import type { H2Stream } from './h2-stream.ts';
import { H2Writer } from './h2-writer.ts';
import type { HeaderMap } from './header-map.ts';
import { takeHeaders } from './header-pool.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { encodedBound, HpackEncoder } from './hpack-encoder.ts';

/** The side of a connection that knows what streams are for. */
export interface SessionOwner {
  /** A header block for a stream that is not open. */
  onNewBlock(id: number, head: H2Head, headers: HeaderMap, endStream: boolean): void;
  /** True when the peer may not have used this id yet. */
  isIdle(id: number): boolean;
  onStreamClosed(stream: H2Stream): void;
  onGoaway(lastId: number, code: number): void;
  onSettings(): void;
  /** GOAWAY with `code` was sent, every stream was told: close the connection. */
  onSessionError(code: number, details: string): void;
}

const PRIORITY_BYTES = 5;
const PING_BYTES = 8;
const CODEC_ERROR = 'http2.codec_error';
const NOTHING = Buffer.alloc(0);

export class H2Session implements FrameSink {
  readonly transport: Transport;
  readonly options: H2Options;
  readonly writer: H2Writer;
  readonly outlet: H2Outlet;
  readonly encoder: HpackEncoder;
  readonly streams = new Map<number, H2Stream>();
  readonly context: SessionContext;
  /** From the peer's SETTINGS. */
  peerStreamWindow = DEFAULT_WINDOW;
  peerMaxStreams = Number.POSITIVE_INFINITY;
  peerConnect = false;
  peerSettingsSeen = false;
  /** The highest stream the peer opened. */
  lastPeerId = 0;
  dead = false;
  readonly #owner: SessionOwner;
  readonly #server: boolean;
  readonly #reader: H2Reader;
  readonly #decoder: HpackDecoder;
  readonly #guard: H2Guard;
  readonly #head = new H2Head();
  /** Streams that closed lately. */
  readonly past = new PastStreams();
  #recvWindow: number;
  #credit = 0;
  #data: H2Stream | undefined;
  #dataEnds = false;
  #dataLeft = 0;
  readonly #block: HeaderBlock;
  #blockEnds = false;
  /** Told when the peer answers a PING of ours. */
  onPong: (() => void) | undefined;

  constructor(transport: Transport, owner: SessionOwner, context: SessionContext, server: boolean) {
    this.transport = transport;
    this.#owner = owner;
    this.#server = server;
    this.context = context;
    this.options = context.options;
    this.writer = new H2Writer(transport);
    this.encoder = new HpackEncoder(this.options.tableSize);
    this.#decoder = new HpackDecoder(this.options.tableSize);
    this.#guard = new H2Guard(this.options, context.counters, context.clock);
    this.outlet = new H2Outlet(this.writer, this.#guard);
    this.#reader = new H2Reader(this, server);
    this.#block = new HeaderBlock(context.limits.maxBytes);
    this.#recvWindow = this.options.connectionWindow;
  }

  /** Our settings and window. A client has written its preface before. */
  begin(): void {
    writeSettings(this.writer, this.options, this.#server);
    const more = this.options.connectionWindow - DEFAULT_WINDOW;
    if (more > 0) this.writer.numbers(WINDOW_UPDATE, 0, more);
  }

  feed(bytes: Buffer, start: number, end: number): void {
    this.#reader.feed(bytes, start, end);
    this.#checkOutput();
  }

  add(stream: H2Stream): void {
    this.#guard.streams += 1;
    this.streams.set(stream.id, stream);
    this.context.counters.streamsActive.value += 1;
  }

  // --- frames from the peer

  onBadFrame(code: number): void {
    this.fail(code, CODEC_ERROR);
  }

  onFrame(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): void {
    const code = this.#dispatch(type, flags, id, bytes, start, end);
    if (code !== NO_ERROR) this.fail(code, this.#guard.details || CODEC_ERROR);
  }

  /** Returns the code of a connection error. */
  #dispatch(type: number, flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (this.#block.id !== 0 && (type !== CONTINUATION || id !== this.#block.id)) return PROTOCOL_ERROR;
    if (!this.peerSettingsSeen && (type !== SETTINGS || (flags & ACK) !== 0)) return PROTOCOL_ERROR;
    switch (type) {
      case HEADERS:
        return this.#headers(flags, id, bytes, start, end);
      case CONTINUATION:
        return this.#continuation(flags, bytes, start, end);
      case WINDOW_UPDATE:
        return end - start === 4 ? this.#windowUpdate(id, readNumber(bytes, start)) : FRAME_SIZE_ERROR;
      case RST_STREAM:
        return end - start === 4 ? this.#rstStream(id, bytes.readUInt32BE(start)) : FRAME_SIZE_ERROR;
      case SETTINGS:
        return this.#settings(flags, id, bytes, start, end);
      case PING:
        return this.#ping(flags, id, bytes, start, end);
      case PRIORITY:
        return this.#priority(id, bytes, start, end);
      case GOAWAY:
        if (id !== 0) return PROTOCOL_ERROR;
        if (end - start < 8) return FRAME_SIZE_ERROR;
        this.#owner.onGoaway(readNumber(bytes, start), bytes.readUInt32BE(start + 4));
        return NO_ERROR;
      case PUSH_PROMISE:
        return PROTOCOL_ERROR;
      default:
        return this.#guard.control();
    }
  }

  #headers(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    let from = start;
    let to = end;
    if (id === 0) return PROTOCOL_ERROR;
    if ((flags & PADDED) !== 0) {
      if (to === from) return FRAME_SIZE_ERROR;
      to -= bytes[from]!;
      from += 1;
    }
    const priority = (flags & WITH_PRIORITY) !== 0;
    const dependsOn = priority && to - from >= PRIORITY_BYTES ? readNumber(bytes, from) : 0;
    if (priority) from += PRIORITY_BYTES;
    if (from > to) return PROTOCOL_ERROR;
    this.#blockEnds = (flags & END_STREAM) !== 0;
    const code = this.#guard.payload(to - from, this.#blockEnds);
    if (code !== NO_ERROR) return code;
    if ((flags & END_HEADERS) === 0) {
      this.#block.begin(id);
      return this.#fragment(bytes, from, to);
    }
    const outcome = this.#wholeBlock(id, bytes, from, to);
    if (outcome === NO_ERROR && priority && dependsOn === id) this.resetId(id, PROTOCOL_ERROR);
    return outcome;
  }

  #continuation(flags: number, bytes: Buffer, start: number, end: number): number {
    const { id } = this.#block;
    if (id === 0) return PROTOCOL_ERROR;
    const code = this.#guard.payload(end - start, this.#blockEnds) || this.#fragment(bytes, start, end);
    if (code !== NO_ERROR || (flags & END_HEADERS) === 0) return code;
    const block = this.#block.take();
    return this.#wholeBlock(id, block, 0, block.length);
  }

  #fragment(bytes: Buffer, start: number, end: number): number {
    if (this.#block.add(bytes, start, end)) return NO_ERROR;
    this.context.counters.headerOverflow.value += 1;
    return ENHANCE_YOUR_CALM;
  }

  #wholeBlock(id: number, bytes: Buffer, start: number, end: number): number {
    const headers = takeHeaders();
    const head = this.#head;
    if (!this.#decoder.decode(bytes, start, end, headers, head, this.context.limits)) return COMPRESSION_ERROR;
    head.wireBytes = end - start + FRAME_HEAD;
    const stream = this.streams.get(id);
    if (!stream) this.#owner.onNewBlock(id, head, headers, this.#blockEnds);
    else if (stream.remoteEnded) this.reset(stream, STREAM_CLOSED, 'protocol');
    else if (head.problem !== '') this.refuseBlock(id, head);
    else stream.onBlock(head, headers, this.#blockEnds);
    return NO_ERROR;
  }

  /** A block whose fields are not acceptable. */
  refuseBlock(id: number, head: H2Head): void {
    if (head.problem === 'too-large' || head.problem === 'too-many') {
      this.context.counters.headerOverflow.value += 1;
      this.resetId(id, INTERNAL_ERROR);
    } else this.messageError(id);
  }

  /** A malformed message: by configuration the end of its stream or of the connection. */
  messageError(id: number): void {
    this.context.counters.rxMessagingError.value += 1;
    if (this.options.streamErrors) this.resetId(id, PROTOCOL_ERROR);
    else this.fail(PROTOCOL_ERROR, 'http2.violation.of.messaging.rule');
  }

  onDataBegin(flags: number, id: number, length: number): void {
    const code = this.#beginData(flags, id, length);
    if (code !== NO_ERROR) this.fail(code, this.#guard.details || CODEC_ERROR);
  }

  #beginData(flags: number, id: number, length: number): number {
    this.#data = undefined;
    if (this.#block.id !== 0 || id === 0 || !this.peerSettingsSeen) return PROTOCOL_ERROR;
    const ends = (flags & END_STREAM) !== 0;
    const code = this.#guard.payload((flags & PADDED) !== 0 ? length - 1 : length, ends);
    if (code !== NO_ERROR) return code;
    this.#recvWindow -= length;
    if (this.#recvWindow < 0) return FLOW_CONTROL_ERROR;
    const stream = this.streams.get(id);
    if (!stream) {
      this.take(length);
      if (this.#owner.isIdle(id)) return PROTOCOL_ERROR;
      // What was on its way when we reset the stream means nothing.
      if (this.past.find(id) !== 'reset') this.resetId(id, STREAM_CLOSED);
      return NO_ERROR;
    }
    stream.recvWindow -= length;
    if (stream.remoteEnded || stream.recvWindow < 0) {
      this.take(length);
      this.reset(stream, stream.remoteEnded ? STREAM_CLOSED : FLOW_CONTROL_ERROR, 'protocol');
      return NO_ERROR;
    }
    this.#data = stream;
    this.#dataEnds = ends;
    this.#dataLeft = length;
    return NO_ERROR;
  }

  onDataPiece(bytes: Buffer, start: number, end: number): void {
    const stream = this.#data;
    if (!stream) return;
    this.#dataLeft -= end - start;
    if (stream.closed) this.take(end - start);
    else if (!stream.receive(bytes, start, end)) this.reset(stream, PROTOCOL_ERROR, 'protocol');
  }

  onDataEnd(): void {
    const stream = this.#data;
    if (!stream) return;
    this.#data = undefined;
    // Padding is taken at once.
    if (this.#dataLeft > 0) stream.take(this.#dataLeft);
    if (this.#dataEnds && !stream.closed) this.endOfStream(stream, undefined);
  }

  /** The peer ended its side of a stream. */
  endOfStream(stream: H2Stream, trailers: HeaderMap | undefined): void {
    if (stream.receiveEnd(trailers)) this.closeWhenDone(stream);
    else this.reset(stream, PROTOCOL_ERROR, 'protocol');
  }

  #windowUpdate(id: number, more: number): number {
    const code = this.#guard.windowUpdate();
    if (code !== NO_ERROR) return code;
    if (id === 0) {
      if (more === 0) return PROTOCOL_ERROR;
      return this.outlet.grow(more) ? NO_ERROR : FLOW_CONTROL_ERROR;
    }
    const stream = this.streams.get(id);
    if (!stream) return this.#owner.isIdle(id) ? PROTOCOL_ERROR : NO_ERROR;
    stream.sendWindow += more;
    if (more === 0) this.reset(stream, PROTOCOL_ERROR, 'protocol');
    else if (stream.sendWindow > MAX_WINDOW) this.reset(stream, FLOW_CONTROL_ERROR, 'protocol');
    else if (stream.waiting > 0) this.outlet.pump();
    return NO_ERROR;
  }

  #rstStream(id: number, reason: number): number {
    if (id === 0 || this.#owner.isIdle(id)) return PROTOCOL_ERROR;
    this.context.counters.rxReset.value += 1;
    const stream = this.streams.get(id);
    if (!stream) return this.#guard.control();
    this.#drop(stream, false);
    stream.onReset('remote', reason);
    return NO_ERROR;
  }

  #settings(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id !== 0) return PROTOCOL_ERROR;
    if ((flags & ACK) !== 0) return end > start ? FRAME_SIZE_ERROR : this.#guard.control();
    this.peerSettingsSeen = true;
    const code = this.#guard.control() || applySettings(this, bytes, start, end);
    if (code !== NO_ERROR) return code;
    this.writer.frame(SETTINGS, ACK, 0, bytes, start, start);
    this.writer.countControl();
    this.#owner.onSettings();
    this.outlet.pump();
    return NO_ERROR;
  }

  /** SETTINGS_INITIAL_WINDOW_SIZE: holds for open streams too. False = a window grew beyond its limit. */
  setPeerStreamWindow(size: number): boolean {
    const more = size - this.peerStreamWindow;
    this.peerStreamWindow = size;
    for (const stream of this.streams.values()) {
      stream.sendWindow += more;
      if (stream.sendWindow > MAX_WINDOW) return false;
    }
    return true;
  }

  #ping(flags: number, id: number, bytes: Buffer, start: number, end: number): number {
    if (id !== 0) return PROTOCOL_ERROR;
    if (end - start !== PING_BYTES) return FRAME_SIZE_ERROR;
    const code = this.#guard.control();
    if (code !== NO_ERROR) return code;
    if ((flags & ACK) !== 0) this.onPong?.();
    else {
      this.writer.frame(PING, ACK, 0, bytes, start, end);
      this.writer.countControl();
    }
    return NO_ERROR;
  }

  #priority(id: number, bytes: Buffer, start: number, end: number): number {
    if (id === 0) return PROTOCOL_ERROR;
    if (end - start !== PRIORITY_BYTES) return FRAME_SIZE_ERROR;
    const code = this.#guard.priority();
    if (code === NO_ERROR && readNumber(bytes, start) === id) this.resetId(id, PROTOCOL_ERROR);
    return code;
  }

  // --- frames to the peer

  /** Ends our side of a stream. */
  sendEnd(stream: H2Stream, trailers: HeaderMap | undefined): void {
    const { writer, encoder } = this;
    if (trailers) {
      this.context.counters.trailers.value += 1;
      const at = writer.beginBlock(encodedBound(trailers, 0));
      const end = encoder.fields(writer.buffer, encoder.begin(writer.buffer, at), trailers);
      stream.trailersSent(writer.endBlock(end, stream.id, true), encoder.fieldBytes);
    } else if (!writer.addFlag(stream.id, END_STREAM)) {
      writer.frame(DATA, END_STREAM, stream.id, NOTHING, 0, 0);
      this.#guard.dataFrames += 1;
    }
    this.localEnd(stream);
  }

  /** END_STREAM of a stream was sent. */
  localEnd(stream: H2Stream): void {
    stream.localEnded = true;
    this.closeWhenDone(stream);
    if (!stream.closed) stream.onLocalEnded();
  }

  sendGoaway(lastId: number, code: number): void {
    this.writer.numbers(GOAWAY, 0, lastId, code);
    this.context.counters.goawaySent.value += 1;
  }

  /** `bytes` of the connection's window were taken. */
  take(bytes: number): void {
    this.#credit += bytes;
    if (this.#credit < this.options.connectionWindow / 2 || this.dead) return;
    this.#recvWindow += this.#credit;
    this.writer.numbers(WINDOW_UPDATE, 0, this.#credit);
    this.#credit = 0;
  }

  // --- waiting output

  /** A message is complete and waits for the peer, but not for ever. */
  awaitFlush(stream: H2Stream): void {
    const { flushTimeoutMs, clock, counters } = this.context;
    if (flushTimeoutMs <= 0) return;
    stream.cancelFlush = clock.after(flushTimeoutMs, () => {
      if (stream.closed || stream.waiting === 0) return;
      counters.txFlushTimeout.value += 1;
      this.reset(stream, NO_ERROR, undefined);
    });
  }

  #checkOutput(): void {
    const { writer, options } = this;
    if (writer.frames <= options.maxOutboundFrames && writer.controlFrames <= options.maxOutboundControlFrames) return;
    writer.settle();
    const { counters } = this.context;
    if (writer.controlFrames > options.maxOutboundControlFrames) counters.outboundControlFlood.value += 1;
    else if (writer.frames > options.maxOutboundFrames) counters.outboundFlood.value += 1;
    else return;
    this.fail(ENHANCE_YOUR_CALM, 'http2.outbound_frames_flood');
  }

  // --- ends

  closeWhenDone(stream: H2Stream): void {
    if (stream.localEnded && stream.remoteEnded && !stream.closed) this.#drop(stream, false);
  }

  /** RST_STREAM, and tells the stream why, unless it asked for it itself. */
  reset(stream: H2Stream, code: number, reason: 'protocol' | undefined): void {
    if (stream.closed) return;
    this.writeReset(stream.id, code);
    this.#drop(stream, true);
    if (reason) stream.onReset(reason, code);
  }

  /** The peer will not answer a stream (GOAWAY). */
  drop(stream: H2Stream, code: number): void {
    this.#drop(stream, false);
    stream.onReset('remote', code);
  }

  resetId(id: number, code: number): void {
    const stream = this.streams.get(id);
    if (stream) this.reset(stream, code, 'protocol');
    else this.writeReset(id, code);
  }

  writeReset(id: number, code: number): void {
    const { writer } = this;
    writer.numbers(RST_STREAM, id, code);
    writer.countControl();
    this.context.counters.txReset.value += 1;
    this.past.add(id, true);
  }

  #drop(stream: H2Stream, byUs: boolean): void {
    stream.closed = true;
    stream.cancelFlush?.();
    stream.dropOutput();
    if (byUs || !stream.remoteEnded) stream.dropInput();
    this.outlet.forget(stream);
    if (!this.streams.delete(stream.id)) return;
    this.context.counters.streamsActive.value -= 1;
    if (!byUs) this.past.add(stream.id, false);
    this.#owner.onStreamClosed(stream);
  }

  /** A connection error. */
  fail(code: number, details: string): void {
    if (this.dead) return;
    this.dead = true;
    this.#reader.stopped = true;
    this.sendGoaway(this.lastPeerId, code);
    this.writer.flush();
    this.end('protocol');
    this.#owner.onSessionError(code, details);
  }

  /** No stream goes on. */
  end(reason: 'protocol' | 'disconnect'): void {
    this.dead = true;
    this.#reader.stopped = true;
    this.#block.drop();
    for (const stream of [...this.streams.values()]) {
      this.#drop(stream, true);
      stream.onReset(reason, 0);
    }
  }
}
