// Where the tap filters of a thread and who taps them meet. Filters stand here by their config id; while nobody taps, each of them
// asks one field a request. Made by the engine.
import type { TapConfig } from '#proto/envoy/config/tap/v3/common_pb.js';
import { MAX_TAP_HELD_BYTES } from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import { readTapPlan, type TapPlan } from './plan.ts';

/** What one tap of this thread is doing; gone when `open` is false. */
export interface ActiveTap {
  readonly plan: TapPlan;
  readonly send: (trace: string) => void;
  open: boolean;
  /** Bytes of bodies kept for traces that are not finished. */
  heldBytes: number;
}

/** A filter's place. */
export interface TapPoint {
  readonly configId: string;
  active: ActiveTap | undefined;
}

export class TapDesk {
  readonly #runtime: RuntimeView;
  readonly #points = new Set<TapPoint>();
  #active: { readonly configId: string; readonly tap: ActiveTap } | undefined;

  constructor(runtime: RuntimeView) {
    this.#runtime = runtime;
  }

  register(configId: string): TapPoint {
    const active = this.#active?.configId === configId ? this.#active.tap : undefined;
    const point: TapPoint = { configId, active };
    this.#points.add(point);
    return point;
  }

  forget(point: TapPoint): void {
    this.#points.delete(point);
  }

  /** Whether any filter, or one with this id, can be tapped. */
  knows(configId?: string): boolean {
    if (configId === undefined) return this.#points.size > 0;
    for (const point of this.#points) if (point.configId === configId) return true;
    return false;
  }

  /** Somebody taps. */
  get active(): boolean {
    return this.#active !== undefined;
  }

  /** Throws ConfigError when it cannot be used. */
  read(config: TapConfig): TapPlan {
    return readTapPlan(config, this.#runtime);
  }

  attach(configId: string, plan: TapPlan, send: (trace: string) => void): void {
    this.detach();
    const tap: ActiveTap = { plan, send, open: true, heldBytes: 0 };
    this.#active = { configId, tap };
    for (const point of this.#points) if (point.configId === configId) point.active = tap;
  }

  detach(): void {
    if (this.#active) this.#active.tap.open = false;
    this.#active = undefined;
    for (const point of this.#points) point.active = undefined;
  }
}

/** The first bytes of a body. */
export class BodyCopy {
  readonly #tap: ActiveTap;
  readonly #max: number;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  /** Something of it came. */
  seen = false;
  truncated = false;

  constructor(tap: ActiveTap, max: number) {
    this.#tap = tap;
    this.#max = max;
  }

  add(bytes: Buffer, start: number, end: number): void {
    this.seen = true;
    const room = Math.min(this.#max - this.#bytes, MAX_TAP_HELD_BYTES - this.#tap.heldBytes);
    const taken = Math.max(0, Math.min(room, end - start));
    if (taken < end - start) this.truncated = true;
    if (taken === 0) return;
    this.#chunks.push(Buffer.from(bytes.subarray(start, start + taken)));
    this.#bytes += taken;
    this.#tap.heldBytes += taken;
  }

  take(): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks.length = 0;
    this.#tap.heldBytes -= this.#bytes;
    this.#bytes = 0;
    return all;
  }
}
