// The mesh cases on both engines, compared with the expectations and with each other. Part of `npm run conformance`.
// --engine meltemi|envoy|both, --filter RE; MELTEMI_ENVOY names a stock Envoy.
import { stockEngine } from '../../../src/insight/policy-lab/engine-stock.ts';
import { compareEngines } from '../../../src/insight/policy-lab/engines-compare.ts';
import { totals } from '../../../src/insight/policy-lab/report.ts';
import { engineText, summaryText, testText } from '../../../src/insight/policy-lab/report-text.ts';
import { runTests } from '../../../src/insight/policy-lab/run.ts';
import { readFlags } from '../flags.ts';
import { envoyCommand } from '../proxy/engine-process.ts';
import { knownDifferences, loadMeshTests, unexplained } from './suite.ts';

const flags = readFlags();
const plain = (text: string): string => text;
const paint = { red: plain, green: plain, dim: plain, bold: plain };
const engines = flags.engine === 'both' ? (['meltemi', 'envoy'] as const) : ([flags.engine] as const);
const envoy = envoyCommand();
if (!envoy && engines.some((e) => e === 'envoy')) {
  console.error(
    'The stock Envoy is not here. Bring it with "./meltemi engine add envoy", or run with --engine meltemi.',
  );
  process.exit(2);
}
const started = performance.now();
const tests = [...loadMeshTests().values()].flat();
const results = await runTests(tests, {
  engines,
  ...(envoy ? { startStock: stockEngine(envoy.command).start } : {}),
  ...(flags.filter ? { filter: flags.filter } : {}),
  parallel: 3,
  onResult(result) {
    if (result.error !== undefined || result.requests.some((r) => !r.pass))
      process.stdout.write(testText(result, paint, true));
  },
});
const differing = unexplained(compareEngines(results), knownDifferences());
for (const difference of differing) process.stdout.write(engineText(difference, paint));
process.stdout.write(`mesh cases: ${summaryText(results, differing, performance.now() - started, paint)}`);
process.exitCode = totals(results, differing).failed === 0 ? 0 : 1;
