// The virtualInbound listener of a sidecar: filter chains by port, protocol and mTLS mode (mtls.md §3).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import type { FilterChainSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import type { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import {
  BLACKHOLE_CLUSTER,
  INBOUND_CAPTURE_PORT,
  INBOUND_PASSTHROUGH_CLUSTER,
  inboundCluster,
  VIRTUAL_INBOUND,
} from '../../base/xds/names.ts';
import { type EffectiveMode, effectivePeerAuthentication, modeOfPort } from '../model/peer-authentication.ts';
import { classOf, type ProtocolClass } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import { labelsOf, type Snapshot, targetsOf } from '../model/snapshot.ts';
import { listenerLogs } from './access-log.ts';
import { address, protoDuration, ZERO } from './common.ts';
import { httpConnectionManager, tcpFilters, tcpProxy } from './filters.ts';
import { disabledPorts, httpInspector, originalDst, tlsInspector } from './listener-filters.ts';
import { inboundTls } from './tls.ts';

type Chain = MessageInitShape<typeof FilterChainSchema>;

const ALPN_HTTP = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'];
const ALPN_TCP = ['istio-peer-exchange', 'istio'];
const ALPN_ALL = [...ALPN_HTTP, ...ALPN_TCP];
export const PLAIN_HTTP = ['http/1.1', 'h2c'];
const SERVER_ALPN_HTTP = ['h2', 'http/1.1'];
const SERVER_ALPN_TCP = ['istio-peer-exchange', 'h2', 'http/1.1'];

type Handler = 'http' | 'tcp';

/** One row of the table of mtls.md §3.1. */
interface ChainRule {
  readonly transport: 'tls' | 'raw_buffer';
  readonly alpn?: readonly string[];
  readonly handler: Handler;
  /** Terminates the mesh's TLS. */
  readonly mtls: boolean;
}

const RULES: Readonly<Record<ProtocolClass, Readonly<Record<EffectiveMode, readonly ChainRule[]>>>> = {
  http: {
    STRICT: [{ transport: 'tls', handler: 'http', mtls: true }],
    PERMISSIVE: [
      { transport: 'tls', alpn: ALPN_ALL, handler: 'http', mtls: true },
      { transport: 'raw_buffer', handler: 'http', mtls: false },
    ],
    DISABLE: [{ transport: 'raw_buffer', handler: 'http', mtls: false }],
  },
  tcp: {
    STRICT: [{ transport: 'tls', handler: 'tcp', mtls: true }],
    PERMISSIVE: [
      { transport: 'tls', alpn: ALPN_ALL, handler: 'tcp', mtls: true },
      { transport: 'tls', handler: 'tcp', mtls: false },
      { transport: 'raw_buffer', handler: 'tcp', mtls: false },
    ],
    DISABLE: [{ transport: 'raw_buffer', handler: 'tcp', mtls: false }],
  },
  auto: {
    STRICT: [
      { transport: 'tls', alpn: ALPN_HTTP, handler: 'http', mtls: true },
      { transport: 'tls', handler: 'tcp', mtls: true },
    ],
    PERMISSIVE: [
      { transport: 'tls', alpn: ALPN_HTTP, handler: 'http', mtls: true },
      { transport: 'raw_buffer', alpn: PLAIN_HTTP, handler: 'http', mtls: false },
      { transport: 'tls', alpn: ALPN_TCP, handler: 'tcp', mtls: true },
      { transport: 'raw_buffer', handler: 'tcp', mtls: false },
      { transport: 'tls', handler: 'tcp', mtls: false },
    ],
    DISABLE: [
      { transport: 'raw_buffer', alpn: PLAIN_HTTP, handler: 'http', mtls: false },
      { transport: 'raw_buffer', handler: 'tcp', mtls: false },
    ],
  },
};

/** What one port (or all unknown ports) leads to. */
interface InboundPort {
  /** Undefined: every port that has no chain of its own. */
  readonly port: number | undefined;
  readonly chainName: (handler: Handler) => string;
  readonly statPrefix: string;
  readonly cluster: string;
  readonly protocol: ProtocolClass;
  readonly mode: EffectiveMode;
  readonly route: MessageInitShape<typeof RouteConfigurationSchema>;
}

