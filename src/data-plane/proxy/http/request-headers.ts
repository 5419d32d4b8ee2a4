// What the connection manager does to a request's headers before filters: client address, request id, certificate
// details, internal headers. Called once per request.
import { createHash } from 'node:crypto';
import { type Cidr, cidrContains, parseIp, type SocketAddr } from '../config/address.ts';
import { MAX_EDITED_HEAD_BYTES } from '../limits.ts';
import type { TlsDetails } from '../transport-socket/transport.ts';
import { type HeaderMap, headerName, utf8Bytes } from './header-map.ts';
import type { Detected, Detector } from './ip-detection.ts';
import { H, removeInternalHeaders } from './names.ts';
import type { ConnectionInfo } from './stream-info.ts';

export type XfccMode = 'sanitize' | 'forward-only' | 'append-forward' | 'sanitize-set' | 'always-forward-only';

export interface XfccSettings {
  readonly mode: XfccMode;
  readonly subject: boolean;
  readonly uri: boolean;
  readonly dns: boolean;
  readonly cert: boolean;
  readonly chain: boolean;
}

export interface ClientAddressSettings {
  readonly useRemoteAddress: boolean;
  readonly trustedHops: number;
  readonly skipXffAppend: boolean;
  readonly internal: InternalAddresses;
  /** Asked for the client instead of x-forwarded-for; empty: x-forwarded-for says it. */
  readonly detectors: readonly Detector[];
  /** What every request's scheme is said to be. */
  readonly scheme: 'http' | 'https' | undefined;
}

/** internal_address_config: who is one of ours. Nobody, when it says nothing. */
export interface InternalAddresses {
  readonly unixSockets: boolean;
  readonly ranges: readonly Cidr[];
}

function isInternal(internal: InternalAddresses, trusted: string, peer: SocketAddr): boolean {
  if (peer.kind === 'pipe' && trusted === '127.0.0.1') return internal.unixSockets;
  return internal.ranges.some((range) => cidrContains(range, trusted));
}

const NO_ADDRESSES: readonly string[] = [];

/** The `nth` address from the end, 1 = the last. A negative index would be looked up as a property's name. */
function fromEnd(list: readonly string[], nth: number): string | undefined {
  return nth <= list.length ? list[list.length - nth] : undefined;
}

/** Sets x-forwarded-for and friends and `info.remote`; tells whether the client counts as internal, or the status to refuse it with. */
export function clientAddress(
  headers: HeaderMap,
  info: { readonly connection: ConnectionInfo; remote: SocketAddr },
  settings: ClientAddressSettings,
): boolean | number {
  const { connection } = info;
  const peer = connection.remote.kind === 'ip' ? connection.remote.ip : '127.0.0.1';
  const given = headers.getAll(H.forwardedFor);
  const list = given === undefined ? NO_ADDRESSES : given.split(',').map((item) => item.trim());
  // With one address in the list, and that one of ours, the request came from inside (Envoy's rule).
  let single = settings.useRemoteAddress ? given === undefined : list.length === 1;
  let trusted = peer;
  if (settings.useRemoteAddress) {
    if (settings.trustedHops > 0) trusted = fromEnd(list, settings.trustedHops) ?? trusted;
    if (!settings.skipXffAppend) headers.set(H.forwardedFor, given === undefined ? peer : `${given},${peer}`);
  } else if (settings.detectors.length > 0) {
    const found = detect(headers, settings.detectors);
    if (found.rejectWith > 0) return found.rejectWith;
    trusted = found.address ?? trusted;
    single = found.trusted;
  } else {
    trusted = fromEnd(list, settings.trustedHops + 1) ?? trusted;
  }
  // Policies and logs see the trusted client; a text that is no address stands for nobody.
  if (trusted !== peer && parseIp(trusted)) info.remote = { kind: 'ip', ip: trusted, port: 0 };
  const internal = single && isInternal(settings.internal, trusted, connection.remote);
  if (internal) {
    headers.set(H.envoyInternal, 'true');
    return true;
  }
  headers.remove(H.envoyInternal);
  removeInternalHeaders(headers, settings.useRemoteAddress);
  if (settings.useRemoteAddress) headers.set(H.externalAddress, trusted);
  return false;
}

