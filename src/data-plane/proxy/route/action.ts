// What a route does: forward (cluster, rewrites, timeouts, retries, mirrors), redirect, answer by itself, or leave it to a
// filter.

import { RoutingPriority as Priority } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  RouteAction_ClusterNotFoundResponseCode as NotFoundCode,
  type RetryPolicy,
  type Route,
  type RouteAction,
  RouteAction_InternalRedirectAction,
  RouteAction_MaxStreamDurationSchema,
  type RouteAction_RequestMirrorPolicy,
  RouteAction_UpgradeConfig_ConnectConfigSchema,
  RouteAction_UpgradeConfigSchema,
  RouteActionSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { FormatDeps } from '../access-log/format.ts';
import type { RoutingPriority } from '../cluster/lb-context.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { DEFAULT_ROUTE_TIMEOUT_MS } from '../limits.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { DataReader } from '../transport-socket/secrets.ts';
import { type ChoiceContext, type Chooser, clusterChooser } from './cluster-choice.ts';
import { compileHashPolicy, type HashPolicy } from './hash-policy.ts';
import { compileInternalRedirect, type InternalRedirectSettings } from './internal-redirect.ts';
import { compileMirrors, type MirrorPolicy } from './mirror.ts';
import type { PathMatch } from './path.ts';
import { type DirectSettings, direct, type RedirectSettings, redirect } from './redirect.ts';
import { compileRetry, type RetrySettings } from './retry.ts';
import { type HostRewrite, hostRewrite, pathRewrite, type TargetRewrite } from './rewrite.ts';

export type { ClusterChoice } from './cluster-choice.ts';

/** max_stream_duration of a route, which replaces the connection manager's. */
export interface StreamDuration {
  /** ms; undefined = the connection manager's, 0 = none. */
  readonly maxMs: number | undefined;
  /** Bound of a gRPC request's own timeout, ms (0 = none); undefined = grpc-timeout has no say. */
  readonly grpcMaxMs: number | undefined;
  readonly grpcOffsetMs: number;
}

export interface ForwardSettings {
  readonly kind: 'forward';
  readonly choose: Chooser;
  readonly clusters: readonly string[];
  readonly notFoundStatus: number;
  readonly rewritePath: TargetRewrite | undefined;
  readonly hostRewrite: HostRewrite | undefined;
  readonly appendForwardedHost: boolean;
  /** ms, 0 = none. */
  readonly timeoutMs: number;
  /** Old way for gRPC: the request's own timeout up to this, ms; undefined = not used. */
  readonly maxGrpcTimeoutMs: number | undefined;
  readonly grpcOffsetMs: number;
  /** ms, -1 = the connection manager's. */
  readonly idleTimeoutMs: number;
  readonly duration: StreamDuration | undefined;
  readonly retry: RetrySettings | undefined;
  readonly mirrors: readonly MirrorPolicy[];
  readonly hash: HashPolicy | undefined;
  readonly priority: RoutingPriority;
  readonly internalRedirect: InternalRedirectSettings | undefined;
  /** Upgrades switched on (true) or off (false) for this route. */
  readonly upgrades: ReadonlyMap<string, boolean>;
  /** CONNECT requests become a plain connection to the upstream (connect_config). */
  readonly terminatesConnect: boolean;
}
/** Only a filter before the router can answer. */
export interface NonForwardingSettings {
  readonly kind: 'non-forwarding';
}
export type RouteActionSettings = ForwardSettings | RedirectSettings | DirectSettings | NonForwardingSettings;

export interface ActionContext extends ChoiceContext {
  readonly runtime: RuntimeView;
  readonly reader: DataReader;
  readonly format: FormatDeps;
  readonly match: PathMatch;
  /** Of the virtual host, for routes without their own. */
  readonly hostRetry: RetryPolicy | undefined;
  readonly hostMirrors: readonly RouteAction_RequestMirrorPolicy[];
  readonly maxDirectBytes: number | undefined;
}

export function compileAction(message: Route, context: ActionContext, path: string): RouteActionSettings {
  const { action } = message;
  switch (action.case) {
    case 'route':
      return forward(action.value, context, join(path, 'route'));
    case 'redirect':
      return redirect(action.value, context.match, join(path, 'redirect'));
    case 'directResponse':
      return direct(action.value, context, context.maxDirectBytes, join(path, 'direct_response'));
    case 'nonForwardingAction':
      return { kind: 'non-forwarding' };
    case 'filterAction':
      if (action.value.action)
        throw new ConfigError(join(path, 'filter_action.action'), 'field is not supported by this proxy');
      return { kind: 'non-forwarding' };
    case undefined:
      throw new ConfigError(join(path, 'action'), 'value is required');
  }
}

