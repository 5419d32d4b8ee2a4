// A header block that comes in several frames: collected, within a limit, until its end. Used by the session.
import { HEADER_BLOCK_FACTOR } from '../limits.ts';
import { MAX_FRAME } from './h2-frames.ts';

export class HeaderBlock {
  /** The stream whose block is not complete; 0 = none. */
  id = 0;
  readonly #limit: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(maxHeadBytes: number) {
    this.#limit = HEADER_BLOCK_FACTOR * maxHeadBytes + MAX_FRAME;
  }

  begin(id: number): void {
    this.id = id;
    this.#bytes = 0;
  }

  /** False: the block is too large. */
  add(bytes: Buffer, start: number, end: number): boolean {
    this.#bytes += end - start;
    if (this.#bytes > this.#limit) return false;
    if (end > start) this.#parts.push(Buffer.from(bytes.subarray(start, end)));
    return true;
  }

  /** The whole block; the next one may begin. */
  take(): Buffer {
    const whole = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.drop();
    return whole;
  }

  drop(): void {
    this.#parts = [];
    this.id = 0;
  }
}
