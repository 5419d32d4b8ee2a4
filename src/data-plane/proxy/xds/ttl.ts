// How long resources live that were given a time to live. Used by discovery-client.ts, one table a type.
import type { Clock } from '../../../base/runtime/clock.ts';

export class TtlTable {
  readonly #clock: Clock;
  readonly #expired: (name: string) => void;
  readonly #timers = new Map<string, () => void>();

  constructor(clock: Clock, expired: (name: string) => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  /** The resource was given or confirmed: `ttlMs` begins anew; undefined = for ever. */
  set(name: string, ttlMs: number | undefined): void {
    this.drop(name);
    if (ttlMs === undefined || ttlMs <= 0) return;
    this.#timers.set(
      name,
      this.#clock.after(ttlMs, () => {
        this.#timers.delete(name);
        this.#expired(name);
      }),
    );
  }

  drop(name: string): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }

  clear(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }
}
