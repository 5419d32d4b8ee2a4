// The server side of a TLS handshake on an accepted socket. Called by the listener after a filter chain was chosen.
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import type { SocketAddr } from '../config/address.ts';
import { acceptDirect } from './openssl/accept.ts';
import { withPeerPath } from './peer-path.ts';
import { failureOf, SocketTransport } from './socket-transport.ts';
import type { TlsContext } from './tls-context.ts';
import { detailsOf, evidenceOf } from './tls-details.ts';
import { verifyFailedText } from './tls-reasons.ts';
import type { TlsCounters } from './tls-stats.ts';
import type { Transport } from './transport.ts';

export interface DownstreamTls {
  readonly context: TlsContext;
  readonly requireClientCertificate: boolean;
}

/** A server's handshake on an accepted socket that is paused. */
export interface Acceptance {
  readonly socket: Socket;
  /** Bytes already read from it. */
  readonly initial: Buffer | undefined;
  readonly tls: DownstreamTls;
  readonly hello: ClientHelloInfo;
  readonly counters: TlsCounters;
  readonly local: SocketAddr;
  readonly remote: SocketAddr;
  /** The chain exchanges metadata with peers that agree on Istio's ALPN value for it. */
  readonly exchange?: boolean;
  /** Somebody wants to know what the client sent beside its certificate. */
  readonly peerChain?: boolean;
  /** Called once: with the connection, or with the reason; the socket is gone then. */
  readonly done: (transport: Transport | undefined, reason: string) => void;
}

/** What an inspector saw in the ClientHello. */
export interface ClientHelloInfo {
  readonly serverName: string;
  readonly alpn: readonly string[];
  /** The client can verify ECDSA signatures. */
  readonly ecdsa: boolean;
}

/** Runs the handshake. Returns the way to give up. */
export function acceptTls(acceptance: Acceptance): () => void {
  const { socket, tls, hello, counters, done } = acceptance;
  const identity = tls.context.identityFor(hello);
  if (!identity) {
    counters.notReady.value += 1;
    socket.destroy();
    done(undefined, 'TLS_error:Secret is not supplied by SDS');
    return () => {};
  }
  if (socket.readableEnded) {
    // Who will say no more cannot end a handshake.
    counters.connectionError.value += 1;
    socket.destroy();
    done(undefined, CLOSED_EARLY);
    return () => {};
  }
  // Node answers "no common protocol" with an alert, Envoy goes on without one: offer only when there is a common one.
  const protocol = tls.context.alpn.find(
    (name) => hello.alpn.includes(name) && (acceptance.exchange || !UNSPOKEN.has(name)),
  );
  if (identity.context.kind === 'openssl') return acceptDirect(acceptance, identity, identity.context.direct, protocol);
  const wrapped = wrap(socket, acceptance.initial, tls, protocol, identity.context.secure);
  let finished = false;
  const finish = (transport: Transport | undefined, reason: string): void => {
    if (finished) return;
    finished = true;
    wrapped.removeListener('close', gone);
    if (!transport) wrapped.destroy();
    done(transport, reason);
  };
  const gone = (): void => finish(undefined, CLOSED_EARLY);
  const failed = (error: NodeJS.ErrnoException): void => {
    if (finished) {
      // Without a tls.Server Node only tells of what goes wrong later, and leaves the connection open.
      wrapped.destroy(error);
      return;
    }
    if (error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE') counters.failVerifyNoCert.value += 1;
    else counters.connectionError.value += 1;
    finish(undefined, failureOf(error).reason);
  };
  wrapped.on('error', failed);
  wrapped.on('_tlsError', failed);
  wrapped.once('close', gone);
  wrapped.once('secure', () => {
    const evidence = evidenceOf(wrapped);
    const { peer } = evidence;
    const shown = evidence.x509 !== undefined;
    const judged = tls.context.verifyPeer && (shown || tls.requireClientCertificate);
    const verdict = judged ? tls.context.judge(evidence) : 'ok';
    if (verdict !== 'ok') {
      counters.refused(verdict);
      return finish(undefined, verifyFailedText(verdict, peer, evidence.chainText));
    }
    if (peer && !evidence.resumed) tls.context.noteIssuers(peer, evidence.chain);
    const verified = judged && tls.context.vouchedFor(evidence);
    const details = withPeerPath(detailsOf(wrapped, evidence, identity.certificate, verified), {
      context: tls.context,
      evidence,
      chain: acceptance.peerChain,
      sent: () => evidence.chain().map(({ raw }) => raw),
    });
    counters.established(details);
    const { local, remote } = acceptance;
    finish(new SocketTransport(wrapped, { local, remote, tls: details }), '');
  });
  return () => finish(undefined, 'TLS handshake timeout');
}

const CLOSED_EARLY = 'connection closed during the TLS handshake';

/** Protocols that configurations name and only some connections speak: else neither offered nor agreed to. */
export const UNSPOKEN: ReadonlySet<string> = new Set(['istio-peer-exchange']);

function wrap(
  socket: Socket,
  initial: Buffer | undefined,
  tls: DownstreamTls,
  protocol: string | undefined,
  secureContext: SecureContext,
): TLSSocket {
  // Bytes put back are given to OpenSSL first; the TLS stream stays on the native handle.
  if (initial && initial.length > 0) socket.unshift(initial);
  return new TLSSocket(socket, {
    isServer: true,
    secureContext,
    requestCert: tls.context.verifyPeer || tls.requireClientCertificate,
    rejectUnauthorized: tls.requireClientCertificate,
    ...(protocol === undefined ? {} : { ALPNProtocols: [protocol] }),
  });
}
