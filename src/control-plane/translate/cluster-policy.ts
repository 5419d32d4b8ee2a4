// What a DestinationRule's trafficPolicy makes of an outbound cluster: balancing, limits, ejection (traffic.md §5). Called by clusters.ts.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import type { CircuitBreakersSchema } from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import {
  type Cluster_SlowStartConfigSchema,
  type ClusterSchema,
  Cluster_LbPolicy as Lb,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import type { OutlierDetectionSchema } from '#proto/envoy/config/cluster/v3/outlier_detection_pb.js';
import {
  type HttpProtocolOptions_ExplicitHttpConfigSchema,
  HttpProtocolOptionsSchema,
} from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import type { ConnectionPool, LoadBalancer, OutlierDetection } from '../../api/istio/traffic-policy.ts';
import { packAny } from '../../base/envoy-api/any.ts';
import type { EffectivePolicy } from '../model/destination-rules.ts';
import { isHttp2, type Protocol } from '../model/protocol.ts';
import { MAX_UINT32, protoDuration } from './common.ts';

export type ClusterInit = Extract<MessageInitShape<typeof ClusterSchema>, { readonly $typeName?: undefined }>;

/** Balancing of a cluster whose endpoints are listed. */
export function balancing(policy: EffectivePolicy, hasLocalityWeights: boolean): Partial<ClusterInit> {
  const { lb } = policy;
  return {
    ...algorithm(lb),
    commonLbConfig: {
      healthyPanicThreshold: { value: policy.outlier?.minHealthPercent ?? 0 },
      ...(hasLocalityWeights
        ? { localityConfigSpecifier: { case: 'localityWeightedLbConfig' as const, value: {} } }
        : {}),
    },
  };
}

function algorithm(lb: LoadBalancer | undefined): Pick<ClusterInit, 'lbPolicy' | 'lbConfig'> {
  const hash = lb?.hash;
  if (hash?.algorithm.kind === 'ring')
    return {
      lbPolicy: Lb.RING_HASH,
      lbConfig: { case: 'ringHashLbConfig', value: { minimumRingSize: BigInt(hash.algorithm.minimumSize) } },
    };
  if (hash?.algorithm.kind === 'maglev')
    return {
      lbPolicy: Lb.MAGLEV,
      lbConfig: { case: 'maglevLbConfig', value: { tableSize: BigInt(hash.algorithm.tableSize) } },
    };
  const slowStartConfig = slowStart(lb);
  switch (lb?.simple) {
    case 'ROUND_ROBIN':
      return {
        lbPolicy: Lb.ROUND_ROBIN,
        ...(slowStartConfig ? { lbConfig: { case: 'roundRobinLbConfig' as const, value: { slowStartConfig } } } : {}),
      };
    case 'RANDOM':
      return { lbPolicy: Lb.RANDOM };
    default:
      return {
        lbPolicy: Lb.LEAST_REQUEST,
        ...(slowStartConfig ? { lbConfig: { case: 'leastRequestLbConfig' as const, value: { slowStartConfig } } } : {}),
      };
  }
}

function slowStart(lb: LoadBalancer | undefined): MessageInitShape<typeof Cluster_SlowStartConfigSchema> | undefined {
  const { warmup } = lb ?? {};
  if (!warmup) return undefined;
  return {
    slowStartWindow: protoDuration(warmup.durationMs),
    minWeightPercent: { value: warmup.minimumPercent },
    ...(warmup.aggression === 1
      ? {}
      : { aggression: { defaultValue: warmup.aggression, runtimeKey: 'upstream.warmup_aggression' } }),
  };
}

/** Circuit breakers; what is not limited is not counted either. */
export function limitsOf(pool: ConnectionPool | undefined): MessageInitShape<typeof CircuitBreakersSchema> {
  return {
    thresholds: [
      {
        maxConnections: pool?.maxConnections ?? MAX_UINT32,
        maxPendingRequests: pool?.http1MaxPendingRequests ?? MAX_UINT32,
        maxRequests: pool?.http2MaxRequests ?? MAX_UINT32,
        maxRetries: pool?.maxRetries ?? MAX_UINT32,
        trackRemaining: true,
      },
    ],
  };
}

export function keepalive(pool: ConnectionPool | undefined): Partial<ClusterInit> {
  const keep = pool?.keepalive;
  if (!keep) return {};
  return {
    upstreamConnectionOptions: {
      tcpKeepalive: {
        ...(keep.probes === undefined ? {} : { keepaliveProbes: keep.probes }),
        ...(keep.timeMs === undefined ? {} : { keepaliveTime: Math.ceil(keep.timeMs / 1000) }),
        ...(keep.intervalMs === undefined ? {} : { keepaliveInterval: Math.ceil(keep.intervalMs / 1000) }),
      },
    },
  };
}

