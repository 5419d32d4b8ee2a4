// Certificates: the three templates Meltemi issues (workload, server, root), the reader, and the check that what was
// signed is what was meant. Called by the CA, the agent and tools that show certificates.
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import {
  bitString,
  children,
  type DerNode,
  expectTag,
  explicit,
  integer,
  readDer,
  readOid,
  readTime,
  readWholeBits,
  sequence,
  TAG,
  time,
} from './der.ts';
import { X509Error } from './errors.ts';
import {
  type AltName,
  altNamesExtension,
  authorityKeyIdExtension,
  basicConstraintsExtension,
  type Extension,
  extendedKeyUsageExtension,
  type KeyUsage,
  keyUsageExtension,
  OID,
  readAltNames,
  readExtensions,
  readIsCa,
  readKeyUsage,
  subjectKeyIdExtension,
  versionThree,
  writeExtension,
  writeName,
} from './extensions.ts';
import { checkKeyStrength, keyIdentifier, publicKeyDer, signatureAlgorithm, signBytes, verifyBytes } from './keys.ts';
import { writePem } from './pem.ts';

/** No certificate larger than this is read. */
export const MAX_CERTIFICATE_BYTES = 64 * 1024;
/** Room for the clocks of two machines to differ. */
export const CLOCK_SKEW_MS = 2 * 60_000;
const SERIAL_BYTES = 16;
const MAX_COMMON_NAME = 64;

export interface Certificate {
  readonly der: Buffer;
  readonly serialHex: string;
  /** Name bytes as they stand in the certificate: issuers are compared and copied byte by byte. */
  readonly rawSubject: Buffer;
  readonly rawIssuer: Buffer;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly spki: Buffer;
  readonly isCa: boolean;
  readonly keyUsage: ReadonlySet<KeyUsage>;
  readonly altNames: readonly AltName[];
  readonly subjectKeyId: Buffer | undefined;
  readonly toBeSigned: Buffer;
  readonly signatureOid: string;
  readonly signature: Buffer;
}

/** Reads one DER certificate. Throws X509Error for anything that is not one. */
export function readCertificate(der: Buffer): Certificate {
  if (der.length > MAX_CERTIFICATE_BYTES)
    throw new X509Error('too-large', `a certificate is larger than ${MAX_CERTIFICATE_BYTES} bytes`);
  const [tbs, algorithm, signature] = children(expectTag(readDer(der), TAG.sequence, 'the certificate'));
  const fields = [...children(expectTag(tbs, TAG.sequence, 'the certificate body'))];
  if (fields[0]?.tag === 0xa0) fields.shift();
  const [serial, , issuer, validity, subject, spki] = fields;
  const [from, to] = children(expectTag(validity, TAG.sequence, 'the validity'));
  const tail = fields.find((field) => field.tag === 0xa3);
  const extensions = tail ? readExtensions(onlyChild(tail)) : new Map<string, Extension>();
  const keyId = extensions.get(OID.subjectKeyId);
  return {
    der,
    serialHex: expectTag(serial, TAG.integer, 'the serial number').content.toString('hex'),
    rawSubject: expectTag(subject, TAG.sequence, 'the subject').raw,
    rawIssuer: expectTag(issuer, TAG.sequence, 'the issuer').raw,
    notBefore: readTime(from),
    notAfter: readTime(to),
    spki: expectTag(spki, TAG.sequence, 'the public key').raw,
    isCa: readIsCa(extensions.get(OID.basicConstraints)),
    keyUsage: readKeyUsage(extensions.get(OID.keyUsage)),
    altNames: readAltNames(extensions.get(OID.subjectAltName)),
    subjectKeyId: keyId && expectTag(readDer(keyId.value), TAG.octetString, 'the key identifier').content,
    toBeSigned: expectTag(tbs, TAG.sequence, 'the certificate body').raw,
    signatureOid: readOid(children(expectTag(algorithm, TAG.sequence, 'the signature algorithm'))[0]),
    signature: readWholeBits(signature, 'the signature'),
  };
}

/** Whether `issuer` signed `certificate`: names match byte by byte, issuer is a CA, the signature is right. */
export function isIssuedBy(certificate: Certificate, issuer: Certificate): boolean {
  if (!certificate.rawIssuer.equals(issuer.rawSubject) || !issuer.isCa) return false;
  if (issuer.keyUsage.size > 0 && !issuer.keyUsage.has('keyCertSign')) return false;
  return verifyBytes(certificate.signatureOid, publicKeyOf(issuer), certificate.toBeSigned, certificate.signature);
}

export function publicKeyOf(certificate: Certificate): KeyObject {
  try {
    return createPublicKey({ key: certificate.spki, format: 'der', type: 'spki' });
  } catch {
    throw new X509Error('unsupported', 'the public key of the certificate cannot be read');
  }
}

/** Who signs: the certificate whose subject is copied, and its key. */
export interface Issuer {
  readonly certificate: Certificate;
  readonly key: KeyObject;
}

export interface LeafRequest {
  readonly publicKey: KeyObject;
  readonly names: readonly AltName[];
  /** Ask for a subject with CN = first name when it fits (the CSR carried a CN). */
  readonly withCommonName?: boolean;
  readonly now: number;
  readonly ttlMs: number;
  /** `randomBytes`. */
  readonly random: (bytes: number) => Buffer;
}

