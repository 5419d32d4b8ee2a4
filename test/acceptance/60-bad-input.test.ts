// Bad input: each with a clear message, and nothing lost or half applied.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { before, test } from 'node:test';
import { apply, assertCode, ensureLab, eventually, k, kOk, meltemi, root, run, sleepCurl } from './cluster.ts';

before(() => ensureLab());

const PA = (spec: string, name = 'bad') =>
  `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ${name}, namespace: istioinaction}\nspec: ${spec}\n`;

function refused(yaml: string, why: RegExp): void {
  const result = apply(yaml);
  assert.equal(result.status, 1, `${result.stdout}${result.stderr}`);
  assert.match(result.stderr, why);
  assert.equal(kOk('get', 'pa', '-n', 'istioinaction', '-o', 'name'), '');
}

test('malformed YAML', () => {
  refused('apiVersion: v1\nkind: [', /error parsing STDIN/);
});

test('an unknown mode names the ones there are', () => {
  refused(
    PA('{mtls: {mode: STRICTT}}'),
    /Unsupported value: "STRICTT": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"/,
  );
});

test('a selector of the wrong type', () => {
  refused(PA('{selector: "app=web"}'), /spec\.selector.*must be of type object/);
});

test('an unknown field', () => {
  refused(PA('{mtsl: {mode: STRICT}}'), /unknown field "spec\.mtsl"/);
});

test('port-level mTLS without a selector', () => {
  refused(PA('{portLevelMtls: {8080: {mode: DISABLE}}}'), /port level mTLS|portLevelMtls requires selector/);
});

test('a policy kind this version does not have is refused, not ignored', () => {
  const result = apply(
    'apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: istioinaction}\nspec: {action: DENY, rules: [{}]}\n',
  );
  assert.notEqual(result.status, 0);
  assert.match(
    result.stderr,
    /admission webhook "\S+" denied the request: .*AuthorizationPolicy.*not supported by this version of Meltemi/,
  );
});

test('an unknown image: ErrImagePull, and what to do', async () => {
  kOk('run', 'no-such-image', '-n', 'default', '--image=example.com/no/such:1');
  await eventually(() =>
    assert.match(kOk('get', 'po', 'no-such-image', '-n', 'default'), /0\/1 +(ErrImagePull|ImagePullBackOff)/),
  );
  await eventually(() =>
    assert.match(kOk('describe', 'po', 'no-such-image', '-n', 'default'), /Failed .*example\.com\/no\/such/),
  );
  kOk('delete', 'po', 'no-such-image', '-n', 'default', '--now');
});

function webhook(name: string, policy: string): string {
  return JSON.stringify({
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name },
    webhooks: [
      {
        name: `${name}.example.com`,
        failurePolicy: policy,
        timeoutSeconds: 2,
        sideEffects: 'None',
        admissionReviewVersions: ['v1'],
        clientConfig: { service: { name: 'nobody', namespace: 'default', path: '/' } },
        rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] }],
        namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'webhooks' } },
      },
    ],
  });
}

test('a webhook that is down: Fail refuses, Ignore lets through', () => {
  kOk('create', 'namespace', 'webhooks');
  assert.equal(apply(webhook('fails', 'Fail')).status, 0);
  const result = k('create', 'configmap', 'a', '-n', 'webhooks');
  assert.match(result.stderr, /failed calling webhook "fails\.example\.com"/);
  kOk('delete', 'validatingwebhookconfiguration', 'fails');
  assert.equal(apply(webhook('ignores', 'Ignore')).status, 0);
  kOk('create', 'configmap', 'a', '-n', 'webhooks');
  kOk('delete', 'validatingwebhookconfiguration', 'ignores');
  kOk('delete', 'namespace', 'webhooks', '--wait=false');
});

test('a second up is harmless, and says so', () => {
  const result = meltemi('up');
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stdout, /It was up already/);
  assertCode(sleepCurl('webapp.istioinaction/api/catalog'), '200');
});

test('a port in use', async () => {
  const other = mkdtempSync(path.join(tmpdir(), 'meltemi-port-'));
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const result = run(path.join(root, 'meltemi'), ['up', '--bare', '--home', other, '--api-port', String(port)]);
  assert.equal(result.status, 1);
  assert.match(result.stderr, new RegExp(`${port}.*(in use|taken)`));
  server.close();
  assert.equal(meltemi('down', '--purge', '--home', other).status, 0);
});

test('no root', () => {
  const result = spawnSync(
    'setpriv',
    ['--reuid=65534', '--regid=65534', '--clear-groups', path.join(root, 'meltemi'), 'up'],
    {
      encoding: 'utf8',
      env: { ...process.env, MELTEMI_HOME: '/tmp/meltemi-nobody' },
    },
  );
  assert.equal(result.status, 1);
  assert.match(result.stderr, /needs root/);
});

test('a missing tool names the package', () => {
  // Without apt-get and runc in reach, the user is told what to install.
  const bin = mkdtempSync(path.join(tmpdir(), 'meltemi-bin-'));
  const result = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', `mount --bind /dev/null $(command -v runc) && exec ${path.join(root, 'meltemi')} up`],
    {
      encoding: 'utf8',
      env: { ...process.env, MELTEMI_HOME: path.join(bin, 'home'), MELTEMI_NO_INSTALL: '1' },
    },
  );
  assert.equal(result.status, 1);
  assert.match(result.stderr, /runc/);
  assert.match(result.stderr, /apt-get install --no-install-recommends runc/);
  rmSync(bin, { recursive: true });
});

test('mistyped commands and flags say what was meant', () => {
  assert.match(meltemi('statsu').stderr, /Did you mean "status"/);
  assert.match(meltemi('up', '--bear').stderr, /Unknown option '--bear'/);
  assert.match(meltemi('lab', 'istio').stderr, /The labs are: /);
  assert.match(meltemi('up', '--api-port', 'x').stderr, /expected a port number/);
  assert.match(meltemi('pc', 'cluser', 'x').stderr, /KIND: cluster, listener/);
});

test('a full disk for the store: refused, and the old state stays', async () => {
  const disk = mkdtempSync(path.join(tmpdir(), 'meltemi-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk]);
  try {
    const small = path.join(disk, 'home');
    mkdirSync(small);
    const up = run(path.join(root, 'meltemi'), ['up', '--bare', '--home', small]);
    assert.equal(up.status, 0, up.stderr);
    const env = { KUBECONFIG: path.join(small, 'kubeconfig') };
    const kubectl = (...args: string[]) => run(process.env.KUBECTL!, args, { env });
    assert.equal(kubectl('create', 'configmap', 'kept', '--from-literal=a=b').status, 0);
    const filler = path.join(disk, 'filler');
    spawnSync('sh', ['-c', `cat /dev/zero > ${filler}`]);
    const big = path.join(tmpdir(), 'meltemi-big');
    execFileSync('sh', ['-c', `head -c 900000 /dev/zero | tr '\\0' x > ${big}`]);
    const refusedByDisk = kubectl('create', 'configmap', 'big', `--from-file=${big}`);
    assert.equal(refusedByDisk.status, 1);
    assert.match(refusedByDisk.stderr, /disk|space|full/i);
    assert.equal(kubectl('get', 'configmap', 'kept', '-o', 'jsonpath={.data.a}').stdout, 'b');
    rmSync(filler);
    await eventually(() => assert.equal(kubectl('create', 'configmap', 'after', '--from-literal=a=b').status, 0));
    assert.equal(meltemi('down', '--home', small).status, 0);
  } finally {
    spawnSync('umount', ['-l', disk]);
  }
});
