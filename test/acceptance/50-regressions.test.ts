// Checks I1–I6 and I9 derived from the labs: what breaks easily.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import {
  applyOk,
  assertCode,
  assertReset,
  ensureLab,
  eventually,
  home,
  k,
  kOk,
  meltemiOk,
  policy,
  removePolicies,
  sleepCurl,
} from './cluster.ts';

const WEBAPP = 'webapp.istioinaction/api/catalog';
const IN = ['-n', 'istioinaction'] as const;

before(() => ensureLab());
after(() => removePolicies());

function podIp(app: string): string {
  return kOk(
    ...IN,
    'get',
    'po',
    '-l',
    `app=${app}`,
    '--field-selector=status.phase=Running',
    '-o',
    'jsonpath={.items[0].status.podIP}',
  );
}

/** A pod that only sleeps, with extra metadata. */
function sleeper(name: string, namespace: string, labels: Record<string, string>): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'app', image: 'curlimages/curl', command: ['sleep', '3600'] }],
    },
  });
}

test('I1 and I3 curl exits with 56 under STRICT, and deleting the policy reverts it', async () => {
  kOk('apply', '-f', policy('mesh-strict'));
  await eventually(() => assertReset(sleepCurl(WEBAPP)));
  kOk('delete', 'pa', 'default', '-n', 'istio-system');
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'), 10_000);
});

test('I4 15020, 15021 and 15090 answer in plaintext under STRICT', async () => {
  kOk('apply', '-f', policy('mesh-strict'));
  await eventually(() => assertReset(sleepCurl(WEBAPP)));
  const ip = podIp('webapp');
  for (const target of [
    '15020/healthz/ready',
    '15021/healthz/ready',
    '15090/stats/prometheus',
    '15020/stats/prometheus',
  ])
    assertCode(sleepCurl(`http://${ip}:${target}`), '200');
  const metrics = k(
    '-n',
    'default',
    'exec',
    'deploy/sleep',
    '-c',
    'sleep',
    '--',
    'curl',
    '-s',
    `http://${ip}:15020/stats/prometheus`,
  ).stdout;
  assert.match(metrics, /istio_requests_total\{[^}]*reporter="destination"[^}]*destination_service_name="webapp"/);
  removePolicies();
});

test('I5 inject=false stays 1/1 in an enabled namespace; inject=true injects in another', async () => {
  applyOk(sleeper('i5-out', 'istioinaction', { 'sidecar.istio.io/inject': 'false' }));
  applyOk(sleeper('i5-in', 'default', { 'sidecar.istio.io/inject': 'true' }));
  await eventually(() => assert.match(kOk('get', 'po', 'i5-out', ...IN), /1\/1 +Running/));
  await eventually(() => assert.match(kOk('get', 'po', 'i5-in', '-n', 'default'), /2\/2 +Running/));
  kOk('delete', 'po', 'i5-out', ...IN);
  kOk('delete', 'po', 'i5-in', '-n', 'default');
});

test('I6 STRICT in a namespace does not break calls from it to plaintext services', async () => {
  applyOk(`apiVersion: v1
kind: Service
metadata: {name: plain, namespace: default}
spec: {selector: {app: plain}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: default, labels: {app: plain}}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: httpbin, image: docker.io/kennethreitz/httpbin, ports: [{containerPort: 80}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istioinaction}
spec: {mtls: {mode: STRICT}}
`);
  await eventually(() => assertReset(sleepCurl(WEBAPP)));
  await eventually(() =>
    assertCode(
      k(
        ...IN,
        'exec',
        'deploy/webapp',
        '-c',
        'webapp',
        '--',
        'curl',
        '-s',
        '-o',
        '/dev/null',
        '-w',
        '%{http_code}',
        'plain.default:8000/headers',
      ),
      '200',
    ),
  );
  kOk('delete', 'po,svc', 'plain', '-n', 'default');
  removePolicies();
});

test('I9 istiod gone: the data plane serves on, new pods wait unready, and recover', async () => {
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
  kOk('scale', '-n', 'istio-system', 'deployment/istiod', '--replicas=0');
  await eventually(() => assert.equal(kOk('get', 'po', '-n', 'istio-system', '-l', 'app=istiod', '-o', 'name'), ''));
  assertCode(sleepCurl(WEBAPP), '200');
  const refused = k('run', 'i9', ...IN, '--image=curlimages/curl', '--', 'sleep', '3600');
  assert.match(refused.stderr, /failed calling webhook "namespace.sidecar-injector.istio.io"/);
  // Where no webhook is asked, a pod with a sidecar of kube-inject starts, and waits.
  const file = path.join(home, 'i9.yaml');
  writeFileSync(file, sleeper('i9', 'default', { app: 'i9' }));
  applyOk(meltemiOk('kube-inject', '-f', file));
  const unready =
    /Readiness probe failed: HTTP probe failed with statuscode: 503|Startup probe failed: HTTP probe failed with statuscode: 503/;
  await eventually(() => assert.match(kOk('describe', 'po', 'i9', '-n', 'default'), unready));
  assert.match(kOk('get', 'po', 'i9', '-n', 'default'), /i9 +1\/2/);
  kOk('scale', '-n', 'istio-system', 'deployment/istiod', '--replicas=1');
  kOk('rollout', 'status', '-n', 'istio-system', 'deployment/istiod', '--timeout=90s');
  await eventually(() => assert.match(kOk('get', 'po', 'i9', '-n', 'default'), /i9 +2\/2/), 60_000);
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
  kOk('delete', 'po', 'i9', '-n', 'default');
});
