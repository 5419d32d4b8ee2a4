// What `meltemi test` does. Loaded by commands/test.ts only when it runs: it brings the control plane and the proxy with it.
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type StockEngine, stockEngine } from '../../insight/policy-lab/engine-stock.ts';
import { compareEngines, type EngineDifference } from '../../insight/policy-lab/engines-compare.ts';
import type { FileProblem, MeshTest } from '../../insight/policy-lab/format.ts';
import { readMeshTests } from '../../insight/policy-lab/read.ts';
import type { Files } from '../../insight/policy-lab/read-resources.ts';
import { jsonReport, junitReport, tapReport, totals } from '../../insight/policy-lab/report.ts';
import { engineText, problemText, summaryText, testText } from '../../insight/policy-lab/report-text.ts';
import { runTests, type TestResult } from '../../insight/policy-lab/run.ts';
import { boolFlag, type Context, type Flags, stringFlag, UserError } from '../command.ts';
import { envoyBinaries, envoyVersion } from '../engines.ts';

const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
const FORMS = ['text', 'json', 'junit', 'tap'] as const;
type Form = (typeof FORMS)[number];
type Engine = 'meltemi' | 'envoy';
/** Meshes that run at once; a stock Envoy is a process, an own engine is not. */
const PARALLEL = { meltemi: 8, envoy: 2 } as const;
const WATCH_QUIET_MS = 100;

/** Resolves with the exit code. */
export async function runMeshTests(context: Context, flags: Flags): Promise<number> {
  const plan = planOf(context, flags);
  // Proxies that are processes would outlive this one, and so would the files of the run.
  // Before main.ts's own, which ends the process.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.prependOnceListener(signal, () => {
      plan.stock?.killAll();
      rmSync(plan.directory, { recursive: true, force: true });
      process.exit(EXIT_INTERRUPTED);
    });
  try {
    return boolFlag(flags, 'watch') ? await watching(context, plan) : (await once(context, plan)).exit;
  } finally {
    rmSync(plan.directory, { recursive: true, force: true });
  }
}

interface Plan {
  readonly words: readonly string[];
  readonly engines: readonly Engine[];
  readonly stock: StockEngine | undefined;
  readonly filter: RegExp | undefined;
  readonly form: Form;
  readonly directory: string;
}

function planOf(context: Context, flags: Flags): Plan {
  if (flags.positionals.length === 0)
    throw new UserError('Name at least one MeshTest file or folder: meltemi test FILE…', EXIT_USAGE);
  const wanted = stringFlag(flags, 'engine') ?? 'meltemi';
  if (wanted !== 'meltemi' && wanted !== 'envoy' && wanted !== 'both')
    throw new UserError(`--engine ${wanted}: use meltemi, envoy or both.`, EXIT_USAGE);
  const engines: readonly Engine[] = wanted === 'both' ? ['meltemi', 'envoy'] : [wanted];
  const form = FORMS.find((f) => f === (stringFlag(flags, 'output') ?? 'text'));
  if (!form) throw new UserError(`-o ${stringFlag(flags, 'output')}: use ${FORMS.join(', ')}.`, EXIT_USAGE);
  let envoy: string | undefined;
  if (engines.includes('envoy')) {
    envoy = stringFlag(flags, 'envoy-path');
    if (envoy === undefined) {
      envoy = envoyBinaries(context.home).at(-1)?.file;
      if (envoy === undefined)
        throw new UserError(
          `The stock Envoy is not in ${context.home}. Bring it with "meltemi engine add envoy", or name one with --envoy-path.`,
          EXIT_USAGE,
        );
    } else envoy = path.resolve(context.cwd, envoy);
    if (!existsSync(envoy)) throw new UserError(`--envoy-path ${envoy}: there is no such file.`, EXIT_USAGE);
    if (stringFlag(flags, 'envoy-path') !== undefined) checkEnvoy(envoy);
  } else if (stringFlag(flags, 'envoy-path') !== undefined)
    throw new UserError('--envoy-path is for --engine envoy or both.', EXIT_USAGE);
  return {
    words: flags.positionals,
    engines,
    stock: envoy === undefined ? undefined : stockEngine(envoy),
    filter: filterOf(stringFlag(flags, 'filter')),
    form,
    directory: mkdtempSync(path.join(tmpdir(), 'meltemi-')),
  };
}

/** Told before a mesh is made for nothing. */
function checkEnvoy(file: string): void {
  try {
    envoyVersion(file);
  } catch (error) {
    throw error instanceof UserError ? new UserError(`--envoy-path: ${error.message}`, EXIT_USAGE) : error;
  }
}

function filterOf(text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined;
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UserError(`--filter: ${error instanceof Error ? error.message : error}`, EXIT_USAGE);
  }
}

interface Ran {
  readonly exit: number;
  /** Files that were read. */
  readonly files: readonly string[];
}