const ROUTE_FIELDS = [
  'rate_limits',
  'include_vh_rate_limits',
  'cluster',
  'cluster_header',
  'weighted_clusters',
  'cluster_not_found_response_code',
  'metadata_match',
  'prefix_rewrite',
  'regex_rewrite',
  'path_rewrite_policy',
  'path_rewrite',
  'host_rewrite_literal',
  'auto_host_rewrite',
  'host_rewrite_header',
  'host_rewrite_path_regex',
  'host_rewrite',
  'append_x_forwarded_host',
  'timeout',
  'idle_timeout',
  'retry_policy',
  'request_mirror_policies',
  'priority',
  'hash_policy',
  'upgrade_configs',
  'internal_redirect_policy',
  'internal_redirect_action',
  'max_internal_redirects',
  'max_stream_duration',
  'max_grpc_timeout',
  'grpc_timeout_offset',
];

function forward(message: RouteAction, context: ActionContext, path: string): ForwardSettings {
  only(RouteActionSchema, message, path, ROUTE_FIELDS);
  const hash = compileHashPolicy(message.hashPolicy, path);
  const [choose, clusters] = clusterChooser(message, hash, context, path);
  if (message.internalRedirectAction !== RouteAction_InternalRedirectAction.PASS_THROUGH_INTERNAL_REDIRECT)
    throw new ConfigError(join(path, 'internal_redirect_action'), 'use internal_redirect_policy instead');
  const mirrors = message.requestMirrorPolicies.length > 0 ? message.requestMirrorPolicies : context.hostMirrors;
  return {
    kind: 'forward',
    choose,
    clusters,
    notFoundStatus: NOT_FOUND[message.clusterNotFoundResponseCode],
    rewritePath: pathRewrite(message, context.match, context.format, path),
    hostRewrite: hostRewrite(message, context.format, path),
    appendForwardedHost: message.appendXForwardedHost,
    timeoutMs: message.timeout ? millis(message.timeout, 0) : DEFAULT_ROUTE_TIMEOUT_MS,
    maxGrpcTimeoutMs: message.maxGrpcTimeout && millis(message.maxGrpcTimeout, 0),
    grpcOffsetMs: millis(message.grpcTimeoutOffset, 0),
    idleTimeoutMs: millis(message.idleTimeout, -1),
    duration: durationOf(message, join(path, 'max_stream_duration')),
    retry: compileRetry(message.retryPolicy ?? context.hostRetry, join(path, 'retry_policy')),
    mirrors: compileMirrors(mirrors, context.runtime, context.format, path),
    hash,
    priority: message.priority === Priority.HIGH ? 'high' : 'default',
    internalRedirect: compileInternalRedirect(message.internalRedirectPolicy, join(path, 'internal_redirect_policy')),
    upgrades: upgradesOf(message, path),
    terminatesConnect: message.upgradeConfigs.some((upgrade) => upgrade.connectConfig !== undefined),
  };
}

const NOT_FOUND: Readonly<Record<NotFoundCode, number>> = {
  [NotFoundCode.SERVICE_UNAVAILABLE]: 503,
  [NotFoundCode.NOT_FOUND]: 404,
  [NotFoundCode.INTERNAL_SERVER_ERROR]: 500,
};

function durationOf(message: RouteAction, path: string): StreamDuration | undefined {
  const duration = message.maxStreamDuration;
  if (!duration) return undefined;
  only(RouteAction_MaxStreamDurationSchema, duration, path, [
    'max_stream_duration',
    'grpc_timeout_header_max',
    'grpc_timeout_header_offset',
  ]);
  return {
    maxMs: duration.maxStreamDuration && millis(duration.maxStreamDuration, 0),
    grpcMaxMs: duration.grpcTimeoutHeaderMax && millis(duration.grpcTimeoutHeaderMax, 0),
    grpcOffsetMs: millis(duration.grpcTimeoutHeaderOffset, 0),
  };
}

function upgradesOf(message: RouteAction, path: string): ReadonlyMap<string, boolean> {
  const upgrades = new Map<string, boolean>();
  for (const [i, upgrade] of message.upgradeConfigs.entries()) {
    const at = join(path, `upgrade_configs[${i}]`);
    only(RouteAction_UpgradeConfigSchema, upgrade, at, ['upgrade_type', 'enabled', 'connect_config']);
    const type = upgrade.upgradeType.toLowerCase();
    if (upgrade.connectConfig) {
      only(RouteAction_UpgradeConfig_ConnectConfigSchema, upgrade.connectConfig, join(at, 'connect_config'), []);
      if (type !== 'connect') throw new ConfigError(at, 'Non-CONNECT upgrade type has ConnectConfig');
    }
    if (upgrades.has(type)) throw new ConfigError(at, `Duplicate upgrade ${upgrade.upgradeType}`);
    upgrades.set(type, upgrade.enabled ?? true);
  }
  return upgrades;
}
