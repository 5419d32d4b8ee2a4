// The command as typed: help of a group of commands, and what a mistake is told.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

function meltemi(...words: readonly string[]) {
  const main = path.join(import.meta.dirname, 'main.ts');
  return spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...words], { encoding: 'utf8' });
}

test('help of a word that begins several commands lists them', () => {
  for (const words of [
    ['engine', '--help'],
    ['engine', '-h'],
    ['help', 'engine'],
  ]) {
    const { status, stdout } = meltemi(...words);
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: meltemi engine COMMAND \[flags\]\n\n {2}engine add .*\n {2}engine list .*\n$/);
  }
});

test('such a word alone is refused with the commands it begins', () => {
  const { status, stderr } = meltemi('engine', 'nonsense');
  assert.equal(status, 64);
  assert.match(stderr, /There is no command "engine nonsense": "meltemi engine add" or "meltemi engine list"\./);
  assert.match(meltemi('engine').stderr, /"engine" needs one more word: "meltemi engine add" or/);
});

test('a mistyped flag is told with the one that was probably meant', () => {
  const { status, stderr } = meltemi('test', '--enigne', 'envoy', 'x.yaml');
  assert.equal(status, 64);
  assert.match(stderr, /Unknown option '--enigne': did you mean --engine\?/);
});

test('a binary that is not used, or is none, is refused before anything runs', () => {
  const unused = meltemi('test', '--envoy-path', process.execPath, 'x.yaml');
  assert.equal(unused.status, 2);
  assert.match(unused.stderr, /--envoy-path is for --engine envoy or both\./);
  const other = meltemi('test', '--engine', 'envoy', '--envoy-path', import.meta.filename, 'x.yaml');
  assert.equal(other.status, 2);
  assert.match(other.stderr, /--envoy-path: \S+main\.test\.ts may not be executed: chmod \+x/);
});
