import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { HealthCheckSchema } from '#proto/envoy/config/core/v3/health_check_pb.js';
import { StatsScope, StatsStore } from '../../stats/stats.ts';
import type { Host } from '../host.ts';
import { HEALTH } from '../host.ts';
import { FakeClock, failed, hosts, seeded } from '../testing/fakes.ts';
import { HealthChecker } from './checker.ts';
import { DEGRADED, HEALTHY, type Probe, type ProbeResult, REFUSED, UNREACHABLE } from './probe.ts';
import { holds, readHealthCheck } from './settings.ts';

const BASE: JsonObject = {
  timeout: '1s',
  interval: '10s',
  unhealthy_threshold: 2,
  healthy_threshold: 3,
  tcp_health_check: {},
};

function setUp(extra: JsonObject = {}, count = 1) {
  const config: JsonObject = { ...BASE, ...extra };
  if (extra.http_health_check) delete config.tcp_health_check;
  const settings = readHealthCheck([fromJson(HealthCheckSchema, config)], 'h')!;
  const clock = new FakeClock();
  const store = new StatsStore();
  const lines: JsonObject[] = [];
  const asked = new Map<Host, ((result: ProbeResult) => void)[]>();
  const events: string[] = [];
  let traffic = true;
  const checker = new HealthChecker(settings, {
    clock,
    random: seeded(1),
    scope: new StatsScope(store, ''),
    clusterName: 'c',
    writer: () => (line) => lines.push(JSON.parse(line) as JsonObject),
    hasTraffic: () => traffic,
    makeProbe(host): Probe {
      asked.set(host, []);
      return {
        start(done) {
          asked.get(host)!.push(done);
          return () => events.push('cancelled');
        },
        stop: () => events.push('stopped'),
      };
    },
    result() {},
    changed: (host) => events.push(`changed ${host.flagsText}`),
    passed: () => events.push('passed'),
    warm: () => events.push('warm'),
  });
  const all = hosts(count);
  for (const host of all) failed(host);
  const answer = (result: ProbeResult, n = 0): void => asked.get(all[n]!)!.at(-1)!(result);
  return {
    checker,
    clock,
    all,
    lines,
    events,
    answer,
    asked: (n = 0): number => asked.get(all[n]!)!.length,
    stat: (name: string) =>
      (store.counters.get(`health_check.${name}`) ?? store.gauges.get(`health_check.${name}`))!.value,
    noTraffic: () => {
      traffic = false;
    },
  };
}

test('the first answer is believed, later ones need the threshold', () => {
  const { checker, all, answer, clock, events, asked, stat } = setUp({ no_traffic_interval: '60s' });
  checker.onMembers(all, []);
  assert.ok(checker.warming);
  answer(HEALTHY);
  assert.deepEqual(events.splice(0), ['passed', 'changed healthy', 'warm']);
  clock.pass(10_000);
  assert.equal(asked(), 2);
  answer(UNREACHABLE);
  assert.ok(all[0]!.healthy, 'one silence is not enough');
  clock.pass(10_000);
  answer(UNREACHABLE);
  assert.equal(all[0]!.flagsText, '/failed_active_hc');
  for (let i = 0; i < 2; i++) {
    clock.pass(10_000);
    answer(HEALTHY);
    assert.ok(!all[0]!.healthy);
  }
  clock.pass(10_000);
  answer(HEALTHY);
  assert.ok(all[0]!.healthy);
  assert.deepEqual(
    [stat('attempt'), stat('success'), stat('failure'), stat('network_failure'), stat('healthy')],
    [6, 4, 2, 2, 1],
  );
});

test('an answer that says no is believed at once; a retriable one is not', () => {
  const { checker, all, answer, clock } = setUp();
  checker.onMembers(all, []);
  answer(HEALTHY);
  clock.pass(10_000);
  answer({ kind: 'failed', why: 'active', retriable: true, exclude: false });
  assert.ok(all[0]!.healthy);
  clock.pass(10_000);
  answer(HEALTHY);
  clock.pass(10_000);
  answer(REFUSED);
  assert.ok(!all[0]!.healthy);
});

test('a check that takes too long is cancelled and fails', () => {
  const { checker, all, clock, events, asked } = setUp({ unhealthy_threshold: 1 });
  checker.onMembers(all, []);
  clock.pass(1_000);
  assert.deepEqual(events.splice(0), ['cancelled', 'warm']);
  assert.ok(all[0]!.has(HEALTH.activeHcTimeout));
  clock.pass(10_000);
  assert.equal(asked(), 2);
});

