// The server's end of a SPDY/3.1 connection: streams opened by the client, as kubectl uses them (no flow-control windows:
// its library has none, so the whole connection waits for a slow stream). Called by spdy-exec.ts and port-forward.ts.
import { Duplex } from 'node:stream';
import { createHeaderReader, createHeaderWriter, type Headers } from './headers.ts';

export const MAX_STREAMS = 1024;
/** Payload of one frame we accept: SPDY allows 16 MiB, kubectl sends 32 KiB. */
export const MAX_FRAME_BYTES = 1024 * 1024;
/** Received bytes one stream keeps before the connection waits. */
const STREAM_BUFFER_BYTES = 256 * 1024;
const SEND_CHUNK = 32 * 1024;

const VERSION = 3;
const SYN_STREAM = 1;
const SYN_REPLY = 2;
const RST_STREAM = 3;
const PING = 6;
const GOAWAY = 7;
const HEADERS = 8;
const FIN = 1;

const REFUSED = 3;
const CANCEL = 5;

export interface SpdyStream extends Duplex {
  readonly id: number;
  readonly headers: Headers;
}

export interface SpdyConnection {
  /** Resolves when the connection is over, whoever ended it. */
  readonly closed: Promise<void>;
  /** Says goodbye and ends the transport once what was written is sent. */
  end(): void;
  destroy(): void;
}

/** `onStream` gets every accepted stream; answering SYN_REPLY is done here. Bytes already read come as `head`. */
export function serveSpdy(transport: Duplex, head: Buffer, onStream: (stream: SpdyStream) => void): SpdyConnection {
  return new Connection(transport, head, onStream);
}

class Connection implements SpdyConnection {
  readonly closed: Promise<void>;
  readonly #transport: Duplex;
  readonly #onStream: (stream: SpdyStream) => void;
  readonly #streams = new Map<number, Stream>();
  readonly #writeHeaders = createHeaderWriter();
  readonly #headerReader = createHeaderReader();
  #lastId = 0;
  #ending = false;

  constructor(transport: Duplex, head: Buffer, onStream: (stream: SpdyStream) => void) {
    this.#transport = transport;
    this.#onStream = onStream;
    this.closed = new Promise((resolve) => transport.once('close', resolve));
    transport.on('error', () => transport.destroy());
    transport.once('close', () => this.#over());
    if (head.length > 0) transport.unshift(head);
    this.#run().catch((error: Error) => transport.destroy(error));
  }

  end(): void {
    if (this.#ending) return;
    this.#ending = true;
    const body = Buffer.alloc(8);
    body.writeUInt32BE(this.#lastId);
    this.#control(GOAWAY, 0, body);
    this.#transport.end();
  }

  destroy(): void {
    this.#transport.destroy();
  }

  #over(): void {
    this.#headerReader.close();
    for (const stream of this.#streams.values()) stream.destroy();
    this.#streams.clear();
  }

  async #run(): Promise<void> {
    let pending: Buffer = Buffer.alloc(0);
    for await (const chunk of this.#transport as AsyncIterable<Buffer>) {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      while (pending.length >= 8) {
        const length = pending.readUIntBE(5, 3);
        if (length > MAX_FRAME_BYTES)
          throw new Error(`SPDY frame of ${length} bytes is larger than ${MAX_FRAME_BYTES}`);
        if (pending.length < 8 + length) break;
        const frame = pending.subarray(0, 8 + length);
        pending = pending.subarray(8 + length);
        await this.#frame(frame);
      }
    }
    this.#transport.destroy();
  }

  async #frame(frame: Buffer): Promise<void> {
    const flags = frame[4]!;
    const body = frame.subarray(8);
    if ((frame[0]! & 0x80) === 0) {
      await this.#data(frame.readUInt32BE(0), flags, body);
      return;
    }
    const version = frame.readUInt16BE(0) & 0x7fff;
    if (version !== VERSION) throw new Error(`SPDY version ${version} is not supported`);
    switch (frame.readUInt16BE(2)) {
      case SYN_STREAM:
        await this.#synStream(flags, body);
        return;
      case SYN_REPLY:
      case HEADERS:
        // Nothing is asked of the client, but the block is part of the shared compression state.
        if (body.length >= 4) await this.#headerReader.read(body.subarray(4));
        return;
      case RST_STREAM:
        if (body.length >= 8) this.#streams.get(body.readUInt32BE(0))?.destroy();
        return;
      case PING:
        if (body.length >= 4) this.#control(PING, 0, body.subarray(0, 4));
        return;
      default:
        // SETTINGS, GOAWAY, WINDOW_UPDATE: nothing to do.
        return;
    }
  }

