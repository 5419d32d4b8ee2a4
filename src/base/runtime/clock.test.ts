// The finer clock against the wall clock.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { preciseNow } from './clock.ts';

test('the finer clock agrees with the wall clock, has parts of a millisecond, and does not go back', () => {
  let last = 0;
  let parts = 0;
  for (let i = 0; i < 10_000; i++) {
    const before = Date.now();
    const now = preciseNow();
    assert.ok(Math.abs(now - before) < 1_000, `${now} at ${before}`);
    if (now < last) assert.ok(last - now <= 2, 'set anew by the drift at most');
    if (!Number.isInteger(now)) parts += 1;
    last = now;
  }
  assert.ok(parts > 5_000, `${parts} of 10000`);
});
