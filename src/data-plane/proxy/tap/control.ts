// Who taps, in the main thread: one at a time, over this thread's filters and those of all workers. Asked by the admin interface.
import { toBinary } from '@bufbuild/protobuf';
import { type TapConfig, TapConfigSchema } from '#proto/envoy/config/tap/v3/common_pb.js';
import type { Command } from '../workers/protocol.ts';
import type { TapDesk } from './desk.ts';
import type { TapPlan } from './plan.ts';

export interface TapWorkers {
  command(command: Command): void;
  /** Who gets what workers show. */
  onTrace(run: (tap: number, trace: string) => void): void;
}

export class TapControl {
  readonly #desk: TapDesk;
  readonly #workers: TapWorkers | undefined;
  #lastId = 0;
  #attached: { readonly id: number; readonly send: (trace: string) => void } | undefined;

  constructor(desk: TapDesk, workers: TapWorkers | undefined) {
    this.#desk = desk;
    this.#workers = workers;
    workers?.onTrace((id, trace) => {
      if (this.#attached?.id === id) this.#attached.send(trace);
    });
  }

  get attached(): boolean {
    return this.#attached !== undefined;
  }

  knows(configId?: string): boolean {
    return this.#desk.knows(configId);
  }

  read(config: TapConfig): TapPlan {
    return this.#desk.read(config);
  }

  /** Answers with how to end it. */
  attach(configId: string, config: TapConfig, plan: TapPlan, send: (trace: string) => void): () => void {
    this.#lastId += 1;
    const id = this.#lastId;
    this.#attached = { id, send };
    this.#desk.attach(configId, plan, send);
    this.#workers?.command({ kind: 'tap', id, configId, config: toBinary(TapConfigSchema, config) });
    return () => {
      if (this.#attached?.id !== id) return;
      this.#attached = undefined;
      this.#desk.detach();
      this.#workers?.command({ kind: 'untap' });
    };
  }
}

/** A worker's way to the main thread: what is not taken in time is not shown. */
export class TraceSender {
  readonly #post: (tap: number, trace: string) => void;
  readonly #maxChars: number;
  #onTheWay = 0;

  constructor(maxChars: number, post: (tap: number, trace: string) => void) {
    this.#maxChars = maxChars;
    this.#post = post;
  }

  send(tap: number, trace: string): void {
    if (this.#onTheWay + trace.length > this.#maxChars && this.#onTheWay > 0) return;
    this.#onTheWay += trace.length;
    this.#post(tap, trace);
  }

  taken(chars: number): void {
    this.#onTheWay -= chars;
  }
}
