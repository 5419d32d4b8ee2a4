// Runs one request of a test, as often as it says, and compares. Called by run.ts.
import { performance } from 'node:perf_hooks';
import { send } from './client.ts';
import { compare, type Difference, type Observed, responderOf, upstreamRequest } from './compare.ts';
import { type Explanation, explain } from './explain.ts';
import type { Expectation, MeshTest, TestRequest } from './format.ts';
import { MAX_REDIRECTS } from './limits.ts';
import type { Mesh } from './mesh.ts';
import type { Outcome } from './outcome.ts';

export interface RequestResult {
  readonly index: number;
  readonly name: string;
  readonly line: number;
  readonly pass: boolean;
  readonly differences: readonly Difference[];
  readonly actual: Actual;
  /** Only of a request that failed. */
  readonly explanation?: Explanation;
}

/** What came, in short; of the last of several. */
export interface Actual {
  readonly code: string;
  readonly detail?: string;
  readonly status?: number;
  readonly grpcStatus?: string;
  /** Of a request that was sent several times: how often each answer came. */
  readonly answers?: Readonly<Record<string, number>>;
  readonly body?: string;
  readonly responder?: string;
  readonly upstream?: {
    readonly workload: string;
    readonly method: string;
    readonly path: string;
    readonly protocol: string;
  };
  readonly ms: number;
}

/** How long what comes after the answer (copies, log lines) is waited for. */
const SETTLE_MS = 1500;
const SETTLE_STEP_MS = 4;
const MAX_SHOWN_BODY = 600;

export async function runRequest(test: MeshTest, mesh: Mesh, index: number): Promise<RequestResult> {
  const request = test.requests[index]!;
  const { state, logs } = mesh;
  state.script = [...request.upstreamScript];
  state.serverFirst = request.serverFirst;
  const arrivedBefore = state.arrived.length;
  const logsBefore = logs.length;
  const outcomes: Outcome[] = new Array(request.times);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < request.times) {
      const turn = next;
      next += 1;
      outcomes[turn] = await sendOnce(request, mesh);
    }
  };
  await Promise.all(Array.from({ length: Math.min(request.concurrency, request.times) }, worker));
  const observe = (): Observed => ({
    outcomes,
    arrived: state.arrived.slice(arrivedBefore),
    logs: logs.slice(logsBefore),
  });
  let differences = compare(request.expect, observe());
  // What may still be on its way is waited for, but only when something misses it.
  const deadline = performance.now() + (waits(request.expect) ? SETTLE_MS : differences.length > 0 ? 50 : 0);
  while (differences.length > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_STEP_MS));
    differences = compare(request.expect, observe());
  }
  const observed = observe();
  const pass = differences.length === 0;
  return {
    index,
    name: request.name,
    line: request.line,
    pass,
    differences,
    actual: actualOf(observed),
    ...(pass ? {} : { explanation: explain(test, request, observed) }),
  };
}

function waits(expect: Expectation): boolean {
  return expect.mirrored !== undefined || expect.log !== undefined || expect.responseFlag !== undefined;
}

async function sendOnce(request: TestRequest, mesh: Mesh): Promise<Outcome> {
  let current = request;
  for (let hop = 0; ; hop += 1) {
    const asked = current;
    const outcome = await send(asked, {
      connect: () => mesh.connect(asked),
      roots: mesh.clientRoots,
      clientCert: asked.clientCert === undefined ? undefined : mesh.clientCert(asked.clientCert),
      now: () => performance.now(),
    });
    const next = request.followRedirects && hop < MAX_REDIRECTS ? redirected(asked, outcome) : undefined;
    if (!next) return outcome;
    current = next;
  }
}

function redirected(request: TestRequest, outcome: Outcome): TestRequest | undefined {
  if (![301, 302, 303, 307, 308].includes(outcome.status)) return undefined;
  const location = outcome.headers.find(([name]) => name === 'location')?.[1];
  if (location === undefined) return undefined;
  const base = `${request.scheme}://${request.host}:${request.port}${request.path}`;
  const url = URL.parse(location, base);
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined;
  const secure = url.protocol === 'https:';
  return {
    ...request,
    scheme: secure ? 'https' : 'http',
    host: url.hostname,
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    path: `${url.pathname}${url.search}`,
    headers: request.headers.filter(([name]) => name.toLowerCase() !== 'host'),
    ...(outcome.status === 303 ? { method: 'GET', body: '' } : {}),
  };
}

function actualOf(observed: Observed): Actual {
  const last = observed.outcomes.at(-1)!;
  const upstream = upstreamRequest(observed);
  const responder = responderOf(last);
  const body = last.body.length > MAX_SHOWN_BODY ? `${last.body.slice(0, MAX_SHOWN_BODY)}…` : last.body;
  return {
    code: last.code,
    ...(last.detail === '' ? {} : { detail: last.detail }),
    ...(last.status === 0 ? {} : { status: last.status }),
    ...(last.grpcStatus === undefined ? {} : { grpcStatus: last.grpcStatus }),
    ...(observed.outcomes.length > 1 ? { answers: answersOf(observed.outcomes) } : {}),
    ...(body === '' ? {} : { body }),
    ...(responder === undefined ? {} : { responder }),
    ...(upstream
      ? {
          upstream: {
            workload: upstream.workload,
            method: upstream.method,
            path: upstream.path,
            protocol: upstream.protocol,
          },
        }
      : {}),
    ms: last.ms,
  };
}

function answersOf(outcomes: readonly Outcome[]): Readonly<Record<string, number>> {
  const out: Record<string, number> = {};
  for (const { code, status, grpcStatus } of outcomes) {
    const name = code === 'ok' ? `${status || ''} ${grpcStatus ?? ''}`.trim() || 'bytes' : code;
    out[name] = (out[name] ?? 0) + 1;
  }
  return out;
}
