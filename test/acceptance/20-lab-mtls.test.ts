// Labs B1–B10: automatic mutual TLS between webapp and catalog, seen from a client outside the mesh.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  assertCode,
  assertReset,
  ensureLab,
  eventually,
  k,
  kOk,
  meltemiOk,
  policy,
  removePolicies,
  run,
  sleepCurl,
  start,
} from './cluster.ts';

const WEBAPP = 'webapp.istioinaction/api/catalog';
const CATALOG = 'catalog.istioinaction/api/items';
const PROXY = ['-n', 'istioinaction', 'exec', 'deploy/webapp', '-c', 'istio-proxy', '--'] as const;

before(() => ensureLab());

test('B1 four manifests: pods 2/2 in the mesh, 1/1 outside', () => {
  assert.match(kOk('get', 'po', '-n', 'istioinaction'), /catalog-\S+ +2\/2 +Running[\s\S]*webapp-\S+ +2\/2 +Running/);
  assert.match(kOk('get', 'po', '-n', 'default', '-l', 'app=sleep'), /sleep-\S+ +1\/1 +Running/);
});

test('B2 without a policy plaintext gets 200', async () => {
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
});

test('B3 mesh STRICT: 000, exit 56', async () => {
  assert.match(kOk('apply', '-f', policy('mesh-strict')), /peerauthentication.security.istio.io\/default created/);
  await eventually(() => assertReset(sleepCurl(WEBAPP)));
});

test('B3b the same without -s -o names the reset', () => {
  const result = k('-n', 'default', 'exec', 'deploy/sleep', '-c', 'sleep', '--', 'curl', WEBAPP);
  assert.match(result.stderr, /curl: \(56\) Recv failure: Connection reset by peer/);
});

test('B7b under STRICT a call inside the mesh gets 200', () => {
  const url = 'catalog.istioinaction/items';
  const result = k(
    '-n',
    'istioinaction',
    'exec',
    'deploy/webapp',
    '-c',
    'webapp',
    '--',
    'curl',
    '-s',
    url,
    '-o',
    '/dev/null',
    '-w',
    '%{http_code}',
  );
  assertCode(result, '200');
});

test('B9 the certificate on the wire, field by field', () => {
  const script =
    'openssl s_client -showcerts -connect catalog.istioinaction.svc.cluster.local:80 -CAfile /var/run/secrets/istio/root-cert.pem </dev/null 2>/dev/null | openssl x509 -in /dev/stdin -text -noout';
  const text = kOk(...PROXY, 'sh', '-c', script);
  const serial = /Serial Number:\s*([0-9a-f:]+)/.exec(text)![1]!.replaceAll(':', '');
  assert.match(text, /Version: 3 \(0x2\)/);
  assert.ok(serial.length > 24 && serial.length <= 32, `serial ${serial} is not of 128 bits`);
  assert.match(text, /Signature Algorithm: sha256WithRSAEncryption/);
  assert.match(text, /Issuer: O ?= ?cluster\.local/);
  const date = (name: string): number => Date.parse(new RegExp(`${name}\\s*: (.*)`).exec(text)![1]!);
  assert.equal(date('Not After') - date('Not Before'), (24 * 60 + 2) * 60_000);
  assert.match(text, /Subject: *\n/);
  assert.match(text, /Public-Key: \(2048 bit\)/);
  assert.match(text, /X509v3 Key Usage: critical\s+Digital Signature, Key Encipherment/);
  assert.match(text, /X509v3 Extended Key Usage: *\n\s+TLS Web Server Authentication, TLS Web Client Authentication/);
  assert.match(text, /X509v3 Basic Constraints: critical\s+CA:FALSE/);
  assert.match(text, /X509v3 Authority Key Identifier:/);
  assert.match(
    text,
    /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/istioinaction\/sa\/catalog/,
  );
});

test('B10 openssl verify accepts the chain', () => {
  const script =
    'openssl verify -CAfile /var/run/secrets/istio/root-cert.pem <(openssl s_client -connect catalog.istioinaction.svc.cluster.local:80 -showcerts 2>/dev/null </dev/null)';
  assert.match(kOk(...PROXY, 'bash', '-c', script), /^\/dev\/fd\/\d+: OK$/m);
});

