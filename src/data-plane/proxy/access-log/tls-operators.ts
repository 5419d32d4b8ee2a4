// Command operators about TLS and certificates of both sides. Used by operators.ts and argument-operators.ts.
import type { StreamInfo } from '../http/stream-info.ts';
import { otherNamesOf } from '../transport-socket/other-names.ts';
import { type PeerCertificate, peerCertificate } from '../transport-socket/peer-certificate.ts';
import { wantPeerChain, wantPeerIssuer } from '../transport-socket/peer-path.ts';
import { type AltName, altNamesOf, valuesOf } from '../transport-socket/san.ts';
import type { TlsDetails } from '../transport-socket/transport.ts';
import type { Operator } from './types.ts';

const join = (list: readonly string[] | undefined): string | undefined => list && some(list.join(','));
const some = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

type Side = (info: StreamInfo) => TlsDetails | undefined;
export const downstreamTls: Side = (info) => info.connection.tls;
export const upstreamTls: Side = (info) => info.upstreamTls;

/** Names of our own certificates; there are few. */
const ownNames = new WeakMap<object, readonly AltName[]>();
const ownOtherNames = new WeakMap<object, readonly string[]>();

function localNames(tls: TlsDetails | undefined, kind: AltName['kind']): string | undefined {
  const certificate = tls?.localCertificate;
  if (!certificate) return undefined;
  let names = ownNames.get(certificate);
  if (!names) {
    names = altNamesOf(certificate);
    ownNames.set(certificate, names);
  }
  return join(valuesOf(names, kind));
}

function localOtherNames(tls: TlsDetails | undefined): string | undefined {
  const certificate = tls?.localCertificate;
  if (!certificate) return undefined;
  let names = ownOtherNames.get(certificate);
  if (!names) {
    names = otherNamesOf(certificate.raw);
    ownOtherNames.set(certificate, names);
  }
  return join(names);
}

/** What a client sent beside its certificate, read once for a connection. */
const chains = new WeakMap<readonly Buffer[], readonly PeerCertificate[]>();

/** One fact of each certificate the client sent, its own first. */
function ofChain(info: StreamInfo, fact: (one: PeerCertificate) => string): string | undefined {
  const { tls } = info.connection;
  if (!tls?.peer) return undefined;
  let rest = chains.get(tls.peerChain);
  if (!rest) {
    rest = tls.peerChain.flatMap(readable);
    chains.set(tls.peerChain, rest);
  }
  return join([tls.peer, ...rest].map(fact));
}

function readable(der: Buffer): PeerCertificate[] {
  try {
    return [peerCertificate(der)];
  } catch {
    return [];
  }
}

/** What both sides can tell, under the side's prefix. */
function common(prefix: string, tls: Side): Record<string, Operator> {
  const peer = (info: StreamInfo): PeerCertificate | undefined => tls(info)?.peer;
  return {
    [`${prefix}_TLS_VERSION`]: (i) => tls(i)?.version,
    [`${prefix}_TLS_CIPHER`]: (i) => some(tls(i)?.cipher),
    [`${prefix}_TLS_GROUP`]: (i) => some(tls(i)?.group),
    [`${prefix}_TLS_SESSION_ID`]: (i) => some(tls(i)?.sessionId),
    [`${prefix}_PEER_URI_SAN`]: (i) => join(tls(i)?.peerUris),
    [`${prefix}_PEER_DNS_SAN`]: (i) => join(tls(i)?.peerDns),
    [`${prefix}_PEER_IP_SAN`]: (i) => join(peer(i)?.ips),
    [`${prefix}_PEER_SUBJECT`]: (i) => some(tls(i)?.peerSubject),
    [`${prefix}_PEER_ISSUER`]: (i) => some(peer(i)?.issuer),
    [`${prefix}_PEER_CERT`]: (i) => {
      const pem = peer(i)?.pem;
      return pem && encodeURIComponent(pem);
    },
    [`${prefix}_LOCAL_URI_SAN`]: (i) => join(tls(i)?.localUris),
    [`${prefix}_LOCAL_DNS_SAN`]: (i) => join(tls(i)?.localDns),
    [`${prefix}_LOCAL_IP_SAN`]: (i) => localNames(tls(i), 'ip'),
  };
}

const peer = (info: StreamInfo): PeerCertificate | undefined => info.connection.tls?.peer;

export const TLS_OPERATORS: Readonly<Record<string, Operator>> = {
  ...common('DOWNSTREAM', downstreamTls),
  ...common('UPSTREAM', upstreamTls),
  DOWNSTREAM_PEER_EMAIL_SAN: (i) => join(peer(i)?.emails),
  DOWNSTREAM_LOCAL_EMAIL_SAN: (i) => localNames(i.connection.tls, 'email'),
  UPSTREAM_SERVER_NAME: (i) => some(i.upstreamTls?.sni),
  DOWNSTREAM_LOCAL_SUBJECT: (i) => some(i.connection.tls?.localSubject),
  DOWNSTREAM_PEER_SERIAL: (i) => some(peer(i)?.serial),
  DOWNSTREAM_PEER_FINGERPRINT_256: (i) => peer(i)?.fingerprint256,
  DOWNSTREAM_PEER_FINGERPRINT_1: (i) => peer(i)?.fingerprint1,
  DOWNSTREAM_PEER_OTHERNAME_SAN: (i) => join(peer(i)?.otherNames),
  DOWNSTREAM_LOCAL_OTHERNAME_SAN: (i) => localOtherNames(i.connection.tls),
  DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256: (i) => ofChain(i, (one) => one.fingerprint256),
  DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1: (i) => ofChain(i, (one) => one.fingerprint1),
  DOWNSTREAM_PEER_CHAIN_SERIALS: (i) => ofChain(i, (one) => one.serial),
  DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256: (i) => i.connection.tls?.peerIssuer?.fingerprint256,
  DOWNSTREAM_PEER_ISSUER_SERIAL: (i) => some(i.connection.tls?.peerIssuer?.serial),
  TLS_JA3_FINGERPRINT: (i) => some(i.connection.fingerprints?.ja3),
  TLS_JA4_FINGERPRINT: (i) => some(i.connection.fingerprints?.ja4),
};

/** What handshakes have to find out for an operator, beside what they find out anyway. */
export const TLS_OPERATOR_NEEDS: ReadonlyMap<string, () => void> = new Map([
  ['DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256', wantPeerChain],
  ['DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1', wantPeerChain],
  ['DOWNSTREAM_PEER_CHAIN_SERIALS', wantPeerChain],
  ['DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256', wantPeerIssuer],
  ['DOWNSTREAM_PEER_ISSUER_SERIAL', wantPeerIssuer],
]);
