// Many timers of few durations: those of one duration end in the order they began, so a list and one real timer serve them
// all. For time-outs that almost never fire; an entry costs one small object. Used by the proxy's streams.
import type { Clock } from './clock.ts';

/** A timer that runs; `cancel` is harmless when it has ended. */
export class Deadline {
  /** @internal */ at = 0;
  /** @internal */ previous: Deadline | undefined;
  /** @internal */ next: Deadline | undefined;
  /** @internal */ list: DeadlineList | undefined;
  /** @internal */ run: () => void;

  constructor(run: () => void) {
    this.run = run;
  }

  cancel(): void {
    this.list?.remove(this);
  }
}

/** Deadlines of one duration, the next to end first. */
class DeadlineList {
  readonly #clock: Clock;
  readonly #ms: number;
  #first: Deadline | undefined;
  #last: Deadline | undefined;
  /** A real timer that is set stays set: cancelling and setting one for each request is what this saves. */
  #armed = false;

  constructor(clock: Clock, ms: number) {
    this.#clock = clock;
    this.#ms = ms;
  }

  add(deadline: Deadline): void {
    deadline.at = this.#clock.now() + this.#ms;
    deadline.list = this;
    deadline.previous = this.#last;
    if (this.#last) this.#last.next = deadline;
    else this.#first = deadline;
    this.#last = deadline;
    if (!this.#armed) this.#arm(this.#ms);
  }

  remove(deadline: Deadline): void {
    const { previous, next } = deadline;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    deadline.list = undefined;
    deadline.previous = undefined;
    deadline.next = undefined;
  }

  #arm(ms: number): void {
    this.#armed = true;
    this.#clock.after(ms, () => {
      this.#armed = false;
      const now = this.#clock.now();
      for (let due = this.#first; due && due.at <= now; due = this.#first) {
        this.remove(due);
        due.run();
      }
      // A clock that was set back would wait too long: at most one duration.
      if (this.#first && !this.#armed) this.#arm(Math.min(this.#ms, Math.max(1, this.#first.at - now)));
    });
  }
}

/** Durations that keep a list; others get timers of their own. */
const MAX_DURATIONS = 256;

export class Deadlines {
  readonly #clock: Clock;
  readonly #lists = new Map<number, DeadlineList>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `run` once after `ms`. */
  after(ms: number, run: () => void): Deadline {
    const deadline = new Deadline(run);
    this.#listOf(ms).add(deadline);
    return deadline;
  }

  #listOf(ms: number): DeadlineList {
    let list = this.#lists.get(ms);
    if (!list) {
      list = new DeadlineList(this.#clock, ms);
      if (this.#lists.size < MAX_DURATIONS) this.#lists.set(ms, list);
    }
    return list;
  }
}
