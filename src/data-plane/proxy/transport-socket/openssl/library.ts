// The OpenSSL functions the Node binary exports, through koffi: loaded at the first use, so that only proxies that ask for
// this transport pay. Pointers are numbers (user space has 47 bits); a call costs some 70 ns. Used by this
// folder; `ffi` also by wiring.ts.
import { createRequire } from 'node:module';
import { reasonName } from '../tls-reasons.ts';

/** An address inside OpenSSL; 0 is null. */
export type Pointer = number;

export interface OpenSsl {
  TLS_method(): Pointer;
  SSL_CTX_new(method: Pointer): Pointer;
  SSL_CTX_free(context: Pointer): void;
  SSL_CTX_flush_sessions(context: Pointer, until: number): void;
  SSL_CTX_ctrl(context: Pointer, command: number, long: number, pointer: Pointer): number;
  SSL_CTX_set_options(context: Pointer, options: number): number;
  SSL_CTX_set_cipher_list(context: Pointer, list: string): number;
  SSL_CTX_set_ciphersuites(context: Pointer, list: string): number;
  SSL_CTX_use_certificate(context: Pointer, certificate: Pointer): number;
  SSL_CTX_use_PrivateKey(context: Pointer, key: Pointer): number;
  SSL_CTX_get_cert_store(context: Pointer): Pointer;
  SSL_CTX_set_verify(context: Pointer, mode: number, callback: Pointer): void;
  SSL_CTX_set_verify_depth(context: Pointer, depth: number): void;
  SSL_CTX_set_cert_verify_callback(context: Pointer, callback: unknown, argument: Pointer): void;
  SSL_CTX_set_alpn_select_cb(context: Pointer, callback: unknown, argument: Pointer): void;
  SSL_CTX_set_session_id_context(context: Pointer, id: Pointer, length: number): number;
  SSL_CTX_set_timeout(context: Pointer, seconds: number): number;
  SSL_CTX_set_num_tickets(context: Pointer, count: number): number;
  X509_STORE_add_cert(store: Pointer, certificate: Pointer): number;
  X509_STORE_add_crl(store: Pointer, crl: Pointer): number;
  X509_STORE_set_flags(store: Pointer, flags: number): number;
  d2i_X509(out: Pointer, bytes: Pointer, length: number): Pointer;
  d2i_X509_CRL(out: Pointer, bytes: Pointer, length: number): Pointer;
  d2i_AutoPrivateKey(out: Pointer, bytes: Pointer, length: number): Pointer;
  i2d_X509(certificate: Pointer, bytes: Pointer): number;
  X509_free(certificate: Pointer): void;
  X509_CRL_free(crl: Pointer): void;
  EVP_PKEY_free(key: Pointer): void;
  X509_verify_cert(store: Pointer): number;
  X509_STORE_CTX_get0_cert(store: Pointer): Pointer;
  X509_STORE_CTX_get0_chain(store: Pointer): Pointer;
  X509_STORE_CTX_get_error(store: Pointer): number;
  X509_STORE_CTX_get_error_depth(store: Pointer): number;
  X509_STORE_CTX_set_error(store: Pointer, code: number): void;
  OPENSSL_sk_num(stack: Pointer): number;
  OPENSSL_sk_value(stack: Pointer, index: number): Pointer;
  BIO_s_mem(): Pointer;
  BIO_new(method: Pointer): Pointer;
  BIO_up_ref(bio: Pointer): number;
  BIO_ctrl(bio: Pointer, command: number, long: number, pointer: Pointer): number;
  BIO_write(bio: Pointer, bytes: Pointer, length: number): number;
  BIO_read(bio: Pointer, bytes: Pointer, length: number): number;
  SSL_new(context: Pointer): Pointer;
  SSL_free(ssl: Pointer): void;
  SSL_set_bio(ssl: Pointer, read: Pointer, write: Pointer): void;
  SSL_set_accept_state(ssl: Pointer): void;
  SSL_set_connect_state(ssl: Pointer): void;
  SSL_do_handshake(ssl: Pointer): number;
  SSL_read(ssl: Pointer, bytes: Pointer, length: number): number;
  SSL_write(ssl: Pointer, bytes: Pointer, length: number): number;
  SSL_shutdown(ssl: Pointer): number;
  SSL_set_shutdown(ssl: Pointer, mode: number): void;
  SSL_get_error(ssl: Pointer, result: number): number;
  SSL_ctrl(ssl: Pointer, command: number, long: number, pointer: Pointer): number;
  SSL_ctrl_text(ssl: Pointer, command: number, long: number, text: string): number;
  SSL_set_alpn_protos(ssl: Pointer, bytes: Uint8Array, length: number): number;
  SSL_get0_alpn_selected(ssl: Pointer, bytes: Pointer, length: Pointer): void;
  SSL_get_servername(ssl: Pointer, type: number): string | null;
  SSL_get_version(ssl: Pointer): string;
  SSL_get_current_cipher(ssl: Pointer): Pointer;
  SSL_CIPHER_get_name(cipher: Pointer): string;
  SSL_get0_group_name(ssl: Pointer): string | null;
  SSL_get_peer_signature_type_nid(ssl: Pointer, out: Pointer): number;
  SSL_get_verify_result(ssl: Pointer): number;
  X509_verify_cert_error_string(code: number): string;
  SSL_get0_peer_certificate(ssl: Pointer): Pointer;
  SSL_get_peer_cert_chain(ssl: Pointer): Pointer;
  SSL_session_reused_ctrl(ssl: Pointer): number;
  SSL_get_session(ssl: Pointer): Pointer;
  SSL_set_session(ssl: Pointer, session: Pointer): number;
  SSL_SESSION_is_resumable(session: Pointer): number;
  SSL_SESSION_get_id(session: Pointer, length: Pointer): Pointer;
  SSL_SESSION_free(session: Pointer): void;
  i2d_SSL_SESSION(session: Pointer, bytes: Pointer): number;
  d2i_SSL_SESSION(out: Pointer, bytes: Pointer, length: number): Pointer;
  ERR_clear_error(): void;
  ERR_peek_last_error(): number;
  ERR_reason_error_string(code: number): string | null;
  OPENSSL_cleanse(bytes: Pointer, length: number): void;
  memcpy(to: Pointer, from: Pointer, length: number): void;
}

