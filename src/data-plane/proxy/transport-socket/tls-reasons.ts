// What went wrong with TLS in the words and numbers of Envoy's BoringSSL, which logs and response details show and people
// search for. Called wherever a TLS failure is reported.
import type { PeerCertificate } from './peer-certificate.ts';

const LIBRARY = 268_435_456;

/** BoringSSL's reason codes; alerts of the peer are 1000 and the alert's number. */
const CODES: Readonly<Record<string, number>> = {
  CERTIFICATE_VERIFY_FAILED: 125,
  NO_SHARED_CIPHER: 184,
  PEER_DID_NOT_RETURN_A_CERTIFICATE: 191,
  UNSUPPORTED_PROTOCOL: 240,
  WRONG_VERSION_NUMBER: 247,
  KEY_USAGE_BIT_INCORRECT: 302,
  SSLV3_ALERT_UNEXPECTED_MESSAGE: 1010,
  SSLV3_ALERT_BAD_RECORD_MAC: 1020,
  SSLV3_ALERT_HANDSHAKE_FAILURE: 1040,
  SSLV3_ALERT_BAD_CERTIFICATE: 1042,
  SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 1043,
  SSLV3_ALERT_CERTIFICATE_REVOKED: 1044,
  SSLV3_ALERT_CERTIFICATE_EXPIRED: 1045,
  SSLV3_ALERT_CERTIFICATE_UNKNOWN: 1046,
  SSLV3_ALERT_ILLEGAL_PARAMETER: 1047,
  TLSV1_ALERT_UNKNOWN_CA: 1048,
  TLSV1_ALERT_ACCESS_DENIED: 1049,
  TLSV1_ALERT_DECODE_ERROR: 1050,
  TLSV1_ALERT_DECRYPT_ERROR: 1051,
  TLSV1_ALERT_PROTOCOL_VERSION: 1070,
  TLSV1_ALERT_INSUFFICIENT_SECURITY: 1071,
  TLSV1_ALERT_INTERNAL_ERROR: 1080,
  TLSV1_ALERT_UNRECOGNIZED_NAME: 1112,
  TLSV1_ALERT_CERTIFICATE_REQUIRED: 1116,
  TLSV1_ALERT_NO_APPLICATION_PROTOCOL: 1120,
};

/** OpenSSL's reason in Envoy's spelling: `certificate verify failed` → `CERTIFICATE_VERIFY_FAILED`. */
export function reasonName(text: string): string {
  const name = text.toUpperCase().replaceAll(/[^A-Z0-9]+/g, '_');
  if (name.startsWith('SSL_TLS_ALERT_')) return `SSLV3_ALERT_${name.slice(14)}`;
  if (name.startsWith('TLSV13_ALERT_')) return `TLSV1_ALERT_${name.slice(13)}`;
  if (name.startsWith('TLSV1_') && !name.startsWith('TLSV1_ALERT_')) return `TLSV1_ALERT_${name.slice(6)}`;
  return name;
}

/** `detail` is what was wrong with a certificate. */
export function tlsFailureText(name: string, detail = ''): string {
  const code = LIBRARY + (CODES[name] ?? 0);
  return `TLS_error:|${code}:SSL routines:OPENSSL_internal:${name}${detail === '' ? '' : `:${detail}`}:TLS_error_end`;
}

export function tlsReason(error: NodeJS.ErrnoException): string {
  const text = (error as { reason?: string }).reason ?? error.code?.replace(/^ERR_SSL_/, '') ?? error.message;
  return tlsFailureText(reasonName(text));
}

/** A peer certificate that was judged wanting. `chainText` is OpenSSL's text for its chain. */
export function verifyFailedText(
  verdict: 'fail-chain' | 'fail-san' | 'fail-hash' | 'fail-usage',
  peer: PeerCertificate | undefined,
  chainText: string | undefined,
  depth = 0,
): string {
  if (verdict === 'fail-usage') return tlsFailureText('KEY_USAGE_BIT_INCORRECT');
  return tlsFailureText(
    'CERTIFICATE_VERIFY_FAILED',
    `verify cert failed: ${detailOf(verdict, peer, chainText, depth)}`,
  );
}

/** A peer that was accepted, but does not have the name it was called by (auto_san_validation). */
export function unnamedText(peer: PeerCertificate | undefined, name: string): string {
  const detail = `verify SAN list, expected SANs: [${name}], certificate SANs: [${namesOf(peer)}]`;
  return tlsFailureText('CERTIFICATE_VERIFY_FAILED', `verify cert failed: ${detail}`);
}

function namesOf(peer: PeerCertificate | undefined): string {
  return (peer?.names ?? []).map((name) => name.value).join(', ');
}

function detailOf(
  verdict: string,
  peer: PeerCertificate | undefined,
  chainText: string | undefined,
  depth: number,
): string {
  if (verdict === 'fail-san') return `SAN matcher, certificate SANs are [${namesOf(peer)}]`;
  if (verdict === 'fail-hash') return 'hash list and SPKI list';
  return `X509_verify_cert: certificate verification error at depth ${depth}: ${chainText ?? 'certificate not accepted'}`;
}
