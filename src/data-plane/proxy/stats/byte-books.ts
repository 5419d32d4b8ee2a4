// Bytes of open connections, added to their counters when somebody looks and when the connection ends: reads and writes count
// nothing. Used by the connection manager and by connection pools.
import type { Transport } from '../transport-socket/transport.ts';
import type { Counter, Gauge, Lagging, StatsStore } from './stats.ts';

interface Told {
  read: number;
  written: number;
}

export class ByteBooks implements Lagging {
  readonly #stats: StatsStore;
  readonly #received: Counter;
  readonly #sent: Counter;
  /** Bytes that wait to be sent. */
  readonly #waiting: Gauge;
  /** Made with the first connection: most clusters never have one. */
  #open: Map<Transport, Told> | undefined;
  #waitingTold = 0;

  constructor(stats: StatsStore, received: Counter, sent: Counter, waiting: Gauge) {
    this.#stats = stats;
    this.#received = received;
    this.#sent = sent;
    this.#waiting = waiting;
  }

  open(transport: Transport): void {
    this.#open ??= new Map();
    if (this.#open.size === 0) this.#stats.lagging.add(this);
    this.#open.set(transport, { read: 0, written: 0 });
  }

  close(transport: Transport): void {
    const open = this.#open;
    const told = open?.get(transport);
    if (!open || !told) return;
    this.#tell(transport, told);
    open.delete(transport);
    if (open.size > 0) return;
    this.#wait(0);
    this.#stats.lagging.delete(this);
  }

  settle(): void {
    let waiting = 0;
    for (const [transport, told] of this.#open ?? []) {
      this.#tell(transport, told);
      waiting += transport.backlogBytes;
    }
    this.#wait(waiting);
  }

  /** Several books may share a gauge. */
  #wait(bytes: number): void {
    this.#waiting.value += bytes - this.#waitingTold;
    this.#waitingTold = bytes;
  }

  #tell(transport: Transport, told: Told): void {
    const { bytesRead, bytesWritten } = transport;
    this.#received.value += bytesRead - told.read;
    this.#sent.value += bytesWritten - told.written;
    told.read = bytesRead;
    told.written = bytesWritten;
  }
}
