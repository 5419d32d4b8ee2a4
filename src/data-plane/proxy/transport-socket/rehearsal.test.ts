// The rehearsal comes to its end by itself and leaves nothing open.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../../base/runtime/clock.ts';
import { rehearseConnections } from './rehearsal.ts';

const openSockets = (): number => process.getActiveResourcesInfo().filter((kind) => /TCP/.test(kind)).length;

/** Its time never comes; says whether somebody still waits for it. */
function stillClock(): Clock & { readonly waiting: () => number } {
  let waiting = 0;
  return {
    now: () => 0,
    after() {
      waiting += 1;
      return () => {
        waiting -= 1;
      };
    },
    waiting: () => waiting,
  };
}

test('a connection to ourselves lives, dies and is gone', async () => {
  const clock = stillClock();
  const before = openSockets();
  await rehearseConnections(clock);
  assert.equal(openSockets(), before);
  assert.equal(clock.waiting(), 0);
});