async function once(context: Context, plan: Plan): Promise<Ran> {
  const { terminal } = context;
  const files = filesOf(context, plan.words);
  const tests: MeshTest[] = [];
  const problems: FileProblem[] = [];
  const used: string[] = [...files];
  for (const file of files) {
    const read = readMeshTests(file, diskFiles(context.cwd));
    tests.push(...read.tests);
    problems.push(...read.problems);
    used.push(...read.uses);
  }
  if (problems.length > 0) {
    for (const problem of problems) terminal.err(problemText(problem, terminal));
    terminal.err(
      `${terminal.red(`${problems.length} problem${problems.length === 1 ? '' : 's'}`)}: nothing was run. ` +
        'docs/meshtest.md describes the format.\n',
    );
    return { exit: 2, files: used };
  }
  const started = context.clock.now();
  const text = plan.form === 'text';
  const results = await runTests(tests, {
    engines: plan.engines,
    directory: plan.directory,
    ...(plan.stock ? { startStock: plan.stock.start } : {}),
    ...(plan.filter ? { filter: plan.filter } : {}),
    parallel: plan.engines.includes('envoy') ? PARALLEL.envoy : PARALLEL.meltemi,
    onResult: (result) => {
      if (text) terminal.out(testText(result, terminal, plan.engines.length > 1));
    },
  });
  if (results.length === 0)
    throw new UserError(`--filter ${plan.filter?.source ?? ''} matches no request of these files.`, EXIT_USAGE);
  const engines = plan.engines.length > 1 ? compareEngines(results) : [];
  report(context, plan.form, results, engines, context.clock.now() - started);
  return { exit: totals(results, engines).failed === 0 ? 0 : 1, files: used };
}

function report(
  context: Context,
  form: Form,
  results: readonly TestResult[],
  engines: readonly EngineDifference[],
  ms: number,
): void {
  const { terminal } = context;
  if (form === 'json') terminal.out(jsonReport(results, engines));
  else if (form === 'junit') terminal.out(junitReport(results, engines));
  else if (form === 'tap') terminal.out(tapReport(results, engines));
  else {
    for (const difference of engines) terminal.out(engineText(difference, terminal));
    terminal.out(summaryText(results, engines, ms, terminal));
  }
}

/** Files as the user named them, patterns opened; of a folder only those that hold a MeshTest, since it may hold the resources too. */
function filesOf(context: Context, words: readonly string[]): readonly string[] {
  const out = new Set<string>();
  const { cwd } = context;
  const paths = (patterns: readonly string[]): string[] =>
    globSync([...patterns], { cwd, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(cwd, path.join(entry.parentPath, entry.name)))
      .map((file) => (file.startsWith('..') ? path.join(cwd, file) : file))
      .sort();
  for (const word of words) {
    const named = paths([word]);
    const inside = named.length > 0 ? [] : paths([`${word}/**/*.yaml`, `${word}/**/*.yml`]);
    const found = [...named, ...inside.filter((file) => holdsMeshTest(path.resolve(cwd, file)))];
    if (found.length === 0) {
      const why = /[*?[{]/.test(word)
        ? 'no file matches this pattern'
        : inside.length > 0
          ? 'no file of this folder holds a MeshTest'
          : 'there is no such file, or no YAML in the folder';
      throw new UserError(`${word}: ${why}`, EXIT_USAGE);
    }
    for (const file of found) out.add(file);
  }
  return [...out];
}

function holdsMeshTest(file: string): boolean {
  return /^kind:\s*MeshTest\s*(#.*)?$/m.test(readFileSync(file, 'utf8'));
}

export function diskFiles(cwd: string): Files {
  return {
    read(file) {
      try {
        return readFileSync(path.resolve(cwd, file), 'utf8');
      } catch {
        return undefined;
      }
    },
    expand: (pattern, from) =>
      globSync(pattern, { cwd: path.resolve(cwd, path.dirname(from)) })
        .sort()
        .map((found) => path.join(path.dirname(from), found)),
  };
}

/** Runs until interrupted; a wrong file is told and waited for. */
async function watching(context: Context, plan: Plan): Promise<number> {
  for (;;) {
    let files: readonly string[] = [];
    try {
      files = (await once(context, plan)).files;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      context.terminal.err(`${context.terminal.red('Error:')} ${error.message}\n`);
    }
    context.terminal.err(context.terminal.dim('Waiting for a change (Ctrl-C ends)\n'));
    await changed(context, files.length > 0 ? files : ['.']);
  }
}

function changed(context: Context, files: readonly string[]): Promise<void> {
  const folders = new Set(files.map((file) => path.dirname(path.resolve(context.cwd, file))));
  return new Promise((resolve) => {
    let cancel: (() => void) | undefined;
    const watchers = [...folders].map((folder) =>
      watch(folder, () => {
        cancel?.();
        const timer = setTimeout(() => {
          for (const watcher of watchers) watcher.close();
          resolve();
        }, WATCH_QUIET_MS);
        cancel = () => clearTimeout(timer);
      }),
    );
  });
}
