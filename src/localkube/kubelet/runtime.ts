// Containers by runc: starts them through a shell each (container-shell.ts), watches the signals directory for `<id>.pid` and
// `<id>.exit`, and removes them. Called by pod workers, exec and removal.
import { type FSWatcher, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { removeContainerCgroups, wasOomKilled } from './cgroups.ts';
import { killShell, type LaunchInput, prepareBundle, runcError, startShell } from './container-shell.ts';
import type { Layout } from './layout.ts';
import { isAlive, isMissing, runc } from './run.ts';
import { unmount } from './sys.ts';

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

type ExitHandler = (id: string, exit: ContainerExit) => void;

export interface Runtime {
  launch(input: LaunchInput): Promise<StartResult>;
  /** Signals the main process; nothing happens when it has ended. */
  signal(id: string, signal: NodeJS.Signals): void;
  pid(id: string): number | undefined;
  exitOf(id: string): ContainerExit | undefined;
  /** Ends what is left of it and frees everything but the log. */
  remove(id: string, bundle: string): Promise<void>;
  execArgs(id: string, options: ExecOptions, command: readonly string[]): readonly string[];
  onExit(handler: ExitHandler): () => void;
  close(): void;
}

export interface ExecOptions {
  readonly tty: boolean;
  readonly pidFile: string;
  readonly logFile: string;
}

export interface RuntimeParts {
  readonly layout: Layout;
  readonly clock: Clock;
  readonly log: Logger;
  /** PATH for runc. */
  readonly searchPath: string;
}

/** A lost inotify event is noticed after this. */
const RESCAN_MS = 5000;
/** A start that takes longer is given up. */
const START_TIMEOUT_MS = 60_000;

export function createRuntime(parts: RuntimeParts): Runtime {
  return new RuncRuntime(parts);
}

class RuncRuntime implements Runtime {
  readonly #parts: RuntimeParts;
  readonly #exits = new Map<string, ContainerExit>();
  readonly #pids = new Map<string, number>();
  readonly #starting = new Map<string, () => void>();
  readonly #handlers = new Set<ExitHandler>();
  /** Dead at the last look, and no exit file yet. */
  readonly #suspects = new Set<string>();
  readonly #watcher: FSWatcher;
  #cancelRescan = (): void => {};

  constructor(parts: RuntimeParts) {
    this.#parts = parts;
    this.#watcher = watch(parts.layout.signals, (_, file) => {
      if (file) this.#notice(file);
    });
    this.#watcher.unref();
    this.#rescan();
  }

  async launch(input: LaunchInput): Promise<StartResult> {
    const { layout, log, searchPath } = this.#parts;
    await prepareBundle(input);
    startShell(layout, searchPath, input, (error) =>
      log.error('cannot start a container shell', { id: input.id, error: errorText(error) }),
    );
    await this.#started(input.id);
    const pid = this.#pids.get(input.id);
    if (pid !== undefined) return { kind: 'running', pid };
    return { kind: 'failed', message: await runcError(path.join(input.bundle, 'runc.log')) };
  }

  signal(id: string, signal: NodeJS.Signals): void {
    const pid = this.pid(id);
    if (pid === undefined) return;
    try {
      process.kill(pid, signal);
    } catch {
      // It ended just now; its exit file says so.
    }
  }

  pid(id: string): number | undefined {
    return this.#exits.has(id) ? undefined : this.#pids.get(id);
  }

  exitOf(id: string): ContainerExit | undefined {
    return this.#exits.get(id);
  }

  async remove(id: string, bundle: string): Promise<void> {
    const { layout, log } = this.#parts;
    if (!this.#exits.has(id)) killShell(bundle, id);
    await runc(layout, ['delete', '--force', id]).catch((error) => {
      log.debug('runc delete', { id, error: errorText(error) });
    });
    removeContainerCgroups(layout, id);
    unmount(path.join(bundle, 'root'));
    await rm(bundle, { recursive: true, force: true });
    for (const suffix of ['pid', 'exit']) rmSync(path.join(layout.signals, `${id}.${suffix}`), { force: true });
    this.#pids.delete(id);
    this.#exits.delete(id);
  }

  execArgs(id: string, options: ExecOptions, command: readonly string[]): readonly string[] {
    return [
      ...['--root', this.#parts.layout.runcRoot],
      ...['--log', options.logFile, '--log-format', 'json'],
      ...['exec', '--pid-file', options.pidFile],
      ...(options.tty ? ['--tty'] : []),
      id,
      ...command,
    ];
  }

  onExit(handler: ExitHandler): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  close(): void {
    this.#cancelRescan();
    this.#watcher.close();
  }

  /** Takes in one file of the signals directory. */
  #notice(file: string): void {
    if (file.startsWith('.')) return;
    const id = file.replace(/\.(pid|exit)$/, '');
    try {
      const text = readFileSync(path.join(this.#parts.layout.signals, file), 'utf8').trim();
      if (file.endsWith('.pid') && text !== '' && !this.#pids.has(id)) this.#pids.set(id, Number(text));
      if (file.endsWith('.exit') && !this.#exits.has(id)) this.#ended(id, Number(text));
    } catch (error) {
      // Removed between the event and now.
      if (!isMissing(error)) this.#parts.log.warn('cannot read a container signal', { file, error: errorText(error) });
    }
    this.#starting.get(id)?.();
  }

  #ended(id: string, code: number): void {
    const { layout, clock } = this.#parts;
    const exit = { code, finishedAt: clock.now(), oomKilled: wasOomKilled(layout, id) };
    this.#exits.set(id, exit);
    for (const handler of [...this.#handlers]) handler(id, exit);
  }

  #rescan(): void {
    const { layout, clock } = this.#parts;
    for (const file of readdirSync(layout.signals)) this.#notice(file);
    for (const [id, pid] of this.#pids) this.#checkAlive(id, pid);
    this.#cancelRescan = clock.after(RESCAN_MS, () => this.#rescan());
  }

  /** When its shell was killed too, nobody writes the exit file: seen dead twice, it has ended. */
  #checkAlive(id: string, pid: number): void {
    if (this.#exits.has(id) || isAlive(pid)) this.#suspects.delete(id);
    else if (!this.#suspects.has(id)) this.#suspects.add(id);
    else {
      this.#suspects.delete(id);
      writeFileSync(path.join(this.#parts.layout.signals, `${id}.exit`), '137\n');
    }
  }

  /** Resolves when it runs or has failed to. */
  #started(id: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#parts.clock.after(START_TIMEOUT_MS, () => {
        this.#starting.delete(id);
        reject(new Error('context deadline exceeded'));
      });
      const look = (): void => {
        if (!this.#pids.has(id) && !this.#exits.has(id)) return;
        cancelTimer();
        this.#starting.delete(id);
        resolve();
      };
      this.#starting.set(id, look);
      look();
    });
  }
}
