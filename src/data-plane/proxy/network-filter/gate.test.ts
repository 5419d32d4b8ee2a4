// The gate in front of the terminal filter: order, refusals now and at the first byte, delays, silence, books kept.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { ConnectionLimitSchema } from '#proto/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.js';
import { LocalRateLimitSchema } from '#proto/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js';
import { RBACSchema } from '#proto/envoy/extensions/filters/network/rbac/v3/rbac_pb.js';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { silentLog } from '../../../base/runtime/log.ts';
import type { ConnectionInfo, StreamInfo } from '../http/stream-info.ts';
import { EMPTY_RUNTIME } from '../runtime/runtime.ts';
import { StatsStore } from '../stats/stats.ts';
import { CONNECTION } from '../testing/filters.ts';
import type { Transport, TransportSink } from '../transport-socket/transport.ts';
import { createConnectionLimit, createConnectionRateLimit, SharedBuckets } from './connection-limits.ts';
import type { ConnectionHandler, NetworkFilter } from './filter.ts';
import { Gate } from './gate.ts';
import { createNetworkRbac } from './rbac.ts';

/** A transport that only notes what is done to it. */
class FakeTransport {
  sink: TransportSink | undefined;
  closed = false;
  paused = false;
  start(sink: TransportSink): void {
    this.sink = sink;
  }
  pause(): void {
    this.paused = true;
  }
  destroy(): void {
    this.closed = true;
    this.sink?.onClose(undefined);
  }
}

function bench(make: (context: { clock: ReturnType<typeof createFakeClock>; stats: StatsStore }) => NetworkFilter[]) {
  const clock = createFakeClock(1_000);
  const stats = new StatsStore();
  const refused: StreamInfo[] = [];
  const ends: (() => void)[] = [];
  const terminal: ConnectionHandler = {
    get active() {
      return ends.length;
    },
    accept(_transport, _info, closed) {
      ends.push(closed);
    },
    drain() {},
    closeAll() {},
    refused: (info) => refused.push(info),
  };
  const filters = make({ clock, stats });
  const gate = new Gate(() => filters, terminal, clock);
  let gone = 0;
  const connect = (over: Partial<ConnectionInfo> = {}) => {
    const transport = new FakeTransport();
    const info: ConnectionInfo = { ...CONNECTION, state: new Map(), metadata: new Map(), ...over };
    gate.accept(transport as unknown as Transport, info, () => {
      gone += 1;
    });
    return { transport, info };
  };
  const counter = (name: string) => stats.counters.get(name)?.value ?? stats.gauges.get(name)?.value ?? 0;
  return { clock, gate, connect, counter, refused, ends, gone: () => gone };
}

const policy = (permission: JsonObject) => ({
  policies: { 'p q': { permissions: [permission], principals: [{ any: true }] } },
});
const rbac = (config: JsonObject) =>
  bench(({ stats }) => [
    createNetworkRbac(
      fromJson(RBACSchema, { stat_prefix: 'tcp.', ...config }),
      { name: 'rbac', stats, log: silentLog },
      'rbac',
    ),
  ]);
const BYTES = Buffer.from('hello');

test('an admitted connection goes straight to the terminal filter', () => {
  const one = rbac({ rules: policy({ destination_port: 80 }) });
  const { transport, info } = one.connect();
  assert.equal(one.ends.length, 1);
  assert.equal(transport.sink, undefined, 'nothing stands between');
  assert.equal(one.counter('tcp.rbac.allowed'), 1);
  assert.deepEqual(info.metadata.get('envoy.filters.network.rbac'), {
    enforced_engine_result: 'allowed',
    enforced_effective_policy_id: 'p q',
  });
  one.ends[0]!();
  assert.equal(one.gone(), 1);
});

test('a refused connection reaches nothing and ends when its client speaks', () => {
  const one = rbac({ rules: { action: 'DENY', ...policy({ any: true }) } });
  const { transport } = one.connect();
  assert.deepEqual([one.ends.length, transport.closed, one.gate.active], [0, false, 1]);
  assert.equal(one.counter('tcp.rbac.denied'), 0);
  transport.sink!.onData(BYTES, 0, 5);
  assert.deepEqual([transport.closed, one.gone(), one.gate.active], [true, 1, 0]);
  assert.equal(one.counter('tcp.rbac.denied'), 1);
  assert.equal(one.refused[0]!.connectionTermination, 'rbac_access_denied_matched_policy[p_q]');
  assert.equal(one.refused[0]!.bytesReceived, 5);
});

test('a refused client that says nothing is not kept for ever, and one that leaves is counted', async () => {
  const one = rbac({ rules: {} });
  const silent = one.connect();
  await one.clock.advance(60_000);
  assert.equal(silent.transport.closed, true);
  const leaving = one.connect();
  leaving.transport.sink!.onEnd();
  assert.equal(leaving.transport.closed, true);
  assert.deepEqual([one.counter('tcp.rbac.denied'), one.gone()], [2, 2]);
});

test('delay_deny keeps a refused connection open and unread', async () => {
  const one = rbac({ rules: {}, delay_deny: '2s' });
  const { transport } = one.connect();
  transport.sink!.onData(BYTES, 0, 5);
  assert.deepEqual([transport.paused, transport.closed], [true, false]);
  await one.clock.advance(2_000);
  assert.equal(transport.closed, true);
});

test('shadow policies refuse nothing', () => {
  const one = rbac({ shadow_rules: policy({ destination_port: 81 }), shadow_rules_stat_prefix: 'try_' });
  const { info } = one.connect();
  assert.equal(one.ends.length, 1);
  assert.equal(one.counter('tcp.rbac.try_.shadow_denied'), 1);
  assert.deepEqual(info.metadata.get('envoy.filters.network.rbac'), { try_shadow_engine_result: 'denied' });
});

test('limits: so many a second, so many at once; those refused count no longer than they last', async () => {
  const sharedBuckets = new SharedBuckets();
  const many = bench(({ clock, stats }) =>
    ['a', 'b'].map((name) =>
      createConnectionRateLimit(
        fromJson(LocalRateLimitSchema, {
          stat_prefix: name,
          token_bucket: { max_tokens: 3, fill_interval: '1s' },
          share_key: 'all',
        }),
        { name, clock, stats, runtime: EMPTY_RUNTIME, sharedBuckets },
        'l',
      ),
    ),
  );
  // Two filters take from one bucket of three.
  many.connect();
  many.connect();
  assert.deepEqual([many.ends.length, many.counter('local_rate_limit.b.rate_limited')], [1, 1]);
  await many.clock.advance(2_000);
  many.connect();
  assert.equal(many.ends.length, 2);

  const few = bench(({ clock, stats }) => [
    createConnectionLimit(
      fromJson(ConnectionLimitSchema, { stat_prefix: 'c', max_connections: 1, delay: '1s' }),
      { name: 'c', clock, stats, runtime: EMPTY_RUNTIME, sharedBuckets },
      'c',
    ),
  ]);
  few.connect();
  const second = few.connect();
  assert.deepEqual([few.ends.length, second.transport.closed], [1, false]);
  assert.equal(few.counter('connection_limit.c.active_connections'), 2);
  await few.clock.advance(1_000);
  assert.equal(second.transport.closed, true);
  few.ends[0]!();
  assert.equal(few.counter('connection_limit.c.active_connections'), 0);
  few.connect();
  assert.equal(few.ends.length, 2);
});
