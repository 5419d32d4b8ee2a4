// What all workers use of one host: requests under way, by which balancers choose, and connections, which a limit counts.
// The main thread gives each host a place in its cluster's memory (workers/host-desk.ts); a worker is told it
// (workers/host-book.ts).
import { CELLS_PER_THREAD, SharedPlaces } from './places.ts';

/** Gives the hosts of a cluster their numbers; `give` also later, for hosts that the main thread learns of later. */
export interface SharedHosts {
  open(cluster: string, give: GiveNumbers): HostLedger;
}
export type GiveNumbers = (host: string, numbers: HostNumbers) => void;

export interface HostLedger {
  added(hosts: readonly string[]): void;
  removed(hosts: readonly string[]): void;
  close(): void;
}

/** Cells of a host in the part of each thread. */
const CELLS = 2;

/** Bytes of memory for `slots` hosts: a whole number of cache lines for each thread. */
export function segmentBytes(threads: number, slots: number): number {
  return threads * Math.ceil((slots * CELLS) / CELLS_PER_THREAD) * CELLS_PER_THREAD * 4;
}

export class HostNumbers {
  /** Connections. */
  readonly cx: SharedPlaces;
  readonly #rq: SharedPlaces;
  /** Requests of the whole cluster. */
  readonly #all: SharedPlaces;

  constructor(segment: Int32Array, threads: number, thread: number, slot: number, all: SharedPlaces) {
    const part = segment.length / threads;
    this.#rq = new SharedPlaces(segment, thread, slot * CELLS, part);
    this.cx = new SharedPlaces(segment, thread, slot * CELLS + 1, part);
    this.#all = all;
  }

  get active(): number {
    return this.#rq.used;
  }

  get clusterActive(): number {
    return this.#all.used;
  }

  get idle(): boolean {
    return this.#rq.used === 0 && this.cx.used === 0;
  }

  begin(): void {
    this.#rq.enter();
    this.#all.enter();
  }

  end(): void {
    this.#rq.leave();
    this.#all.leave();
  }
}
