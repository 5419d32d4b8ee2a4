import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import type { Host } from '../host.ts';
import { metadataMatch } from '../lb-context.ts';
import { context, deps, hosts, sets, tally } from '../testing/fakes.ts';
import type { SubsetPolicy, SubsetSelector } from './balancer.ts';
import { createBalancer } from './make.ts';

const selector = (keys: string[], extra: Partial<SubsetSelector> = {}): SubsetSelector => ({
  keys,
  single: false,
  fallback: 'not-defined',
  fallbackKeys: [],
  ...extra,
});
const policy = (extra: Partial<SubsetPolicy> = {}): SubsetPolicy => ({
  kind: 'subset',
  fallback: 'none',
  defaultSubset: new Map(),
  selectors: [selector(['version']), selector(['stage', 'version'])],
  localityWeightAware: false,
  scaleLocalityWeight: false,
  panicModeAny: false,
  listAsAny: false,
  fallbackList: false,
  allowRedundantKeys: false,
  child: { kind: 'round-robin', slowStart: undefined, locality: { weighted: false, failOnPanic: false } },
  ...extra,
});

const LABELS: JsonObject[] = [
  { version: 'v1', stage: 'prod' },
  { version: 'v1', stage: 'dev' },
  { version: 'v2', stage: 'prod' },
  { version: ['v3', 'v4'] },
];
const labelled = (): Host[] => hosts(4, (n) => ({ metadata: { 'envoy.lb': LABELS[n]! } }));
const asks = (labels: JsonObject) => () => context({ metadataMatch: metadataMatch({ 'envoy.lb': labels }) });

function setUp(extra: Partial<SubsetPolicy> = {}) {
  const made = deps();
  const all = labelled();
  const balancer = createBalancer(policy(extra), made);
  balancer.update(sets(all));
  const chosen = (labels: JsonObject): string =>
    [...tally(balancer, 40, asks(labels)).keys()]
      .map((key) => all.findIndex((host) => host.key === key))
      .sort()
      .join('');
  return { made, all, balancer, chosen };
}

test('criteria choose the subset whose keys they are', () => {
  const { chosen, made } = setUp();
  assert.equal(chosen({ version: 'v1' }), '01');
  assert.equal(chosen({ version: 'v2' }), '2');
  assert.equal(chosen({ stage: 'dev', version: 'v1' }), '1');
  assert.equal(chosen({ stage: 'prod' }), '-1', 'no such selector');
  assert.equal(chosen({ version: 'v9' }), '-1');
  assert.equal(made.counters.subsets.selected.value, 120);
  assert.equal(made.counters.subsets.active.value, 6);
});

test('a request without a subset takes the fallback of the selector, else of the cluster', () => {
  assert.equal(setUp({ fallback: 'any' }).chosen({ version: 'v9' }), '0123');
  const wanted = new Map([['stage', '"prod"']]);
  assert.equal(setUp({ fallback: 'default', defaultSubset: wanted }).chosen({}), '02');
  const own = (extra: Partial<SubsetSelector>) =>
    setUp({ fallback: 'any', selectors: [selector(['version']), selector(['stage', 'version'], extra)] }).chosen({
      stage: 'x',
      version: 'v1',
    });
  assert.equal(own({ fallback: 'none' }), '-1');
  assert.equal(own({ fallback: 'any' }), '0123');
  assert.equal(own({ fallback: 'keys', fallbackKeys: ['version'] }), '01');
  assert.equal(own({}), '0123');
});

test('an empty default subset falls back to any endpoint in panic mode', () => {
  const nowhere = new Map([['stage', '"none"']]);
  const { chosen, made } = setUp({ fallback: 'default', defaultSubset: nowhere, panicModeAny: true });
  assert.equal(chosen({ version: 'v9' }), '0123');
  assert.equal(made.counters.subsets.fallbackPanic.value, 40);
});

test('a list stands for each of its values when asked to', () => {
  assert.equal(setUp().chosen({ version: 'v3' }), '-1');
  assert.equal(setUp({ listAsAny: true }).chosen({ version: 'v3' }), '3');
  assert.equal(setUp({ listAsAny: true }).chosen({ version: 'v4' }), '3');
});

test('one host a subset: the first stays, duplicates are counted', () => {
  const { chosen, made } = setUp({ selectors: [selector(['version'], { single: true })] });
  assert.equal(chosen({ version: 'v1' }), '0');
  assert.equal(made.counters.subsets.duplicate.value, 1);
});

test('a fallback list is tried in turn', () => {
  const { chosen } = setUp({ fallbackList: true });
  assert.equal(chosen({ fallback_list: [{ version: 'v9' }, { version: 'v2' }] }), '2');
  assert.equal(chosen({ version: 'v1', fallback_list: [{ stage: 'none' }, { stage: 'dev' }] }), '1');
});

test('criteria beyond the selectors are ignored when allowed', () => {
  assert.equal(setUp().chosen({ version: 'v2', colour: 'red' }), '-1');
  assert.equal(setUp({ allowRedundantKeys: true }).chosen({ version: 'v2', colour: 'red' }), '2');
});

test('subsets follow the hosts', () => {
  const { balancer, all, made } = setUp();
  const moved = all.slice(0, 3);
  moved[2]!.spec = { ...moved[2]!.spec, metadata: { 'envoy.lb': { version: 'v1', stage: 'prod' } } };
  balancer.update(sets(moved));
  assert.equal(tally(balancer, 30, asks({ version: 'v1' })).size, 3);
  assert.equal(tally(balancer, 1, asks({ version: 'v2' })).get(''), 1);
  assert.equal(made.counters.subsets.active.value, 3);
  assert.equal(made.counters.subsets.removed.value, 3);
});
