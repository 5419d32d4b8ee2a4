// The kubelet on the real kernel: runc, overlay, network namespaces, volumes, probes, restarts, adoption. Needs root.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { CONFIG_MAPS, type ConfigMap } from '../../src/api/kubernetes/config-map.ts';
import { NODES } from '../../src/api/kubernetes/node.ts';
import { isPodReady, PODS, type Pod } from '../../src/api/kubernetes/pod.ts';
import { layoutOf } from '../../src/localkube/kubelet/layout.ts';
import { removeAllContainers } from '../../src/localkube/kubelet/remove-all.ts';
import {
  create,
  events,
  exec,
  FOREVER,
  find,
  home,
  kube,
  kubelet,
  logs,
  remove,
  sh,
  startAgain,
  status,
  TIMEOUT_MS,
  until,
  untilPod,
} from './kubelet-rig.ts';

test('the node says Ready', () => {
  const node = kube.stored<Pod>(NODES).find((n) => n.metadata.name === 'meltemi');
  assert.match(JSON.stringify(node?.status), /"kubeletVersion":"v1.33.4"/);
  assert.match(JSON.stringify(node?.status), /"type":"Ready","status":"True"/);
});

test('a pod runs, sees only what it should, and goes without a trace', async (t) => {
  const begin = performance.now();
  const created = await create('plain', {});
  const pod = await untilPod('plain', 'ready', isPodReady);
  t.diagnostic(`pod seen → Ready: ${Math.round(performance.now() - begin)} ms`);
  assert.equal(pod.status?.phase, 'Running');
  assert.match(pod.status?.podIP ?? '', /^10\.244\./);
  assert.match(status(pod)?.imageID ?? '', /@sha256:/);
  const look = await exec('plain', [
    'sh',
    '-c',
    `hostname; cat /etc/resolv.conf; id -u; ls ${home} 2>/dev/null; ls -A /root; ls /usr/lib/meltemi/images/bin; touch /usr/lib/meltemi/x; touch /etc/mine && echo own`,
  ]);
  assert.equal(look.code, 0, look.err);
  assert.match(
    look.out,
    /^plain\nsearch default\.svc\.cluster\.local svc\.cluster\.local cluster\.local\nnameserver 10\.96\.0\.10\noptions ndots:5\n0\n/,
  );
  assert.match(look.out, /pilot-agent/);
  assert.match(look.out, /own\n$/);
  assert.match(look.err, /Read-only file system/);
  assert.ok(!existsSync('/etc/mine'), "the host's own files are untouched");
  assert.deepEqual(
    events('plain').map((e) => e.split(':')[0]),
    ['Pulled', 'Created', 'Started'],
  );
  await remove('plain');
  assert.ok(events('plain').includes('Killing: Stopping container main'));
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(created.metadata.uid!), 'its mounts are gone');
});

test('init containers, a native sidecar and a job in their order', async () => {
  const volume = { volumeMounts: [{ name: 'v', mountPath: '/v' }] };
  await create('ordered', {
    restartPolicy: 'Never',
    volumes: [{ name: 'v', emptyDir: {} }],
    initContainers: [
      sh('echo one >>/v/order', { name: 'one', ...volume }),
      sh(`echo side >>/v/order; ${FOREVER.replace('exit 0', 'echo side ends; exit 0')}`, {
        name: 'side',
        restartPolicy: 'Always',
        ...volume,
      }),
      sh('echo two >>/v/order', { name: 'two', ...volume }),
    ],
    containers: [sh('echo main >>/v/order; cat /v/order', volume)],
  });
  const pod = await untilPod('ordered', 'Succeeded', (p) => p.status?.phase === 'Succeeded');
  assert.equal(await logs('ordered', { container: 'main' }), 'one\nside\ntwo\nmain\n');
  assert.equal(status(pod)?.state?.terminated?.reason, 'Completed');
  assert.equal(status(pod, 'one')?.state?.terminated?.exitCode, 0);
  assert.equal(await logs('ordered', { container: 'side' }), 'side ends\n');
  const ready = pod.status?.conditions?.find((c) => c.type === 'Ready');
  assert.deepEqual([ready?.status, ready?.reason], ['False', 'PodCompleted']);
  await remove('ordered');
});

