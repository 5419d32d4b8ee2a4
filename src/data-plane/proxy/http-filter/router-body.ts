// The body of a request, kept while it may have to be sent again. Owned by router-exchange.ts.

const NOTHING: readonly Buffer[] = [];

export class KeptBody {
  /** Undefined: too large, or nobody will ask for it. */
  chunks: readonly Buffer[] | undefined = NOTHING;
  readonly #limit: number;
  #bytes = 0;
  #list: Buffer[] | undefined;

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
    this.#list ??= [];
    this.#list.push(Buffer.from(bytes.subarray(start, end)));
    this.chunks = this.#list;
  }

  forget(): void {
    this.#list = undefined;
    this.chunks = undefined;
  }
}
