// The judgement on a peer within OpenSSL's handshake, so that it gets the alert that says what was wrong. Called through the
// verify callback of context.ts; made by the handshakes of this folder.
import { MAX_CHAIN_CERTIFICATES } from '../../limits.ts';
import { type PeerCertificate, peerCertificate } from '../peer-certificate.ts';
import { coversHost } from '../san.ts';
import type { PeerVerdict, TlsContext } from '../tls-context.ts';
import { unnamedText, verifyFailedText } from '../tls-reasons.ts';
import { toX509 } from './context.ts';
import { derOf } from './facts.ts';
import { openssl, type Pointer } from './library.ts';

/** X509_V_ERR_EXCLUDED_VIOLATION: OpenSSL answers it with certificate_unknown, as Envoy does for names and hashes. */
const NOT_THIS_ONE = 48;

export class PeerCheck {
  peer: PeerCertificate | undefined;
  verdict: PeerVerdict = 'ok';
  /** Why it was refused, in Envoy's words. */
  reason = '';
  readonly #context: TlsContext;
  readonly #generation: number;
  readonly #name: string | undefined;

  /** Made with the connection, from the OpenSSL context of the moment. `name`: one that the certificate must have too. */
  constructor(context: TlsContext, name?: string) {
    this.#context = context;
    this.#generation = context.generation;
    this.#name = name;
  }

  named(peer: PeerCertificate): boolean {
    return this.#name === undefined || coversHost(peer.names, this.#name);
  }

  /** Why a peer without the name is refused. */
  unnamedText(peer: PeerCertificate): string {
    return unnamedText(peer, this.#name ?? '');
  }

  readonly run = (store: Pointer): boolean => {
    const lib = openssl();
    const leaf = lib.X509_STORE_CTX_get0_cert(store);
    if (leaf === 0) return false;
    const peer = peerCertificate(derOf(lib, leaf));
    this.peer = peer;
    let broken = false;
    const verdict = this.#context.judgeInHandshake(
      peer,
      this.#generation,
      () => {
        broken = lib.X509_verify_cert(store) !== 1;
        return broken ? undefined : chainOf(store);
      },
      () => lib.X509_STORE_CTX_set_error(store, NOT_THIS_ONE),
    );
    const unnamed = verdict === 'ok' && !this.named(peer);
    this.verdict = unnamed ? 'fail-san' : verdict;
    // The error of a chain that is accepted all the same stays: the session remembers it.
    if (this.verdict === 'ok') return true;
    const failed = broken && verdict === 'fail-chain';
    const code = lib.X509_STORE_CTX_get_error(store);
    const text = failed ? lib.X509_verify_cert_error_string(code) : undefined;
    this.reason = unnamed
      ? this.unnamedText(peer)
      : verifyFailedText(this.verdict, peer, text, failed ? lib.X509_STORE_CTX_get_error_depth(store) : 0);
    if (!failed) lib.X509_STORE_CTX_set_error(store, NOT_THIS_ONE);
    return false;
  };
}

/** The verified path after the leaf. */
function chainOf(store: Pointer): ReturnType<typeof toX509>[] {
  const lib = openssl();
  const stack = lib.X509_STORE_CTX_get0_chain(store);
  if (stack === 0) return [];
  const count = Math.min(lib.OPENSSL_sk_num(stack), MAX_CHAIN_CERTIFICATES);
  const out: ReturnType<typeof toX509>[] = [];
  for (let i = 1; i < count; i++) out.push(toX509(derOf(lib, lib.OPENSSL_sk_value(stack, i))));
  return out;
}
