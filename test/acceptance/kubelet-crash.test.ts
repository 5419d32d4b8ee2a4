// kill -9 of the whole localkube process: pods run on and are taken over, half-made and half-deleted pods come right, and
// nothing is left at the end. Needs root.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { isPodReady, PODS, type Pod } from '../../src/api/kubernetes/pod.ts';
import { loadKubeconfig } from '../../src/base/kube/connection.ts';
import { createHttpKubeClient, type HttpKubeClient } from '../../src/base/kube/http-client.ts';
import { KubeError } from '../../src/base/kube/types.ts';
import { systemClock } from '../../src/base/runtime/clock.ts';
import { layoutOf } from '../../src/localkube/kubelet/layout.ts';
import { removeAllContainers } from '../../src/localkube/kubelet/remove-all.ts';
import { listInstanceLeftovers, removeNetwork } from '../../src/localkube/network/node-network.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const home = realpathSync(mkdtempSync(path.join(tmpdir(), 'meltemi-crash-')));
const layout = layoutOf(home);
const TIMEOUT_MS = 30_000;
/** Milliseconds into the making and into the deletion of a pod at which the process is killed. */
const MOMENTS = [20, 60, 100, 160, 240];
let child: ChildProcess | undefined;
let instance = '';
let client: HttpKubeClient;
let closeClient = (): void => {};

async function start(): Promise<void> {
  child = spawn(process.execPath, [path.join(root, 'src/localkube/main.ts'), '--home', home, '--api-port', '0'], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const lines = (child.stdio[3] as Readable).setEncoding('utf8');
  let text = '';
  for await (const chunk of lines) {
    text += chunk;
    if (text.includes('"kind":"failed"')) throw new Error(text);
  }
  const ready = text.split('\n').find((line) => line.includes('"kind":"ready"'));
  assert.ok(ready, `localkube did not become ready: ${text}`);
  instance = (JSON.parse(ready) as { state: { instance: string } }).state.instance;
  client = createHttpKubeClient(
    loadKubeconfig(path.join(home, 'kubeconfig'), {
      readFile: (file) => readFileSync(file, 'utf8'),
      clock: systemClock,
    }),
  );
  closeClient = () => client.close();
}

async function crash(): Promise<void> {
  closeClient();
  const ended = once(child!, 'exit');
  child!.kill('SIGKILL');
  await ended;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const end = Date.now() + TIMEOUT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(Date.now() < end, `timed out: ${what}`);
    await pause(20);
  }
}

const get = (name: string): Promise<Pod | undefined> =>
  client.get<Pod>(PODS, 'default', name).catch((error: unknown) => {
    if (error instanceof KubeError && error.code === 404) return undefined;
    throw error;
  });
const ready = (name: string): Promise<Pod> =>
  until(`${name} ready`, async () => {
    const pod = await get(name);
    return pod && isPodReady(pod) ? pod : undefined;
  });
const gone = (name: string): Promise<true> =>
  until(`${name} gone`, async () => ((await get(name)) === undefined ? true : undefined));

const create = (name: string): Promise<Pod> =>
  client.create<Pod>(PODS, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default' },
    spec: {
      terminationGracePeriodSeconds: 2,
      volumes: [{ name: 'm', emptyDir: { medium: 'Memory' } }],
      containers: [
        {
          name: 'main',
          image: 'busybox',
          stdin: true,
          command: ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 1000 & wait $!; done'],
          volumeMounts: [{ name: 'm', mountPath: '/m' }],
        },
      ],
    },
  });

const identity = (pod: Pod): unknown => [
  pod.metadata.uid,
  pod.status?.podIP,
  pod.status?.containerStatuses?.map((c) => [c.containerID, c.restartCount]),
];
const cgroups = (): readonly string[] => globSync(`/sys/fs/cgroup/{,*/}meltemi-${layout.instance}`);
const pods = (): readonly string[] => globSync(`/sys/fs/cgroup/memory/meltemi-${layout.instance}/pod*`);

before(start);
after(async () => {
  if (child?.exitCode === null && child.signalCode === null) await crash();
  await removeAllContainers(home);
  if (instance) removeNetwork(instance);
  rmSync(home, { recursive: true, force: true });
});

test('pods outlive the process: the same containers, no restart', async () => {
  await create('steady');
  const before = identity(await ready('steady'));
  await crash();
  await start();
  assert.deepEqual(identity(await ready('steady')), before);
});

test('killed in the middle of making or deleting a pod, the next process brings it to its end', async () => {
  const steady = identity(await ready('steady'));
  for (const [round, ms] of MOMENTS.entries()) {
    const name = `churn-${round}`;
    await create(name);
    await pause(ms);
    await crash();
    await start();
    await ready(name);
    await client.delete(PODS, 'default', name);
    await pause(ms / 2);
    await crash();
    await start();
    await gone(name);
  }
  assert.deepEqual(identity(await ready('steady')), steady);
  await until('only the steady pod is left on the node', async () =>
    readdirSync(layout.pods).length === 1 && readdirSync(layout.runcRoot).length === 1 ? true : undefined,
  );
  assert.equal(readdirSync(path.join(layout.disk, 'pods')).length, 1);
  assert.ok(pods().length <= 1, 'the cgroups of pods that are gone are gone');
  assert.equal(listInstanceLeftovers(instance).length, 2, "the node's and one pod's");
});

test('down after a crash leaves nothing', async () => {
  await create('half');
  await pause(60);
  await crash();
  await removeAllContainers(home);
  removeNetwork(instance);
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(home), 'a mount is left');
  assert.deepEqual(cgroups(), []);
  assert.deepEqual(listInstanceLeftovers(instance), []);
});
