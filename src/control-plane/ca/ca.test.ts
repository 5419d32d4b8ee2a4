// The authority: where its key comes from, what it signs, how the root lives on.
import assert from 'node:assert/strict';
import { createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createFakeClock } from '../../../test/fakes/fake-clock.ts';
import { createFakeKube } from '../../../test/fakes/kube-client.ts';
import { CONFIG_MAPS, type ConfigMap } from '../../api/kubernetes/config-map.ts';
import { NAMESPACES } from '../../api/kubernetes/namespace.ts';
import { SECRETS, type Secret } from '../../api/kubernetes/secret.ts';
import type { KubeClient } from '../../base/kube/types.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { createMetrics } from '../../base/runtime/metrics.ts';
import { istioSpiffeId, type SpiffeId } from '../../base/spiffe/spiffe-id.ts';
import { certificatePem, issueRoot, readCertificate } from '../../base/x509/certificate.ts';
import { createCsr } from '../../base/x509/csr.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../base/x509/keys.ts';
import { readPemCertificates } from '../../base/x509/pem.ts';
import { type CacertsDirectory, openCacerts } from './cacerts.ts';
import { type CaOptions, loadCertificateAuthority } from './load.ts';
import { startRootDistributor } from './root-distributor.ts';
import { CA_SECRET } from './self-signed.ts';
import { SigningError } from './types.ts';

const HOUR = 3_600_000;
const START = Date.UTC(2026, 0, 1);
const identity = (() => {
  const id = istioSpiffeId('cluster.local', 'foo', 'bar');
  return id.kind === 'ok' ? id.value : assert.fail();
})();
const base = (clock = createFakeClock(START)): CaOptions => ({
  namespace: 'istio-system',
  trustDomain: 'cluster.local',
  clock,
  random: randomBytes,
  log: silentLog,
  keyKind: 'p256',
  rootCheckJitter: false,
});
const csr = async (asked = 'spiffe://cluster.local/ns/x/sa/root') =>
  createCsr(await generateKey('p256'), [altName(asked)]);
const refused = (code: SigningError['code'], text: RegExp) => (error: unknown) =>
  error instanceof SigningError && error.code === code && text.test(error.message);
