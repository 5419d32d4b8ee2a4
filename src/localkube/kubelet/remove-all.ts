// Sweeps away everything the kubelet of one home ever made, also after a crash. Called when localkube stops and by `meltemi down`.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { instanceCgroups, processesIn, removeCgroupDirs } from './cgroups.ts';
import { SHELL_NAME } from './container-shell.ts';
import { type Layout, layoutOf } from './layout.ts';
import { killProcess, runc } from './run.ts';
import { mountPoints, unmount } from './sys.ts';

/** Kills and deletes every container, mount, cgroup and pod directory of that home; harmless when there is none. */
export async function removeAllContainers(home: string): Promise<void> {
  const layout = layoutOf(home);
  // First those who could start something anew.
  for (const pid of startingProcesses(layout)) killProcess(pid);
  for (const pid of processesIn(instanceCgroups(layout))) killProcess(pid);
  const ids = existsSync(layout.runcRoot) ? readdirSync(layout.runcRoot) : [];
  await Promise.all(ids.map((id) => runc(layout, ['delete', '--force', id]).catch(() => {})));
  const mounts = mountPoints().filter((point) => point.path === layout.run || point.path.startsWith(`${layout.run}/`));
  for (const point of mounts.reverse()) unmount(point.path);
  await removeCgroups(layout);
  rmSync(layout.run, { recursive: true, force: true });
  rmSync(path.join(layout.disk, 'pods'), { recursive: true, force: true });
}

/** The shells and runcs that stand around containers: their command lines name the run directory. */
function startingProcesses(layout: Layout): readonly number[] {
  const out: number[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      const isShell = words.includes(SHELL_NAME) && words.includes(layout.runcRoot);
      const isRunc = words[0] === 'runc' && words.includes(layout.runcRoot);
      if (isShell || isRunc) out.push(Number(entry));
    } catch {
      // Ended meanwhile.
    }
  }
  return out;
}

const CGROUP_TRIES = 500;
const CGROUP_WAIT_MS = 10;

/** A cgroup can be removed only when the kernel has let go of its last process. */
async function removeCgroups(layout: Layout): Promise<void> {
  for (let attempt = 0; attempt < CGROUP_TRIES; attempt++) {
    const dirs = instanceCgroups(layout);
    if (removeCgroupDirs(dirs)) return;
    for (const pid of processesIn(dirs)) killProcess(pid);
    await new Promise((resolve) => setTimeout(resolve, CGROUP_WAIT_MS));
  }
}
