// What a client sent beside its certificate, and who issued that. Few ask, so handshakes read it only where the filter chain
// (x-forwarded-client-cert) or some format of the process does. Called by both server handshakes; formats say what they want.
import { X509Certificate } from 'node:crypto';
import { MAX_CHAIN_CERTIFICATES, MAX_PEER_CERTIFICATE_BYTES } from '../limits.ts';
import { type PeerCertificate, peerCertificate } from './peer-certificate.ts';
import type { TrustMaterial } from './secrets.ts';
import type { PeerEvidence, TlsContext } from './tls-context.ts';
import type { TlsDetails } from './transport.ts';

/** Formats of routes come and go while connections live: once wanted it stays so. */
const wanted = { chain: false, issuer: false };

export function wantPeerChain(): void {
  wanted.chain = true;
}

export function wantPeerIssuer(): void {
  wanted.issuer = true;
}

interface Asked {
  readonly context: TlsContext;
  readonly evidence: PeerEvidence;
  /** The filter chain wants the certificates. */
  readonly chain: boolean | undefined;
  /** What came after the leaf, DER. */
  sent(): readonly Buffer[];
}

export function withPeerPath(details: TlsDetails, asked: Asked): TlsDetails {
  const { peer } = details;
  const chain = asked.chain || wanted.chain;
  if (!peer || !(chain || wanted.issuer)) return details;
  const peerChain = chainOf(peer, asked);
  if (!wanted.issuer) return { ...details, peerChain };
  return { ...details, peerChain: chain ? peerChain : details.peerChain, peerIssuer: issuerOf(peer, asked, peerChain) };
}

/** A session that was sealed into a ticket brings the leaf alone: then it is what the same leaf came with before. */
function chainOf(peer: PeerCertificate, { evidence, sent }: Asked): readonly Buffer[] {
  const chain = sent();
  if (evidence.resumed) return chain.length > 0 ? chain : (peer.sentChain ?? chain);
  let bytes = 0;
  for (const der of chain) bytes += der.length;
  peer.sentChain = bytes <= MAX_PEER_CERTIFICATE_BYTES ? chain : undefined;
  return chain;
}

/** Issuers that were found, under the trust they were found by. */
const issuers = new WeakMap<TrustMaterial, WeakMap<PeerCertificate, PeerCertificate>>();

/** The next certificate on the peer's path to a trusted one, of a handshake that built this path: a resumed one did not. */
function issuerOf(peer: PeerCertificate, asked: Asked, presented: readonly Buffer[]): PeerCertificate | undefined {
  const { context, evidence } = asked;
  const trust = context.trust();
  if (!trust || trust.caPem === '' || evidence.resumed || !context.vouchedFor(evidence)) return undefined;
  let known = issuers.get(trust);
  if (!known) {
    known = new WeakMap();
    issuers.set(trust, known);
  }
  const before = known.get(peer);
  if (before) return before;
  const issuer = findIssuer(peer, presented, trust);
  if (issuer) known.set(peer, issuer);
  return issuer;
}

function findIssuer(
  peer: PeerCertificate,
  presented: readonly Buffer[],
  trust: TrustMaterial,
): PeerCertificate | undefined {
  const { roots } = trust;
  const isRoot = (one: X509Certificate): boolean => roots.some((root) => root.raw.equals(one.raw));
  if (isRoot(peer.x509)) return undefined;
  try {
    const others = presented.slice(0, MAX_CHAIN_CERTIFICATES).map((der) => new X509Certificate(der));
    const left = new Set(others.filter((one) => one.ca));
    // Each of them is tried once: whether it leads to a root does not depend on the way to it.
    const next = (tip: X509Certificate): X509Certificate | undefined => {
      const root = roots.find((one) => issued(tip, one));
      if (root) return root;
      for (const one of left) {
        if (!issued(tip, one)) continue;
        left.delete(one);
        if (isRoot(one) || next(one)) return one;
      }
      return undefined;
    };
    const found = next(peer.x509);
    return found && peerCertificate(found.raw, found);
  } catch {
    return undefined;
  }
}

const issued = (certificate: X509Certificate, by: X509Certificate): boolean =>
  certificate.checkIssued(by) && certificate.verify(by.publicKey);
