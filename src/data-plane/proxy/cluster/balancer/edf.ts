// Earliest deadline first: weighted choice where each item comes up in proportion to its weight, evenly spread. The weight
// is asked for at every pick, so it may change. Used for hosts and for localities.

export class Edf<T> {
  readonly #items: readonly T[];
  readonly #weight: (item: T) => number;
  /** A binary heap of item indexes by deadline, then by the order they were put back. */
  readonly #heap: Uint32Array;
  readonly #deadline: Float64Array;
  readonly #order: Float64Array;
  #now = 0;
  #turn = 0;

  /** `random` makes many proxies begin at different places. Weights must be above 0. */
  constructor(items: readonly T[], weight: (item: T) => number, random: () => number) {
    this.#items = items;
    this.#weight = weight;
    const { length } = items;
    this.#heap = new Uint32Array(length);
    this.#deadline = new Float64Array(length);
    this.#order = new Float64Array(length);
    // The state after a random time: every item has its next deadline behind it.
    const start = items.length === 0 ? 0 : random() * length;
    const scale = items.reduce((total, item) => total + weight(item), 0) / Math.max(1, length);
    this.#now = start / (scale || 1);
    for (let i = 0; i < length; i++) {
      const w = weight(items[i]!);
      this.#deadline[i] = (Math.floor(this.#now * w) + 1) / w;
      this.#order[i] = this.#turn++;
      this.#heap[i] = i;
    }
    for (let i = (length >> 1) - 1; i >= 0; i--) this.#down(i);
  }

  next(): T | undefined {
    if (this.#items.length === 0) return undefined;
    const index = this.#heap[0]!;
    const item = this.#items[index]!;
    this.#now = this.#deadline[index]!;
    this.#deadline[index] = this.#now + 1 / this.#weight(item);
    this.#order[index] = this.#turn++;
    this.#down(0);
    return item;
  }

  #before(a: number, b: number): boolean {
    const da = this.#deadline[a]!;
    const db = this.#deadline[b]!;
    return da < db || (da === db && this.#order[a]! < this.#order[b]!);
  }

  #down(from: number): void {
    const heap = this.#heap;
    const { length } = heap;
    let at = from;
    const moved = heap[at]!;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && this.#before(heap[child + 1]!, heap[child]!)) child += 1;
      if (!this.#before(heap[child]!, moved)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = moved;
  }
}
