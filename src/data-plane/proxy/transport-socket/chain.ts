// A certificate path judged by our own rules where OpenSSL's verdict says too little: it reports only the last of several
// errors, so "expired" may hide "untrusted" or "revoked". Called by tls-context.ts for the lenient settings.
import { type Certificate, isIssuedBy, readCertificate } from '../../../base/x509/certificate.ts';
import { MAX_CHAIN_CERTIFICATES } from '../limits.ts';
import { type Crl, crlError } from './crl.ts';

export interface PathRules {
  readonly roots: readonly Certificate[];
  readonly crls: readonly Crl[];
  /** Check only the leaf against the lists. */
  readonly leafCrlOnly: boolean;
  readonly allowExpired: boolean;
  readonly now: number;
}

/** The path from a leaf to a trusted certificate, leaf first; undefined when there is none. */
export function findPath(
  leaf: Certificate,
  presented: readonly Certificate[],
  roots: readonly Certificate[],
): readonly Certificate[] | undefined {
  const path = [leaf];
  for (let tip = leaf; path.length <= MAX_CHAIN_CERTIFICATES; ) {
    if (roots.some((root) => root.der.equals(tip.der))) return path;
    const root = roots.find((candidate) => isIssuedBy(tip, candidate));
    if (root) return [...path, root];
    const next = presented.find((candidate) => !path.includes(candidate) && isIssuedBy(tip, candidate));
    if (!next) return undefined;
    path.push(next);
    tip = next;
  }
  return undefined;
}

/** OpenSSL's name for what is wrong with the path; undefined when it holds. */
export function pathError(leaf: Certificate, presented: readonly Certificate[], rules: PathRules): string | undefined {
  const path = findPath(leaf, presented, rules.roots);
  if (!path) return 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY';
  if (!rules.allowExpired)
    for (const certificate of path) {
      if (rules.now > certificate.notAfter) return 'CERT_HAS_EXPIRED';
      if (rules.now < certificate.notBefore) return 'CERT_NOT_YET_VALID';
    }
  if (rules.crls.length === 0) return undefined;
  for (let i = 0; i < (rules.leafCrlOnly ? 1 : path.length); i++) {
    const issuer = path[i + 1] ?? path[i]!;
    const wrong = crlError(rules.crls, path[i]!, issuer, rules.now);
    if (wrong) return wrong;
  }
  return undefined;
}

/** Certificates in our own form; what cannot be read ends the list. */
export function readChain(ders: readonly Buffer[]): readonly Certificate[] {
  const out: Certificate[] = [];
  for (const der of ders)
    try {
      out.push(readCertificate(der));
    } catch {
      break;
    }
  return out;
}
