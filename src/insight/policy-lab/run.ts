// Runs mesh tests side by side and hands back what came of each. Called by cli/commands/test.ts and the conformance suite.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { errorText } from '../../base/runtime/log.ts';
import type { EngineName } from './adapt.ts';
import { type Authorities, createAuthorities } from './authorities.ts';
import { startEmbedded } from './engine-embedded.ts';
import { createLoopbackPool, type LoopbackPool } from './fabric.ts';
import type { MeshTest } from './format.ts';
import { startMesh } from './mesh.ts';
import type { StartProxy } from './proxy.ts';
import { type RequestResult, runRequest } from './run-request.ts';

export interface TestResult {
  readonly file: string;
  readonly name: string;
  readonly engine: EngineName;
  readonly test: MeshTest;
  readonly requests: readonly RequestResult[];
  /** The mesh could not be started; no request was sent. */
  readonly error?: string;
  readonly ms: number;
}

export interface RunOptions {
  readonly engines: readonly EngineName[];
  /** Starts a stock Envoy; needed when `envoy` is among the engines. */
  readonly startStock?: StartProxy;
  /** Only requests and tests whose `test/request` name matches. */
  readonly filter?: RegExp;
  /** Meshes that run at the same time. */
  readonly parallel: number;
  readonly onResult: (result: TestResult) => void;
  /** Where files of the run are made; default: the system's place for such. */
  readonly directory?: string;
}

export async function runTests(tests: readonly MeshTest[], options: RunOptions): Promise<readonly TestResult[]> {
  const shared: Shared = { pool: createLoopbackPool(), authorities: createAuthorities() };
  const jobs = tests.flatMap((test) => options.engines.map((engine) => ({ test, engine })));
  const results: TestResult[] = new Array(jobs.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < jobs.length) {
      const turn = next;
      next += 1;
      const job = jobs[turn]!;
      const wanted = chosen(job.test, options.filter);
      if (wanted.length === 0) continue;
      const result = await runOne(job.test, job.engine, wanted, options, shared);
      results[turn] = result;
      options.onResult(result);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.parallel, jobs.length) }, worker));
  return results.filter((r) => r !== undefined);
}

interface Shared {
  readonly pool: LoopbackPool;
  readonly authorities: Authorities;
}

/** Indices of the requests to send. */
function chosen(test: MeshTest, filter: RegExp | undefined): readonly number[] {
  return test.requests.flatMap((request, i) => (!filter || filter.test(`${test.name}/${request.name}`) ? [i] : []));
}

async function runOne(
  test: MeshTest,
  engine: EngineName,
  wanted: readonly number[],
  options: RunOptions,
  shared: Shared,
): Promise<TestResult> {
  const started = performance.now();
  const base = { file: test.file, name: test.name, engine, test };
  const ms = (): number => Math.round(performance.now() - started);
  const directory = await mkdtemp(path.join(options.directory ?? tmpdir(), 'meltemi-mesh-'));
  const startProxy = engine === 'meltemi' ? startEmbedded : options.startStock;
  try {
    if (!startProxy) throw new Error('there is no stock Envoy: meltemi engine add envoy');
    const mesh = await startMesh(test, { engine, startProxy, directory, ...shared });
    try {
      const requests: RequestResult[] = [];
      const problem = mesh.problems[0];
      if (problem)
        throw new Error(
          `${problem.kind} ${problem.namespace}/${problem.name}: ${problem.diagnostics.map((d) => d.message).join('; ')}`,
        );
      for (const index of wanted) requests.push(await runRequest(test, mesh, index));
      return { ...base, requests, ms: ms() };
    } finally {
      await mesh.close();
    }
  } catch (error) {
    return { ...base, requests: [], error: errorText(error), ms: ms() };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
