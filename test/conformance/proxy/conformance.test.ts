// The conformance cases on the embedded engine alone, as child processes with Envoy's command line: no Envoy and no root needed.
// `npm run conformance` runs both engines and compares them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createCertificates } from './certificates.ts';
import { DIFFERENCES_FILE, expectedPage } from './differences.ts';
import { meltemiCommand } from './engine-process.ts';
import { failed, reportCase } from './report.ts';
import { runCases } from './run-file.ts';
import { loadSuite } from './suite.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');
const files = await loadSuite();
const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-conformance-'));
test.after(() => rmSync(dir, { recursive: true, force: true }));
const certificates = createCertificates(dir);

for (const file of files)
  test(file.file, { timeout: 300_000 }, async (t) => {
    const runs = await runCases(file.cases, {
      engine: meltemiCommand(path.join(root, 'generated', 'conformance-cache')),
      certificates: await certificates,
      dir: path.join(dir, file.topic),
    });
    for (const run of runs)
      await t.test(run.test.name, { todo: run.test.pending }, () => {
        const byEngine = new Map([['meltemi', run]]);
        if (failed(byEngine, undefined)) assert.fail(reportCase(run.test, byEngine, undefined));
      });
  });

test('docs/reference/engine-differences.md lists what the cases allow to differ', () => {
  const current = readFileSync(DIFFERENCES_FILE, 'utf8');
  assert.equal(current, expectedPage(current, files), 'run "npm run conformance -- --differences"');
});
