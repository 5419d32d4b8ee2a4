// Flood protection of an HTTP/2 connection: counts frames that cost more than they are worth. Used by the session.
import type { Clock } from '../../../base/runtime/clock.ts';
import { MAX_CONTROL_FRAMES_PER_SECOND } from '../limits.ts';
import { ENHANCE_YOUR_CALM, NO_ERROR } from './h2-frames.ts';
import type { H2Counters, H2Options } from './h2-options.ts';

/** Every method returns the code of a connection error, 0 for none; `details` says why. */
export class H2Guard {
  readonly #options: H2Options;
  readonly #counters: H2Counters;
  readonly #clock: Clock;
  /** DATA frames sent and streams opened, which earn WINDOW_UPDATE and PRIORITY frames. */
  dataFrames = 0;
  streams = 0;
  details = '';
  #empty = 0;
  #priorities = 0;
  #windowUpdates = 0;
  #controls = 0;
  #second = 0;

  constructor(options: H2Options, counters: H2Counters, clock: Clock) {
    this.#options = options;
    this.#counters = counters;
    this.#clock = clock;
  }

  /** HEADERS, CONTINUATION or DATA with `length` bytes of payload. */
  payload(length: number, endStream: boolean): number {
    if (length > 0 || endStream) {
      this.#empty = 0;
      return NO_ERROR;
    }
    this.#empty += 1;
    return this.#empty <= this.#options.maxEmptyFrames
      ? NO_ERROR
      : this.#flood('emptyFramesFlood', 'http2.inbound_empty_frames_flood');
  }

  priority(): number {
    this.#priorities += 1;
    return this.#priorities <= this.#options.maxPriorityPerStream * (1 + this.streams)
      ? NO_ERROR
      : this.#flood('priorityFlood', 'http2.inbound_priority_frames_flood');
  }

  windowUpdate(): number {
    this.#windowUpdates += 1;
    const earned = 5 + 2 * (this.streams + this.#options.maxWindowUpdatesPerData * this.dataFrames);
    return this.#windowUpdates <= earned
      ? NO_ERROR
      : this.#flood('windowUpdateFlood', 'http2.inbound_window_update_frames_flood');
  }

  /** PING, SETTINGS and what we ignore: any number over time, but not all at once. */
  control(): number {
    this.#controls += 1;
    if (this.#controls <= MAX_CONTROL_FRAMES_PER_SECOND) return NO_ERROR;
    const now = this.#clock.now();
    const fast = now - this.#second < 1000;
    this.#second = now;
    this.#controls = 0;
    return fast ? this.#flood('controlFlood', 'http2.inbound_control_frames_flood') : NO_ERROR;
  }

  #flood(
    counter: 'emptyFramesFlood' | 'priorityFlood' | 'windowUpdateFlood' | 'controlFlood',
    details: string,
  ): number {
    this.#counters[counter].value += 1;
    this.details = details;
    return ENHANCE_YOUR_CALM;
  }
}
