// What the lab tests share: the cluster under $MELTEMI_HOME with the mesh in it, kubectl, and waiting for a condition.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '..', '..');
export const home = process.env.MELTEMI_HOME ?? '';
/** Which proxy the sidecars and gateways run. */
export const engine = process.env.ACCEPTANCE_ENGINE ?? 'meltemi';
assert.ok(home, 'run through "npm run acceptance": MELTEMI_HOME is not set');

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

const COMMAND_TIMEOUT_MS = 180_000;
const EVENTUALLY_MS = 30_000;
const PAUSE_MS = 100;

export function run(
  command: string,
  args: readonly string[],
  options: { readonly input?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Result {
  const done = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    timeout: COMMAND_TIMEOUT_MS,
    maxBuffer: 64 * 1024 * 1024,
    ...(options.input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input: options.input }),
    env: { ...process.env, ...options.env },
  });
  if (done.error) throw done.error;
  return { status: done.status ?? 128, stdout: done.stdout, stderr: done.stderr };
}

/** A long-running command; the caller kills it. */
export function start(command: string, args: readonly string[]): ChildProcess {
  return spawn(command, args, { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] });
}

/** kubectl 1.33, whatever it answers. */
export function k(...args: readonly string[]): Result {
  return run(process.env.KUBECTL ?? 'kubectl', args);
}
/** Debian's kubectl 1.20. */
export function oldK(...args: readonly string[]): Result {
  return run(process.env.OLD_KUBECTL ?? 'kubectl', args);
}
/** kubectl that must succeed; its standard output. */
export function kOk(...args: readonly string[]): string {
  const result = k(...args);
  assert.equal(result.status, 0, `kubectl ${args.join(' ')}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}
export function apply(yaml: string, ...args: readonly string[]): Result {
  return run(process.env.KUBECTL ?? 'kubectl', ['apply', ...args, '-f', '-'], { input: yaml });
}
export function applyOk(yaml: string, ...args: readonly string[]): string {
  const result = apply(yaml, ...args);
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}
export function meltemi(...args: readonly string[]): Result {
  return run(path.join(root, 'meltemi'), args);
}
export function meltemiOk(...args: readonly string[]): string {
  const result = meltemi(...args);
  assert.equal(result.status, 0, `meltemi ${args.join(' ')}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Runs `attempt` until it no longer throws; its last failure when time is up. */
export async function eventually<T>(attempt: () => T | Promise<T>, limitMs = EVENTUALLY_MS): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

/** The cluster with the mesh (profile demo); harmless when it is up already. MELTEMI_AS_IS: take the cluster as it is. */
export function ensureUp(): void {
  if (process.env.MELTEMI_AS_IS === undefined) meltemiOk('up', '--engine', engine);
}

/** The lab's four workloads, ready; with no policy in place. */
export function ensureLab(): void {
  ensureUp();
  const lab = path.join(root, 'examples', 'istio-in-action');
  if (k('get', 'namespace', 'istioinaction').status !== 0) kOk('create', 'namespace', 'istioinaction');
  kOk('label', 'namespace', 'istioinaction', 'istio-injection=enabled', '--overwrite');
  for (const file of ['catalog', 'webapp', 'webapp-catalog-gw-vs'])
    kOk('apply', '-n', 'istioinaction', '-f', path.join(lab, `${file}.yaml`));
  kOk('apply', '-n', 'default', '-f', path.join(lab, 'sleep.yaml'));
  for (const [namespace, name] of [
    ['istioinaction', 'catalog'],
    ['istioinaction', 'webapp'],
    ['default', 'sleep'],
  ] as const)
    kOk('rollout', 'status', '-n', namespace, `deployment/${name}`, '--timeout=90s');
  removePolicies();
}

export function removePolicies(): void {
  for (const namespace of ['istio-system', 'istioinaction', 'default'])
    kOk('delete', 'peerauthentication', '--all', '-n', namespace);
}

export function policy(name: string): string {
  return path.join(root, 'examples', 'istio-in-action', 'policies', `${name}.yaml`);
}

/** curl from the client outside the mesh, as the labs write it. */
export function sleepCurl(url: string, ...more: readonly string[]): Result {
  return k(
    '-n',
    'default',
    'exec',
    'deploy/sleep',
    '-c',
    'sleep',
    '--',
    'curl',
    '-s',
    url,
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}\\n',
    ...more,
  );
}

export function assertCode(result: Result, code: string): void {
  assert.equal(
    result.stdout.trim(),
    code,
    `curl said ${result.stdout.trim()} (exit ${result.status}) ${result.stderr}`,
  );
}
export function assertReset(result: Result): void {
  assert.equal(result.stdout.trim(), '000');
  assert.match(result.stderr, /command terminated with exit code 56/);
  assert.equal(result.status, 56);
}
