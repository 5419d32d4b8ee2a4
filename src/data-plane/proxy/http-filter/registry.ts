// Every HTTP filter this proxy knows, by the type of its configuration. A new filter is one file and one line here.

import type { Any } from '@bufbuild/protobuf/wkt';
import { FilterConfigSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { BufferPerRouteSchema, BufferSchema } from '#proto/envoy/extensions/filters/http/buffer/v3/buffer_pb.js';
import { CorsPolicySchema, CorsSchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import {
  FilterConfigSchema as ForwardProxyFilterSchema,
  PerRouteConfigSchema as ForwardProxyPerRouteSchema,
} from '#proto/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { FilterConfigSchema as GrpcStatsSchema } from '#proto/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js';
import { GrpcWebSchema } from '#proto/envoy/extensions/filters/http/grpc_web/v3/grpc_web_pb.js';
import {
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
} from '#proto/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js';
import { HealthCheckSchema } from '#proto/envoy/extensions/filters/http/health_check/v3/health_check_pb.js';
import { LocalRateLimitSchema } from '#proto/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.js';
import { OnDemandSchema } from '#proto/envoy/extensions/filters/http/on_demand/v3/on_demand_pb.js';
import { RBACPerRouteSchema, RBACSchema } from '#proto/envoy/extensions/filters/http/rbac/v3/rbac_pb.js';
import { RouterSchema } from '#proto/envoy/extensions/filters/http/router/v3/router_pb.js';
import { ConfigSchema as SetMetadataSchema } from '#proto/envoy/extensions/filters/http/set_metadata/v3/set_metadata_pb.js';
import { TapSchema } from '#proto/envoy/extensions/filters/http/tap/v3/tap_pb.js';
import {
  type HttpFilter as HttpFilterMessage,
  HttpFilterSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { FilterConfigSchema as AlpnSchema } from '#proto/istio/filters_pb.js';
import { ConfigSchema as PeerMetadataSchema } from '#proto/istio/peer_metadata_pb.js';
import { PluginConfigSchema } from '#proto/istio/stats_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { Logger } from '../../../base/runtime/log.ts';
import { buildExtension, type Extension, extension, openAny } from '../config/any.ts';
import type { ExtensionProvider } from '../config/discovered.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { TapDesk } from '../tap/desk.ts';
import { createAlpnFilter } from './alpn.ts';
import { createBufferFilter, readBuffer, readBufferPerRoute } from './buffer.ts';
import { createCorsFilter, readCorsPolicy } from './cors.ts';
import { discoveredFilter, type FilterPlace } from './discovered.ts';
import { createForwardProxyFilter, readHostRewrite } from './dynamic-forward-proxy.ts';
import { createFaultFilter } from './fault.ts';
import { readFault } from './fault-settings.ts';
import type { HttpFilter } from './filter.ts';
import { createGrpcStatsFilter } from './grpc-stats.ts';
import { createGrpcWebFilter } from './grpc-web.ts';
import { createHeaderMutationFilter, readHeaderMutation, readHeaderMutationPerRoute } from './header-mutation.ts';
import { createHealthCheckFilter } from './health-check.ts';
import { createIstioStatsFilter } from './istio-stats.ts';
import { createLocalRateLimitFilter, readLocalRateLimit } from './local-rate-limit.ts';
import { createOnDemandFilter } from './on-demand.ts';
import type { LocalPeer } from './peer.ts';
import { createPeerMetadataFilter } from './peer-metadata.ts';
import type { PerFilterEntry } from './per-filter.ts';
import { createRbacFilter, readRbac, readRbacPerRoute } from './rbac.ts';
import { type ClusterFinder, createRouter, readRouter } from './router.ts';
import { createSetMetadataFilter } from './set-metadata.ts';
import { createTapFilter } from './tap.ts';

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
  readonly log: Logger;
  readonly taps: TapDesk;
  /** True after /healthcheck/fail. */
  readonly healthFailed: () => boolean;
  /** --service-cluster. */
  readonly serviceCluster: string;
  /** What limits count by when there are workers. */
  readonly shared?: SharedNumbers | undefined;
}

const FILTERS: readonly Extension<HttpFilterContext, HttpFilter>[] = [
  extension(RouterSchema, (message, context, path) => {
    return createRouter(context.clusters, readRouter(message, path));
  }),
  extension(HealthCheckSchema, (message, context, path) => createHealthCheckFilter(message, context, path)),
  extension(GrpcWebSchema, (_message, context) => createGrpcWebFilter(context)),
  extension(SetMetadataSchema, (message, context, path) => createSetMetadataFilter(message, context, path)),
  extension(LocalRateLimitSchema, (message, context, path) =>
    createLocalRateLimitFilter(readLocalRateLimit(message, context, path), context),
  ),
  extension(HTTPFaultSchema, (message, context, path) => createFaultFilter(readFault(message, path), context)),
  extension(BufferSchema, (message, context, path) => createBufferFilter(readBuffer(message, path), context)),
  extension(HeaderMutationSchema, (message, context, path) =>
    createHeaderMutationFilter(readHeaderMutation(message, path), context),
  ),
  extension(RBACSchema, (message, context, path) => createRbacFilter(readRbac(message, path), context)),
  extension(CorsSchema, (_message, context) => createCorsFilter(context)),
  extension(GrpcStatsSchema, (message, context, path) => createGrpcStatsFilter(message, context, path)),
  extension(ForwardProxyFilterSchema, (message, context, path) => createForwardProxyFilter(message, context, path)),
  extension(OnDemandSchema, (message, context, path) => createOnDemandFilter(message, context.name, path)),
  extension(TapSchema, (message, context, path) => createTapFilter(message, context, path)),
  extension(AlpnSchema, (message, context, path) => createAlpnFilter(message, context, path)),
  extension(PeerMetadataSchema, (message, context, path) => createPeerMetadataFilter(message, context, path)),
  extension(PluginConfigSchema, (message, context, path) => createIstioStatsFilter(message, context, path)),
];

/** Types of the filters above, for the test of order.ts. */
export const KNOWN_HTTP_FILTERS: readonly string[] = FILTERS.map((known) => known.typeName);

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
    checkTerminal(out, path);
  } catch (error) {
    disposeFilters(out);
    throw error;
  }
  return out;
}

