// Every network filter this proxy knows. A chain is: filters that watch, then one terminal filter.

import { type Filter, FilterSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { ConnectionLimitSchema } from '#proto/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.js';
import {
  type HttpConnectionManager,
  HttpConnectionManagerSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { LocalRateLimitSchema } from '#proto/envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit_pb.js';
import { RBACSchema } from '#proto/envoy/extensions/filters/network/rbac/v3/rbac_pb.js';
import { SniClusterSchema } from '#proto/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js';
import { TcpProxySchema } from '#proto/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js';
import { MetadataExchangeSchema } from '#proto/istio/metadata_exchange_pb.js';
import { PluginConfigSchema } from '#proto/istio/stats_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Logger } from '../../../base/runtime/log.ts';
import type { FormatDeps } from '../access-log/format.ts';
import type { AccessLogManager } from '../access-log/logger.ts';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { ConnectionManager } from '../http/connection-manager.ts';
import { readManager } from '../http/settings.ts';
import { type ExtensionProvider, filtersNow } from '../http-filter/discovered.ts';
import type { LocalPeer } from '../http-filter/peer.ts';
import { FilterPlan } from '../http-filter/plan.ts';
import { buildHttpFilters, disposeFilters } from '../http-filter/registry.ts';
import type { ClusterFinder } from '../http-filter/router.ts';
import type { PressureView } from '../overload/pressure.ts';
import type { RouteDeps, RouteTable } from '../route/route-table.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { DataReader, Live } from '../transport-socket/secrets.ts';
import type { RouteManager } from '../xds/rds.ts';
import type { ScopeManager } from '../xds/srds.ts';
import { createConnectionLimit, createConnectionRateLimit, type SharedBuckets } from './connection-limits.ts';
import type { ConnectionHandler, NetworkFilter, TcpObserver } from './filter.ts';
import { Gate } from './gate.ts';
import { createTcpStats } from './istio-stats.ts';
import { createMetadataExchange } from './metadata-exchange.ts';
import { createNetworkRbac } from './rbac.ts';
import { routingOf } from './routing.ts';
import { createSniCluster } from './sni-cluster.ts';
import { TcpProxyHandler } from './tcp-proxy.ts';
import { readTcpProxy } from './tcp-proxy-settings.ts';

export interface NetworkContext {
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  readonly clusters: ClusterFinder;
  readonly routes: RouteManager;
  readonly scopes: ScopeManager;
  readonly extensions: ExtensionProvider;
  readonly logs: AccessLogManager;
  readonly stats: StatsStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly local: LocalPeer;
  readonly istioStats: IstioStats;
  readonly runtime: RuntimeView;
  readonly load: PressureView;
  /** True after /healthcheck/fail. */
  readonly healthFailed: () => boolean;
  readonly sharedBuckets: SharedBuckets;
  /** What limits of this chain count by when there are workers. */
  readonly shared: SharedNumbers | undefined;
  readonly log: Logger;
  /** --service-cluster. */
  readonly serviceCluster: string;
  readonly reader: DataReader;
  readonly format: FormatDeps;
  readonly routeDeps: RouteDeps;
}

/** The end of a chain, what it waits for, and how it lets go. */
export interface BuiltChain {
  readonly handler: ConnectionHandler;
  readonly awaits: readonly Live<unknown>[];
  /** Routes that stand in the listener itself, for /config_dump. */
  readonly staticRoutes: RouteTable | undefined;
  /** Metadata is exchanged with peers that agree on its ALPN value. */
  readonly exchange: boolean;
  dispose(): void;
}

type Built =
  | { readonly kind: 'observer'; readonly observer: TcpObserver }
  | { readonly kind: 'filter'; readonly filter: NetworkFilter; readonly exchange?: boolean }
  | { readonly kind: 'terminal'; make(observers: readonly TcpObserver[]): BuiltChain };

const FILTERS: readonly Extension<NetworkContext & { readonly name: string }, Built>[] = [
  extension(
    HttpConnectionManagerSchema,
    (message, context, path): Built => ({ kind: 'terminal', make: () => http(message, context, path) }),
  ),
  extension(TcpProxySchema, (message, context, path): Built => {
    const settings = readTcpProxy(message, path);
    const log = context.logs.build(message.accessLog, path);
    return {
      kind: 'terminal',
      make: (observers) => ({
        handler: new TcpProxyHandler(settings, log, observers, context),
        awaits: [],
        staticRoutes: undefined,
        exchange: false,
        dispose() {},
      }),
    };
  }),
  extension(
    RBACSchema,
    (message, context, path): Built => ({ kind: 'filter', filter: createNetworkRbac(message, context, path) }),
  ),
  extension(
    LocalRateLimitSchema,
    (message, context, path): Built => ({ kind: 'filter', filter: createConnectionRateLimit(message, context, path) }),
  ),
  extension(
    ConnectionLimitSchema,
    (message, context, path): Built => ({ kind: 'filter', filter: createConnectionLimit(message, context, path) }),
  ),
  extension(
    SniClusterSchema,
    (message, context, path): Built => ({ kind: 'filter', filter: createSniCluster(message, context, path) }),
  ),
  extension(
    PluginConfigSchema,
    (message, context, path): Built => ({ kind: 'observer', observer: createTcpStats(message, context, path) }),
  ),
  extension(
    MetadataExchangeSchema,
    (message, context, path): Built => ({
      kind: 'filter',
      filter: createMetadataExchange(message, context, path),
      exchange: true,
    }),
  ),
];

export function buildNetworkFilters(messages: readonly Filter[], context: NetworkContext, path: string): BuiltChain {
  const observers: TcpObserver[] = [];
  const filters: NetworkFilter[] = [];
  let exchange = false;
  for (const [i, message] of messages.entries()) {
    const at = join(path, `filters[${i}]`);
    only(FilterSchema, message, at, ['name', 'typed_config']);
    const any = message.configType.case === 'typedConfig' ? message.configType.value : undefined;
    const built = buildExtension(
      FILTERS,
      any,
      message.name,
      { ...context, name: message.name },
      join(at, 'typed_config'),
    );
    if (built.kind === 'observer') observers.push(built.observer);
    if (built.kind === 'filter') {
      filters.push(built.filter);
      if (built.exchange) exchange = true;
    }
    if (built.kind !== 'terminal') continue;
    if (i !== messages.length - 1)
      throw new ConfigError(
        at,
        `terminal filter named ${message.name} must be the last filter in a network filter chain.`,
      );
    const chain = built.make(observers);
    return filters.length === 0
      ? chain
      : { ...chain, exchange, handler: new Gate(filters, chain.handler, context.clock) };
  }
  throw new ConfigError(
    join(path, 'filters'),
    'the chain has no terminal filter (http_connection_manager or tcp_proxy)',
  );
}

function http(message: HttpConnectionManager, context: NetworkContext, path: string): BuiltChain {
  const settings = readManager(message, context, path);
  const places = buildHttpFilters(
    message.httpFilters,
    { ...context, statPrefix: `http.${settings.statPrefix}.` },
    path,
  );
  try {
    const log = context.logs.build(message.accessLog, path);
    const routing = routingOf(message, settings.statPrefix, context, path);
    const manager = new ConnectionManager(settings, routing.source, new FilterPlan(filtersNow(places)), log, context);
    const stops: (() => void)[] = [];
    const awaits: Live<unknown>[] = routing.awaited ? [routing.awaited] : [];
    for (const place of places) {
      if (place.kind !== 'discovered') continue;
      awaits.push(place.live);
      stops.push(
        place.live.listen(() => {
          manager.plan = new FilterPlan(filtersNow(places));
        }),
      );
    }
    return {
      handler: manager,
      awaits,
      staticRoutes: routing.fixed,
      exchange: false,
      dispose() {
        for (const stop of stops) stop();
        disposeFilters(places);
        routing.release();
      },
    };
  } catch (error) {
    disposeFilters(places);
    throw error;
  }
}
