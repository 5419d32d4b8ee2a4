// The cluster's own certificate authority: key files under the data directory, the serving certificate, client certificates.
// Called by server.ts at start. DER is written by hand: a dozen node kinds suffice.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../../base/runtime/clock.ts';

const CA_VALIDITY_DAYS = 3650;
const LEAF_VALIDITY_DAYS = 365;
const DAY_MS = 86_400_000;
/** Certificates start this much earlier, so that a client with a slow clock accepts them. */
const BACKDATE_MS = 3_600_000;
const SERVICE_ACCOUNT_KEY_BITS = 2048;

export interface KeyAndCertificate {
  readonly keyPem: string;
  readonly certPem: string;
}

export interface ClusterPki {
  readonly caPem: string;
  /** Signs service account tokens, RS256. */
  readonly serviceAccountKey: KeyObject;
  issueServer(names: readonly string[]): KeyAndCertificate;
  issueClient(user: string, groups: readonly string[]): KeyAndCertificate;
}

/** Reads the keys under `dir`, making them at the first start. Throws when the files cannot be read or written. */
export function openPki(dir: string, clock: Clock): ClusterPki {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const caKey = keyFile(join(dir, 'ca.key'), () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const serviceAccountKey = keyFile(
    join(dir, 'service-account.key'),
    () => generateKeyPairSync('rsa', { modulusLength: SERVICE_ACCOUNT_KEY_BITS }).privateKey,
  );
  const caPath = join(dir, 'ca.crt');
  if (!existsSync(caPath)) {
    const pem = makeCertificate({
      subject: { commonName: 'meltemi-localkube-ca', organizations: [] },
      issuer: { commonName: 'meltemi-localkube-ca', organizations: [] },
      publicKey: createPublicKey(caKey),
      issuerKey: caKey,
      now: clock.now(),
      days: CA_VALIDITY_DAYS,
      use: { kind: 'ca' },
    });
    writeWhole(caPath, pem, 0o644);
  }
  const caPem = readFileSync(caPath, 'utf8');
  const issue = (commonName: string, organizations: readonly string[], use: Use): KeyAndCertificate => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const certPem = makeCertificate({
      subject: { commonName, organizations },
      issuer: { commonName: 'meltemi-localkube-ca', organizations: [] },
      publicKey: createPublicKey(key),
      issuerKey: caKey,
      now: clock.now(),
      days: LEAF_VALIDITY_DAYS,
      use,
    });
    return { keyPem: pemOf(key), certPem };
  };
  return {
    caPem,
    serviceAccountKey,
    issueServer: (names) => issue('kube-apiserver', [], { kind: 'server', names }),
    issueClient: (user, groups) => issue(user, groups, { kind: 'client' }),
  };
}

const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

function keyFile(path: string, make: () => KeyObject): KeyObject {
  if (!existsSync(path)) writeWhole(path, pemOf(make()), 0o600);
  return createPrivateKey(readFileSync(path));
}

/** A crash leaves the old file or the new one, never half of one. */
function writeWhole(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

interface Name {
  readonly commonName: string;
  readonly organizations: readonly string[];
}
type Use = { readonly kind: 'ca' | 'client' } | { readonly kind: 'server'; readonly names: readonly string[] };

interface CertificateRequest {
  readonly subject: Name;
  readonly issuer: Name;
  readonly publicKey: KeyObject;
  readonly issuerKey: KeyObject;
  readonly now: number;
  readonly days: number;
  readonly use: Use;
}

function makeCertificate(request: CertificateRequest): string {
  const spki = request.publicKey.export({ type: 'spki', format: 'der' });
  const issuerSpki = createPublicKey(request.issuerKey).export({ type: 'spki', format: 'der' });
  const algorithm = seq(oid('1.2.840.10045.4.3.2'));
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const body = seq(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    algorithm,
    nameDer(request.issuer),
    seq(time(request.now - BACKDATE_MS), time(request.now + request.days * DAY_MS)),
    nameDer(request.subject),
    spki,
    tlv(0xa3, seq(...extensions(request.use, keyId(spki), keyId(issuerSpki)))),
  );
  const signature = sign('sha256', body, request.issuerKey);
  const der = seq(body, algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** SHA-1 of the key bits, as RFC 5280 §4.2.1.2 proposes. The bit string is the last element of the SPKI. */
function keyId(spki: Buffer): Buffer {
  const start = spki.indexOf(Buffer.from([0x03, 0x42, 0x00]));
  return createHash('sha1')
    .update(spki.subarray(start < 0 ? 0 : start + 3))
    .digest();
}

function extensions(use: Use, subjectKey: Buffer, issuerKey: Buffer): Buffer[] {
  const out = [
    extension('2.5.29.35', false, seq(tlv(0x80, issuerKey))),
    extension('2.5.29.14', false, tlv(0x04, subjectKey)),
    use.kind === 'ca'
      ? extension('2.5.29.19', true, seq(tlv(0x01, Buffer.from([0xff]))))
      : extension('2.5.29.19', true, seq()),
    // keyCertSign + cRLSign, or digitalSignature.
    extension('2.5.29.15', true, tlv(0x03, use.kind === 'ca' ? Buffer.from([1, 0x06]) : Buffer.from([7, 0x80]))),
  ];
  if (use.kind === 'server') {
    out.push(extension('2.5.29.37', false, seq(oid('1.3.6.1.5.5.7.3.1'))));
    out.push(extension('2.5.29.17', false, seq(...use.names.map(generalName))));
  }
  if (use.kind === 'client') out.push(extension('2.5.29.37', false, seq(oid('1.3.6.1.5.5.7.3.2'))));
  return out;
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return seq(oid(id), ...(critical ? [tlv(0x01, Buffer.from([0xff]))] : []), tlv(0x04, value));
}

function generalName(name: string): Buffer {
  if (isIP(name) === 4) return tlv(0x87, Buffer.from(name.split('.').map(Number)));
  if (isIP(name) === 6) throw new Error(`an IPv6 address cannot be put in the serving certificate: ${name}`);
  return tlv(0x82, Buffer.from(name));
}

function nameDer(name: Name): Buffer {
  const part = (id: string, value: string): Buffer => tlv(0x31, seq(oid(id), tlv(0x0c, Buffer.from(value))));
  return seq(...name.organizations.map((value) => part('2.5.4.10', value)), part('2.5.4.3', name.commonName));
}

function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, '').slice(0, 14);
  // RFC 5280: UTCTime until 2049, GeneralizedTime after.
  return Number(digits.slice(0, 4)) < 2050
    ? tlv(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : tlv(0x18, Buffer.from(`${digits}Z`));
}

const seq = (...parts: readonly Buffer[]): Buffer => tlv(0x30, Buffer.concat(parts));

function tlv(tag: number, value: Buffer): Buffer {
  const n = value.length;
  const length = n < 0x80 ? [n] : n < 0x100 ? [0x81, n] : [0x82, n >> 8, n & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tlv(0x06, Buffer.from(bytes));
}
