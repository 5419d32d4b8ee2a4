// The time-outs of one try: its whole time, silence of the upstream, and the longest stream. Owned by router-exchange.ts;
// made only for requests that have such time-outs.
import type { HttpStream } from '../http/stream.ts';
import type { Timeouts } from './router-request.ts';

export interface TryTimerOwner {
  onTryTimeout(kind: 'per-try' | 'idle'): void;
  onMaxDuration(): void;
}

export class TryTimers {
  readonly #stream: HttpStream;
  readonly #timeouts: Timeouts;
  readonly #owner: TryTimerOwner;
  #cancelTry: (() => void) | undefined;
  #cancelIdle: (() => void) | undefined;
  #cancelDuration: (() => void) | undefined;

  private constructor(stream: HttpStream, timeouts: Timeouts, owner: TryTimerOwner) {
    this.#stream = stream;
    this.#timeouts = timeouts;
    this.#owner = owner;
  }

  static create(stream: HttpStream, timeouts: Timeouts, owner: TryTimerOwner): TryTimers | undefined {
    const { perTry, perTryIdle, maxStream } = timeouts;
    return perTry > 0 || perTryIdle > 0 || maxStream > 0 ? new TryTimers(stream, timeouts, owner) : undefined;
  }

  start(): void {
    this.stop();
    const { perTry, maxStream } = this.#timeouts;
    if (perTry > 0) this.#cancelTry = this.#stream.after(perTry, () => this.#owner.onTryTimeout('per-try'));
    if (maxStream > 0) this.#cancelDuration = this.#stream.after(maxStream, () => this.#owner.onMaxDuration());
    this.touch();
  }

  /** The head of the answer came: only its silence counts from now on. */
  answered(): void {
    this.#cancelTry?.();
    this.#cancelTry = undefined;
    this.touch();
  }

  /** The upstream said something. */
  touch(): void {
    const { perTryIdle } = this.#timeouts;
    if (perTryIdle <= 0) return;
    this.#cancelIdle?.();
    this.#cancelIdle = this.#stream.manager.deps.clock.after(perTryIdle, () => this.#owner.onTryTimeout('idle'));
  }

  stop(): void {
    this.#cancelTry?.();
    this.#cancelIdle?.();
    this.#cancelDuration?.();
    this.#cancelTry = undefined;
    this.#cancelIdle = undefined;
    this.#cancelDuration = undefined;
  }
}
