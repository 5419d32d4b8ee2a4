// What an earlier kubelet that was killed left half done: containers nobody follows, directories of pods nobody knows.
// Called once when the kubelet starts, before any pod worker.
import { existsSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from '../../base/runtime/log.ts';
import { podUidOf, removePodCgroups } from './cgroups.ts';
import type { Layout } from './layout.ts';
import type { PodState } from './records.ts';
import type { Runtime } from './runtime.ts';
import { tearDownVolumes } from './volumes.ts';

/** Removes every container that no state counts as its own, and every pod directory whose uid is not in `wanted`. */
export async function removeLeftovers(
  layout: Layout,
  states: readonly PodState[],
  wanted: ReadonlySet<string>,
  runtime: Runtime,
  log: Logger,
): Promise<void> {
  const followed = new Set(states.flatMap(followedIds));
  const left = list(layout.runcRoot).filter((id) => !followed.has(id));
  if (left.length > 0) log.info('removing containers of an interrupted run', { containers: left.length });
  await Promise.all(left.map((id) => runtime.remove(id, bundleOf(layout, id))));
  for (const uid of new Set([...list(layout.pods), ...list(path.join(layout.disk, 'pods'))])) {
    if (wanted.has(uid)) continue;
    tearDownVolumes(layout.podRun(uid));
    removePodCgroups(layout, uid);
    await rm(layout.podRun(uid), { recursive: true, force: true });
    await rm(layout.podDisk(uid), { recursive: true, force: true });
  }
}

function followedIds(state: PodState): readonly string[] {
  const current = Object.values(state.containers).flatMap((record) => record.current ?? []);
  const ids = current.filter((instance) => !instance.exit).map((instance) => instance.id);
  return state.pauseId === undefined ? ids : [...ids, state.pauseId];
}

function bundleOf(layout: Layout, id: string): string {
  const [, container = '', attempt = ''] = id.split('_');
  return bundleDir(layout, podUidOf(id), container, attempt);
}

/** Where one run of a container keeps its overlay and its OCI configuration. */
export function bundleDir(layout: Layout, podUid: string, container: string, attempt: number | string): string {
  return path.join(layout.podRun(podUid), 'containers', container, String(attempt));
}

function list(dir: string): readonly string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}
