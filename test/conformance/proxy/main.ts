// The proxy's cases on the engines, compared. Part of `npm run conformance`. README.md in this folder says how a case is written.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readFlags } from '../flags.ts';
import { type Certificates, createCertificates } from './certificates.ts';
import { type Comparison, compare } from './compare.ts';
import { writeDifferences } from './differences.ts';
import { type EngineCommand, envoyCommand, meltemiCommand } from './engine-process.ts';
import type { CaseFile, EngineName, LoadedCase } from './format.ts';
import { failed, reportCase } from './report.ts';
import { type CaseRun, inParallel, runCases } from './run-file.ts';
import { loadSuite } from './suite.ts';

const flags = readFlags();

/** More failures than that are not the machine's fault. */
const MOST_AGAIN = 20;
const root = path.resolve(import.meta.dirname, '..', '..', '..');

function chosenEngines(): readonly EngineCommand[] {
  const { engine } = flags;
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

interface Verdict {
  readonly test: LoadedCase;
  readonly runs: ReadonlyMap<EngineName, CaseRun>;
  readonly comparison: Comparison | undefined;
}

/** Runs these cases on every engine at the same time, and holds the engines against each other. */
async function judge(tests: readonly LoadedCase[], setting: Setting, dir: string): Promise<readonly Verdict[]> {
  const { engines, certificates } = setting;
  const byEngine = new Map<EngineName, readonly CaseRun[]>();
  await Promise.all(
    engines.map(async (engine) => {
      byEngine.set(engine.name, await runCases(tests, { engine, certificates, dir: path.join(dir, engine.name) }));
    }),
  );
  return tests.map((test, i) => {
    const runs = new Map([...byEngine].map(([name, list]) => [name, list[i]!]));
    const a = runs.get('meltemi');
    const b = runs.get('envoy');
    return { test, runs, comparison: a && b ? compare(test, a.seen, b.seen) : undefined };
  });
}

interface Setting {
  readonly engines: readonly EngineCommand[];
  readonly certificates: Certificates;
  readonly dir: string;
}

interface FileResult {
  readonly passed: number;
  readonly pending: number;
  readonly failed: readonly Verdict[];
}

async function runFile(file: CaseFile, setting: Setting): Promise<FileResult> {
  const tests = file.cases.filter((test) => !flags.filter || flags.filter.test(test.name));
  if (tests.length === 0) return { passed: 0, pending: 0, failed: [] };
  const bad: Verdict[] = [];
  let pending = 0;
  for (const verdict of await judge(tests, setting, path.join(setting.dir, file.topic))) {
    const { test, runs, comparison } = verdict;
    if (flags.show) show(test, runs, comparison);
    const wrong = failed(runs, comparison);
    if (test.pending === undefined) {
      if (wrong) bad.push(verdict);
      continue;
    }
    pending += wrong ? 1 : 0;
    if (!wrong) console.log(`  ${test.where} ${test.name}: passes; take "pending" away`);
    else if (flags.pending) console.log(`${reportCase(test, runs, comparison)}\n    pending: ${test.pending}\n`);
  }
  return { passed: tests.length - bad.length - pending, pending, failed: bad };
}

/** A case that failed among many others is run once more by itself: on a busy machine short time-outs end early. */
async function again(bad: readonly Verdict[], setting: Setting): Promise<readonly Verdict[]> {
  const out: Verdict[] = [];
  for (const [i, { test }] of bad.entries()) {
    if (i >= MOST_AGAIN) return [...out, ...bad.slice(i)];
    const [verdict] = await judge([test], setting, path.join(setting.dir, `again-${i}`));
    if (verdict && failed(verdict.runs, verdict.comparison)) out.push(verdict);
    else console.log(`  ${test.where} ${test.name}: failed among others, passes alone`);
  }
  return out;
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

if (flags.differences) {
  writeDifferences(await loadSuite());
  process.exit(0);
}
const engines = chosenEngines();
const started = performance.now();
const seconds = (from: number): string => ((performance.now() - from) / 1000).toFixed(1);
const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-conformance-'));
const results: FileResult[] = [];
let left: readonly Verdict[] = [];
try {
  const setting: Setting = { engines, dir, certificates: await createCertificates(dir) };
  await inParallel(2, await loadSuite(flags.file), async (file) => {
    const from = performance.now();
    const done = await runFile(file, setting);
    results.push(done);
    const { passed, pending } = done;
    const wrong = done.failed.length;
    if (passed + pending + wrong > 0)
      console.log(
        `${wrong === 0 ? '✔' : '✖'} ${file.file}: ${passed} passed, ${wrong} failed${pending > 0 ? `, ${pending} pending` : ''} (${seconds(from)} s)`,
      );
  });
  left = await again(
    results.flatMap((one) => one.failed),
    setting,
  );
  for (const { test, runs, comparison } of left) console.log(`\n${reportCase(test, runs, comparison)}`);
} finally {
  if (flags.keep) console.log(`configurations and logs: ${dir}`);
  else rmSync(dir, { recursive: true, force: true });
}
const total = results.reduce((sum, one) => sum + one.passed + one.failed.length, 0);
const pending = results.reduce((sum, one) => sum + one.pending, 0);
const names = engines.map((engine) => engine.name).join(' and ');
console.log(
  `${total - left.length} passed, ${left.length} failed, ${pending} pending on ${names} in ${seconds(started)} s`,
);
// A pipe takes what was printed in its own time.
process.stdout.write('', () => process.exit(left.length > 0 ? 1 : 0));
