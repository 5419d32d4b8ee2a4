import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineCounter, parseDocument } from 'yaml';
import { yamlHint } from './yaml-hints.ts';

function hint(text: string): string | undefined {
  const lines = new LineCounter();
  const [wrong] = parseDocument(text, { lineCounter: lines, prettyErrors: false }).errors;
  assert.ok(wrong, text);
  return yamlHint(text, lines.linePos(wrong.pos[0]).line, wrong.pos[0]);
}

test('a bracket that is not closed is named where it was opened', () => {
  assert.equal(hint('a: {b: 1\nc: 2\n'), 'the { of line 1, column 4 is not closed');
  assert.equal(hint('x: 1\na: ["]", # [\n  {b: it\'s}\nc: 2\n'), 'the [ of line 2, column 4 is not closed');
  assert.equal(hint('a: ['), 'the [ of line 1, column 4 is not closed');
});

test('a tab is named with its line; other mistakes keep their own words', () => {
  assert.match(hint('a:\n  b: 1\n\tc: 2\n') ?? '', /^line 3 is indented with a tab/);
  assert.equal(hint('a: 1\n b: 2\n'), undefined);
  assert.equal(hint('a: 1\na: 2\n'), undefined);
  assert.equal(hint('a: x[1\na: 2\n'), undefined);
});
