// Statistics by whole names and by scope.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatsScope, StatsStore } from './stats.ts';

test('a statistic is one, whether asked for by its whole name or by a scope', () => {
  const store = new StatsStore();
  const early = store.counter('cluster.a.b.update_attempt');
  const scope = new StatsScope(store, 'cluster.a.b.');
  const same = new StatsScope(store, 'cluster.a.b.');
  assert.equal(scope.counter('update_attempt'), early);
  const total = scope.counter('upstream_rq_total');
  assert.equal(total.name, 'cluster.a.b.upstream_rq_total');
  assert.equal(same.counter('upstream_rq_total'), total);
  assert.equal(store.counter('cluster.a.b.upstream_rq_total'), total);
  assert.equal(store.counters.get('cluster.a.b.upstream_rq_total'), total);
  assert.equal(store.counters.size, 2);
  assert.equal(store.gauges.get('cluster.a.b.upstream_rq_total'), undefined);
  assert.deepEqual([...store.counters].map(([name]) => name).sort(), [
    'cluster.a.b.update_attempt',
    'cluster.a.b.upstream_rq_total',
  ]);
});

test('the last scope of a prefix takes all of it along, and nothing of a longer prefix', () => {
  const store = new StatsStore();
  const old = new StatsScope(store, 'cluster.a.');
  const next = new StatsScope(store, 'cluster.a.');
  const other = new StatsScope(store, 'cluster.a.b.');
  old.sparse(['rare']);
  old.counter('x').value = 1;
  next.gauge('y').value = 2;
  next.histogram('z').record(3);
  store.counter('cluster.a.update_attempt').value = 4;
  next.text('version_text', '5');
  other.counter('x').value = 6;
  store.counter('cluster.a.b.update_attempt').value = 7;
  old.drop();
  old.drop();
  assert.equal(store.counters.get('cluster.a.x')?.value, 1);
  next.drop();
  assert.deepEqual([...store.allCounters()].map(({ name }) => name).sort(), [
    'cluster.a.b.update_attempt',
    'cluster.a.b.x',
  ]);
  assert.deepEqual([store.gauges.size, store.histograms.size, store.texts.size], [0, 0, 0]);
  assert.equal(new StatsScope(store, 'cluster.a.').counter('x').value, 0);
});
