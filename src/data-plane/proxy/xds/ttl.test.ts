import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { createRate } from './rate.ts';
import { TtlTable } from './ttl.ts';

test('a name lives until its time is over, each confirmation begins it anew', async () => {
  const clock = createFakeClock(0);
  const gone: string[] = [];
  const table = new TtlTable(clock, (name) => gone.push(name));
  table.set('a', 100);
  table.set('b', 100);
  table.set('c', undefined);
  await clock.advance(90);
  table.set('a', 100);
  await clock.advance(90);
  assert.deepEqual(gone, ['b']);
  table.drop('a');
  await clock.advance(1_000);
  assert.deepEqual(gone, ['b']);
  table.set('d', 10);
  table.clear();
  await clock.advance(1_000);
  assert.deepEqual(gone, ['b']);
});

test('requests over the rate wait their turn, in order', async () => {
  const clock = createFakeClock(0);
  const enforced = { value: 0 };
  const done: number[] = [];
  const rate = createRate({ tokens: 2, perSecond: 10 }, clock, enforced);
  for (let i = 0; i < 5; i++) rate.run(() => done.push(i));
  assert.deepEqual(done, [0, 1]);
  assert.equal(enforced.value, 3);
  await clock.advance(100);
  assert.deepEqual(done, [0, 1, 2]);
  await clock.advance(1_000);
  assert.deepEqual(done, [0, 1, 2, 3, 4]);
  rate.run(() => done.push(5));
  rate.run(() => done.push(6));
  rate.run(() => done.push(7));
  rate.stop();
  await clock.advance(1_000);
  assert.deepEqual(done.slice(-1), [6]);
});