export function buildInboundListener(snapshot: Snapshot, proxy: ProxyNode): EncodedResource {
  const { mesh } = snapshot;
  const effective = effectivePeerAuthentication(
    snapshot.peerAuthentication,
    proxy.namespace,
    labelsOf(snapshot, proxy),
  );
  const services = new Map<number, InboundPort>();
  for (const { service, port, targetPort } of targetsOf(snapshot, proxy)) {
    if (services.has(targetPort)) continue;
    const cluster = inboundCluster(targetPort);
    services.set(targetPort, {
      port: targetPort,
      chainName: () => `0.0.0.0_${targetPort}`,
      statPrefix: `inbound_0.0.0.0_${targetPort};`,
      cluster,
      protocol: classOf(port.protocol),
      mode: modeOfPort(effective, targetPort),
      route: inboundRoute(cluster, cluster, port.port, `${service.host}:${port.port}/*`),
    });
  }
  const extra = [...effective.ports].filter(([port]) => !services.has(port));
  const ports = [
    passthrough(undefined, effective.mode),
    ...extra.map(([port, mode]) => passthrough(port, mode)),
    ...services.values(),
  ];
  const chains = [blackhole(snapshot), ...ports.flatMap((port) => chainsOf(snapshot, port))];
  return encodeResource(ListenerSchema, VIRTUAL_INBOUND, {
    name: VIRTUAL_INBOUND,
    address: address('0.0.0.0', INBOUND_CAPTURE_PORT),
    trafficDirection: TrafficDirection.INBOUND,
    filterChains: chains,
    listenerFilters: inspectors(ports),
    listenerFiltersTimeout: mesh.protocolDetectionTimeoutMs > 0 ? protoDuration(mesh.protocolDetectionTimeoutMs) : ZERO,
    continueOnListenerFiltersTimeout: true,
    accessLog: listenerLogs(mesh),
    ...(proxy.interceptionMode === 'TPROXY' ? { transparent: true } : {}),
  });
}

function passthrough(port: number | undefined, mode: EffectiveMode): InboundPort {
  const cluster = INBOUND_PASSTHROUGH_CLUSTER;
  return {
    port,
    chainName: (handler) => (handler === 'http' ? 'virtualInbound-catchall-http' : VIRTUAL_INBOUND),
    statPrefix: 'inbound_0.0.0.0_15006;',
    cluster,
    protocol: 'auto',
    mode,
    route: inboundRoute(cluster, cluster, 0, undefined),
  };
}

/** Connections to the capture port itself would go round in circles. */
function blackhole(snapshot: Snapshot): Chain {
  return {
    name: 'virtualInbound-blackhole',
    filterChainMatch: { destinationPort: INBOUND_CAPTURE_PORT },
    filters: [tcpProxy(snapshot.mesh, BLACKHOLE_CLUSTER)],
  };
}

function chainsOf(snapshot: Snapshot, port: InboundPort): Chain[] {
  const { mesh } = snapshot;
  return RULES[port.protocol][port.mode].map((rule) => ({
    name: port.chainName(rule.handler),
    filterChainMatch: {
      ...(port.port === undefined ? {} : { destinationPort: port.port }),
      transportProtocol: rule.transport,
      ...(rule.alpn ? { applicationProtocols: [...rule.alpn] } : {}),
    },
    filters:
      rule.handler === 'http'
        ? [httpConnectionManager(mesh, 'inbound', port.statPrefix, { kind: 'inline', config: port.route })]
        : tcpFilters(mesh, 'inbound', port.cluster),
    ...(rule.mtls
      ? { transportSocket: inboundTls(mesh, rule.handler === 'http' ? SERVER_ALPN_HTTP : SERVER_ALPN_TCP) }
      : {}),
  }));
}

function inspectors(ports: readonly InboundPort[]) {
  const needsTls = (p: InboundPort) => RULES[p.protocol][p.mode].some((r) => r.transport === 'tls');
  // Plaintext that must be told apart: HTTP or not.
  const needsHttp = (p: InboundPort) => RULES[p.protocol][p.mode].some((r) => r.alpn === PLAIN_HTTP);
  const predicate = (needs: (p: InboundPort) => boolean) => {
    const known = new Map<number, boolean>();
    let otherwise = false;
    for (const port of ports) {
      if (port.port === undefined) otherwise = needs(port);
      else known.set(port.port, needs(port));
    }
    return disabledPorts(known, otherwise);
  };
  const tls = predicate(needsTls);
  const http = predicate(needsHttp);
  return [
    originalDst(),
    ...(tls === 'never' ? [] : [tlsInspector(tls)]),
    ...(http === 'never' ? [] : [httpInspector(http)]),
  ];
}

function inboundRoute(
  name: string,
  cluster: string,
  servicePort: number,
  operation: string | undefined,
): MessageInitShape<typeof RouteConfigurationSchema> {
  return {
    name,
    validateClusters: false,
    virtualHosts: [
      {
        name: `inbound|http|${servicePort}`,
        domains: ['*'],
        routes: [
          {
            name: 'default',
            match: { pathSpecifier: { case: 'prefix', value: '/' } },
            action: {
              case: 'route',
              value: {
                clusterSpecifier: { case: 'cluster', value: cluster },
                timeout: ZERO,
                maxStreamDuration: { maxStreamDuration: ZERO, grpcTimeoutHeaderMax: ZERO },
              },
            },
            ...(operation ? { decorator: { operation } } : {}),
          },
        ],
      },
    ],
  };
}