  async #synStream(flags: number, body: Buffer): Promise<void> {
    if (body.length < 10) throw new Error('SPDY SYN_STREAM frame is too short');
    const id = body.readUInt32BE(0) & 0x7fffffff;
    const headers = await this.#headerReader.read(body.subarray(10));
    if (id <= this.#lastId || id % 2 === 0) throw new Error(`SPDY stream id ${id} out of order`);
    this.#lastId = id;
    if (this.#streams.size >= MAX_STREAMS || this.#ending) {
      this.#reset(id, REFUSED);
      return;
    }
    const stream = new Stream(id, headers, {
      send: (payload, fin, done) => this.#send(id, payload, fin, done),
      gone: (aborted) => {
        this.#streams.delete(id);
        if (aborted && !this.#transport.destroyed && !this.#ending) this.#reset(id, CANCEL);
      },
    });
    this.#streams.set(id, stream);
    const reply = Buffer.alloc(4);
    reply.writeUInt32BE(id);
    this.#control(SYN_REPLY, 0, Buffer.concat([reply, this.#writeHeaders(new Map())]));
    if ((flags & FIN) !== 0) stream.remoteEnd();
    this.#onStream(stream);
  }

  async #data(id: number, flags: number, body: Buffer): Promise<void> {
    const stream = this.#streams.get(id);
    if (!stream) return;
    if (body.length > 0) await stream.receive(Buffer.from(body));
    if ((flags & FIN) !== 0) stream.remoteEnd();
  }

  #send(id: number, payload: Buffer, fin: boolean, done: (error?: Error | null) => void): void {
    if (this.#transport.destroyed || this.#ending) {
      done(new Error('the client has gone'));
      return;
    }
    let at = 0;
    do {
      const part = payload.subarray(at, at + SEND_CHUNK);
      at += part.length;
      const last = at >= payload.length;
      const header = Buffer.alloc(8);
      header.writeUInt32BE(id);
      header[4] = fin && last ? FIN : 0;
      header.writeUIntBE(part.length, 5, 3);
      this.#transport.write(Buffer.concat([header, part]), last ? (error) => done(error) : undefined);
    } while (at < payload.length);
  }

  #reset(id: number, status: number): void {
    const body = Buffer.alloc(8);
    body.writeUInt32BE(id);
    body.writeUInt32BE(status, 4);
    this.#control(RST_STREAM, 0, body);
  }

  #control(type: number, flags: number, body: Buffer): void {
    if (this.#transport.destroyed || this.#transport.writableEnded) return;
    const header = Buffer.alloc(8);
    header.writeUInt16BE(0x8000 | VERSION);
    header.writeUInt16BE(type, 2);
    header[4] = flags;
    header.writeUIntBE(body.length, 5, 3);
    this.#transport.write(Buffer.concat([header, body]));
  }
}

interface StreamLink {
  send(payload: Buffer, fin: boolean, done: (error?: Error | null) => void): void;
  gone(aborted: boolean): void;
}

class Stream extends Duplex implements SpdyStream {
  readonly id: number;
  readonly headers: Headers;
  readonly #link: StreamLink;
  #resume: (() => void) | undefined;
  #remoteEnded = false;
  #localEnded = false;

  constructor(id: number, headers: Headers, link: StreamLink) {
    super({ allowHalfOpen: true, readableHighWaterMark: STREAM_BUFFER_BYTES });
    this.id = id;
    this.headers = headers;
    this.#link = link;
    this.on('error', () => {});
  }

  /** Resolves when there is room for more. */
  receive(chunk: Buffer): Promise<void> {
    if (this.#remoteEnded || this.destroyed || this.push(chunk)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  remoteEnd(): void {
    if (this.#remoteEnded || this.destroyed) return;
    this.#remoteEnded = true;
    this.push(null);
  }

  override _read(): void {
    this.#resume?.();
    this.#resume = undefined;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#link.send(chunk, false, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#localEnded = true;
    this.#link.send(Buffer.alloc(0), true, callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#resume?.();
    this.#link.gone(!(this.#localEnded && this.#remoteEnded));
    callback(error);
  }
}