const P = 'uintptr_t';
/** C declarations; the names are those of OpenSSL unless `symbols` says otherwise. */
const DECLARATIONS: Readonly<Record<keyof OpenSsl, string>> = {
  TLS_method: `${P} TLS_method()`,
  SSL_CTX_new: `${P} SSL_CTX_new(${P})`,
  SSL_CTX_free: `void SSL_CTX_free(${P})`,
  SSL_CTX_flush_sessions: `void SSL_CTX_flush_sessions(${P}, long)`,
  SSL_CTX_ctrl: `long SSL_CTX_ctrl(${P}, int, long, ${P})`,
  SSL_CTX_set_options: `uint64_t SSL_CTX_set_options(${P}, uint64_t)`,
  SSL_CTX_set_cipher_list: `int SSL_CTX_set_cipher_list(${P}, str)`,
  SSL_CTX_set_ciphersuites: `int SSL_CTX_set_ciphersuites(${P}, str)`,
  SSL_CTX_use_certificate: `int SSL_CTX_use_certificate(${P}, ${P})`,
  SSL_CTX_use_PrivateKey: `int SSL_CTX_use_PrivateKey(${P}, ${P})`,
  SSL_CTX_get_cert_store: `${P} SSL_CTX_get_cert_store(${P})`,
  SSL_CTX_set_verify: `void SSL_CTX_set_verify(${P}, int, ${P})`,
  SSL_CTX_set_verify_depth: `void SSL_CTX_set_verify_depth(${P}, int)`,
  SSL_CTX_set_cert_verify_callback: `void SSL_CTX_set_cert_verify_callback(${P}, void *, ${P})`,
  SSL_CTX_set_alpn_select_cb: `void SSL_CTX_set_alpn_select_cb(${P}, void *, ${P})`,
  SSL_CTX_set_session_id_context: `int SSL_CTX_set_session_id_context(${P}, ${P}, uint32_t)`,
  SSL_CTX_set_timeout: `long SSL_CTX_set_timeout(${P}, long)`,
  SSL_CTX_set_num_tickets: `int SSL_CTX_set_num_tickets(${P}, size_t)`,
  X509_STORE_add_cert: `int X509_STORE_add_cert(${P}, ${P})`,
  X509_STORE_add_crl: `int X509_STORE_add_crl(${P}, ${P})`,
  X509_STORE_set_flags: `int X509_STORE_set_flags(${P}, ulong)`,
  d2i_X509: `${P} d2i_X509(${P}, ${P}, long)`,
  d2i_X509_CRL: `${P} d2i_X509_CRL(${P}, ${P}, long)`,
  d2i_AutoPrivateKey: `${P} d2i_AutoPrivateKey(${P}, ${P}, long)`,
  i2d_X509: `int i2d_X509(${P}, ${P})`,
  X509_free: `void X509_free(${P})`,
  X509_CRL_free: `void X509_CRL_free(${P})`,
  EVP_PKEY_free: `void EVP_PKEY_free(${P})`,
  X509_verify_cert: `int X509_verify_cert(${P})`,
  X509_STORE_CTX_get0_cert: `${P} X509_STORE_CTX_get0_cert(${P})`,
  X509_STORE_CTX_get0_chain: `${P} X509_STORE_CTX_get0_chain(${P})`,
  X509_STORE_CTX_get_error: `int X509_STORE_CTX_get_error(${P})`,
  X509_STORE_CTX_get_error_depth: `int X509_STORE_CTX_get_error_depth(${P})`,
  X509_STORE_CTX_set_error: `void X509_STORE_CTX_set_error(${P}, int)`,
  OPENSSL_sk_num: `int OPENSSL_sk_num(${P})`,
  OPENSSL_sk_value: `${P} OPENSSL_sk_value(${P}, int)`,
  BIO_s_mem: `${P} BIO_s_mem()`,
  BIO_new: `${P} BIO_new(${P})`,
  BIO_up_ref: `int BIO_up_ref(${P})`,
  BIO_ctrl: `long BIO_ctrl(${P}, int, long, ${P})`,
  BIO_write: `int BIO_write(${P}, ${P}, int)`,
  BIO_read: `int BIO_read(${P}, ${P}, int)`,
  SSL_new: `${P} SSL_new(${P})`,
  SSL_free: `void SSL_free(${P})`,
  SSL_set_bio: `void SSL_set_bio(${P}, ${P}, ${P})`,
  SSL_set_accept_state: `void SSL_set_accept_state(${P})`,
  SSL_set_connect_state: `void SSL_set_connect_state(${P})`,
  SSL_do_handshake: `int SSL_do_handshake(${P})`,
  SSL_read: `int SSL_read(${P}, ${P}, int)`,
  SSL_write: `int SSL_write(${P}, ${P}, int)`,
  SSL_shutdown: `int SSL_shutdown(${P})`,
  SSL_set_shutdown: `void SSL_set_shutdown(${P}, int)`,
  SSL_get_error: `int SSL_get_error(${P}, int)`,
  SSL_ctrl: `long SSL_ctrl(${P}, int, long, ${P})`,
  SSL_ctrl_text: `long SSL_ctrl(${P}, int, long, str)`,
  SSL_set_alpn_protos: `int SSL_set_alpn_protos(${P}, const uint8_t *, uint32_t)`,
  SSL_get0_alpn_selected: `void SSL_get0_alpn_selected(${P}, ${P}, ${P})`,
  SSL_get_servername: `str SSL_get_servername(${P}, int)`,
  SSL_get_version: `str SSL_get_version(${P})`,
  SSL_get_current_cipher: `${P} SSL_get_current_cipher(${P})`,
  SSL_CIPHER_get_name: `str SSL_CIPHER_get_name(${P})`,
  SSL_get0_group_name: `str SSL_get0_group_name(${P})`,
  SSL_get_peer_signature_type_nid: `int SSL_get_peer_signature_type_nid(${P}, ${P})`,
  SSL_get_verify_result: `long SSL_get_verify_result(${P})`,
  X509_verify_cert_error_string: `str X509_verify_cert_error_string(long)`,
  SSL_get0_peer_certificate: `${P} SSL_get0_peer_certificate(${P})`,
  SSL_get_peer_cert_chain: `${P} SSL_get_peer_cert_chain(${P})`,
  SSL_session_reused_ctrl: `int SSL_session_reused(${P})`,
  SSL_get_session: `${P} SSL_get_session(${P})`,
  SSL_set_session: `int SSL_set_session(${P}, ${P})`,
  SSL_SESSION_is_resumable: `int SSL_SESSION_is_resumable(${P})`,
  SSL_SESSION_get_id: `${P} SSL_SESSION_get_id(${P}, ${P})`,
  SSL_SESSION_free: `void SSL_SESSION_free(${P})`,
  i2d_SSL_SESSION: `int i2d_SSL_SESSION(${P}, ${P})`,
  d2i_SSL_SESSION: `${P} d2i_SSL_SESSION(${P}, ${P}, long)`,
  ERR_clear_error: `void ERR_clear_error()`,
  ERR_peek_last_error: `ulong ERR_peek_last_error()`,
  ERR_reason_error_string: `str ERR_reason_error_string(ulong)`,
  OPENSSL_cleanse: `void OPENSSL_cleanse(${P}, size_t)`,
  memcpy: `void memcpy(${P}, ${P}, size_t)`,
};

