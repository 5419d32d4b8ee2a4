// The API server and kubelet as kubectl sees them: the current one by WebSocket, Debian's 1.20 by SPDY.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { applyOk, ensureUp, eventually, k, kOk, oldK, type Result, run, start } from './cluster.ts';

const NS = 'kubectl-test';
const dir = mkdtempSync(path.join(tmpdir(), 'meltemi-kubectl-'));
const n = (...args: readonly string[]): string => kOk('-n', NS, ...args);

const WEB = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: web, image: nginx, ports: [{containerPort: 80}]}
        - {name: shell, image: busybox, command: [sh, -c, "echo hello from shell; sleep 3600"]}
`;

before(() => {
  ensureUp();
  kOk('create', 'namespace', NS);
  applyOk(WEB, '-n', NS);
  n('rollout', 'status', 'deployment/web', '--timeout=60s');
});
after(() => {
  rmSync(dir, { recursive: true });
  kOk('delete', 'namespace', NS, '--timeout=60s');
});

const pod = (): string =>
  n('get', 'po', '-l', 'app=web', '--field-selector=status.phase=Running', '-o', 'jsonpath={.items[0].metadata.name}');

test('get: table, wide, yaml, json, jsonpath, -A, selectors, name', () => {
  assert.match(n('get', 'deploy'), /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +1\/1 +1 +1 +\d+s/);
  assert.match(
    n('get', 'po', '-o', 'wide'),
    /NODE +NOMINATED NODE +READINESS GATES\nweb-\S+ +2\/2 +Running +0 +\S+ +10\.244\.0\.\d+ +meltemi/,
  );
  assert.match(n('get', 'deploy', 'web', '-o', 'yaml'), /^apiVersion: apps\/v1\nkind: Deployment\n/);
  assert.equal(JSON.parse(n('get', 'deploy', 'web', '-o', 'json')).metadata.name, 'web');
  assert.equal(n('get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas}'), '1');
  assert.match(kOk('get', 'po', '-A'), /^NAMESPACE +NAME/);
  assert.match(n('get', 'deploy', '-l', 'tier in (front,back),!gone', '-o', 'name'), /deployment\.apps\/web/);
  assert.match(k('-n', NS, 'get', 'deploy', '-l', 'tier=back').stderr, /No resources found in kubectl-test namespace/);
  assert.match(
    k('-n', NS, 'get', 'deploy', 'nope').stderr,
    /Error from server \(NotFound\): deployments\.apps "nope" not found/,
  );
  assert.match(k('get', 'nonsense').stderr, /the server doesn't have a resource type "nonsense"/);
});

test('get -w follows', async () => {
  const watch = start(process.env.KUBECTL!, ['-n', NS, 'get', 'cm', '-w', '-o', 'name']);
  let seen = '';
  watch.stdout!.on('data', (chunk: Buffer) => {
    seen += chunk.toString();
  });
  await eventually(() => assert.match(seen, /kube-root-ca/));
  n('create', 'cm', 'watched', '--from-literal=a=b');
  await eventually(() => assert.match(seen, /configmap\/watched/));
  watch.kill('SIGKILL');
  n('delete', 'cm', 'watched');
});

test('label, annotate, three patches, server-side apply with its conflict', () => {
  n('create', 'cm', 'c', '--from-literal=a=1');
  assert.match(n('label', 'cm', 'c', 'x=y'), /labeled/);
  assert.match(n('annotate', 'cm', 'c', 'x=y'), /annotated/);
  n('patch', 'cm', 'c', '--type=json', '-p', '[{"op":"add","path":"/data/b","value":"2"}]');
  n('patch', 'cm', 'c', '--type=merge', '-p', '{"data":{"c":"3"}}');
  n(
    'patch',
    'deploy',
    'web',
    '--type=strategic',
    '-p',
    '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"E","value":"1"}]}]}}}}',
  );
  assert.equal(n('get', 'cm', 'c', '-o', 'jsonpath={.data}'), '{"a":"1","b":"2","c":"3"}');
  assert.equal(n('get', 'deploy', 'web', '-o', 'jsonpath={.spec.template.spec.containers[*].name}'), 'web shell');
  const file = path.join(dir, 'cm.yaml');
  writeFileSync(file, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: other}\n');
  const conflict = k('-n', NS, 'apply', '--server-side', '-f', file);
  assert.match(conflict.stderr, /Apply failed with 1 conflict: conflict with "kubectl-create" using v1: \.data\.a/);
  assert.match(n('apply', '--server-side', '--force-conflicts', '-f', file), /serverside-applied/);
  n('rollout', 'status', 'deployment/web', '--timeout=60s');
});

test('edit', () => {
  const result = run(process.env.KUBECTL!, ['-n', NS, 'edit', 'cm', 'c'], {
    env: { KUBE_EDITOR: "sed -i 's/other/edited/'" },
  });
  assert.match(result.stdout, /configmap\/c edited/, result.stderr);
  assert.equal(n('get', 'cm', 'c', '-o', 'jsonpath={.data.a}'), 'edited');
});

test('scale, rollout restart, history and undo, wait', () => {
  n('scale', 'deploy', 'web', '--replicas=2');
  n('wait', '--for=condition=Available', 'deploy/web', '--timeout=60s');
  n('rollout', 'status', 'deploy/web', '--timeout=60s');
  assert.match(n('get', 'deploy', 'web'), /2\/2/);
  n('rollout', 'restart', 'deploy/web');
  n('rollout', 'status', 'deploy/web', '--timeout=60s');
  assert.match(n('rollout', 'history', 'deploy/web'), /REVISION +CHANGE-CAUSE\n1/);
  n('rollout', 'undo', 'deploy/web');
  n('rollout', 'status', 'deploy/web', '--timeout=60s');
  n('scale', 'deploy', 'web', '--replicas=1');
  n('rollout', 'status', 'deploy/web', '--timeout=60s');
});

test('describe and events', () => {
  const text = n('describe', 'po', pod());
  assert.match(text, /Containers:\n +web:/);
  assert.match(text, /Normal +Started/);
  assert.match(n('describe', 'deploy', 'web'), /NewReplicaSet: +web-/);
  assert.match(n('get', 'events'), /ScalingReplicaSet/);
});

const BOTH: readonly [string, (...args: readonly string[]) => Result][] = [
  ['1.33', k],
  ['1.20', oldK],
];
for (const [version, kubectl] of BOTH) {
  const ok = (...args: readonly string[]): string => {
    const result = kubectl('-n', NS, ...args);
    assert.equal(result.status, 0, `${args.join(' ')}: ${result.stderr}`);
    return result.stdout;
  };
  const binary = (): string => (version === '1.20' ? process.env.OLD_KUBECTL! : process.env.KUBECTL!);

  test(`${version}: apply and explain`, () => {
    const file = path.join(dir, 'apply.yaml');
    writeFileSync(file, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: "1"}\n');
    assert.match(ok('apply', '-f', file), /configmap\/applied created/);
    writeFileSync(file, 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {b: "2"}\n');
    assert.match(ok('apply', '-f', file), /configmap\/applied configured/);
    assert.equal(ok('get', 'cm', 'applied', '-o', 'jsonpath={.data}').replace('map[b:2]', '{"b":"2"}'), '{"b":"2"}');
    assert.match(ok('apply', '-f', file), /unchanged/);
    assert.match(ok('delete', '-f', file), /configmap "applied" deleted/);
    assert.match(ok('explain', 'pod.spec.containers'), /image/);
    assert.match(ok('explain', 'peerauthentication.spec.mtls'), /mode/);
  });

  test(`${version}: exec with exit status, standard input, and a terminal`, () => {
    assert.equal(ok('exec', pod(), '-c', 'shell', '--', 'echo', 'hi'), 'hi\n');
    const failed = kubectl('-n', NS, 'exec', pod(), '-c', 'shell', '--', 'sh', '-c', 'echo no >&2; exit 7');
    assert.equal(failed.status, 7);
    assert.match(failed.stderr, /no\n[\s\S]*command terminated with exit code 7/);
    const piped = run(binary(), ['-n', NS, 'exec', '-i', pod(), '-c', 'shell', '--', 'wc', '-c'], {
      input: 'x'.repeat(300_000),
    });
    assert.equal(piped.stdout.trim(), '300000');
    const tty = run(
      'script',
      ['-qec', `${binary()} -n ${NS} exec -it ${pod()} -c shell -- sh -c 'tty; exit 3'`, '/dev/null'],
      { input: '' },
    );
    assert.match(tty.stdout, /\/dev\/pts\/\d+/);
    assert.equal(tty.status, 3);
    assert.match(kubectl('-n', NS, 'exec', pod(), '-c', 'nope', '--', 'true').stderr, /container/);
    assert.notEqual(kubectl('-n', NS, 'exec', pod(), '-c', 'shell', '--', '/no/such/file').status, 0);
  });

  test(`${version}: cp both ways`, () => {
    const file = path.join(dir, 'cp.bin');
    writeFileSync(file, Buffer.alloc(200_000, version));
    ok('cp', file, `${pod()}:/tmp/cp.bin`, '-c', 'shell');
    assert.equal(ok('exec', pod(), '-c', 'shell', '--', 'wc', '-c', '/tmp/cp.bin').trim(), '200000 /tmp/cp.bin');
    ok('cp', `${pod()}:/tmp/cp.bin`, path.join(dir, 'back.bin'), '-c', 'shell');
    assert.deepEqual(readFileSync(path.join(dir, 'back.bin')), readFileSync(file));
  });

  test(`${version}: port-forward`, async () => {
    const forward = start(binary(), ['-n', NS, 'port-forward', pod(), ':80']);
    let said = '';
    forward.stdout!.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const port = await eventually(() => {
      const found = /127\.0\.0\.1:(\d+) -> 80/.exec(said);
      assert.ok(found);
      return Number(found[1]);
    });
    for (let i = 0; i < 3; i += 1) {
      const body = await new Promise<string>((resolve, reject) => {
        get({ port, host: '127.0.0.1', agent: false }, (res) => {
          let text = '';
          res.on('data', (chunk: Buffer) => {
            text += chunk.toString();
          });
          res.on('end', () => resolve(text));
        }).on('error', reject);
      });
      assert.match(body, /Welcome to nginx!/);
    }
    forward.kill('SIGKILL');
  });

  test(`${version}: logs, -f, --previous, -c`, async () => {
    assert.equal(ok('logs', pod(), '-c', 'shell'), 'hello from shell\n');
    const follow = start(binary(), ['-n', NS, 'logs', '-f', pod(), '-c', 'web']);
    let seen = '';
    follow.stdout!.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    ok('exec', pod(), '-c', 'shell', '--', 'curl', '-s', '-A', `agent-${version}`, 'localhost');
    await eventually(() => assert.ok(seen.includes(`agent-${version}`)));
    follow.kill('SIGKILL');
  });
}

test('logs --previous after a restart', async () => {
  n('run', 'once', '--image=busybox', '--restart=Always', '--command', '--', 'sh', '-c', 'echo life $RANDOM$$; exit 1');
  await eventually(() => assert.match(n('get', 'po', 'once'), /once +0\/1 +(Error|CrashLoopBackOff) +[1-9]/), 30_000);
  assert.match(n('logs', 'once', '--previous'), /^life/);
  n('delete', 'po', 'once', '--now');
});

test('delete cascades, orphans when told, honours the grace period', async () => {
  n('create', 'deployment', 'gone', '--image=nginx');
  n('rollout', 'status', 'deploy/gone', '--timeout=60s');
  // As process 1 it can be asked to stop only once it has its own signal handler.
  await eventually(() => assert.match(n('logs', 'deploy/gone'), /listening on 80/));
  n('delete', 'deploy', 'gone');
  await eventually(() => assert.equal(n('get', 'rs,po', '-l', 'app=gone', '-o', 'name'), ''));
  n('create', 'deployment', 'kept', '--image=nginx');
  await eventually(() => assert.match(n('get', 'rs', '-l', 'app=kept', '-o', 'name'), /replicaset/));
  n('delete', 'deploy', 'kept', '--cascade=orphan');
  assert.match(n('get', 'rs', '-l', 'app=kept', '-o', 'name'), /replicaset/);
  n('delete', 'rs', '-l', 'app=kept');
});

test('debug --copy-to makes a copy with one more container', async () => {
  n('debug', pod(), '--image=nicolaka/netshoot', '--copy-to=copied', '-c', 'extra', '--', 'sleep', '3600');
  await eventually(() => assert.match(n('get', 'po', 'copied'), /3\/3 +Running/));
  n('delete', 'po', 'copied', '--now');
});

test('api-resources, auth can-i, create token, version', () => {
  const resources = kOk('api-resources');
  assert.match(resources, /^peerauthentications +pa +security\.istio\.io\/v1 +true +PeerAuthentication$/m);
  assert.match(resources, /^deployments +deploy +apps\/v1 +true +Deployment$/m);
  assert.equal(kOk('auth', 'can-i', 'create', 'pods').trim(), 'yes');
  const denied = k('auth', 'can-i', 'create', 'pods', '--as', `system:serviceaccount:${NS}:default`);
  assert.match(denied.stdout, /^no/);
  const token = n('create', 'token', 'default', '--audience=somebody').trim();
  const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as {
    aud: string[];
    sub: string;
  };
  assert.deepEqual(claims.aud, ['somebody']);
  assert.equal(claims.sub, `system:serviceaccount:${NS}:default`);
  assert.match(kOk('version'), /Server Version: v1\.33/);
  const keys = JSON.parse(kOk('get', '--raw', '/openid/v1/jwks')) as { keys: unknown[] };
  assert.ok(keys.keys.length > 0);
});

test('custom resources: short name, columns, schema, removal', async () => {
  applyOk(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.sea.example}
spec:
  group: sea.example
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt]}
  versions:
    - name: v1
      served: true
      storage: true
      additionalPrinterColumns: [{name: Sails, type: integer, jsonPath: .spec.sails}]
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, required: [sails], properties: {sails: {type: integer, minimum: 1, default: 1}, name: {type: string, pattern: "^[A-Z]"}}}
`);
  kOk('wait', '--for=condition=Established', 'crd/boats.sea.example', '--timeout=10s');
  const boat = (spec: string): string =>
    `apiVersion: sea.example/v1\nkind: Boat\nmetadata: {name: a, namespace: ${NS}}\nspec: ${spec}\n`;
  const wrong = run(process.env.KUBECTL!, ['apply', '-f', '-'], { input: boat('{sails: 0, name: x}') });
  assert.match(wrong.stderr, /spec\.sails.*should be greater than or equal to 1/);
  assert.match(wrong.stderr, /spec\.name.*should match/);
  applyOk(boat('{sails: 3, name: X}'));
  assert.match(n('get', 'bt'), /^NAME +SAILS\na +3/);
  kOk('delete', 'crd', 'boats.sea.example');
  // kubectl may still have the name in its discovery cache; the server no longer has it.
  await eventually(() =>
    assert.match(k('get', 'boats').stderr, /doesn't have a resource type|could not find the requested resource/),
  );
});

