// Keeps the house in order: who may import whom, and who may read the environment. ARCHITECTURE.md states the rules.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.dirname(import.meta.dirname);

/** Each wing may import itself and the wings named. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  api: ['base'],
  rbac: ['base', 'api'],
  localkube: ['base', 'api'],
  'control-plane': ['base', 'api'],
  'data-plane': ['base', 'api', 'rbac'],
  insight: ['base', 'api', 'rbac', 'control-plane', 'data-plane'],
  cli: ['base', 'api', 'localkube', 'control-plane', 'insight'],
};

/** Of these wings `insight` may touch the wiring only. */
const BY_WIRING: ReadonlySet<string> = new Set(['control-plane', 'data-plane']);

const sources = globSync('src/**/*.ts', { cwd: root }).filter((file) => !file.endsWith('.test.ts'));

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(root, file), 'utf8');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g)].map((m) =>
    path.relative(root, path.resolve(root, path.dirname(file), m[1]!)),
  );
}

test('imports point only upward between wings', () => {
  const wrong: string[] = [];
  for (const file of sources) {
    const wing = file.split('/')[1]!;
    for (const target of importsOf(file)) {
      if (!target.startsWith('src/')) continue;
      const other = target.split('/')[1]!;
      if (other === wing) continue;
      const deep = wing === 'insight' && BY_WIRING.has(other) && !target.endsWith('/wiring.ts');
      if (deep || !MAY_IMPORT[wing]?.includes(other)) wrong.push(`${file} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(sources.length > 50, 'the source list is suspiciously short');
});

test('only main.ts and wiring.ts read the environment or argv', () => {
  const wrong = sources.filter(
    (file) =>
      !/(^|\/)(main|wiring)\.ts$/.test(file) &&
      /\bprocess\.(env|argv)\b/.test(readFileSync(path.join(root, file), 'utf8')),
  );
  assert.deepEqual(wrong, []);
});

test('every source file opens with a comment that says what it is', () => {
  const wrong = sources.filter((file) => !/^(#!.*\n)?\/[/*]/.test(readFileSync(path.join(root, file), 'utf8')));
  assert.deepEqual(wrong, []);
});
