import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromJson, type JsonObject } from '@bufbuild/protobuf';
import { OutlierDetectionSchema } from '#proto/envoy/config/cluster/v3/outlier_detection_pb.js';
import { EMPTY_RUNTIME, type RuntimeView } from '../../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../../stats/stats.ts';
import { HEALTH, type Host } from '../host.ts';
import { FakeClock, hosts, seeded } from '../testing/fakes.ts';
import { OutlierDetector } from './detector.ts';
import { outlierLog } from './event-log.ts';
import { readOutlier } from './settings.ts';

function setUp(config: JsonObject = {}, extra: { count?: number; runtime?: RuntimeView } = {}) {
  const settings = readOutlier(fromJson(OutlierDetectionSchema, { max_ejection_percent: 50, ...config }), 'o')!;
  const clock = new FakeClock();
  const store = new StatsStore();
  const all = hosts(extra.count ?? 2);
  const lines: JsonObject[] = [];
  const changed: Host[] = [];
  const detector = new OutlierDetector(settings, {
    clock,
    random: seeded(5),
    runtime: extra.runtime ?? EMPTY_RUNTIME,
    scope: new StatsScope(store, ''),
    log: outlierLog('c', clock, (line) => lines.push(JSON.parse(line) as JsonObject)),
    hosts: () => all,
    changed: (host) => changed.push(host),
  });
  const stat = (name: string): number =>
    store.counters.get(`outlier_detection.${name}`)?.value ?? store.gauges.get(`outlier_detection.${name}`)!.value;
  const ejected = (): string => all.map((host) => (host.has(HEALTH.failedOutlier) ? 'x' : '.')).join('');
  const report = (host: number, outcome: Parameters<OutlierDetector['onOutcome']>[1], times = 1): void => {
    for (let i = 0; i < times; i++) detector.onOutcome(all[host]!, outcome);
  };
  return { detector, clock, all, lines, changed, stat, ejected, report };
}

test('five bad answers in a row eject a host for the base time, and again for longer', () => {
  const { report, ejected, clock, stat, all, changed } = setUp();
  report(0, 503, 4);
  report(0, 200);
  report(0, 503, 4);
  assert.equal(ejected(), '..');
  report(0, 500);
  assert.equal(ejected(), 'x.');
  assert.deepEqual(changed, [all[0]]);
  assert.equal(stat('ejections_enforced_consecutive_5xx'), 1);
  assert.equal(stat('ejections_active'), 1);
  clock.pass(29_999);
  assert.equal(ejected(), 'x.');
  clock.pass(1);
  assert.equal(ejected(), '..', 'the round after 30 s');
  assert.equal(stat('ejections_active'), 0);
  report(0, 'connect-failure', 5);
  assert.equal(ejected(), 'x.');
  clock.pass(50_000);
  assert.equal(ejected(), 'x.', 'twice the time');
  clock.pass(10_000);
  assert.equal(ejected(), '..');
});

test('no more than max_ejection_percent, with the next one counted; one always when asked to', () => {
  const { report, ejected, stat } = setUp({ max_ejection_percent: 40 }, { count: 5 });
  for (let host = 0; host < 5; host++) report(host, 500, 5);
  assert.equal(ejected(), 'xx...');
  assert.equal(stat('ejections_overflow'), 3);
  assert.equal(stat('ejections_detected_consecutive_5xx'), 5);
  const none = setUp({ max_ejection_percent: 49 });
  none.report(0, 500, 5);
  assert.equal(none.ejected(), '..');
  const one = setUp({ max_ejection_percent: 0, always_eject_one_host: true });
  one.report(0, 500, 5);
  one.report(1, 500, 5);
  assert.equal(one.ejected(), 'x.');
});

test('gateway failures are only counted unless they are enforced', () => {
  const lax = setUp({ consecutive_5xx: 0, consecutive_gateway_failure: 3 });
  lax.report(0, 502, 3);
  assert.equal(lax.ejected(), '..');
  assert.equal(lax.stat('ejections_detected_consecutive_gateway_failure'), 1);
  assert.equal(lax.lines[0]!.enforced, false);
  const strict = setUp({
    consecutive_5xx: 0,
    consecutive_gateway_failure: 3,
    enforcing_consecutive_gateway_failure: 100,
  });
  strict.report(0, 500, 2);
  strict.report(0, 503, 2);
  strict.report(0, 500);
  strict.report(0, 503, 2);
  assert.equal(strict.ejected(), '..', 'a 500 is no gateway failure');
  strict.report(0, 504);
  assert.equal(strict.ejected(), 'x.');
});

