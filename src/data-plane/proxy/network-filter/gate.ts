// The filters of a chain in front of its terminal one: each new connection passes them in order, and goes on to the
// terminal filter when all admit it. A chain without such filters has no gate and pays nothing; a connection that was
// admitted is not looked at again unless a filter wrapped it. Built by registry.ts.
//
// A refused connection is held without an upstream until the client speaks, so that it learns of the refusal as from
// Envoy, and no byte of a server that speaks first reaches it.
import type { Clock } from '../../../base/runtime/clock.ts';
import { type ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import { REFUSED_CONNECTION_MS } from '../limits.ts';
import type { Drain } from '../listener/drain.ts';
import type { Transport, TransportSink } from '../transport-socket/transport.ts';
import type { Admission, Closed, ConnectionHandler, NetworkFilter } from './filter.ts';

type Refusal = Extract<Admission, { kind: 'refuse' }>;

export class Gate implements ConnectionHandler {
  readonly #filters: () => readonly NetworkFilter[] | undefined;
  readonly #terminal: ConnectionHandler;
  readonly #clock: Clock;
  readonly #held = new Set<Held>();

  /** `filters`: those of the moment; undefined = some are not known yet. */
  constructor(filters: () => readonly NetworkFilter[] | undefined, terminal: ConnectionHandler, clock: Clock) {
    this.#filters = filters;
    this.#terminal = terminal;
    this.#clock = clock;
  }

  get active(): number {
    return this.#terminal.active + this.#held.size;
  }

  accept(transport: Transport, info: ConnectionInfo, closed: Closed): void {
    const filters = this.#filters();
    if (!filters) {
      // Nothing says who may come in: nobody.
      transport.start(NOBODY);
      transport.destroy();
      closed();
      return;
    }
    let asked = 0;
    const leave: Closed = (facts) => {
      for (let i = 0; i < asked; i++) filters[i]!.onClose?.(info);
      closed(facts);
    };
    let inner = transport;
    for (const filter of filters) {
      asked += 1;
      const admission = filter.admit(info);
      if (admission.kind === 'refuse') {
        this.#refuse(transport, info, filter, admission, leave);
        return;
      }
      inner = filter.wrap?.(inner, info) ?? inner;
    }
    this.#terminal.accept(inner, info, leave);
  }

  #refuse(transport: Transport, info: ConnectionInfo, filter: NetworkFilter, refusal: Refusal, leave: Closed): void {
    const stream = new StreamInfo(info, this.#clock.now());
    const held = new Held(transport, refusal, this.#clock, {
      received(bytes) {
        stream.bytesReceived += bytes;
      },
      spoke: () => filter.onRefused?.(info),
      over: () => {
        this.#held.delete(held);
        stream.flags |= refusal.flags;
        stream.connectionTermination = refusal.details;
        info.localCloseReason = refusal.closeReason;
        stream.duration = this.#clock.now() - stream.startTime;
        // As tcp_proxy's own.
        if (this.#terminal.refused) stream.upstreamCloseType = 'Normal';
        leave(stream);
        this.#terminal.refused?.(stream);
      },
    });
    this.#held.add(held);
    held.start();
  }

  drain(drain: Drain): void {
    this.#terminal.drain(drain);
  }

  closeAll(): void {
    for (const held of this.#held) held.close();
    this.#terminal.closeAll();
  }
}

const NOBODY: TransportSink = { onData() {}, onEnd() {}, onBacklog() {}, onClose() {} };

interface Told {
  received(bytes: number): void;
  /** The client said something, left, or will not any more. */
  spoke(): void;
  over(): void;
}

/** A refused connection until it is closed. What the client sends is thrown away. */
class Held implements TransportSink {
  readonly #transport: Transport;
  readonly #refusal: Refusal;
  readonly #clock: Clock;
  readonly #told: Told;
  #spoken = false;
  #over = false;
  #cancel: (() => void) | undefined;

  constructor(transport: Transport, refusal: Refusal, clock: Clock, told: Told) {
    this.#transport = transport;
    this.#refusal = refusal;
    this.#clock = clock;
    this.#told = told;
  }

  start(): void {
    if (this.#refusal.when === 'first-byte') {
      this.#cancel = this.#clock.after(REFUSED_CONNECTION_MS, () => this.#speak());
      this.#transport.start(this);
    } else {
      this.#transport.start(this);
      this.#speak();
    }
  }

  close(): void {
    this.#transport.destroy();
    this.#end();
  }

  onData(_bytes: Buffer, start: number, end: number): void {
    if (!this.#over) this.#told.received(end - start);
    this.#speak();
  }

  onEnd(): void {
    this.#speak();
  }

  onBacklog(): void {}

  onClose(): void {
    if (!this.#spoken) this.#told.spoke();
    this.#spoken = true;
    this.#end();
  }

  #speak(): void {
    if (this.#spoken || this.#over) return;
    this.#spoken = true;
    this.#cancel?.();
    this.#told.spoke();
    const { delayMs } = this.#refusal;
    if (delayMs <= 0) {
      this.close();
      return;
    }
    this.#transport.pause();
    this.#cancel = this.#clock.after(delayMs, () => this.close());
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#cancel?.();
    this.#told.over();
  }
}
