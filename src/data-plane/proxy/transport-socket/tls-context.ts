// One TLS configuration (DownstreamTlsContext or UpstreamTlsContext) with live secrets. Rotation makes a new
// SecureContext for new connections; open connections keep theirs, sessions made before are not resumed. Built by
// transport-socket/factory.ts.
import { hash, type X509Certificate } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { readCertificate } from '../../../base/x509/certificate.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { MAX_CHAIN_CERTIFICATES, MAX_EARLY_ENDS, TLS_SESSION_TIMEOUT_S } from '../limits.ts';
import { choosePair, type HelloFacts } from './certificate-choice.ts';
import { pathError, readChain } from './chain.ts';
import { ClientSessions } from './client-sessions.ts';
import { nodeContext } from './node-context.ts';
import { createContext, type OpenSslContext } from './openssl/context.ts';
import type { PeerCertificate } from './peer-certificate.ts';
import {
  type CertificateMaterial,
  certificateMaterial,
  constant,
  type DataReader,
  type Live,
  type TicketKeys,
  type TrustMaterial,
} from './secrets.ts';
import { readTlsParams, type TlsParams } from './tls-params.ts';
import { trustOf } from './trust-source.ts';

/** Where named secrets come from: `sds` is the ConfigSource as serialized by the caller. */
export interface SecretProvider {
  certificate(config: SdsRef): Live<CertificateMaterial>;
  trust(config: SdsRef): Live<TrustMaterial>;
  ticketKeys(config: SdsRef): Live<TicketKeys>;
}

/** The secrets of one user of several (a cluster, a filter chain): followed until it lets go. */
export interface SecretLease extends SecretProvider {
  release(): void;
}

/** All secrets of a proxy; xds/sds.ts. */
export interface SecretStore {
  lease(): SecretLease;
}

export type SdsRef = NonNullable<CommonTlsContext['tlsCertificateSdsSecretConfigs'][number]>;

export interface TlsBuildContext {
  readonly secrets: SecretProvider;
  readonly reader: DataReader;
  readonly clock: Clock;
  /** Who does TLS: Node's TLSSocket, or OpenSSL called directly. */
  readonly tlsTransport: TlsTransport;
}

export type TlsTransport = 'tlssocket' | 'openssl';

/** What the messages around CommonTlsContext add. */
export interface TlsRole {
  readonly server: boolean;
  readonly requireClientCertificate: boolean;
  /** Server: sealed tickets may be given out and taken back. */
  readonly tickets: boolean;
  readonly ticketKeys: Live<TicketKeys> | undefined;
  /** Server: sessions may be kept here rather than sealed into tickets, where nobody else has to read them. */
  readonly sessionStore: boolean;
  /** Server: s. */
  readonly sessionTimeoutS: number;
  /** Client: max_session_keys. */
  readonly sessionKeys: number;
  /** Client: an RSA certificate whose key usage forbids signatures is refused. */
  readonly enforceRsaKeyUsage: boolean;
}

/** The outcome of our own checks after OpenSSL's. `fail-san` and `fail-hash` are counted apart. */
export type PeerVerdict = 'ok' | 'fail-chain' | 'fail-san' | 'fail-hash' | 'fail-usage';

/** What a handshake found out about the other side. */
export interface PeerEvidence {
  /** OpenSSL's code for the chain, undefined when it verified. */
  readonly chainError: string | undefined;
  /** OpenSSL's words for it. */
  readonly chainText: string | undefined;
  readonly peer: PeerCertificate | undefined;
  /** The certificates that came with the peer's, in order; not asked for when the session was resumed. */
  chain(): readonly X509Certificate[];
  readonly resumed: boolean;
  /** `chainError` takes the revocation lists into account, whatever is asked of them. */
  readonly lists: boolean;
}

/** Everything an OpenSSL context is made of. */
export interface ContextSpec {
  readonly params: TlsParams;
  readonly role: TlsRole;
  readonly certificate: CertificateMaterial | undefined;
  readonly trust: TrustMaterial | undefined;
  readonly verifyPeer: boolean;
  readonly tickets: boolean;
  readonly ticketKey: Buffer | undefined;
  readonly sessionContext: string;
  readonly alpn: boolean;
}

export type SocketContext =
  | { readonly kind: 'tlssocket'; readonly secure: SecureContext }
  | { readonly kind: 'openssl'; readonly direct: OpenSslContext };

