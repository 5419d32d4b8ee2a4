// TLS by OpenSSL's own calls over a SocketTransport that carries the records. OpenSSL reads and writes two memory BIOs that
// all connections share: each call empties them, so an idle connection holds no buffer. Made by the handshakes beside it.
//
// Rules that keep it safe: OpenSSL runs to its end before anything above is called; what is left when the sink pauses is taken
// out of the shared BIO; the SSL object is freed once, when the socket has closed, and `#ssl` is 0 from then on.
import type { SocketAddr } from '../../config/address.ts';
import { MAX_TLS_CONTROL_BACKLOG_BYTES, OUTPUT_ARENA_BYTES, TLS_PLAIN_BUFFER_BYTES } from '../../limits.ts';
import { type ArenaOwner, arena } from '../arena.ts';
import type { SocketTransport } from '../socket-transport.ts';
import { tlsFailureText } from '../tls-reasons.ts';
import type { TlsDetails, Transport, TransportFailure, TransportSink } from '../transport.ts';
import { addressOf, type OpenSsl, openssl, type Pointer, SSL_ERROR, takeReason } from './library.ts';

/** A bare reason of OpenSSL's, not yet put in Envoy's frame. */
export const OPENSSL_REASON = /^[A-Z0-9_]+$/;
/** One record's plain text. */
const MAX_RECORD_BYTES = 16 * 1024;
/** Records given to OpenSSL at once: their plain text, and what the record before left, fit the plain buffer in one read. */
const MAX_FEED_BYTES = TLS_PLAIN_BUFFER_BYTES - 2 * MAX_RECORD_BYTES;
const BIO_PENDING = 10;
const SENT_AND_RECEIVED = 3;

interface Shared {
  readonly ssl: OpenSsl;
  /** Records to OpenSSL, and from it. Empty between calls. */
  readonly input: Pointer;
  readonly output: Pointer;
  readonly plain: Buffer;
  readonly plainAt: Pointer;
  readonly records: Buffer;
  readonly recordsAt: Pointer;
}

let made: Shared | undefined;

function shared(): Shared {
  if (made) return made;
  const ssl = openssl();
  const plain = Buffer.allocUnsafeSlow(TLS_PLAIN_BUFFER_BYTES);
  const records = Buffer.allocUnsafeSlow(OUTPUT_ARENA_BYTES + MAX_RECORD_BYTES);
  made = {
    ssl,
    input: ssl.BIO_new(ssl.BIO_s_mem()),
    output: ssl.BIO_new(ssl.BIO_s_mem()),
    plain,
    plainAt: addressOf(plain),
    records,
    recordsAt: addressOf(records),
  };
  return made;
}

/** Bytes in the BIOs that all connections share: for tests of the rule that they are empty whenever the layers above run. */
export function sharedRecordBytes(): number {
  const { ssl, input, output } = shared();
  return ssl.BIO_ctrl(input, BIO_PENDING, 0, 0) + ssl.BIO_ctrl(output, BIO_PENDING, 0, 0);
}

let lastBuffer: Buffer | undefined;
let lastAddress: Pointer = 0;

/** Nearly all bytes come from a handful of shared buffers. */
function whereIs(bytes: Buffer): Pointer {
  if (bytes !== lastBuffer) {
    lastAddress = addressOf(bytes);
    lastBuffer = bytes;
  }
  return lastAddress;
}

/** What the side that made the connection decides. */
export interface HandshakeSteps {
  /** Before each step of OpenSSL's handshake. */
  prepare(): void;
  /** OpenSSL is content: the facts of the connection, or why it is refused all the same. */
  judge(ssl: Pointer): TlsDetails | string;
  /** Once: with the connection, or with the reason; it closes by itself then. */
  done(transport: SecureTransport | undefined, reason: string): void;
  /** A client's look for new sessions after a read; false when it wants no more. */
  collect?(ssl: Pointer): boolean;
}