test('intervals by state, and slower without traffic', () => {
  const { checker, all, answer, clock, asked, noTraffic } = setUp({
    healthy_edge_interval: '1s',
    unhealthy_edge_interval: '2s',
    unhealthy_interval: '3s',
    no_traffic_interval: '50s',
    no_traffic_healthy_interval: '20s',
  });
  checker.onMembers(all, []);
  const next = (result: ProbeResult, ms: number): void => {
    const before = asked();
    answer(result);
    clock.pass(ms - 1);
    assert.equal(asked(), before);
    clock.pass(1);
    assert.equal(asked(), before + 1);
  };
  next(HEALTHY, 10_000);
  next(UNREACHABLE, 2_000);
  next(UNREACHABLE, 3_000);
  next(HEALTHY, 1_000);
  noTraffic();
  next(HEALTHY, 50_000);
  next(HEALTHY, 20_000);
});

test('degraded hosts are known as such', () => {
  const { checker, all, answer, clock, events, stat } = setUp();
  checker.onMembers(all, []);
  answer(DEGRADED);
  assert.equal(all[0]!.flagsText, '/degraded_active_hc');
  assert.equal(stat('degraded'), 1);
  clock.pass(10_000);
  events.length = 0;
  answer(HEALTHY);
  assert.deepEqual(events, ['passed', 'changed healthy']);
});

test('a host may ask not to be counted', () => {
  const { checker, all, answer, clock } = setUp();
  checker.onMembers(all, []);
  answer(HEALTHY);
  clock.pass(10_000);
  answer({ ...(REFUSED as Extract<ProbeResult, { kind: 'failed' }>), exclude: true });
  assert.equal(all[0]!.flagsText, '/failed_active_hc/excluded_via_immediate_hc_fail');
});

test('warm means every host was checked; removed hosts are stopped', () => {
  const { checker, all, answer, events, clock } = setUp({}, 2);
  checker.onMembers(all, []);
  answer(HEALTHY, 0);
  assert.ok(!events.includes('warm'));
  answer(UNREACHABLE, 1);
  assert.ok(events.includes('warm'));
  checker.onMembers([], [all[0]!]);
  checker.stop();
  assert.equal(events.filter((event) => event === 'stopped').length, 2);
  assert.equal(clock.waiting, 0);
});

test('events are logged', () => {
  const { checker, all, answer, clock, lines } = setUp({
    event_log_path: '/log',
    always_log_health_check_failures: true,
  });
  checker.onMembers(all, []);
  answer(HEALTHY);
  clock.pass(10_000);
  answer(REFUSED);
  assert.deepEqual(lines[0]!.add_healthy_event, { first_check: true });
  assert.deepEqual(lines[1]!.eject_unhealthy_event, { failure_type: 'ACTIVE' });
  assert.deepEqual(lines[2]!.health_check_failure_event, { failure_type: 'ACTIVE' });
  assert.deepEqual(lines[0]!.host, { socket_address: { protocol: 'TCP', address: '10.0.0.0', port_value: 80 } });
});

test('settings are checked', () => {
  const refuse = (extra: JsonObject, reason: RegExp): void => {
    assert.throws(() => setUp(extra), reason);
  };
  refuse({ interval: '0s' }, /h\[0\]\.interval: value must be greater than 0s/);
  refuse({ tcp_health_check: { send: { text: 'xyz' } } }, /invalid hex string 'xyz'/);
  const http = (extra: JsonObject): JsonObject => ({
    tcp_health_check: null,
    http_health_check: { path: '/', ...extra },
  });
  refuse(http({ expected_statuses: [{ start: 300, end: 200 }] }), /expecting start < end/);
  refuse(
    http({ request_headers_to_add: [{ header: { key: 'a', value: '%X%' } }] }),
    /command operators are not supported/,
  );
  refuse(http({ send: { text: '00' } }), /http_health_check\.send: HTTP health check cannot specify a request payload/);
  refuse({ event_service: {} }, /event_service: field of .* is not supported/);
});

test('pieces of an answer are looked for one after the other', () => {
  const has = (text: string, ...pieces: string[]) =>
    holds(
      Buffer.from(text),
      pieces.map((piece) => Buffer.from(piece)),
    );
  assert.ok(has('a-b-c', 'a', 'c'));
  assert.ok(!has('a-b-c', 'c', 'a'));
  assert.ok(has('', ...[]));
});
