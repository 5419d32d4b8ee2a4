// The table of filter places and the registry say the same.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FILTER_ORDER } from './order.ts';
import { KNOWN_HTTP_FILTERS } from './registry.ts';

test('every filter of the registry has its place, and every place that is taken has its filter', () => {
  const taken = FILTER_ORDER.filter((place) => place.here).map((place) => place.type);
  assert.deepEqual([...taken].sort(), [...KNOWN_HTTP_FILTERS].sort());
  const types = FILTER_ORDER.map((place) => place.type);
  assert.equal(new Set(types).size, types.length);
});

test('places are kept for what comes later, between the filters they belong between', () => {
  const at = (name: string) => FILTER_ORDER.findIndex((place) => place.type.includes(`.${name}.`));
  const order = ['cors', 'ext_authz', 'jwt_authn', 'rbac', 'local_ratelimit', 'ratelimit', 'fault', 'router'].map(at);
  assert.ok(!order.includes(-1));
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});
