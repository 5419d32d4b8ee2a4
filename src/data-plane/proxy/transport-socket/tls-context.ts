// One TLS configuration (DownstreamTlsContext or UpstreamTlsContext) with live secrets. Rotation makes a new
// SecureContext for new connections; open connections keep theirs. Built by transport-socket/factory.ts.
import { createHash } from 'node:crypto';
import { createSecureContext, type SecureContext, type SecureContextOptions, type SecureVersion } from 'node:tls';
import {
  TlsParameters_TlsProtocol as Protocol,
  type TlsParameters,
  TlsParametersSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import {
  type CommonTlsContext,
  CommonTlsContext_CombinedCertificateValidationContextSchema,
  CommonTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { AltName } from './san.ts';
import {
  type CertificateMaterial,
  certificateMaterial,
  constant,
  type DataReader,
  type Live,
  mergeTrust,
  type TrustMaterial,
  trustMaterial,
} from './secrets.ts';

/** Where named secrets come from: `sds` is the ConfigSource as serialized by the caller. */
export interface SecretProvider {
  certificate(config: SdsRef): Live<CertificateMaterial>;
  trust(config: SdsRef): Live<TrustMaterial>;
}
export type SdsRef = NonNullable<CommonTlsContext['tlsCertificateSdsSecretConfigs'][number]>;

export interface TlsBuildContext {
  readonly secrets: SecretProvider;
  readonly reader: DataReader;
}

/** The outcome of our own checks after OpenSSL's. `fail-san` and `fail-hash` are counted apart. */
export type PeerVerdict = 'ok' | 'fail-chain' | 'fail-san' | 'fail-hash';

export class TlsContext {
  readonly alpn: readonly string[];
  readonly verifyPeer: boolean;
  readonly #options: SecureContextOptions;
  readonly #certificates: readonly Live<CertificateMaterial>[];
  readonly #trust: Live<TrustMaterial> | undefined;
  #cached: SecureContext | undefined;
  readonly #stops: (() => void)[] = [];

  constructor(message: CommonTlsContext, context: TlsBuildContext, path: string, server: boolean) {
    only(CommonTlsContextSchema, message, path, [
      'tls_params',
      'tls_certificates',
      'tls_certificate_sds_secret_configs',
      'validation_context',
      'validation_context_sds_secret_config',
      'combined_validation_context',
      'alpn_protocols',
    ]);
    this.alpn = message.alpnProtocols;
    this.#options = tlsOptions(message.tlsParams, join(path, 'tls_params'), server);
    this.#certificates = [
      ...message.tlsCertificates.map((entry, i) => {
        const at = join(path, `tls_certificates[${i}]`);
        return constant(at, certificateMaterial(entry, context.reader, at));
      }),
      ...message.tlsCertificateSdsSecretConfigs.map((ref) => context.secrets.certificate(ref)),
    ];
    if (server && this.#certificates.length === 0)
      throw new ConfigError(path, 'No TLS certificates found for server context');
    this.#trust = trustOf(message, context, path);
    this.verifyPeer = this.#trust !== undefined;
    const forget = () => {
      this.#cached = undefined;
    };
    for (const secret of this.#all()) this.#stops.push(secret.listen(forget));
  }

  /** Names of secrets that are still awaited. */
  awaited(): string[] {
    return this.#all().flatMap((secret) => (secret.ready() ? [] : [secret.name]));
  }

  #all(): Live<unknown>[] {
    return [...this.#certificates, ...(this.#trust ? [this.#trust] : [])];
  }

  /** Calls back at every change of a secret. */
  listen(changed: () => void): () => void {
    const stops = this.#all().map((secret) => secret.listen(changed));
    return () => {
      for (const stop of stops) stop();
    };
  }

  dispose(): void {
    for (const stop of this.#stops) stop();
  }

  /** Undefined while a secret is missing. */
  secureContext(): SecureContext | undefined {
    if (this.#cached) return this.#cached;
    if (this.#all().some((secret) => secret.current() === undefined)) return undefined;
    const certificates = this.#certificates.map((live) => live.current()!);
    const trust = this.#trust?.current();
    this.#cached = createSecureContext({
      ...this.#options,
      ...(certificates.length > 0
        ? { cert: certificates.map((c) => c.chainPem), key: certificates.map((c) => c.keyPem) }
        : {}),
      // Without a validation context nothing is trusted, so Node's built-in roots must not be either.
      ca: trust?.caPem ? [trust.caPem] : [],
      ...(trust?.crlPem ? { crl: [trust.crlPem] } : {}),
    });
    return this.#cached;
  }

  localUris(): readonly string[] {
    return this.#certificates[0]?.current()?.uris ?? [];
  }

  certificates(): readonly CertificateMaterial[] {
    return this.#certificates.flatMap((live) => live.current() ?? []);
  }

  trust(): TrustMaterial | undefined {
    return this.#trust?.current();
  }

  /** `chainError` is OpenSSL's code for the chain, undefined when it verified. */
  judge(chainError: string | undefined, names: readonly AltName[], der: Buffer | undefined): PeerVerdict {
    const trust = this.#trust?.current();
    if (!trust) return this.verifyPeer ? 'fail-chain' : 'ok';
    const chainMatters = trust.caPem !== '' && !trust.acceptUntrusted;
    const expired = chainError === 'CERT_HAS_EXPIRED' && trust.allowExpired;
    if (chainMatters && chainError !== undefined && !expired) return 'fail-chain';
    if (!der) return 'fail-chain';
    if (!trust.sanTest(names)) return 'fail-san';
    if (trust.hashes.length > 0 && !trust.hashes.includes(createHash('sha256').update(der).digest('hex')))
      return 'fail-hash';
    return 'ok';
  }
}

function trustOf(message: CommonTlsContext, context: TlsBuildContext, path: string): Live<TrustMaterial> | undefined {
  const kind = message.validationContextType;
  switch (kind.case) {
    case 'validationContext':
      return constant(
        join(path, 'validation_context'),
        trustMaterial(kind.value, context.reader, join(path, 'validation_context')),
      );
    case 'validationContextSdsSecretConfig':
      return context.secrets.trust(kind.value);
    case 'combinedValidationContext': {
      const at = join(path, 'combined_validation_context');
      only(CommonTlsContext_CombinedCertificateValidationContextSchema, kind.value, at, [
        'default_validation_context',
        'validation_context_sds_secret_config',
      ]);
      const { defaultValidationContext, validationContextSdsSecretConfig } = kind.value;
      if (!defaultValidationContext || !validationContextSdsSecretConfig)
        throw new ConfigError(at, 'default_validation_context and validation_context_sds_secret_config are required');
      const base = trustMaterial(defaultValidationContext, context.reader, join(at, 'default_validation_context'));
      const live = context.secrets.trust(validationContextSdsSecretConfig);
      let from: TrustMaterial | undefined;
      let merged: TrustMaterial | undefined;
      return {
        name: live.name,
        ready: () => live.ready(),
        listen: (changed) => live.listen(changed),
        current() {
          const now = live.current();
          if (now !== from) {
            from = now;
            merged = now && mergeTrust(base, now);
          }
          return merged;
        },
      };
    }
    default:
      return undefined;
  }
}

const VERSIONS: Readonly<Record<Protocol, SecureVersion | undefined>> = {
  [Protocol.TLS_AUTO]: undefined,
  [Protocol.TLSv1_0]: 'TLSv1',
  [Protocol.TLSv1_1]: 'TLSv1.1',
  [Protocol.TLSv1_2]: 'TLSv1.2',
  [Protocol.TLSv1_3]: 'TLSv1.3',
};
/** TLS 1.3 suites are not configurable in Envoy; the cheap one first for in-mesh traffic. */
const TLS13_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

function tlsOptions(params: TlsParameters | undefined, path: string, server: boolean): SecureContextOptions {
  if (!params) return { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3' };
  only(TlsParametersSchema, params, path, [
    'tls_minimum_protocol_version',
    'tls_maximum_protocol_version',
    'cipher_suites',
    'ecdh_curves',
  ]);
  const options: SecureContextOptions = {
    minVersion: VERSIONS[params.tlsMinimumProtocolVersion] ?? 'TLSv1.2',
    maxVersion: VERSIONS[params.tlsMaximumProtocolVersion] ?? 'TLSv1.3',
  };
  if (params.cipherSuites.length > 0) {
    const suites = params.cipherSuites.map((suite) => suite.replaceAll(/[[\]]/g, '').replaceAll('|', ':'));
    options.ciphers = `${TLS13_SUITES}:${suites.join(':')}`;
    options.honorCipherOrder = server;
  }
  if (params.ecdhCurves.length > 0) options.ecdhCurve = params.ecdhCurves.join(':');
  try {
    createSecureContext(options);
  } catch (error) {
    throw new ConfigError(
      path,
      `Failed to initialize TLS parameters: ${error instanceof Error ? error.message : error}`,
    );
  }
  return options;
}
