// Makes the resources of a proxy fit for a stock Envoy. What only Istio's build of Envoy and our own proxy know is replaced by
// stock means or left out; docs/reference/engine-differences.md says what that costs. Called by generate.ts, in one place, after
// the translation proper.
import { create, fromBinary } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { type Cluster, ClusterSchema } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import {
  HeaderValueOption_HeaderAppendAction as AppendAction,
  TrafficDirection,
  type TransportSocket,
} from '#proto/envoy/config/core/v3/base_pb.js';
import type { FilterChain } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { HeaderMutationSchema } from '#proto/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js';
import { ConfigSchema as SetFilterStateSchema } from '#proto/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js';
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  type HttpFilter,
  HttpFilterSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { CelSchema } from '#proto/envoy/extensions/formatter/cel/v3/cel_pb.js';
import {
  DownstreamTlsContextSchema,
  type UpstreamTlsContext,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import {
  type HttpProtocolOptions,
  HttpProtocolOptionsSchema,
} from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import { type EncodedResource, encodeResource, packAny, unpackAny } from '../../base/envoy-api/any.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { ProxyNode } from '../model/proxy.ts';

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const FILTER_STATE = 'envoy.filters.http.set_filter_state';
const PEER = 'x-envoy-peer-metadata';
const PEER_ID = 'x-envoy-peer-metadata-id';
/** Offering it would make the peer wait for a greeting that no stock filter sends. */
const PEER_EXCHANGE = 'istio-peer-exchange';
/** Filters of Istio's build: `istio.metadata_exchange`, `istio.alpn`, `istio.stats`. */
const ISTIO_FILTER = /^istio\./;

/** What istio.alpn would choose, by what the cluster speaks. */
const ALPN = {
  http1: ['istio-http/1.1', 'istio', 'http/1.1'],
  http2: ['istio-h2', 'istio', 'h2'],
  tcp: ['istio'],
} as const;

const done = new WeakMap<EncodedResource, Map<string, EncodedResource>>();

/** `resources` as this proxy's engine takes them; `clusters` are those the proxy gets, as translated. */
export function forEngine(
  resources: readonly EncodedResource[],
  proxy: ProxyNode,
  typeUrl: string,
  clusters: () => readonly EncodedResource[],
): readonly EncodedResource[] {
  if (proxy.engine !== 'envoy') return resources;
  switch (typeUrl) {
    case TYPE_URL.cluster:
      return resources.map((one) => once(one, '', stockCluster));
    case TYPE_URL.listener:
      return resources.map((one) => once(one, `${proxy.type} ${proxy.nodeId}`, () => stockListener(one, proxy)));
    case TYPE_URL.route: {
      const found = sniffedClusters(clusters());
      return found.size === 0 ? resources : resources.map((one) => stockRoutes(one, found));
    }
    default:
      return resources;
  }
}

/** Resources are shared by many proxies and pushes: each is rewritten once. */
function once(
  resource: EncodedResource,
  key: string,
  rewrite: (resource: EncodedResource) => EncodedResource,
): EncodedResource {
  const forms = done.get(resource) ?? new Map<string, EncodedResource>();
  done.set(resource, forms);
  const known = forms.get(key);
  if (known) return known;
  const made = rewrite(resource);
  forms.set(key, made);
  return made;
}

function stockCluster(resource: EncodedResource): EncodedResource {
  const cluster = fromBinary(ClusterSchema, resource.any.value);
  const alpn = ALPN[spoken(cluster)];
  const fit = (socket: TransportSocket | undefined): void => upstreamAlpn(socket, alpn);
  fit(cluster.transportSocket);
  for (const match of cluster.transportSocketMatches) fit(match.transportSocket);
  cluster.filters = cluster.filters.filter((filter) => !ISTIO_FILTER.test(filter.name));
  return encodeResource(ClusterSchema, resource.name, cluster);
}

/** Clusters of TCP and of undeclared ports carry the filter of the TCP exchange; HTTP over the latter says so by itself. */
function spoken(cluster: Cluster): keyof typeof ALPN {
  if (cluster.filters.some((filter) => ISTIO_FILTER.test(filter.name))) return 'tcp';
  const choice = choiceOf(cluster);
  const http2 = choice?.case === 'explicitHttpConfig' && choice.value.protocolConfig.case === 'http2ProtocolOptions';
  return http2 ? 'http2' : 'http1';
}

function choiceOf(cluster: Cluster): HttpProtocolOptions['upstreamProtocolOptions'] | undefined {
  const any = cluster.typedExtensionProtocolOptions[OPTIONS];
  return any && unpackAny(HttpProtocolOptionsSchema, any)?.upstreamProtocolOptions;
}

/** The context, when `socket` is the mesh's own TLS: a user's TLS offers no exchange, and keeps the ALPN it says. */
function meshTls(socket: TransportSocket | undefined): UpstreamTlsContext | undefined {
  const any = socket && configOf(socket);
  const context = any && unpackAny(UpstreamTlsContextSchema, any);
  return context?.commonTlsContext?.alpnProtocols.includes(PEER_EXCHANGE) ? context : undefined;
}

function upstreamAlpn(socket: TransportSocket | undefined, alpn: readonly string[]): void {
  const context = meshTls(socket);
  if (!socket || !context?.commonTlsContext) return;
  context.commonTlsContext.alpnProtocols = [...alpn];
  socket.configType = { case: 'typedConfig', value: packAny(UpstreamTlsContextSchema, context) };
}

function stockListener(resource: EncodedResource, proxy: ProxyNode): EncodedResource {
  const listener = fromBinary(ListenerSchema, resource.any.value);
  const side: Side =
    proxy.type === 'router'
      ? 'gateway'
      : listener.trafficDirection === TrafficDirection.INBOUND
        ? 'inbound'
        : 'outbound';
  for (const chain of [...listener.filterChains, ...(listener.defaultFilterChain ? [listener.defaultFilterChain] : [])])
    stockChain(chain, side, proxy);
  return encodeResource(ListenerSchema, resource.name, listener);
}

type Side = 'inbound' | 'outbound' | 'gateway';

function stockChain(chain: FilterChain, side: Side, proxy: ProxyNode): void {
  chain.filters = chain.filters.filter((filter) => !ISTIO_FILTER.test(filter.name));
  for (const filter of chain.filters) {
    if (filter.configType.case !== 'typedConfig') continue;
    const manager = unpackAny(HttpConnectionManagerSchema, filter.configType.value);
    if (!manager) continue;
    stockManager(manager, side, proxy);
    filter.configType = { case: 'typedConfig', value: packAny(HttpConnectionManagerSchema, manager) };
  }
  const socket = chain.transportSocket;
  const any = socket && configOf(socket);
  const context = any && unpackAny(DownstreamTlsContextSchema, any);
  const common = context?.commonTlsContext;
  if (!socket || !common?.alpnProtocols.includes(PEER_EXCHANGE)) return;
  // A peer that offers the exchange and `istio` gets the latter.
  common.alpnProtocols = common.alpnProtocols.map((name) => (name === PEER_EXCHANGE ? 'istio' : name));
  socket.configType = { case: 'typedConfig', value: packAny(DownstreamTlsContextSchema, context!) };
}

function stockManager(manager: HttpConnectionManager, side: Side, proxy: ProxyNode): void {
  const kept = manager.httpFilters.filter((filter) => !ISTIO_FILTER.test(filter.name));
  manager.httpFilters = [
    peerHeaders(side, proxy),
    ...(side === 'inbound' ? [] : [httpFilter(FILTER_STATE, packAny(SetFilterStateSchema, {}))]),
    ...kept,
  ];
}

const httpFilter = (name: string, value: Any): HttpFilter =>
  create(HttpFilterSchema, { name, configType: { case: 'typedConfig', value } });

/** The peer headers of istio.metadata_exchange: said to servers of the mesh, never shown to applications or strangers. */
function peerHeaders(side: Side, proxy: ProxyNode): HttpFilter {
  const remove = (name: string) => ({ action: { case: 'remove' as const, value: name } });
  const set = (key: string, value: string) => ({
    action: {
      case: 'append' as const,
      value: { header: { key, value }, appendAction: AppendAction.OVERWRITE_IF_EXISTS_OR_ADD },
    },
  });
  const removed = [remove(PEER), remove(PEER_ID)];
  return httpFilter(
    'envoy.filters.http.header_mutation',
    packAny(HeaderMutationSchema, {
      mutations: {
        requestMutations: side === 'outbound' ? [set(PEER_ID, proxy.nodeId), set(PEER, proxy.peer)] : removed,
        responseMutations: side === 'inbound' ? [] : removed,
      },
    }),
  );
}

const sniffed = new WeakMap<EncodedResource, boolean>();

/** Names of the clusters of undeclared ports that speak the mesh's TLS: they carry HTTP and other bytes. */
function sniffedClusters(clusters: readonly EncodedResource[]): ReadonlySet<string> {
  return new Set(
    clusters
      .filter((one) => {
        const known = sniffed.get(one);
        if (known !== undefined) return known;
        const is = isSniffed(fromBinary(ClusterSchema, one.any.value));
        sniffed.set(one, is);
        return is;
      })
      .map((one) => one.name),
  );
}

function isSniffed(cluster: Cluster): boolean {
  if (choiceOf(cluster)?.case !== 'useDownstreamProtocolConfig') return false;
  const sockets = [cluster.transportSocket, ...cluster.transportSocketMatches.map((match) => match.transportSocket)];
  return sockets.some((socket) => meshTls(socket) !== undefined);
}

/** Requests to sniffed clusters say that they are HTTP: what istio.alpn does, told route by route. */
function stockRoutes(resource: EncodedResource, clusters: ReadonlySet<string>): EncodedResource {
  const table = fromBinary(RouteConfigurationSchema, resource.any.value);
  let changed = false;
  const tell = (target: { typedPerFilterConfig: { [key: string]: Any } }): void => {
    target.typedPerFilterConfig[FILTER_STATE] = HTTP_ALPN;
    changed = true;
  };
  for (const host of table.virtualHosts)
    for (const route of host.routes) {
      if (route.action.case !== 'route') continue;
      const to = route.action.value.clusterSpecifier;
      if (to.case === 'cluster' && clusters.has(to.value)) tell(route);
      if (to.case === 'weightedClusters') for (const one of to.value.clusters) if (clusters.has(one.name)) tell(one);
    }
  return changed ? encodeResource(RouteConfigurationSchema, resource.name, table) : resource;
}

/** By the client's protocol, which such a cluster goes on with. */
const ALPN_FORMAT = `%CEL(request.protocol == "HTTP/2" ? "${ALPN.http2.join(',')}" : "${ALPN.http1.join(',')}")%`;
const HTTP_ALPN = packAny(SetFilterStateSchema, {
  onRequestHeaders: [
    {
      key: { case: 'objectKey', value: 'envoy.network.application_protocols' },
      value: {
        case: 'formatString',
        value: {
          format: { case: 'textFormatSource', value: { specifier: { case: 'inlineString', value: ALPN_FORMAT } } },
          formatters: [{ name: 'envoy.formatter.cel', typedConfig: packAny(CelSchema, {}) }],
        },
      },
    },
  ],
});

function configOf(socket: TransportSocket): Any | undefined {
  return socket.configType.case === 'typedConfig' ? socket.configType.value : undefined;
}
