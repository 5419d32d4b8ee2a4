// The kubelet's door: starts it over runc and the node's network, and sweeps away everything it ever made.
// Called by localkube's wiring and by `meltemi down`.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { NodeNetwork } from '../network/types.ts';
import type { NodeBackend } from '../node-backend.ts';
import { createBackend } from './backend.ts';
import { createEventRecorder } from './events.ts';
import { createExecution } from './exec.ts';
import { capabilitiesInMask } from './identity.ts';
import { runKubelet } from './kubelet.ts';
import { type Layout, layoutOf } from './layout.ts';
import { createLogKeeper } from './log-keeper.ts';
import { registerNode } from './node-object.ts';
import { createRuntime, isAlive, runc } from './runtime.ts';
import { mount, mountPoints, unmount } from './sys.ts';

export interface KubeletStartOptions {
  readonly client: KubeClient;
  readonly network: NodeNetwork;
  /** Absolute, real path. */
  readonly home: string;
  readonly repoRoot: string;
  readonly nodeBinary: string;
  readonly clusterDomain: string;
  readonly nodeName: string;
  /** What containers get as KUBERNETES_SERVICE_HOST and _PORT. */
  readonly apiServer: { readonly host: string; readonly port: number };
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
}

/** All that containers write outside volumes and logs lives in memory, up to this. */
const RUN_SIZE = '4g';
const CGROUP_ROOT = '/sys/fs/cgroup';

/** Rejects when runc is missing, not root, or the API server refuses the Node. */
export async function startKubelet(
  options: KubeletStartOptions,
): Promise<{ readonly backend: NodeBackend; close(): Promise<void> }> {
  const { client, clock, log, network, home, random } = options;
  if (process.getuid?.() !== 0)
    throw new Error('the kubelet must run as root: it makes mounts, namespaces and containers');
  const layout = layoutOf(home);
  makeDirectories(layout);
  await runc(layout, ['--version']).catch((error) => {
    throw new Error(`runc cannot be run (${errorText(error)}): install the package "runc"`);
  });
  checkReadable(options.repoRoot);
  const runtime = createRuntime(layout, clock, log);
  const execution = createExecution(layout, runtime);
  const events = createEventRecorder(client, options.nodeName, clock, random, log);
  const closeNode = await registerNode({
    client,
    clock,
    log,
    nodeName: options.nodeName,
    nodeIp: network.nodeIp,
    home,
  });
  const kubelet = await runKubelet({
    nodeName: options.nodeName,
    random,
    logs: createLogKeeper(clock, log),
    context: {
      client,
      clock,
      log,
      network,
      runtime,
      execution,
      events,
      settings: {
        layout,
        repoRoot: options.repoRoot,
        nodeBinary: options.nodeBinary,
        apiServer: options.apiServer,
        available: availableCapabilities(),
      },
      hostIp: network.nodeIp,
      capacity: { cpu: os.availableParallelism(), memory: os.totalmem() },
      dns: {
        clusterDnsIp: network.clusterDnsIp,
        clusterDomain: options.clusterDomain,
        hostResolvConf: existsSync('/etc/resolv.conf') ? readFileSync('/etc/resolv.conf', 'utf8') : '',
      },
    },
  });
  const backend = createBackend({ find: kubelet.find, runtime, execution, network, clock });
  return {
    backend,
    async close() {
      closeNode();
      kubelet.close();
      runtime.close();
    },
  };
}

function makeDirectories(layout: Layout): void {
  mkdirSync(layout.run, { recursive: true, mode: 0o700 });
  mkdirSync(layout.disk, { recursive: true, mode: 0o700 });
  if (!mountPoints().some((point) => point.path === layout.run))
    mount('tmpfs', layout.run, 'tmpfs', 0, `mode=0755,size=${RUN_SIZE}`);
  const inside = [layout.runcRoot, layout.signals, layout.bases, layout.pods, path.join(layout.run, 'exec')];
  for (const dir of [...inside, layout.compileCache]) mkdirSync(dir, { recursive: true, mode: 0o755 });
  // Layers of an earlier version of the catalog or the host.
  if (readdirSync(layout.pods).length === 0)
    for (const name of readdirSync(layout.bases))
      rmSync(path.join(layout.bases, name), { recursive: true, force: true });
}

