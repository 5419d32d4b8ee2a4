// Network and HTTP filters in Istio's order (traffic.md §10.1), and the connection manager around them.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { FilterSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import type { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { CorsSchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { RouterSchema } from '#proto/envoy/extensions/filters/http/router/v3/router_pb.js';
import {
  HttpConnectionManager_CodecType as Codec,
  HttpConnectionManager_ForwardClientCertDetails as ForwardCert,
  HttpConnectionManagerSchema,
  HttpConnectionManager_PathWithEscapedSlashesAction as SlashAction,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { TcpProxySchema } from '#proto/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js';
import { FilterConfig_Protocol as AlpnProtocol, FilterConfigSchema as AlpnSchema } from '#proto/istio/filters_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import { ConfigSchema as PeerMetadataSchema } from '#proto/istio/peer_metadata_pb.js';
import { PluginConfigSchema } from '#proto/istio/stats_pb.js';
import type { MeshConfig } from '../../api/mesh/mesh-config.ts';
import { packAny } from '../../base/envoy-api/any.ts';
import { accessLogs } from './access-log.ts';
import { ADS_SOURCE, protoDuration, ZERO } from './common.ts';

type Filter = MessageInitShape<typeof FilterSchema>;
type HcmInit = MessageInitShape<typeof HttpConnectionManagerSchema>;

export type Direction = 'inbound' | 'outbound' | 'gateway';

const typed = (name: string, value: ReturnType<typeof packAny>) => ({
  name,
  configType: { case: 'typedConfig' as const, value },
});

const ISTIO_HEADERS = { methodSpecifier: { case: 'istioHeaders', value: {} } } as const;
const SKIP_EXTERNAL = { methodSpecifier: { case: 'istioHeaders', value: { skipExternalClusters: true } } } as const;

const PEER_METADATA: Readonly<Record<Direction, ReturnType<typeof packAny>>> = {
  inbound: packAny(PeerMetadataSchema, {
    downstreamDiscovery: [ISTIO_HEADERS],
    downstreamPropagation: [ISTIO_HEADERS],
  }),
  outbound: packAny(PeerMetadataSchema, { upstreamDiscovery: [ISTIO_HEADERS], upstreamPropagation: [ISTIO_HEADERS] }),
  gateway: packAny(PeerMetadataSchema, { upstreamDiscovery: [ISTIO_HEADERS], upstreamPropagation: [SKIP_EXTERNAL] }),
};

const STATS: Readonly<Record<Direction, ReturnType<typeof packAny>>> = {
  inbound: packAny(PluginConfigSchema, { disableHostHeaderFallback: true }),
  outbound: packAny(PluginConfigSchema, {}),
  gateway: packAny(PluginConfigSchema, { disableHostHeaderFallback: true }),
};

const ALPN = packAny(AlpnSchema, {
  alpnOverride: [
    { upstreamProtocol: AlpnProtocol.HTTP10, alpnOverride: ['istio-http/1.0', 'istio', 'http/1.0'] },
    { upstreamProtocol: AlpnProtocol.HTTP11, alpnOverride: ['istio-http/1.1', 'istio', 'http/1.1'] },
    { upstreamProtocol: AlpnProtocol.HTTP2, alpnOverride: ['istio-h2', 'istio', 'h2'] },
  ],
});

function httpFilters(direction: Direction) {
  return [
    typed('istio.metadata_exchange', PEER_METADATA[direction]),
    ...(direction === 'inbound' ? [] : [typed('istio.alpn', ALPN)]),
    typed('envoy.filters.http.fault', packAny(HTTPFaultSchema, {})),
    typed('envoy.filters.http.cors', packAny(CorsSchema, {})),
    typed('istio.stats', STATS[direction]),
    typed('envoy.filters.http.router', packAny(RouterSchema, {})),
  ];
}

const FORWARD: Readonly<Record<Direction, Pick<HcmInit, 'forwardClientCertDetails' | 'setCurrentClientCertDetails'>>> =
  {
    inbound: {
      forwardClientCertDetails: ForwardCert.APPEND_FORWARD,
      setCurrentClientCertDetails: { subject: true, uri: true, dns: true },
    },
    outbound: {},
    gateway: {
      forwardClientCertDetails: ForwardCert.SANITIZE_SET,
      setCurrentClientCertDetails: { subject: true, cert: true, uri: true, dns: true },
    },
  };

/** Istio's default, PILOT_TRACE_SAMPLING. */
const TRACED_PERCENT = 1;
const TRACING: NonNullable<HcmInit['tracing']> = {
  clientSampling: { value: 100 },
  randomSampling: { value: TRACED_PERCENT },
  overallSampling: { value: 100 },
};

export type Routing =
  | { readonly kind: 'rds'; readonly name: string }
  | { readonly kind: 'inline'; readonly config: MessageInitShape<typeof RouteConfigurationSchema> };

export function httpConnectionManager(
  mesh: MeshConfig,
  direction: Direction,
  statPrefix: string,
  routing: Routing,
): Filter {
  const init: HcmInit = {
    codecType: Codec.AUTO,
    statPrefix,
    routeSpecifier:
      routing.kind === 'rds'
        ? { case: 'rds', value: { routeConfigName: routing.name, configSource: ADS_SOURCE } }
        : { case: 'routeConfig', value: routing.config },
    httpFilters: httpFilters(direction),
    accessLog: accessLogs(mesh),
    streamIdleTimeout: ZERO,
    useRemoteAddress: direction === 'gateway',
    upgradeConfigs: [{ upgradeType: 'websocket' }],
    ...(mesh.enableTracing ? { tracing: TRACING } : {}),
    ...(direction === 'outbound' ? {} : { serverName: 'istio-envoy' }),
    ...FORWARD[direction],
    ...normalization(mesh),
  };
  return typed('envoy.filters.network.http_connection_manager', packAny(HttpConnectionManagerSchema, init));
}

function normalization(
  mesh: MeshConfig,
): Pick<HcmInit, 'normalizePath' | 'mergeSlashes' | 'pathWithEscapedSlashesAction'> {
  switch (mesh.pathNormalization) {
    case 'NONE':
      return { normalizePath: false };
    case 'MERGE_SLASHES':
      return { normalizePath: true, mergeSlashes: true };
    case 'DECODE_AND_MERGE_SLASHES':
      return {
        normalizePath: true,
        mergeSlashes: true,
        pathWithEscapedSlashesAction: SlashAction.UNESCAPE_AND_FORWARD,
      };
    default:
      return { normalizePath: true };
  }
}

/** Where connections of bytes go. */
export interface TcpTarget {
  readonly clusters: readonly { readonly name: string; readonly weight: number }[];
  readonly hashSourceIp?: boolean;
  readonly idleTimeoutMs?: number;
  readonly maxDurationMs?: number;
}

export function tcpFilters(mesh: MeshConfig, direction: Direction, target: string | TcpTarget): Filter[] {
  const exchange = typed(
    'istio.metadata_exchange',
    packAny(MetadataExchangeSchema, { protocol: 'istio-peer-exchange' }),
  );
  return [
    ...(direction === 'inbound' ? [exchange] : []),
    typed('istio.stats', STATS[direction]),
    tcpProxy(mesh, target),
  ];
}

export function tcpProxy(mesh: MeshConfig, to: string | TcpTarget): Filter {
  const target = typeof to === 'string' ? { clusters: [{ name: to, weight: 1 }] } : to;
  const { clusters, hashSourceIp, idleTimeoutMs, maxDurationMs }: TcpTarget = target;
  const [first] = clusters;
  return typed(
    'envoy.filters.network.tcp_proxy',
    packAny(TcpProxySchema, {
      statPrefix: first?.name ?? '',
      clusterSpecifier:
        clusters.length === 1
          ? { case: 'cluster', value: first?.name ?? '' }
          : { case: 'weightedClusters', value: { clusters: clusters.map((c) => ({ ...c })) } },
      ...(hashSourceIp ? { hashPolicy: [{ policySpecifier: { case: 'sourceIp', value: {} } }] } : {}),
      ...(idleTimeoutMs === undefined ? {} : { idleTimeout: protoDuration(idleTimeoutMs) }),
      ...(maxDurationMs === undefined ? {} : { maxDownstreamConnectionDuration: protoDuration(maxDurationMs) }),
      accessLog: accessLogs(mesh),
    }),
  );
}
