// The certificate the other side of a connection showed: its facts are read when somebody asks and remembered, since the
// same few peers connect again and again. Made by handshakes; read by filters, headers, logs and metrics.
import { hash, X509Certificate } from 'node:crypto';
import { readCertificate } from '../../../base/x509/certificate.ts';
import { MAX_PEER_CERTIFICATES } from '../limits.ts';
import { otherNamesOf } from './other-names.ts';
import { type AltName, altNamesOf, subjectText, valuesOf } from './san.ts';

export class PeerCertificate {
  readonly der: Buffer;
  /** SHA-256 of the DER, hex. */
  readonly fingerprint256: string;
  readonly names: readonly AltName[];
  /** ms since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly x509: X509Certificate;
  /** What came with it in the last full handshake where somebody asked, DER. */
  sentChain: readonly Buffer[] | undefined;
  #facts: ReturnType<typeof factsOf> | undefined;

  constructor(der: Buffer, fingerprint256: string, x509: X509Certificate) {
    this.der = der;
    this.fingerprint256 = fingerprint256;
    this.x509 = x509;
    this.names = altNamesOf(x509);
    this.notBefore = Date.parse(x509.validFrom);
    this.notAfter = Date.parse(x509.validTo);
  }

  get #all(): ReturnType<typeof factsOf> {
    this.#facts ??= factsOf(this.der, this.x509, this.names);
    return this.#facts;
  }
  get uris(): readonly string[] {
    return this.#all.uris;
  }
  get dns(): readonly string[] {
    return this.#all.dns;
  }
  get ips(): readonly string[] {
    return this.#all.ips;
  }
  get emails(): readonly string[] {
    return this.#all.emails;
  }
  get otherNames(): readonly string[] {
    return this.#all.otherNames;
  }
  /** RFC 2253; empty for an empty name. */
  get subject(): string {
    return this.#all.subject;
  }
  get issuer(): string {
    return this.#all.issuer;
  }
  /** Hex, lower case. */
  get serial(): string {
    return this.#all.serial;
  }
  /** SHA-1 of the DER, hex. */
  get fingerprint1(): string {
    return this.#all.fingerprint1;
  }
  get pem(): string {
    return this.#all.pem;
  }
  /** SHA-256 of the public key, base64: what verify_certificate_spki names. */
  get spkiHash(): string {
    return this.#all.spkiHash;
  }
  /** An RSA key whose certificate forbids signatures cannot take part in a handshake with forward secrecy. */
  get rsaCannotSign(): boolean {
    return this.#all.rsaCannotSign;
  }
  /** IANA name of the one signature algorithm the key can have used in TLS 1.3; empty when there are several. */
  get tls13Signature(): string {
    return this.#all.tls13Signature;
  }
}

function factsOf(der: Buffer, x509: X509Certificate, names: readonly AltName[]) {
  const { publicKey } = x509;
  const kind = publicKey.asymmetricKeyType;
  return {
    uris: valuesOf(names, 'uri'),
    dns: valuesOf(names, 'dns'),
    ips: valuesOf(names, 'ip'),
    emails: valuesOf(names, 'email'),
    otherNames: otherNamesOf(der),
    subject: subjectText(x509.subject),
    issuer: subjectText(x509.issuer),
    serial: x509.serialNumber.toLowerCase(),
    fingerprint1: hash('sha1', der, 'hex'),
    pem: x509.toString(),
    spkiHash: hash('sha256', publicKey.export({ type: 'spki', format: 'der' }), 'base64'),
    rsaCannotSign: kind === 'rsa' && cannotSign(der),
    tls13Signature:
      kind === 'ec'
        ? (EC_SIGNATURES[publicKey.asymmetricKeyDetails?.namedCurve ?? ''] ?? '')
        : kind === 'ed25519'
          ? 'ed25519'
          : '',
  };
}

const EC_SIGNATURES: Readonly<Record<string, string>> = {
  prime256v1: 'ecdsa_secp256r1_sha256',
  secp384r1: 'ecdsa_secp384r1_sha384',
  secp521r1: 'ecdsa_secp521r1_sha512',
};

function cannotSign(der: Buffer): boolean {
  const { keyUsage } = readCertificate(der);
  return keyUsage.size > 0 && !keyUsage.has('digitalSignature');
}

const known = new Map<string, PeerCertificate>();

/** The facts of a certificate, whose bytes are copied; `x509` only when the caller has it anyway. Throws when the bytes are no certificate. */
export function peerCertificate(der: Buffer, x509?: X509Certificate): PeerCertificate {
  const fingerprint = hash('sha256', der, 'hex');
  const found = known.get(fingerprint);
  if (found) return found;
  const own = Buffer.from(der);
  const made = new PeerCertificate(own, fingerprint, x509 ?? new X509Certificate(own));
  if (known.size >= MAX_PEER_CERTIFICATES) known.delete(known.keys().next().value!);
  known.set(fingerprint, made);
  return made;
}
