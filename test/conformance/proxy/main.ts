// `npm run conformance [-- --engine meltemi|envoy|both] [--filter RE] [--file F] [--keep] [--show] [--pending]
// [--differences]`: runs the cases on the engines and
// compares them. README.md in this folder says how a case is written.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createCertificates } from './certificates.ts';
import { type Comparison, compare } from './compare.ts';
import { writeDifferences } from './differences.ts';
import { type EngineCommand, envoyCommand, meltemiCommand } from './engine-process.ts';
import type { CaseFile, EngineName, LoadedCase } from './format.ts';
import { failed, reportCase } from './report.ts';
import { type CaseRun, inParallel, runCases } from './run-file.ts';
import { loadSuite } from './suite.ts';

const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'both' },
    filter: { type: 'string' },
    file: { type: 'string' },
    keep: { type: 'boolean', default: false },
    show: { type: 'boolean', default: false },
    pending: { type: 'boolean', default: false },
    differences: { type: 'boolean', default: false },
  },
});

const root = path.resolve(import.meta.dirname, '..', '..', '..');

function chosenEngines(): readonly EngineCommand[] {
  const engine = values.engine;
  if (engine !== 'meltemi' && engine !== 'envoy' && engine !== 'both')
    throw new Error('--engine is meltemi, envoy or both');
  const out: EngineCommand[] = [];
  if (engine !== 'envoy') out.push(meltemiCommand(path.join(root, 'generated', 'conformance-cache')));
  if (engine !== 'meltemi') {
    const envoy = envoyCommand();
    if (!envoy) {
      console.error(
        'The stock Envoy is not here. Bring it with "./meltemi engine add envoy" (or name a binary in MELTEMI_ENVOY), or run with --engine meltemi.',
      );
      process.exit(2);
    }
    out.push(envoy);
  }
  return out;
}

async function runFile(
  file: CaseFile,
  engines: readonly EngineCommand[],
  dir: string,
  certificates: Awaited<ReturnType<typeof createCertificates>>,
): Promise<{ passed: number; pending: number; failures: string[] }> {
  const filter = values.filter === undefined ? undefined : new RegExp(values.filter, 'i');
  const tests = file.cases.filter((test) => filter === undefined || filter.test(test.name));
  if (tests.length === 0) return { passed: 0, pending: 0, failures: [] };
  const byEngine = new Map<EngineName, readonly CaseRun[]>();
  await Promise.all(
    engines.map(async (engine) => {
      byEngine.set(
        engine.name,
        await runCases(tests, { engine, certificates, dir: path.join(dir, file.topic, engine.name) }),
      );
    }),
  );
  const failures: string[] = [];
  let pending = 0;
  for (const [i, test] of tests.entries()) {
    const runs = new Map([...byEngine].map(([name, list]) => [name, list[i]!]));
    const a = runs.get('meltemi');
    const b = runs.get('envoy');
    const comparison = a && b ? compare(test, a.seen, b.seen) : undefined;
    if (values.show) show(test, runs, comparison);
    const bad = failed(runs, comparison);
    if (test.pending !== undefined) {
      pending += bad ? 1 : 0;
      if (!bad) console.log(`  ${test.where} ${test.name}: passes; take "pending" away`);
      else if (values.pending) console.log(`${reportCase(test, runs, comparison)}\n    pending: ${test.pending}\n`);
    } else if (bad) failures.push(reportCase(test, runs, comparison));
  }
  return { passed: tests.length - failures.length - pending, pending, failures };
}

function show(test: LoadedCase, runs: ReadonlyMap<string, CaseRun>, comparison: Comparison | undefined): void {
  console.log(`\n${test.where} ${test.name}`);
  const different = new Set(comparison?.different.map((one) => one.key));
  const keys = new Set([...runs.values()].flatMap((run) => [...run.seen.keys()]));
  for (const key of [...keys]) {
    const shown = [...runs].map(([name, run]) => `${name} ${JSON.stringify(run.seen.get(key)) ?? 'absent'}`);
    console.log(
      `  ${different.has(key) ? '≠' : ' '} ${key}: ${different.has(key) || runs.size === 1 ? shown.join('   ') : (shown[0] ?? '').replace(/^\w+ /, '')}`,
    );
  }
}

if (values.differences) {
  writeDifferences(await loadSuite());
  process.exit(0);
}
const engines = chosenEngines();
const started = performance.now();
const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-conformance-'));
let passed = 0;
let pending = 0;
const failures: string[] = [];
try {
  const certificates = await createCertificates(dir);
  const files = await loadSuite(values.file);
  await inParallel(2, files, async (file) => {
    const from = performance.now();
    const done = await runFile(file, engines, dir, certificates);
    passed += done.passed;
    pending += done.pending;
    failures.push(...done.failures);
    for (const failure of done.failures) console.log(`${failure}\n`);
    if (done.passed + done.pending + done.failures.length > 0)
      console.log(
        `${done.failures.length === 0 ? '✔' : '✖'} ${file.file}: ${done.passed} passed, ${done.failures.length} failed${done.pending > 0 ? `, ${done.pending} pending` : ''} (${((performance.now() - from) / 1000).toFixed(1)} s)`,
      );
  });
} finally {
  if (values.keep) console.log(`configurations and logs: ${dir}`);
  else rmSync(dir, { recursive: true, force: true });
}
const names = engines.map((engine) => engine.name).join(' and ');
console.log(
  `${passed} passed, ${failures.length} failed, ${pending} pending on ${names} in ${((performance.now() - started) / 1000).toFixed(1)} s`,
);
// A pipe takes what was printed in its own time.
process.stdout.write('', () => process.exit(failures.length > 0 ? 1 : 0));
