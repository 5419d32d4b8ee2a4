// A signing certificate with its key, chain and roots, checked to belong together. Made from a Secret or from files.
// Called by load.ts, self-signed.ts and cacerts.ts.
import { createPublicKey } from 'node:crypto';
import {
  type Certificate,
  certificatePem,
  type Issuer,
  isIssuedBy,
  readCertificate,
} from '../../base/x509/certificate.ts';
import { X509Error } from '../../base/x509/errors.ts';
import { readPrivateKey } from '../../base/x509/keys.ts';
import { readPem, readPemCertificates } from '../../base/x509/pem.ts';

export interface SigningMaterial {
  readonly issuer: Issuer;
  /** Between leaf and root, each PEM with a newline at its end; empty when the root itself signs. */
  readonly chainPem: readonly string[];
  /** Every root, PEM, concatenated. */
  readonly rootsPem: string;
  readonly roots: readonly Certificate[];
  readonly chain: readonly Certificate[];
}

export interface MaterialText {
  readonly certificate: string;
  readonly key: string;
  /** May be empty. */
  readonly chain: string;
  readonly roots: string;
}

/** Longest way from the signing certificate to a root. */
const MAX_CHAIN_LENGTH = 10;

/** Throws X509Error: `not-a-ca`, `key-mismatch`, `pem`, `signature` (no way to a root) and those of the readers. */
export function readSigningMaterial(text: MaterialText): SigningMaterial {
  const [der] = readPemCertificates(text.certificate, 'the signing certificate');
  const certificate = readCertificate(der ?? Buffer.alloc(0));
  if (!certificate.isCa || (certificate.keyUsage.size > 0 && !certificate.keyUsage.has('keyCertSign')))
    throw new X509Error('not-a-ca', 'certificate is not authorized to sign other certificates');
  const key = readPrivateKey(text.key);
  if (!createPublicKey(key).export({ type: 'spki', format: 'der' }).equals(certificate.spki))
    throw new X509Error('key-mismatch', 'the signing key does not belong to the signing certificate');
  const chain = readPem(text.chain).map((block) => readCertificate(block.der));
  const roots = readPemCertificates(text.roots, 'the root bundle').map(readCertificate);
  if (!reachesRoot(certificate, chain, roots))
    throw new X509Error('signature', 'the signing certificate does not lead to any certificate of the root bundle');
  return {
    issuer: { certificate, key },
    chainPem: chain.map(certificatePem),
    rootsPem: roots.map(certificatePem).join(''),
    roots,
    chain,
  };
}

function reachesRoot(start: Certificate, chain: readonly Certificate[], roots: readonly Certificate[]): boolean {
  let at = start;
  for (let step = 0; step < MAX_CHAIN_LENGTH; step += 1) {
    if (roots.some((root) => root.der.equals(at.der) || isIssuedBy(at, root))) return true;
    const next = chain.find((one) => !one.der.equals(at.der) && isIssuedBy(at, one));
    if (!next) return false;
    at = next;
  }
  return false;
}
