import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from './nearest.ts';

test('a typing mistake finds its word, another word finds none', () => {
  assert.equal(nearest('prot', ['port', 'name']), 'port');
  assert.equal(nearest('VirtualServce', ['DestinationRule', 'VirtualService']), 'VirtualService');
  assert.equal(nearest('elephant', ['port', 'name']), undefined);
  assert.equal(nearest('x', []), undefined);
  assert.equal(nearest('http.lua.v3.Lua', ['http.rbac.v3.RBAC'], 3), undefined);
});