function detect(headers: HeaderMap, detectors: readonly Detector[]): Detected {
  let found!: Detected;
  for (const detector of detectors) {
    found = detector(headers);
    if (found.rejectWith > 0 || found.address !== undefined) break;
  }
  return found;
}

/** Sets x-forwarded-proto; what it says is the scheme. */
export function forwardedProto(headers: HeaderMap, secure: boolean, settings: ClientAddressSettings): 'http' | 'https' {
  const own = secure ? 'https' : 'http';
  if (settings.scheme !== undefined) headers.set(H.forwardedProto, settings.scheme);
  else if (settings.useRemoteAddress && settings.trustedHops === 0) headers.set(H.forwardedProto, own);
  else headers.setIfAbsent(H.forwardedProto, own);
  return headers.get(H.forwardedProto) === 'https' ? 'https' : 'http';
}

/** add_user_agent: who sends, for the next service. */
export interface OwnName {
  readonly cluster: string;
  readonly node: string;
}

const SERVICE_CLUSTER = headerName('x-envoy-downstream-service-cluster');
const SERVICE_NODE = headerName('x-envoy-downstream-service-node');
const USER_AGENT = headerName('user-agent');

export function introduce(headers: HeaderMap, own: OwnName): void {
  headers.set(SERVICE_CLUSTER, own.cluster);
  if (!headers.get(USER_AGENT)) headers.set(USER_AGENT, own.cluster);
  if (own.node !== '') headers.set(SERVICE_NODE, own.node);
}

export function appendVia(headers: HeaderMap, via: string): void {
  const before = headers.getAll(H.via);
  headers.set(H.via, before === undefined ? via : `${before}, ${via}`);
}

/** x-forwarded-client-cert by Envoy's rules. False: with so much of certificates the head cannot be sent on. */
export function clientCertificate(headers: HeaderMap, tls: TlsDetails | undefined, settings: XfccSettings): boolean {
  if (settings.mode === 'always-forward-only') return true;
  const mutual = tls?.peerVerified === true && tls.peerCertificate !== undefined;
  if (settings.mode === 'sanitize' || !mutual) {
    headers.remove(H.xfcc);
    return true;
  }
  if (settings.mode === 'forward-only') return true;
  const element = utf8Bytes(xfccElement(tls, settings));
  const before = settings.mode === 'append-forward' ? headers.getAll(H.xfcc) : undefined;
  headers.set(H.xfcc, before ? `${before},${element}` : element);
  return element.length < LONG_ELEMENT || headers.writtenSize() <= MAX_EDITED_HEAD_BYTES;
}

/** Nearly all elements are shorter: then there is no need to count. */
const LONG_ELEMENT = 2048;

const hashes = new WeakMap<Buffer, string>();

/** SHA-256 of a certificate, computed once a connection. */
function certificateHash(der: Buffer): string {
  let hash = hashes.get(der);
  if (hash === undefined) {
    hash = createHash('sha256').update(der).digest('hex');
    hashes.set(der, hash);
  }
  return hash;
}

const pems = new WeakMap<Buffer, string>();

/** A certificate as PEM, percent-encoded once a connection. */
function encodedPem(der: Buffer): string {
  let text = pems.get(der);
  if (text === undefined) {
    const lines = der.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
    text = encodeURIComponent(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`);
    pems.set(der, text);
  }
  return text;
}

function xfccElement(tls: TlsDetails, settings: XfccSettings): string {
  const parts: string[] = [];
  for (const uri of tls.localUris.slice(0, 1)) parts.push(`By=${quote(uri)}`);
  const der = tls.peerCertificate!;
  parts.push(`Hash=${certificateHash(der)}`);
  if (settings.cert) parts.push(`Cert="${encodedPem(der)}"`);
  if (settings.chain) parts.push(`Chain="${[der, ...tls.peerChain].map(encodedPem).join('')}"`);
  // A name is escaped already (RFC 2253): once more, and a quote within would end the value.
  if (settings.subject) parts.push(`Subject="${tls.peerSubject}"`);
  if (settings.uri) parts.push(`URI=${quote(tls.peerUris[0] ?? '')}`);
  if (settings.dns) for (const name of tls.peerDns) parts.push(`DNS=${quote(name)}`);
  return parts.join(';');
}

function quote(value: string): string {
  return /[,;="]/.test(value) ? `"${value.replaceAll(/["\\]/g, '\\$&')}"` : value;
}
