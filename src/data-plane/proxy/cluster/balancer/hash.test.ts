import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Hash64, xxHash64 } from '../hash64.ts';
import { context, deps, failed, hosts, sets, tally } from '../testing/fakes.ts';
import { HashBalancer, type HashPolicy } from './hash.ts';
import { buildMaglev, buildRing } from './hash-table.ts';

const PLAIN = { useHostname: false, balanceFactor: 0, localityWeighted: false };
const RING: HashPolicy = { kind: 'ring-hash', minSize: 1024, maxSize: 8 * 1024 * 1024, murmur: false, hashing: PLAIN };
const MAGLEV: HashPolicy = { kind: 'maglev', tableSize: 65_537, hashing: PLAIN };
const SMALL: HashPolicy = { ...MAGLEV, tableSize: 103 };
const key = (n: number): Hash64 => xxHash64(Buffer.from(`key-${n}`));
const byKey = (n: number) => context({ hash: key(n) });

/** Hosts that are hashed by letters, whatever their address; weights 1, 2, 3 … */
const lettered = () => hosts(5, (n) => ({ weight: n + 1, metadata: { 'envoy.lb': { hash_key: 'edcba'[n]! } } }));

test('the same key goes to the host stock Envoy takes', () => {
  // Recorded from Envoy 1.40 with these hosts: index of the host for key-0, key-1, …
  const choose = (policy: HashPolicy): string => {
    const all = lettered();
    const balancer = new HashBalancer(policy, deps());
    balancer.update(sets(all));
    return Array.from({ length: 40 }, (_, n) => all.indexOf(balancer.pick(byKey(n))!)).join('');
  };
  assert.equal(choose({ ...RING, minSize: 100 }), GOLDEN.ring);
  assert.equal(choose({ ...RING, murmur: true }), GOLDEN.murmur);
  assert.equal(choose(SMALL), GOLDEN.maglev);
});
const GOLDEN = {
  ring: '3342212324332434342021444143443242213204',
  murmur: '3043321344234244233412222342342331234323',
  maglev: '1434244143320043444411344244412244344343',
};

test('every table is shared out in proportion to weights', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 9 }), (weights) => {
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      const all = hosts(weights.length, (n) => ({ weight: weights[n]! }));
      const weighted = all.map((host) => ({ host, weight: host.weight / total }));
      const maglev = buildMaglev(weighted, 4_099, false);
      assert.equal(maglev.size, 4_099);
      assert.ok(maglev.most - maglev.least <= 4_099 * ((Math.max(...weights) - Math.min(...weights)) / total) + 2);
      const ring = buildRing(weighted, { minSize: 64, maxSize: 4_096, murmur: false, useHostname: false });
      assert.ok(ring.size >= 64 && ring.size <= 4_096 + 1);
    }),
    { numRuns: 30 },
  );
});

test('a host that goes takes only its own keys along', () => {
  for (const policy of [RING, MAGLEV]) {
    const all = hosts(10);
    const balancer = new HashBalancer(policy, deps());
    balancer.update(sets(all));
    const before = Array.from({ length: 1_000 }, (_, n) => balancer.pick(byKey(n)));
    failed(all[3]!);
    balancer.update(sets(all));
    const after = Array.from({ length: 1_000 }, (_, n) => balancer.pick(byKey(n)));
    let moved = 0;
    for (const [i, host] of before.entries()) {
      assert.notEqual(after[i], all[3]);
      if (host !== all[3] && host !== after[i]) moved += 1;
    }
    // Few: the ring gives the others more entries, Maglev shifts some places.
    assert.ok(moved <= 130, `${policy.kind}: ${moved} keys moved`);
  }
});

test('without a hash any host is taken; a retry finds another', () => {
  const all = hosts(4);
  const balancer = new HashBalancer(MAGLEV, deps());
  balancer.update(sets(all));
  assert.equal(tally(balancer, 200).size, 4);
  for (let n = 0; n < 50; n++) {
    const first = balancer.pick(byKey(n))!;
    const second = balancer.pick(context({ hash: key(n), avoid: (host) => host === first, attempts: 20 }));
    assert.notEqual(second, first);
  }
});

test('the table stays when an update changes nothing of it', () => {
  const all = hosts(3);
  const made = deps();
  const balancer = new HashBalancer(RING, made);
  balancer.update(sets(all));
  balancer.pick(byKey(1));
  const size = made.scope.gauge('ring_hash_lb.size');
  assert.equal(size.value, 1_026);
  size.value = -1;
  balancer.update(sets(all));
  balancer.pick(byKey(1));
  assert.equal(size.value, -1, 'not built again');
  all[0]!.spec = { ...all[0]!.spec, weight: 2 };
  balancer.update(sets(all));
  balancer.pick(byKey(1));
  assert.notEqual(size.value, -1, 'weights have changed');
});

test('a bound on the load sends what is too much elsewhere, the same for each key', () => {
  const all = hosts(4);
  const made = deps();
  const bounded: HashPolicy = { ...MAGLEV, hashing: { ...PLAIN, balanceFactor: 125 } };
  const balancer = new HashBalancer(bounded, made);
  balancer.update(sets(all));
  const home = balancer.pick(byKey(1))!;
  home.active = 3;
  made.running = 3;
  // 4 requests with 125 %: two slots a host.
  const other = balancer.pick(byKey(1))!;
  assert.notEqual(other, home);
  for (let i = 0; i < 10; i++) assert.equal(balancer.pick(byKey(1)), other);
  home.active = 1;
  assert.equal(balancer.pick(byKey(1)), home);
});

test('panic puts every host into the table', () => {
  const all = hosts(4);
  for (const host of all.slice(1)) failed(host);
  const made = deps();
  const balancer = new HashBalancer(MAGLEV, made);
  balancer.update(sets(all));
  assert.equal(tally(balancer, 100, byKey).size, 4);
  const off = new HashBalancer(MAGLEV, deps({ panic: 0 }));
  off.update(sets(all));
  assert.equal(tally(off, 100, byKey).size, 1);
  for (const host of all) failed(host);
  off.update(sets(all));
  assert.equal(off.pick(byKey(1)), undefined);
});
