// Processes of the proxy bench: started on one core, asked for their CPU time and memory, ended. Called by scenarios.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Core of the proxies under test; everything else (load, backend) runs on the other. */
export const PROXY_CORE = 0;
export const LOAD_CORE = 1;

const CLOCK_TICKS_PER_S = 100;
const START_TIMEOUT_MS = 20_000;

export interface Running {
  readonly name: string;
  readonly pid: number;
  /** User and system time so far, µs, of the process and its threads and children. */
  cpuUs(): number;
  /** Resident memory, bytes. */
  rss(): number;
  stop(): Promise<void>;
}

/** Throws with what the program said when it ends early. */
export function start(
  name: string,
  core: number,
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Running {
  const child: ChildProcess = spawn('taskset', ['-c', String(core), ...command], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4_000);
  });
  const pid = child.pid;
  if (pid === undefined) throw new Error(`cannot start ${name}`);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let stopping = false;
  child.once('exit', (code, signal) => {
    if (!stopping) console.error(`${name} ended early (${code ?? signal}):\n${said}`);
  });
  return {
    name,
    pid,
    cpuUs: () => tree(pid).reduce((sum, each) => sum + cpuOf(each), 0),
    rss: () => tree(pid).reduce((sum, each) => sum + rssOf(each), 0),
    async stop() {
      stopping = true;
      const all = tree(pid);
      for (const each of all) signalQuietly(each, 'SIGTERM');
      const timer = setTimeout(() => {
        for (const each of all) signalQuietly(each, 'SIGKILL');
      }, 1_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

function signalQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/** A process and its children: nginx's master does not do the work itself. */
function tree(pid: number): number[] {
  let children: number[] = [];
  try {
    children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [pid];
  }
  return [pid, ...children.flatMap(tree)];
}

function cpuOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_S) * 1e6;
}

function rssOf(pid: number): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}

/** A port nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** ms until 127.0.0.1:port accepts. */
export async function accepting(port: number): Promise<number> {
  const from = performance.now();
  while (performance.now() - from < START_TIMEOUT_MS) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (ok) return performance.now() - from;
    await delay(3);
  }
  throw new Error(`nothing accepts on port ${port} after ${START_TIMEOUT_MS} ms`);
}

/** Runs a load tool on the other core and returns what it printed. Throws when it fails. */
export async function load(command: readonly string[], good: readonly number[] = [0]): Promise<string> {
  const child = spawn('taskset', ['-c', String(LOAD_CORE), ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise<number>((resolve) => child.once('close', resolve));
  if (!good.includes(code)) throw new Error(`${command.join(' ')}: exit ${code}\n${err || out}`);
  return out;
}

/** First line of a tool's version text; undefined when it is not there. */
export function versionOf(command: readonly string[]): string | undefined {
  const run = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8' });
  if (run.error) return undefined;
  const text = `${run.stdout}${run.stderr}`.trim();
  return text.split('\n')[0]?.trim();
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