/** Containers run as other users: a checkout that only root may read would fail inside with a riddle. */
function checkReadable(repoRoot: string): void {
  for (const name of ['.', 'images/bin', 'src', 'node_modules']) {
    const at = path.join(repoRoot, name);
    if (existsSync(at) && (statSync(at).mode & 0o005) !== 0o005)
      throw new Error(`containers run as other users and cannot read ${at}: run "chmod -R o+rX ${repoRoot}"`);
  }
}

function availableCapabilities(): ReadonlySet<string> {
  const mask = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return capabilitiesInMask(mask);
}

/** Kills and deletes every container, mount, cgroup and pod directory of that home; harmless when there is none. */
export async function removeAllContainers(home: string): Promise<void> {
  const layout = layoutOf(home);
  const ids = existsSync(layout.runcRoot) ? readdirSync(layout.runcRoot) : [];
  for (const pid of cgroupProcesses(layout)) kill(pid);
  await Promise.all(ids.map((id) => runc(layout, ['delete', '--force', id]).catch(() => {})));
  for (const pid of shellProcesses(layout)) kill(pid);
  const mounts = mountPoints().filter((point) => point.path === layout.run || point.path.startsWith(`${layout.run}/`));
  for (const point of mounts.reverse()) unmount(point.path);
  await removeCgroups(layout);
  rmSync(layout.run, { recursive: true, force: true });
  rmSync(path.join(layout.disk, 'pods'), { recursive: true, force: true });
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Ended already.
  }
}

function cgroupDirs(layout: Layout): readonly string[] {
  const name = `meltemi-${layout.instance}`;
  const roots = [CGROUP_ROOT, ...readdirSync(CGROUP_ROOT).map((entry) => path.join(CGROUP_ROOT, entry))];
  return roots.map((root) => path.join(root, name)).filter((dir) => existsSync(dir));
}

/** `dir` and everything below, the deepest first. */
function tree(dir: string): readonly string[] {
  const below = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...below.flatMap((entry) => tree(path.join(dir, entry.name))), dir];
}

function cgroupProcesses(layout: Layout): ReadonlySet<number> {
  const out = new Set<number>();
  for (const dir of cgroupDirs(layout).flatMap(tree)) {
    const text = readFileSync(path.join(dir, 'cgroup.procs'), 'utf8');
    for (const line of text.split('\n')) if (line !== '') out.add(Number(line));
  }
  return out;
}

/** The shells, runcs and FIFO holders that stand around containers: their command lines name the run directory. */
function shellProcesses(layout: Layout): readonly number[] {
  const out: number[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      const isShell = words.includes('meltemi-container') && words.includes(layout.runcRoot);
      const isRunc = words[0] === 'runc' && words.includes(layout.runcRoot);
      if (isShell || isRunc) out.push(Number(entry));
    } catch {
      // Ended meanwhile.
    }
  }
  return out;
}

const CGROUP_TRIES = 100;
const CGROUP_WAIT_MS = 10;

/** A cgroup can be removed only when the kernel has let go of its last process. */
async function removeCgroups(layout: Layout): Promise<void> {
  for (let attempt = 0; attempt < CGROUP_TRIES; attempt++) {
    let left = 0;
    for (const dir of cgroupDirs(layout).flatMap(tree)) {
      try {
        rmdirSync(dir);
      } catch {
        left += 1;
      }
    }
    if (left === 0) return;
    for (const pid of cgroupProcesses(layout)) if (isAlive(pid)) kill(pid);
    await new Promise((resolve) => setTimeout(resolve, CGROUP_WAIT_MS));
  }
}