test('split: what the proxy met itself is counted apart', () => {
  const split = setUp({ split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 });
  split.report(0, 'connect-failure');
  split.report(0, 503, 4);
  split.report(0, 'request-timeout');
  assert.equal(split.ejected(), 'x.');
  assert.equal(split.stat('ejections_enforced_consecutive_local_origin_failure'), 1);
  const reset = setUp({ split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 });
  reset.report(0, 'connect-failure');
  reset.report(0, 'connected');
  reset.report(0, 'reset');
  assert.equal(reset.ejected(), '..');
});

test('a connection alone is no success when not split', () => {
  const { report, ejected } = setUp();
  for (let i = 0; i < 5; i++) {
    report(0, 'connected');
    report(0, 503);
  }
  assert.equal(ejected(), 'x.');
  report(1, 503, 4);
  report(1, 'success');
  report(1, 503, 4);
  assert.equal(ejected(), 'x.');
});

test('the host that succeeds far less than the others goes', () => {
  const { report, ejected, clock, lines, all } = setUp({ consecutive_5xx: 0, max_ejection_percent: 50 }, { count: 6 });
  for (let host = 0; host < 6; host++) report(host, 200, 100);
  for (let i = 0; i < 40; i++) report(3, 500);
  clock.pass(10_000);
  assert.equal(ejected(), '...x..');
  assert.equal(all[3]!.outlier?.successRate.toFixed(0), '71');
  assert.equal(lines[0]!.type, 'SUCCESS_RATE');
  clock.pass(10_000);
  assert.equal(all[0]!.outlier?.successRate, -1, 'no requests in this interval');
});

test('a share of failures above the threshold ejects when enforced', () => {
  const config = {
    consecutive_5xx: 0,
    enforcing_success_rate: 0,
    enforcing_failure_percentage: 100,
    max_ejection_percent: 100,
  };
  const { report, ejected, clock } = setUp(config, { count: 5 });
  for (let host = 0; host < 5; host++) {
    report(host, 500, host < 2 ? 45 : 40);
    report(host, 200, host < 2 ? 5 : 10);
  }
  clock.pass(10_000);
  assert.equal(ejected(), 'xx...');
});

test('a health check that passes ends the ejection, unless told otherwise', () => {
  const { report, ejected, detector, all, stat } = setUp();
  report(0, 503, 5);
  detector.onHealthCheckPassed(all[0]!);
  assert.equal(ejected(), '..');
  assert.equal(stat('ejections_active'), 0);
  const other = setUp({ successful_active_health_check_uneject_host: false });
  other.report(0, 503, 5);
  other.detector.onHealthCheckPassed(other.all[0]!);
  assert.equal(other.ejected(), 'x.');
});

test('the runtime goes before the configuration', () => {
  const runtime: RuntimeView = {
    ...EMPTY_RUNTIME,
    number: (key, fallback) => (key === 'outlier_detection.consecutive_5xx' ? 2 : fallback),
  };
  const { report, ejected } = setUp({}, { runtime });
  report(0, 503, 2);
  assert.equal(ejected(), 'x.');
});

test('events are logged; a removed host is forgotten', () => {
  const { report, lines, detector, all, clock, stat } = setUp();
  report(0, 500, 5);
  clock.pass(40_000);
  assert.deepEqual(
    lines.map((line) => [line.action, line.upstream_url, line.num_ejections]),
    [
      ['EJECT', '10.0.0.0:80', 1],
      ['UNEJECT', '10.0.0.0:80', 1],
    ],
  );
  report(1, 503, 5);
  detector.onRemoved([all[1]!]);
  assert.equal(stat('ejections_active'), 0);
  detector.stop();
  assert.equal(clock.waiting, 0);
});

test('settings are checked', () => {
  const refuse = (config: JsonObject, reason: RegExp): void => {
    assert.throws(() => readOutlier(fromJson(OutlierDetectionSchema, config), 'o'), reason);
  };
  refuse({ base_ejection_time: '10s', max_ejection_time: '5s' }, /max_ejection_time cannot be smaller/);
  refuse({ max_ejection_percent: 101 }, /o\.max_ejection_percent: value must be less than or equal to 100/);
  refuse({ monitors: [{ name: 'x' }] }, /o\.monitors: field of .* is not supported/);
  assert.equal(readOutlier(create(OutlierDetectionSchema), 'o')!.numbers.max_ejection_percent, 10);
});
