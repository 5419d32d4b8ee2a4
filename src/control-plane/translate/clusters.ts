// Clusters of a proxy: outbound for every visible Service port and subset, inbound for its own ports, and the special ones (traffic.md §1, §5).
import {
  ClusterSchema,
  Cluster_DiscoveryType as Discovery,
  Cluster_DnsLookupFamily as DnsFamily,
  Cluster_LbPolicy as Lb,
} from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import type { Subset } from '../../api/istio/destination-rule.ts';
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
import { classOf } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { memoize, type Snapshot, type Target, targetsOf } from '../model/snapshot.ts';
import {
  balancing,
  type ClusterInit,
  ejection,
  keepalive,
  limitsOf,
  protocolOptions,
  speaksHttp2,
} from './cluster-policy.ts';
import { ADS_SOURCE, istioMetadata, protoDuration, RAW_BUFFER } from './common.ts';
import { staticAssignment } from './endpoints.ts';
import { outboundMtls, outboundUserTls } from './tls.ts';

/** Envoy's own connections to the application carry this source address, so that capture lets them pass. */
const INBOUND_SOURCE = '127.0.0.6';
/** Of names whose answer says nothing about its life (mesh dnsRefreshRate). */
const DNS_REFRESH_MS = 60_000;

const TCP_METADATA_EXCHANGE = {
  name: 'istio.metadata_exchange',
  typedConfig: packAny(MetadataExchangeSchema, { protocol: 'istio-peer-exchange' }),
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
    circuitBreakers: limitsOf(undefined),
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
  for (const { targetPort } of targets) {
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
        ...inboundPool(
          snapshot,
          proxy,
          targets.find((t) => t.targetPort === targetPort),
        ),
        upstreamBindConfig: {
          sourceAddress: { address: INBOUND_SOURCE, portSpecifier: { case: 'portValue', value: 0 } },
        },
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
  const discovery = discoveryOf(snapshot, service, port, subset, policy, name);
  return encode({
    name,
    ...discovery,
    connectTimeout: protoDuration(policy.pool?.connectTimeoutMs ?? snapshot.mesh.connectTimeoutMs),
    circuitBreakers: limitsOf(policy.pool),
    ...keepalive(policy.pool),
    ...ejection(policy.outlier),
    typedExtensionProtocolOptions: protocolOptions(port.protocol, policy),
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

/** Pools hold on the server's side too; balancing, ejection and TLS are the client's. */
function inboundPool(snapshot: Snapshot, proxy: ProxyNode, target: Target | undefined): Partial<ClusterInit> {
  if (!target) return {};
  const client = { namespace: proxy.namespace, rootNamespace: snapshot.mesh.rootNamespace };
  const rule = findDestinationRule(snapshot.destinationRules, client, target.service);
  const { pool } = effectivePolicy(rule, undefined, target.port.port);
  const own: EffectivePolicy = pool ? { pool: { ...pool, useClientProtocol: false, h2UpgradePolicy: 'DEFAULT' } } : {};
  return {
    circuitBreakers: limitsOf(pool),
    ...keepalive(pool),
    typedExtensionProtocolOptions: protocolOptions(target.port.protocol, own),
  };
}

function discoveryOf(
  snapshot: Snapshot,
  service: Service,
  port: ServicePort,
  subset: Subset | undefined,
  policy: EffectivePolicy,
  name: string,
): Partial<ClusterInit> {
  const type = (value: Discovery) => ({ clusterDiscoveryType: { case: 'type' as const, value } });
  if (usesOriginalDst(service, policy)) return { ...type(Discovery.ORIGINAL_DST), lbPolicy: Lb.CLUSTER_PROVIDED };
  const locality = policy.lb?.locality ?? snapshot.mesh.localityLb;
  const how = balancing(policy, locality.enabled && locality.distribute.length > 0);
  if (service.discovery === 'eds')
    return { ...type(Discovery.EDS), ...how, edsClusterConfig: { serviceName: name, edsConfig: ADS_SOURCE } };
  return {
    ...type(service.discovery === 'strict-dns' ? Discovery.STRICT_DNS : Discovery.LOGICAL_DNS),
    ...how,
    dnsLookupFamily: DnsFamily.V4_ONLY,
    respectDnsTtl: true,
    dnsRefreshRate: protoDuration(DNS_REFRESH_MS),
    loadAssignment: staticAssignment(snapshot, service, port, subset, policy, name),
  };
}

export function usesOriginalDst(service: Service, policy: EffectivePolicy): boolean {
  return service.headless || service.discovery === 'original-dst' || policy.lb?.simple === 'PASSTHROUGH';
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
  const http2 = speaksHttp2(port.protocol, policy.pool);
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
  if (!snapshot.mesh.enableAutoMtls || service.meshExternal) return {};
  if (usesOriginalDst(service, policy))
    return headlessUsesMtls(snapshot, service, port) ? { transportSocket: mtls() } : {};
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