export interface Koffi {
  load(path: string | null): { func(declaration: string): (...args: never[]) => unknown };
  address(buffer: Uint8Array): bigint;
  proto(declaration: string): unknown;
  pointer(type: unknown): unknown;
  register(run: (...args: never[]) => unknown, type: unknown): unknown;
  decode(pointer: unknown, type: string, length?: number): unknown;
  encode(pointer: unknown, type: string, value: unknown): void;
}

let koffi: Koffi | undefined;
let library: OpenSsl | undefined;

export function ffi(): Koffi {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  return koffi;
}

export function openssl(): OpenSsl {
  if (library) return library;
  const lib = ffi().load(null);
  const functions = Object.entries(DECLARATIONS).map(([name, text]) => [name, lib.func(text)]);
  library = Object.fromEntries(functions) as unknown as OpenSsl;
  return library;
}

let lastAsked: Uint8Array | undefined;

/** Where the bytes of a buffer lie. It is held until the next question, so that a call made with the answer finds it. */
export function addressOf(buffer: Uint8Array): Pointer {
  lastAsked = buffer;
  return Number(ffi().address(lastAsked));
}

export const SSL_ERROR = { ssl: 1, wantRead: 2, wantWrite: 3, syscall: 5, zeroReturn: 6 } as const;

/** What OpenSSL's out values, pointers and short texts go through. */
export const scratch: Buffer = Buffer.allocUnsafeSlow(256);
let scratchAddress: Pointer = 0;

export function scratchAt(): Pointer {
  if (scratchAddress === 0) scratchAddress = addressOf(scratch);
  return scratchAddress;
}

/** OpenSSL's reason for the last error in Envoy's spelling: `CERTIFICATE_VERIFY_FAILED`. Empties the queue. */
export function takeReason(ssl: OpenSsl): string {
  const text = ssl.ERR_reason_error_string(ssl.ERR_peek_last_error());
  ssl.ERR_clear_error();
  return reasonName(text ?? 'unknown');
}
