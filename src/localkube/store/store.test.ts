import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openStore, type StoredObject, StoreError, type StoreEvent } from './store.ts';

const dir = mkdtempSync(join(tmpdir(), 'meltemi-store-'));
after(() => rmSync(dir, { recursive: true }));

const object = (name: string, value = 'x'): StoredObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default' },
  data: { value },
});
const kindOf = (kind: string) => (error: unknown) => error instanceof StoreError && error.kind === kind;

test('what was written is there after reopening, revisions go on', () => {
  const path = join(dir, 'a.db');
  const first = openStore({ path });
  const made = first.create('/configmaps', object('a'));
  first.create('/configmaps', object('b'));
  first.delete('/configmaps', 'default', 'b');
  const revision = first.revision();
  assert.throws(() => openStore({ path }), kindOf('in-use'));
  // Not closed: the files as kill -9 leaves them.
  const copy = join(dir, 'copy.db');
  for (const suffix of ['', '-wal']) copyFileSync(path + suffix, copy + suffix);
  const second = openStore({ path: copy });
  assert.deepEqual(second.get('/configmaps', 'default', 'a'), made);
  assert.equal(second.get('/configmaps', 'default', 'b'), undefined);
  assert.equal(second.revision(), revision);
  assert.equal(second.create('/configmaps', object('c')).metadata.resourceVersion, String(revision + 1));
  first.close();
  second.close();
});

test('a write against an older revision is refused and changes nothing', () => {
  const store = openStore({ path: ':memory:' });
  const made = store.create('/configmaps', object('a'));
  const changed = store.update('/configmaps', object('a', 'y'), made.metadata.resourceVersion ?? '');
  assert.throws(
    () => store.update('/configmaps', object('a', 'z'), made.metadata.resourceVersion ?? ''),
    kindOf('conflict'),
  );
  assert.throws(() => store.create('/configmaps', object('a')), kindOf('exists'));
  assert.throws(() => store.delete('/configmaps', 'default', 'nope'), kindOf('not-found'));
  assert.equal(store.get('/configmaps', 'default', 'a'), changed);
  store.close();
});

test('a watch replays what it missed, then follows; a too old one is told so', () => {
  const store = openStore({ path: ':memory:', maxHistoryEvents: 4 });
  const start = store.revision();
  const made = store.create('/configmaps', object('a'));
  const seen: StoreEvent[] = [];
  const stop = store.watch(start, (event) => seen.push(event));
  store.update('/configmaps', object('a', 'y'), made.metadata.resourceVersion ?? '');
  store.delete('/configmaps', 'default', 'a');
  assert.deepEqual(
    seen.map((event) => event.type),
    ['ADDED', 'MODIFIED', 'DELETED'],
  );
  assert.equal(seen[2]?.previous?.data, seen[1]?.object.data);
  assert.ok(typeof stop === 'function');
  stop();
  for (let i = 0; i < 10; i++) store.create('/configmaps', object(`n${i}`));
  assert.equal(seen.length, 3);
  assert.equal(
    store.watch(start, () => {}),
    'expired',
  );
  assert.equal(
    store.watch(store.revision() + 5, () => {}),
    'future',
  );
  store.close();
});

test('a full disk is told and leaves the old state', () => {
  const path = join(dir, 'full.db');
  const limited = openStore({ path, maxPages: 20 });
  const kept = limited.create('/configmaps', object('kept'));
  const revision = limited.revision();
  assert.throws(() => limited.create('/configmaps', object('big', 'x'.repeat(500_000))), kindOf('disk-full'));
  assert.equal(limited.revision(), revision);
  assert.equal(limited.get('/configmaps', 'default', 'kept'), kept);
  assert.equal(limited.get('/configmaps', 'default', 'big'), undefined);
  assert.ok(limited.create('/configmaps', object('small')));
  limited.close();
  const again = openStore({ path });
  assert.deepEqual(
    again.list('/configmaps').map((item) => item.metadata.name),
    ['kept', 'small'],
  );
  again.close();
});

test('stored objects cannot be changed by who holds them', () => {
  const store = openStore({ path: ':memory:' });
  const made = store.create('/configmaps', object('a'));
  assert.throws(() => Object.assign(made.metadata, { name: 'b' }), TypeError);
  store.close();
});
