import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFieldSelector, parseLabelSelector, selectorPredicate } from './selectors.ts';
import { ApiError } from './status.ts';

test('label selectors with every operator', () => {
  const labels = { app: 'web', tier: 'front', n: '5' };
  const cases: readonly (readonly [string, boolean])[] = [
    ['', true],
    ['app=web', true],
    ['app==web,tier=front', true],
    ['app!=web', false],
    ['missing!=x', true],
    ['app in (db, web)', true],
    ['app in (db)', false],
    ['app notin (db),n', true],
    ['missing notin (x)', true],
    ['!missing', true],
    ['!app', false],
    ['n>4', true],
    ['n<4', false],
    ['app.kubernetes.io/name', false],
  ];
  for (const [text, expected] of cases) assert.equal(parseLabelSelector(text)(labels), expected, text);
  for (const bad of ['app in web', '=x', 'a=b c', 'app=web=x', '-x'])
    assert.throws(
      () => parseLabelSelector(bad),
      (error) => error instanceof ApiError && error.code === 400,
      bad,
    );
});

test('field selectors know their fields', () => {
  const pod = { metadata: { name: 'a', namespace: 'b' }, spec: { nodeName: 'n' }, status: { phase: 'Running' } };
  assert.equal(parseFieldSelector('status.phase=Running,spec.nodeName!=x', '/pods')(pod), true);
  assert.equal(parseFieldSelector('metadata.name==z', '/pods')(pod), false);
  assert.throws(() => parseFieldSelector('spec.foo=1', '/pods'), /field label not supported: spec.foo/);
});

test('an object selector without terms matches everything, an unknown operator nothing', () => {
  assert.equal(selectorPredicate(undefined)({}), true);
  assert.equal(selectorPredicate({ matchExpressions: [{ key: 'a', operator: 'DoesNotExist' }] })({ a: '1' }), false);
  assert.equal(selectorPredicate({ matchExpressions: [{ key: 'a', operator: 'Maybe' }] })({ a: '1' }), false);
});
