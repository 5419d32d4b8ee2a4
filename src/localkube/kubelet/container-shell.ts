// The small shell that runs one container in a session of its own, so that it outlives localkube, and writes `<id>.exit`
// when the container ends. Called by the runtime.
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Layout } from './layout.ts';
import { run } from './run.ts';
import { mount } from './sys.ts';

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

const READ_LOG_BYTES = 4096;
/** The shell's $0: how it is told from other processes. */
export const SHELL_NAME = 'meltemi-container';
const SHELL_PID = 'shell';

// $1 id, $2 bundle, $3 signals, $4 runc root, $5 mode
const SHELL = `
id=$1 bundle=$2 signals=$3 root=$4
echo $$ >"$bundle/${SHELL_PID}"
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

/** Makes the overlay and writes config.json. */
export async function prepareBundle(input: LaunchInput): Promise<void> {
  const { bundle } = input;
  const at = (name: string): string => path.join(bundle, name);
  for (const name of ['upper', 'work', 'root']) mkdirSync(at(name), { recursive: true, mode: 0o755 });
  const options = `lowerdir=${input.baseLayer}:/,upperdir=${at('upper')},workdir=${at('work')}`;
  mount('overlay', at('root'), 'overlay', 0, options);
  await writeFile(at('config.json'), JSON.stringify(input.config(at('root'))), { mode: 0o600 });
  if (input.stdin || input.tty) await run('mkfifo', ['-m', '600', at('stdin')]);
}

/** `searchPath`: the PATH to find runc by. */
export function startShell(
  layout: Layout,
  searchPath: string,
  input: LaunchInput,
  onError: (error: Error) => void,
): void {
  const log = openSync(input.logFile, 'a', 0o600);
  try {
    const mode = input.tty ? 'tty' : input.stdin ? 'stdin' : 'none';
    const child = spawn(
      '/bin/sh',
      ['-c', SHELL, SHELL_NAME, input.id, input.bundle, layout.signals, layout.runcRoot, mode],
      { detached: true, stdio: ['ignore', log, log], cwd: '/', env: { PATH: searchPath } },
    );
    child.on('error', onError);
    child.unref();
  } finally {
    closeSync(log);
  }
}

/** Ends a shell that is still there, and the runc it waits for: an interrupted start must not go on by itself. */
export function killShell(bundle: string, id: string): void {
  try {
    const pid = Number(readFileSync(path.join(bundle, SHELL_PID), 'utf8').trim());
    if (!(pid > 1)) return;
    // The number may belong to somebody else by now.
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    if (words.includes(SHELL_NAME) && words.includes(id)) process.kill(-pid, 'SIGKILL');
  } catch {
    // It never began, or has ended.
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