export class SecureTransport implements Transport, ArenaOwner, TransportSink {
  readonly local: SocketAddr;
  readonly remote: SocketAddr;
  tls: TlsDetails | undefined;
  bytesRead = 0;
  bytesWritten = 0;
  closed = false;
  readonly #raw: SocketTransport;
  readonly #shared = shared();
  #steps: HandshakeSteps | undefined;
  #collect: ((ssl: Pointer) => boolean) | undefined;
  #ssl: Pointer;
  #sink: TransportSink | undefined;
  /** Records that OpenSSL has not seen because the sink paused. */
  #held: Buffer | undefined;
  /** The socket's end came while nobody read. */
  #endHeld = false;
  #opening = true;
  #paused = false;
  #waking = false;
  #ended = false;
  #peerEnded = false;
  #failure: TransportFailure | undefined;

  /** Takes over the SSL object. `begin` starts the handshake. */
  constructor(raw: SocketTransport, ssl: Pointer, steps: HandshakeSteps) {
    this.#raw = raw;
    this.local = raw.local;
    this.remote = raw.remote;
    this.#ssl = ssl;
    this.#steps = steps;
    this.#collect = steps.collect?.bind(steps);
    const { input, output, ssl: lib } = this.#shared;
    lib.BIO_up_ref(input);
    lib.BIO_up_ref(output);
    lib.SSL_set_bio(ssl, input, output);
  }

  get peerEnded(): boolean {
    return this.#peerEnded || this.#raw.peerEnded;
  }

  get backlogBytes(): number {
    return this.#raw.backlogBytes + arena.pending(this);
  }

  get bulk(): boolean {
    return this.#raw.bulk;
  }

  set bulk(on: boolean) {
    this.#raw.bulk = on;
  }

  /** `active`: this side speaks first. */
  begin(active: boolean): void {
    if (active) this.#handshake();
    this.#raw.start(this);
  }

  // --- from the socket

