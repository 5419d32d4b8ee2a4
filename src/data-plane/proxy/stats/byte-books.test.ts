// Bytes of open connections reach their counters when somebody looks, and once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Transport } from '../transport-socket/transport.ts';
import { ByteBooks } from './byte-books.ts';
import { StatsScope, StatsStore } from './stats.ts';

function connection(): { bytesRead: number; bytesWritten: number; backlogBytes: number } & Transport {
  return { bytesRead: 0, bytesWritten: 0, backlogBytes: 0 } as Transport & {
    bytesRead: number;
    bytesWritten: number;
    backlogBytes: number;
  };
}

test('bytes are told when asked for and at the end, each of them once', () => {
  const stats = new StatsStore();
  const [received, sent, waiting] = [stats.counter('rx'), stats.counter('tx'), stats.gauge('waiting')];
  const one = new ByteBooks(stats, received, sent, waiting);
  const two = new ByteBooks(stats, received, sent, waiting);
  const [a, b] = [connection(), connection()];
  one.open(a);
  two.open(b);
  Object.assign(a, { bytesRead: 10, bytesWritten: 3, backlogBytes: 2 });
  Object.assign(b, { bytesRead: 1, backlogBytes: 5 });
  assert.equal(received.value, 0);
  stats.settle();
  stats.settle();
  assert.deepEqual([received.value, sent.value, waiting.value], [11, 3, 7]);
  Object.assign(a, { bytesRead: 12, backlogBytes: 0 });
  one.close(a);
  one.close(a);
  assert.deepEqual([received.value, sent.value, waiting.value], [13, 3, 5]);
  two.close(b);
  assert.equal(waiting.value, 0);
  assert.equal(stats.lagging.size, 0, 'books without connections are forgotten');
});

test('a counter that was never needed is shown as 0, and made when it counts', () => {
  const stats = new StatsStore();
  const scope = new StatsScope(stats, 'cluster.a.');
  const rare = scope.sparse(['x', 'y']);
  const shown = () => [...stats.allCounters()].map(({ name, value }) => `${name}: ${value}`).sort();
  assert.deepEqual(shown(), ['cluster.a.x: 0', 'cluster.a.y: 0']);
  assert.equal(stats.counters.size, 0);
  rare.add(1);
  rare.add(1);
  assert.deepEqual(shown(), ['cluster.a.x: 0', 'cluster.a.y: 2']);
  assert.equal(stats.counters.size, 1);
  scope.drop();
  assert.deepEqual(shown(), []);
});
