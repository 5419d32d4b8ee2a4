// The mesh cases on the embedded engine: one node:test for a file, one for each request. `npm run conformance` runs them on both
// engines and compares.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { differenceText } from '../../../src/insight/policy-lab/report.ts';
import { runTests } from '../../../src/insight/policy-lab/run.ts';
import { knownDifferences, loadMeshTests } from './suite.ts';

const files = loadMeshTests();

for (const [file, tests] of files)
  test(file, { timeout: 120_000 }, async (t) => {
    const results = await runTests(tests, { engines: ['meltemi'], parallel: 4, onResult: () => {} });
    assert.equal(results.length, tests.length);
    for (const result of results)
      await t.test(result.name, () => {
        assert.equal(result.error, undefined);
        const wrong = result.requests.filter((r) => !r.pass);
        const lines = wrong.map((r) => `${file}:${r.line} ${r.name}: ${r.differences.map(differenceText).join('; ')}`);
        assert.deepEqual(lines, []);
      });
  });

test('the suite is as large as it claims, and every listed difference exists and is told in the documentation', () => {
  const tests = [...files.values()].flat();
  assert.ok(tests.length >= 150, `${tests.length} cases`);
  const names = tests.flatMap((one) => one.requests.map((r) => `${one.name}/${r.name}`));
  const page = readFileSync(
    path.resolve(import.meta.dirname, '../../../docs/reference/engine-differences.md'),
    'utf8',
  ).replaceAll(/\s+/g, ' ');
  for (const { request, reason } of knownDifferences()) {
    assert.ok(names.includes(request), `differences.yaml names ${request}, which is no request of the suite`);
    assert.ok(page.includes(reason.trim().replaceAll(/\s+/g, ' ')), `the page does not say: ${reason}`);
  }
});
