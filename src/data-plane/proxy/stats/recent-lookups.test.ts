import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatsStore } from './stats.ts';

test('names are kept only when asked for, and only the last hundred', () => {
  const stats = new StatsStore();
  const ask = (act: 'show' | 'enable' | 'disable' | 'clear') => stats.lookups.answer({ kind: 'lookups', act });
  stats.counter('a');
  assert.deepEqual(ask('show'), { total: 1, recent: undefined });
  ask('enable');
  stats.counter('a');
  stats.gauge('b');
  stats.counter('a');
  assert.deepEqual(ask('enable'), {
    total: 4,
    recent: [
      ['b', 1],
      ['a', 2],
    ],
  });
  for (let i = 0; i < 200; i++) stats.histogram(`h${i}`);
  assert.equal(ask('show').recent?.length, 100);
  assert.deepEqual(ask('show').recent?.at(-1), ['h199', 1]);
  assert.deepEqual(ask('clear'), { total: 0, recent: [] });
  assert.deepEqual(ask('disable'), { total: 0, recent: undefined });
});
