// Numbers that several threads count by: they are one, a dead thread's part is free, and a shared bucket gives what a local one gives.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { silentLog } from '../../../base/runtime/log.ts';
import { BlockBook, BlockMaker } from '../workers/blocks.ts';
import type { Told } from '../workers/protocol.ts';
import { type SharedBlocks, SharedNumbers } from './numbers.ts';
import { CELLS_PER_THREAD, SharedPlaces } from './places.ts';

/** The main thread's memory and that of two workers that are told of it. */
function threads() {
  const told: Told[] = [];
  const books = [0, 1].map((index) => new BlockBook(index, 2, silentLog));
  const main = new BlockMaker(2, (item) => {
    told.push(item);
    for (const book of books) if (item.kind === 'block' || item.kind === 'block-gone') book.take(item);
  });
  return { main, books, told };
}

test('places are one number for all threads; those of a dead one come free', () => {
  const { main, books } = threads();
  const numbers = [main, ...books].map((blocks: SharedBlocks) => new SharedNumbers(blocks));
  const [own, one, two] = numbers.map((each) => each.counters('cluster a')(3));
  const other = numbers[1]!.counters('cluster a')(4);
  assert.ok(one!.tryEnter(3));
  assert.ok(two!.tryEnter(3));
  assert.ok(two!.tryEnter(3));
  assert.ok(!one!.tryEnter(3));
  assert.deepEqual([own!.used, one!.used, two!.used, other.used], [3, 3, 3, 0]);
  one!.enter();
  assert.equal(own!.used, 4);
  main.ended(1);
  assert.equal(own!.used, 2);
  one!.leave();
  assert.ok(one!.tryEnter(2));
  assert.ok(!two!.tryEnter(2));
});

test('a worker that starts later finds the same memory; one that finds none counts alone', () => {
  const { main } = threads();
  const first = new SharedNumbers(main).under('chain x', 'l.filter_chains[0]').counters('l.filter_chains[0].a');
  first(0).enter();
  const late = new BlockBook(1, 2, silentLog);
  for (const item of main.known()) if (item.kind === 'block') late.take(item);
  // The same chain in another place of the listener.
  const moved = new SharedNumbers(late).under('chain x', 'l.filter_chains[7]');
  assert.equal(moved.counters('l.filter_chains[7].a')(0).used, 1);
  assert.equal(moved.counters('l.filter_chains[7].b')(0).used, 0);
});

test('real threads never exceed a limit together', async () => {
  const block = new SharedArrayBuffer(3 * CELLS_PER_THREAD * 4);
  const code = `
    const { workerData } = require('node:worker_threads');
    import(workerData.module).then(({ SharedPlaces }) => {
      const places = new SharedPlaces(new Int32Array(workerData.block), workerData.thread, 0);
      const seen = new Int32Array(workerData.seen);
      for (let i = 0; i < 20000; i++) {
        if (!places.tryEnter(1)) continue;
        if (Atomics.add(seen, 0, 1) !== 0) Atomics.add(seen, 1, 1);
        Atomics.sub(seen, 0, 1);
        Atomics.add(seen, 2, 1);
        places.leave();
      }
    });`;
  const seen = new SharedArrayBuffer(12);
  const module = new URL('./places.ts', import.meta.url).href;
  const workers = [0, 1].map((thread) => new Worker(code, { eval: true, workerData: { block, thread, seen, module } }));
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  const [, together, entered] = new Int32Array(seen);
  assert.equal(together, 0);
  assert.ok(entered! > 0);
  assert.equal(new SharedPlaces(new Int32Array(block), 2, 0).used, 0);
});

test('a shared bucket gives what arithmetic says, whoever asks', () => {
  const settings = fc.record({
    maxTokens: fc.integer({ min: 1, max: 50 }),
    tokensPerFill: fc.integer({ min: 1, max: 20 }),
    fillMs: fc.constantFrom(50, 100, 1_000, 60_000),
  });
  const steps = fc.array(fc.record({ worker: fc.nat(1), pass: fc.nat(3_000) }), { maxLength: 60 });
  fc.assert(
    fc.property(settings, steps, (bucket, list) => {
      const { main, books } = threads();
      let now = 1_700_000_000_000;
      const clock = { now: () => now, after: () => () => {} };
      new SharedNumbers(main).bucket('b', bucket, clock);
      const shared = books.map((book) => new SharedNumbers(book).bucket('b', bucket, clock));
      const { maxTokens, tokensPerFill, fillMs } = bucket;
      // In parts of a token, so that whole numbers do.
      let parts = maxTokens * fillMs;
      for (const { worker, pass } of list) {
        now += pass;
        parts = Math.min(maxTokens * fillMs, parts + pass * tokensPerFill);
        const expected = parts >= fillMs;
        if (expected) parts -= fillMs;
        assert.equal(shared[worker]!.take(), expected);
        assert.equal(shared[1 - worker]!.remaining, Math.floor(parts / fillMs));
      }
    }),
    { numRuns: 200 },
  );
});

test('a bucket survives a clock that goes back, and one that takes ages holds its burst', async () => {
  const clock = createFakeClock(1_000_000_000);
  const { main, books } = threads();
  const bucket = { maxTokens: 2, tokensPerFill: 1, fillMs: 1_000 };
  new SharedNumbers(main).bucket('b', bucket, clock);
  const taken = new SharedNumbers(books[0]!).bucket('b', bucket, clock);
  assert.deepEqual([taken.take(), taken.take(), taken.take()], [true, true, false]);
  assert.equal(taken.resetSeconds, 1);
  await clock.advance(1_000);
  assert.equal(taken.remaining, 1);
  const back = { now: () => clock.now() - 3_600_000, after: clock.after };
  const earlier = new SharedNumbers(books[1]!).bucket('b', bucket, back);
  assert.ok(!earlier.take());
  const soon = new SharedNumbers(books[1]!).bucket('b', bucket, { ...back, now: () => back.now() + 1_000 });
  assert.ok(soon.take(), 'it fills from then on');
  const slow = { maxTokens: 4_000_000_000, tokensPerFill: 1, fillMs: 86_400_000 };
  const burst = new SharedNumbers(main).bucket('slow', slow, clock);
  assert.ok(burst.take(3_999_999_999));
  assert.equal(burst.remaining, 1);
});
