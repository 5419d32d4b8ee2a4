import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StatsScope, StatsStore } from '../stats/stats.ts';
import { clusterCounters } from './counters.ts';
import { NO_POLICY } from './endpoints.ts';
import { HEALTH, type Host, type HostSpec } from './host.ts';
import type { HostSet } from './host-set.ts';
import { Membership, type MembershipOptions } from './membership.ts';
import { FakeClock, spec } from './testing/fakes.ts';

function setUp(extra: Partial<MembershipOptions> = {}) {
  const store = new StatsStore();
  const clock = new FakeClock();
  const counters = clusterCounters(new StatsScope(store, 'c.'), store);
  const published: (readonly HostSet[])[] = [];
  const events: string[] = [];
  const names = (list: readonly Host[]) => list.map((host) => host.key).join(',');
  const membership = new Membership({
    checked: false,
    single: false,
    warmHosts: false,
    removeAtOnce: false,
    mergeMs: 1_000,
    clock,
    counters,
    onSets: (sets) => published.push(sets),
    onMembers: (added, removed) => events.push(`+${names(added)} -${names(removed)}`),
    ...extra,
  });
  const assign = (...specs: HostSpec[]) => membership.assign({ specs, policy: NO_POLICY });
  return { membership, clock, counters, published, events, assign };
}

test('hosts that stay are the same; others come and go', () => {
  const { membership, events, assign, counters } = setUp();
  assign(spec(1), spec(2), spec(2));
  const [one, two] = membership.hosts;
  assign(spec(2, { weight: 7, metadata: { 'envoy.lb': { a: 1 } } }), spec(3));
  assert.equal(membership.hosts[0], two);
  assert.equal(two!.weight, 7);
  assert.deepEqual(events, ['+10.0.0.1:80,10.0.0.2:80 -', '+10.0.0.3:80 -10.0.0.1:80']);
  assert.equal(membership.find(one!.key), undefined);
  assert.equal(counters.membershipTotal.value, 2);
  assert.equal(counters.membershipChange.value, 2);
  // Another locality is another host.
  assign(spec(2, { locality: { region: 'r', zone: '', subZone: '' } }), spec(3));
  assert.notEqual(membership.hosts[0], two);
});

test('changes without members within the window are joined', () => {
  const { clock, published, assign, counters } = setUp();
  assign(spec(1));
  assign(spec(1, { weight: 2 }));
  assign(spec(1, { weight: 3 }));
  assert.equal(published.length, 1);
  clock.pass(1_000);
  assert.equal(published.length, 2);
  assert.equal(counters.updatedViaMerge.value, 1);
  assign(spec(1, { weight: 4 }));
  assign(spec(1), spec(2));
  assert.equal(published.length, 3, 'a new member is told at once');
  assert.equal(counters.mergeCancelled.value, 1);
  clock.pass(5_000);
  assert.equal(published.length, 3);
  assign(spec(1, { weight: 9 }), spec(2));
  assert.equal(published.length, 4, 'out of the window: at once');
  const off = setUp({ mergeMs: 0 });
  off.assign(spec(1));
  off.assign(spec(1, { weight: 2 }));
  assert.equal(off.published.length, 2);
});

test('with health checks new hosts begin unhealthy, and removed ones stay while they are healthy', () => {
  const { membership, assign, counters } = setUp({ checked: true, warmHosts: true });
  assign(spec(1), spec(2));
  const [one, two] = membership.hosts;
  assert.equal(one!.flagsText, '/failed_active_hc/pending_active_hc');
  assert.equal(counters.membershipExcluded.value, 2);
  one!.flags = 0;
  two!.flags = 0;
  assign(spec(3));
  assert.equal(membership.hosts.length, 3);
  assert.ok(one!.has(HEALTH.pendingRemoval));
  one!.set(HEALTH.failedActiveHc, true);
  membership.refresh();
  assert.deepEqual(
    membership.hosts.map((host) => host.key),
    ['10.0.0.3:80', '10.0.0.2:80'],
  );
  assign(spec(2), spec(3));
  assert.ok(!two!.has(HEALTH.pendingRemoval), 'back again');
  const atOnce = setUp({ checked: true, removeAtOnce: true });
  atOnce.assign(spec(1));
  atOnce.membership.hosts[0]!.flags = 0;
  atOnce.assign(spec(2));
  assert.equal(atOnce.membership.hosts.length, 1);
});

test('what the first checks found is published when they are over, not after the merge window', () => {
  const { membership, assign, published, clock } = setUp({ checked: true });
  assign(spec(1));
  membership.hosts[0]!.flags = 0;
  membership.refresh();
  assert.equal(published.length, 1);
  membership.publishPending();
  assert.equal(published.length, 2);
  clock.pass(1_000);
  assert.equal(published.length, 2);
});
