// Every HTTP filter this proxy knows, by the type of its configuration. A new filter is one file and one line here.
import type { Any } from '@bufbuild/protobuf/wkt';
import { FilterConfigSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { CorsPolicySchema, CorsSchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { FilterConfigSchema as GrpcStatsSchema } from '#proto/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js';
import { OnDemandSchema } from '#proto/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.js';
import { RBACPerRouteSchema, RBACSchema } from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import { RouterSchema } from '#proto/envoy/extensions/filters/http/router/v3/router_pb.js';
import {
  type HttpFilter as HttpFilterMessage,
  HttpFilterSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { FilterConfigSchema as AlpnSchema } from '#proto/istio/filters_pb.js';
import { ConfigSchema as PeerMetadataSchema } from '#proto/istio/peer_metadata_pb.js';
import { PluginConfigSchema } from '#proto/istio/stats_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { buildExtension, type Extension, extension, openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import type { StatsStore } from '../stats/stats.ts';
import { createAlpnFilter } from './alpn.ts';
import { createCorsFilter, readCorsPolicy } from './cors.ts';
import { discoveredFilter, type ExtensionProvider, type FilterPlace } from './discovered.ts';
import { createFaultFilter, readFault } from './fault.ts';
import type { HttpFilter } from './filter.ts';
import { createIstioStatsFilter } from './istio-stats.ts';
import { createOnDemandFilter } from './on-demand.ts';
import type { LocalPeer } from './peer.ts';
import { createPeerMetadataFilter } from './peer-metadata.ts';
import type { PerFilterEntry } from './per-filter.ts';
import { createRbacFilter, readRbac, readRbacPerRoute } from './rbac.ts';
import { type ClusterFinder, createRouter, readRouter } from './router.ts';

export interface HttpFilterContext {
  readonly name: string;
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  readonly clusters: ClusterFinder;
  readonly random: () => number;
  readonly local: LocalPeer;
  readonly istioStats: IstioStats;
  readonly runtime: RuntimeView;
  readonly extensions: ExtensionProvider;
  readonly clock: Clock;
  readonly stats: StatsStore;
  /** `http.NAME.` of the connection manager. */
  readonly statPrefix: string;
}

const FILTERS: readonly Extension<HttpFilterContext, HttpFilter>[] = [
  extension(RouterSchema, (message, context, path) => {
    return createRouter(context.clusters, readRouter(message, path));
  }),
  extension(HTTPFaultSchema, (message, context, path) =>
    createFaultFilter(readFault(message, context.runtime, path), context),
  ),
  extension(RBACSchema, (message, context, path) => createRbacFilter(readRbac(message, path), context)),
  extension(CorsSchema, (_message, context) => createCorsFilter(context.name)),
  // gRPC message counts are not kept yet; calls are counted by istio.stats like every request.
  extension(GrpcStatsSchema, (message, context, path) => {
    only(GrpcStatsSchema, message, path, ['emit_filter_state', 'stats_for_all_methods']);
    return { name: context.name };
  }),
  extension(OnDemandSchema, (message, context, path) => createOnDemandFilter(message, context.name, path)),
  extension(AlpnSchema, (message, context, path) => createAlpnFilter(message, context, path)),
  extension(PeerMetadataSchema, (message, context, path) => createPeerMetadataFilter(message, context, path)),
  extension(PluginConfigSchema, (message, context, path) => createIstioStatsFilter(message, context, path)),
];

/** Builds the filters in order; the last must be terminal. What was built is let go again when one is refused. */
export function buildHttpFilters(
  messages: readonly HttpFilterMessage[],
  context: Omit<HttpFilterContext, 'name'>,
  path: string,
): FilterPlace[] {
  const out: FilterPlace[] = [];
  try {
    for (const [i, message] of messages.entries()) {
      const place = buildPlace(message, context, join(path, `http_filters[${i}]`));
      if (place) out.push(place);
    }
  } catch (error) {
    disposeFilters(out);
    throw error;
  }
  return out;
}

export function disposeFilters(places: readonly FilterPlace[]): void {
  for (const place of places)
    if (place.kind === 'fixed') place.filter.dispose?.();
    else place.release();
}

/** Undefined: an optional filter that nobody knows. */
function buildPlace(
  message: HttpFilterMessage,
  context: Omit<HttpFilterContext, 'name'>,
  path: string,
): FilterPlace | undefined {
  only(HttpFilterSchema, message, path, ['name', 'typed_config', 'config_discovery', 'is_optional', 'disabled']);
  const { name, configType, disabled, isOptional } = message;
  const build = (any: Any | undefined, at: string): HttpFilter => {
    const filter = buildExtension(FILTERS, any, name, { ...context, name }, at);
    return disabled ? { ...filter, disabled: true } : filter;
  };
  if (configType.case === 'configDiscovery')
    return discoveredFilter(
      name,
      configType.value,
      context.extensions,
      (any) => build(any, `extension '${name}'`),
      join(path, 'config_discovery'),
    );
  const any = configType.case === 'typedConfig' ? configType.value : undefined;
  if (any && isOptional && !FILTERS.some((known) => known.typeName === openAny(any, path).typeName)) return undefined;
  return { kind: 'fixed', filter: build(any, join(path, 'typed_config')) };
}

interface PerFilterContext {
  readonly runtime: RuntimeView;
}

const PER_FILTER: readonly Extension<PerFilterContext, unknown>[] = [
  extension(HTTPFaultSchema, (message, context, path) => readFault(message, context.runtime, path)),
  extension(RBACPerRouteSchema, (message, _context, path) => readRbacPerRoute(message, path)),
  extension(CorsPolicySchema, (message, _context, path) => readCorsPolicy(message, path)),
];

/** Settings of a filter on a route, bare or in a FilterConfig. A type nobody knows is refused unless it is optional. */
export function buildPerFilter(name: string, any: Any, path: string, context: PerFilterContext): PerFilterEntry {
  const opened = openAny(any, path);
  if (opened.typeName !== FilterConfigSchema.typeName)
    return { disabled: false, settings: perFilter(any, name, context, path) };
  const message = opened.open(FilterConfigSchema);
  only(FilterConfigSchema, message, path, ['config', 'is_optional', 'disabled']);
  const { config, disabled, isOptional } = message;
  if (disabled) return { disabled, settings: undefined };
  if (!config) throw new ConfigError(join(path, 'config'), 'value is required unless the filter is disabled');
  const at = join(path, 'config');
  if (isOptional && !PER_FILTER.some((known) => known.typeName === openAny(config, at).typeName))
    return { disabled: false, settings: undefined };
  return { disabled: false, settings: perFilter(config, name, context, at) };
}

function perFilter(any: Any, name: string, context: PerFilterContext, path: string): unknown {
  return buildExtension(PER_FILTER, any, name, context, path);
}
