// The kubelet's door: starts it over runc and the node's network. Called by localkube's wiring.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { KubeClient } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { LocalNodeNetwork } from '../network/node-network.ts';
import type { NodeBackend } from '../node-backend.ts';
import { createBackend } from './backend.ts';
import { createEventRecorder } from './events.ts';
import { createExecution } from './exec.ts';
import { capabilitiesInMask } from './identity.ts';
import { runKubelet } from './kubelet.ts';
import { type Layout, layoutOf } from './layout.ts';
import { createLogKeeper } from './log-keeper.ts';
import { registerNode } from './node-object.ts';
import { runc } from './run.ts';
import { createRuntime } from './runtime.ts';
import { mount, mountPoints } from './sys.ts';

export interface KubeletStartOptions {
  readonly client: KubeClient;
  readonly network: LocalNodeNetwork;
  /** Absolute, real path. */
  readonly home: string;
  readonly repoRoot: string;
  readonly nodeBinary: string;
  /** PATH: where runc and the host's tools are looked up. */
  readonly searchPath: string;
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
  const runtime = createRuntime({ layout, clock, log, searchPath: options.searchPath });
  const execution = createExecution(layout, runtime, options.searchPath);
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
    retainPods: (uids) => network.retainPods(uids),
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
