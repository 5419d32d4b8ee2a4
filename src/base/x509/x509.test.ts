// Certificates and requests: the template as openssl shows it, strict verification, hostile input.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { certificatePem, type Issuer, isIssuedBy, issueLeaf, issueRoot, readCertificate } from './certificate.ts';
import { createCsr, readCsr } from './csr.ts';
import { integer, oid, readDer, readOid, readTime, time } from './der.ts';
import { X509Error, type X509ErrorCode } from './errors.ts';
import { altName } from './extensions.ts';
import { generateKey, type KeyKind, readPrivateKey, writePrivateKey } from './keys.ts';
import { readPem, readPemCertificates, writePem } from './pem.ts';

const DAY = 86_400_000;
const now = Date.now();
const id = 'spiffe://cluster.local/ns/istioinaction/sa/catalog';
const withCode = (code: X509ErrorCode) => (error: unknown) => error instanceof X509Error && error.code === code;

async function root(kind: KeyKind, at = now): Promise<Issuer> {
  const key = await generateKey(kind);
  const request = { key, organization: 'cluster.local', now: at, ttlMs: 3650 * DAY, random: randomBytes };
  return { certificate: await issueRoot(request), key };
}
async function leaf(issuer: Issuer, kind: KeyKind, ttlMs = DAY) {
  const publicKey = createPublicKey(await generateKey(kind));
  return issueLeaf(issuer, { publicKey, names: [altName(id)], now, ttlMs, random: randomBytes });
}
function withFiles<T>(files: Readonly<Record<string, string>>, run: (dir: string) => T): T {
  const dir = mkdtempSync(path.join(tmpdir(), 'identity-x509-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(path.join(dir, name), text);
    return run(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
function openssl(args: readonly string[], cwd?: string): string {
  const run = spawnSync('openssl', args, { encoding: 'utf8', cwd });
  assert.equal(run.status, 0, run.stderr + run.stdout);
  return run.stdout;
}

for (const issuerKind of ['rsa-2048', 'p256', 'p384'] as const)
  for (const subjectKind of ['rsa-2048', 'p256', 'p384'] as const)
    test(`openssl verifies a ${subjectKind} leaf of a ${issuerKind} root strictly`, async () => {
      const issuer = await root(issuerKind);
      const made = await leaf(issuer, subjectKind);
      withFiles({ 'root.pem': certificatePem(issuer.certificate), 'leaf.pem': certificatePem(made) }, (dir) => {
        for (const purpose of ['sslserver', 'sslclient'])
          assert.match(
            openssl(['verify', '-x509_strict', '-purpose', purpose, '-CAfile', 'root.pem', 'leaf.pem'], dir),
            /leaf\.pem: OK/,
          );
        openssl(['verify', '-x509_strict', '-check_ss_sig', '-CAfile', 'root.pem', 'root.pem'], dir);
      });
    });

test('the leaf reads as labs.md B9 says', async () => {
  const made = await leaf(await root('rsa-2048'), 'rsa-2048');
  const text = withFiles({ 'leaf.pem': certificatePem(made) }, (dir) =>
    openssl(['x509', '-in', 'leaf.pem', '-text', '-noout'], dir),
  );
  for (const part of [
    /Version: 3 \(0x2\)/,
    /Serial Number:\s+([0-9a-f]{2}:){15,16}[0-9a-f]{2}\n/,
    /Signature Algorithm: sha256WithRSAEncryption/,
    /Issuer: O ?= ?cluster\.local\n/,
    /Subject: ?\n/,
    /Public-Key: \(2048 bit\)/,
    /X509v3 Key Usage: critical\s+Digital Signature, Key Encipherment\n/,
    /X509v3 Extended Key Usage: ?\n\s+TLS Web Server Authentication, TLS Web Client Authentication\n/,
    /X509v3 Basic Constraints: critical\s+CA:FALSE\n/,
    /X509v3 Authority Key Identifier: ?\n\s+(keyid:)?([0-9A-F]{2}:){19}[0-9A-F]{2}\n/,
    /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/istioinaction\/sa\/catalog\n/,
  ])
    assert.match(text, part);
  assert.equal(made.notAfter - made.notBefore, DAY + 120_000);
});

test('a leaf ends with its issuer, and an expired issuer signs nothing', async () => {
  const issuer = await root('p256', now - 3649.5 * DAY);
  assert.equal((await leaf(issuer, 'p256')).notAfter, issuer.certificate.notAfter);
  await assert.rejects(leaf(await root('p256', now - 3651 * DAY), 'p256'), withCode('expired'));
});

test('the issuer name is copied byte by byte from a CA made by openssl', async () => {
  const config = '[req]\ndistinguished_name=dn\nstring_mask=utf8only\n[dn]\n[v3]\nbasicConstraints=critical,CA:true\n';
  const [certificatePemText, keyPem] = withFiles({ 'ca.cnf': config }, (dir) => [
    openssl(
      [
        ...'req -x509 -newkey rsa:2048 -nodes -days 2 -config ca.cnf -extensions v3 -keyout k.pem -utf8'.split(' '),
      ].concat(['-subj', '/C=DE/O=Büro/CN=Intermediate CA']),
      dir,
    ),
    openssl(['pkey', '-in', 'k.pem'], dir),
  ]);
  const [der] = readPemCertificates(certificatePemText ?? '', 'the CA');
  const issuer = { certificate: readCertificate(der ?? Buffer.alloc(0)), key: readPrivateKey(keyPem ?? '') };
  const made = await leaf(issuer, 'p256');
  assert.ok(made.rawIssuer.equals(issuer.certificate.rawSubject));
  assert.match(new X509Certificate(made.der).issuer, /O=Büro/);
});

test('names are written by shape; a CN appears only when the CSR had one and it fits', async () => {
  const issuer = await root('p256');
  const publicKey = createPublicKey(await generateKey('p256'));
  const names = [id, 'istiod.istio-system.svc', '10.0.0.1', '2001:DB8::1'].map(altName);
  const base = { publicKey, now, ttlMs: DAY, random: randomBytes };
  const made = await issueLeaf(issuer, { ...base, names });
  assert.equal(
    new X509Certificate(made.der).subjectAltName,
    `URI:${id}, DNS:istiod.istio-system.svc, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1`,
  );
  const named = await issueLeaf(issuer, { ...base, names, withCommonName: true });
  assert.equal(new X509Certificate(named.der).subject, `CN=${id}`);
  const long = altName(`${id}${'x'.repeat(20)}`);
  assert.equal(
    new X509Certificate((await issueLeaf(issuer, { ...base, names: [long], withCommonName: true })).der).subject ?? '',
    '',
  );
});

test('a certificate is not issued by a leaf or by another root of the same name', async () => {
  const [one, two] = [await root('p256'), await root('p256')];
  const made = await leaf(one, 'p256');
  assert.equal(isIssuedBy(made, one.certificate), true);
  assert.equal(isIssuedBy(made, two.certificate), false);
  assert.equal(isIssuedBy(made, made), false);
});

for (const kind of ['rsa-2048', 'p256', 'p384'] as const)
  test(`a ${kind} CSR is read back, and openssl verifies it`, async () => {
    const key = await generateKey(kind);
    const pem = await createCsr(key, [altName(id)]);
    const read = readCsr(pem);
    assert.deepEqual(read.altNames, [{ kind: 'uri', value: id }]);
    assert.equal(read.hasCommonName, false);
    assert.ok(read.publicKey.equals(createPublicKey(key)));
    withFiles({ 'r.pem': pem }, (dir) => {
      const text = openssl(['req', '-in', 'r.pem', '-verify', '-text', '-noout'], dir);
      assert.match(text, /Subject: O ?= ?\n/);
      assert.match(text, /Subject Alternative Name: critical/);
    });
  });

test('a CSR of openssl with a CN is read', () => {
  const pem = withFiles({}, (dir) =>
    openssl(['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'k', '-subj', '/CN=me'], dir),
  );
  assert.equal(readCsr(pem).hasCommonName, true);
});

test('weak and foreign keys are refused with a typed error', async () => {
  const weakRsa = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
  const curve = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey;
  await assert.rejects(async () => readCsr(await createCsr(weakRsa, [altName(id)])), withCode('weak-key'));
  await assert.rejects(async () => readCsr(await createCsr(curve, [altName(id)])), withCode('weak-key'));
  const pem = withFiles({}, (dir) => {
    openssl(['genpkey', '-algorithm', 'ed25519', '-out', 'k'], dir);
    return openssl(['req', '-new', '-key', 'k', '-subj', '/CN=x'], dir);
  });
  assert.throws(() => readCsr(pem), withCode('unsupported'));
  assert.throws(() => readPrivateKey(writePrivateKey(weakRsa, 'pkcs8')), withCode('weak-key'));
});

test('a CSR changed after signing, or not a CSR at all, is refused', async () => {
  const pem = await createCsr(await generateKey('p256'), [altName(id)]);
  const der = Buffer.from(readPem(pem)[0]?.der ?? Buffer.alloc(0));
  const at = der.indexOf('catalog');
  der[at] = 'd'.charCodeAt(0);
  assert.throws(() => readCsr(writePem('CERTIFICATE REQUEST', der)), withCode('signature'));
  assert.throws(() => readCsr('hello'), withCode('pem'));
  assert.throws(() => readCsr(pem + pem), withCode('pem'));
  assert.throws(() => readCsr('x'.repeat(40_000)), withCode('too-large'));
  assert.throws(() => readCsr(writePem('CERTIFICATE REQUEST', Buffer.from('3003020100', 'hex'))), withCode('der'));
});

test('hostile bytes never make the reader throw anything but X509Error', async () => {
  const whole = readPem(await createCsr(await generateKey('p256'), [altName(id)]))[0]?.der ?? Buffer.alloc(0);
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, cut) => {
      const damaged = Buffer.from(whole.subarray(0, cut));
      if (at < damaged.length) damaged[at] = byte;
      try {
        readCsr(writePem('CERTIFICATE REQUEST', damaged));
      } catch (error) {
        assert.ok(error instanceof X509Error, String(error));
      }
    }),
    { numRuns: 400 },
  );
});

test('DER values: integers, identifiers, times, lengths', () => {
  assert.equal(integer(Buffer.from([0, 0, 0x80])).toString('hex'), '02020080');
  assert.equal(readOid(readDer(oid('1.2.840.113549.1.1.11'))), '1.2.840.113549.1.1.11');
  for (const at of [Date.UTC(2049, 11, 31, 23, 59, 59), Date.UTC(2050, 0, 1)])
    assert.equal(readTime(readDer(time(at))), at);
  for (const hex of ['0280', '028101', '02810100', '0282000100', '308000', '1f0100', '02010000', '30'])
    assert.throws(() => readDer(Buffer.from(hex, 'hex')), withCode('der'), hex);
});

test('PEM survives CRLF and text around blocks; damaged base64 is refused', () => {
  const der = createHash('sha512').update('x').digest();
  const pem = writePem('CERTIFICATE', der);
  const [read] = readPem(`subject=x\r\n${pem.replaceAll('\n', '\r\n')}`);
  assert.ok(read?.der.equals(der));
  assert.throws(() => readPem('-----BEGIN CERTIFICATE-----\nAAA=A\n-----END CERTIFICATE-----'), withCode('pem'));
  assert.throws(() => readPemCertificates('', 'root-cert.pem'), /root-cert\.pem holds no PEM certificate/);
});
