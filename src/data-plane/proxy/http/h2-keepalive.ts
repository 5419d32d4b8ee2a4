// Regular PING of an HTTP/2 connection (connection_keepalive): a peer that does not answer in time is gone. Used by both
// sides.
import type { Clock } from '../../../base/runtime/clock.ts';
import { PING } from './h2-frames.ts';
import type { KeepaliveOptions } from './h2-options.ts';
import type { H2Session } from './h2-session.ts';

export class Keepalive {
  readonly #options: KeepaliveOptions;
  readonly #session: H2Session;
  readonly #deps: { readonly clock: Clock; readonly random: () => number };
  readonly #lost: () => void;
  #cancelNext: (() => void) | undefined;
  #cancelTimeout: (() => void) | undefined;

  /** Undefined when nothing is configured. */
  static make(
    options: KeepaliveOptions | undefined,
    session: H2Session,
    deps: { readonly clock: Clock; readonly random: () => number },
    lost: () => void,
  ): Keepalive | undefined {
    return options ? new Keepalive(options, session, deps, lost) : undefined;
  }

  private constructor(
    options: KeepaliveOptions,
    session: H2Session,
    deps: { readonly clock: Clock; readonly random: () => number },
    lost: () => void,
  ) {
    this.#options = options;
    this.#session = session;
    this.#deps = deps;
    this.#lost = lost;
    session.onPong = () => this.#answered();
    this.#schedule();
  }

  /** A connection that was idle is asked before it is used again. */
  beforeRequest(lastActive: number): void {
    const { idleMs } = this.#options;
    if (idleMs > 0 && this.#deps.clock.now() - lastActive >= idleMs) this.#ping();
  }

  stop(): void {
    this.#cancelNext?.();
    this.#cancelTimeout?.();
    this.#cancelNext = undefined;
    this.#cancelTimeout = undefined;
  }

  #schedule(): void {
    const { intervalMs, jitter } = this.#options;
    if (intervalMs <= 0 || this.#session.dead) return;
    this.#cancelNext?.();
    this.#cancelNext = this.#deps.clock.after(intervalMs * (1 + jitter * this.#deps.random()), () => this.#ping());
  }

  #ping(): void {
    if (this.#session.dead || this.#cancelTimeout) return;
    this.#session.writer.numbers(PING, 0, 0, 0);
    this.#cancelTimeout = this.#deps.clock.after(this.#options.timeoutMs, () => {
      this.stop();
      this.#lost();
    });
  }

  #answered(): void {
    if (!this.#cancelTimeout) return;
    this.#cancelTimeout();
    this.#cancelTimeout = undefined;
    this.#schedule();
  }
}
