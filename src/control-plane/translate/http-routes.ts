// VirtualService http rules as Envoy routes (traffic.md §4). Called by routes.ts (sidecars) and gateway.ts.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import {
  HeaderValueOption_HeaderAppendAction as Append,
  type HeaderValueOptionSchema,
} from '#proto/envoy/config/core/v3/base_pb.js';
import {
  type HeaderMatcherSchema,
  type QueryParameterMatcherSchema,
  RedirectAction_RedirectResponseCode as RedirectCode,
  type RetryPolicySchema,
  type RouteActionSchema,
  type RouteMatchSchema,
  type RouteSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { CorsPolicySchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { HTTPFaultSchema } from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { PreviousPrioritiesConfigSchema } from '#proto/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js';
import type { StringMatcherSchema } from '#proto/envoy/type/matcher/v3/string_pb.js';
import { FractionalPercent_DenominatorType as Denominator } from '#proto/envoy/type/v3/percent_pb.js';
import type {
  Cors,
  Destination,
  Fault,
  HeaderOps,
  HttpMatch,
  HttpRoute,
  Redirect,
  StringMatch,
  VirtualServiceSpec,
} from '../../api/istio/virtual-service.ts';
import { packAny } from '../../base/envoy-api/any.ts';
import { outboundCluster } from '../../base/xds/names.ts';
import type { Config } from '../config/store.ts';
import { resolveHost } from '../model/hosts.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { istioMetadata, protoDuration, ZERO } from './common.ts';
import { type HashPolicy, hashPolicies } from './hash-policy.ts';

export type RouteInit = MessageInitShape<typeof RouteSchema>;

export interface RouteContext {
  readonly snapshot: Snapshot;
  readonly listenerPort: number;
  /** The listener terminates TLS. */
  readonly secure?: boolean;
  /** `mesh`, or `<namespace>/<name>` of every Gateway behind the listener. */
  readonly gateways: readonly string[];
  /** The client, for sourceLabels, sourceNamespace and its view of DestinationRules. */
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

const DEFAULT_RETRY_ON = 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes';

export function retryPolicy(
  retries?: HttpRoute['retries'],
  hashes = false,
): MessageInitShape<typeof RetryPolicySchema> | undefined {
  if (retries && retries.attempts === 0) return undefined;
  const conditions = (retries?.retryOn ?? DEFAULT_RETRY_ON).split(',').map((c) => c.trim());
  const codes = conditions.filter((c) => /^[1-5]\d\d$/.test(c)).map(Number);
  const names = conditions.filter((c) => c !== '' && !/^\d+$/.test(c));
  if (codes.length > 0 && !names.includes('retriable-status-codes')) names.push('retriable-status-codes');
  // A hash leads back to the same host: skipping it would only cost the attempts.
  const skip = !hashes && (retries?.ignorePreviousHosts ?? true);
  return {
    retryOn: names.join(','),
    numRetries: retries?.attempts ?? 2,
    retriableStatusCodes: codes,
    ...(skip ? { hostSelectionRetryMaxAttempts: 5n, retryHostPredicate: [PREVIOUS_HOSTS] } : {}),
    ...(retries?.retryRemoteLocalities ? { retryPriority: PREVIOUS_PRIORITIES } : {}),
    ...(retries?.perTryTimeoutMs ? { perTryTimeout: protoDuration(retries.perTryTimeoutMs) } : {}),
    ...(retries?.backoffMs ? { retryBackOff: { baseInterval: protoDuration(retries.backoffMs) } } : {}),
  };
}

const PREVIOUS_PRIORITIES = {
  name: 'envoy.retry_priorities.previous_priorities',
  configType: {
    case: 'typedConfig' as const,
    value: packAny(PreviousPrioritiesConfigSchema, { updateFrequency: 2 }),
  },
};

const PREVIOUS_HOSTS = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  configType: {
    case: 'typedConfig' as const,
    value: {
      typeUrl: 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      value: new Uint8Array(),
    },
  },
};

/** A route that sends everything to one cluster. */
export function defaultRoute(cluster: string, operation: string, hash: readonly HashPolicy[] = []): RouteInit {
  const retry = retryPolicy(undefined, hash.length > 0);
  return {
    name: 'default',
    match: { pathSpecifier: { case: 'prefix', value: '/' } },
    action: {
      case: 'route',
      value: {
        clusterSpecifier: { case: 'cluster', value: cluster },
        timeout: ZERO,
        maxStreamDuration: { maxStreamDuration: ZERO, grpcTimeoutHeaderMax: ZERO },
        ...(retry ? { retryPolicy: retry } : {}),
        hashPolicy: [...hash],
      },
    },
    decorator: { operation },
  };
}

export interface TranslatedRoute {
  readonly route: RouteInit;
  readonly catchAll: boolean;
}

/** In order; stops after the first rule that matches everything. */
export function translateHttpRoutes(
  config: Config<VirtualServiceSpec>,
  context: RouteContext,
): readonly TranslatedRoute[] {
  const out: TranslatedRoute[] = [];
  for (const rule of config.spec.http) {
    const matches: readonly (HttpMatch | undefined)[] = rule.matches.length > 0 ? rule.matches : [undefined];
    for (const match of matches) {
      if (match && !applies(match, config, context)) continue;
      const catchAll = isCatchAll(match);
      out.push({ route: oneRoute(config, rule, match, context), catchAll });
      if (catchAll) return out;
    }
  }
  return out;
}

function applies(match: HttpMatch, config: Config<VirtualServiceSpec>, context: RouteContext): boolean {
  if (match.port !== undefined && match.port !== context.listenerPort) return false;
  if (match.gateways.length === 0) return fromSource(match, context);
  return match.gateways.some((g) => context.gateways.includes(gatewayName(g, config.namespace)));
}

/** Conditions on the client hold for sidecars; at a gateway every client is somebody else. */
export function fromSource(
  match: Pick<HttpMatch, 'sourceLabels' | 'sourceNamespace'>,
  context: Pick<RouteContext, 'gateways' | 'labels' | 'namespace'>,
): boolean {
  if (!context.gateways.includes('mesh')) return true;
  if (match.sourceNamespace !== undefined && match.sourceNamespace !== context.namespace) return false;
  return [...match.sourceLabels].every(([key, value]) => context.labels[key] === value);
}

export function gatewayName(reference: string, namespace: string): string {
  return reference === 'mesh' || reference.includes('/') ? reference : `${namespace}/${reference}`;
}

function isCatchAll(match: HttpMatch | undefined): boolean {
  if (!match) return true;
  if (match.method || match.authority || match.scheme) return false;
  if (match.headers.size + match.withoutHeaders.size + match.queryParams.size > 0) return false;
  return !match.uri || match.uri.kind === 'present' || (match.uri.kind === 'prefix' && match.uri.value === '/');
}

function oneRoute(
  config: Config<VirtualServiceSpec>,
  rule: HttpRoute,
  match: HttpMatch | undefined,
  context: RouteContext,
): RouteInit {
  const name = [rule.name, match?.name ?? ''].filter((n) => n !== '').join('.');
  return {
    name,
    match: routeMatch(match),
    metadata: istioMetadata({
      config: `/apis/networking.istio.io/v1/namespaces/${config.namespace}/virtual-service/${config.name}`,
    }),
    ...action(config, rule, match, context),
    ...headerMutations(rule.headers),
    ...(rule.fault || rule.cors ? { typedPerFilterConfig: perFilter(rule) } : {}),
  };
}

function perFilter(rule: HttpRoute): Record<string, Any> {
  return {
    ...(rule.fault ? { 'envoy.filters.http.fault': faultConfig(rule.fault) } : {}),
    ...(rule.cors ? { 'envoy.filters.http.cors': corsConfig(rule.cors) } : {}),
  };
}

function corsConfig(cors: Cors): Any {
  return packAny(CorsPolicySchema, {
    allowOriginStringMatch: cors.allowOrigins.map((o) => stringMatcher(o) ?? ANYTHING),
    allowMethods: cors.allowMethods.join(','),
    allowHeaders: cors.allowHeaders.join(','),
    exposeHeaders: cors.exposeHeaders.join(','),
    ...(cors.maxAgeMs === undefined ? {} : { maxAge: String(Math.floor(cors.maxAgeMs / 1000)) }),
    ...(cors.allowCredentials === undefined ? {} : { allowCredentials: cors.allowCredentials }),
    forwardNotMatchingPreflights: cors.forwardUnmatchedPreflights,
  });
}

const ANYTHING: MessageInitShape<typeof StringMatcherSchema> = {
  matchPattern: { case: 'safeRegex', value: { regex: '.*' } },
};

function action(
  config: Config<VirtualServiceSpec>,
  rule: HttpRoute,
  match: HttpMatch | undefined,
  context: RouteContext,
): Pick<RouteInit & { $typeName?: undefined }, 'action' | 'decorator'> {
  if (rule.redirect) return { action: { case: 'redirect', value: redirectAction(rule.redirect, context) } };
  if (rule.directResponse) {
    const { status, body } = rule.directResponse;
    const content = body === '' ? {} : { body: { specifier: { case: 'inlineString' as const, value: body } } };
    return { action: { case: 'directResponse', value: { status, ...content } } };
  }
  const weighted = rule.destinations.length > 1 ? rule.destinations.filter((d) => d.weight > 0) : rule.destinations;
  const [first] = weighted;
  const path = decoratorPath(match?.uri);
  const single = weighted.length === 1 && first ? destinationOf(first, config, context) : undefined;
  const operation = single ? `${single.host}:${single.port}${path}` : `${config.name}:${context.listenerPort}${path}`;
  return {
    action: { case: 'route', value: routeAction(rule, weighted, config, context) },
    decorator: { operation },
  };
}

function decoratorPath(uri: StringMatch | undefined): string {
  if (!uri || uri.kind === 'present') return '/*';
  return uri.kind === 'prefix' ? `${uri.value}*` : uri.value;
}

export function destinationOf(
  destination: Destination,
  config: Config<VirtualServiceSpec>,
  context: Pick<RouteContext, 'snapshot' | 'listenerPort'>,
): { readonly host: string; readonly port: number; readonly cluster: string } {
  const host = resolveHost(destination.host, config.namespace, context.snapshot.domain);
  const ports = context.snapshot.servicesByHost.get(host)?.ports ?? [];
  const only = ports.length === 1 ? ports[0]?.port : undefined;
  const port = destination.port ?? only ?? context.listenerPort;
  return { host, port, cluster: outboundCluster(port, destination.subset, host) };
}

function routeAction(
  rule: HttpRoute,
  destinations: readonly Destination[],
  config: Config<VirtualServiceSpec>,
  context: RouteContext,
): MessageInitShape<typeof RouteActionSchema> {
  const clusters = destinations.map((d) => ({ destination: d, ...destinationOf(d, config, context) }));
  const [first] = clusters;
  const one = clusters.length === 1 && first && !first.destination.headers;
  // The route's goes before that of a destination, as in proxies where both are set.
  const own = clusters.length === 1 ? hostHeader(first?.destination.headers?.request) : undefined;
  const authority = rule.rewrite?.authority ?? hostHeader(rule.headers?.request) ?? own;
  const hash = first ? hashPolicies(context.snapshot, context.namespace, first) : [];
  const retry = retryPolicy(rule.retries, hash.length > 0);
  return {
    clusterSpecifier: one
      ? { case: 'cluster', value: first.cluster }
      : {
          case: 'weightedClusters',
          value: {
            clusters: clusters.map((c) => ({
              name: c.cluster,
              weight: clusters.length === 1 ? 100 : c.destination.weight,
              ...headerMutations(c.destination.headers),
              ...(clusters.length === 1 ? {} : hostRewrite(hostHeader(c.destination.headers?.request))),
            })),
          },
        },
    timeout: protoDuration(rule.timeoutMs ?? 0),
    ...(rule.timeoutMs ? {} : { maxStreamDuration: { maxStreamDuration: ZERO, grpcTimeoutHeaderMax: ZERO } }),
    ...(retry ? { retryPolicy: retry } : {}),
    hashPolicy: [...hash],
    requestMirrorPolicies: rule.mirrors.map((m) => ({
      cluster: destinationOf(m.destination, config, context).cluster,
      runtimeFraction: { defaultValue: fraction(m.percent) },
      disableShadowHostSuffixAppend: true,
    })),
    ...(rule.rewrite?.uri ? { prefixRewrite: rule.rewrite.uri } : {}),
    ...(rule.rewrite?.regex
      ? { regexRewrite: { pattern: { regex: rule.rewrite.regex.match }, substitution: rule.rewrite.regex.rewrite } }
      : {}),
    ...hostRewrite(authority),
  };
}

function hostRewrite(authority: string | undefined) {
  return authority ? { hostRewriteSpecifier: { case: 'hostRewriteLiteral' as const, value: authority } } : {};
}

/** The port of Location. 0 = none is written, and what the client put into Host stays unless the authority is new. */
function redirectPort(redirect: Redirect, { listenerPort, secure }: RouteContext): number {
  const port = redirect.port ?? 0;
  const usual = (redirect.scheme ?? (secure ? 'https' : 'http')) === 'https' ? 443 : 80;
  const othersPort = redirect.authority === undefined && listenerPort !== 80 && listenerPort !== 443;
  return port === usual && !othersPort ? 0 : port;
}

function redirectAction(redirect: Redirect, context: RouteContext) {
  const { listenerPort } = context;
  // Envoy leaves a port out only when none is given: what is the scheme's own must not be.
  const derived = redirect.derivePort === 'FROM_REQUEST_PORT' && listenerPort !== 80 && listenerPort !== 443;
  const path = redirect.uri
    ? { case: 'pathRedirect' as const, value: redirect.uri }
    : redirect.prefix !== undefined
      ? { case: 'prefixRewrite' as const, value: redirect.prefix }
      : undefined;
  return {
    responseCode: REDIRECT_CODES[redirect.code] ?? RedirectCode.MOVED_PERMANENTLY,
    hostRedirect: redirect.authority ?? '',
    portRedirect: derived ? listenerPort : redirectPort(redirect, context),
    ...(path ? { pathRewriteSpecifier: path } : {}),
    ...(redirect.scheme ? { schemeRewriteSpecifier: { case: 'schemeRedirect' as const, value: redirect.scheme } } : {}),
  };
}

const REDIRECT_CODES: Readonly<Record<number, RedirectCode>> = {
  301: RedirectCode.MOVED_PERMANENTLY,
  302: RedirectCode.FOUND,
  303: RedirectCode.SEE_OTHER,
  307: RedirectCode.TEMPORARY_REDIRECT,
  308: RedirectCode.PERMANENT_REDIRECT,
};

const HOST_HEADERS = new Set(['host', ':authority']);

function hostHeader(ops: HeaderOps | undefined): string | undefined {
  for (const [name, value] of Object.entries(ops?.set ?? {})) if (HOST_HEADERS.has(name.toLowerCase())) return value;
  return undefined;
}

interface Mutations {
  readonly requestHeadersToAdd?: MessageInitShape<typeof HeaderValueOptionSchema>[];
  readonly requestHeadersToRemove?: string[];
  readonly responseHeadersToAdd?: MessageInitShape<typeof HeaderValueOptionSchema>[];
  readonly responseHeadersToRemove?: string[];
}

function headerMutations(headers: HttpRoute['headers']): Mutations {
  if (!headers) return {};
  return {
    requestHeadersToAdd: additions(headers.request),
    requestHeadersToRemove: removals(headers.request),
    responseHeadersToAdd: additions(headers.response),
    responseHeadersToRemove: removals(headers.response),
  };
}

function allowed(name: string): boolean {
  return !name.startsWith(':') && name.toLowerCase() !== 'host';
}

function removals(ops: HeaderOps): string[] {
  return ops.remove.filter(allowed);
}

function additions(ops: HeaderOps): MessageInitShape<typeof HeaderValueOptionSchema>[] {
  const of = (map: Readonly<Record<string, string>>, appendAction: Append) =>
    Object.entries(map)
      .filter(([key]) => allowed(key))
      .map(([key, value]) => ({ header: { key, value }, appendAction }));
  return [...of(ops.set, Append.OVERWRITE_IF_EXISTS_OR_ADD), ...of(ops.add, Append.APPEND_IF_EXISTS_OR_ADD)];
}

function fraction(percent: number) {
  return { numerator: Math.round(percent * 10_000), denominator: Denominator.MILLION };
}

function faultConfig(fault: Fault) {
  return packAny(HTTPFaultSchema, {
    ...(fault.delay
      ? {
          delay: {
            faultDelaySecifier: { case: 'fixedDelay', value: protoDuration(fault.delay.ms) },
            percentage: fraction(fault.delay.percent),
          },
        }
      : {}),
    ...(fault.abort
      ? {
          abort: {
            errorType:
              'grpcStatus' in fault.abort
                ? { case: 'grpcStatus', value: fault.abort.grpcStatus }
                : { case: 'httpStatus', value: fault.abort.httpStatus },
            percentage: fraction(fault.abort.percent),
          },
        }
      : {}),
  });
}

function stringMatcher(
  match: StringMatch,
  ignoreCase = false,
): MessageInitShape<typeof StringMatcherSchema> | undefined {
  if (match.kind === 'present') return undefined;
  if (match.kind === 'regex') return { matchPattern: { case: 'safeRegex', value: { regex: match.value } } };
  return { matchPattern: { case: match.kind, value: match.value }, ignoreCase };
}

function headerMatcher(
  name: string,
  match: StringMatch,
  invert: boolean,
): MessageInitShape<typeof HeaderMatcherSchema> {
  const matcher = stringMatcher(match);
  if (!matcher) return { name, headerMatchSpecifier: { case: 'presentMatch', value: true }, invertMatch: invert };
  return {
    name,
    headerMatchSpecifier: { case: 'stringMatch', value: matcher },
    invertMatch: invert,
    treatMissingHeaderAsEmpty: invert,
  };
}

function queryMatcher(name: string, match: StringMatch): MessageInitShape<typeof QueryParameterMatcherSchema> {
  const matcher = stringMatcher(match);
  return {
    name,
    queryParameterMatchSpecifier: matcher
      ? { case: 'stringMatch', value: matcher }
      : { case: 'presentMatch', value: true },
  };
}

function routeMatch(match: HttpMatch | undefined): MessageInitShape<typeof RouteMatchSchema> {
  const headers: MessageInitShape<typeof HeaderMatcherSchema>[] = [];
  for (const [name, m] of match?.headers ?? []) headers.push(headerMatcher(name, m, false));
  for (const [name, m] of match?.withoutHeaders ?? []) headers.push(headerMatcher(name, m, true));
  if (match?.method) headers.push(headerMatcher(':method', match.method, false));
  if (match?.authority) headers.push(headerMatcher(':authority', match.authority, false));
  if (match?.scheme) headers.push(headerMatcher(':scheme', match.scheme, false));
  return {
    pathSpecifier: pathSpecifier(match?.uri),
    ...(match?.ignoreUriCase ? { caseSensitive: false } : {}),
    headers,
    queryParameters: [...(match?.queryParams ?? [])].map(([name, m]) => queryMatcher(name, m)),
  };
}

function pathSpecifier(uri: StringMatch | undefined) {
  if (!uri || uri.kind === 'present') return { case: 'prefix', value: '/' } as const;
  if (uri.kind === 'exact') return { case: 'path', value: uri.value } as const;
  if (uri.kind === 'prefix') return { case: 'prefix', value: uri.value } as const;
  return { case: 'safeRegex', value: { regex: uri.value } } as const;
}
