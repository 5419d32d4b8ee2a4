// A VirtualHost message compiled. Used by route-table.ts.
import {
  type HeaderMatcher,
  type Route,
  RouteSchema,
  VirtualHost_TlsRequirementType as Tls,
  type VirtualCluster as VirtualClusterMessage,
  VirtualClusterSchema,
  type VirtualHost,
  VirtualHostSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { RouteConfiguration } from '#proto/envoy/config/route/v3/route_pb.js';
import type { FormatDeps } from '../access-log/format.ts';
import { metadataOf } from '../cluster/endpoints.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { PerFilter, PerFilterEntry } from '../http-filter/per-filter.ts';
import { compileRateLimits, type RateLimitActions } from '../http-filter/rate-limit-actions.ts';
import { MAX_RETRY_BODY_BYTES } from '../limits.ts';
import { compileRouteTracing } from '../tracing/settings.ts';
import { type ActionContext, compileAction } from './action.ts';
import type { CompiledRoute, CompiledVirtualHost, RouteContext, VirtualCluster } from './compiled.ts';
import { compileEdits, type HeaderEdits } from './header-edits.ts';
import { compileMatch } from './match.ts';
import { headerTest } from './matchers.ts';
import { RouteList } from './route-list.ts';
import { RouteStats } from './route-stats.ts';

const HOST_FIELDS = [
  'rate_limits',
  'name',
  'domains',
  'routes',
  'require_tls',
  'virtual_clusters',
  'request_headers_to_add',
  'request_headers_to_remove',
  'response_headers_to_add',
  'response_headers_to_remove',
  'typed_per_filter_config',
  'include_request_attempt_count',
  'include_attempt_count_in_response',
  'include_is_timeout_retry_header',
  'retry_policy',
  'request_mirror_policies',
  'per_request_buffer_limit_bytes',
  'request_body_buffer_limit',
  'metadata',
];

const ROUTE_FIELDS = [
  'name',
  'match',
  'route',
  'redirect',
  'direct_response',
  'filter_action',
  'non_forwarding_action',
  'metadata',
  'decorator',
  'typed_per_filter_config',
  'request_headers_to_add',
  'request_headers_to_remove',
  'response_headers_to_add',
  'response_headers_to_remove',
  'tracing',
  'stat_prefix',
  'per_request_buffer_limit_bytes',
  'request_body_buffer_limit',
];

/** What all routes of a virtual host share while they are compiled. */
interface HostContext {
  readonly table: RouteConfiguration;
  readonly message: VirtualHost;
  readonly host: CompiledVirtualHost;
  readonly hostFilters: PerFilter;
  readonly hostEdits: Edits;
  readonly tableEdits: Edits;
  readonly context: RouteContext;
}

interface Edits {
  readonly request: HeaderEdits;
  readonly response: HeaderEdits;
}

interface EditFields {
  readonly requestHeadersToAdd: Route['requestHeadersToAdd'];
  readonly requestHeadersToRemove: string[];
  readonly responseHeadersToAdd: Route['responseHeadersToAdd'];
  readonly responseHeadersToRemove: string[];
}

function editsOf(message: EditFields, path: string, deps: FormatDeps): Edits {
  return {
    request: compileEdits(message.requestHeadersToAdd, message.requestHeadersToRemove, join(path, 'request'), deps),
    response: compileEdits(message.responseHeadersToAdd, message.responseHeadersToRemove, join(path, 'response'), deps),
  };
}

export function compileVirtualHost(
  message: VirtualHost,
  table: RouteConfiguration,
  context: RouteContext,
  path: string,
): CompiledVirtualHost {
  only(VirtualHostSchema, message, path, HOST_FIELDS);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value length must be at least 1 characters');
  if (message.domains.length === 0)
    throw new ConfigError(join(path, 'domains'), 'value must contain at least 1 item(s)');
  const host: CompiledVirtualHost & { tlsRedirect: CompiledRoute | undefined } = {
    name: message.name,
    requireTls: message.requireTls === Tls.ALL ? 'all' : message.requireTls === Tls.EXTERNAL_ONLY ? 'external' : 'no',
    tlsRedirect: undefined,
    includeAttempts: message.includeRequestAttemptCount,
    includeAttemptsInResponse: message.includeAttemptCountInResponse,
    includeTimeoutRetry: message.includeIsTimeoutRetryHeader,
    metadata: metadataOf(message.metadata),
    virtualClusters: virtualClusters(message, context, path),
    routes: new RouteList([], false),
  };
  const shared: HostContext = {
    table,
    message,
    host,
    hostFilters: filtersOf(
      [
        [join(path, 'typed_per_filter_config'), message.typedPerFilterConfig],
        ['typed_per_filter_config', table.typedPerFilterConfig],
      ],
      context,
    ),
    hostEdits: editsOf(message, path, context.format),
    tableEdits: editsOf(table, '', context.format),
    context,
  };
  const routes = message.routes.map((route, i) => compileRoute(route, i, shared, join(path, `routes[${i}]`)));
  host.routes = new RouteList(routes, table.ignorePathParametersInPathMatching);
  if (host.requireTls !== 'no') host.tlsRedirect = tlsRedirect(host);
  return host;
}

function filtersOf(
  sources: readonly (readonly [string, Route['typedPerFilterConfig']])[],
  context: RouteContext,
  base?: PerFilter,
): PerFilter {
  const filters = new Map<string, PerFilterEntry>(base);
  // From the least specific level on: each remembers the one it covers.
  for (const [at, source] of sources.toReversed())
    for (const [name, any] of Object.entries(source)) {
      const made = context.perFilter(name, any, join(at, name), context);
      const outer = filters.get(name);
      filters.set(name, outer ? { ...made, outer } : made);
    }
  if (base && filters.size === base.size && sources.every(([, source]) => Object.keys(source).length === 0))
    return base;
  return filters;
}

function compileRoute(message: Route, order: number, shared: HostContext, path: string): CompiledRoute {
  only(RouteSchema, message, path, ROUTE_FIELDS);
  if (!message.match) throw new ConfigError(join(path, 'match'), 'value is required');
  const { context, host, table } = shared;
  const match = compileMatch(message.match, context.runtime, join(path, 'match'));
  const perFilter = filtersOf(
    [[join(path, 'typed_per_filter_config'), message.typedPerFilterConfig]],
    context,
    shared.hostFilters,
  );
  const actionContext: ActionContext = {
    runtime: context.runtime,
    reader: context.reader,
    format: context.format,
    match: match.path,
    hostRetry: shared.message.retryPolicy,
    hostMirrors:
      shared.message.requestMirrorPolicies.length > 0
        ? shared.message.requestMirrorPolicies
        : table.requestMirrorPolicies,
    maxDirectBytes: table.maxDirectResponseBodySizeBytes,
    perFilter: (source, at) =>
      Object.keys(source).length === 0 ? undefined : filtersOf([[at, source]], context, perFilter),
  };
  const action = compileAction(message, actionContext, path);
  const validate = table.validateClusters ?? context.validateClusters;
  if (validate && action.kind === 'forward') checkClusters(action.clusters, action.mirrors, context, path);
  const edits = editsOf(message, path, context.format);
  const specificLast = table.mostSpecificHeaderMutationsWins;
  const order3 = (a: HeaderEdits, b: HeaderEdits, c: HeaderEdits) =>
    (specificLast ? [c, b, a] : [a, b, c]).filter((one) => one.add.length + one.remove.length > 0);
  return {
    name: message.name,
    order,
    virtualHost: host,
    match: match.path,
    pathTest: match.pathTest,
    tests: match.tests,
    share: match.share,
    action,
    metadata: metadataOf(message.metadata),
    decorator: message.decorator?.operation ?? '',
    decoratorPropagates: message.decorator?.propagate ?? true,
    requestEdits: order3(edits.request, shared.hostEdits.request, shared.tableEdits.request),
    responseEdits: order3(edits.response, shared.hostEdits.response, shared.tableEdits.response),
    specificLast,
    perFilter,
    rateLimits: rateLimitsOf(message, shared.message, path),
    bufferLimit: bufferLimit(message, shared.message),
    stats:
      message.statPrefix === ''
        ? undefined
        : new RouteStats(
            context.stats,
            `vhost.${shared.message.name}.route.${message.statPrefix}.`,
            message.statPrefix,
          ),
    tracing: compileRouteTracing(message.tracing, join(path, 'tracing')),
  };
}

/** A virtual host's limits count where the route has none, or asks for them too. */
function rateLimitsOf(route: Route, host: VirtualHost, path: string): readonly RateLimitActions[] {
  const action = route.action.case === 'route' ? route.action.value : undefined;
  const own = compileRateLimits(action?.rateLimits ?? [], join(path, 'route.rate_limits'));
  if (own.length > 0 && !action?.includeVhRateLimits) return own;
  return [...own, ...compileRateLimits(host.rateLimits, join(path, 'virtual_host.rate_limits'))];
}

/** Envoy's own text: a table with a route to nowhere is refused when clusters are to be checked. */
function checkClusters(
  clusters: readonly string[],
  mirrors: readonly { readonly cluster: string }[],
  context: RouteContext,
  path: string,
): void {
  for (const name of clusters)
    if (!context.knownCluster(name)) throw new ConfigError(path, `route: unknown cluster '${name}'`);
  for (const { cluster } of mirrors)
    if (cluster !== '' && !context.knownCluster(cluster))
      throw new ConfigError(path, `route: unknown shadow cluster '${cluster}'`);
}

/** The more specific one counts, the newer field before the older. */
function bufferLimit(route: Route, host: VirtualHost): number {
  const asked =
    route.requestBodyBufferLimit ??
    host.requestBodyBufferLimit ??
    route.perRequestBufferLimitBytes ??
    host.perRequestBufferLimitBytes;
  return asked === undefined ? MAX_RETRY_BODY_BYTES : Math.min(Number(asked), MAX_RETRY_BODY_BYTES);
}

function virtualClusters(message: VirtualHost, context: RouteContext, path: string): VirtualCluster[] {
  const made = message.virtualClusters.map((entry, i) => one(entry, join(path, `virtual_clusters[${i}]`)));
  function one(entry: VirtualClusterMessage, at: string): VirtualCluster {
    only(VirtualClusterSchema, entry, at, ['headers', 'name']);
    if (entry.name === '') throw new ConfigError(join(at, 'name'), 'value length must be at least 1 characters');
    if (entry.headers.length === 0)
      throw new ConfigError(at, "virtual clusters must define either 'pattern' or 'headers'");
    return {
      name: entry.name,
      tests: entry.headers.map((header: HeaderMatcher, i: number) => headerTest(header, join(at, `headers[${i}]`))),
      stats: stats(entry.name),
    };
  }
  function stats(name: string): RouteStats {
    return new RouteStats(context.stats, `vhost.${message.name}.vcluster.${name}.`, name);
  }
  // Requests of no other are counted together.
  return made.length === 0 ? [] : [...made, { name: 'other', tests: [], stats: stats('other') }];
}

/** Same host, port and path by https. */
function tlsRedirect(host: CompiledVirtualHost): CompiledRoute {
  return {
    name: '',
    order: -1,
    virtualHost: host,
    match: { kind: 'prefix', value: '', fold: false },
    pathTest: () => true,
    tests: [],
    share: () => 1,
    action: {
      kind: 'redirect',
      status: 301,
      rewrite: undefined,
      location: (request) => `https://${request.authority}${request.path}`,
    },
    metadata: {},
    decorator: '',
    decoratorPropagates: true,
    requestEdits: [],
    responseEdits: [],
    specificLast: false,
    perFilter: new Map(),
    rateLimits: [],
    bufferLimit: 0,
    stats: undefined,
    tracing: undefined,
  };
}
