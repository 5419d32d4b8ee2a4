// Normalization of paths: the cases of Istio's traps, and that doing it twice changes nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { normalizePath, type PathSettings } from './path-normalize.ts';

const BASE: PathSettings = { normalize: true, mergeSlashes: false, escapedSlashes: 'keep' };
const DECODE: PathSettings = { normalize: true, mergeSlashes: true, escapedSlashes: 'forward' };

test('BASE resolves dots and backslashes, also escaped dots, and keeps // and %2f', () => {
  const ok = (from: string, to: string) => assert.deepEqual(normalizePath(from, BASE), { kind: 'ok', path: to });
  ok('/a/../b', '/b');
  ok('/a/%2e%2e/b', '/b');
  ok('/a\\b', '/a/b');
  ok('/a//b', '/a//b');
  ok('/a%2fb?x=%2e%2e/..', '/a%2fb?x=%2e%2e/..');
  ok('/../../x', '/x');
  ok('/a/.', '/a/');
  ok('/a/..', '/');
  ok('/a"<>^`{|}b?"<>', '/a%22%3C%3E%5E%60%7B%7C%7Db?"<>');
  ok('/caf\xc3\xa9', '/caf%C3%A9');
  ok("/a!$&'()*+,;=:@~[]-._b", "/a!$&'()*+,;=:@~[]-._b");
  ok('/x/..;/admin', '/admin');
  ok('/..;a=b/admin', '/admin');
  ok('/x/%2e%2e;/admin', '/admin');
  ok('/x/y/..;/../admin', '/admin');
  ok('/x/.;p/b', '/x/b');
  ok('/x/..;', '/');
  ok('/x/..;?/../q', '/?/../q');
  ok('/x/...;/y;/..a;/.b', '/x/...;/y;/..a;/.b');
  assert.deepEqual(normalizePath('/a%00', BASE), { kind: 'reject' });
});

test('DECODE_AND_MERGE_SLASHES unescapes once', () => {
  assert.deepEqual(normalizePath('/a%2f%2Fb', DECODE), { kind: 'ok', path: '/a/b' });
  assert.deepEqual(normalizePath('/a/%5c../b', DECODE), { kind: 'ok', path: '/a/b' });
  assert.deepEqual(normalizePath('/%252e%252e/x', DECODE), { kind: 'ok', path: '/%252e%252e/x' });
});

test('rejecting and redirecting escaped slashes; nothing is touched when nothing is asked', () => {
  assert.deepEqual(normalizePath('/a%2fb', { ...BASE, escapedSlashes: 'reject' }), { kind: 'reject' });
  assert.deepEqual(normalizePath('/a%2fb?q', { ...BASE, escapedSlashes: 'redirect' }), {
    kind: 'redirect',
    path: '/a/b?q',
  });
  assert.deepEqual(normalizePath('/a/../b', { ...BASE, normalize: false }), { kind: 'ok', path: '/a/../b' });
});

test('no dot segment survives, and a second pass changes nothing', () => {
  const segment = fc.constantFrom(
    'a',
    '.',
    '..',
    '',
    '%2e',
    '%2E%2e',
    '%41',
    'b%2f',
    '\\',
    '..\\',
    '..;',
    '.;x',
    '%2e.;',
    ';',
  );
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 8 }), (parts) => {
      const once = normalizePath(`/${parts.join('/')}`, BASE);
      if (once.kind !== 'ok') return;
      assert.ok(!once.path.split('/').some((part) => /^\.{1,2}(;|$)/.test(part)), once.path);
      assert.ok(once.path.startsWith('/'), once.path);
      assert.deepEqual(normalizePath(once.path, BASE), once);
    }),
    { numRuns: 2000 },
  );
});
