// Certificate revocation lists (RFC 5280 §5): read, checked against their issuer, asked for a serial number. OpenSSL does
// this for whole chains; here it is done where OpenSSL's verdict cannot be used: leaf-only checks and expired certificates
// that the configuration allows. Called by secrets.ts (reading) and chain.ts (asking).
import { type Certificate, publicKeyOf } from '../../../base/x509/certificate.ts';
import {
  children,
  type DerNode,
  expectTag,
  readDer,
  readOid,
  readTime,
  readWholeBits,
  TAG,
} from '../../../base/x509/der.ts';
import { verifyBytes } from '../../../base/x509/keys.ts';
import { readPem, writePem } from '../../../base/x509/pem.ts';
import { ConfigError } from '../config/fields.ts';
import { MAX_CRL_ENTRIES } from '../limits.ts';

export interface Crl {
  readonly pem: string;
  readonly rawIssuer: Buffer;
  /** ms since the epoch; `nextUpdate` is Infinity when the list names none. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Serial numbers in hex, as their DER content. */
  readonly revoked: ReadonlySet<string>;
  signedBy(issuer: Certificate): boolean;
}

const isTime = (node: DerNode | undefined): boolean => node?.tag === TAG.utcTime || node?.tag === TAG.generalizedTime;

/** Every list of a PEM text. Throws ConfigError when there is none or one cannot be read. */
export function readCrls(pem: string, path: string): readonly Crl[] {
  try {
    const blocks = readPem(pem).filter((block) => block.label === 'X509 CRL');
    if (blocks.length === 0) throw new Error('no list in it');
    return blocks.map(({ der }) => readCrl(der));
  } catch (error) {
    throw new ConfigError(path, `Failed to load CRL: ${error instanceof Error ? error.message : error}`);
  }
}

function readCrl(der: Buffer): Crl {
  const [tbs, algorithm, signature] = children(expectTag(readDer(der), TAG.sequence, 'the CRL'));
  const fields = [...children(expectTag(tbs, TAG.sequence, 'the list'))];
  if (fields[0]?.tag === TAG.integer) fields.shift();
  fields.shift();
  const issuer = expectTag(fields.shift(), TAG.sequence, 'the issuer');
  const thisUpdate = readTime(fields.shift());
  const nextUpdate = isTime(fields[0]) ? readTime(fields.shift()) : Number.POSITIVE_INFINITY;
  const entries = fields[0]?.tag === TAG.sequence ? children(fields[0], MAX_CRL_ENTRIES) : [];
  const revoked = new Set(
    entries.map((entry) => expectTag(children(entry)[0], TAG.integer, 'a serial number').content.toString('hex')),
  );
  const signatureOid = readOid(children(expectTag(algorithm, TAG.sequence, 'the signature algorithm'))[0]);
  const bits = readWholeBits(signature, 'the signature');
  const signed = expectTag(tbs, TAG.sequence, 'the list').raw;
  return {
    pem: writePem('X509 CRL', der),
    rawIssuer: issuer.raw,
    thisUpdate,
    nextUpdate,
    revoked,
    signedBy: (by) =>
      by.rawSubject.equals(issuer.raw) &&
      (by.keyUsage.size === 0 || by.keyUsage.has('cRLSign')) &&
      verifyBytes(signatureOid, publicKeyOf(by), signed, bits),
  };
}

/** Why `certificate`, issued by `issuer`, does not pass the lists; undefined when it does. */
export function crlError(
  crls: readonly Crl[],
  certificate: Certificate,
  issuer: Certificate,
  now: number,
): string | undefined {
  const own = crls.filter((crl) => crl.rawIssuer.equals(certificate.rawIssuer) && crl.signedBy(issuer));
  if (own.some((crl) => crl.revoked.has(certificate.serialHex))) return 'CERT_REVOKED';
  if (own.length === 0) return 'UNABLE_TO_GET_CRL';
  if (own.every((crl) => now < crl.thisUpdate)) return 'CRL_NOT_YET_VALID';
  return own.every((crl) => now > crl.nextUpdate) ? 'CRL_HAS_EXPIRED' : undefined;
}
