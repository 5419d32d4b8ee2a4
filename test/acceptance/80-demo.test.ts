// The README's first command: `./meltemi demo`, with Debian's kubectl as on a bare machine, and the lab with the current one.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { type Result, root, run } from './cluster.ts';

/** Runs the CLI with `kubectl` meaning this binary. */
function withKubectl(binary: string, ...args: readonly string[]): Result {
  const bin = mkdtempSync(path.join(tmpdir(), 'meltemi-bin-'));
  symlinkSync(binary, path.join(bin, 'kubectl'));
  try {
    return run(path.join(root, 'meltemi'), args, { env: { PATH: `${bin}:${process.env.PATH}` } });
  } finally {
    rmSync(bin, { recursive: true });
  }
}

test('demo ends with exit 0 and tells what happened', () => {
  const result = withKubectl(process.env.OLD_KUBECTL!, 'demo');
  assert.equal(result.status, 0, result.stdout + result.stderr);
  for (const told of [
    /Plaintext is refused[\s\S]*000[\s\S]*exit status 56/,
    /The certificate on the wire[\s\S]*URI:spiffe:\/\/cluster\.local\/ns\/istioinaction\/sa\/catalog/,
    /That was the demo; everything still runs/,
    /export KUBECONFIG=/,
  ])
    assert.match(result.stdout, told);
  assert.doesNotMatch(result.stdout, /✘/);
  assert.ok(!result.stdout.includes('\x1b['), 'no colour in a pipe');
});

test('lab istio-in-action --check exits 0, also when run again', () => {
  const result = withKubectl(process.env.KUBECTL!, 'lab', 'istio-in-action', '--check');
  assert.equal(result.status, 0, result.stdout + result.stderr);
});
