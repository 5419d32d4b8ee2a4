// Runs the cases of one file on one engine: most of them in one process, each with listeners and names of its own; those
// that need it in a process of theirs. Called by main.ts and conformance.test.ts.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fill, fillAll, type Naming, type Resources, resourcesOf, upstreamNames } from './bootstrap.ts';
import type { Certificates } from './certificates.ts';
import { type EngineCommand, type RunningEngine, runEngine, startEngine } from './engine-process.ts';
import { checkCase, type Failure } from './expect.ts';
import { type Case, type LoadedCase, merge } from './format.ts';
import type { Observation } from './observation.ts';
import { runSession } from './session.ts';
import { startUpstream, type Upstream } from './upstreams.ts';

/** Cases of one process that run at the same time: most of their time is waiting. */
const AT_ONCE = 16;

export interface CaseRun {
  readonly test: LoadedCase;
  readonly seen: Observation;
  readonly failures: readonly Failure[];
}

interface Prepared {
  readonly test: LoadedCase;
  readonly prefix: string;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly resources: Resources | undefined;
  /** Why there are none. */
  readonly problem: string | undefined;
  readonly logFile: string;
  readonly naming: Naming;
}

export interface FileRun {
  readonly engine: EngineCommand;
  readonly certificates: Certificates;
  /** For configurations and logs of this file and engine. */
  readonly dir: string;
}

export async function runCases(tests: readonly LoadedCase[], run: FileRun): Promise<readonly CaseRun[]> {
  mkdirSync(run.dir, { recursive: true });
  const results = new Map<LoadedCase, CaseRun>();
  const finish = (test: LoadedCase, seen: Observation): void => {
    results.set(test, { test, seen, failures: checkCase(test, seen, run.engine.name) });
  };
  const shared: LoadedCase[] = [];
  const alone: LoadedCase[] = [];
  const commands: LoadedCase[] = [];
  for (const test of tests) {
    if (test.command || test.refused !== undefined) commands.push(test);
    else if (test.own_process || test.args || test.config?.bootstrap) alone.push(test);
    else shared.push(test);
  }
  const all = new Map<LoadedCase, Prepared>();
  for (const [i, test] of tests.entries()) all.set(test, await prepare(test, `k${i}_`, run));
  try {
    await runShared(
      shared.map((test) => all.get(test)!),
      run,
      finish,
    );
    await inParallel(2, alone, async (test) => {
      await runTogether([all.get(test)!], `own-${all.get(test)!.prefix}`, run, finish);
    });
    await inParallel(2, commands, async (test) => finish(test, await runCommand(all.get(test)!, run)));
  } finally {
    for (const prepared of all.values()) for (const upstream of prepared.upstreams.values()) upstream.close();
  }
  return tests.map((test) => results.get(test)!);
}

async function prepare(test: LoadedCase, prefix: string, run: FileRun): Promise<Prepared> {
  const upstreams = new Map<string, Upstream>();
  for (const name of upstreamNames(test))
    upstreams.set(name, await startUpstream(name, test.upstreams?.[name] ?? {}, run.certificates));
  const logFile = path.join(run.dir, `${prefix}access.log`);
  const dir = path.join(run.dir, `${prefix}files`);
  const variable = (name: string): string | undefined => {
    if (name === 'dir') return dir;
    if (name === 'log') return logFile;
    if (name.startsWith('port.')) return upstreams.get(name.slice(5)) && String(upstreams.get(name.slice(5))!.port);
    if (name.startsWith('cluster.')) return prefix + name.slice(8);
    if (name.startsWith('file.')) return path.join(dir, name.slice(5));
    if (name.startsWith('pem.')) return run.certificates.pem(name.slice(4));
    return run.certificates.files.get(name);
  };
  const naming: Naming = {
    prefix,
    logFile,
    variable,
    port(name) {
      const upstream = upstreams.get(name);
      if (!upstream) throw new Error(`there is no upstream "${name}"`);
      return upstream.port;
    },
  };
  mkdirSync(dir, { recursive: true });
  try {
    writeFiles(test, dir, naming);
    return { test, prefix, upstreams, logFile, naming, resources: resourcesOf(test, naming), problem: undefined };
  } catch (error) {
    return { test, prefix, upstreams, logFile, naming, resources: undefined, problem: message(error) };
  }
}

