// Overload and draining: what a running proxy does when memory runs short, when it is drained, and when health checks fail.
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { OverloadManagerSchema } from '#proto/envoy/config/overload/v3/overload_pb.js';
import { createFakeClock } from '../../../../test/fakes/fake-clock.ts';
import { extensionRegistry } from '../config/bootstrap.ts';
import { startDrain } from '../listener/drain.ts';
import { StatsStore } from '../stats/stats.ts';
import {
  ask,
  bootstrap,
  hcm,
  listener,
  routes,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  typed,
} from '../testing/engine.ts';
import { readOverload } from './config.ts';
import { OverloadManager } from './manager.ts';
import { noPressure, settle } from './pressure.ts';
import { watch } from './watchdog.ts';

const read = (json: JsonObject) => readOverload(fromJson(OverloadManagerSchema, json, { registry: extensionRegistry }));
const HEAP = typed('heap', 'envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig', {
  max_heap_size_bytes: '1000',
});
const CGROUP = typed('cgroup', 'envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig', {
  max_memory_bytes: '500',
});
const at = (value: number, name = 'heap') => [{ name, threshold: { value } }];

test('pressure of memory sets what actions ask for, and takes it back', async () => {
  let heap = 0;
  const shrunk: number[] = [];
  const stats = new StatsStore();
  const pressure = noPressure();
  const clock = createFakeClock(0);
  const config = read({
    refresh_interval: '0.25s',
    resource_monitors: [HEAP, CGROUP],
    actions: [
      { name: 'envoy.overload_actions.stop_accepting_requests', triggers: at(0.95) },
      { name: 'envoy.overload_actions.stop_accepting_connections', triggers: at(0.9, 'cgroup') },
      { name: 'envoy.overload_actions.disable_http_keepalive', triggers: at(0.8) },
      { name: 'envoy.overload_actions.shrink_heap', triggers: at(0.85) },
      {
        name: 'envoy.overload_actions.reduce_timeouts',
        triggers: [{ name: 'heap', scaled: { scaling_threshold: 0.5, saturation_threshold: 0.9 } }],
        typed_config: {
          '@type': 'type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig',
          timer_scale_factors: [{ timer: 'HTTP_DOWNSTREAM_CONNECTION_IDLE', min_scale: { value: 10 } }],
        },
      },
    ],
    loadshed_points: [
      {
        name: 'envoy.load_shed_points.tcp_listener_accept',
        triggers: [{ name: 'heap', scaled: { scaling_threshold: 0.9, saturation_threshold: 1 } }],
      },
    ],
  });
  assert.equal(config.refreshMs, 250);
  const manager = new OverloadManager(config, {
    clock,
    stats,
    pressure,
    memory: { heapBytes: () => heap, cgroup: () => ({ used: 450, limit: 2000 }), shrink: () => shrunk.push(heap) },
  });
  manager.start();
  assert.deepEqual([pressure.refuseConnections, pressure.refuseRequests, pressure.idleScale], [1, 0, 1]);
  assert.equal(stats.gauges.get('overload.cgroup.pressure')?.value, 90);
  heap = 700;
  await clock.advance(250);
  assert.equal(pressure.idleScale, 0.55);
  heap = 960;
  await clock.advance(250);
  assert.deepEqual([pressure.refuseRequests, pressure.endKeepAlive, shrunk], [1, true, [960]]);
  assert.ok(Math.abs(pressure.idleScale - 0.1) < 1e-9);
  assert.equal(stats.gauges.get('overload.envoy.overload_actions.stop_accepting_requests.active')?.value, 1);
  heap = 100;
  await clock.advance(250);
  assert.deepEqual([pressure.refuseRequests, pressure.endKeepAlive, pressure.idleScale], [0, false, 1]);
  manager.stop();
});

test('what is not supported is refused by name and path', () => {
  const action = (name: string, more: JsonObject = {}): JsonObject => ({
    resource_monitors: [HEAP],
    actions: [{ name, triggers: at(0.5), ...more }],
  });
  for (const [json, message] of [
    [
      action('envoy.overload_actions.reset_high_memory_stream'),
      "overload_manager.actions[0].name: Unknown overload action 'envoy.overload_actions.reset_high_memory_stream'",
    ],
    [
      action('envoy.overload_actions.stop_accepting_requests', { triggers: at(0.5, 'x') }),
      'overload_manager.actions[0].triggers[0].name: Unknown trigger resource x',
    ],
    [
      action('envoy.overload_actions.stop_accepting_requests', { triggers: [] }),
      'overload_manager.actions[0].triggers: value must contain at least 1 item(s)',
    ],
    [{ resource_monitors: [HEAP, HEAP] }, 'overload_manager.resource_monitors[1]: Duplicate resource monitor heap'],
    [{ loadshed_points: [{ name: 'x' }] }, "overload_manager.loadshed_points[0].name: Unknown load shed point 'x'"],
    [
      { buffer_factory_config: {} },
      'overload_manager.buffer_factory_config: field of envoy.config.overload.v3.OverloadManager is not supported by this proxy',
    ],
  ] as const)
    assert.throws(() => read(json as JsonObject), { message });
});