/**
 * The leaf of identity.md §9, checked after signing. notAfter never passes the issuer's own.
 * Throws `expired` when the issuer is no longer valid, `weak-key` for the subject's key.
 */
export async function issueLeaf(issuer: Issuer, request: LeafRequest): Promise<Certificate> {
  const { certificate } = issuer;
  if (request.now >= certificate.notAfter)
    throw new X509Error(
      'expired',
      `the signing certificate expired at ${new Date(certificate.notAfter).toISOString()}`,
    );
  if (request.names.length === 0) throw new X509Error('template', 'a leaf certificate needs at least one name');
  checkKeyStrength(request.publicKey);
  const spki = publicKeyDer(request.publicKey);
  const common = request.withCommonName ? request.names[0]?.value : undefined;
  const subject =
    common !== undefined && common.length <= MAX_COMMON_NAME ? writeName({ commonName: common }) : sequence();
  const der = await signCertificate(issuer.key, {
    serial: newSerial(request.random),
    issuer: certificate.rawSubject,
    notBefore: request.now - CLOCK_SKEW_MS,
    notAfter: Math.min(request.now + request.ttlMs, certificate.notAfter),
    subject,
    spki,
    extensions: [
      keyUsageExtension(['digitalSignature', 'keyEncipherment']),
      extendedKeyUsageExtension(),
      basicConstraintsExtension(false),
      authorityKeyIdExtension(certificate.subjectKeyId ?? keyIdentifier(certificate.spki)),
      altNamesExtension(request.names, true),
    ],
  });
  return recheck(der, issuer, spki, request.names);
}

export interface RootRequest {
  readonly key: KeyObject;
  readonly organization: string;
  readonly now: number;
  readonly ttlMs: number;
  readonly random: (bytes: number) => Buffer;
  /** Re-signing an old root: the subject stays what it was, byte by byte. */
  readonly rawSubject?: Buffer;
}

/** A self-signed root: O = trust domain, CA, keyCertSign only (identity.md §9). */
export async function issueRoot(request: RootRequest): Promise<Certificate> {
  checkKeyStrength(request.key);
  const subject = request.rawSubject ?? writeName({ organization: request.organization });
  const spki = publicKeyDer(createPublicKey(request.key));
  const keyId = keyIdentifier(spki);
  const der = await signCertificate(request.key, {
    serial: newSerial(request.random),
    issuer: subject,
    notBefore: request.now - CLOCK_SKEW_MS,
    notAfter: request.now + request.ttlMs,
    subject,
    spki,
    extensions: [keyUsageExtension(['keyCertSign']), basicConstraintsExtension(true), subjectKeyIdExtension(keyId)],
  });
  const certificate = readCertificate(der);
  if (!isIssuedBy(certificate, certificate)) throw new X509Error('template', 'the new root does not verify itself');
  return certificate;
}

export function certificatePem(certificate: Certificate): string {
  return writePem('CERTIFICATE', certificate.der);
}

interface Body {
  readonly serial: Buffer;
  readonly issuer: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly subject: Buffer;
  readonly spki: Buffer;
  readonly extensions: readonly Extension[];
}

async function signCertificate(key: KeyObject, body: Body): Promise<Buffer> {
  const algorithm = signatureAlgorithm(key).der;
  const toBeSigned = sequence(
    explicit(0, versionThree()),
    integer(body.serial),
    algorithm,
    body.issuer,
    sequence(time(body.notBefore), time(body.notAfter)),
    body.subject,
    body.spki,
    explicit(3, sequence(...body.extensions.map(writeExtension))),
  );
  return sequence(toBeSigned, algorithm, bitString(await signBytes(key, toBeSigned)));
}

/** Nothing leaves that a verifier would refuse: the bytes are read again by us and by OpenSSL. */
function recheck(der: Buffer, issuer: Issuer, spki: Buffer, names: readonly AltName[]): Certificate {
  const made = readCertificate(der);
  const same = JSON.stringify(made.altNames) === JSON.stringify(names.map(canonicalIp));
  if (!isIssuedBy(made, issuer.certificate) || made.isCa || !made.spki.equals(spki) || !same)
    throw new X509Error('template', 'the certificate made is not the one asked for; nothing was issued');
  if (!new X509Certificate(der).checkIssued(new X509Certificate(issuer.certificate.der)))
    throw new X509Error('template', 'OpenSSL does not accept the issuer of the certificate made; nothing was issued');
  return made;
}

function canonicalIp(name: AltName): AltName {
  return name.kind === 'ip' && name.value.includes(':')
    ? { kind: 'ip', value: new URL(`http://[${name.value}]/`).hostname.slice(1, -1) }
    : name;
}

/** 128 random bits; never zero. */
function newSerial(random: (bytes: number) => Buffer): Buffer {
  const serial = Buffer.from(random(SERIAL_BYTES));
  serial[0] = (serial[0] ?? 0) | 1;
  return serial;
}

function onlyChild(node: DerNode): DerNode {
  const [child] = children(node);
  if (!child) throw new X509Error('der', 'a tagged value is empty');
  return child;
}
