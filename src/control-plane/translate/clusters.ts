// CDS: outbound clusters per Service port and subset, inbound clusters per target port, and the special ones (traffic.md §1).
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import type { CircuitBreakersSchema } from '#proto/envoy/config/cluster/v3/circuit_breaker_pb.js';
import {
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_LbPolicy as Lb,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { HttpProtocolOptionsSchema } from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import type { ClientTls, SimpleLb, Subset } from '../../api/istio/destination-rule.ts';
import { type EncodedResource, encodeResource, packAny } from '../../base/envoy-api/any.ts';
import {
  BLACKHOLE_CLUSTER,
  defaultSni,
  INBOUND_PASSTHROUGH_CLUSTER,
  inboundCluster,
  outboundCluster,
  PASSTHROUGH_CLUSTER,
} from '../../base/xds/names.ts';
import {
  type EffectivePolicy,
  effectivePolicy,
  findDestinationRule,
  type MergedRule,
} from '../model/destination-rules.ts';
import { isVisible } from '../model/hosts.ts';
import { namespaceMode } from '../model/peer-authentication.ts';
import { classOf, isHttp2, type Protocol } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { memoize, type Snapshot, targetsOf } from '../model/snapshot.ts';
import { ADS_SOURCE, istioMetadata, MAX_UINT32, protoDuration, RAW_BUFFER } from './common.ts';
import { outboundMtls, outboundUserTls } from './tls.ts';

type ClusterInit = MessageInitShape<typeof ClusterSchema>;

/** Envoy's own connections to the application carry this source address, so that capture lets them pass. */
const INBOUND_SOURCE = '127.0.0.6';

const LIMITS: MessageInitShape<typeof CircuitBreakersSchema> = {
  thresholds: [
    {
      maxConnections: MAX_UINT32,
      maxPendingRequests: MAX_UINT32,
      maxRequests: MAX_UINT32,
      maxRetries: MAX_UINT32,
      trackRemaining: true,
    },
  ],
};

const TCP_METADATA_EXCHANGE = {
  name: 'istio.metadata_exchange',
  typedConfig: packAny(MetadataExchangeSchema, { protocol: 'istio-peer-exchange' }),
};

const LB: Readonly<Record<SimpleLb, Lb>> = {
  LEAST_REQUEST: Lb.LEAST_REQUEST,
  ROUND_ROBIN: Lb.ROUND_ROBIN,
  RANDOM: Lb.RANDOM,
};

export function buildClusters(snapshot: Snapshot, proxy: ProxyNode): readonly EncodedResource[] {
  const shared = memoize(snapshot, `cds|${proxy.namespace}`, () => outboundClusters(snapshot, proxy.namespace));
  const special = memoize(snapshot, 'cds-special', () => specialClusters(snapshot));
  if (proxy.type === 'router') return [...shared, ...special.outbound];
  return [...shared, ...inboundClusters(snapshot, proxy), ...special.outbound, ...special.inbound];
}

function encode(init: ClusterInit & { readonly name: string }): EncodedResource {
  return encodeResource(ClusterSchema, init.name, init);
}

function specialClusters(snapshot: Snapshot) {
  const connectTimeout = protoDuration(snapshot.mesh.connectTimeoutMs);
  const originalDst = {
    clusterDiscoveryType: { case: 'type', value: Discovery.ORIGINAL_DST } as const,
    lbPolicy: Lb.CLUSTER_PROVIDED,
    connectTimeout,
    circuitBreakers: LIMITS,
    typedExtensionProtocolOptions: protocolOptions('auto'),
  };
  return {
    outbound: [
      encode({
        name: BLACKHOLE_CLUSTER,
        clusterDiscoveryType: { case: 'type', value: Discovery.STATIC },
        connectTimeout,
      }),
      encode({ name: PASSTHROUGH_CLUSTER, ...originalDst }),
    ],
    inbound: [
      encode({
        name: INBOUND_PASSTHROUGH_CLUSTER,
        ...originalDst,
        upstreamBindConfig: {
          sourceAddress: { address: INBOUND_SOURCE, portSpecifier: { case: 'portValue', value: 0 } },
        },
      }),
    ],
  };
}

function inboundClusters(snapshot: Snapshot, proxy: ProxyNode): readonly EncodedResource[] {
  const out = new Map<string, EncodedResource>();
  const targets = targetsOf(snapshot, proxy);
  for (const { port, targetPort } of targets) {
    const name = inboundCluster(targetPort);
    if (out.has(name)) continue;
    const services = new Map(
      targets.filter((t) => t.targetPort === targetPort).map((t) => [t.service.host, serviceEntry(t.service)]),
    );
    out.set(
      name,
      encode({
        name,
        clusterDiscoveryType: { case: 'type', value: Discovery.ORIGINAL_DST },
        lbPolicy: Lb.CLUSTER_PROVIDED,
        connectTimeout: protoDuration(snapshot.mesh.connectTimeoutMs),
        circuitBreakers: LIMITS,
        upstreamBindConfig: {
          sourceAddress: { address: INBOUND_SOURCE, portSpecifier: { case: 'portValue', value: 0 } },
        },
        typedExtensionProtocolOptions: protocolOptions(port.protocol),
        metadata: istioMetadata({ services: [...services.values()] }),
      }),
    );
  }
  return [...out.values()];
}

function outboundClusters(snapshot: Snapshot, namespace: string): readonly EncodedResource[] {
  const out: EncodedResource[] = [];
  const client = { namespace, rootNamespace: snapshot.mesh.rootNamespace };
  for (const service of snapshot.services) {
    if (!isVisible(service.exportTo, service.namespace, namespace)) continue;
    const rule = findDestinationRule(snapshot.destinationRules, client, service);
    for (const port of service.ports) {
      if (port.protocol === 'UDP') continue;
      out.push(outbound(snapshot, service, port, rule, undefined));
      for (const subset of rule?.subsets ?? []) out.push(outbound(snapshot, service, port, rule, subset));
    }
  }
  return out;
}

function outbound(
  snapshot: Snapshot,
  service: Service,
  port: ServicePort,
  rule: MergedRule | undefined,
  subset: Subset | undefined,
): EncodedResource {
  const name = outboundCluster(port.port, subset?.name ?? '', service.host);
  const policy = effectivePolicy(rule, subset, port.port);
  const discovery = service.headless
    ? {
        clusterDiscoveryType: { case: 'type', value: Discovery.ORIGINAL_DST } as const,
        lbPolicy: Lb.CLUSTER_PROVIDED,
      }
    : {
        clusterDiscoveryType: { case: 'type', value: Discovery.EDS } as const,
        lbPolicy: LB[policy.lb ?? 'LEAST_REQUEST'],
        edsClusterConfig: { serviceName: name, edsConfig: ADS_SOURCE },
        commonLbConfig: { healthyPanicThreshold: { value: 0 } },
      };
  return encode({
    name,
    ...discovery,
    connectTimeout: protoDuration(snapshot.mesh.connectTimeoutMs),
    circuitBreakers: LIMITS,
    typedExtensionProtocolOptions: protocolOptions(port.protocol, policy.tls),
    filters: classOf(port.protocol) === 'http' ? [] : [TCP_METADATA_EXCHANGE],
    metadata: {
      filterMetadata: {
        istio: {
          ...(rule
            ? { config: `/apis/networking.istio.io/v1/namespaces/${rule.namespace}/destination-rule/${rule.names[0]}` }
            : {}),
          default_original_port: port.port,
          services: [serviceEntry(service)],
          ...(subset ? { subset: subset.name } : {}),
          // Tells the filter istio.alpn to leave the user's TLS its own ALPN.
          ...(usesUserTls(policy) ? { alpn_override: 'false' } : {}),
        },
      },
    },
    ...transport(snapshot, service, port, policy, subset?.name ?? ''),
  });
}

function usesUserTls(policy: EffectivePolicy): boolean {
  return policy.tls?.mode === 'SIMPLE' || policy.tls?.mode === 'MUTUAL';
}

/** mtls.md §6: what the rule says, else mTLS to every endpoint that can take it. */
function transport(
  snapshot: Snapshot,
  service: Service,
  port: ServicePort,
  policy: EffectivePolicy,
  subset: string,
): Pick<ClusterInit, 'transportSocket' | 'transportSocketMatches'> {
  const http2 = isHttp2(port.protocol);
  const { tls } = policy;
  const mtls = () =>
    outboundMtls({
      sni: tls?.sni ?? defaultSni(port.port, subset, service.host),
      sans: tls && tls.subjectAltNames.length > 0 ? tls.subjectAltNames : service.sans,
      http2,
    });
  if (tls) {
    if (tls.mode === 'DISABLE') return {};
    return { transportSocket: tls.mode === 'ISTIO_MUTUAL' ? mtls() : outboundUserTls(tls, http2) };
  }
  if (!snapshot.mesh.enableAutoMtls) return {};
  if (service.headless) return headlessUsesMtls(snapshot, service, port) ? { transportSocket: mtls() } : {};
  if (namespaceMode(snapshot.peerAuthentication, service.namespace) === 'DISABLE') return {};
  return {
    transportSocketMatches: [
      { name: 'tlsMode-istio', match: { tlsMode: 'istio' }, transportSocket: mtls() },
      { name: 'tlsMode-disabled', match: {}, transportSocket: RAW_BUFFER },
    ],
  };
}

/** One socket serves all endpoints of a headless Service, so all must be able to take mTLS. */
function headlessUsesMtls(snapshot: Snapshot, service: Service, port: ServicePort): boolean {
  const endpoints = service.endpoints.get(port.port) ?? [];
  return (
    namespaceMode(snapshot.peerAuthentication, service.namespace) !== 'DISABLE' &&
    endpoints.length > 0 &&
    endpoints.every((e) => e.workload?.tlsMode === 'istio')
  );
}

function serviceEntry(service: Service): Record<string, string> {
  return { host: service.host, name: service.name, namespace: service.namespace };
}

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/** Without names of its own, a user's TLS takes SNI and the expected certificate name from the request's host. */
function protocolOptions(protocol: Protocol, tls?: ClientTls): Record<string, Any> {
  const userTls = tls && (tls.mode === 'SIMPLE' || tls.mode === 'MUTUAL') ? tls : undefined;
  const autoSni = userTls !== undefined && !userTls.sni;
  const autoSanValidation = autoSni && userTls.subjectAltNames.length === 0 && !userTls.insecureSkipVerify;
  const names = autoSni ? { upstreamHttpProtocolOptions: { autoSni, autoSanValidation } } : {};
  if (isHttp2(protocol)) return { [OPTIONS]: options({ ...names, upstreamProtocolOptions: HTTP2 }) };
  if (protocol === 'auto') return { [OPTIONS]: options({ ...names, upstreamProtocolOptions: SAME_AS_CLIENT }) };
  return autoSni ? { [OPTIONS]: options({ ...names, upstreamProtocolOptions: HTTP1 }) } : {};
}

type OptionsInit = MessageInitShape<typeof HttpProtocolOptionsSchema>;
const options = (init: OptionsInit): Any => packAny(HttpProtocolOptionsSchema, init);
type Choice = OptionsInit['upstreamProtocolOptions'];
const HTTP1: Choice = {
  case: 'explicitHttpConfig',
  value: { protocolConfig: { case: 'httpProtocolOptions', value: {} } },
};
const HTTP2: Choice = {
  case: 'explicitHttpConfig',
  value: { protocolConfig: { case: 'http2ProtocolOptions', value: {} } },
};
const SAME_AS_CLIENT: Choice = {
  case: 'useDownstreamProtocolConfig',
  value: { httpProtocolOptions: {}, http2ProtocolOptions: {} },
};
