// An SSL_CTX for one certificate and the rules of the moment. OpenSSL counts references: connections keep theirs when the
// secrets rotate. Called by tls-context.ts; used by handshakes of this folder.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { SecureVersion } from 'node:tls';
import { readPem } from '../../../../base/x509/pem.ts';
import { MAX_PEER_CERTIFICATE_BYTES, MAX_SERVER_SESSIONS } from '../../limits.ts';
import type { CertificateMaterial, TrustMaterial } from '../secrets.ts';
import type { ContextSpec } from '../tls-context.ts';
import { NO_CERTIFICATE_COMPRESSION } from '../tls-params.ts';
import { addressOf, ffi, type OpenSsl, openssl, type Pointer, scratch, scratchAt, takeReason } from './library.ts';

const CTRL = {
  mode: 33,
  sessionCacheSize: 42,
  sessionCache: 44,
  peerCertificates: 51,
  ticketKeys: 59,
  chainCertificate: 89,
  groups: 92,
  sigalgs: 98,
  minVersion: 123,
  maxVersion: 124,
} as const;
const VERSION: Readonly<Record<SecureVersion, number>> = {
  TLSv1: 0x301,
  'TLSv1.1': 0x302,
  'TLSv1.2': 0x303,
  'TLSv1.3': 0x304,
};
const OP = { noTicket: 2 ** 14, noCompression: 2 ** 17, serverPreference: 2 ** 22, noRenegotiation: 2 ** 30 } as const;
/** The buffers of an idle connection go back; a write may be repeated from another address. */
const MODE_RELEASE_BUFFERS = 0x10;
const MODE_AUTO_RETRY = 0x4;
const MODE_MOVING_BUFFER = 0x2;
/** Only the chain that is configured is sent, not what could be found in the trust bundle by a search at each handshake. */
const MODE_NO_AUTO_CHAIN = 0x8;
const CACHE = { off: 0, server: 2 } as const;
const VERIFY = { none: 0, peer: 1, failIfNoPeerCert: 2 } as const;
const FLAG = { crl: 0x4, crlAll: 0x8, partialChain: 0x80000, noTime: 0x200000 } as const;

export class OpenSslContext {
  readonly pointer: Pointer;
  #freed = false;

  constructor(pointer: Pointer) {
    this.pointer = pointer;
  }