  onData(bytes: Buffer, start: number, end: number): void {
    if (this.#ssl === 0) return;
    if (this.#held || (!this.#opening && this.#stopped)) {
      this.#hold(Buffer.from(bytes.subarray(start, end)));
      // One read is kept, no more: whoever goes on wakes the socket too.
      this.#raw.pause();
      return;
    }
    this.#feed(bytes, start, end);
  }

  onEnd(): void {
    if (this.#opening) {
      this.#handshakeFailed('connection closed during the TLS handshake');
      return;
    }
    // The end comes after what was held, and waits like it for somebody who reads.
    if (this.#held || this.#stopped) this.#endHeld = true;
    else this.#peerHasEnded();
  }

  onBacklog(full: boolean): void {
    this.#sink?.onBacklog(full);
  }

  onClose(failure: TransportFailure | undefined): void {
    this.#free();
    if (this.#opening) this.#handshakeFailed(failure?.reason ?? 'connection closed during the TLS handshake');
    if (this.closed) return;
    this.closed = true;
    const sink = this.#sink;
    this.#sink = undefined;
    this.#failure ??= failure;
    sink?.onClose(this.#failure);
  }

  get #stopped(): boolean {
    return this.#paused || this.#sink === undefined;
  }

  #feed(bytes: Buffer, start: number, end: number): void {
    const { ssl, input } = this.#shared;
    let at = start;
    while (at < end && this.#alive) {
      const size = Math.min(end - at, MAX_FEED_BYTES);
      ssl.BIO_write(input, whereIs(bytes) + at, size);
      at += size;
      if (this.#opening) this.#handshake();
      const empty = !this.#opening && !this.#held && this.#read();
      if (!empty) this.#reclaim();
      if (this.#held || (!this.#opening && this.#stopped)) break;
    }
    if (at < end && this.#alive) this.#hold(Buffer.from(bytes.subarray(at, end)));
  }

  /** Bytes after the end of a connection are nobody's. */
  get #alive(): boolean {
    return this.#ssl !== 0 && !this.#peerEnded && !this.#failure;
  }

  #hold(rest: Buffer): void {
    this.#held = this.#held ? Buffer.concat([this.#held, rest]) : rest;
  }

  /** The shared BIO must be empty for the next connection. */
  #reclaim(): void {
    const { ssl, input } = this.#shared;
    const left = ssl.BIO_ctrl(input, BIO_PENDING, 0, 0);
    if (left <= 0) return;
    const rest = Buffer.allocUnsafe(left);
    ssl.BIO_read(input, addressOf(rest), left);
    if (this.#alive) this.#hold(rest);
  }

  #handshake(): void {
    const { ssl } = this.#shared;
    this.#steps?.prepare();
    ssl.ERR_clear_error();
    const result = ssl.SSL_do_handshake(this.#ssl);
    const error = result === 1 ? 0 : ssl.SSL_get_error(this.#ssl, result);
    const reason = error === 0 || error === SSL_ERROR.wantRead ? '' : takeReason(ssl);
    this.#flushRecords();
    if (error === SSL_ERROR.wantRead) return;
    if (error !== 0) {
      this.#handshakeFailed(reason);
      return;
    }
    const steps = this.#steps!;
    const verdict = steps.judge(this.#ssl);
    if (typeof verdict === 'string') {
      this.#handshakeFailed(verdict);
      return;
    }
    this.tls = verdict;
    this.#opening = false;
    this.#steps = undefined;
    // The first request may have come with the end of the handshake.
    this.#reclaim();
    steps.done(this, '');
  }

  #handshakeFailed(reason: string): void {
    if (!this.#opening) return;
    this.#opening = false;
    this.#peerEnded = true;
    this.#discard();
    const steps = this.#steps;
    this.#steps = undefined;
    this.#leave();
    steps?.done(undefined, reason);
  }

  /** Deciphers what is there and hands it up, until there is no more or the sink pauses. True: the BIO is known to be empty. */
  #read(): boolean {
    const { ssl, input, plain, plainAt } = this.#shared;
    while (this.#ssl !== 0 && !this.#stopped) {
      let have = 0;
      let result = 1;
      let all = false;
      ssl.ERR_clear_error();
      while (have <= TLS_PLAIN_BUFFER_BYTES - MAX_RECORD_BYTES) {
        result = ssl.SSL_read(this.#ssl, plainAt + have, TLS_PLAIN_BUFFER_BYTES - have);
        if (result <= 0) break;
        have += result;
        // A read takes a whole record: with no other there OpenSSL could only say so, at many times the price of this question.
        all = ssl.BIO_ctrl(input, BIO_PENDING, 0, 0) === 0;
        if (all) break;
      }
      // Asked before anything above runs: another call would overwrite the answer.
      const error = result > 0 ? 0 : ssl.SSL_get_error(this.#ssl, result);
      const reason = error === SSL_ERROR.ssl ? takeReason(ssl) : '';
      if (this.#collect && !this.#collect(this.#ssl)) this.#collect = undefined;
      // Before anything above writes to another connection: answers of this one stand in the BIO that all share.
      this.#answer();
      if (error !== 0 && error !== SSL_ERROR.wantRead) this.#discard();
      if (have > 0) {
        this.bytesRead += have;
        this.#sink?.onData(plain, 0, have);
      }
      if (all) return true;
      if (this.#ssl === 0) return false;
      if (error === 0) continue;
      if (error === SSL_ERROR.zeroReturn) this.#peerHasEnded();
      else if (error !== SSL_ERROR.wantRead) this.#fail(reason);
      return false;
    }
    return false;
  }

  /** What follows the end of a connection, or a record that cannot be read. */
  #discard(): void {
    const { ssl, input, recordsAt, records } = this.#shared;
    while (ssl.BIO_read(input, recordsAt, records.length) > 0);
  }

  /** Answers to key updates, and alerts. A peer that makes us answer and does not read is cut off. */
  #answer(): void {
    const size = this.#flushRecords();
    if (size === 0) return;
    this.#unread = this.#raw.backlogBytes > 0 ? this.#unread + size : 0;
    if (this.#unread > MAX_TLS_CONTROL_BACKLOG_BYTES) this.#fail('TOO_MANY_KEY_UPDATES');
  }
  #unread = 0;

  #peerHasEnded(): void {
    if (this.#peerEnded) return;
    this.#peerEnded = true;
    this.#inTurn(() => this.#sink?.onEnd());
  }

  #fail(reason: string): void {
    this.#failure ??= { kind: 'tls', reason: tlsFailureText(reason) };
    this.#peerEnded = true;
    this.#leave();
  }

  /** A peer that does not read would never get to the end of what waits for it. */
  #leave(): void {
    if (this.#raw.backlogBytes > 0) this.#raw.destroy();
    else this.#raw.closeSoon();
  }

  #free(): void {
    if (this.#ssl === 0) return;
    const { ssl } = this.#shared;
    // Else the session of a connection that ends without a goodbye could not be resumed.
    if (this.tls && !this.#failure) ssl.SSL_set_shutdown(this.#ssl, SENT_AND_RECEIVED);
    ssl.SSL_free(this.#ssl);
    this.#ssl = 0;
    this.#held = undefined;
  }

  // --- from above

  start(sink: TransportSink): void {
    this.#sink = sink;
    if (this.#raw.closed) {
      this.closed = true;
      queueMicrotask(() => {
        this.#sink = undefined;
        sink.onClose(this.#failure);
      });
      return;
    }
    this.#wake();
  }

  redirect(sink: TransportSink): void {
    this.#sink = sink;
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#raw.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#wake();
  }

  /** Goes on with what was held: later, since the caller may stand in the middle of a read. */
  #wake(): void {
    if (!this.#held && !this.#endHeld) {
      if (!this.#paused) this.#raw.resume();
      return;
    }
    if (this.#waking) return;
    this.#waking = true;
    queueMicrotask(() => {
      this.#waking = false;
      const held = this.#held;
      if (this.#stopped || this.#ssl === 0) return;
      this.#held = undefined;
      if (held) this.#inTurn(() => this.#feed(held, 0, held.length));
      if (this.#held || this.#paused) return;
      if (this.#endHeld) this.#peerHasEnded();
      else this.#raw.resume();
    });
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

  forward(bytes: Buffer, start: number, end: number): boolean {
    if (end - start < MAX_RECORD_BYTES) {
      this.write(bytes, start, end);
      return true;
    }
    arena.flushOwner(this);
    for (let at = start; at < end; at += OUTPUT_ARENA_BYTES)
      this.#seal(bytes, at, Math.min(end, at + OUTPUT_ARENA_BYTES));
    return !this.#raw.backlogged;
  }

  flushArena(buffer: Buffer, start: number, end: number): boolean {
    this.#seal(buffer, start, end);
    return false;
  }

  #seal(bytes: Buffer, start: number, end: number): void {
    if (this.closed || this.#ended || this.#ssl === 0) return;
    const { ssl } = this.#shared;
    ssl.ERR_clear_error();
    const sealed = ssl.SSL_write(this.#ssl, whereIs(bytes) + start, end - start);
    if (sealed !== end - start) {
      const reason = takeReason(ssl);
      // Records made before the failure are not the next connection's.
      this.#flushRecords();
      this.#fail(reason);
      return;
    }
    this.bytesWritten += sealed;
    this.#flushRecords();
  }

  /** Everything OpenSSL has written goes to the socket. Returns its size. */
  #flushRecords(): number {
    const { ssl, output, records, recordsAt } = this.#shared;
    let all = 0;
    for (;;) {
      const size = ssl.BIO_read(output, recordsAt, records.length);
      if (size <= 0) return all;
      all += size;
      this.#raw.send(records, 0, size);
      if (size < records.length) return all;
    }
  }

  #sayGoodbye(): void {
    arena.flushOwner(this);
    if (this.#ended || this.#ssl === 0) return;
    this.#ended = true;
    const { ssl } = this.#shared;
    ssl.ERR_clear_error();
    ssl.SSL_shutdown(this.#ssl);
    this.#flushRecords();
  }

  end(): void {
    if (this.#ended || this.closed) return;
    this.#sayGoodbye();
    this.#raw.end();
  }

  closeSoon(): void {
    if (this.closed) return;
    this.#sayGoodbye();
    this.#raw.closeSoon();
  }

  destroy(): void {
    if (this.closed) return;
    arena.flushOwner(this);
    this.#raw.destroy();
  }

  reset(): void {
    if (this.closed) return;
    this.#raw.reset();
  }

  #inTurn(run: () => void): void {
    arena.beginTurn();
    try {
      run();
    } finally {
      arena.endTurn();
    }
  }
}
