// Containers by runc. Each is run by a small shell of its own session, so that it outlives localkube: the shell writes
// `<id>.exit` when the container ends. Called by pod workers, exec and removal.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  type FSWatcher,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { access, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { Layout } from './layout.ts';
import { mount, unmount } from './sys.ts';

export interface ContainerExit {
  readonly code: number;
  /** Milliseconds since the epoch. */
  readonly finishedAt: number;
  readonly oomKilled: boolean;
}

export type StartResult =
  | { readonly kind: 'running'; readonly pid: number }
  /** runc could not start it. */
  | { readonly kind: 'failed'; readonly message: string };

export interface LaunchInput {
  readonly id: string;
  /** Directory of this instance on the run tmpfs. */
  readonly bundle: string;
  readonly baseLayer: string;
  readonly config: (rootfs: string) => object;
  readonly logFile: string;
  readonly stdin: boolean;
  readonly tty: boolean;
}

export interface Runtime {
  launch(input: LaunchInput): Promise<StartResult>;
  /** Signals the main process; nothing happens when it has ended. */
  signal(id: string, signal: NodeJS.Signals): void;
  pid(id: string): number | undefined;
  exitOf(id: string): ContainerExit | undefined;
  /** Ends what is left of it and frees everything but the log. */
  remove(id: string, bundle: string): Promise<void>;
  execArgs(id: string, options: ExecOptions, command: readonly string[]): readonly string[];
  onExit(handler: (id: string, exit: ContainerExit) => void): () => void;
  close(): void;
}

export interface ExecOptions {
  readonly tty: boolean;
  readonly pidFile: string;
  readonly logFile: string;
}

/** A lost inotify event is noticed after this. */
const RESCAN_MS = 5000;
const READ_LOG_BYTES = 4096;
/** A start that takes longer is given up. */
const START_TIMEOUT_MS = 60_000;

// $1 id, $2 bundle, $3 signals, $4 runc root, $5 mode
const SHELL = `
id=$1 bundle=$2 signals=$3 root=$4
run() { runc --root "$root" --log "$bundle/runc.log" --log-format json run --keep --pid-file "$signals/$id.pid" --bundle "$bundle" "$id"; }
case $5 in
tty) export root bundle signals id
  script -qefc 'exec runc --root "$root" --log "$bundle/runc.log" --log-format json run --keep --pid-file "$signals/$id.pid" --bundle "$bundle" "$id"' /dev/null <>"$bundle/stdin" ;;
stdin)
  sleep 2147483647 >"$bundle/stdin" &
  holder=$!
  echo $holder >"$bundle/holder"
  run <"$bundle/stdin"
  code=$?
  kill $holder 2>/dev/null
  (exit $code) ;;
*) run </dev/null ;;
esac
code=$?
echo $code >"$signals/.$id.exit"
mv "$signals/.$id.exit" "$signals/$id.exit"
`;

export function createRuntime(layout: Layout, clock: Clock, log: Logger): Runtime {
  const exits = new Map<string, ContainerExit>();
  const pids = new Map<string, number>();
  const waiting = new Map<string, () => void>();
  const handlers = new Set<(id: string, exit: ContainerExit) => void>();

  const notice = (file: string): void => {
    if (file.startsWith('.')) return;
    const id = file.replace(/\.(pid|exit)$/, '');
    try {
      const text = readFileSync(path.join(layout.signals, file), 'utf8').trim();
      if (file.endsWith('.pid') && text !== '' && !pids.has(id)) pids.set(id, Number(text));
      if (file.endsWith('.exit') && !exits.has(id)) {
        const exit = { code: Number(text), finishedAt: clock.now(), oomKilled: wasOomKilled(layout, id) };
        exits.set(id, exit);
        for (const handler of [...handlers]) handler(id, exit);
      }
    } catch (error) {
      // Removed between the event and now.
      if (!isMissing(error)) log.warn('cannot read a container signal', { file, error: errorText(error) });
    }
    waiting.get(id)?.();
  };
  const suspects = new Set<string>();
  const rescan = (): void => {
    for (const file of readdirSync(layout.signals)) notice(file);
    for (const [id, pid] of pids) {
      if (exits.has(id) || isAlive(pid)) suspects.delete(id);
      else if (!suspects.has(id)) suspects.add(id);
      // Its shell was killed too: nobody will write the exit file.
      else {
        suspects.delete(id);
        writeFileSync(path.join(layout.signals, `${id}.exit`), '137\n');
      }
    }
  };
  const watcher: FSWatcher = watch(layout.signals, (_, file) => {
    if (file) notice(file);
  });
  watcher.unref();
  let cancel = clock.after(RESCAN_MS, function again() {
    rescan();
    cancel = clock.after(RESCAN_MS, again);
  });
  rescan();

  const started = (id: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const cancelTimer = clock.after(START_TIMEOUT_MS, () => {
        waiting.delete(id);
        reject(new Error('context deadline exceeded'));
      });
      const look = (): void => {
        if (!pids.has(id) && !exits.has(id)) return;
        cancelTimer();
        waiting.delete(id);
        resolve();
      };
      waiting.set(id, look);
      look();
    });

  return {
    async launch(input) {
      await prepareBundle(input);
      const child = startShell(layout, input);
      child.on('error', (error) =>
        log.error('cannot start a container shell', { id: input.id, error: errorText(error) }),
      );
      await started(input.id);
      const pid = pids.get(input.id);
      if (pid !== undefined) return { kind: 'running', pid };
      return { kind: 'failed', message: await runcError(path.join(input.bundle, 'runc.log')) };
    },
    signal(id, signal) {
      const pid = pids.get(id);
      if (pid === undefined || exits.has(id)) return;
      try {
        process.kill(pid, signal);
      } catch {
        // It ended just now; its exit file says so.
      }
    },
    pid: (id) => (exits.has(id) ? undefined : pids.get(id)),
    exitOf: (id) => exits.get(id),
    async remove(id, bundle) {
      await runc(layout, ['delete', '--force', id]).catch((error) => {
        log.debug('runc delete', { id, error: errorText(error) });
      });
      unmount(path.join(bundle, 'root'));
      await rm(bundle, { recursive: true, force: true });
      for (const suffix of ['pid', 'exit']) rmSync(path.join(layout.signals, `${id}.${suffix}`), { force: true });
      pids.delete(id);
      exits.delete(id);
    },
    execArgs: (id, options, command) => [
      '--root',
      layout.runcRoot,
      '--log',
      options.logFile,
      '--log-format',
      'json',
      'exec',
      '--pid-file',
      options.pidFile,
      ...(options.tty ? ['--tty'] : []),
      id,
      ...command,
    ],
    onExit(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    close() {
      cancel();
      watcher.close();
    },
  };
}

