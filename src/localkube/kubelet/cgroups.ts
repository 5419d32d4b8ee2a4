// The cgroups of containers: `meltemi-<instance>/pod<uid>/<container id>` in every hierarchy (cgroup v1 and v2).
// Called by the runtime, by pod setup when a pod goes, and by the sweep of `down`.
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import type { Layout } from './layout.ts';

const CGROUP_ROOT = '/sys/fs/cgroup';

/** What runc is told: relative to the root of each hierarchy. */
export function cgroupPath(layout: Layout, podUid: string, id: string): string {
  return `/${podCgroup(layout, podUid)}/${id}`;
}

function podCgroup(layout: Layout, podUid: string): string {
  return path.join(`meltemi-${layout.instance}`, `pod${podUid}`);
}

/** A container's id is `<pod uid>_<container>_<n>`. */
export function podUidOf(id: string): string {
  return id.split('_', 1)[0] ?? '';
}

export function wasOomKilled(layout: Layout, id: string): boolean {
  const cgroup = cgroupPath(layout, podUidOf(id), id);
  const read = (file: string, pattern: RegExp): boolean => {
    try {
      return Number(pattern.exec(readFileSync(file, 'utf8'))?.[1] ?? 0) > 0;
    } catch {
      return false;
    }
  };
  return (
    read(path.join(CGROUP_ROOT, 'memory', cgroup, 'memory.oom_control'), /^oom_kill (\d+)$/m) ||
    read(path.join(CGROUP_ROOT, cgroup, 'memory.events'), /^oom_kill (\d+)$/m)
  );
}

/** Everything of the instance, the deepest first. */
export function instanceCgroups(layout: Layout): readonly string[] {
  return existing(`meltemi-${layout.instance}`).flatMap(tree);
}

/** Processes in any of `dirs`. */
export function processesIn(dirs: readonly string[]): ReadonlySet<number> {
  const out = new Set<number>();
  for (const dir of dirs) {
    for (const line of readProcesses(dir)) if (line !== '') out.add(Number(line));
  }
  return out;
}

/** False when a process is still in one of them; what is empty has gone. */
export function removeCgroupDirs(dirs: readonly string[]): boolean {
  let all = true;
  for (const dir of dirs) {
    try {
      rmdirSync(dir);
    } catch (error) {
      if (!isGone(error)) all = false;
    }
  }
  return all;
}

/** The pod's cgroups once its containers have ended: runc removes only those of containers. */
export function removePodCgroups(layout: Layout, podUid: string): void {
  removeCgroupDirs(existing(podCgroup(layout, podUid)).flatMap(tree));
}

/** What an interrupted start left of a container's cgroup. */
export function removeContainerCgroups(layout: Layout, id: string): void {
  removeCgroupDirs(existing(cgroupPath(layout, podUidOf(id), id)).flatMap(tree));
}

function existing(relative: string): readonly string[] {
  const roots = [CGROUP_ROOT, ...readdirSync(CGROUP_ROOT).map((entry) => path.join(CGROUP_ROOT, entry))];
  return roots.map((root) => path.join(root, relative)).filter((dir) => existsSync(dir));
}

/** `dir` and everything below, the deepest first. A container may end, and its cgroup go, while we look. */
function tree(dir: string): readonly string[] {
  try {
    const below = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [...below.flatMap((entry) => tree(path.join(dir, entry.name))), dir];
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

function readProcesses(dir: string): readonly string[] {
  try {
    return readFileSync(path.join(dir, 'cgroup.procs'), 'utf8').split('\n');
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** The kernel answers ENODEV for a file of a cgroup that goes while it is read. */
function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENODEV');
}
