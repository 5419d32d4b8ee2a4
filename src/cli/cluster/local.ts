// Starts, finds and stops the local cluster's background process. Called by up, down, status, demo and lab.
// The process writes progress to fd 3 as JSON lines (src/localkube/main.ts) and keeps `localkube/state.json` in its home.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { type Context, UserError } from '../command.ts';

/** Written by localkube once its API answers. */
export interface LocalState {
  readonly pid: number;
  /** Clock ticks since boot at which the process started (/proc/PID/stat field 22): tells a reused pid. */
  readonly startTicks: string;
  readonly apiPort: number;
  readonly instance: string;
  readonly startedAt: string;
}

export type StartMessage =
  | { readonly kind: 'step'; readonly text: string }
  | { readonly kind: 'ready'; readonly state: LocalState }
  | { readonly kind: 'failed'; readonly message: string };

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const POLL_MS = 20;
/** This module is part of a program made at install, so the sources are as they were then (./meltemi). */
const BUNDLED = import.meta.filename.endsWith('.mjs');

export function kubeconfigPath(home: string): string {
  return path.join(home, 'kubeconfig');
}
export function logPath(home: string): string {
  return path.join(home, 'localkube', 'localkube.log');
}

/** Two homes never share namespaces, containers or addresses. */
export function instanceOf(home: string): string {
  return createHash('sha256')
    .update(existsSync(home) ? realpathSync(home) : home)
    .digest('hex')
    .slice(0, 6);
}

/** The running cluster of this home, or undefined. A pid of another program does not count. */
export function readState(home: string): LocalState | undefined {
  try {
    const state = JSON.parse(readFileSync(path.join(home, 'localkube', 'state.json'), 'utf8')) as LocalState;
    return startTicks(state.pid) === state.startTicks ? state : undefined;
  } catch {
    return undefined;
  }
}

function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export interface StartOptions {
  readonly apiPort: number | undefined;
  readonly onStep: (text: string) => void;
}

/** Resolves when the API answers and the node is Ready. Rejects with {@link UserError}. */
export async function startLocal(context: Context, options: StartOptions): Promise<LocalState> {
  mkdirSync(path.join(context.home, 'localkube'), { recursive: true, mode: 0o700 });
  const log = openSync(logPath(context.home), 'a', 0o600);
  const args = [
    '--disable-warning=ExperimentalWarning',
    path.join(context.repoRoot, BUNDLED ? 'generated/programs/localkube.mjs' : 'src/localkube/main.ts'),
    '--home',
    context.home,
  ];
  if (options.apiPort !== undefined) args.push('--api-port', String(options.apiPort));
  const child = spawn(process.execPath, args, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log, 'pipe'],
    env: { ...context.env, ...compileCache(context) },
  });
  closeSync(log);
  const messages = child.stdio[3] as Readable;
  const result = await new Promise<LocalState | string>((resolve) => {
    let pending = '';
    const timer = setTimeout(() => resolve(`it was not ready after ${START_TIMEOUT_MS / 1000} s`), START_TIMEOUT_MS);
    const end = (value: LocalState | string): void => {
      clearTimeout(timer);
      resolve(value);
    };
    messages.setEncoding('utf8');
    messages.on('data', (chunk: string) => {
      const lines = (pending + chunk).split('\n');
      pending = lines.pop()!;
      for (const line of lines) {
        const message = JSON.parse(line) as StartMessage;
        if (message.kind === 'step') options.onStep(message.text);
        else end(message.kind === 'ready' ? message.state : message.message);
      }
    });
    child.on('error', (error) => end(error.message));
    child.on('exit', (code, signal) => end(`it ended at once (${signal ?? `exit ${code}`})`));
  });
  messages.destroy();
  child.removeAllListeners();
  child.unref();
  if (typeof result === 'string')
    throw new UserError(`The local cluster did not start: ${result}\nIts log: ${logPath(context.home)}`);
  return result;
}

function compileCache({ home, repoRoot }: Context): Readonly<Record<string, string>> {
  if (!BUNDLED) return { NODE_COMPILE_CACHE: path.join(home, 'compile-cache') };
  return { NODE_COMPILE_CACHE: path.join(repoRoot, 'generated/compile-cache'), NODE_COMPILE_CACHE_PORTABLE: '1' };
}

/** Ends the process: it takes its pods, namespaces and rules with it. False when it had to be killed. */
export async function stopProcess(context: Context, state: LocalState): Promise<boolean> {
  process.kill(state.pid, 'SIGTERM');
  const deadline = context.clock.now() + STOP_TIMEOUT_MS;
  while (startTicks(state.pid) === state.startTicks) {
    if (context.clock.now() > deadline) {
      process.kill(state.pid, 'SIGKILL');
      return false;
    }
    await pause(POLL_MS);
  }
  return true;
}

/** A wait that keeps the process alive: the CLI has nothing else to do. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
