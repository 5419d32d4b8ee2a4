// Shared memory by name: the main thread makes a block when it builds what counts there, and tells the workers before they
// build the same. Kept as long as the main thread uses it.
import type { Logger } from '../../../base/runtime/log.ts';
import type { SharedBlocks } from '../tally/numbers.ts';
import { clearThread } from '../tally/places.ts';
import type { Told } from './protocol.ts';

interface Entry {
  readonly block: WeakRef<SharedArrayBuffer>;
  readonly counts: boolean;
}

/** The main thread's side. It counts too: connections of the admin interface. */
export class BlockMaker implements SharedBlocks {
  readonly thread: number;
  readonly threads: number;
  readonly #tell: (told: Told) => void;
  readonly #entries = new Map<string, Entry>();
  readonly #gone: FinalizationRegistry<string>;

  constructor(workers: number, tell: (told: Told) => void) {
    this.thread = workers;
    this.threads = workers + 1;
    this.#tell = tell;
    this.#gone = new FinalizationRegistry((key) => {
      // Another of the same name may have come since.
      if (this.#entries.get(key)?.block.deref()) return;
      this.#entries.delete(key);
      tell({ kind: 'block-gone', key });
    });
  }

  get(key: string, bytes: number, counts: boolean, fresh: (block: SharedArrayBuffer) => void): SharedArrayBuffer {
    const known = this.#entries.get(key)?.block.deref();
    if (known) return known;
    const block = new SharedArrayBuffer(bytes);
    fresh(block);
    this.#entries.set(key, { block: new WeakRef(block), counts });
    this.#gone.register(block, key);
    this.#tell({ kind: 'block', key, block });
    return block;
  }

  /** For a worker that starts now. */
  known(): Told[] {
    const out: Told[] = [];
    for (const [key, entry] of this.#entries) {
      const block = entry.block.deref();
      if (block) out.push({ kind: 'block', key, block });
    }
    return out;
  }

  /** A worker is gone: what it used is free. */
  ended(worker: number): void {
    for (const { block, counts } of this.#entries.values()) {
      const living = counts ? block.deref() : undefined;
      if (living) clearThread(living, worker, this.threads);
    }
  }
}

/** A worker's side. */
export class BlockBook implements SharedBlocks {
  readonly thread: number;
  readonly threads: number;
  readonly #log: Logger;
  readonly #known = new Map<string, SharedArrayBuffer>();

  constructor(worker: number, workers: number, log: Logger) {
    this.thread = worker;
    this.threads = workers + 1;
    this.#log = log;
  }

  take(told: Extract<Told, { kind: 'block' | 'block-gone' }>): void {
    if (told.kind === 'block') this.#known.set(told.key, told.block);
    else this.#known.delete(told.key);
  }

  get(key: string, bytes: number, _counts: boolean, fresh: (block: SharedArrayBuffer) => void): SharedArrayBuffer {
    const known = this.#known.get(key);
    if (known) return known;
    // The main thread builds the same with the same code before; a worker that finds nothing is broken, and says so.
    this.#log.error('a limit counts in this worker alone', { limit: key });
    const block = new SharedArrayBuffer(bytes);
    fresh(block);
    return block;
  }
}
