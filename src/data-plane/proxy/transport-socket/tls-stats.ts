// The `ssl.` counters of a listener or cluster, as Envoy names them. Called by handshakes on both sides.
import type { Counter, StatsScope } from '../stats/stats.ts';
import type { PeerVerdict } from './tls-context.ts';
import type { TlsDetails } from './transport.ts';

export class TlsCounters {
  readonly handshake: Counter;
  readonly connectionError: Counter;
  readonly sessionReused: Counter;
  readonly failVerifyError: Counter;
  readonly failVerifyNoCert: Counter;
  readonly failVerifySan: Counter;
  readonly failVerifyHash: Counter;
  readonly noCertificate: Counter;
  readonly notReady: Counter;
  readonly contextUpdates: Counter;
  readonly #scope: StatsScope;
  /** By kind, then by value: `versions.TLSv1.3`. Their names come from fixed lists of OpenSSL. */
  readonly #seen = {
    versions: new Map<string, Counter>(),
    ciphers: new Map<string, Counter>(),
    curves: new Map<string, Counter>(),
    sigalgs: new Map<string, Counter>(),
  };

  constructor(scope: StatsScope, server: boolean) {
    this.#scope = scope;
    this.handshake = scope.counter('ssl.handshake');
    this.connectionError = scope.counter('ssl.connection_error');
    this.sessionReused = scope.counter('ssl.session_reused');
    this.failVerifyError = scope.counter('ssl.fail_verify_error');
    this.failVerifyNoCert = scope.counter('ssl.fail_verify_no_cert');
    this.failVerifySan = scope.counter('ssl.fail_verify_san');
    this.failVerifyHash = scope.counter('ssl.fail_verify_cert_hash');
    this.noCertificate = scope.counter('ssl.no_certificate');
    const factory = server ? 'server_ssl_socket_factory' : 'client_ssl_socket_factory';
    this.notReady = scope.counter(`${factory}.${server ? 'downstream' : 'upstream'}_context_secrets_not_ready`);
    this.contextUpdates = scope.counter(`${factory}.ssl_context_update_by_sds`);
  }

  established(details: TlsDetails): void {
    this.handshake.value += 1;
    if (details.resumed) this.sessionReused.value += 1;
    if (!details.peerCertificate) this.noCertificate.value += 1;
    this.#count('versions', details.version);
    this.#count('ciphers', details.cipher);
    this.#count('curves', details.group);
    this.#count('sigalgs', details.signature);
  }

  refused(verdict: PeerVerdict): void {
    // Envoy counts those apart from connection errors.
    if (verdict === 'fail-san') this.failVerifySan.value += 1;
    else if (verdict === 'fail-hash') this.failVerifyHash.value += 1;
    else if (verdict === 'fail-usage') this.connectionError.value += 1;
    else this.failVerifyError.value += 1;
  }

  #count(kind: 'versions' | 'ciphers' | 'curves' | 'sigalgs', value: string): void {
    if (value === '') return;
    const seen = this.#seen[kind];
    let counter = seen.get(value);
    if (!counter) {
      counter = this.#scope.counter(`ssl.${kind}.${value}`);
      seen.set(value, counter);
    }
    counter.value += 1;
  }
}
