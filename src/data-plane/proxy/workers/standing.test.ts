// What a late worker is told: the state, not the history.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StandingCommands } from './standing.ts';

test('the last of each thing stands, in its order; what has no lasting effect is forgotten', () => {
  const standing = new StandingCommands();
  for (let i = 0; i < 100; i++) {
    standing.note({ kind: 'health', failing: i % 2 === 0 });
    standing.note({ kind: 'runtime', values: [['a', String(i)]] });
    standing.note({ kind: 'log', logger: 'http', level: 'debug' });
    standing.note({ kind: 'reset-counters' });
    standing.note({ kind: 'reopen-logs' });
  }
  standing.note({ kind: 'log', logger: undefined, level: 'info' });
  standing.note({ kind: 'log', logger: 'router', level: 'trace' });
  standing.note({ kind: 'runtime', values: [['b', '1']] });
  assert.deepEqual(standing.list(), [
    { kind: 'health', failing: false },
    { kind: 'log', logger: undefined, level: 'info' },
    { kind: 'log', logger: 'router', level: 'trace' },
    {
      kind: 'runtime',
      values: [
        ['a', '99'],
        ['b', '1'],
      ],
    },
  ]);
});

test('a drain stands beside the state', () => {
  const standing = new StandingCommands();
  const drain = { kind: 'drain', inboundOnly: true, graceful: true, skipExit: false } as const;
  standing.note(drain);
  standing.note({ kind: 'health', failing: true });
  standing.note(drain);
  assert.deepEqual(standing.list(), [{ kind: 'health', failing: true }, drain]);
});
