// TLS contexts of both sides (mtls.md §3.2, §5).
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TransportSocketSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol as TlsProtocol,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/common_pb.js';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import type { ClientTls } from '../../api/istio/destination-rule.ts';
import type { ServerTls } from '../../api/istio/gateway.ts';
import type { MeshConfig } from '../../api/mesh/mesh-config.ts';
import { packAny } from '../../base/envoy-api/any.ts';
import { ADS_SECRETS, SDS_SOURCE } from './common.ts';
import { CA_SUFFIX, credentialResource } from './secrets.ts';

type Socket = MessageInitShape<typeof TransportSocketSchema>;

const DEFAULT_CIPHERS = [
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'AES256-GCM-SHA384',
  'AES128-GCM-SHA256',
];

const SYSTEM_ROOTS = 'system';
const TLS = 'envoy.transport_sockets.tls';

function sds(name: string) {
  return { name, sdsConfig: SDS_SOURCE };
}

function sanMatcher(kind: 'exact' | 'prefix', value: string) {
  return {
    sanType: SubjectAltNameMatcher_SanType.URI,
    matcher: { matchPattern: { case: kind, value } as const },
  };
}

/** The workload's own certificate, the mesh's roots, and who the other side may be. */
function meshCredentials(matchers: readonly ReturnType<typeof sanMatcher>[]) {
  return {
    tlsCertificateSdsSecretConfigs: [sds('default')],
    validationContextType: {
      case: 'combinedValidationContext' as const,
      value: {
        defaultValidationContext: { matchTypedSubjectAltNames: [...matchers] },
        validationContextSdsSecretConfig: sds('ROOTCA'),
      },
    },
  };
}

export function inboundTls(mesh: MeshConfig, alpn: readonly string[]): Socket {
  const domains = [mesh.trustDomain, ...mesh.trustDomainAliases];
  const context = {
    requireClientCertificate: true,
    commonTlsContext: {
      ...meshCredentials(domains.map((d) => sanMatcher('prefix', `spiffe://${d}/`))),
      alpnProtocols: [...alpn],
      tlsParams: {
        tlsMinimumProtocolVersion: mesh.meshMtlsMinProtocol === 'TLSV1_3' ? TlsProtocol.TLSv1_3 : TlsProtocol.TLSv1_2,
        tlsMaximumProtocolVersion: TlsProtocol.TLSv1_3,
        cipherSuites: mesh.meshMtlsCipherSuites.length > 0 ? [...mesh.meshMtlsCipherSuites] : DEFAULT_CIPHERS,
      },
    },
  };
  return { name: TLS, configType: { case: 'typedConfig', value: packAny(DownstreamTlsContextSchema, context) } };
}

const CLIENT_PARAMS = {
  tlsMinimumProtocolVersion: TlsProtocol.TLSv1_2,
  tlsMaximumProtocolVersion: TlsProtocol.TLSv1_3,
};

export function outboundMtls(options: { sni: string; sans: readonly string[]; http2: boolean }): Socket {
  const context = {
    sni: options.sni,
    commonTlsContext: {
      ...meshCredentials(options.sans.map((s) => sanMatcher('exact', s))),
      tlsParams: CLIENT_PARAMS,
      alpnProtocols: ['istio-peer-exchange', 'istio', ...(options.http2 ? ['h2'] : [])],
    },
  };
  return { name: TLS, configType: { case: 'typedConfig', value: packAny(UpstreamTlsContextSchema, context) } };
}

/** SIMPLE and MUTUAL of a DestinationRule: the user's own files. The cluster's HTTP options add SNI and SAN from the host when none is given. */
export function outboundUserTls(tls: ClientTls, http2: boolean): Socket {
  const roots = sds(`file-root:${tls.caCertificates ?? SYSTEM_ROOTS}`);
  const sans = tls.subjectAltNames.map((name) => ({
    sanType: name.includes('://') ? SubjectAltNameMatcher_SanType.URI : SubjectAltNameMatcher_SanType.DNS,
    matcher: { matchPattern: { case: 'exact', value: name } as const },
  }));
  const context = {
    sni: tls.sni ?? '',
    commonTlsContext: {
      tlsParams: CLIENT_PARAMS,
      alpnProtocols: http2 ? ['h2'] : [],
      tlsCertificateSdsSecretConfigs:
        tls.mode === 'MUTUAL' ? [sds(`file-cert:${tls.clientCertificate}~${tls.privateKey}`)] : [],
      ...(tls.insecureSkipVerify
        ? {}
        : {
            validationContextType: {
              case: 'combinedValidationContext' as const,
              value: {
                defaultValidationContext: { matchTypedSubjectAltNames: sans },
                validationContextSdsSecretConfig: roots,
              },
            },
          }),
    },
  };
  return { name: TLS, configType: { case: 'typedConfig', value: packAny(UpstreamTlsContextSchema, context) } };
}

/** What a gateway shows outside clients. Secrets come by ADS from the namespace of its pod; files from its agent. */
export function gatewayTls(mesh: MeshConfig, tls: ServerTls, alpn: readonly string[]): Socket {
  if (tls.mode === 'ISTIO_MUTUAL') return inboundTls(mesh, alpn);
  const { credentialName } = tls;
  const certificate = credentialName
    ? { name: credentialResource(credentialName), sdsConfig: ADS_SECRETS }
    : sds(`file-cert:${tls.serverCertificate}~${tls.privateKey}`);
  const wantsClient = tls.mode === 'MUTUAL' || tls.mode === 'OPTIONAL_MUTUAL';
  const roots = credentialName
    ? { name: credentialResource(`${credentialName}${CA_SUFFIX}`), sdsConfig: ADS_SECRETS }
    : sds(`file-root:${tls.caCertificates}`);
  const sans = tls.subjectAltNames.map((name) => ({
    sanType: name.includes('://') ? SubjectAltNameMatcher_SanType.URI : SubjectAltNameMatcher_SanType.DNS,
    matcher: { matchPattern: { case: 'exact', value: name } as const },
  }));
  const versions = { TLSV1_2: TlsProtocol.TLSv1_2, TLSV1_3: TlsProtocol.TLSv1_3 };
  const context = {
    requireClientCertificate: tls.mode === 'MUTUAL',
    commonTlsContext: {
      alpnProtocols: [...alpn],
      tlsParams: {
        tlsMinimumProtocolVersion: versions[tls.minVersion],
        tlsMaximumProtocolVersion: versions[tls.maxVersion],
        cipherSuites: [...tls.cipherSuites],
      },
      tlsCertificateSdsSecretConfigs: [certificate],
      ...(wantsClient
        ? {
            validationContextType: {
              case: 'combinedValidationContext' as const,
              value: {
                defaultValidationContext: { matchTypedSubjectAltNames: sans },
                validationContextSdsSecretConfig: roots,
              },
            },
          }
        : {}),
    },
  };
  return { name: TLS, configType: { case: 'typedConfig', value: packAny(DownstreamTlsContextSchema, context) } };
}