test('StatefulSet, DaemonSet, Job and CronJob run', async () => {
  applyOk(`apiVersion: v1
kind: Service
metadata: {name: sts, namespace: ${NS}}
spec: {clusterIP: None, selector: {app: sts}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: sts, namespace: ${NS}}
spec:
  serviceName: sts
  replicas: 2
  selector: {matchLabels: {app: sts}}
  template:
    metadata: {labels: {app: sts}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: nginx}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ds, namespace: ${NS}}
spec:
  selector: {matchLabels: {app: ds}}
  template:
    metadata: {labels: {app: ds}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: a, image: nginx}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: ${NS}}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: a, image: busybox, command: [echo, done]}]}
`);
  n('rollout', 'status', 'statefulset/sts', '--timeout=60s');
  n('rollout', 'status', 'daemonset/ds', '--timeout=60s');
  n('wait', '--for=condition=Complete', 'job/job', '--timeout=60s');
  const answer = n(
    'exec',
    pod(),
    '-c',
    'shell',
    '--',
    'curl',
    '-s',
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
    `sts-1.sts.${NS}.svc.cluster.local`,
  );
  assert.equal(answer, '200');
  assert.equal(n('logs', 'job/job').trim(), 'done');
});

test('NodePort and LoadBalancer answer on 127.0.0.1 of the host', async () => {
  n('expose', 'deploy', 'web', '--port=80', '--type=NodePort', '--name=np');
  const port = Number(n('get', 'svc', 'np', '-o', 'jsonpath={.spec.ports[0].nodePort}'));
  await eventually(async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    assert.match(await answer.text(), /Welcome to nginx!/);
  });
});