test('B4 PERMISSIVE in the namespace beats the mesh', async () => {
  kOk('apply', '-f', policy('namespace-permissive'));
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
});

test('B5 kubectl delete pa reverts it', async () => {
  assert.match(
    kOk('delete', 'pa', 'default', '-n', 'istioinaction'),
    /^peerauthentication\.security\.istio\.io "default" deleted/,
  );
  await eventually(() => assertReset(sleepCurl(WEBAPP)));
});

test('B6 PERMISSIVE for webapp only: webapp answers', async () => {
  kOk('apply', '-f', policy('webapp-permissive'));
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
});

test('B7 … and catalog still refuses', () => {
  assertReset(sleepCurl(CATALOG));
});

test('B8a privileged proxies: install --set, pods come back, sudo works', async () => {
  const said = meltemiOk('install', '-y', '--set', 'profile=demo', '--set', 'values.global.proxy.privileged=true');
  assert.match(said, /✔ Installation complete/);
  kOk('delete', 'po', '-l', 'app=webapp', '-n', 'istioinaction');
  kOk('rollout', 'status', '-n', 'istioinaction', 'deployment/webapp', '--timeout=90s');
  const privileged = kOk(
    'get',
    'po',
    '-n',
    'istioinaction',
    '-l',
    'app=webapp',
    '-o',
    'jsonpath={.items[0].spec.containers[?(@.name=="istio-proxy")].securityContext.privileged}',
  );
  assert.equal(privileged, 'true');
  assert.equal(kOk(...PROXY, 'sudo', 'id', '-u').trim(), '0');
});

/** Captures on webapp's eth0 while `traffic` runs; the text tcpdump printed. */
async function capture(filter: string, traffic: () => void, until: RegExp): Promise<string> {
  const dump = start(
    process.env.KUBECTL!,
    [
      ...PROXY,
      'sudo',
      'tcpdump',
      '-l',
      '--immediate-mode',
      '-vv',
      '-k',
      '-nn',
      '-A',
      '-i',
      'eth0',
      ...filter.split(' '),
    ].filter((a) => a !== '-k'),
  );
  let text = '';
  let listening = '';
  dump.stdout!.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
  });
  dump.stderr!.on('data', (chunk: Buffer) => {
    listening += chunk.toString('latin1');
  });
  try {
    await eventually(() => assert.match(listening, /listening on/));
    traffic();
    await eventually(() => assert.match(text, until));
    return text;
  } finally {
    dump.kill('SIGKILL');
    run('sh', ['-c', 'pkill -x tcpdump || true']);
  }
}

test('B8b sleep → webapp is readable HTTP', async () => {
  await eventually(() => assertCode(sleepCurl(WEBAPP), '200'));
  const text = await capture('tcp port 8080', () => assertCode(sleepCurl(WEBAPP), '200'), /Elinor Glasses/);
  assert.match(text, /HTTP\/1\.1 200 OK/);
  assert.match(text, /content-length: 357/);
  assert.match(text, /content-type: application\/json; charset=utf-8/);
  assert.match(text, /x-envoy-upstream-service-time: \d+/);
  assert.match(text, /server: istio-envoy/);
  assert.match(text, /x-envoy-decorator-operation: webapp\.istioinaction\.svc\.cluster\.local:80\/\*/);
});

test('B8c webapp → catalog is not', async () => {
  const text = await capture('tcp port 3000', () => assertCode(sleepCurl(WEBAPP), '200'), /Flags \[P\.\]/);
  assert.doesNotMatch(text, /HTTP\/1\.1/);
  assert.doesNotMatch(text, /Elinor Glasses/);
});

test('the policies go away again', async () => {
  removePolicies();
  meltemiOk('install', '-y', '--set', 'profile=demo');
  await eventually(() => assertCode(sleepCurl(CATALOG), '200'));
});
