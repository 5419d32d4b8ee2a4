// Hosts, seeded chance and a clock that only moves when told: for the tests of this folder.
import type { Clock } from '../../../../base/runtime/clock.ts';
import { EMPTY_RUNTIME, type RuntimeView } from '../../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../../stats/stats.ts';
import { BalancerCounters, type BalancerDeps } from '../balancer/balancer.ts';
import { bareHost, HEALTH, Host, type HostSpec } from '../host.ts';
import { DEFAULT_POLICY, hostSets } from '../host-set.ts';
import { type LbContext, NO_CONTEXT } from '../lb-context.ts';

/** A sequence between 0 and 1 that the seed decides. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class FakeClock implements Clock {
  #now: number;
  #timers: { at: number; run: () => void }[] = [];

  constructor(now = 1_000_000) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { at: this.#now + delayMs, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  /** Lets `ms` pass; timers run in order, those they set too. */
  pass(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = end;
  }
}

export function spec(n: number, extra: Partial<HostSpec> = {}): HostSpec {
  return { ...bareHost({ kind: 'ip', ip: `10.0.${n >> 8}.${n & 255}`, port: 80 }), ...extra };
}

export function hosts(count: number, extra: (n: number) => Partial<HostSpec> = () => ({})): Host[] {
  return Array.from({ length: count }, (_, n) => new Host(spec(n, extra(n))));
}

export function failed(host: Host): Host {
  host.set(HEALTH.failedActiveHc, true);
  return host;
}

export function sets(
  all: readonly Host[],
  policy: { overprovisioning: number; weightedHealth: boolean } = DEFAULT_POLICY,
) {
  return hostSets(all, policy);
}

export interface FakeDeps extends BalancerDeps {
  readonly store: StatsStore;
  /** What `active` answers. */
  running: number;
  time: number;
}

export function deps(extra: { seed?: number; panic?: number; runtime?: RuntimeView } = {}): FakeDeps {
  const store = new StatsStore();
  const scope = new StatsScope(store, 'cluster.x.');
  const made: FakeDeps = {
    random: seeded(extra.seed ?? 7),
    now: () => made.time,
    runtime: extra.runtime ?? EMPTY_RUNTIME,
    scope,
    counters: new BalancerCounters(scope),
    panicThreshold: extra.panic ?? 50,
    active: () => made.running,
    store,
    running: 0,
    time: 1_000_000,
  };
  return made;
}

export function context(extra: Partial<LbContext> = {}): LbContext {
  return { ...NO_CONTEXT, ...extra };
}

/** How often each host came up in `picks` picks, by key; '' counts picks of nothing. */
export function tally(
  balancer: { pick(context: LbContext): Host | undefined },
  picks: number,
  from: (n: number) => LbContext = () => NO_CONTEXT,
): Map<string, number> {
  const out = new Map<string, number>();
  for (let i = 0; i < picks; i++) {
    const key = balancer.pick(from(i))?.key ?? '';
    out.set(key, (out.get(key) ?? 0) + 1);
  }
  return out;
}