function writeFiles(test: Case, dir: string, naming: Naming): void {
  for (const [name, content] of Object.entries(test.files ?? {})) {
    const filled = fillAll(content, naming.variable);
    writeFileSync(path.join(dir, name), typeof filled === 'string' ? filled : JSON.stringify(filled, null, 1));
  }
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function bootstrapOf(list: readonly Prepared[]): object {
  const base = {
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    static_resources: {
      listeners: list.flatMap((one) => one.resources?.listeners ?? []),
      clusters: list.flatMap((one) => one.resources?.clusters ?? []),
      secrets: list.flatMap((one) => one.resources?.secrets ?? []),
    },
  };
  return list.reduce((sum: object, one) => merge(sum, one.resources?.bootstrap ?? {}) as object, base);
}

/** One process for all; a case whose configuration is refused is put aside and the others start without it. */
async function runShared(
  cases: readonly Prepared[],
  run: FileRun,
  finish: (test: LoadedCase, seen: Observation) => void,
): Promise<void> {
  let left = cases.filter((one) => {
    if (one.problem !== undefined) finish(one.test, new Map([['harness', one.problem]]));
    return one.problem === undefined;
  });
  for (let attempt = 0; left.length > 0; attempt++) {
    const refused = await runTogether(left, `shared-${attempt}`, run, finish);
    if (refused === undefined) return;
    const named = left.filter((one) => refused.includes(`'${one.prefix}`) || refused.includes(` ${one.prefix}`));
    const out = named.length > 0 ? named : await refusedAlone(left, run);
    if (out.length === 0) {
      for (const one of left) finish(one.test, new Map([['harness', `the shared process does not start: ${refused}`]]));
      return;
    }
    for (const one of out) {
      const checked = await validate(one, run);
      finish(one.test, new Map([['refused', checked ?? refused]]));
    }
    left = left.filter((one) => !out.includes(one));
  }
}

async function refusedAlone(cases: readonly Prepared[], run: FileRun): Promise<readonly Prepared[]> {
  const out: Prepared[] = [];
  await inParallel(2, cases, async (one) => {
    if ((await validate(one, run)) !== undefined) out.push(one);
  });
  return out;
}

/** The reason the engine refuses the configuration of this case alone; undefined when it takes it. */
async function validate(one: Prepared, run: FileRun): Promise<string | undefined> {
  const file = path.join(run.dir, `${one.prefix}validate.json`);
  writeFileSync(file, JSON.stringify(bootstrapOf([one]), null, 1));
  const done = await runEngine(run.engine, ['--mode', 'validate', '-c', file, ...(one.test.args ?? [])], run.dir);
  return done.code === 0 ? undefined : `${done.stdout}${done.stderr}`.trim();
}

/** Starts one process for these cases and runs them. Returns the reason when it does not start. */
async function runTogether(
  cases: readonly Prepared[],
  name: string,
  run: FileRun,
  finish: (test: LoadedCase, seen: Observation) => void,
): Promise<string | undefined> {
  const dir = path.join(run.dir, name);
  mkdirSync(dir, { recursive: true });
  const start = await startEngine(
    run.engine,
    bootstrapOf(cases),
    dir,
    cases.flatMap((one) => one.test.args ?? []),
  );
  if (start.kind === 'refused') {
    if (cases.length === 1 && name.startsWith('own-')) finish(cases[0]!.test, new Map([['refused', start.reason]]));
    return start.reason;
  }
  const { engine } = start;
  const again: Prepared[] = [];
  const runOne = async (one: Prepared): Promise<void> => {
    const seen = await session(one, engine, run);
    if (engine.crashed() !== undefined && cases.length > 1) again.push(one);
    else finish(one.test, seen);
  };
  try {
    await inParallel(
      AT_ONCE,
      cases.filter((one) => !one.test.serial),
      runOne,
    );
    for (const one of cases.filter((each) => each.test.serial)) await runOne(one);
  } finally {
    await engine.stop();
  }
  // Somebody brought the process down: alone it shows who.
  for (const one of again) await runTogether([one], `again-${one.prefix}`, run, finish);
  return undefined;
}

async function session(one: Prepared, engine: RunningEngine, run: FileRun): Promise<Observation> {
  try {
    const seen = await runSession({
      test: one.test,
      prefix: one.prefix,
      engine,
      upstreams: one.upstreams,
      certificates: run.certificates,
      logFile: one.logFile,
      variable: one.naming.variable,
    });
    const crash = engine.crashed();
    if (crash !== undefined) seen.set('harness', `the engine ended: ${crash}`);
    return seen;
  } catch (error) {
    const crash = engine.crashed();
    return new Map([['harness', crash === undefined ? message(error) : `the engine ended: ${crash}`]]);
  }
}

async function runCommand(one: Prepared, run: FileRun): Promise<Observation> {
  if (one.problem !== undefined) return new Map([['harness', one.problem]]);
  if (one.test.refused !== undefined) {
    const reason = await validate(one, run);
    return new Map(reason === undefined ? [['accepted', 'true']] : [['refused', reason]]);
  }
  const args = one.test.command!.map((arg) => fill(arg, one.naming.variable));
  const done = await runEngine(run.engine, args, run.dir);
  return new Map([
    ['exit', String(done.code)],
    ['stdout', done.stdout.replaceAll(run.dir, '{dir}')],
    ['stderr', done.stderr.replaceAll(run.dir, '{dir}')],
  ]);
}

export async function inParallel<T>(
  width: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
}
