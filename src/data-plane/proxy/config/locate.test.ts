import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lineOf } from './locate.ts';

const YAML = `static_resources:
  listeners:
  - name: other
  - name: web
    filterChains:
    - filters:
      - typed_config:
          map: {"a.b": 1}
          stat_prefix: x
`;

test('a path leads to the line of its deepest part', () => {
  const any = 'static_resources.listeners[1].filter_chains[0].filters[0].typed_config.<any>';
  assert.equal(lineOf(YAML, `${any}.stat_prefix`), 9);
  assert.equal(lineOf(YAML, `${any}.map["a.b"]`), 8);
  assert.equal(lineOf(YAML, `${any}.absent.deeper`), 7);
  assert.equal(lineOf(YAML, "listener 'web'.filter_chains[0]"), 6);
  assert.equal(lineOf(YAML, 'node.id'), undefined);
  assert.equal(lineOf('{"a":\n {"b": 1}}', 'a.b'), 2);
  assert.equal(lineOf('a: [', 'x'), undefined);
  assert.equal(lineOf('', ''), undefined);
});