const ROUTER_NAME = 'envoy.filters.http.router';

/** The router ends the chain and stands nowhere else. What a discovered filter is, shows when it comes. */
function checkTerminal(places: readonly FilterPlace[], path: string): void {
  for (const [i, place] of places.entries()) {
    if (place.kind !== 'fixed') continue;
    const terminal = place.filter.name === ROUTER_NAME;
    const last = i === places.length - 1;
    if (terminal === last) continue;
    throw new ConfigError(
      join(path, `http_filters[${i}]`),
      terminal
        ? `terminal filter named ${place.filter.name} must be the last filter in a http filter chain.`
        : `non-terminal filter named ${place.filter.name} is the last filter in a http filter chain.`,
    );
  }
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
  readonly clock: Clock;
  readonly shared?: SharedNumbers | undefined;
}

const PER_FILTER: readonly Extension<PerFilterContext, unknown>[] = [
  extension(HTTPFaultSchema, (message, _context, path) => readFault(message, path)),
  extension(LocalRateLimitSchema, (message, context, path) => readLocalRateLimit(message, context, path)),
  extension(ForwardProxyPerRouteSchema, (message, _context, path) => readHostRewrite(message, path)),
  extension(BufferPerRouteSchema, (message, _context, path) => readBufferPerRoute(message, path)),
  extension(HeaderMutationPerRouteSchema, (message, _context, path) => readHeaderMutationPerRoute(message, path)),
  extension(RBACPerRouteSchema, (message, _context, path) => readRbacPerRoute(message, path)),
  extension(CorsPolicySchema, (message, context, path) => readCorsPolicy(message, context.runtime, path)),
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
