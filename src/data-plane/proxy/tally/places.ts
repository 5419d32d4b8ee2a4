// How many of something are in use: counted by this thread alone, or by all workers together. Used by circuit breakers and
// by limits of connections; which kind is chosen where the limit is made.

export interface Places {
  readonly used: number;
  /** Takes one of `max` if there is one. */
  tryEnter(max: number): boolean;
  enter(): void;
  leave(): void;
}

export class LocalPlaces implements Places {
  used = 0;

  tryEnter(max: number): boolean {
    if (this.used >= max) return false;
    this.used += 1;
    return true;
  }

  enter(): void {
    this.used += 1;
  }

  leave(): void {
    this.used -= 1;
  }
}

/** A thread's part of a block of counters, in 32-bit cells: one cache line, so that threads do not slow each other. */
export const CELLS_PER_THREAD = 16;

/** How often two threads may step back from the same last place before it is refused to both. */
const MAX_TRIES = 8;

/**
 * A cell of every thread counts what that thread uses; together they are what is used. So what a dead thread used is let go by
 * clearing its cells.
 */
export class SharedPlaces implements Places {
  readonly #cells: Int32Array;
  readonly #first: number;
  readonly #own: number;
  readonly #part: number;

  /** `part`: cells of one thread. */
  constructor(cells: Int32Array, thread: number, cell: number, part = CELLS_PER_THREAD) {
    this.#cells = cells;
    this.#first = cell;
    this.#own = thread * part + cell;
    this.#part = part;
  }

  get used(): number {
    const cells = this.#cells;
    let sum = 0;
    for (let at = this.#first; at < cells.length; at += this.#part) sum += Atomics.load(cells, at);
    return sum;
  }

  /** Never more than `max` over all threads. */
  tryEnter(max: number): boolean {
    for (let tries = 0; tries < MAX_TRIES && this.used < max; tries++) {
      Atomics.add(this.#cells, this.#own, 1);
      if (this.used <= max) return true;
      // Another thread wanted the last one too: both step back and look again.
      Atomics.sub(this.#cells, this.#own, 1);
    }
    return false;
  }

  enter(): void {
    Atomics.add(this.#cells, this.#own, 1);
  }

  leave(): void {
    Atomics.sub(this.#cells, this.#own, 1);
  }
}

/** Lets go what one of `threads` threads has used, which is gone. */
export function clearThread(block: SharedArrayBuffer, thread: number, threads: number): void {
  const cells = new Int32Array(block);
  const part = cells.length / threads;
  for (let i = 0; i < part; i++) Atomics.store(cells, thread * part + i, 0);
}
