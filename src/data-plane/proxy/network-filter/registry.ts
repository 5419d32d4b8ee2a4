// Every network filter this proxy knows. A chain is: filters that watch, then one terminal filter.

import type { Any } from '@bufbuild/protobuf/wkt';
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
import { type Discovered, discover, type ExtensionProvider } from '../config/discovered.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { ConnectionManager } from '../http/connection-manager.ts';
import { readManager } from '../http/settings.ts';
import { filtersNow } from '../http-filter/discovered.ts';
import type { LocalPeer } from '../http-filter/peer.ts';
import { FilterPlan } from '../http-filter/plan.ts';
import { buildHttpFilters, disposeFilters } from '../http-filter/registry.ts';
import type { ClusterFinder } from '../http-filter/router.ts';
import type { PressureView } from '../overload/pressure.ts';
import type { RouteDeps, RouteTable } from '../route/route-table.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import type { StatsScope, StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { TapDesk } from '../tap/desk.ts';
import type { DataReader, Live } from '../transport-socket/secrets.ts';
import type { RouteManager } from '../xds/rds.ts';
import type { ScopeManager } from '../xds/srds.ts';
import { createConnectionLimit, createConnectionRateLimit, type SharedBuckets } from './connection-limits.ts';
import { DiscoveredTerminal, discoveredObserver, TerminalRecipe } from './discovered.ts';
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
  readonly taps: TapDesk;
  readonly runtime: RuntimeView;
  readonly load: PressureView;
  /** A connection is closed because a discovered filter is missing. */
  readonly onMissingConfig: () => void;
  /** Statistics of the listener it belongs to. */
  readonly listenerScope: StatsScope;
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
  /** The client's certificate chain is passed on. */
  readonly peerChain: boolean;
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
        peerChain: false,
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

/** A place in the chain: a filter that is there, or one that comes and changes. */
type Place =
  | { readonly kind: 'fixed'; readonly built: Built }
  | { readonly kind: 'discovered'; readonly name: string; readonly found: Discovered<BuiltPlace> };

/** A terminal filter is made where it is checked. */
type BuiltPlace = Exclude<Built, { kind: 'terminal' }> | { readonly kind: 'recipe'; readonly recipe: TerminalRecipe };

export function buildNetworkFilters(messages: readonly Filter[], context: NetworkContext, path: string): BuiltChain {
  const observers: TcpObserver[] = [];
  const places: Place[] = [];
  const release = (): void => {
    for (const place of places) if (place.kind === 'discovered') place.found.release();
  };
  try {
    for (const [i, message] of messages.entries()) {
      const last = i === messages.length - 1;
      const place = placeOf(message, context, observers, last, join(path, `filters[${i}]`));
      places.push(place);
      const observer = observerOf(place);
      if (observer) observers.push(observer);
    }
    const end = places.at(-1);
    if (!end || (end.kind === 'fixed' && end.built.kind !== 'terminal'))
      throw new ConfigError(
        join(path, 'filters'),
        'the chain has no terminal filter (http_connection_manager or tcp_proxy)',
      );
    if (end.kind === 'fixed' && end.built.kind === 'terminal')
      return chainOf(places.slice(0, -1), end.built.make(observers), context, release);
    return chainOf(places.slice(0, -1), discoveredEnd(end), context, release);
  } catch (error) {
    release();
    throw error;
  }
}

/** Throws ConfigError: terminal filters stand at the end and nowhere else, discovered ones too. */
function placeOf(
  message: Filter,
  context: NetworkContext,
  observers: readonly TcpObserver[],
  last: boolean,
  path: string,
): Place {
  only(FilterSchema, message, path, ['name', 'typed_config', 'config_discovery']);
  const { name, configType } = message;
  const build = (any: Any | undefined, at: string): Built => {
    const built = buildExtension(FILTERS, any, name, { ...context, name }, at);
    if (built.kind === 'terminal' && !last)
      throw new ConfigError(path, `terminal filter named ${name} must be the last filter in a network filter chain.`);
    return built;
  };
  if (configType.case !== 'configDiscovery') {
    const any = configType.case === 'typedConfig' ? configType.value : undefined;
    return { kind: 'fixed', built: build(any, join(path, 'typed_config')) };
  }
  const checked = (any: Any): BuiltPlace & { dispose?(): void } => {
    const built = build(any, `extension '${name}'`);
    if (built.kind !== 'terminal') {
      if (last)
        throw new ConfigError(path, `non-terminal filter named ${name} is the last filter in a network filter chain.`);
      return built;
    }
    const recipe = new TerminalRecipe(() => built.make(observers));
    return { kind: 'recipe', recipe, dispose: () => recipe.dispose() };
  };
  const at = join(path, 'config_discovery');
  const found = discover('network_filter', name, configType.value, context.extensions, checked, at);
  return { kind: 'discovered', name, found };
}

function observerOf(place: Place): TcpObserver | undefined {
  if (place.kind === 'fixed') return place.built.kind === 'observer' ? place.built.observer : undefined;
  const { live } = place.found;
  return discoveredObserver(() => {
    const built = live.current();
    return built?.kind === 'observer' ? built.observer : undefined;
  });
}

function discoveredEnd(place: Place): BuiltChain & { readonly present: () => boolean } {
  const { live } = (place as Extract<Place, { kind: 'discovered' }>).found;
  const handler = new DiscoveredTerminal({
    name: live.name,
    current: () => {
      const built = live.current();
      return built?.kind === 'recipe' ? built.recipe : undefined;
    },
    ready: () => live.ready(),
    listen: (changed) => live.listen(changed),
  });
  return {
    handler,
    awaits: [live, handler.awaited],
    staticRoutes: undefined,
    exchange: false,
    // What will stand there may want it.
    peerChain: true,
    dispose: () => handler.dispose(),
    present: () => handler.present,
  };
}

/** What stands in front of the terminal filter, and that. */
function chainOf(
  places: readonly Place[],
  end: BuiltChain & { readonly present?: () => boolean },
  context: NetworkContext,
  release: () => void,
): BuiltChain {
  const discovered = places.flatMap((place) => (place.kind === 'discovered' ? [place.found.live] : []));
  const fixed = places.flatMap((place) =>
    place.kind === 'fixed' && place.built.kind === 'filter' ? [place.built] : [],
  );
  if (discovered.length === 0 && !end.present) {
    if (fixed.length === 0) return end;
    const filters = fixed.map(({ filter }) => filter);
    const exchange = fixed.some((built) => built.exchange);
    return { ...end, exchange, handler: new Gate(() => filters, end.handler, context.clock) };
  }
  const now = (): (Built | BuiltPlace)[] | undefined => {
    const built = places.map((place) => (place.kind === 'fixed' ? place.built : place.found.live.current()));
    return built.includes(undefined) || end.present?.() === false ? undefined : (built as (Built | BuiltPlace)[]);
  };
  const filtersNow = (): readonly NetworkFilter[] | undefined => {
    const filters = now()?.flatMap((built) => (built.kind === 'filter' ? [built.filter] : []));
    if (!filters) context.onMissingConfig();
    return filters;
  };
  return {
    handler: new Gate(filtersNow, end.handler, context.clock),
    awaits: [...end.awaits, ...discovered],
    staticRoutes: end.staticRoutes,
    peerChain: end.peerChain,
    get exchange() {
      return now()?.some((built) => built.kind === 'filter' && built.exchange === true) ?? false;
    },
    dispose() {
      end.dispose();
      release();
    },
  };
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
      peerChain: settings.xfcc.chain,
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
