import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { HEALTH, type Host } from '../host.ts';
import { failed, hosts, sets } from '../testing/fakes.ts';
import { drawPriority, priorityLoad } from './priority-load.ts';

/** Hosts of several priorities: [healthy, degraded, unhealthy] of each. */
function priorities(counts: readonly (readonly [number, number, number])[]): Host[] {
  return counts.flatMap(([good, degraded, bad], priority) => {
    const list = hosts(good + degraded + bad, () => ({ priority }));
    for (const host of list.slice(good, good + degraded)) host.set(HEALTH.degradedActiveHc, true);
    for (const host of list.slice(good + degraded)) failed(host);
    return list;
  });
}
const load = (counts: readonly (readonly [number, number, number])[], panic = 50) =>
  priorityLoad(sets(priorities(counts)), panic);

test('a priority keeps everything down to 72 % health, then spills over', () => {
  assert.deepEqual(
    load([
      [10, 0, 0],
      [10, 0, 0],
    ]).healthy,
    [100, 0],
  );
  assert.deepEqual(
    load([
      [72, 0, 28],
      [10, 0, 0],
    ]).healthy,
    [100, 0],
  );
  assert.deepEqual(
    load([
      [50, 0, 50],
      [10, 0, 0],
    ]).healthy,
    [70, 30],
  );
  assert.deepEqual(
    load([
      [0, 0, 10],
      [10, 0, 0],
    ]).healthy,
    [0, 100],
  );
});

test('too little health overall is scaled to 100 %, the rest goes to the first', () => {
  // 35 % + 35 % available: halves.
  assert.deepEqual(
    load(
      [
        [25, 0, 75],
        [25, 0, 75],
      ],
      0,
    ).healthy,
    [50, 50],
  );
  assert.deepEqual(
    load(
      [
        [1, 0, 2],
        [1, 0, 2],
      ],
      0,
    ).healthy,
    [50, 50],
  );
});

test('degraded hosts take what healthy ones cannot', () => {
  const { healthy, degraded } = load([[5, 5, 0]]);
  assert.deepEqual([healthy, degraded], [[70], [30]]);
  assert.equal(drawPriority({ healthy, degraded, panic: [false], simple: false }, 70), 0);
  assert.equal(drawPriority({ healthy, degraded, panic: [false], simple: false }, 71), -1);
});

test('panic: below the threshold all hosts of the priority serve, unless another priority suffices', () => {
  assert.deepEqual(load([[4, 0, 6]]).panic, [true]);
  assert.deepEqual(load([[4, 0, 6]], 0).panic, [false]);
  assert.deepEqual(
    load([
      [4, 0, 6],
      [10, 0, 0],
    ]).panic,
    [false, false],
  );
  // Everything in panic: load by number of hosts.
  const total = load([
    [0, 0, 2],
    [0, 0, 6],
  ]);
  assert.deepEqual(total.panic, [true, true]);
  assert.deepEqual(total.healthy, [25, 75]);
});

test('nothing healthy and panic off: priority 0 is asked and has nobody', () => {
  assert.deepEqual(load([[0, 0, 3]], 0), { healthy: [100], degraded: [0], panic: [false], simple: true });
  assert.deepEqual(load([[0, 0, 0]]).healthy, [100]);
});

test('weighted health counts weights', () => {
  const list = hosts(2, (n) => ({ weight: n === 0 ? 9 : 1 }));
  failed(list[0]!);
  const weighted = priorityLoad(sets(list, { overprovisioning: 140, weightedHealth: true }), 0);
  assert.deepEqual(weighted.healthy, [100]);
  const second = hosts(1, () => ({ priority: 1 }));
  const two = priorityLoad(sets([...list, ...second], { overprovisioning: 140, weightedHealth: true }), 0);
  assert.deepEqual(two.healthy, [14, 86]);
});

test('the load is always 100 % and drawn as it says', () => {
  const count = fc.nat(6);
  const tuple = fc.tuple(count, count, count);
  fc.assert(
    fc.property(fc.array(tuple, { minLength: 1, maxLength: 4 }), fc.nat(100), (counts, panic) => {
      const result = load(counts, panic);
      const total = [...result.healthy, ...result.degraded].reduce((sum, percent) => sum + percent, 0);
      assert.equal(total, 100);
      const drawn = new Map<number, number>();
      for (let draw = 1; draw <= 100; draw++) {
        const at = drawPriority(result, draw);
        drawn.set(at, (drawn.get(at) ?? 0) + 1);
      }
      for (const [i, percent] of result.healthy.entries()) assert.equal(drawn.get(i) ?? 0, percent);
      for (const [i, percent] of result.degraded.entries()) assert.equal(drawn.get(-1 - i) ?? 0, percent);
    }),
  );
});
