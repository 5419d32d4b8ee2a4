// The body of a request, kept while it may have to be sent again. Owned by router-exchange.ts.

export class KeptBody {
  /** Undefined: too large, or nobody will ask for it. */
  chunks: Buffer[] | undefined = [];
  readonly #limit: number;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** `waiting`: there is no upstream yet, so nothing may be lost (the codec is paused: that is one read at most). */
  keep(bytes: Buffer, start: number, end: number, needed: boolean, waiting: boolean): void {
    if (!this.chunks) return;
    this.#bytes += end - start;
    if (!waiting && (!needed || this.#bytes > this.#limit)) {
      this.chunks = undefined;
      return;
    }
    this.chunks.push(Buffer.from(bytes.subarray(start, end)));
  }

  forget(): void {
    this.chunks = undefined;
  }
}
