// What the containers of one pod share besides the network: host name, IPC, /dev/shm and, when asked, processes.
// Called by the pod worker before the first container.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { run } from './run.ts';
import { unmount } from './sys.ts';

export interface SandboxPaths {
  readonly ipc: string;
  readonly uts: string;
  readonly shm: string;
}

export function sandboxPaths(podRun: string): SandboxPaths {
  return { ipc: path.join(podRun, 'ipc'), uts: path.join(podRun, 'uts'), shm: path.join(podRun, 'shm') };
}

/** Makes the namespaces unless they are there already. */
export async function ensureSandbox(podRun: string, hostname: string): Promise<SandboxPaths> {
  const paths = sandboxPaths(podRun);
  const done = path.join(podRun, 'sandbox');
  if (existsSync(done)) return paths;
  mkdirSync(podRun, { recursive: true, mode: 0o755 });
  mkdirSync(paths.shm, { recursive: true });
  await run('chmod', ['1777', paths.shm]);
  for (const file of [paths.ipc, paths.uts]) {
    // Left by a try that was cut short.
    unmount(file);
    writeFileSync(file, '');
  }
  const script = 'printf %s "$1" >/proc/sys/kernel/hostname';
  await run('unshare', [`--ipc=${paths.ipc}`, `--uts=${paths.uts}`, '/bin/sh', '-c', script, 'sh', hostname]);
  writeFileSync(done, '');
  return paths;
}

export function removeSandbox(podRun: string): void {
  const paths = sandboxPaths(podRun);
  unmount(paths.ipc);
  unmount(paths.uts);
}
