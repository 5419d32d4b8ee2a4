// Certificates, keys and trust bundles as live values: static ones never change, those of SDS do.
// Given to TLS contexts by the secret manager of the engine (xds/secret-manager.ts) or made here from inline data.
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import type { DataSource } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  type CertificateValidationContext,
  CertificateValidationContext_TrustChainVerification,
  CertificateValidationContextSchema,
  type TlsCertificate,
  TlsCertificateSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { altNamesOf, compileSanMatchers, type SanTest } from './san.ts';

export interface CertificateMaterial {
  readonly chainPem: string;
  readonly keyPem: string;
  readonly chain: readonly X509Certificate[];
  readonly uris: readonly string[];
}

export interface TrustMaterial {
  readonly caPem: string;
  readonly roots: readonly X509Certificate[];
  readonly sanTest: SanTest;
  readonly hasSans: boolean;
  readonly hashes: readonly string[];
  readonly crlPem: string | undefined;
  readonly allowExpired: boolean;
  readonly acceptUntrusted: boolean;
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
      } catch {
        throw new ConfigError(path, `Invalid path: ${specifier.value}`);
      }
  }
}

export function certificateMaterial(message: TlsCertificate, reader: DataReader, path: string): CertificateMaterial {
  only(TlsCertificateSchema, message, path, ['certificate_chain', 'private_key']);
  const chainPem = readSource(message.certificateChain, reader, join(path, 'certificate_chain'))?.toString() ?? '';
  const keyPem = readSource(message.privateKey, reader, join(path, 'private_key'))?.toString() ?? '';
  const chain = parsePem(chainPem, join(path, 'certificate_chain'));
  const leaf = chain[0];
  if (!leaf) throw new ConfigError(join(path, 'certificate_chain'), 'no certificate in it');
  let matches = false;
  try {
    const ours = createPublicKey(createPrivateKey(keyPem)).export({ type: 'spki', format: 'der' });
    matches = ours.equals(leaf.publicKey.export({ type: 'spki', format: 'der' }));
  } catch {
    throw new ConfigError(join(path, 'private_key'), 'Failed to load private key');
  }
  if (!matches) throw new ConfigError(join(path, 'private_key'), 'the key does not belong to the certificate');
  const uris = altNamesOf(leaf).flatMap((name) => (name.kind === 'uri' ? [name.value] : []));
  return { chainPem, keyPem, chain, uris };
}

export function trustMaterial(message: CertificateValidationContext, reader: DataReader, path: string): TrustMaterial {
  only(CertificateValidationContextSchema, message, path, [
    'trusted_ca',
    'match_typed_subject_alt_names',
    'verify_certificate_hash',
    'crl',
    'allow_expired_certificate',
    'trust_chain_verification',
  ]);
  const caPem = readSource(message.trustedCa, reader, join(path, 'trusted_ca'))?.toString() ?? '';
  const crl = readSource(message.crl, reader, join(path, 'crl'))?.toString();
  return {
    caPem,
    roots: parsePem(caPem, join(path, 'trusted_ca')),
    sanTest: compileSanMatchers(message.matchTypedSubjectAltNames, path),
    hasSans: message.matchTypedSubjectAltNames.length > 0,
    hashes: message.verifyCertificateHash.map((hash) => hash.replaceAll(':', '').toLowerCase()),
    crlPem: crl,
    allowExpired: message.allowExpiredCertificate,
    acceptUntrusted:
      message.trustChainVerification === CertificateValidationContext_TrustChainVerification.ACCEPT_UNTRUSTED,
  };
}

/** combined_validation_context: the SDS part is merged over the default part. */
export function mergeTrust(base: TrustMaterial, over: TrustMaterial): TrustMaterial {
  return {
    caPem: over.caPem || base.caPem,
    roots: over.caPem ? over.roots : base.roots,
    sanTest: !base.hasSans ? over.sanTest : !over.hasSans ? base.sanTest : (n) => base.sanTest(n) || over.sanTest(n),
    hasSans: base.hasSans || over.hasSans,
    hashes: [...base.hashes, ...over.hashes],
    crlPem: over.crlPem ?? base.crlPem,
    allowExpired: base.allowExpired || over.allowExpired,
    acceptUntrusted: base.acceptUntrusted || over.acceptUntrusted,
  };
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
/** Certificates in one chain or bundle. */
const MAX_PEM_CERTIFICATES = 1_000;

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
