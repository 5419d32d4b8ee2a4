// Certificates, keys and trust bundles as live values: static ones never change, those of SDS do.
// Given to TLS contexts by the secret manager of the engine (xds/secret-manager.ts) or made here from inline data.
import { createPrivateKey, createPublicKey, hash, type KeyObject, X509Certificate } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import type { DataSource } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification,
  CertificateValidationContextSchema,
  type TlsCertificate,
  TlsCertificateSchema,
  type TlsSessionTicketKeys,
  TlsSessionTicketKeysSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { MAX_PEM_CERTIFICATES } from '../limits.ts';
import { systemReason } from '../system-words.ts';
import { type Crl, readCrls } from './crl.ts';
import { altNamesOf, compileSanMatchers, type SanTest, subjectText, valuesOf } from './san.ts';

export interface CertificateMaterial {
  /** The name of the secret; empty for one that stands in the context itself. */
  readonly name: string;
  readonly chainPem: string;
  /** The file of the chain, shown by /certs. */
  readonly path: string;
  /** PKCS #8 or as it was given; never encrypted. */
  readonly keyPem: string;
  readonly chain: readonly X509Certificate[];
  readonly isEcdsa: boolean;
  /** Server names it is for, lower case: DNS SANs, or the common name when there are none. */
  readonly serverNames: readonly string[];
  readonly uris: readonly string[];
  readonly dns: readonly string[];
  readonly subject: string;
  /** ms since the epoch: the earliest end of the chain. */
  readonly notAfter: number;
}

export interface TrustMaterial {
  readonly name: string;
  readonly caPem: string;
  /** The file of the authorities, shown by /certs. */
  readonly path: string;
  readonly roots: readonly X509Certificate[];
  readonly sanTest: SanTest;
  readonly hasSans: boolean;
  /** SHA-256 of whole certificates (hex) and of public keys (base64). Either one is enough when any is named. */
  readonly hashes: readonly string[];
  readonly spkiHashes: readonly string[];
  readonly crls: readonly Crl[];
  readonly leafCrlOnly: boolean;
  readonly allowExpired: boolean;
  readonly acceptUntrusted: boolean;
  /** Certificates between the peer's and the trusted one. */
  readonly maxDepth: number;
  /** Equal for equal rules: sessions are bound to it. */
  readonly print: string;
}

/** Keys that seal session tickets, 80 bytes each (Envoy's layout); the first one seals. */
export interface TicketKeys {
  readonly keys: readonly Buffer[];
}

/** A value that may not be there yet and may change. `listen` returns the way to stop. */
export interface Live<T> {
  readonly name: string;
  current(): T | undefined;
  /** True when it was delivered, or its initial fetch gave up: nobody has to wait any longer. */
  ready(): boolean;
  listen(changed: () => void): () => void;
}

export function constant<T>(name: string, value: T): Live<T> {
  return { name, current: () => value, ready: () => true, listen: () => () => {} };
}

/** Reads files for DataSource.filename and variables for DataSource.environment_variable. */
export interface DataReader {
  file(path: string): Buffer;
  variable(name: string): string | undefined;
}

export function readSource(source: DataSource | undefined, reader: DataReader, path: string): Buffer | undefined {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case undefined:
      return undefined;
    case 'inlineBytes':
      return Buffer.from(specifier.value);
    case 'inlineString':
      return Buffer.from(specifier.value);
    case 'environmentVariable': {
      const value = reader.variable(specifier.value);
      if (value === undefined) throw new ConfigError(path, `environment variable doesn't exist: ${specifier.value}`);
      return Buffer.from(value);
    }
    case 'filename':
      try {
        return reader.file(specifier.value);
      } catch (error) {
        throw new ConfigError(path, `Invalid path: ${specifier.value}: ${systemReason(error)}`);
      }
  }
}