/** Success-rate ejection stays off, as in Istio. */
export function ejection(outlier: OutlierDetection | undefined): Partial<ClusterInit> {
  if (!outlier) return {};
  const out: MessageInitShape<typeof OutlierDetectionSchema> = {
    enforcingSuccessRate: 0,
    // Whatever the percentage, one host may go: Istio's promise, which newer Envoys keep only when asked.
    alwaysEjectOneHost: true,
    consecutive5xx: outlier.consecutive5xxErrors ?? 5,
    // 0 switches it off.
    enforcingConsecutive5xx: outlier.consecutive5xxErrors === 0 ? 0 : 100,
    ...(outlier.consecutiveGatewayErrors === undefined
      ? {}
      : {
          consecutiveGatewayFailure: outlier.consecutiveGatewayErrors,
          enforcingConsecutiveGatewayFailure: outlier.consecutiveGatewayErrors === 0 ? 0 : 100,
        }),
    ...(outlier.intervalMs === undefined ? {} : { interval: protoDuration(outlier.intervalMs) }),
    ...(outlier.baseEjectionMs === undefined ? {} : { baseEjectionTime: protoDuration(outlier.baseEjectionMs) }),
    ...(outlier.maxEjectionPercent === undefined ? {} : { maxEjectionPercent: outlier.maxEjectionPercent }),
    ...(outlier.splitLocalErrors
      ? {
          splitExternalLocalOriginErrors: true,
          enforcingLocalOriginSuccessRate: 0,
          ...(outlier.consecutiveLocalOriginFailures === undefined
            ? {}
            : {
                consecutiveLocalOriginFailure: outlier.consecutiveLocalOriginFailures,
                enforcingConsecutiveLocalOriginFailure: 100,
              }),
        }
      : {}),
  };
  return { outlierDetection: out };
}

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
type OptionsInit = MessageInitShape<typeof HttpProtocolOptionsSchema>;

/** How HTTP is spoken to the upstream. Without names of its own, a user's TLS takes SNI and the expected name from the request's host. */
export function protocolOptions(protocol: Protocol, policy?: EffectivePolicy): Record<string, Any> {
  const { pool, tls } = policy ?? {};
  const userTls = tls && (tls.mode === 'SIMPLE' || tls.mode === 'MUTUAL') ? tls : undefined;
  const autoSni = userTls !== undefined && !userTls.sni;
  const autoSanValidation = autoSni && userTls.subjectAltNames.length === 0 && !userTls.insecureSkipVerify;
  const common = {
    ...(pool?.httpIdleTimeoutMs === undefined ? {} : { idleTimeout: protoDuration(pool.httpIdleTimeoutMs) }),
    ...(pool?.maxRequestsPerConnection === undefined
      ? {}
      : { maxRequestsPerConnection: pool.maxRequestsPerConnection }),
    ...(pool?.maxConnectionDurationMs === undefined
      ? {}
      : { maxConnectionDuration: protoDuration(pool.maxConnectionDurationMs) }),
  };
  const hasCommon = Object.keys(common).length > 0;
  const choice = protocolChoice(protocol, pool);
  if (!autoSni && !hasCommon && choice === 'http1') return {};
  const init: OptionsInit = {
    ...(autoSni ? { upstreamHttpProtocolOptions: { autoSni, autoSanValidation } } : {}),
    ...(hasCommon ? { commonHttpProtocolOptions: common } : {}),
    upstreamProtocolOptions: upstreamProtocol(choice, pool),
  };
  return { [OPTIONS]: packAny(HttpProtocolOptionsSchema, init) };
}

type Choice = 'http1' | 'http2' | 'downstream';

function protocolChoice(protocol: Protocol, pool: ConnectionPool | undefined): Choice {
  if (isHttp2(protocol) || speaksHttp2(protocol, pool)) return 'http2';
  if (protocol === 'auto' || pool?.useClientProtocol) return 'downstream';
  return 'http1';
}

/** h2UpgradePolicy lets HTTP/1 requests travel by HTTP/2. */
export function speaksHttp2(protocol: Protocol, pool: ConnectionPool | undefined): boolean {
  return isHttp2(protocol) || (protocol === 'HTTP' && pool?.h2UpgradePolicy === 'UPGRADE');
}

function upstreamProtocol(choice: Choice, pool: ConnectionPool | undefined): OptionsInit['upstreamProtocolOptions'] {
  const http2ProtocolOptions =
    pool?.maxConcurrentStreams === undefined ? {} : { maxConcurrentStreams: pool.maxConcurrentStreams };
  if (choice === 'downstream')
    return { case: 'useDownstreamProtocolConfig', value: { httpProtocolOptions: {}, http2ProtocolOptions } };
  const value: MessageInitShape<typeof HttpProtocolOptions_ExplicitHttpConfigSchema> =
    choice === 'http2'
      ? { protocolConfig: { case: 'http2ProtocolOptions', value: http2ProtocolOptions } }
      : { protocolConfig: { case: 'httpProtocolOptions', value: {} } };
  return { case: 'explicitHttpConfig', value };
}
