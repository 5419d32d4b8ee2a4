import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { CircuitBreakersSchema } from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import { EMPTY_RUNTIME, type RuntimeView } from '../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { buildBreakers } from './breakers.ts';

function setUp(config: JsonObject, runtime: RuntimeView = EMPTY_RUNTIME) {
  const store = new StatsStore();
  const context = { scope: new StatsScope(store, ''), runtime, clusterName: 'c' };
  const breakers = buildBreakers(fromJson(CircuitBreakersSchema, config), context, 'circuit_breakers');
  return { ...breakers, gauge: (name: string) => store.gauges.get(`circuit_breakers.${name}`)?.value };
}

test('priorities have limits of their own', () => {
  const made = setUp({ thresholds: [{ max_requests: 1 }, { priority: 'HIGH', max_requests: 2 }] });
  assert.ok(made.default.requests.tryEnter());
  assert.ok(!made.default.requests.tryEnter());
  assert.equal(made.gauge('default.rq_open'), 1);
  assert.ok(made.high.requests.tryEnter());
  assert.ok(made.high.requests.tryEnter());
  assert.ok(!made.high.requests.tryEnter());
  made.default.requests.leave();
  assert.equal(made.gauge('default.rq_open'), 0);
  assert.equal(made.default.connections.max, 1024);
  assert.equal(made.gauge('default.remaining_rq'), undefined);
});

test('what remains is shown when tracked', () => {
  const made = setUp({ thresholds: [{ max_connections: 3, track_remaining: true }] });
  assert.equal(made.gauge('default.remaining_cx'), 3);
  made.default.connections.enter();
  assert.equal(made.gauge('default.remaining_cx'), 2);
});

test('a retry budget follows the requests under way', () => {
  const made = setUp({
    thresholds: [{ retry_budget: { budget_percent: { value: 50 }, min_retry_concurrency: 2 }, max_retries: 0 }],
  });
  assert.equal(made.default.retries.max, 2);
  for (let i = 0; i < 10; i++) made.default.requests.enter();
  assert.equal(made.default.retries.max, 5);
});

test('the runtime goes before the configuration', () => {
  const runtime: RuntimeView = {
    ...EMPTY_RUNTIME,
    number: (key, fallback) => (key === 'circuit_breakers.c.high.max_pending_requests' ? 0 : fallback),
  };
  const made = setUp({}, runtime);
  assert.ok(!made.high.pending.tryEnter());
  assert.ok(made.default.pending.tryEnter());
  let changed = { ...runtime };
  const later = setUp(
    {},
    {
      ...runtime,
      get version() {
        return changed.version;
      },
      number: (key, fallback) => changed.number(key, fallback),
    },
  ).high.pending;
  assert.ok(!later.tryEnter());
  changed = { ...EMPTY_RUNTIME, version: 1 };
  assert.ok(later.tryEnter());
});

test('limits of one host are about connections only', () => {
  assert.equal(setUp({ per_host_thresholds: [{ max_connections: 2 }] }).default.hostConnections, 2);
  assert.throws(
    () => setUp({ per_host_thresholds: [{ max_requests: 2 }] }),
    /circuit_breakers\.per_host_thresholds\[0\]\.max_requests: field of .* is not supported/,
  );
});
