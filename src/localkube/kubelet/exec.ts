// Runs a command in a running container, with pipes or a terminal. Called by the API server's exec (through the backend),
// exec probes and lifecycle hooks.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import pty from '@lydell/node-pty';
import type { ExecIo, ExecResult } from '../node-backend.ts';
import { runcError } from './container-shell.ts';
import type { Layout } from './layout.ts';
import type { Runtime } from './runtime.ts';

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
/** runc's own status when it could not start the command. */
const RUNC_FAILED = 255;
const DEFAULT_SIZE = { width: 80, height: 24 };

export interface Execution {
  run(id: string, command: readonly string[], tty: boolean, io: ExecIo): Promise<ExecResult>;
  /** Without a terminal; output of both streams, cut at `limit` bytes. Rejects with the signal's reason. */
  capture(id: string, command: readonly string[], limit: number, signal: AbortSignal): Promise<CaptureResult>;
}

export interface CaptureResult {
  readonly code: number;
  readonly output: string;
}

interface Files {
  readonly pidFile: string;
  readonly logFile: string;
}

export function createExecution(layout: Layout, runtime: Runtime, searchPath: string): Execution {
  const files = (): Files => {
    const base = path.join(layout.run, 'exec', randomUUID());
    return { pidFile: `${base}.pid`, logFile: `${base}.log` };
  };
  const run: Execution['run'] = async (id, command, tty, io) => {
    const own = files();
    const args = runtime.execArgs(id, { tty, ...own }, command);
    try {
      const code = await (tty ? runWithTerminal(args, own, searchPath, io) : runWithPipes(args, own, io));
      if (code !== RUNC_FAILED) return { kind: 'exited', code };
      return await explainFailure(own.logFile, io);
    } finally {
      await Promise.all([rm(own.pidFile, { force: true }), rm(own.logFile, { force: true })]);
    }
  };
  return {
    run,
    async capture(id, command, limit, signal) {
      const { Writable: WritableStream } = await import('node:stream');
      let output = '';
      const sink = (): Writable =>
        new WritableStream({
          write(chunk: Buffer, _encoding, done) {
            if (output.length < limit) output += chunk.toString('utf8').slice(0, limit - output.length);
            done();
          },
        });
      const result = await run(id, command, false, { stdout: sink(), stderr: sink(), signal });
      signal.throwIfAborted();
      if (result.kind === 'failed') throw new Error(result.message);
      return { code: result.code, output };
    },
  };
}

/** 255 is the command's own status unless runc logged an error. */
async function explainFailure(logFile: string, io: ExecIo): Promise<ExecResult> {
  const reason = await runcError(logFile);
  const missing = /executable file not found|no such file or directory/.test(reason);
  const denied = /permission denied|exec format error|is a directory/.test(reason);
  if (!/exec failed|unable to start|cannot exec|container/.test(reason)) return { kind: 'exited', code: RUNC_FAILED };
  if (!missing && !denied) return { kind: 'failed', httpStatus: 500, message: `OCI runtime exec failed: ${reason}` };
  // Pipes: runc has said it on the command's own stderr already.
  void io;
  return { kind: 'exited', code: missing ? NOT_FOUND : NOT_EXECUTABLE };
}

function killCommand(pidFile: string, child: { kill(signal?: string): unknown }): void {
  try {
    // Killing runc alone would leave the command; runc made it the leader of a process group.
    const pid = Number.parseInt(readFileSync(pidFile, 'utf8'), 10);
    if (!(pid > 1)) throw new Error('no pid');
    process.kill(-pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

function runWithPipes(args: readonly string[], files: Files, io: ExecIo): Promise<number> {
  const child: ChildProcess = spawn('runc', [...args], { stdio: [io.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'] });
  const abort = (): void => killCommand(files.pidFile, { kill: () => child.kill('SIGKILL') });
  io.signal.addEventListener('abort', abort, { once: true });
  if (io.signal.aborted) abort();
  if (io.stdin && child.stdin) pump(io.stdin, child.stdin);
  forward(child.stdout!, io.stdout);
  forward(child.stderr!, io.stderr);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      io.signal.removeEventListener('abort', abort);
      io.stdin?.unpipe();
      resolve(code ?? (signal === 'SIGKILL' ? 137 : 1));
    });
  });
}

function pump(from: Readable, to: Writable): void {
  // The command may close its input before it has read everything.
  to.on('error', () => from.unpipe(to));
  from.pipe(to);
}

/** Copies with back-pressure, and never ends the caller's stream. */
function forward(from: Readable, to: Writable | undefined): void {
  if (to) {
    from.pipe(to, { end: false });
    // A client that is gone must not stop the command from ending.
    to.on('error', () => {
      from.unpipe(to);
      from.resume();
    });
  } else from.resume();
}

function runWithTerminal(args: readonly string[], files: Files, searchPath: string, io: ExecIo): Promise<number> {
  let size = DEFAULT_SIZE;
  let terminal: pty.IPty | undefined;
  io.onResize?.((next) => {
    size = { width: Math.max(1, next.width), height: Math.max(1, next.height) };
    terminal?.resize(size.width, size.height);
  });
  return new Promise((resolve) => {
    const own = pty.spawn('runc', [...args], {
      name: 'xterm',
      cols: size.width,
      rows: size.height,
      cwd: '/',
      env: { PATH: searchPath },
      encoding: null,
    });
    terminal = own;
    const abort = (): void => killCommand(files.pidFile, own);
    io.signal.addEventListener('abort', abort, { once: true });
    if (io.signal.aborted) abort();
    const onInput = (chunk: Buffer): void => own.write(chunk as unknown as string);
    io.stdin?.on('data', onInput);
    io.stdin?.on('end', () => own.write('\x04'));
    own.onData((chunk) => {
      const data: unknown = chunk;
      const written = io.stdout?.write(data as Buffer) ?? true;
      if (written) return;
      own.pause();
      io.stdout?.once('drain', () => own.resume());
    });
    own.onExit(({ exitCode, signal }) => {
      io.signal.removeEventListener('abort', abort);
      io.stdin?.off('data', onInput);
      terminal = undefined;
      resolve(signal ? 128 + signal : exitCode);
    });
  });
}
