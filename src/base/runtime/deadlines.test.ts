// Timers in lists: order, cancelling, a list that outlives its entries.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { Deadlines } from './deadlines.ts';

test('each runs once when its time is over, unless it was cancelled', async () => {
  const clock = createFakeClock(0);
  const deadlines = new Deadlines(clock);
  const ran: string[] = [];
  deadlines.after(100, () => ran.push(`a@${clock.now()}`));
  const b = deadlines.after(100, () => ran.push('b'));
  deadlines.after(50, () => ran.push(`c@${clock.now()}`));
  await clock.advance(30);
  deadlines.after(100, () => ran.push(`d@${clock.now()}`));
  b.cancel();
  b.cancel();
  await clock.advance(1_000);
  assert.deepEqual(ran, ['c@50', 'a@100', 'd@130']);
  assert.equal(clock.nextIn(), undefined, 'no timer is left');
});

test('a deadline may set and cancel others', async () => {
  const clock = createFakeClock(0);
  const deadlines = new Deadlines(clock);
  const ran: string[] = [];
  let other = deadlines.after(10, () => ran.push('never'));
  other.cancel();
  deadlines.after(10, () => {
    ran.push('first');
    other.cancel();
    deadlines.after(10, () => ran.push('again'));
  });
  other = deadlines.after(10, () => ran.push('never'));
  await clock.advance(10);
  await clock.advance(10);
  assert.deepEqual(ran, ['first', 'again']);
});

test('as many timers of its own would', async () => {
  const step = fc.record({ wait: fc.nat(30), ms: fc.constantFrom(5, 20, 60), cancel: fc.option(fc.nat(5)) });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const clock = createFakeClock(0);
      const deadlines = new Deadlines(clock);
      const got: string[] = [];
      const want: string[] = [];
      const both: { mine: { cancel(): void }; real: () => void }[] = [];
      for (const [i, { wait, ms, cancel }] of steps.entries()) {
        await clock.advance(wait);
        both.push({
          mine: deadlines.after(ms, () => got.push(`${i}@${clock.now()}`)),
          real: clock.after(ms, () => want.push(`${i}@${clock.now()}`)),
        });
        if (cancel !== null && both[cancel]) {
          both[cancel].mine.cancel();
          both[cancel].real();
        }
      }
      await clock.advance(1_000);
      assert.deepEqual(got.toSorted(), want.toSorted());
    }),
    { numRuns: 50 },
  );
});
