// The Node object and its lease: made at start, renewed while the kubelet runs. Called by start.ts.
import { readFileSync, statfsSync } from 'node:fs';
import os from 'node:os';
import type { Condition } from '../../api/kubernetes/condition.ts';
import { LEASES, type Lease } from '../../api/kubernetes/lease.ts';
import { NODES, type Node } from '../../api/kubernetes/node.ts';
import { type KubeClient, KubeError } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import { CATALOG } from '../images/catalog.ts';
import { timestamp } from './status.ts';

export const KUBELET_VERSION = 'v1.33.4';
const LEASE_NAMESPACE = 'kube-node-lease';
const LEASE_SECONDS = 40;
const RENEW_MS = 10_000;
const MAX_PODS = '250';

export interface NodeOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly nodeName: string;
  readonly nodeIp: string;
  readonly home: string;
}

/** Resolves when the Node says Ready; the returned function ends the renewals. */
export async function registerNode(options: NodeOptions): Promise<() => void> {
  const { clock, log } = options;
  await ensureNode(options);
  let closed = false;
  let cancel = (): void => {};
  const renew = (): void => {
    renewLease(options)
      .catch((error) => log.warn('node lease not renewed', { error: errorText(error) }))
      .finally(() => {
        if (!closed) cancel = clock.after(RENEW_MS, renew);
      });
  };
  renew();
  return () => {
    closed = true;
    cancel();
  };
}

async function ensureNode(options: NodeOptions): Promise<void> {
  const { client, nodeName } = options;
  const labels = {
    'kubernetes.io/arch': goArch(),
    'kubernetes.io/hostname': nodeName,
    'kubernetes.io/os': 'linux',
    'beta.kubernetes.io/arch': goArch(),
    'beta.kubernetes.io/os': 'linux',
    'node-role.kubernetes.io/control-plane': '',
  };
  const node: Node = { apiVersion: 'v1', kind: 'Node', metadata: { name: nodeName, labels }, spec: {} };
  let stored: Node;
  try {
    stored = await client.get<Node>(NODES, undefined, nodeName);
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 404) throw error;
    stored = await client.create<Node>(NODES, node);
  }
  const status = nodeStatus(options, stored.status?.conditions ?? []);
  await client.patch(NODES, undefined, nodeName, 'merge', { status }, { subresource: 'status' });
}

function nodeStatus(options: NodeOptions, before: readonly Condition[]): NonNullable<Node['status']> {
  const now = timestamp(options.clock.now());
  const condition = (type: string, ok: boolean, reason: string, message: string): Condition => {
    const status = ok ? 'True' : 'False';
    const old = before.find((c) => c.type === type);
    const lastTransitionTime = old?.status === status ? (old.lastTransitionTime ?? now) : now;
    return { type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime };
  };
  const disk = statfsSync(options.home);
  const capacity = {
    cpu: String(os.availableParallelism()),
    memory: `${Math.floor(os.totalmem() / 1024)}Ki`,
    'ephemeral-storage': `${Math.floor((disk.blocks * disk.bsize) / 1024)}Ki`,
    pods: MAX_PODS,
  };
  return {
    capacity,
    allocatable: capacity,
    conditions: [
      condition('MemoryPressure', false, 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'),
      condition('DiskPressure', false, 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
      condition('PIDPressure', false, 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'),
      condition('Ready', true, 'KubeletReady', 'kubelet is posting ready status'),
    ],
    addresses: [
      { type: 'InternalIP', address: options.nodeIp },
      { type: 'Hostname', address: options.nodeName },
    ],
    nodeInfo: {
      architecture: goArch(),
      bootID: readLine('/proc/sys/kernel/random/boot_id'),
      containerRuntimeVersion: 'runc://1.1',
      kernelVersion: os.release(),
      kubeProxyVersion: '',
      kubeletVersion: KUBELET_VERSION,
      machineID: '',
      operatingSystem: 'linux',
      osImage: /^PRETTY_NAME="?([^"\n]*)/m.exec(readText('/etc/os-release'))?.[1] ?? 'Linux',
      systemUUID: '',
    },
    images: CATALOG.map((entry) => ({ names: entry.repositories, sizeBytes: 0 })),
  };
}

async function renewLease({ client, clock, nodeName }: NodeOptions): Promise<void> {
  const renewTime = new Date(clock.now()).toISOString().replace('Z', '000Z');
  const spec = { holderIdentity: nodeName, leaseDurationSeconds: LEASE_SECONDS, renewTime };
  try {
    await client.patch(LEASES, LEASE_NAMESPACE, nodeName, 'merge', { spec });
  } catch (error) {
    if (!(error instanceof KubeError) || error.code !== 404) throw error;
    const lease: Lease = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: nodeName, namespace: LEASE_NAMESPACE },
      spec,
    };
    await client.create(LEASES, lease);
  }
}

function goArch(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function readLine(file: string): string {
  return readText(file).trim();
}
