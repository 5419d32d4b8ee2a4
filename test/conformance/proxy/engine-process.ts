// Starts an engine with Envoy's command line, waits until it serves, asks its admin interface, ends it. Called by run-file.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, globSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { homedir } from 'node:os';
import path from 'node:path';
import type { EngineName } from './format.ts';

const START_MS = 30_000;
const STOP_MS = 5_000;
const root = path.resolve(import.meta.dirname, '..', '..', '..');

export interface EngineCommand {
  readonly name: EngineName;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export function meltemiCommand(cacheDir: string): EngineCommand {
  mkdirSync(cacheDir, { recursive: true });
  return {
    name: 'meltemi',
    command: process.execPath,
    args: ['--disable-warning=ExperimentalWarning', path.join(root, 'src/data-plane/proxy/main.ts')],
    env: { ...process.env, NODE_COMPILE_CACHE: cacheDir },
  };
}

/** The stock binary: $MELTEMI_ENVOY, or what `meltemi engine add envoy` brought. */
export function envoyCommand(): EngineCommand | undefined {
  const home = process.env.MELTEMI_HOME ?? path.join(homedir(), '.meltemi');
  const added = globSync('engines/envoy/*/envoy', { cwd: home }).sort().at(-1);
  const file = process.env.MELTEMI_ENVOY ?? (added && path.join(home, added));
  return file && existsSync(file) ? { name: 'envoy', command: file, args: [], env: process.env } : undefined;
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let runs = 0;

/** Runs the engine to its end (`--mode validate`, `--version`). Its outputs are files: an access log may open /dev/stdout. */
export function runEngine(engine: EngineCommand, args: readonly string[], cwd: string): Promise<Finished> {
  const outputs = ['out', 'err'].map((name) => path.join(cwd, `run-${engine.name}-${runs}.${name}`));
  runs += 1;
  const files = outputs.map((file) => openSync(file, 'a'));
  return new Promise((resolve, reject) => {
    const child = spawn(engine.command, [...engine.args, ...args], {
      cwd,
      env: engine.env,
      stdio: ['ignore', files[0], files[1]],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      for (const file of files) closeSync(file);
      const [stdout = '', stderr = ''] = outputs.map((file) => readFileSync(file, 'utf8'));
      resolve({ code, stdout, stderr });
    });
  });
}

export interface AdminMore {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface AdminAnswer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export interface RunningEngine {
  readonly name: EngineName;
  readonly adminPort: number;
  /** Port by the listener's full name. */
  readonly ports: ReadonlyMap<string, number>;
  readonly dir: string;
  crashed(): string | undefined;
  admin(method: string, path: string, more?: AdminMore): Promise<AdminAnswer>;
  stop(): Promise<void>;
}

export type Start =
  | { readonly kind: 'running'; readonly engine: RunningEngine }
  | { readonly kind: 'refused'; readonly reason: string };

/** Starts the engine on `config`; `refused` when it ends before it serves. */
export async function startEngine(
  engine: EngineCommand,
  config: object,
  dir: string,
  extra: readonly string[] = [],
): Promise<Start> {
  const configFile = path.join(dir, 'envoy.json');
  const adminFile = path.join(dir, 'admin.txt');
  writeFileSync(configFile, JSON.stringify(config, null, 1));
  const args = [
    ...['-c', configFile, '--concurrency', '1', '--disable-hot-restart', '-l', 'warning'],
    ...['--file-flush-interval-msec', '10', '--admin-address-path', adminFile, '--drain-time-s', '1'],
    ...extra,
  ];
  const logFile = path.join(dir, 'engine.log');
  const log = openSync(logFile, 'a');
  const child: ChildProcess = spawn(engine.command, [...engine.args, ...args], {
    cwd: dir,
    env: engine.env,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const output = (): string => readFileSync(logFile, 'utf8').trim().slice(-4000);
  let ended: string | undefined;
  const gone = Promise.withResolvers<void>();
  child.on('error', (error) => {
    ended = error.message;
    gone.resolve();
  });
  child.on('close', (code, signal) => {
    ended = `exit ${code ?? signal}: ${output()}`;
    gone.resolve();
  });
  const stop = async (): Promise<void> => {
    if (ended !== undefined) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
    await gone.promise;
    clearTimeout(timer);
  };
  const deadline = Date.now() + START_MS;
  const adminPort = (): number | undefined => {
    if (!existsSync(adminFile)) return undefined;
    return Number(readFileSync(adminFile, 'utf8').trim().split(':').at(-1)) || undefined;
  };
  for (;;) {
    if (ended !== undefined) return { kind: 'refused', reason: ended };
    const port = adminPort();
    if (port !== undefined) {
      const ready = await ask(port, 'GET', '/ready').catch(() => undefined);
      if (ready?.status === 200) break;
    }
    if (Date.now() > deadline) {
      await stop();
      return { kind: 'refused', reason: `not ready after ${START_MS} ms: ${output()}` };
    }
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
  const port = adminPort()!;
  const listed = await ask(port, 'GET', '/listeners');
  const ports = new Map<string, number>();
  for (const line of listed.body.split('\n')) {
    const match = /^(.*)::.*:(\d+)$/.exec(line);
    if (match) ports.set(match[1]!, Number(match[2]));
  }
  return {
    kind: 'running',
    engine: {
      name: engine.name,
      adminPort: port,
      ports,
      dir,
      crashed: () => ended,
      admin: (method, target, more) => ask(port, method, target, more),
      stop,
    },
  };
}

function ask(port: number, method: string, target: string, { headers, body }: AdminMore = {}): Promise<AdminAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: '127.0.0.1', port, method, path: target, headers: { ...headers }, agent: false, timeout: 5_000 },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            type: response.headers['content-type'] ?? '',
            body: Buffer.concat(chunks).toString(),
          }),
        );
        response.on('error', reject);
      },
    );
    sent.on('error', reject);
    sent.on('timeout', () => sent.destroy(new Error('admin interface does not answer')));
    sent.end(body);
  });
}