test('a container that fails comes back, later each time; its last log stays', async () => {
  await create('crash', { containers: [sh('echo run; exit 3')] });
  const pod = await untilPod('crash', 'in back-off', (p) => status(p)?.state?.waiting?.reason === 'CrashLoopBackOff');
  assert.match(
    status(pod)?.state?.waiting?.message ?? '',
    /^back-off 10s restarting failed container=main pod=crash_default\(/,
  );
  assert.equal(status(pod)?.restartCount, 1);
  assert.equal(status(pod)?.lastState?.terminated?.exitCode, 3);
  assert.equal(await logs('crash', { previous: true }), 'run\n');
  assert.ok(
    events('crash').some((e) =>
      e.startsWith('BackOff: Back-off restarting failed container main in pod crash_default('),
    ),
  );
  await remove('crash');
});

test('an init container that fails under Never fails the pod', async () => {
  await create('initfail', { restartPolicy: 'Never', initContainers: [sh('exit 7', { name: 'i' })] });
  const pod = await untilPod('initfail', 'Failed', (p) => p.status?.phase === 'Failed');
  assert.equal(status(pod, 'i')?.state?.terminated?.exitCode, 7);
  assert.equal(status(pod)?.state?.waiting?.reason, 'PodInitializing');
  await remove('initfail');
});

test('an unknown image and a wrong command are told', async () => {
  await create('noimage', { containers: [sh('', { image: 'example.com/what:1' })] });
  const pod = await untilPod('noimage', 'backing off', (p) => status(p)?.state?.waiting?.reason === 'ImagePullBackOff');
  assert.match(status(pod)?.state?.waiting?.message ?? '', /not in localkube's catalog/);
  assert.ok(events('noimage').includes('Failed: Error: ErrImagePull'));
  await create('nocommand', {
    restartPolicy: 'Never',
    containers: [{ name: 'main', image: 'busybox', command: ['/no/such'] }],
  });
  const failed = await untilPod('nocommand', 'Failed', (p) => p.status?.phase === 'Failed');
  assert.equal(status(failed)?.state?.terminated?.reason, 'StartError');
  assert.match(status(failed)?.state?.terminated?.message ?? '', /no such file or directory/);
  await create('hostnet', { hostNetwork: true });
  const refused = await untilPod('hostnet', 'refused', (p) => p.status?.phase === 'Failed');
  assert.match(refused.status?.message ?? '', /hostNetwork/);
  for (const name of ['noimage', 'nocommand', 'hostnet']) await remove(name);
});

test('a missing ConfigMap holds the pod; changes reach its files at once', async () => {
  await create(
    'config',
    {
      volumes: [
        { name: 'c', configMap: { name: 'cm' } },
        { name: 't', projected: { sources: [{ serviceAccountToken: { path: 'token', audience: 'istio-ca' } }] } },
        { name: 'd', downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
        { name: 'm', emptyDir: { medium: 'Memory' } },
      ],
      securityContext: { runAsUser: 1337, fsGroup: 1338 },
      containers: [
        sh(FOREVER, {
          volumeMounts: [
            { name: 'c', mountPath: '/etc/cm' },
            { name: 't', mountPath: '/var/run/secrets/tokens' },
            { name: 'd', mountPath: '/info' },
            { name: 'm', mountPath: '/mem' },
          ],
        }),
      ],
    },
    { labels: { app: 'x' } },
  );
  await until('FailedMount', () =>
    events('config').some(
      (e) => e === 'FailedMount: MountVolume.SetUp failed for volume "c" : configmap "cm" not found',
    ),
  );
  const cm: ConfigMap = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'cm', namespace: 'default' },
    data: { k: 'one' },
  };
  await kube.create(CONFIG_MAPS, cm);
  await untilPod('config', 'ready', isPodReady);
  const { out } = await exec('config', [
    'sh',
    '-c',
    'id; cat /etc/cm/k /var/run/secrets/tokens/token /info/labels; stat -f -c %T /mem; touch /mem/x && stat -c %g /mem/x',
  ]);
  assert.match(out, /^uid=1337 gid=0\(root\) groups=0\(root\),1338\nonetoken-\d+app="x"tmpfs\n1338\n$/);
  await kube.patch(CONFIG_MAPS, 'default', 'cm', 'merge', { data: { k: 'two' } });
  await kube.patch(PODS, 'default', 'config', 'merge', { metadata: { labels: { app: 'y' } } });
  const cat = async () => (await exec('config', ['cat', '/etc/cm/k', '/info/labels'])).out;
  const end = Date.now() + TIMEOUT_MS;
  while ((await cat()) !== 'twoapp="y"') assert.ok(Date.now() < end, 'the files did not change');
  await remove('config');
});

test('probes make ready, unready, and restart', async () => {
  await create('probed', {
    containers: [
      sh(`touch /tmp/ok; ${FOREVER}`, {
        readinessProbe: { exec: { command: ['test', '-e', '/tmp/ok'] }, periodSeconds: 1, failureThreshold: 1 },
        livenessProbe: {
          exec: { command: ['sh', '-c', 'if test -e /tmp/bad; then echo sick; exit 1; fi'] },
          periodSeconds: 1,
          failureThreshold: 1,
        },
      }),
      sh('', {
        name: 'web',
        image: 'busybox',
        command: ['sleep', '1000'],
        startupProbe: { tcpSocket: { port: 9 }, periodSeconds: 1, failureThreshold: 100 },
      }),
    ],
    terminationGracePeriodSeconds: 1,
  });
  const pod = await untilPod('probed', 'main ready', (p) => status(p)?.ready);
  assert.equal(isPodReady(pod), false, 'the other has not started');
  assert.equal(status(pod, 'web')?.started, false);
  await until('Unhealthy', () =>
    events('probed').some((e) =>
      /^Unhealthy: Startup probe failed: dial tcp 10\.244\.[\d.]+:9: connect: connection refused$/.test(e),
    ),
  );
  await exec('probed', ['rm', '/tmp/ok'], { container: 'main' });
  await untilPod('probed', 'unready', (p) => status(p)?.ready === false);
  await exec('probed', ['touch', '/tmp/bad'], { container: 'main' });
  await untilPod('probed', 'restarted', (p) => status(p)?.restartCount === 1 && status(p)?.ready);
  assert.ok(events('probed').includes('Killing: Container main failed liveness probe, will be restarted'));
  assert.ok(events('probed').includes('Unhealthy: Liveness probe failed: sick\n'));
  await remove('probed');
});

test('hooks: postStart holds the next container, preStop runs before the end', async () => {
  const volume = { volumeMounts: [{ name: 'v', mountPath: '/v' }] };
  await create('hooked', {
    volumes: [{ name: 'v', hostPath: { path: home } }],
    containers: [
      sh(FOREVER, {
        name: 'first',
        ...volume,
        lifecycle: {
          postStart: { exec: { command: ['sh', '-c', 'sleep 0.3; echo hooked >>/v/hooks'] } },
          preStop: { exec: { command: ['sh', '-c', 'echo stopping >>/v/hooks'] } },
        },
      }),
      sh(`echo second >>/v/hooks; ${FOREVER}`, volume),
    ],
  });
  await untilPod('hooked', 'ready', isPodReady);
  await until(
    'second',
    () => existsSync(path.join(home, 'hooks')) && readFileSync(path.join(home, 'hooks'), 'utf8').includes('second'),
  );
  await remove('hooked');
  assert.equal(readFileSync(path.join(home, 'hooks'), 'utf8'), 'hooked\nsecond\nstopping\n');
});

test('memory limits end a container as OOMKilled', async () => {
  await create('oom', {
    restartPolicy: 'Never',
    containers: [
      sh('head -c 200000000 /dev/zero | tail >/dev/null; exit 137', {
        resources: { limits: { memory: '20Mi', cpu: '500m' } },
      }),
    ],
  });
  const pod = await untilPod('oom', 'over', (p) => status(p)?.state?.terminated);
  assert.equal(status(pod)?.state?.terminated?.reason, 'OOMKilled');
  assert.equal(pod.status?.qosClass, 'Guaranteed');
  await remove('oom');
});

test('who may do what: users, capabilities, read-only roots', async () => {
  await create('rights', {
    restartPolicy: 'Never',
    containers: [
      sh('id -u; id -un; touch /x 2>&1; grep -E "CapEff|NoNewPrivs" /proc/self/status', {
        image: 'istio/proxyv2:1.23.2',
        securityContext: {
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        },
      }),
      sh('ip link set lo mtu 1400 && echo made; grep -c "[$]" /etc/shadow', {
        name: 'admin',
        securityContext: { capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] } },
      }),
    ],
  });
  await untilPod('rights', 'over', (p) => p.status?.phase === 'Succeeded' || p.status?.phase === 'Failed');
  const out = await logs('rights', { container: 'main' });
  assert.match(out, /^1337\nistio-proxy\n.*Read-only file system\nCapEff:\t0{16}\nNoNewPrivs:\t1\n$/s);
  assert.match(await logs('rights', { container: 'admin' }), /^made\n0\n$/);
  await create('nonroot', { containers: [sh(FOREVER, { securityContext: { runAsNonRoot: true } })] });
  const pod = await untilPod(
    'nonroot',
    'refused',
    (p) => status(p)?.state?.waiting?.reason === 'CreateContainerConfigError',
  );
  assert.match(status(pod)?.state?.waiting?.message ?? '', /container has runAsNonRoot and image will run as root/);
  await create('privileged', {
    restartPolicy: 'Never',
    containers: [
      sh('id -un; sudo -n id -u; sudo -n tcpdump --version 2>&1 | head -1; grep CapBnd /proc/self/status', {
        image: 'istio/proxyv2',
        securityContext: { privileged: true, readOnlyRootFilesystem: true },
      }),
    ],
  });
  await untilPod('privileged', 'over', (p) => p.status?.phase === 'Succeeded' || p.status?.phase === 'Failed');
  assert.match(await logs('privileged'), /^istio-proxy\n0\ntcpdump version .*\nCapBnd:\t000001f/);
  for (const name of ['rights', 'nonroot', 'privileged']) await remove(name);
});

