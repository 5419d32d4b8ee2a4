// MeshConfig (ConfigMap `istio`, key `mesh`): the fields this version obeys, with Istio's defaults. Unknown and unsupported
// fields become warnings, not errors: a mesh must start with a config written for a newer release. Called by config/.

import type { Diagnostic } from '../../base/runtime/diagnostics.ts';
import { createReader, duration, flag, object, oneOf, type Reader, text, texts } from '../istio/reader.ts';
import { type LocalityLb, readLocality } from '../istio/traffic-policy.ts';

export interface MeshConfig {
  readonly trustDomain: string;
  readonly trustDomainAliases: readonly string[];
  readonly rootNamespace: string;
  readonly enableAutoMtls: boolean;
  /** Requests get a decision whether they are traced, and their operation is told to callers outside the mesh. */
  readonly enableTracing: boolean;
  readonly accessLogFile: string;
  /** Empty: Istio's default line. */
  readonly accessLogFormat: string;
  readonly accessLogEncoding: 'TEXT' | 'JSON';
  readonly disableEnvoyListenerLog: boolean;
  readonly outboundTrafficPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  readonly connectTimeoutMs: number;
  readonly protocolDetectionTimeoutMs: number;
  readonly meshMtlsMinProtocol: 'TLSV1_2' | 'TLSV1_3';
  readonly meshMtlsCipherSuites: readonly string[];
  readonly localityLb: LocalityLb;
  readonly pathNormalization: 'DEFAULT' | 'NONE' | 'BASE' | 'MERGE_SLASHES' | 'DECODE_AND_MERGE_SLASHES';
}

export const DEFAULT_MESH_CONFIG: MeshConfig = {
  trustDomain: 'cluster.local',
  trustDomainAliases: [],
  rootNamespace: 'istio-system',
  enableAutoMtls: true,
  enableTracing: true,
  accessLogFile: '',
  accessLogFormat: '',
  accessLogEncoding: 'TEXT',
  disableEnvoyListenerLog: false,
  outboundTrafficPolicy: 'ALLOW_ANY',
  connectTimeoutMs: 10_000,
  protocolDetectionTimeoutMs: 0,
  meshMtlsMinProtocol: 'TLSV1_2',
  meshMtlsCipherSuites: [],
  localityLb: { enabled: true, distribute: [], failover: [], failoverPriority: [] },
  pathNormalization: 'DEFAULT',
};

/** Read elsewhere (injector, agent, CA) or without effect here. */
const OTHERS = ['defaultConfig', 'enablePrometheusMerge', 'defaultProviders', 'extensionProviders'];

export interface ReadMeshConfig {
  readonly config: MeshConfig;
  readonly diagnostics: readonly Diagnostic[];
}

/** `value` is the parsed YAML. A wrong field keeps its default and is reported. */
export function readMeshConfig(value: unknown, rootNamespace: string): ReadMeshConfig {
  const reader: Reader = createReader();
  const d = { ...DEFAULT_MESH_CONFIG, rootNamespace };
  const known = [
    'trustDomain',
    'trustDomainAliases',
    'rootNamespace',
    'enableAutoMtls',
    'enableTracing',
    'accessLogFile',
    'accessLogFormat',
    'accessLogEncoding',
    'disableEnvoyListenerLog',
    'outboundTrafficPolicy',
    'connectTimeout',
    'protocolDetectionTimeout',
    'meshMTLS',
    'pathNormalization',
    'localityLbSetting',
    ...OTHERS,
  ];
  const raw = object(reader, value, '', known) ?? {};
  const policy = object(reader, raw.outboundTrafficPolicy, 'outboundTrafficPolicy', ['mode']);
  const tls = object(reader, raw.meshMTLS, 'meshMTLS', ['minProtocolVersion', 'cipherSuites']);
  const minimum = oneOf(reader, tls?.minProtocolVersion, 'meshMTLS.minProtocolVersion', [
    'TLS_AUTO',
    'TLSV1_2',
    'TLSV1_3',
  ]);
  const normal = object(reader, raw.pathNormalization, 'pathNormalization', ['normalization']);
  const config: MeshConfig = {
    trustDomain: text(reader, raw.trustDomain, 'trustDomain') || d.trustDomain,
    trustDomainAliases: texts(reader, raw.trustDomainAliases, 'trustDomainAliases'),
    rootNamespace: text(reader, raw.rootNamespace, 'rootNamespace') || d.rootNamespace,
    enableAutoMtls: flag(reader, raw.enableAutoMtls, 'enableAutoMtls') ?? d.enableAutoMtls,
    enableTracing: flag(reader, raw.enableTracing, 'enableTracing') ?? d.enableTracing,
    accessLogFile: text(reader, raw.accessLogFile, 'accessLogFile') ?? d.accessLogFile,
    accessLogFormat: text(reader, raw.accessLogFormat, 'accessLogFormat') ?? d.accessLogFormat,
    accessLogEncoding:
      oneOf(reader, raw.accessLogEncoding, 'accessLogEncoding', ['TEXT', 'JSON']) ?? d.accessLogEncoding,
    disableEnvoyListenerLog:
      flag(reader, raw.disableEnvoyListenerLog, 'disableEnvoyListenerLog') ?? d.disableEnvoyListenerLog,
    outboundTrafficPolicy:
      oneOf(reader, policy?.mode, 'outboundTrafficPolicy.mode', ['ALLOW_ANY', 'REGISTRY_ONLY']) ??
      d.outboundTrafficPolicy,
    connectTimeoutMs: duration(reader, raw.connectTimeout, 'connectTimeout') ?? d.connectTimeoutMs,
    protocolDetectionTimeoutMs:
      duration(reader, raw.protocolDetectionTimeout, 'protocolDetectionTimeout') ?? d.protocolDetectionTimeoutMs,
    meshMtlsMinProtocol: minimum === 'TLSV1_3' ? 'TLSV1_3' : 'TLSV1_2',
    meshMtlsCipherSuites: texts(reader, tls?.cipherSuites, 'meshMTLS.cipherSuites'),
    localityLb: readLocality(reader, raw.localityLbSetting, 'localityLbSetting') ?? d.localityLb,
    pathNormalization:
      oneOf(reader, normal?.normalization, 'pathNormalization.normalization', [
        'DEFAULT',
        'NONE',
        'BASE',
        'MERGE_SLASHES',
        'DECODE_AND_MERGE_SLASHES',
      ]) ?? d.pathNormalization,
  };
  return { config, diagnostics: reader.diagnostics };
}
