// What a finished TLSSocket handshake proved: the evidence for the judgement and the facts for everything above.
// Called by tls-accept.ts and dial.ts.
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { MAX_CHAIN_CERTIFICATES } from '../limits.ts';
import { type PeerCertificate, peerCertificate } from './peer-certificate.ts';
import type { CertificateMaterial } from './secrets.ts';
import { readSession } from './session-info.ts';
import type { PeerEvidence } from './tls-context.ts';
import type { TlsDetails } from './transport.ts';

export interface SocketEvidence extends PeerEvidence {
  readonly x509: X509Certificate | undefined;
}

const NO_CHAIN: readonly Buffer[] = [];

interface HandshakeHandle {
  verifyError(): (Error & { code?: string }) | null | undefined;
}

/** `remembered`: the peer of the session a client offered. */
export function evidenceOf(socket: TLSSocket, remembered?: PeerCertificate): SocketEvidence {
  const resumed = socket.isSessionReused();
  const x509 = socket.getPeerX509Certificate();
  const handle = (socket as unknown as { _handle: HandshakeHandle })._handle;
  const error = handle.verifyError();
  let peer: PeerCertificate | undefined;
  let unreadable = false;
  try {
    peer = x509 ? peerCertificate(x509.raw, x509) : resumed ? remembered : undefined;
  } catch {
    unreadable = true;
  }
  return {
    x509,
    peer,
    chainError: unreadable ? 'CERT_UNREADABLE' : error ? (error.code ?? error.message) : undefined,
    chainText: error?.message,
    resumed,
    lists: false,
    chain: () => issuersOf(x509),
  };
}

/** The certificates that came after the leaf. */
function issuersOf(leaf: X509Certificate | undefined): X509Certificate[] {
  const out: X509Certificate[] = [];
  for (let next = leaf?.issuerCertificate; next && out.length < MAX_CHAIN_CERTIFICATES; next = next.issuerCertificate) {
    if (out.some((known) => known.fingerprint256 === next?.fingerprint256)) break;
    out.push(next);
  }
  return out;
}

export function detailsOf(
  socket: TLSSocket,
  evidence: SocketEvidence,
  own: CertificateMaterial | undefined,
  peerVerified: boolean,
): TlsDetails {
  const { peer } = evidence;
  const servername = (socket as unknown as { servername?: string | false }).servername;
  const session = readSession(socket.getSession());
  const version = socket.getProtocol() ?? '';
  return {
    version,
    cipher: socket.getCipher()?.name ?? '',
    group: session.group || clientGroup(socket),
    signature: version === 'TLSv1.3' ? (peer?.tls13Signature ?? '') : '',
    resumed: evidence.resumed,
    // OpenSSL gives sessions of TLS 1.3 an id for its own use.
    sessionId: version === 'TLSv1.3' ? '' : session.id,
    alpn: socket.alpnProtocol || '',
    sni: typeof servername === 'string' ? servername : '',
    peerVerified,
    peerUris: peer?.uris ?? [],
    peerDns: peer?.dns ?? [],
    peerSubject: peer?.subject ?? '',
    peerCertificate: peer?.der,
    peerChain: NO_CHAIN,
    peer,
    localUris: own?.uris ?? [],
    localDns: own?.dns ?? [],
    localSubject: own?.subject ?? '',
    localCertificate: own?.chain[0],
  };
}

/** A client's session does not name the group, but its socket does, in OpenSSL's words. */
function clientGroup(socket: TLSSocket): string {
  const info = socket.getEphemeralKeyInfo();
  if (!info || !('name' in info) || typeof info.name !== 'string') return '';
  return GROUP_ALIASES[info.name] ?? info.name;
}

const GROUP_ALIASES: Readonly<Record<string, string>> = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};
