// The arena's owners keep their bytes apart. The clock of a turn: one reading for a callback of a socket, the true time outside.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ArenaOwner, arena, turnClock } from './arena.ts';

interface Writer extends ArenaOwner {
  readonly out: string[];
  write(text: string): void;
}

function writer(onFlush = (): void => {}): Writer {
  const out: string[] = [];
  return {
    out,
    flushArena(buffer, start, end) {
      out.push(buffer.toString('latin1', start, end));
      onFlush();
      return false;
    },
    write(text) {
      const at = arena.reserve(this, text.length);
      arena.commit(at + arena.buffer.write(text, at, 'latin1'));
    },
  };
}

test('bytes written while another flushes go out by their own owner', () => {
  const third = writer();
  const first = writer(() => third.write('third'));
  const second = writer();
  arena.beginTurn();
  first.write('first');
  second.write('second');
  arena.endTurn();
  assert.deepEqual([first.out, second.out, third.out], [['first'], ['second'], ['third']]);
});

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

test('a finer clock is asked from the moment somebody wants it, within turns too', () => {
  let fine = false;
  const clock = turnClock({ now: () => 1, after: () => () => {} }, { wanted: () => fine, now: () => 1.25 });
  assert.equal(clock.now(), 1);
  fine = true;
  arena.beginTurn();
  assert.equal(clock.now(), 1.25);
  arena.endTurn();
});
