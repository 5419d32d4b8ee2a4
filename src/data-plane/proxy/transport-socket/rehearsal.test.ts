// The rehearsal comes to its end and leaves nothing open.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REHEARSAL_MS } from '../limits.ts';
import { rehearseConnections } from './rehearsal.ts';

test('a connection to ourselves lives, dies and is gone', async () => {
  const open = (): number => process.getActiveResourcesInfo().filter((kind) => /TCP/.test(kind)).length;
  const before = open();
  const began = performance.now();
  await rehearseConnections();
  assert.ok(performance.now() - began < REHEARSAL_MS, 'it ended by itself');
  assert.equal(open(), before);
});
