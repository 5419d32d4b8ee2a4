// The streams of a connection that closed lately: their late frames mean nothing, or break the rules. Used by the session.
import { CLOSED_STREAMS_REMEMBERED } from '../limits.ts';

export class PastStreams {
  readonly #list: { readonly id: number; readonly byUs: boolean }[] = [];
  #next = 0;

  add(id: number, byUs: boolean): void {
    this.#list[this.#next] = { id, byUs };
    this.#next = (this.#next + 1) % CLOSED_STREAMS_REMEMBERED;
  }

  /** What became of a stream that is not open: `reset` by us, `closed` lately, or nobody knows. */
  find(id: number): 'reset' | 'closed' | 'unknown' {
    const entry = this.#list.find((one) => one.id === id);
    return entry ? (entry.byUs ? 'reset' : 'closed') : 'unknown';
  }
}