/** One certificate's OpenSSL context of the current secrets. */
export interface ServerIdentity {
  readonly context: SocketContext;
  readonly certificate: CertificateMaterial | undefined;
}

export class TlsContext {
  readonly alpn: readonly string[];
  readonly verifyPeer: boolean;
  readonly params: TlsParams;
  readonly role: TlsRole;
  readonly sessions: ClientSessions;
  /** Grows with every change of a secret. */
  generation = 0;
  readonly #clock: Clock;
  readonly #transport: TlsTransport;
  readonly #certificates: readonly Live<CertificateMaterial>[];
  readonly #trust: Live<TrustMaterial> | undefined;
  readonly #made = new Map<CertificateMaterial | undefined, ServerIdentity>();
  /** Server: when the sessions of peers end whose issuers expire before they do, by fingerprint. */
  readonly #earlyEnds = new Map<string, number>();
  #noted = new WeakSet<PeerCertificate>();
  /** Peers whose chain OpenSSL found good, and until when that holds. */
  #verified = new WeakMap<PeerCertificate, number>();
  readonly #stops: (() => void)[] = [];
  #resumable = true;
  #disposed = false;

  constructor(message: CommonTlsContext, context: TlsBuildContext, path: string, role: TlsRole) {
    only(CommonTlsContextSchema, message, path, [
      'tls_params',
      'tls_certificates',
      'tls_certificate_sds_secret_configs',
      'validation_context',
      'validation_context_sds_secret_config',
      'combined_validation_context',
      'alpn_protocols',
    ]);
    this.#clock = context.clock;
    this.#transport = context.tlsTransport;
    this.role = role;
    this.alpn = message.alpnProtocols;
    this.params = readTlsParams(message.tlsParams, join(path, 'tls_params'), role.server);
    this.sessions = new ClientSessions(role.sessionKeys);
    this.#certificates = [
      ...message.tlsCertificates.map((entry, i) => {
        const at = join(path, `tls_certificates[${i}]`);
        return constant(at, certificateMaterial(entry, context.reader, at));
      }),
      ...message.tlsCertificateSdsSecretConfigs.map((ref) => context.secrets.certificate(ref)),
    ];
    if (role.server && this.#certificates.length === 0)
      throw new ConfigError(path, 'No TLS certificates found for server context');
    if (!role.server && this.#certificates.length > 1)
      throw new ConfigError(path, 'Multiple TLS certificates are not supported for client contexts');
    this.#trust = trustOf(message, context, path);
    this.verifyPeer = this.#trust !== undefined;
    for (const secret of this.#all()) this.#stops.push(secret.listen(() => this.#changed()));
  }

  /** Names of secrets that are still awaited. */
  awaited(): string[] {
    return this.#all().flatMap((secret) => (secret.ready() ? [] : [secret.name]));
  }

  #all(): Live<unknown>[] {
    const { ticketKeys } = this.role;
    return [...this.#certificates, ...(this.#trust ? [this.#trust] : []), ...(ticketKeys ? [ticketKeys] : [])];
  }

  #changed(): void {
    this.generation += 1;
    this.#forgetContexts();
    this.#earlyEnds.clear();
    this.#noted = new WeakSet();
    this.#verified = new WeakMap();
    this.sessions.clear();
    this.#resumable = true;
  }

  #forgetContexts(): void {
    for (const { context } of this.#made.values()) if (context.kind === 'openssl') context.direct.dispose();
    this.#made.clear();
  }

  /** Calls back at every change of a secret. */
  listen(changed: () => void): () => void {
    const stops = this.#all().map((secret) => secret.listen(changed));
    return () => {
      for (const stop of stops) stop();
    };
  }

  dispose(): void {
    this.#disposed = true;
    for (const stop of this.#stops) stop();
    this.#forgetContexts();
    this.sessions.clear();
  }

  /** False while a secret is missing. */
  get usable(): boolean {
    return this.#all().every((secret) => secret.current() !== undefined);
  }

  /** The client's OpenSSL context. Undefined while a secret is missing. */
  clientContext(): SocketContext | undefined {
    return this.usable ? this.#identity(this.certificates()[0])?.context : undefined;
  }

  /** The server's, for the certificate that fits the client best. */
  identityFor(hello: HelloFacts): ServerIdentity | undefined {
    if (!this.usable) return undefined;
    const all = this.certificates();
    return this.#identity(all.length === 1 ? all[0] : choosePair(all, hello));
  }

  #identity(certificate: CertificateMaterial | undefined): ServerIdentity {
    // A session must not outlive our own certificate or the lists it was checked against.
    if (this.#resumable && this.#clock.now() >= this.#resumableUntil()) {
      this.#resumable = false;
      this.#forgetContexts();
      this.sessions.clear();
    }
    let made = this.#made.get(certificate);
    if (!made) {
      made = { context: this.#create(certificate), certificate };
      this.#made.set(certificate, made);
      // A connection that began before may come to its handshake now; OpenSSL keeps for it what it needs.
      if (this.#disposed) queueMicrotask(() => this.#forgetContexts());
    }
    return made;
  }

  #resumableUntil(): number {
    let until = Number.POSITIVE_INFINITY;
    for (const certificate of this.certificates()) until = Math.min(until, certificate.notAfter);
    for (const crl of this.trust()?.crls ?? []) until = Math.min(until, crl.nextUpdate);
    return until;
  }

  #create(certificate: CertificateMaterial | undefined): SocketContext {
    const { params, role, verifyPeer } = this;
    const trust = this.trust();
    const spec: ContextSpec = {
      params,
      role,
      certificate,
      trust,
      verifyPeer,
      tickets: role.tickets && this.#resumable,
      ticketKey: role.ticketKeys?.current()?.keys[0],
      sessionContext: this.#sessionContext(certificate, trust),
      alpn: this.alpn.length > 0,
    };
    return this.#transport === 'openssl'
      ? { kind: 'openssl', direct: createContext(spec) }
      : { kind: 'tlssocket', secure: nodeContext(spec) };
  }

  /** Binds sessions to the identity shown and to every rule the peer was accepted under. */
  #sessionContext(certificate: CertificateMaterial | undefined, trust: TrustMaterial | undefined): string {
    return hash('sha256', `${certificate?.chainPem ?? ''}\0${trust?.print ?? ''}`, 'hex').slice(0, 32);
  }