test('a new kubelet takes over what runs, what ended meanwhile and what was deleted meanwhile', async () => {
  await create('survivor', { containers: [sh(`echo before; ${FOREVER}`)] });
  await create('ended', {
    restartPolicy: 'Never',
    containers: [
      sh('while ! test -e /h/end; do sleep 0.05; done; exit 9', { volumeMounts: [{ name: 'h', mountPath: '/h' }] }),
    ],
    volumes: [{ name: 'h', hostPath: { path: home } }],
  });
  await create('orphan', {});
  for (const name of ['survivor', 'ended', 'orphan']) await untilPod(name, 'ready', isPodReady);
  const before = find('survivor')!;
  const orphan = find('orphan')!;
  await kubelet.close();
  await kube.delete(PODS, 'default', 'orphan', { gracePeriodSeconds: 0 });
  writeFileSync(path.join(home, 'end'), '');
  await startAgain();
  const ended = await untilPod('ended', 'over', (p) => p.status?.phase === 'Failed');
  assert.equal(status(ended)?.state?.terminated?.exitCode, 9);
  const now = await untilPod('survivor', 'still ready', isPodReady);
  assert.equal(status(now)?.containerID, status(before)?.containerID);
  assert.equal(status(now)?.restartCount, 0);
  assert.equal((await exec('survivor', ['echo', 'yes'])).out, 'yes\n');
  assert.equal(await logs('survivor'), 'before\n');
  await until('orphan swept', () => !readFileSync('/proc/self/mountinfo', 'utf8').includes(orphan.metadata.uid!));
  for (const name of ['survivor', 'ended']) await remove(name);
});

function cgroups(): readonly string[] {
  const name = `meltemi-${layoutOf(home).instance}`;
  const root = '/sys/fs/cgroup';
  return [root, ...readdirSync(root).map((dir) => path.join(root, dir))]
    .map((dir) => path.join(dir, name))
    .filter((dir) => existsSync(dir));
}

test('down leaves nothing, also of running pods', async () => {
  await create('left', { containers: [sh('sleep 100000')] });
  await untilPod('left', 'ready', isPodReady);
  assert.notEqual(cgroups().length, 0);
  await kubelet.close();
  await removeAllContainers(home);
  assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes(home));
  assert.deepEqual(cgroups(), []);
  await startAgain();
});