  /** Connections that were made with it go on. */
  dispose(): void {
    if (this.#freed) return;
    this.#freed = true;
    const ssl = openssl();
    // Nobody takes them up again, and connections may live long.
    ssl.SSL_CTX_flush_sessions(this.pointer, 0);
    ssl.SSL_CTX_free(this.pointer);
  }
}

/** Throws when OpenSSL refuses a part of it. */
export function createContext(spec: ContextSpec): OpenSslContext {
  const ssl = openssl();
  ssl.ERR_clear_error();
  const context = new OpenSslContext(ssl.SSL_CTX_new(ssl.TLS_method()));
  try {
    fill(ssl, context.pointer, spec);
  } catch (error) {
    context.dispose();
    throw error;
  }
  return context;
}

function must(ok: boolean, what: string): void {
  if (!ok) throw new Error(`${what}: ${takeReason(openssl())}`);
}

function fill(ssl: OpenSsl, context: Pointer, spec: ContextSpec): void {
  const { params, role } = spec;
  const ctrl = (command: number, long: number, text: string): boolean => {
    const bytes = Buffer.from(`${text}\0`);
    return ssl.SSL_CTX_ctrl(context, command, long, text === '' ? 0 : addressOf(bytes)) > 0;
  };
  must(ctrl(CTRL.minVersion, VERSION[params.minVersion], ''), 'minimum version');
  must(ctrl(CTRL.maxVersion, VERSION[params.maxVersion], ''), 'maximum version');
  must(ssl.SSL_CTX_set_cipher_list(context, params.ciphers) === 1, 'ciphers');
  must(ssl.SSL_CTX_set_ciphersuites(context, params.suites13) === 1, 'cipher suites');
  must(ctrl(CTRL.groups, 0, params.groups), 'groups');
  if (params.sigalgs !== '') must(ctrl(CTRL.sigalgs, 0, params.sigalgs), 'signature algorithms');
  ctrl(CTRL.peerCertificates, MAX_PEER_CERTIFICATE_BYTES, '');
  ctrl(CTRL.mode, MODE_RELEASE_BUFFERS | MODE_AUTO_RETRY | MODE_MOVING_BUFFER | MODE_NO_AUTO_CHAIN, '');
  const kept = role.server && spec.tickets && role.sessionStore && !spec.ticketKey;
  ctrl(CTRL.sessionCache, kept ? CACHE.server : CACHE.off, '');
  if (kept) ctrl(CTRL.sessionCacheSize, MAX_SERVER_SESSIONS, '');
  let options = OP.noCompression + OP.noRenegotiation + NO_CERTIFICATE_COMPRESSION;
  if (role.server) options += OP.serverPreference;
  // Kept here, a session is named by its ticket; sealed into it, the peer's certificates would be read anew each time, which costs
  // more than all the rest of a resumed handshake but the key exchange.
  if (role.server && (kept || !spec.tickets)) options += OP.noTicket;
  ssl.SSL_CTX_set_options(context, options);
  if (spec.certificate) useCertificate(ssl, context, spec.certificate);
  verifyBy(ssl, context, spec);
  if (!role.server) return;
  const id = Buffer.from(spec.sessionContext.slice(0, 32), 'latin1');
  must(ssl.SSL_CTX_set_session_id_context(context, addressOf(id), id.length) === 1, 'session id context');
  ssl.SSL_CTX_set_timeout(context, role.sessionTimeoutS);
  ssl.SSL_CTX_set_num_tickets(context, spec.tickets ? 1 : 0);
  if (spec.tickets && spec.ticketKey)
    must(
      ssl.SSL_CTX_ctrl(context, CTRL.ticketKeys, spec.ticketKey.length, addressOf(spec.ticketKey)) === 1,
      'ticket keys',
    );
  if (spec.alpn) ssl.SSL_CTX_set_alpn_select_cb(context, alpnCallback(), 0);
}

/** Reads DER by a d2i function; the caller frees the result. */
function parse(read: (out: Pointer, bytes: Pointer, length: number) => Pointer, der: Buffer, what: string): Pointer {
  scratch.writeBigUInt64LE(BigInt(addressOf(der)));
  const parsed = read(0, scratchAt(), der.length);
  must(parsed !== 0, what);
  return parsed;
}

function useCertificate(ssl: OpenSsl, context: Pointer, material: CertificateMaterial): void {
  for (const [i, { der }] of readPem(material.chainPem)
    .filter((block) => block.label === 'CERTIFICATE')
    .entries()) {
    const certificate = parse(ssl.d2i_X509, der, 'certificate');
    const used =
      i === 0
        ? ssl.SSL_CTX_use_certificate(context, certificate)
        : ssl.SSL_CTX_ctrl(context, CTRL.chainCertificate, 1, certificate);
    ssl.X509_free(certificate);
    must(used === 1, 'certificate');
  }
  const der = createPrivateKey(material.keyPem).export({ type: 'pkcs8', format: 'der' });
  try {
    const key = parse(ssl.d2i_AutoPrivateKey, der, 'private key');
    const used = ssl.SSL_CTX_use_PrivateKey(context, key);
    ssl.EVP_PKEY_free(key);
    must(used === 1, 'private key');
  } finally {
    der.fill(0);
  }
}

/** Everything the validation context says about chains is OpenSSL's to judge, within the handshake. */
function verifyBy(ssl: OpenSsl, context: Pointer, { role, trust, verifyPeer }: ContextSpec): void {
  const checked = trust !== undefined && trust.caPem !== '';
  if (trust && checked) trustRoots(ssl, ssl.SSL_CTX_get_cert_store(context), trust);
  if (checked) ssl.SSL_CTX_set_verify_depth(context, trust.maxDepth);
  const wanted = verifyPeer || role.requireClientCertificate;
  const mode = wanted ? VERIFY.peer + (role.requireClientCertificate ? VERIFY.failIfNoPeerCert : 0) : VERIFY.none;
  ssl.SSL_CTX_set_verify(context, mode, 0);
  if (wanted) ssl.SSL_CTX_set_cert_verify_callback(context, verifyCallback(), 0);
}

function trustRoots(ssl: OpenSsl, store: Pointer, trust: TrustMaterial): void {
  for (const root of trust.roots) {
    const certificate = parse(ssl.d2i_X509, root.raw, 'trusted certificate');
    ssl.X509_STORE_add_cert(store, certificate);
    ssl.X509_free(certificate);
  }
  let flags: number = FLAG.partialChain;
  if (trust.allowExpired) flags |= FLAG.noTime;
  for (const crl of trust.crls) {
    const list = parse(ssl.d2i_X509_CRL, readPem(crl.pem)[0]!.der, 'revocation list');
    const added = ssl.X509_STORE_add_crl(store, list);
    ssl.X509_CRL_free(list);
    must(added === 1, 'revocation list');
    flags |= FLAG.crl | (trust.leafCrlOnly ? 0 : FLAG.crlAll);
  }
  ssl.X509_STORE_set_flags(store, flags);
}

// --- callbacks, registered once: they run inside SSL_do_handshake on this thread

const ALPN_OK = 0;
const ALPN_NOACK = 3;
let agreed: Buffer | undefined;
let alpnRegistered: unknown;

/** What the handshake that runs next selects; undefined: no common protocol, which is no error. */
export function selectProtocol(name: string | undefined): void {
  agreed = name === undefined ? undefined : Buffer.from(name, 'latin1');
}

function alpnCallback(): unknown {
  if (!alpnRegistered) {
    const koffi = ffi();
    const type = koffi.proto('int MeltemiAlpn(uintptr_t, void *, void *, uintptr_t, uint32_t, uintptr_t)');
    alpnRegistered = koffi.register((_ssl: never, out: never, length: never) => {
      if (!agreed) return ALPN_NOACK;
      koffi.encode(out, 'uintptr_t', addressOf(agreed));
      koffi.encode(length, 'uint8_t', agreed.length);
      return ALPN_OK;
    }, koffi.pointer(type));
  }
  return alpnRegistered;
}

/** Judges the peer of the handshake that runs: true, or it has set the error whose alert is sent. */
export type Verifier = (store: Pointer) => boolean;
let verifier: Verifier | undefined;
let verifyRegistered: unknown;

export function verifyWith(run: Verifier): void {
  verifier = run;
}

function verifyCallback(): unknown {
  if (!verifyRegistered) {
    const koffi = ffi();
    const type = koffi.proto('int MeltemiVerify(uintptr_t, uintptr_t)');
    // Nothing is good without a verifier, and nothing may be thrown through OpenSSL.
    verifyRegistered = koffi.register((store: never) => {
      try {
        return verifier?.(store) ? 1 : 0;
      } catch {
        return 0;
      }
    }, koffi.pointer(type));
  }
  return verifyRegistered;
}

/** DER certificates as the rest of the proxy has them. */
export function toX509(der: Buffer): X509Certificate {
  return new X509Certificate(der);
}