export function certificateMaterial(
  message: TlsCertificate,
  reader: DataReader,
  path: string,
  name = '',
): CertificateMaterial {
  only(TlsCertificateSchema, message, path, ['certificate_chain', 'private_key', 'password']);
  const chainPem = readSource(message.certificateChain, reader, join(path, 'certificate_chain'))?.toString() ?? '';
  const given = readSource(message.privateKey, reader, join(path, 'private_key'))?.toString() ?? '';
  const password = readSource(message.password, reader, join(path, 'password'))?.toString();
  const chain = parsePem(chainPem, join(path, 'certificate_chain'));
  const leaf = chain[0];
  if (!leaf) throw new ConfigError(join(path, 'certificate_chain'), 'no certificate in it');
  let key: KeyObject;
  let matches = false;
  try {
    key = createPrivateKey({ key: given, ...(password === undefined ? {} : { passphrase: password }) });
    const ours = createPublicKey(key).export({ type: 'spki', format: 'der' });
    matches = ours.equals(leaf.publicKey.export({ type: 'spki', format: 'der' }));
  } catch {
    throw new ConfigError(join(path, 'private_key'), 'Failed to load private key');
  }
  if (!matches) throw new ConfigError(join(path, 'private_key'), 'the key does not belong to the certificate');
  const names = altNamesOf(leaf);
  const dns = valuesOf(names, 'dns');
  const common = /(?:^|\n)CN=(.*)/.exec(leaf.subject)?.[1];
  return {
    name,
    chainPem,
    path: pathOf(message.certificateChain),
    keyPem: password === undefined ? given : key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    chain,
    isEcdsa: key.asymmetricKeyType !== 'rsa',
    serverNames: (dns.length > 0 ? dns : common ? [common] : []).map((entry) => entry.toLowerCase()),
    uris: valuesOf(names, 'uri'),
    dns,
    subject: subjectText(leaf.subject),
    notAfter: Math.min(...chain.map((certificate) => Date.parse(certificate.validTo))),
  };
}

const SHA256_HEX = /^[0-9a-f]{64}$/;
const SHA256_BASE64 = /^[A-Za-z0-9+/]{43}=$/;

export function trustMaterial(
  message: CertificateValidationContext,
  reader: DataReader,
  path: string,
  name = '',
  /** It is only half of a combined_validation_context. */
  part = false,
): TrustMaterial {
  only(CertificateValidationContextSchema, message, path, [
    'trusted_ca',
    'match_typed_subject_alt_names',
    'match_subject_alt_names',
    'verify_certificate_hash',
    'verify_certificate_spki',
    'crl',
    'only_verify_leaf_cert_crl',
    'allow_expired_certificate',
    'trust_chain_verification',
    'max_verify_depth',
  ]);
  const caPem = readSource(message.trustedCa, reader, join(path, 'trusted_ca'))?.toString() ?? '';
  if (message.trustedCa && caPem === '') throw new ConfigError(join(path, 'trusted_ca'), 'Failed to load trusted CA');
  const crl = readSource(message.crl, reader, join(path, 'crl'))?.toString();
  const hashes = message.verifyCertificateHash.map((digest) => digest.replaceAll(':', '').toLowerCase());
  for (const [i, digest] of hashes.entries())
    if (!SHA256_HEX.test(digest))
      throw new ConfigError(
        join(path, `verify_certificate_hash[${i}]`),
        `Invalid hex-encoded SHA-256 ${message.verifyCertificateHash[i]}`,
      );
  for (const [i, digest] of message.verifyCertificateSpki.entries())
    if (!SHA256_BASE64.test(digest))
      throw new ConfigError(join(path, `verify_certificate_spki[${i}]`), `Invalid base64-encoded SHA-256 ${digest}`);
  const typed = message.matchTypedSubjectAltNames;
  const untyped = message.matchSubjectAltNames;
  const roots = parsePem(caPem, join(path, 'trusted_ca'));
  if (!part && caPem === '' && typed.length + untyped.length > 0)
    throw new ConfigError(
      path,
      'SAN-based verification of peer certificates without trusted CA is insecure and not allowed',
    );
  if (caPem !== '' && roots.length === 0)
    throw new ConfigError(join(path, 'trusted_ca'), 'Failed to load trusted CA certificates');
  return {
    name,
    caPem,
    path: pathOf(message.trustedCa),
    roots,
    sanTest: compileSanMatchers(typed, untyped, path),
    hasSans: typed.length > 0 || untyped.length > 0,
    hashes,
    spkiHashes: message.verifyCertificateSpki,
    crls: crl === undefined ? [] : readCrls(crl, join(path, 'crl')),
    leafCrlOnly: message.onlyVerifyLeafCertCrl,
    allowExpired: message.allowExpiredCertificate,
    acceptUntrusted:
      message.trustChainVerification === CertificateValidationContext_TrustChainVerification.ACCEPT_UNTRUSTED,
    maxDepth: message.maxVerifyDepth ?? DEFAULT_VERIFY_DEPTH,
    print:
      hash('sha256', Buffer.from(toBinary(CertificateValidationContextSchema, message)), 'hex') + sha256(caPem, crl),
  };
}

