// A server's handshake by OpenSSL's own calls; the counterpart of the TLSSocket one in ../tls-accept.ts, which calls it.
import { SocketTransport, tlsFailureText } from '../socket-transport.ts';
import type { Acceptance } from '../tls-accept.ts';
import type { ServerIdentity } from '../tls-context.ts';
import { type OpenSslContext, selectProtocol } from './context.ts';
import { detailsOf, evidenceOf } from './facts.ts';
import { openssl } from './library.ts';
import { SecureTransport } from './secure-transport.ts';

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
  const transport = new SecureTransport(new SocketTransport(socket, { local, remote, initial }), ssl, {
    prepare: () => selectProtocol(protocol),
    judge(pointer) {
      const evidence = evidenceOf(pointer);
      const { peer } = evidence;
      const judged = tls.context.verifyPeer && (peer !== undefined || tls.requireClientCertificate);
      const verdict = judged ? tls.context.judge(evidence) : 'ok';
      if (verdict !== 'ok') {
        counters.refused(verdict);
        return `TLS_error: certificate verify failed (${verdict})`;
      }
      if (peer && !evidence.resumed) tls.context.noteIssuers(peer, evidence.chain);
      const details = detailsOf(pointer, evidence, identity.certificate, judged);
      counters.established(details);
      return details;
    },
    done(opened, reason) {
      if (finished) return;
      finished = true;
      if (!opened && !reason.startsWith('TLS_error')) {
        counters.connectionError.value += 1;
        if (reason === 'CERTIFICATE_VERIFY_FAILED') counters.failVerifyError.value += 1;
        if (reason === 'PEER_DID_NOT_RETURN_A_CERTIFICATE') counters.failVerifyNoCert.value += 1;
      }
      acceptance.done(opened, /^[A-Z0-9_]+$/.test(reason) ? tlsFailureText(reason) : reason);
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