test('gradual draining ends ever more connections, immediate all', async () => {
  const clock = createFakeClock(0);
  let random = 0.5;
  const gradual = startDrain({ strategy: 'gradual', drainMs: 1000, clock, random: () => random });
  assert.equal(gradual.closes(), false);
  await clock.advance(499);
  assert.equal(gradual.closes(), false);
  await clock.advance(2);
  assert.equal(gradual.closes(), true);
  random = 0.999;
  assert.equal(gradual.closes(), false);
  await clock.advance(499);
  assert.equal(gradual.closes(), true);
  assert.equal(startDrain({ strategy: 'immediate', drainMs: 1000, clock, random: () => 0.9 }).closes(), true);
});

test('a watchdog counts turns that came too late', () => {
  const stats = new StatsStore();
  let now = 0;
  const due: (() => void)[] = [];
  const after = (_ms: number, run: () => void) => {
    due.push(run);
    return () => {};
  };
  const stop = watch({ missMs: 100, megaMissMs: 1000 }, 'main_thread', { now: () => now, after }, stats);
  const beat = (at: number): void => {
    now = at;
    due.shift()!();
  };
  beat(50);
  beat(210);
  beat(2000);
  stop();
  assert.deepEqual(
    ['server.watchdog_miss', 'server.main_thread.watchdog_miss', 'server.watchdog_mega_miss'].map(
      (name) => stats.counters.get(name)?.value,
    ),
    [2, 2, 1],
  );
});

async function proxy(t: import('node:test').TestContext, more: JsonObject = {}) {
  const app = await startApp(t, 'app');
  const started = await startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }], more)],
      [staticCluster('app', [app.port])],
    ),
  );
  return { ...started, app };
}

test('overloaded, requests are answered 503 and connections refused', async (t) => {
  const { engine, port, counter } = await proxy(t);
  engine.pressure.refuseRequests = 1;
  settle(engine.pressure);
  const answer = await ask(port('in'));
  assert.deepEqual(
    [answer.status, answer.body, answer.headers['x-envoy-local-overloaded']],
    [503, 'envoy overloaded', 'true'],
  );
  assert.equal(counter('http.test.downstream_rq_overload_close'), 1);
  engine.pressure.refuseRequests = 0;
  engine.pressure.refuseConnections = 1;
  settle(engine.pressure);
  await assert.rejects(ask(port('in')), /ECONNRESET|socket hang up/);
  engine.pressure.refuseConnections = 0;
  engine.pressure.endKeepAlive = true;
  settle(engine.pressure);
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  assert.equal((await ask(port('in'), '/', { agent })).headers.connection, 'close');
  engine.pressure.endKeepAlive = false;
  settle(engine.pressure);
  assert.equal((await ask(port('in'))).status, 200);
});

test('a listener may bypass the overload manager', async (t) => {
  const { engine, port } = await proxy(t, { bypass_overload_manager: true });
  engine.pressure.refuseRequests = 1;
  engine.pressure.refuseConnections = 1;
  settle(engine.pressure);
  assert.equal((await ask(port('in'))).status, 200);
});

test('failing health checks end connections until they pass again, but not of a MODIFY_ONLY listener', async (t) => {
  for (const [drainType, ended] of [
    ['DEFAULT', 'close'],
    ['MODIFY_ONLY', 'keep-alive'],
  ] as const) {
    const { engine, port } = await proxy(t, { drain_type: drainType });
    const agent = new Agent({ keepAlive: true });
    t.after(() => agent.destroy());
    engine.setHealthFailing(true);
    assert.equal(engine.state, 'DRAINING');
    assert.equal((await ask(port('in'), '/', { agent })).headers.connection ?? 'keep-alive', ended);
    engine.setHealthFailing(false);
    assert.equal((await ask(port('in'), '/', { agent })).headers.connection ?? 'keep-alive', 'keep-alive');
  }
});

test('drained gracefully with skip_exit, the listener stays and its answers end connections', async (t) => {
  const { engine, port, counter } = await proxy(t);
  engine.drainListeners({ inboundOnly: true, graceful: true, skipExit: true });
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  assert.equal((await ask(port('in'), '/', { agent })).headers.connection ?? 'keep-alive', 'keep-alive');
  const before = port('in');
  engine.drainListeners({ inboundOnly: false, graceful: true, skipExit: true });
  assert.equal((await ask(before, '/', { agent })).headers.connection, 'close');
  assert.ok(counter('http.test.downstream_cx_drain_close') >= 1);
  engine.drainListeners({ inboundOnly: false, graceful: false, skipExit: false });
  await assert.rejects(ask(before), /ECONNREFUSED/);
});
