// The retries of one request: what its policy and its own headers allow, how many are left, how long to wait. Owned by
// router-exchange.ts; made only when something asks for retries.

import type { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { MAX_STEERED_HEADERS } from '../limits.ts';
import type { RequestView } from '../route/matchers.ts';
import {
  NO_RETRY,
  RETRY,
  type RetrySettings,
  retriesFailure,
  retriesStatus,
  retryBits,
  type TryFailure,
} from '../route/retry.ts';
import type { Breaker } from '../upstream/breakers.ts';
import { STEER } from './router-request.ts';

export type RetryDecision = 'retry' | 'no' | 'limit' | 'overflow';

/** Unix time in seconds beyond which a reset header is nonsense. */
const MAX_UNIX_S = 1e11;

const NO_NAMES: ReadonlySet<string> = new Set();

export class RetryState {
  readonly settings: RetrySettings;
  readonly #on: number;
  readonly #codes: ReadonlySet<number>;
  /** Of the request; not interned, since callers choose them. */
  readonly #names: ReadonlySet<string>;
  #left: number;
  #made = 0;
  /** ms that the last answer asked to wait; -1 = it did not. */
  #asked = -1;

  private constructor(settings: RetrySettings, stream: HttpStream, steered: boolean) {
    this.settings = settings;
    let { on, retries, statusCodes } = settings;
    let names: ReadonlySet<string> = NO_NAMES;
    const { headers } = stream;
    if (steered) {
      on |= retryBits(headers.get(STEER.retryOn) ?? '') | retryBits(headers.get(STEER.retryGrpcOn) ?? '');
      const max = headers.get(STEER.maxRetries);
      if (max !== undefined && /^\d{1,9}$/.test(max)) retries = Number(max);
      const codes = headers.get(STEER.statusCodes);
      if (codes !== undefined) statusCodes = new Set([...statusCodes, ...list(codes).map(Number)]);
      names = new Set(list(headers.get(STEER.headerNames) ?? '').map((name) => name.toLowerCase()));
    }
    const wanted = settings.requestHeaders;
    if (wanted.length > 0 && !wanted.some((test) => test(stream))) on = 0;
    this.#on = on;
    this.#left = retries;
    this.#codes = statusCodes;
    this.#names = names;
  }

  /** Undefined: nothing is ever tried again. */
  static create(settings: RetrySettings | undefined, stream: HttpStream, steered: boolean): RetryState | undefined {
    const asked = steered && (stream.headers.has(STEER.retryOn) || stream.headers.has(STEER.retryGrpcOn));
    if (!asked && (!settings || settings.on === 0)) return undefined;
    return new RetryState(settings ?? NO_RETRY, stream, steered);
  }

  /** Tries made beyond the first. */
  get made(): number {
    return this.#made;
  }

  onStatus(status: number, headers: HeaderMap, stream: HttpStream, breaker: Breaker): RetryDecision {
    this.#asked = -1;
    if (!this.#statusCounts(status, headers, stream)) return 'no';
    const decision = this.#take(breaker);
    if (decision === 'retry') this.#asked = this.#resetWait(headers, stream.manager.deps.clock.now());
    return decision;
  }

  onFailure(failure: TryFailure, breaker: Breaker): RetryDecision {
    this.#asked = -1;
    return retriesFailure(this.#on, failure) ? this.#take(breaker) : 'no';
  }

  /** The last answer said how long to wait. */
  get asked(): boolean {
    return this.#asked >= 0;
  }

  /** ms to wait before the next try. */
  wait(random: () => number): number {
    const { baseMs, maxMs } = this.settings;
    if (this.#asked >= 0) return this.#asked * (1 + random() / 2);
    return random() * Math.min(baseMs * 2 ** (this.#made - 1), maxMs);
  }

  #take(breaker: Breaker): RetryDecision {
    if (this.#left <= 0) return 'limit';
    if (!breaker.tryEnter()) return 'overflow';
    this.#left -= 1;
    this.#made += 1;
    return 'retry';
  }

  #statusCounts(status: number, headers: HeaderMap, stream: HttpStream): boolean {
    const on = this.#on;
    if (headers.has(H.rateLimited)) return (on & RETRY['envoy-ratelimited']) !== 0;
    if (retriesStatus(on, status, headers.get(H.grpcStatus))) return true;
    if ((on & RETRY['retriable-status-codes']) !== 0 && this.#codes.has(status)) return true;
    if ((on & RETRY['retriable-headers']) === 0) return false;
    if (this.#names.size > 0 && hasAny(headers, this.#names)) return true;
    const tests = this.settings.headers;
    if (tests.length === 0) return false;
    const view: RequestView = { method: '', path: '', authority: '', scheme: '', headers, info: stream.info };
    return tests.some((test) => test(view));
  }

  /** The first reset header that can be read. */
  #resetWait(headers: HeaderMap, now: number): number {
    const { resetHeaders, resetMaxMs } = this.settings;
    for (const { name, unix } of resetHeaders) {
      const text = headers.get(name);
      if (text === undefined || !/^\d{1,15}$/.test(text)) continue;
      const value = Number(text);
      if (unix && (value > MAX_UNIX_S || value * 1000 < now)) continue;
      const ms = unix ? value * 1000 - now : value * 1000;
      if (ms <= resetMaxMs) return ms;
    }
    return -1;
  }
}

function hasAny(headers: HeaderMap, names: ReadonlySet<string>): boolean {
  let found = false;
  headers.forEach((name) => {
    found ||= names.has(name.toLowerCase());
  });
  return found;
}

function list(text: string): string[] {
  return text
    .split(',', MAX_STEERED_HEADERS)
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
