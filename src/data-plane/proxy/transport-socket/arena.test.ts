// The clock of a turn: one reading for a callback of a socket, the true time outside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arena, turnClock } from './arena.ts';

test('time stands still within a turn, also a nested one, and moves on with the next', () => {
  let time = 0;
  const clock = turnClock({
    now: () => {
      time += 1;
      return time;
    },
    after: () => () => {},
  });
  assert.equal(clock.now(), 1);
  assert.equal(clock.now(), 2);
  arena.beginTurn();
  assert.equal(clock.now(), 3);
  arena.beginTurn();
  assert.equal(clock.now(), 3);
  arena.endTurn();
  assert.equal(clock.now(), 3);
  arena.endTurn();
  assert.equal(clock.now(), 4);
  arena.beginTurn();
  assert.equal(clock.now(), 5);
  arena.endTurn();
});
