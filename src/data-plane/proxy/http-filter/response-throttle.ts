// Slows a response down to so many KiB a second: after a burst of one second's worth, a twentieth of it every 50 ms. Used
// by fault injection.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { MAX_THROTTLED_BYTES } from '../limits.ts';
import { TokenBucket } from './token-bucket.ts';

const SLICES = 20;
const SLICE_MS = 1000 / SLICES;

export class ResponseThrottle {
  readonly #stream: HttpStream;
  readonly #index: number;
  readonly #clock: Clock;
  readonly #bucket: TokenBucket;
  readonly #sliceBytes: number;
  readonly #queue: Buffer[] = [];
  #queued = 0;
  #ended = false;
  #trailers: HeaderMap | undefined;
  #cancel: (() => void) | undefined;

  constructor(stream: HttpStream, index: number, kbps: number, clock: Clock) {
    this.#stream = stream;
    this.#index = index;
    this.#clock = clock;
    this.#sliceBytes = Math.max(1, Math.floor((kbps * 1024) / SLICES));
    this.#bucket = new TokenBucket({ maxTokens: SLICES, tokensPerFill: 1, fillMs: SLICE_MS }, clock);
  }

  add(bytes: Buffer, start: number, end: number): void {
    this.#queue.push(Buffer.from(bytes.subarray(start, end)));
    this.#queued += end - start;
    if (this.#queued > MAX_THROTTLED_BYTES) this.#stream.holdResponse(true);
    if (!this.#cancel) this.#send();
  }

  end(trailers: HeaderMap | undefined): 'continue' | 'taken' {
    if (this.#queued === 0) return 'continue';
    this.#ended = true;
    this.#trailers = trailers;
    return 'taken';
  }

  stop(): void {
    this.#cancel?.();
    this.#queue.length = 0;
  }

  #send(): void {
    const stream = this.#stream;
    while (this.#queued > 0 && !stream.finished) {
      if (!this.#bucket.take()) {
        this.#cancel = this.#clock.after(SLICE_MS, () => {
          this.#cancel = undefined;
          this.#send();
        });
        return;
      }
      this.#sendSlice();
    }
    if (stream.finished) return;
    if (this.#queued <= MAX_THROTTLED_BYTES / 2) stream.holdResponse(false);
    if (this.#ended && this.#queued === 0) stream.passResponseEnd(this.#index, this.#trailers);
  }

  #sendSlice(): void {
    let left = this.#sliceBytes;
    while (left > 0) {
      const first = this.#queue[0];
      if (!first) return;
      const size = Math.min(left, first.length);
      if (size === first.length) this.#queue.shift();
      else this.#queue[0] = first.subarray(size);
      left -= size;
      this.#queued -= size;
      this.#stream.passResponseData(this.#index, first, 0, size);
      if (this.#stream.finished) return;
    }
  }
}