function pathOf(source: DataSource | undefined): string {
  return source?.specifier.case === 'filename' ? source.specifier.value : '<inline>';
}

/** OpenSSL's own limit. */
const DEFAULT_VERIFY_DEPTH = 100;

function sha256(...texts: readonly (string | undefined)[]): string {
  return hash('sha256', texts.map((text) => text ?? '').join('\0'), 'hex');
}

/** combined_validation_context: the SDS part is merged over the default part. */
export function mergeTrust(base: TrustMaterial, over: TrustMaterial): TrustMaterial {
  return {
    name: over.name,
    caPem: over.caPem || base.caPem,
    path: over.caPem ? over.path : base.path,
    roots: over.caPem ? over.roots : base.roots,
    sanTest: !base.hasSans ? over.sanTest : !over.hasSans ? base.sanTest : (n) => base.sanTest(n) || over.sanTest(n),
    hasSans: base.hasSans || over.hasSans,
    hashes: [...base.hashes, ...over.hashes],
    spkiHashes: [...base.spkiHashes, ...over.spkiHashes],
    crls: over.crls.length > 0 ? over.crls : base.crls,
    leafCrlOnly: base.leafCrlOnly || over.leafCrlOnly,
    allowExpired: base.allowExpired || over.allowExpired,
    acceptUntrusted: base.acceptUntrusted || over.acceptUntrusted,
    maxDepth: over.maxDepth === DEFAULT_VERIFY_DEPTH ? base.maxDepth : over.maxDepth,
    print: sha256(base.print, over.print),
  };
}

export const TICKET_KEY_BYTES = 80;

export function ticketKeys(message: TlsSessionTicketKeys, reader: DataReader, path: string): TicketKeys {
  only(TlsSessionTicketKeysSchema, message, path, ['keys']);
  if (message.keys.length === 0) throw new ConfigError(join(path, 'keys'), 'value is required');
  const keys = message.keys.map((source, i) => {
    const at = join(path, `keys[${i}]`);
    const key = readSource(source, reader, at) ?? Buffer.alloc(0);
    if (key.length !== TICKET_KEY_BYTES)
      throw new ConfigError(
        at,
        `Incorrect TLS session ticket key length. Length ${key.length}, expected length ${TICKET_KEY_BYTES}.`,
      );
    return key;
  });
  return { keys };
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function parsePem(pem: string, path: string): X509Certificate[] {
  const blocks = pem.match(PEM_CERTIFICATE) ?? [];
  if (blocks.length > MAX_PEM_CERTIFICATES)
    throw new ConfigError(path, `more than ${MAX_PEM_CERTIFICATES} certificates`);
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    throw new ConfigError(path, 'Failed to load certificates');
  }
}
