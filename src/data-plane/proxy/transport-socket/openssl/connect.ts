// A client's handshake by OpenSSL's own calls; the counterpart of the TLSSocket one in ../dial.ts, which calls it.
import type { ClientSession } from '../client-sessions.ts';
import type { SocketTransport } from '../socket-transport.ts';
import type { TlsContext } from '../tls-context.ts';
import { tlsFailureText, verifyFailedText } from '../tls-reasons.ts';
import type { TlsCounters } from '../tls-stats.ts';
import type { Transport } from '../transport.ts';
import { type OpenSslContext, verifyWith } from './context.ts';
import { detailsOf, evidenceOf, sessionBytes } from './facts.ts';
import { addressOf, type OpenSsl, openssl, type Pointer, scratch, scratchAt } from './library.ts';
import { OPENSSL_REASON, SecureTransport } from './secure-transport.ts';
import { PeerCheck } from './verify.ts';

const CTRL_SERVER_NAME = 55;
/** Reads after the handshake within which a TLS 1.3 server's tickets are looked for. */
const TICKET_READS = 8;

export interface Connection {
  readonly raw: SocketTransport;
  readonly context: TlsContext;
  readonly counters: TlsCounters;
  readonly sni: string;
  readonly alpn: readonly string[];
  readonly host: { readonly name: string; readonly verify: boolean } | undefined;
  /** Key of the session cache, and what it held. */
  readonly key: string;
  readonly session: ClientSession | undefined;
  readonly done: (transport: Transport | undefined, reason: string) => void;
}

/** Returns the way to give up. */
export function connectDirect(connection: Connection, openContext: OpenSslContext): () => void {
  const { context, counters, host } = connection;
  const lib = openssl();
  const ssl = lib.SSL_new(openContext.pointer);
  lib.SSL_set_connect_state(ssl);
  if (connection.sni !== '') lib.SSL_ctrl_text(ssl, CTRL_SERVER_NAME, 0, connection.sni);
  if (connection.alpn.length > 0) {
    const list = Buffer.concat(
      connection.alpn.map((name) => Buffer.from(`${String.fromCharCode(name.length)}${name}`, 'latin1')),
    );
    lib.SSL_set_alpn_protos(ssl, list, list.length);
  }
  if (connection.session) offer(lib, ssl, connection.session.bytes);
  const { generation } = context;
  const check = new PeerCheck(context, host?.verify ? host.name : undefined);
  let finished = false;
  let collect: ((pointer: Pointer) => boolean) | undefined;
  const transport = new SecureTransport(connection.raw, ssl, {
    prepare: () => verifyWith(check.run),
    judge(pointer) {
      const evidence = evidenceOf(pointer, check.peer);
      const { peer } = evidence;
      const judged = evidence.resumed || !check.peer ? context.judge(evidence) : 'ok';
      if (judged !== 'ok') {
        counters.refused(judged);
        return verifyFailedText(judged, peer, evidence.chainText);
      }
      if (peer && !check.named(peer)) {
        counters.refused('fail-san');
        return check.unnamedText(peer);
      }
      const details = {
        ...detailsOf(pointer, evidence, context.certificates()[0], context.vouchedFor(evidence)),
        sni: connection.sni,
      };
      counters.established(details);
      if (context.sessions.enabled) {
        const until = evidence.resumed ? (connection.session?.until ?? 0) : context.verifiedUntil(peer);
        collect = collector(lib, context.role.sessionKeys, details.version === 'TLSv1.3', (bytes, once) => {
          if (context.generation === generation) context.sessions.put(connection.key, { bytes, peer, until, once });
        });
        collect(pointer);
      }
      return details;
    },
    collect: (pointer) => collect?.(pointer) ?? false,
    done(opened, reason) {
      if (finished) return;
      finished = true;
      if (check.verdict !== 'ok') counters.refused(check.verdict);
      else if (!opened && !reason.startsWith('TLS_error')) counters.connectionError.value += 1;
      connection.done(opened, check.reason || (OPENSSL_REASON.test(reason) ? tlsFailureText(reason) : reason));
    },
  });
  transport.begin(true);
  return () => {
    finished = true;
    transport.destroy();
  };
}

function offer(lib: OpenSsl, ssl: Pointer, bytes: Buffer): void {
  scratch.writeBigUInt64LE(BigInt(addressOf(bytes)));
  const session = lib.d2i_SSL_SESSION(0, scratchAt(), bytes.length);
  if (session === 0) return;
  lib.SSL_set_session(ssl, session);
  lib.SSL_SESSION_free(session);
}

/** Looks for tickets after reads: each makes a new session. */
function collector(
  lib: OpenSsl,
  wanted: number,
  once: boolean,
  keep: (bytes: Buffer, once: boolean) => void,
): (ssl: Pointer) => boolean {
  let last: Pointer = 0;
  let reads = 0;
  let kept = 0;
  return (ssl) => {
    reads += 1;
    const session = lib.SSL_get_session(ssl);
    if (session !== 0 && session !== last && lib.SSL_SESSION_is_resumable(session) === 1) {
      last = session;
      kept += 1;
      keep(sessionBytes(lib, session), once);
    }
    return kept < wanted && reads < TICKET_READS && once;
  };
}
