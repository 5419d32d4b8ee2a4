// What a route does: forward (cluster, weights, rewrites, timeouts, retries), redirect, or answer by itself.
import type { RE2JS } from 're2js';
import {
  DirectResponseActionSchema,
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  RedirectActionSchema,
  RedirectAction_RedirectResponseCode as RedirectCode,
  type RetryPolicy,
  type Route,
  type RouteAction,
  RouteAction_MaxStreamDurationSchema,
  RouteAction_UpgradeConfigSchema,
  RouteActionSchema,
  WeightedCluster_ClusterWeightSchema,
  WeightedClusterSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { RegexMatchAndSubstitute } from '#proto/envoy/type/matcher/v3/regex_pb.js';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { compileRegex } from '../config/matchers.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { DEFAULT_ROUTE_TIMEOUT_MS, MAX_DIRECT_RESPONSE_BYTES } from '../limits.ts';
import type { Share } from '../runtime/runtime.ts';
import { compileEdits, type HeaderEdits } from './header-edits.ts';
import type { RequestView } from './matchers.ts';
import { type PathMatch, pathOf } from './path.ts';
import { compileRetry, type RetrySettings } from './retry.ts';

export interface ClusterChoice {
  readonly name: string;
  readonly requestEdits: HeaderEdits;
  readonly responseEdits: HeaderEdits;
  readonly hostRewrite: string;
}

export interface ForwardSettings {
  readonly kind: 'forward';
  readonly fraction: Share;
  readonly choose: (request: RequestView, random: () => number) => ClusterChoice;
  readonly clusters: readonly string[];
  readonly notFoundStatus: number;
  readonly rewritePath: ((path: string) => string) | undefined;
  readonly hostRewrite: string;
  readonly autoHostRewrite: boolean;
  readonly hostRewriteHeader: HeaderName | undefined;
  readonly appendForwardedHost: boolean;
  /** ms, 0 = none. */
  readonly timeoutMs: number;
  /** ms, -1 = the connection manager's. */
  readonly idleTimeoutMs: number;
  readonly maxDurationMs: number;
  readonly retry: RetrySettings | undefined;
  /** Upgrades switched on (true) or off (false) for this route. */
  readonly upgrades: ReadonlyMap<string, boolean>;
}
export interface RedirectSettings {
  readonly kind: 'redirect';
  readonly fraction: Share;
  readonly status: number;
  readonly location: (request: RequestView) => string;
}
export interface DirectSettings {
  readonly kind: 'direct';
  readonly fraction: Share;
  readonly status: number;
  readonly body: Buffer;
}
export type RouteActionSettings = ForwardSettings | RedirectSettings | DirectSettings;

export interface ActionContext {
  readonly match: PathMatch;
  readonly hostRetry: RetryPolicy | undefined;
}

export function compileAction(
  message: Route,
  fraction: Share,
  context: ActionContext,
  path: string,
): RouteActionSettings {
  const { action } = message;
  switch (action.case) {
    case 'route':
      return forward(action.value, fraction, context, join(path, 'route'));
    case 'redirect':
      return redirect(action.value, fraction, context.match, join(path, 'redirect'));
    case 'directResponse': {
      const at = join(path, 'direct_response');
      only(DirectResponseActionSchema, action.value, at, ['status', 'body']);
      const source = action.value.body?.specifier;
      if (source?.case && source.case !== 'inlineString' && source.case !== 'inlineBytes')
        throw new ConfigError(
          join(at, 'body'),
          `'${source.case}' is not supported by this proxy, use inline_string or inline_bytes`,
        );
      const body = Buffer.from(source?.value ?? '');
      if (body.length > MAX_DIRECT_RESPONSE_BYTES)
        throw new ConfigError(join(at, 'body'), `is larger than ${MAX_DIRECT_RESPONSE_BYTES} bytes`);
      return { kind: 'direct', fraction, status: action.value.status, body };
    }
    default:
      throw new ConfigError(path, `route action '${action.case ?? 'none'}' is not supported by this proxy`);
  }
}

const ROUTE_FIELDS = [
  'cluster',
  'cluster_header',
  'weighted_clusters',
  'cluster_not_found_response_code',
  'prefix_rewrite',
  'regex_rewrite',
  'host_rewrite_literal',
  'auto_host_rewrite',
  'host_rewrite_header',
  'append_x_forwarded_host',
  'timeout',
  'idle_timeout',
  'retry_policy',
  'upgrade_configs',
  'max_stream_duration',
  'max_grpc_timeout',
];

function forward(message: RouteAction, fraction: Share, context: ActionContext, path: string): ForwardSettings {
  only(RouteActionSchema, message, path, ROUTE_FIELDS);
  const host = message.hostRewriteSpecifier;
  const [choose, clusters] = chooser(message, path);
  if (message.maxStreamDuration)
    only(RouteAction_MaxStreamDurationSchema, message.maxStreamDuration, join(path, 'max_stream_duration'), [
      'max_stream_duration',
      'grpc_timeout_header_max',
    ]);
  const upgrades = new Map<string, boolean>();
  for (const [i, upgrade] of message.upgradeConfigs.entries()) {
    only(RouteAction_UpgradeConfigSchema, upgrade, join(path, `upgrade_configs[${i}]`), ['upgrade_type', 'enabled']);
    upgrades.set(upgrade.upgradeType.toLowerCase(), upgrade.enabled ?? true);
  }
  const retry = message.retryPolicy ?? context.hostRetry;
  return {
    kind: 'forward',
    fraction,
    choose,
    clusters,
    notFoundStatus: NOT_FOUND[message.clusterNotFoundResponseCode],
    rewritePath: rewriter(message.prefixRewrite, message.regexRewrite, context.match, path),
    hostRewrite: host.case === 'hostRewriteLiteral' ? host.value : '',
    autoHostRewrite: host.case === 'autoHostRewrite' ? host.value.value : false,
    hostRewriteHeader: host.case === 'hostRewriteHeader' ? headerName(host.value) : undefined,
    appendForwardedHost: message.appendXForwardedHost,
    timeoutMs: message.timeout ? millis(message.timeout, 0) : DEFAULT_ROUTE_TIMEOUT_MS,
    idleTimeoutMs: millis(message.idleTimeout, -1),
    maxDurationMs: millis(message.maxStreamDuration?.maxStreamDuration, 0),
    retry: compileRetry(retry, join(path, 'retry_policy')),
    upgrades,
  };
}

const NOT_FOUND: Readonly<Record<NotFoundCode, number>> = {
  [NotFoundCode.SERVICE_UNAVAILABLE]: 503,
  [NotFoundCode.NOT_FOUND]: 404,
  [NotFoundCode.INTERNAL_SERVER_ERROR]: 500,
};

const PLAIN = compileEdits([], [], '');

function chooser(message: RouteAction, path: string): [ForwardSettings['choose'], string[]] {
  const spec = message.clusterSpecifier;
  const plain = (name: string): ClusterChoice => ({ name, requestEdits: PLAIN, responseEdits: PLAIN, hostRewrite: '' });
  switch (spec.case) {
    case 'cluster': {
      const fixed = plain(spec.value);
      return [() => fixed, [spec.value]];
    }
    case 'clusterHeader': {
      const header = headerName(spec.value);
      return [(request) => plain(request.headers.get(header) ?? ''), []];
    }
    case 'weightedClusters': {
      const at = join(path, 'weighted_clusters');
      only(WeightedClusterSchema, spec.value, at, ['clusters', 'total_weight', 'runtime_key_prefix']);
      const entries = spec.value.clusters.map((entry, i) => {
        const here = join(at, `clusters[${i}]`);
        only(WeightedCluster_ClusterWeightSchema, entry, here, [
          'name',
          'weight',
          'request_headers_to_add',
          'request_headers_to_remove',
          'response_headers_to_add',
          'response_headers_to_remove',
          'host_rewrite_literal',
        ]);
        const choice: ClusterChoice = {
          name: entry.name,
          requestEdits: compileEdits(entry.requestHeadersToAdd, entry.requestHeadersToRemove, join(here, 'request')),
          responseEdits: compileEdits(
            entry.responseHeadersToAdd,
            entry.responseHeadersToRemove,
            join(here, 'response'),
          ),
          hostRewrite: entry.hostRewriteSpecifier.value ?? '',
        };
        return { weight: entry.weight ?? 0, choice };
      });
      const total = entries.reduce((sum, entry) => sum + entry.weight, 0);
      if (total === 0) throw new ConfigError(at, 'Sum of weights in the weighted_cluster must be greater than 0.');
      return [
        (_request, random) => {
          let at = random() * total;
          for (const entry of entries) {
            at -= entry.weight;
            if (at < 0) return entry.choice;
          }
          return entries.at(-1)!.choice;
        },
        entries.map((entry) => entry.choice.name),
      ];
    }
    default:
      throw new ConfigError(join(path, 'cluster_specifier'), `'${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

function rewriter(
  prefix: string,
  regex: RegexMatchAndSubstitute | undefined,
  match: PathMatch,
  path: string,
): ((path: string) => string) | undefined {
  if (regex) {
    const pattern: RE2JS = compileRegex(regex.pattern?.regex ?? '', join(path, 'regex_rewrite.pattern'));
    const substitution = regex.substitution.replaceAll('$', '\\$').replaceAll(/\\(\d)/g, '$$$1');
    return (target) => {
      const bare = pathOf(target);
      return pattern.matcher(bare).replaceAll(substitution) + target.slice(bare.length);
    };
  }
  if (prefix === '') return undefined;
  if (match.kind === 'regex') throw new ConfigError(join(path, 'prefix_rewrite'), 'needs a prefix or path match');
  const { length } = match.value;
  return (target) => prefix + target.slice(length);
}

const REDIRECT_STATUS: Readonly<Record<RedirectCode, number>> = {
  [RedirectCode.MOVED_PERMANENTLY]: 301,
  [RedirectCode.FOUND]: 302,
  [RedirectCode.SEE_OTHER]: 303,
  [RedirectCode.TEMPORARY_REDIRECT]: 307,
  [RedirectCode.PERMANENT_REDIRECT]: 308,
};

function redirect(
  message: NonNullable<Extract<Route['action'], { case: 'redirect' }>['value']>,
  fraction: Share,
  match: PathMatch,
  path: string,
): RedirectSettings {
  only(RedirectActionSchema, message, path, [
    'https_redirect',
    'scheme_redirect',
    'host_redirect',
    'port_redirect',
    'path_redirect',
    'prefix_rewrite',
    'regex_rewrite',
    'response_code',
    'strip_query',
  ]);
  const scheme = message.schemeRewriteSpecifier;
  const pathSpec = message.pathRewriteSpecifier;
  const rewrite =
    pathSpec.case === 'prefixRewrite'
      ? rewriter(pathSpec.value, undefined, match, path)
      : pathSpec.case === 'regexRewrite'
        ? rewriter('', pathSpec.value, match, path)
        : undefined;
  return {
    kind: 'redirect',
    fraction,
    status: REDIRECT_STATUS[message.responseCode],
    location(request) {
      const to =
        scheme.case === 'schemeRedirect'
          ? scheme.value
          : scheme.case === 'httpsRedirect' && scheme.value
            ? 'https'
            : request.scheme;
      const host = redirectHost(request, to, message.hostRedirect, message.portRedirect);
      let target = rewrite ? rewrite(request.path) : request.path;
      if (pathSpec.case === 'pathRedirect') {
        const query = request.path.slice(pathOf(request.path).length);
        target = pathSpec.value.includes('?') ? pathSpec.value : pathSpec.value + query;
      }
      if (message.stripQuery) target = pathOf(target);
      return `${to}://${host}${target}`;
    },
  };
}

/** The port of the request goes when the scheme changes and it was the old scheme's own. */
function redirectHost(request: RequestView, scheme: string, hostRedirect: string, portRedirect: number): string {
  let host = hostRedirect || request.authority;
  const port = /:(\d+)$/.exec(host)?.[1];
  if (portRedirect > 0) return `${host.replace(/:\d+$/, '')}:${portRedirect}`;
  const own = request.scheme === 'https' ? '443' : '80';
  if (hostRedirect === '' && scheme !== request.scheme && port === own) host = host.replace(/:\d+$/, '');
  return host;
}
