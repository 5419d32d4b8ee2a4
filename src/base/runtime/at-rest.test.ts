// Waiting for rest: busy stretches are waited out, the work is done once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { whenAtRest } from './at-rest.ts';

test('waits for a stretch in which little was done, and runs once', async () => {
  const clock = createFakeClock(0);
  let busy = 500;
  const ran: number[] = [];
  const run = (): number => ran.push(clock.now());
  whenAtRest(clock, () => busy, 1_000, 0.01, run);
  busy += 10;
  await clock.advance(1_000);
  assert.deepEqual(ran, [], 'a hundredth of the stretch is not at rest');
  busy += 9.9;
  await clock.advance(1_000);
  assert.deepEqual(ran, [2_000]);
  assert.equal(clock.nextIn(), undefined, 'no timer is left');
});