/** Makes the overlay and writes config.json. */
async function prepareBundle(input: LaunchInput): Promise<void> {
  const { bundle } = input;
  const at = (name: string): string => path.join(bundle, name);
  for (const name of ['upper', 'work', 'root']) mkdirSync(at(name), { recursive: true, mode: 0o755 });
  const options = `lowerdir=${input.baseLayer}:/,upperdir=${at('upper')},workdir=${at('work')}`;
  mount('overlay', at('root'), 'overlay', 0, options);
  await writeFile(at('config.json'), JSON.stringify(input.config(at('root'))), { mode: 0o600 });
  if (input.stdin || input.tty) await run('mkfifo', ['-m', '600', at('stdin')]);
}

function startShell(layout: Layout, input: LaunchInput): ChildProcess {
  const log = openSync(input.logFile, 'a', 0o600);
  try {
    const mode = input.tty ? 'tty' : input.stdin ? 'stdin' : 'none';
    const child = spawn(
      '/bin/sh',
      ['-c', SHELL, 'meltemi-container', input.id, input.bundle, layout.signals, layout.runcRoot, mode],
      {
        detached: true,
        stdio: ['ignore', log, log],
        cwd: '/',
        env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
      },
    );
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

/** The last error runc wrote, without its own prefixes. */
export async function runcError(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const messages: string[] = [];
  for (const line of text.slice(-READ_LOG_BYTES).split('\n')) {
    try {
      const entry = JSON.parse(line) as { level?: string; msg?: string };
      if (entry.level === 'error' && entry.msg) messages.push(entry.msg);
    } catch {
      // A cut line at the start of the window.
    }
  }
  return messages.at(-1) ?? 'runc ended without saying why';
}

function wasOomKilled(layout: Layout, id: string): boolean {
  const cgroup = readCgroupPath(layout, id);
  if (!cgroup) return false;
  const read = (file: string, pattern: RegExp): boolean => {
    try {
      return Number(pattern.exec(readFileSync(file, 'utf8'))?.[1] ?? 0) > 0;
    } catch {
      return false;
    }
  };
  return (
    read(path.join('/sys/fs/cgroup/memory', cgroup, 'memory.oom_control'), /^oom_kill (\d+)$/m) ||
    read(path.join('/sys/fs/cgroup', cgroup, 'memory.events'), /^oom_kill (\d+)$/m)
  );
}

/** The path of a container's cgroup, from its id `<pod uid>_<container>_<n>`. */
function readCgroupPath(layout: Layout, id: string): string | undefined {
  const uid = id.split('_')[0];
  return uid ? cgroupPath(layout, uid, id) : undefined;
}

export function cgroupPath(layout: Layout, podUid: string, id: string): string {
  return `/meltemi-${layout.instance}/pod${podUid}/${id}`;
}

export function runc(layout: Layout, args: readonly string[]): Promise<string> {
  return run('runc', ['--root', layout.runcRoot, ...args]);
}

/** Runs a host tool; rejects with what it wrote to stderr. */
export function run(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      err += chunk;
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${command}: ${err.trim().split('\n').at(-1) || `exit status ${code}`}`));
    });
  });
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

export async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