const filesOf = (files: Readonly<Record<string, string>>): CacertsDirectory => ({
  read: async () => new Map(Object.entries(files)),
  watch: () => () => {},
});
async function until<T>(read: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (let turn = 0; turn < 5000; turn += 1) {
    const value = await read();
    if (value !== undefined) return value;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return assert.fail('the condition never came true');
}
async function rootFiles(now = START) {
  const key = await generateKey('p256');
  const made = await issueRoot({ key, organization: 'Mine', now, ttlMs: 1000 * HOUR, random: randomBytes });
  const pem = certificatePem(made);
  return {
    'ca-cert.pem': pem,
    'ca-key.pem': writePrivateKey(key, 'pkcs8'),
    'root-cert.pem': pem,
    'cert-chain.pem': '',
  };
}

test('the identity given is certified, whatever the CSR asks for', async () => {
  const ca = await loadCertificateAuthority(base());
  const chain = await ca.signWorkload(await csr(), [identity], 0);
  assert.equal(chain.length, 2);
  assert.equal(chain[1], ca.rootBundlePem());
  const leaf = new X509Certificate(chain[0] ?? '');
  assert.equal(leaf.subjectAltName, `URI:${identity}`);
  assert.equal(Date.parse(leaf.validTo) - Date.parse(leaf.validFrom), 24 * HOUR + 120_000);
  assert.equal(new X509Certificate(ca.rootBundlePem()).subject, 'O=cluster.local');
  ca.close();
});

test('refusals: TTL too long, garbage, no identity, expired signer', async () => {
  const clock = createFakeClock(START);
  const ca = await loadCertificateAuthority({ ...base(clock), rootTtlMs: 100 * HOUR });
  const ids: readonly SpiffeId[] = [identity];
  const pem = await csr();
  await assert.rejects(
    ca.signWorkload(pem, ids, 2161 * 3600),
    refused('ttl', /^requested TTL 2161h0m0s is greater than the max allowed TTL 2160h0m0s$/),
  );
  await assert.rejects(ca.signWorkload('garbage', ids, 0), refused('csr', /not one PEM block/));
  await assert.rejects(ca.signWorkload(pem, [], 0), refused('internal', /no identity/));
  await clock.advance(101 * HOUR);
  await assert.rejects(ca.signWorkload(pem, ids, 0), refused('not-ready', /expired at 2026-01-05/));
  ca.close();
});

test('two istiods that start at once agree on one root, and a third finds it', async () => {
  const client = createFakeKube();
  const cas = await Promise.all([1, 2].map(() => loadCertificateAuthority({ ...base(), client })));
  cas.push(await loadCertificateAuthority({ ...base(), client }));
  assert.equal(new Set(cas.map((ca) => ca.rootBundlePem())).size, 1);
  const secret = await client.get<Secret>(SECRETS, 'istio-system', CA_SECRET);
  assert.equal(secret.type, 'istio.io/ca-root');
  assert.deepEqual(Object.keys(secret.data ?? {}).sort(), [
    'ca-cert.pem',
    'ca-key.pem',
    'cert-chain.pem',
    'key.pem',
    'root-cert.pem',
  ]);
  for (const ca of cas) ca.close();
});

test('a Secret without a usable CA stops the start with its name', async () => {
  const object = { apiVersion: 'v1', kind: 'Secret', metadata: { name: CA_SECRET, namespace: 'istio-system' } };
  const client = createFakeKube({ objects: [{ type: SECRETS, object }] });
  await assert.rejects(
    loadCertificateAuthority({ ...base(), client }),
    /istio-system\/istio-ca-secret holds no usable CA/,
  );
});

test('an old root is re-signed with its key; the other istiod takes it over; old leaves still verify', async () => {
  const client = createFakeKube();
  const clock = createFakeClock(START);
  const [one, two] = [
    await loadCertificateAuthority({ ...base(clock), client, rootTtlMs: 100 * HOUR }),
    await loadCertificateAuthority({ ...base(clock), client, rootTtlMs: 100 * HOUR }),
  ];
  const before = one.rootBundlePem();
  const [leafPem = ''] = await one.signWorkload(await csr(), [identity], 3600);
  let told = 0;
  one.onRootChange(() => {
    told += 1;
  });
  await clock.advance(79 * HOUR);
  assert.equal(one.rootBundlePem(), before);
  await clock.advance(3 * HOUR);
  const after = await until(() => (one.rootBundlePem() !== before && told === 1 ? one.rootBundlePem() : undefined));
  await clock.advance(2 * HOUR);
  await until(() => (two.rootBundlePem() === after ? true : undefined));
  const [old, renewed] = [before, after].map((pem) => new X509Certificate(pem));
  assert.ok(old?.publicKey.equals(renewed?.publicKey ?? assert.fail()));
  assert.equal(old?.subject, renewed?.subject);
  assert.ok(new X509Certificate(leafPem).verify(createPublicKey(after)));
  one.close();
  two.close();
});

test('a deleted Secret is written again with the root in use', async () => {
  const client = createFakeKube();
  const clock = createFakeClock(START);
  const ca = await loadCertificateAuthority({ ...base(clock), client });
  await client.delete(SECRETS, 'istio-system', CA_SECRET);
  await clock.advance(HOUR + 1);
  const again = await until(() => client.get<Secret>(SECRETS, 'istio-system', CA_SECRET).catch(() => undefined));
  assert.equal(Buffer.from(again.data?.['root-cert.pem'] ?? '', 'base64').toString(), ca.rootBundlePem());
  ca.close();
});

test('plugged-in CA: both layouts, chain in the answer', async () => {
  const files = await rootFiles();
  const opaque = await loadCertificateAuthority({ ...base(), cacerts: filesOf(files) });
  assert.equal(opaque.source, 'cacerts');
  assert.equal(opaque.rootBundlePem(), files['root-cert.pem']);
  const tls = filesOf({
    'tls.crt': files['ca-cert.pem'],
    'tls.key': files['ca-key.pem'],
    'ca.crt': files['root-cert.pem'],
  });
  const second = await loadCertificateAuthority({ ...base(), cacerts: tls });
  const chain = await second.signWorkload(await csr(), [identity], 60);
  for (const element of chain.slice(0, -1)) assert.ok(element.endsWith('\n'));
  assert.equal(chain.length, 4);
});

test('plugged-in CA: what does not fit is refused by name', async () => {
  const files = await rootFiles();
  const other = await rootFiles();
  const load = (change: Readonly<Record<string, string>>) =>
    loadCertificateAuthority({ ...base(), cacerts: filesOf({ ...files, ...change }) });
  const { 'ca-key.pem': _, ...noKey } = files;
  await assert.rejects(
    loadCertificateAuthority({ ...base(), cacerts: filesOf(noKey) }),
    /^Error: incomplete signing CA bundle detected: ca-key\.pem missing/,
  );
  await assert.rejects(load({ 'ca-key.pem': other['ca-key.pem'] }), /does not belong to the signing certificate/);
  await assert.rejects(load({ 'root-cert.pem': other['root-cert.pem'] }), /does not lead to any certificate/);
  await assert.rejects(load({ 'ca-crl.pem': 'x' }), /ca-crl\.pem is not supported/);
  const ca = await loadCertificateAuthority({ ...base(), cacerts: filesOf(files) });
  const { keyPem, chainPem } = await ca.issueServer(['istiod.istio-system.svc']);
  await assert.rejects(load({ 'ca-cert.pem': chainPem, 'ca-key.pem': keyPem }), /not authorized to sign/);
});

test('a root-cert.pem alone is trusted beside the self-signed root', async () => {
  const files = await rootFiles();
  const ca = await loadCertificateAuthority({
    ...base(),
    cacerts: filesOf({ 'root-cert.pem': files['root-cert.pem'] }),
  });
  assert.equal(readPemCertificates(ca.rootBundlePem(), 'bundle').length, 2);
  assert.ok(ca.rootBundlePem().endsWith(files['root-cert.pem']));
});

test('files are read from a directory; none is no CA', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'identity-ca-'));
  try {
    const clock = createFakeClock(START);
    assert.equal(
      (await loadCertificateAuthority({ ...base(), cacerts: openCacerts(`${dir}/none`, clock) })).source,
      'memory',
    );
    for (const [name, text] of Object.entries(await rootFiles())) writeFileSync(path.join(dir, name), text);
    assert.equal((await loadCertificateAuthority({ ...base(), cacerts: openCacerts(dir, clock) })).source, 'cacerts');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("istiod's own certificate has sorted names and follows the CA's key type", async () => {
  const ca = await loadCertificateAuthority(base());
  const { chainPem, keyPem } = await ca.issueServer(['istiod.istio-system.svc', 'a.svc', 'a.svc']);
  const leaf = new X509Certificate(chainPem);
  assert.equal(leaf.subjectAltName, 'DNS:a.svc, DNS:istiod.istio-system.svc');
  assert.equal(leaf.publicKey.asymmetricKeyType, 'ec');
  assert.match(keyPem, /BEGIN PRIVATE KEY/);
  const [der] = readPemCertificates(ca.rootBundlePem(), 'root');
  assert.equal(Date.parse(leaf.validTo), readCertificate(der ?? assert.fail()).notAfter);
});

test('metrics tell how long the root lasts', async () => {
  const metrics = createMetrics();
  const ca = await loadCertificateAuthority({ ...base(), metrics, rootTtlMs: 10 * HOUR });
  assert.match(metrics.render(), /\ncitadel_server_root_cert_expiry_seconds 36000\n/);
  ca.close();
});

test('the root ConfigMap is in every namespace but the skipped, and back after deletion or edit', async () => {
  const names = ['default', 'kube-system', 'kube-public', 'kube-node-lease', 'local-path-storage'];
  const objects = names.map((name) => ({
    type: NAMESPACES,
    object: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
  }));
  const client = createFakeKube({ objects });
  const ca = await loadCertificateAuthority(base());
  const distributor = startRootDistributor({ client, ca, clock: base().clock, log: silentLog });
  const read = (namespace: string) =>
    client.get<ConfigMap>(CONFIG_MAPS, namespace, 'istio-ca-root-cert').catch(() => undefined);
  const right = (namespace: string) =>
    until(async () => {
      const map = await read(namespace);
      return map?.data?.['root-cert.pem'] === ca.rootBundlePem() ? map : undefined;
    });
  const first = await right('default');
  assert.equal(first.metadata.labels?.['istio.io/config'], 'true');
  await right('kube-system');
  await client.delete(CONFIG_MAPS, 'default', 'istio-ca-root-cert');
  const second = await right('default');
  assert.notEqual(second.metadata.uid, first.metadata.uid);
  await edit(client, { ...second, data: { 'root-cert.pem': 'mine', other: 'kept' } });
  assert.equal((await right('default')).data?.other, 'kept');
  await client.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'late' } });
  await right('late');
  for (const name of names.slice(2)) assert.equal(await read(name), undefined);
  distributor.close();
});

async function edit(client: KubeClient, map: ConfigMap): Promise<void> {
  await client.update(CONFIG_MAPS, map);
}
