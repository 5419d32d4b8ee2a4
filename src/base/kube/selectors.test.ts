// Label and field selectors.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatLabelSelector,
  matchesFields,
  matchesLabelSelector,
  matchesRequirements,
  parseFieldSelector,
  parseLabelSelector,
} from './selectors.ts';

const matches = (selector: string, labels: Record<string, string>): boolean => {
  const parsed = parseLabelSelector(selector);
  assert.equal(parsed.kind, 'ok', selector);
  return parsed.kind === 'ok' && matchesRequirements(parsed.value, labels);
};

test('label selectors match as kubectl writes them', () => {
  const labels = { app: 'web', tier: 'front', 'example.com/n': '5', empty: '' };
  for (const yes of [
    '',
    'app',
    'app=web',
    'app==web',
    'app = web',
    '!old',
    'app!=db',
    'missing!=x',
    'tier in (front, back)',
    'tier notin (back)',
    'missing notin (a)',
    'app=web,tier',
    'example.com/n>4',
    'example.com/n<6',
    'empty=',
    'empty in ()',
  ])
    assert.ok(matches(yes, labels), yes);
  for (const no of [
    'old',
    'app=db',
    '!app',
    'app!=web',
    'tier in (back)',
    'tier notin (front,back)',
    'app=web,old',
    'example.com/n>5',
    'app>1',
    'missing=',
  ])
    assert.ok(!matches(no, labels), no);
});

test('bad label selectors are refused', () => {
  for (const bad of [
    'a=b=c',
    'app in web',
    'app in (a',
    ',',
    'a,,b',
    'a b',
    '=x',
    'a=b c',
    `${'a'.repeat(64)}=x`,
    'n>x',
    '-a',
    'UP.example/x'.toUpperCase(),
    'a'.repeat(20_000),
  ])
    assert.equal(parseLabelSelector(bad).kind, 'invalid', bad.slice(0, 30));
});

test('the object form', () => {
  const selector = {
    matchLabels: { app: 'web' },
    matchExpressions: [
      { key: 'v', operator: 'In', values: ['1', '2'] },
      { key: 'x', operator: 'DoesNotExist' },
    ],
  } as const;
  assert.ok(matchesLabelSelector(selector, { app: 'web', v: '2' }));
  assert.ok(!matchesLabelSelector(selector, { app: 'web', v: '3' }));
  assert.ok(!matchesLabelSelector(selector, { app: 'web', v: '1', x: '' }));
  assert.ok(matchesLabelSelector({}, undefined));
  assert.ok(!matchesLabelSelector({ matchExpressions: [{ key: 'a', operator: 'In', values: [] }] }, {}));
  assert.ok(!matchesLabelSelector({ matchLabels: { toString: 'x' } }, {}));
  assert.equal(formatLabelSelector(selector), 'app=web,v in (1,2),!x');
  assert.ok(matches(formatLabelSelector(selector), { app: 'web', v: '1' }));
});

test('field selectors', () => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', namespace: 'foo' },
    status: { phase: 'Running' },
  };
  const match = (text: string): boolean => {
    const parsed = parseFieldSelector(text);
    return parsed.kind === 'ok' && matchesFields(parsed.value, pod);
  };
  assert.ok(match('metadata.name=a,status.phase!=Failed'));
  assert.ok(match('spec.nodeName='));
  assert.ok(!match('metadata.name==b'));
  assert.equal(parseFieldSelector('nonsense').kind, 'invalid');
});
