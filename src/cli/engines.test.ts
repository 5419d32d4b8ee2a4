import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { UserError } from './command.ts';
import { envoyBinaries, installEnvoy, requireEngine } from './engines.ts';

function home(t: { after(fn: () => void): void }): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-engines-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function program(dir: string, line: string): string {
  const file = path.join(dir, 'given');
  writeFileSync(file, `#!/bin/sh\necho '${line}'\n`);
  chmodSync(file, 0o755);
  return file;
}

test('a given binary is installed under the version it reports', (t) => {
  const dir = home(t);
  assert.deepEqual(envoyBinaries(dir), []);
  assert.throws(() => requireEngine(dir, 'envoy'), /engine add envoy/);
  const file = program(dir, `given  version: ${'a'.repeat(40)}/1.38.1/Clean/RELEASE/BoringSSL`);
  const added = installEnvoy(dir, file);
  assert.equal(added.version, '1.38.1');
  assert.equal(readFileSync(added.file, 'utf8'), readFileSync(file, 'utf8'));
  installEnvoy(dir, program(dir, `given  version: ${'b'.repeat(40)}/1.9.0/Clean/RELEASE/BoringSSL`));
  assert.deepEqual(
    envoyBinaries(dir).map((one) => one.version),
    ['1.9.0', '1.38.1'],
  );
  assert.equal(requireEngine(dir, 'envoy'), 'envoy');
});

test('what is no Envoy is refused, and so is an engine nobody knows', (t) => {
  const dir = home(t);
  assert.throws(() => installEnvoy(dir, program(dir, 'hello')), /is not an Envoy that runs/);
  assert.throws(() => installEnvoy(dir, dir), /is a folder: name the program in it\./);
  assert.deepEqual(envoyBinaries(dir), []);
  assert.throws(() => requireEngine(dir, 'nginx'), UserError);
});
