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
import { HeaderMutationSchema } from '#proto/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js';
import { ConfigSchema as SetFilterStateSchema } from '#proto/envoy/extensions/filters/http/set_filter_state/v3/set_filter_state_pb.js';
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
  type HttpFilter,
  HttpFilterSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '#proto/envoy/extensions/transport_sockets/tls/v3/tls_pb.js';
import { HttpProtocolOptionsSchema } from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import { type EncodedResource, encodeResource, packAny, unpackAny } from '../../base/envoy-api/any.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { ProxyNode } from '../model/proxy.ts';

const OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
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

/** `resources` as this proxy's engine takes them. */
export function forEngine(
  resources: readonly EncodedResource[],
  proxy: ProxyNode,
  typeUrl: string,
): readonly EncodedResource[] {
  if (proxy.engine !== 'envoy') return resources;
  if (typeUrl === TYPE_URL.cluster) return resources.map((one) => once(one, '', stockCluster));
  if (typeUrl !== TYPE_URL.listener) return resources;
  return resources.map((one) => once(one, `${proxy.type} ${proxy.nodeId}`, () => stockListener(one, proxy)));
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

/** Clusters of TCP and of undeclared ports carry the filter of the TCP exchange. Over the latter HTTP says what it is by itself. */
function spoken(cluster: Cluster): keyof typeof ALPN {
  if (cluster.filters.some((filter) => ISTIO_FILTER.test(filter.name))) return 'tcp';
  const any = cluster.typedExtensionProtocolOptions[OPTIONS];
  const choice = any && unpackAny(HttpProtocolOptionsSchema, any)?.upstreamProtocolOptions;
  const http2 = choice?.case === 'explicitHttpConfig' && choice.value.protocolConfig.case === 'http2ProtocolOptions';
  return http2 ? 'http2' : 'http1';
}

/** Only the mesh's own TLS is told from others by ALPN; a user's TLS keeps what it says. */
function upstreamAlpn(socket: TransportSocket | undefined, alpn: readonly string[]): void {
  const any = socket && configOf(socket);
  const context = any && unpackAny(UpstreamTlsContextSchema, any);
  const common = context?.commonTlsContext;
  if (!socket || !common?.alpnProtocols.includes(PEER_EXCHANGE)) return;
  common.alpnProtocols = [...alpn];
  socket.configType = { case: 'typedConfig', value: packAny(UpstreamTlsContextSchema, context!) };
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
  const sniffed =
    side === 'outbound' &&
    manager.routeSpecifier.case === 'rds' &&
    manager.routeSpecifier.value.routeConfigName.includes(':');
  manager.httpFilters = [peerHeaders(side, proxy), ...(sniffed ? [httpAlpn()] : []), ...kept];
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

/** HTTP found on an undeclared port: its cluster also carries other bytes, so the request says what it is. */
function httpAlpn(): HttpFilter {
  const inlineString = ALPN.http1.join(',');
  return httpFilter(
    'envoy.filters.http.set_filter_state',
    packAny(SetFilterStateSchema, {
      onRequestHeaders: [
        {
          key: { case: 'objectKey', value: 'envoy.network.application_protocols' },
          value: {
            case: 'formatString',
            value: {
              format: { case: 'textFormatSource', value: { specifier: { case: 'inlineString', value: inlineString } } },
            },
          },
        },
      ],
    }),
  );
}

function configOf(socket: TransportSocket): Any | undefined {
  return socket.configType.case === 'typedConfig' ? socket.configType.value : undefined;
}
