// What OpenSSL knows about a finished handshake. Called by the handshakes of this folder.
import { type PeerCertificate, peerCertificate } from '../peer-certificate.ts';
import type { CertificateMaterial } from '../secrets.ts';
import type { PeerEvidence } from '../tls-context.ts';
import type { TlsDetails } from '../transport.ts';
import { addressOf, ffi, type OpenSsl, openssl, type Pointer, scratch } from './library.ts';

const X509_V_OK = 0;
const HOST_NAME = 0;

/** The peer of a session that was taken up again: no certificate is shown then. */
export function evidenceOf(ssl: Pointer): PeerEvidence {
  const lib = openssl();
  const certificate = lib.SSL_get1_peer_certificate(ssl);
  let peer: PeerCertificate | undefined;
  let chainError: string | undefined;
  if (certificate !== 0) {
    try {
      peer = peerCertificate(derOf(lib, certificate));
    } catch {
      chainError = 'CERT_UNREADABLE';
    }
    lib.X509_free(certificate);
  }
  const result = lib.SSL_get_verify_result(ssl);
  const chainText = result === X509_V_OK ? undefined : lib.X509_verify_cert_error_string(result);
  const resumed = lib.SSL_session_reused_ctrl(ssl) === 1;
  return { peer, chainError: chainError ?? chainText, chainText, resumed, lists: true, chain: () => [] };
}

/** i2d moves the pointer it is given: it lies in `scratch`. */
export function derOf(lib: OpenSsl, certificate: Pointer): Buffer {
  const size = lib.i2d_X509(certificate, 0);
  const der = Buffer.allocUnsafeSlow(Math.max(size, 0));
  scratch.writeBigUInt64LE(BigInt(addressOf(der)));
  lib.i2d_X509(certificate, addressOf(scratch));
  return der;
}

export function sessionBytes(lib: OpenSsl, session: Pointer): Buffer {
  const size = lib.i2d_SSL_SESSION(session, 0);
  const bytes = Buffer.allocUnsafeSlow(Math.max(size, 0));
  scratch.writeBigUInt64LE(BigInt(addressOf(bytes)));
  lib.i2d_SSL_SESSION(session, addressOf(scratch));
  return bytes;
}

export function detailsOf(
  ssl: Pointer,
  evidence: PeerEvidence,
  own: CertificateMaterial | undefined,
  peerVerified: boolean,
): TlsDetails {
  const lib = openssl();
  const { peer } = evidence;
  return {
    version: lib.SSL_get_version(ssl),
    cipher: lib.SSL_CIPHER_get_name(lib.SSL_get_current_cipher(ssl)),
    group: groupOf(lib.SSL_get0_group_name(ssl)),
    signature: signatureOf(lib, ssl, peer),
    resumed: evidence.resumed,
    sessionId: sessionIdOf(lib, ssl),
    alpn: alpnOf(lib, ssl),
    sni: lib.SSL_get_servername(ssl, HOST_NAME) ?? '',
    peerVerified,
    peerUris: peer?.uris ?? [],
    peerDns: peer?.dns ?? [],
    peerSubject: peer?.subject ?? '',
    peerCertificate: peer?.der,
    peer,
    localUris: own?.uris ?? [],
    localDns: own?.dns ?? [],
    localSubject: own?.subject ?? '',
  };
}

const GROUPS: Readonly<Record<string, string>> = {
  x25519: 'X25519',
  secp256r1: 'P-256',
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};

function groupOf(name: string | null): string {
  return name === null ? '' : (GROUPS[name] ?? name);
}

/** OpenSSL's numbers for key types and hashes. */
const NID = { rsa: 6, rsaPss: 912, ec: 408, ed25519: 1087 } as const;
const HASHES: Readonly<Record<number, string>> = { 64: 'sha1', 672: 'sha256', 673: 'sha384', 674: 'sha512' };
const CTRL_PEER_SIGNATURE_NID = 108;

/** As Envoy's stats name it; empty when this handshake had none (a resumed one). */
function signatureOf(lib: OpenSsl, ssl: Pointer, peer: PeerCertificate | undefined): string {
  if (!peer) return '';
  if (lib.SSL_get_peer_signature_type_nid(ssl, addressOf(scratch)) !== 1) return '';
  const type = scratch.readInt32LE();
  if (type === NID.ed25519) return 'ed25519';
  if (type === NID.ec) return peer.tls13Signature;
  if (lib.SSL_ctrl(ssl, CTRL_PEER_SIGNATURE_NID, 0, addressOf(scratch)) !== 1) return '';
  const hash = HASHES[scratch.readInt32LE()];
  if (!hash) return '';
  if (type === NID.rsa) return `rsa_pkcs1_${hash}`;
  return type === NID.rsaPss ? `rsa_pss_rsae_${hash}` : '';
}

function bytesAt(at: Pointer, length: number): Buffer {
  return at === 0 || length === 0
    ? Buffer.alloc(0)
    : Buffer.from(ffi().decode(BigInt(at), 'uint8_t', length) as Uint8Array);
}

function sessionIdOf(lib: OpenSsl, ssl: Pointer): string {
  const session = lib.SSL_get_session(ssl);
  if (session === 0) return '';
  scratch.writeUInt32LE(0);
  const at = lib.SSL_SESSION_get_id(session, addressOf(scratch));
  return bytesAt(at, Math.min(scratch.readUInt32LE(), 32)).toString('hex');
}

function alpnOf(lib: OpenSsl, ssl: Pointer): string {
  scratch.fill(0);
  lib.SSL_get0_alpn_selected(ssl, addressOf(scratch), addressOf(scratch) + 8);
  return bytesAt(Number(scratch.readBigUInt64LE(0)), scratch.readUInt32LE(8)).toString('latin1');
}
