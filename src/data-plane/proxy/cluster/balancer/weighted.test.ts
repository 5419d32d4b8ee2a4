import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EndpointGroup } from '../host.ts';
import { context, deps, failed, hosts, seeded, sets, tally } from '../testing/fakes.ts';
import { Edf } from './edf.ts';
import { WeightedBalancer, type WeightedPolicy } from './weighted.ts';

const FLAT = { weighted: false, failOnPanic: false };
const RR: WeightedPolicy = { kind: 'round-robin', slowStart: undefined, locality: FLAT };
const LR: WeightedPolicy = {
  kind: 'least-request',
  choices: 2,
  fullScan: false,
  bias: () => 1,
  slowStart: undefined,
  locality: FLAT,
};

test('round robin takes turns, and goes on after an update', () => {
  const all = hosts(4);
  const balancer = new WeightedBalancer(RR, deps());
  balancer.update(sets(all));
  const first = Array.from({ length: 4 }, () => balancer.pick(context())!.key);
  assert.equal(new Set(first).size, 4);
  const before = balancer.pick(context())!;
  balancer.update(sets(all));
  assert.notEqual(balancer.pick(context()), before);
});

test('weights are served in proportion, evenly spread', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 12 }),
      fc.nat(),
      (weights, seed) => {
        const all = hosts(weights.length, (n) => ({ weight: weights[n]! }));
        const balancer = new WeightedBalancer(RR, deps({ seed }));
        balancer.update(sets(all));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const counts = tally(balancer, total * 10);
        // Any ten rounds hold ten times the weight of each, give or take one.
        for (const [n, weight] of weights.entries())
          assert.ok(Math.abs((counts.get(all[n]!.key) ?? 0) - weight * 10) <= 2, `${weights}: ${[...counts.values()]}`);
      },
    ),
  );
});

test('a schedule never lets a heavy item wait', () => {
  const edf = new Edf(['a', 'b', 'c'], (item) => (item === 'a' ? 2 : 1), seeded(3));
  const order = Array.from({ length: 400 }, () => edf.next());
  for (let i = 0; i + 4 <= order.length; i++) {
    const window = order.slice(i, i + 4);
    assert.ok(window.includes('a'), window.join(''));
  }
});

test('least request prefers idle hosts; with weights it divides them by the load', () => {
  const all = hosts(2);
  all[0]!.active = 5;
  const balancer = new WeightedBalancer(LR, deps());
  balancer.update(sets(all));
  const counts = tally(balancer, 400);
  // The busy one only when both draws hit it: a quarter.
  assert.ok((counts.get(all[0]!.key) ?? 0) < 160, String(counts.get(all[0]!.key)));
  const full = new WeightedBalancer({ ...LR, fullScan: true }, deps());
  full.update(sets(all));
  assert.equal(tally(full, 50).get(all[1]!.key), 50);
  const weighted = hosts(2, (n) => ({ weight: n === 0 ? 4 : 1 }));
  weighted[0]!.active = 3;
  const other = new WeightedBalancer(LR, deps());
  other.update(sets(weighted));
  // 4 / (3 + 1) = 1 / (0 + 1): alike.
  assert.ok(Math.abs(tally(other, 200).get(weighted[0]!.key)! - 100) <= 2);
  const unbiased = new WeightedBalancer({ ...LR, bias: () => 0 }, deps());
  unbiased.update(sets(weighted));
  assert.ok(Math.abs(tally(unbiased, 200).get(weighted[0]!.key)! - 160) <= 2);
});

test('random does not look at weights', () => {
  const all = hosts(2, (n) => ({ weight: n === 0 ? 100 : 1 }));
  const balancer = new WeightedBalancer({ kind: 'random', locality: FLAT }, deps());
  balancer.update(sets(all));
  assert.ok(Math.abs(tally(balancer, 1_000).get(all[0]!.key)! - 500) < 60);
});

test('a retry avoids hosts as often as it may', () => {
  const all = hosts(2);
  const balancer = new WeightedBalancer(RR, deps());
  balancer.update(sets(all));
  const avoid = (host: unknown): boolean => host === all[0];
  for (let i = 0; i < 10; i++) assert.equal(balancer.pick(context({ avoid, attempts: 3 })), all[1]);
  // Both refused: after the attempts the last one it is.
  assert.ok(balancer.pick(context({ avoid: () => true, attempts: 3 })));
});

test('panic uses every host, counts, or fails the traffic when asked to', () => {
  const all = hosts(4);
  for (const host of all.slice(1)) failed(host);
  const made = deps();
  const balancer = new WeightedBalancer(RR, made);
  balancer.update(sets(all));
  assert.equal(tally(balancer, 40).size, 4);
  assert.equal(made.counters.panic.value, 40);
  const strict = new WeightedBalancer({ ...RR, locality: { weighted: false, failOnPanic: true } }, deps());
  strict.update(sets(all));
  assert.equal(strict.pick(context()), undefined);
  const off = new WeightedBalancer(RR, deps({ panic: 0 }));
  off.update(sets(all));
  assert.equal(tally(off, 10).get(all[0]!.key), 10);
});

test('the runtime changes the panic threshold', () => {
  const all = hosts(4);
  for (const host of all.slice(2)) failed(host);
  let threshold = 50;
  const runtime = {
    version: 0,
    featureEnabled: (_key: string, fallback: boolean) => fallback,
    number: (key: string, fallback: number) => (key === 'upstream.healthy_panic_threshold' ? threshold : fallback),
    share: (_key: string, fallback: number) => fallback,
  };
  const balancer = new WeightedBalancer(RR, deps({ runtime }));
  balancer.update(sets(all));
  assert.equal(tally(balancer, 20).size, 2);
  threshold = 51;
  assert.equal(tally(balancer, 20).size, 4);
});

test('localities are drawn by weight times availability', () => {
  const group = (zone: string, weight: number): EndpointGroup => ({
    locality: { region: 'r', zone, subZone: '' },
    weight,
    metadata: {},
  });
  const near = group('a', 3);
  const far = group('b', 1);
  const all = hosts(8, (n) => {
    const own = n < 4 ? near : far;
    return { group: own, locality: own.locality };
  });
  const weighted: WeightedPolicy = { ...RR, locality: { weighted: true, failOnPanic: false } };
  const share = (): number => {
    const balancer = new WeightedBalancer(weighted, deps());
    balancer.update(sets(all));
    const counts = tally(balancer, 400);
    return all.slice(0, 4).reduce((sum, host) => sum + (counts.get(host.key) ?? 0), 0);
  };
  assert.ok(Math.abs(share() - 300) <= 4);
  // Half of the near hosts gone: 3 × 0.7 against 1.
  failed(all[0]!);
  failed(all[1]!);
  assert.ok(Math.abs(share() - 271) <= 4, String(share()));
});

test('a new host warms up', () => {
  const all = hosts(2);
  const made = deps();
  all[0]!.healthySince = made.time - 100_000;
  all[1]!.healthySince = made.time;
  const balancer = new WeightedBalancer(
    { ...RR, slowStart: { windowMs: 10_000, aggression: () => 1, minWeight: 0.1 } },
    made,
  );
  balancer.update(sets(all));
  const young = (): number => tally(balancer, 1_100).get(all[1]!.key)!;
  assert.ok(Math.abs(young() - 100) <= 5, 'a tenth of the other at first');
  made.time += 5_000;
  assert.ok(Math.abs(young() - 366) <= 10, 'half of it at half time');
  made.time += 5_000;
  assert.equal(young(), 550);
});
