// The server side of a TLS handshake on an accepted socket. Called by the listener after a filter chain was chosen.
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import type { StatsScope } from '../stats/stats.ts';
import { altNamesOf } from './san.ts';
import { failureOf } from './socket-transport.ts';
import type { TlsContext } from './tls-context.ts';
import type { TlsDetails } from './transport.ts';

export interface DownstreamTls {
  readonly context: TlsContext;
  readonly requireClientCertificate: boolean;
}

export interface AcceptedTls {
  readonly socket: TLSSocket;
  readonly details: TlsDetails;
}

/** The counters of a listener's TLS, made once. */
export function tlsCounters(scope: StatsScope) {
  return {
    handshake: scope.counter('ssl.handshake'),
    connectionError: scope.counter('ssl.connection_error'),
    failVerifyError: scope.counter('ssl.fail_verify_error'),
    failVerifyNoCert: scope.counter('ssl.fail_verify_no_cert'),
    failVerifySan: scope.counter('ssl.fail_verify_san'),
    failVerifyHash: scope.counter('ssl.fail_verify_cert_hash'),
    noCertificate: scope.counter('ssl.no_certificate'),
    notReady: scope.counter('downstream_context_secrets_not_ready'),
  };
}
export type TlsCounters = ReturnType<typeof tlsCounters>;

interface HandshakeHandle {
  verifyError(): (Error & { code?: string }) | null | undefined;
}

/** What an inspector saw in the ClientHello. */
export interface ClientHelloInfo {
  readonly serverName: string;
  readonly alpn: readonly string[];
}

/**
 * Runs the handshake. `initial` are bytes already read from `socket`. Calls `done` once: with the connection, or with the
 * reason; the socket is destroyed in that case. Returns the way to give up.
 */
export function acceptTls(
  socket: Socket,
  initial: Buffer | undefined,
  tls: DownstreamTls,
  hello: ClientHelloInfo,
  counters: TlsCounters,
  done: (accepted: AcceptedTls | undefined, reason: string) => void,
): () => void {
  const secureContext = tls.context.secureContext();
  if (!secureContext) {
    counters.notReady.value += 1;
    socket.destroy();
    done(undefined, 'TLS_error:Secret is not supplied by SDS');
    return () => {};
  }
  const wrapped = wrap(socket, initial, tls, hello, secureContext);
  let finished = false;
  const finish = (accepted: AcceptedTls | undefined, reason: string): void => {
    if (finished) return;
    finished = true;
    wrapped.removeAllListeners('close');
    if (!accepted) wrapped.destroy();
    done(accepted, reason);
  };
  const failed = (error: NodeJS.ErrnoException): void => {
    if (finished) return;
    counters.connectionError.value += 1;
    if (error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') counters.failVerifyNoCert.value += 1;
    finish(undefined, failureOf(error).reason);
  };
  wrapped.on('error', failed);
  wrapped.on('_tlsError', failed);
  wrapped.once('close', () => finish(undefined, 'connection closed during the TLS handshake'));
  wrapped.once('secure', () => {
    const verdict = judge(wrapped, tls, counters);
    if (typeof verdict === 'string') return finish(undefined, verdict);
    counters.handshake.value += 1;
    if (!verdict.peerCertificate) counters.noCertificate.value += 1;
    finish({ socket: wrapped, details: verdict }, '');
  });
  return () => finish(undefined, 'TLS handshake timeout');
}

/** Protocols that configurations name and this proxy does not speak: neither offered nor agreed to. */
export const UNSPOKEN: ReadonlySet<string> = new Set(['h2', 'istio-peer-exchange']);

function wrap(
  socket: Socket,
  initial: Buffer | undefined,
  tls: DownstreamTls,
  hello: ClientHelloInfo,
  secureContext: SecureContext,
): TLSSocket {
  // Bytes put back are given to OpenSSL first; the TLS stream stays on the native handle.
  if (initial && initial.length > 0) socket.unshift(initial);
  // Node answers "no common protocol" with an alert, Envoy goes on without one: offer only when there is a common one.
  const common = tls.context.alpn.find((name) => hello.alpn.includes(name) && !UNSPOKEN.has(name));
  return new TLSSocket(socket, {
    isServer: true,
    secureContext,
    requestCert: tls.context.verifyPeer || tls.requireClientCertificate,
    rejectUnauthorized: tls.requireClientCertificate,
    ...(common === undefined ? {} : { ALPNProtocols: [common] }),
  });
}

function judge(socket: TLSSocket, tls: DownstreamTls, counters: TlsCounters): TlsDetails | string {
  const certificate = socket.getPeerX509Certificate();
  const names = certificate ? altNamesOf(certificate) : [];
  const mustVerify = certificate !== undefined || tls.requireClientCertificate;
  if (mustVerify && tls.context.verifyPeer) {
    const handle = (socket as unknown as { _handle: HandshakeHandle })._handle;
    const chainError = handle.verifyError();
    const code = chainError ? (chainError.code ?? chainError.message) : undefined;
    const verdict = tls.context.judge(code, names, certificate?.raw);
    if (verdict !== 'ok') {
      if (verdict === 'fail-san') counters.failVerifySan.value += 1;
      else if (verdict === 'fail-hash') counters.failVerifyHash.value += 1;
      else counters.failVerifyError.value += 1;
      counters.connectionError.value += 1;
      return `TLS_error: certificate verify failed (${verdict}${code ? `, ${code}` : ''})`;
    }
  }
  return detailsOf(socket, tls.context, names, certificate !== undefined && tls.context.verifyPeer);
}

/** Facts of an established TLS connection. */
export function detailsOf(
  socket: TLSSocket,
  context: TlsContext,
  names: ReturnType<typeof altNamesOf>,
  peerVerified: boolean,
): TlsDetails {
  const certificate = socket.getPeerX509Certificate();
  const servername = (socket as unknown as { servername?: string | false }).servername;
  return {
    version: socket.getProtocol() ?? '',
    cipher: socket.getCipher()?.standardName ?? '',
    alpn: socket.alpnProtocol || '',
    sni: typeof servername === 'string' ? servername : '',
    peerVerified,
    peerUris: names.flatMap((name) => (name.kind === 'uri' ? [name.value] : [])),
    peerDns: names.flatMap((name) => (name.kind === 'dns' ? [name.value] : [])),
    peerSubject: (certificate?.subject ?? '').split('\n').reverse().join(','),
    peerCertificate: certificate?.raw,
    localUris: context.localUris(),
  };
}
