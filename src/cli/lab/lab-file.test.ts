import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { labNames, loadLab, parseLab } from './lab-file.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');

test('every lab under examples/ parses', () => {
  const names = labNames(root);
  assert.ok(names.includes('istio-in-action'));
  for (const name of names) assert.ok(loadLab(root, name).steps.length > 0);
});

test('an unknown lab names those there are', () => {
  assert.throws(() => loadLab(root, 'istio'), /The labs are: .*istio-in-action/);
});

test('every mistake in a file is named at its path', () => {
  const text =
    'name: x\ntitle: t\nsummary: s\nsteps:\n  - {title: a, runn: ls, expect: {stdout: "(", code: 1}, withinSeconds: 9999}\n';
  assert.throws(
    () => parseLab(text, '/x'),
    (error: Error) =>
      [
        'steps[0].runn: unknown field',
        'steps[0].expect.code: unknown field',
        'steps[0].run: expected',
        'withinSeconds: expected 0',
        'steps[0].expect.stdout: ',
      ].every((m) => error.message.includes(m)),
  );
});