  certificates(): readonly CertificateMaterial[] {
    return this.#certificates.flatMap((live) => live.current() ?? []);
  }

  trust(): TrustMaterial | undefined {
    return this.#trust?.current();
  }

  judge(evidence: PeerEvidence): PeerVerdict {
    const trust = this.trust();
    if (!trust) return this.verifyPeer ? 'fail-chain' : 'ok';
    const { peer } = evidence;
    if (!peer) return 'fail-chain';
    const now = this.#clock.now();
    if (trust.caPem !== '' && !trust.acceptUntrusted && !this.#chainHolds(evidence, peer, trust, now))
      return 'fail-chain';
    return this.#facts(peer, trust);
  }

  /** Of a peer that was accepted: a rule without authority or hash, or ACCEPT_UNTRUSTED, lets in whom nobody vouches for. */
  vouchedFor(evidence: PeerEvidence): boolean {
    const trust = this.trust();
    const { peer } = evidence;
    if (!trust || !peer) return false;
    if (trust.caPem === '') return trust.hashes.length + trust.spkiHashes.length > 0;
    if (!trust.acceptUntrusted) return true;
    if (evidence.chainError !== undefined) return false;
    return (evidence.lists && !evidence.resumed) || this.#chainHolds(evidence, peer, trust, this.#clock.now());
  }

  /** Everything but the chain. */
  #facts(peer: PeerCertificate, trust: TrustMaterial): PeerVerdict {
    if (this.role.enforceRsaKeyUsage && peer.rsaCannotSign) return 'fail-usage';
    if (!trust.sanTest(peer.names)) return 'fail-san';
    const { hashes, spkiHashes } = trust;
    if (hashes.length + spkiHashes.length === 0) return 'ok';
    return hashes.includes(peer.fingerprint256) || spkiHashes.includes(peer.spkiHash) ? 'ok' : 'fail-hash';
  }

  /**
   * Inside OpenSSL's handshake: `runOpenSsl` judges the chain, unless this very certificate was found good under the rules of
   * the moment. `doubt` notes that the peer is let in although its chain does not hold, which `runOpenSsl` did not find.
   * `generation`: of the context the handshake runs in. What an older one finds out holds for this connection alone, or a peer
   * could wait with its certificate until it is revoked, and be known as good from then on.
   */
  judgeInHandshake(
    peer: PeerCertificate,
    generation: number,
    runOpenSsl: () => readonly X509Certificate[] | undefined,
    doubt: () => void,
  ): PeerVerdict {
    const trust = this.trust();
    if (!trust) return 'fail-chain';
    const now = this.#clock.now();
    if (trust.caPem !== '') {
      const current = generation === this.generation;
      const known = current ? this.#verified.get(peer) : undefined;
      if (known === undefined || now >= known || now < peer.notBefore) {
        const chain = runOpenSsl();
        if (!chain || (trust.allowExpired && !listsFresh(trust, now))) {
          if (!trust.acceptUntrusted) return 'fail-chain';
          if (chain) doubt();
        } else if (current) {
          this.#verified.set(peer, trust.allowExpired ? 0 : this.sessionEnd(peer, chain));
          if (this.role.server) this.noteIssuers(peer, () => chain);
        }
      }
    }
    return this.#facts(peer, trust);
  }

