// The whole program as a child process, for tests of what only several threads or a real process show.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { ask, socketAddress, until } from './engine.ts';

export interface Program {
  readonly admin: number;
  readonly pid: number;
  /** What it wrote to its log. */
  readonly log: () => string;
  readonly ended: Promise<number | null>;
  port(listener: string): Promise<number>;
  stat(name: string): Promise<number>;
  kill(signal: NodeJS.Signals): void;
}

export interface ProgramOptions {
  readonly args?: readonly string[];
  /** Runs in every thread before the program. */
  readonly preload?: string;
}

/** Starts it with `concurrency` workers and waits until it is live. */
export async function startProgram(
  t: TestContext,
  config: JsonObject,
  concurrency: number,
  { args = [], preload }: ProgramOptions = {},
): Promise<Program> {
  const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-program-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 'envoy.json');
  writeFileSync(file, JSON.stringify({ ...config, admin: { address: socketAddress(0) } }));
  const early: string[] = [];
  if (preload !== undefined) {
    const module = path.join(dir, 'preload.mjs');
    writeFileSync(module, preload);
    early.push('--import', module);
  }
  const adminFile = path.join(dir, 'admin');
  const main = path.join(import.meta.dirname, '..', 'main.ts');
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      ...early,
      main,
      ...['-c', file, '--concurrency', String(concurrency), '--admin-address-path', adminFile, '-l', 'warning'],
      ...args,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  t.after(() => child.kill('SIGKILL'));
  let admin = 0;
  const mustLive = (): void => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}:\n${log}`);
  };
  const started = (): boolean => {
    mustLive();
    try {
      admin = Number(readFileSync(adminFile, 'utf8').split(':').at(-1));
    } catch {}
    return admin > 0;
  };
  await until(started, 'the admin address', 30_000);
  await eventually('LIVE', () => {
    mustLive();
    return ask(admin, '/ready').then(
      ({ status }) => status === 200,
      () => false,
    );
  });
  return {
    admin,
    pid: child.pid!,
    log: () => log,
    ended,
    async port(listener) {
      const lines = (await ask(admin, '/listeners')).body.trim().split('\n');
      return Number(
        lines
          .find((line) => line.startsWith(`${listener}::`))
          ?.split(':')
          .at(-1),
      );
    },
    async stat(name) {
      const { body } = await ask(admin, `/stats?filter=^${name.replaceAll('.', '\\.')}$`);
      return Number(body.trim().split(': ').at(-1) ?? 0);
    },
    kill: (signal) => void child.kill(signal),
  };
}

/** Asks until it is so. */
export async function eventually(what: string, attempt: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await attempt()))
    if (Date.now() > deadline) throw new Error(`did not happen: ${what}`);
    else await new Promise((resolve) => setTimeout(resolve, 5));
}
