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
    const engine = meltemiCommand(path.join(root, 'generated', 'conformance-cache'));
    const setting = { engine, certificates: await certificates };
    const runs = await runCases(file.cases, { ...setting, dir: path.join(dir, file.topic) });
    for (const [i, first] of runs.entries())
      await t.test(first.test.name, { todo: first.test.pending }, async () => {
        // On a busy machine a short time-out may end early: by itself the case shows what it is.
        const bad = first.test.pending === undefined && failed(new Map([['meltemi', first]]), undefined);
        const alone = bad
          ? await runCases([first.test], { ...setting, dir: path.join(dir, `${file.topic}-${i}`) })
          : [];
        const run = alone[0] ?? first;
        const byEngine = new Map([['meltemi', run]]);
        if (failed(byEngine, undefined)) assert.fail(reportCase(run.test, byEngine, undefined));
      });
  });

test('docs/reference/engine-differences.md lists what the cases allow to differ', () => {
  const current = readFileSync(DIFFERENCES_FILE, 'utf8');
  assert.equal(current, expectedPage(current, files), 'run "npm run conformance -- --differences"');
});
