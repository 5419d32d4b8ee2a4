// A server's handshake by OpenSSL's own calls; the counterpart of the TLSSocket one in ../tls-accept.ts, which calls it.
import { withPeerPath } from '../peer-path.ts';
import { SocketTransport } from '../socket-transport.ts';
import type { Acceptance } from '../tls-accept.ts';
import type { ServerIdentity } from '../tls-context.ts';
import { tlsFailureText, verifyFailedText } from '../tls-reasons.ts';
import { type OpenSslContext, selectProtocol, verifyWith } from './context.ts';
import { detailsOf, evidenceOf, sentChain } from './facts.ts';
import { openssl } from './library.ts';
import { OPENSSL_REASON, SecureTransport } from './secure-transport.ts';
import { PeerCheck } from './verify.ts';

export function acceptDirect(
  acceptance: Acceptance,
  identity: ServerIdentity,
  context: OpenSslContext,
  protocol: string | undefined,
): () => void {
  const { tls, counters, socket, initial, local, remote } = acceptance;
  const ssl = openssl().SSL_new(context.pointer);
  openssl().SSL_set_accept_state(ssl);
  let finished = false;
  const { context: rules } = tls;
  const check = new PeerCheck(rules);
  const transport = new SecureTransport(new SocketTransport(socket, { local, remote, initial }), ssl, {
    prepare() {
      selectProtocol(protocol);
      verifyWith(check.run);
    },
    judge(pointer) {
      const evidence = evidenceOf(pointer, check.peer);
      const { peer } = evidence;
      const judged = rules.verifyPeer && (peer !== undefined || tls.requireClientCertificate);
      // A full handshake was judged while it ran.
      const verdict = judged && (evidence.resumed || !check.peer) ? rules.judge(evidence) : 'ok';
      if (verdict !== 'ok') {
        counters.refused(verdict);
        return verifyFailedText(verdict, peer, evidence.chainText);
      }
      const verified = judged && rules.vouchedFor(evidence);
      const details = withPeerPath(detailsOf(pointer, evidence, identity.certificate, verified), {
        context: rules,
        evidence,
        chain: acceptance.peerChain,
        sent: () => sentChain(pointer),
      });
      counters.established(details);
      return details;
    },
    done(opened, reason) {
      if (finished) return;
      finished = true;
      if (check.verdict !== 'ok') counters.refused(check.verdict);
      else if (reason === 'PEER_DID_NOT_RETURN_A_CERTIFICATE') counters.failVerifyNoCert.value += 1;
      else if (!opened && !reason.startsWith('TLS_error')) counters.connectionError.value += 1;
      acceptance.done(opened, check.reason || (OPENSSL_REASON.test(reason) ? tlsFailureText(reason) : reason));
    },
  });
  transport.begin(false);
  return () => {
    if (finished) return;
    finished = true;
    transport.destroy();
    acceptance.done(undefined, 'TLS handshake timeout');
  };
}