  /** How long the chain of a peer holds that was judged in a handshake, ms since the epoch. */
  verifiedUntil(peer: PeerCertificate | undefined): number {
    const known = peer && this.#verified.get(peer);
    return known ?? this.sessionEnd(peer, []);
  }

  #chainHolds(evidence: PeerEvidence, peer: PeerCertificate, trust: TrustMaterial, now: number): boolean {
    const { chainError } = evidence;
    if (evidence.resumed) {
      // Every rule was checked when the session was made; only time has passed since.
      if (chainError !== undefined && !(TIME_ERRORS.has(chainError) && trust.allowExpired)) return false;
      if (trust.allowExpired) return true;
      return now <= peer.notAfter && now <= (this.#earlyEnds.get(peer.fingerprint256) ?? Number.POSITIVE_INFINITY);
    }
    const expired = TIME_ERRORS.has(chainError ?? '') && trust.allowExpired;
    if (chainError !== undefined && !expired) return false;
    const chain = evidence.chain();
    if (depthOf(chain, trust) > trust.maxDepth) return false;
    if (!expired && !(trust.leafCrlOnly && trust.crls.length > 0)) return true;
    return pathHolds(peer, chain, trust, now);
  }

  /** Client: when a session with this peer must end at the latest, ms since the epoch. */
  sessionEnd(peer: PeerCertificate | undefined, chain: readonly X509Certificate[]): number {
    let until = Math.min(this.#resumableUntil(), this.#clock.now() + TLS_SESSION_TIMEOUT_S * 1000);
    if (peer) until = Math.min(until, peer.notAfter);
    for (const issuer of chain) until = Math.min(until, Date.parse(issuer.validTo));
    return until;
  }

  /** Server: remembers a peer whose issuer expires before it does. */
  noteIssuers(peer: PeerCertificate, chain: () => readonly X509Certificate[]): void {
    if (this.#noted.has(peer)) return;
    this.#noted.add(peer);
    let end = Number.POSITIVE_INFINITY;
    for (const issuer of chain()) end = Math.min(end, Date.parse(issuer.validTo));
    if (end >= peer.notAfter) return;
    this.#earlyEnds.set(peer.fingerprint256, end);
    if (this.#earlyEnds.size <= MAX_EARLY_ENDS || !this.#resumable) return;
    // Too many to remember: nobody resumes until the secrets change.
    this.#resumable = false;
    this.#forgetContexts();
    this.#earlyEnds.clear();
  }
}

/** What allow_expired_certificate forgives. */
const TIME_ERRORS: ReadonlySet<string> = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID']);

/** Where OpenSSL was told to overlook time, it overlooks that of the lists too. */
function listsFresh(trust: TrustMaterial, now: number): boolean {
  return trust.crls.every((crl) => crl.thisUpdate <= now && now <= crl.nextUpdate);
}

/** Certificates between the peer's and the first trusted one. */
function depthOf(chain: readonly X509Certificate[], trust: TrustMaterial): number {
  const trusted = chain.findIndex((certificate) => trust.roots.some((root) => root.raw.equals(certificate.raw)));
  return trusted < 0 ? chain.length : trusted;
}

function pathHolds(
  peer: PeerCertificate,
  chain: readonly X509Certificate[],
  trust: TrustMaterial,
  now: number,
): boolean {
  try {
    const rules = {
      roots: readChain(trust.roots.map((root) => root.raw)),
      crls: trust.crls,
      leafCrlOnly: trust.leafCrlOnly,
      allowExpired: trust.allowExpired,
      now,
    };
    const presented = readChain(chain.map((certificate) => certificate.raw).slice(0, MAX_CHAIN_CERTIFICATES));
    return pathError(readCertificate(peer.der), presented, rules) === undefined;
  } catch {
    return false;
  }
}
