import assert from 'node:assert/strict';
import { test } from 'node:test';
import { grpcHttpStatus, metadataMatch, valueText } from './lb-context.ts';

test('criteria of a weighted cluster are joined with those of its route, sorted by key', () => {
  const route = metadataMatch({ 'envoy.lb': { version: 'v1', stage: 'prod' }, other: { x: 1 } });
  assert.deepEqual(route, { keys: ['stage', 'version'], values: ['"prod"', '"v1"'] });
  assert.deepEqual(metadataMatch({ 'envoy.lb': { version: 'v2', a: true } }, route), {
    keys: ['a', 'stage', 'version'],
    values: ['true', '"prod"', '"v2"'],
  });
  assert.equal(metadataMatch({}, route), route);
  assert.equal(metadataMatch(undefined), undefined);
});

test('equal values have equal texts', () => {
  assert.equal(
    valueText({ b: [1, 'x'], a: { d: null, c: true } }),
    valueText({ a: { c: true, d: null }, b: [1, 'x'] }),
  );
  assert.notEqual(valueText('1'), valueText(1));
});

test('gRPC statuses stand for HTTP statuses', () => {
  assert.deepEqual([0, 2, 5, 14, 16, 99].map(grpcHttpStatus), [200, 500, 404, 503, 401, 500]);
});
