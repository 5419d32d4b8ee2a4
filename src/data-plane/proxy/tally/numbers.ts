// The numbers that limits count by when there are workers: the same for all threads, found by name. Given to clusters,
// listeners and filters by the engine; absent when one thread serves alone.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Bucket, BucketSettings } from '../http-filter/token-bucket.ts';
import { CELLS_PER_THREAD, SharedPlaces } from './places.ts';
import { BUCKET_BYTES, fillBucket, SharedTokenBucket } from './shared-bucket.ts';

/** Memory by name. The main thread makes it, and tells the workers; see workers/blocks.ts. */
export interface SharedBlocks {
  /** The number of this thread among `threads`. */
  readonly thread: number;
  readonly threads: number;
  /** `fresh` prepares a block that nobody had before. `counts`: a thread has a part of its own that ends with it. */
  get(key: string, bytes: number, counts: boolean, fresh: (block: SharedArrayBuffer) => void): SharedArrayBuffer;
}

export class SharedNumbers {
  readonly #blocks: SharedBlocks;
  readonly #prefix: string;
  readonly #from: string;

  constructor(blocks: SharedBlocks, prefix = '', from = '') {
    this.#blocks = blocks;
    this.#prefix = prefix;
    this.#from = from;
  }

  /** Numbers of something whose name is `name` in every thread, whatever place (`path`) it has in a configuration. */
  under(name: string, path: string): SharedNumbers {
    return new SharedNumbers(this.#blocks, `${name} `, path);
  }

  /** Counters of one thing, by index below CELLS_PER_THREAD. */
  counters(path: string): (index: number) => SharedPlaces {
    const { thread, threads } = this.#blocks;
    const block = this.#blocks.get(this.#key(path), threads * CELLS_PER_THREAD * 4, true, () => {});
    const cells = new Int32Array(block);
    return (index) => new SharedPlaces(cells, thread, index);
  }

  bucket(path: string, settings: BucketSettings, clock: Clock): Bucket {
    const { maxTokens, tokensPerFill, fillMs } = settings;
    const key = `${this.#key(path)} ${maxTokens} ${tokensPerFill} ${fillMs}`;
    const block = this.#blocks.get(key, BUCKET_BYTES, false, (made) => fillBucket(made, settings, clock.now()));
    return new SharedTokenBucket(settings, block, clock);
  }

  #key(path: string): string {
    const inside = this.#from !== '' && path.startsWith(this.#from) ? path.slice(this.#from.length) : path;
    return this.#prefix + inside;
  }
}
