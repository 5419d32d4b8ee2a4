// What OpenSSL knows about a finished handshake. Called by the handshakes of this folder.
import { MAX_CHAIN_CERTIFICATES } from '../../limits.ts';
import { type PeerCertificate, peerCertificate } from '../peer-certificate.ts';
import type { CertificateMaterial } from '../secrets.ts';
import type { PeerEvidence } from '../tls-context.ts';
import type { TlsDetails } from '../transport.ts';
import { addressOf, type OpenSsl, openssl, type Pointer, scratch, scratchAt } from './library.ts';

const X509_V_OK = 0;
const HOST_NAME = 0;
const NO_CHAIN: readonly Buffer[] = [];

/** `shown`: the certificate this handshake brought. That of a session that was taken up again comes out of the session. */
export function evidenceOf(ssl: Pointer, shown: PeerCertificate | undefined): PeerEvidence {
  const lib = openssl();
  let peer = shown;
  let chainError: string | undefined;
  const certificate = shown ? 0 : lib.SSL_get0_peer_certificate(ssl);
  if (certificate !== 0) {
    try {
      peer = peerCertificate(derOf(lib, certificate));
    } catch {
      chainError = 'CERT_UNREADABLE';
    }
  }
  const result = lib.SSL_get_verify_result(ssl);
  const chainText = result === X509_V_OK ? undefined : lib.X509_verify_cert_error_string(result);
  const resumed = lib.SSL_session_reused_ctrl(ssl) === 1;
  return { peer, chainError: chainError ?? chainText, chainText, resumed, lists: true, chain: () => [] };
}

let room: Buffer | undefined;
let roomAt: Pointer = 0;

/** Valid until the next call. i2d moves the pointer it is given: it lies in `scratch`. */
export function derOf(lib: OpenSsl, certificate: Pointer): Buffer {
  const size = Math.max(lib.i2d_X509(certificate, 0), 0);
  if (!room || room.length < size) {
    room = Buffer.allocUnsafeSlow(Math.max(size, 4_096));
    roomAt = addressOf(room);
  }
  scratch.writeBigUInt64LE(BigInt(roomAt));
  lib.i2d_X509(certificate, scratchAt());
  return room.subarray(0, size);
}

/** What a client sent after its leaf. A resumed session that lies in the server still knows it. */
export function sentChain(ssl: Pointer): readonly Buffer[] {
  const lib = openssl();
  const stack = lib.SSL_get_peer_cert_chain(ssl);
  if (stack === 0) return NO_CHAIN;
  const count = Math.min(lib.OPENSSL_sk_num(stack), MAX_CHAIN_CERTIFICATES);
  const out: Buffer[] = [];
  for (let i = 0; i < count; i++) out.push(Buffer.from(derOf(lib, lib.OPENSSL_sk_value(stack, i))));
  return out;
}

export function sessionBytes(lib: OpenSsl, session: Pointer): Buffer {
  const size = lib.i2d_SSL_SESSION(session, 0);
  const bytes = Buffer.allocUnsafeSlow(Math.max(size, 0));
  scratch.writeBigUInt64LE(BigInt(addressOf(bytes)));
  lib.i2d_SSL_SESSION(session, scratchAt());
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
  const version = lib.SSL_get_version(ssl);
  return {
    version,
    cipher: cipherName(lib, lib.SSL_get_current_cipher(ssl)),
    group: groupOf(lib.SSL_get0_group_name(ssl)),
    signature: signatureOf(lib, ssl, peer),
    resumed: evidence.resumed,
    // OpenSSL gives sessions of TLS 1.3 an id for its own use.
    sessionId: version === 'TLSv1.3' ? '' : sessionIdOf(lib, ssl),
    alpn: alpnOf(lib, ssl),
    sni: lib.SSL_get_servername(ssl, HOST_NAME) ?? '',
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

/** Ciphers are OpenSSL's constants: a pointer always means the same one. */
const ciphers = new Map<Pointer, string>();

function cipherName(lib: OpenSsl, cipher: Pointer): string {
  let name = ciphers.get(cipher);
  if (name === undefined) {
    name = lib.SSL_CIPHER_get_name(cipher);
    ciphers.set(cipher, name);
  }
  return name;
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
  if (lib.SSL_get_peer_signature_type_nid(ssl, scratchAt()) !== 1) return '';
  const type = scratch.readInt32LE();
  if (type === NID.ed25519) return 'ed25519';
  if (type === NID.ec) return peer.tls13Signature;
  if (lib.SSL_ctrl(ssl, CTRL_PEER_SIGNATURE_NID, 0, scratchAt()) !== 1) return '';
  const hash = HASHES[scratch.readInt32LE()];
  if (!hash) return '';
  if (type === NID.rsa) return `rsa_pkcs1_${hash}`;
  return type === NID.rsaPss ? `rsa_pss_rsae_${hash}` : '';
}

function sessionIdOf(lib: OpenSsl, ssl: Pointer): string {
  const session = lib.SSL_get_session(ssl);
  if (session === 0) return '';
  scratch.writeUInt32LE(0);
  const at = lib.SSL_SESSION_get_id(session, scratchAt());
  return textAt(lib, at, Math.min(scratch.readUInt32LE(), 32), 'hex');
}

function alpnOf(lib: OpenSsl, ssl: Pointer): string {
  scratch.writeUInt32LE(0, 8);
  lib.SSL_get0_alpn_selected(ssl, scratchAt(), scratchAt() + 8);
  const length = scratch.readUInt32LE(8);
  return length === 0 ? '' : textAt(lib, Number(scratch.readBigUInt64LE(0)), length, 'latin1');
}

/** At most as many bytes as an ALPN value has. */
function textAt(lib: OpenSsl, at: Pointer, length: number, as: 'hex' | 'latin1'): string {
  if (at === 0 || length === 0 || length > scratch.length) return '';
  lib.memcpy(scratchAt(), at, length);
  return scratch.toString(as, 0, length);
}
