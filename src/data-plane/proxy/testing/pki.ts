// A certificate authority for tests that can also do what no honest one does: expired and not yet valid leaves, intermediates,
// odd key usages, revocation lists. Used by TLS tests and by the conformance cases.
import { createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { type Certificate, readCertificate } from '../../../base/x509/certificate.ts';
import { bitString, explicit, implicit, integer, oid, readDer, sequence, time } from '../../../base/x509/der.ts';
import {
  altName,
  altNamesExtension,
  basicConstraintsExtension,
  type Extension,
  extendedKeyUsageExtension,
  type KeyUsage,
  keyUsageExtension,
  versionThree,
  writeExtension,
  writeName,
} from '../../../base/x509/extensions.ts';
import {
  generateKey,
  type KeyKind,
  publicKeyDer,
  signatureAlgorithm,
  signBytes,
  writePrivateKey,
} from '../../../base/x509/keys.ts';
import { writePem } from '../../../base/x509/pem.ts';

const HOUR = 3_600_000;

export interface IssueOptions {
  readonly commonName?: string;
  /** SPIFFE ids, IP addresses and DNS names by their shape; `email:` before an address, `other:OID:DER in hex` for another kind. */
  readonly names?: readonly string[];
  readonly kind?: KeyKind;
  /** ms from now. */
  readonly from?: number;
  readonly to?: number;
  readonly ca?: boolean;
  readonly usages?: readonly KeyUsage[];
}

/** A certificate with its key; `chainPem` goes up to, but does not hold, the root. */
export class Entity {
  readonly certificate: Certificate;
  readonly key: KeyObject;
  readonly issuer: Entity | undefined;

  constructor(certificate: Certificate, key: KeyObject, issuer: Entity | undefined) {
    this.certificate = certificate;
    this.key = key;
    this.issuer = issuer;
  }

  get pem(): string {
    return writePem('CERTIFICATE', this.certificate.der);
  }

  get keyPem(): string {
    return writePrivateKey(this.key, 'pkcs8');
  }

  get chainPem(): string {
    return this.pem + (this.issuer?.issuer ? this.issuer.chainPem : '');
  }

  async issue(options: IssueOptions): Promise<Entity> {
    return await make(options, this);
  }

  /** A list of revoked certificates of this authority. */
  async crl(
    revoked: readonly Entity[],
    options: { readonly from?: number; readonly to?: number } = {},
  ): Promise<string> {
    const now = Date.now();
    const entries = revoked.map((entity) =>
      sequence(integer(Buffer.from(entity.certificate.serialHex, 'hex')), time(now - HOUR)),
    );
    const algorithm = signatureAlgorithm(this.key).der;
    const body = sequence(
      integer(Buffer.from([1])),
      algorithm,
      this.certificate.rawSubject,
      time(now + (options.from ?? -HOUR)),
      time(now + (options.to ?? HOUR)),
      ...(entries.length > 0 ? [sequence(...entries)] : []),
    );
    return writePem('X509 CRL', sequence(body, algorithm, bitString(await signBytes(this.key, body))));
  }
}

export async function createRoot(options: IssueOptions = {}): Promise<Entity> {
  return await make({ commonName: 'root', ca: true, to: 1000 * HOUR, ...options }, undefined);
}

async function make(options: IssueOptions, issuer: Entity | undefined): Promise<Entity> {
  const key = await generateKey(options.kind ?? 'p256');
  const now = Date.now();
  const subject = writeName(options.commonName === undefined ? {} : { commonName: options.commonName });
  const signer = issuer?.key ?? key;
  const algorithm = signatureAlgorithm(signer).der;
  const serial = randomBytes(8);
  serial[0] = (serial[0]! & 0x7f) | 1;
  const body = sequence(
    explicit(0, versionThree()),
    integer(serial),
    algorithm,
    issuer?.certificate.rawSubject ?? subject,
    sequence(time(now + (options.from ?? -HOUR)), time(now + (options.to ?? 24 * HOUR))),
    subject,
    publicKeyDer(createPublicKey(key)),
    explicit(3, sequence(...extensionsOf(options).map(writeExtension))),
  );
  const der = sequence(body, algorithm, bitString(await signBytes(signer, body)));
  return new Entity(readCertificate(der), key, issuer);
}

function extensionsOf(options: IssueOptions): Extension[] {
  const names = options.names ?? [];
  const out: Extension[] = [];
  if (options.ca) out.push(keyUsageExtension(['keyCertSign', 'cRLSign']));
  else {
    out.push(keyUsageExtension(options.usages ?? ['digitalSignature', 'keyEncipherment']));
    out.push(extendedKeyUsageExtension());
  }
  out.push(basicConstraintsExtension(options.ca ?? false));
  if (names.length > 0) out.push(namesExtension(names));
  return out;
}

function namesExtension(names: readonly string[]): Extension {
  const odd: Buffer[] = [];
  const usual: string[] = [];
  for (const name of names) {
    const [kind, type = '', der = ''] = name.split(':');
    if (kind === 'email') odd.push(implicit(1, Buffer.from(name.slice(6))));
    else if (kind === 'other') odd.push(explicit(0, oid(type), explicit(0, Buffer.from(der, 'hex'))));
    else usual.push(name);
  }
  const extension = altNamesExtension(usual.map(altName), false);
  return { ...extension, value: sequence(readDer(extension.value).content, ...odd) };
}
