import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newRequestId } from './request-id.ts';

test('ids are version 4 UUIDs, each another', () => {
  const seen = new Set<string>();
  for (let i = 0; i < 2_000; i++) {
    const id = newRequestId(Math.random);
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    seen.add(id);
  }
  assert.equal(seen.size, 2_000);
});

test('the numbers decide the id', () => {
  assert.equal(
    newRequestId(() => 0),
    '00000000-0000-4000-8000-000000000000',
  );
  assert.equal(
    newRequestId(() => 1 - 2 ** -32),
    'ffffffff-ffff-4fff-bfff-ffffffffffff',
  );
});
