// Reads an HttpConnectionManager message into checked settings. Called when a filter chain is built.

import {
  Http1ProtocolOptionsSchema,
  HttpProtocolOptionsSchema,
  SchemeHeaderTransformationSchema,
  HttpProtocolOptions_HeadersWithUnderscoresAction as Underscores,
} from '#proto/envoy/config/core/v3/protocol_pb.js';
import {
  HttpConnectionManager_CodecType as Codec,
  type HttpConnectionManager,
  HttpConnectionManager_HcmAccessLogOptionsSchema,
  HttpConnectionManager_InternalAddressConfigSchema,
  HttpConnectionManager_SetCurrentClientCertDetailsSchema,
  HttpConnectionManager_UpgradeConfigSchema,
  HttpConnectionManagerSchema,
  HttpConnectionManager_ServerHeaderTransformation as Server,
  HttpConnectionManager_PathWithEscapedSlashesAction as Slashes,
  HttpConnectionManager_ForwardClientCertDetails as Xfcc,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { cidrOf } from '../config/address.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import {
  DEFAULT_DOWNSTREAM_IDLE_MS,
  DEFAULT_DRAIN_TIMEOUT_MS,
  DEFAULT_MAX_HEAD_BYTES,
  DEFAULT_MAX_HEADERS,
  DEFAULT_STREAM_IDLE_MS,
  DELAYED_CLOSE_MS,
  HARD_MAX_HEAD_BYTES,
  REQUEST_HEAD_TIMEOUT_MS,
} from '../limits.ts';
import { compileTracing, type TracingSettings } from '../tracing/tracer.ts';
import type { H2ServerOptions } from './codec.ts';
import { readH2Options } from './h2-options.ts';
import { readHeaderCase } from './header-case.ts';
import { compileDetectors, type Detector } from './ip-detection.ts';
import { compileLocalReplies, type LocalReplies, type LocalReplyContext } from './local-reply-config.ts';
import type { PathSettings } from './path-normalize.ts';
import type { ClientAddressSettings, InternalAddresses, OwnName, XfccMode, XfccSettings } from './request-headers.ts';

export interface ManagerSettings extends H2ServerOptions {
  readonly statPrefix: string;
  /** `host` of an HTTP/1.0 request without one; empty = none. */
  readonly defaultHost: string;
  readonly allowAbsoluteUrl: boolean;
  /** A connection is drained after this, ms; 0 = never. */
  readonly maxConnectionMs: number;
  readonly serverHeader: 'overwrite' | 'if-absent' | 'pass-through';
  readonly client: ClientAddressSettings;
  /** `:scheme` says what the upstream connection is. */
  readonly schemeOfUpstream: boolean;
  /** Requests say which service sends them. */
  readonly ownName: OwnName | undefined;
  readonly xfcc: XfccSettings;
  readonly path: PathSettings;
  readonly generateRequestId: boolean;
  readonly preserveExternalRequestId: boolean;
  readonly alwaysSetRequestIdInResponse: boolean;
  readonly streamIdleMs: number;
  readonly requestTimeoutMs: number;
  readonly idleMs: number;
  readonly maxStreamMs: number;
  readonly upgrades: ReadonlyMap<string, boolean>;
  readonly proxy100Continue: boolean;
  /** Added to `via` of requests and answers; empty: nothing. */
  readonly via: string;
  readonly stripHostDot: boolean;
  readonly stripPort: 'no' | 'matching' | 'any';
  readonly codec: 'auto' | 'http1' | 'http2';
  /** A 400 of ours does not end an HTTP/1 connection. */
  readonly keepAfterInvalid: boolean;
  /** Undefined: requests are not traced, and their ids carry no reason. */
  readonly tracing: TracingSettings | undefined;
  /** Lines before the end of a request. */
  readonly logging: { readonly atStart: boolean; readonly everyMs: number };
  /** local_reply_config; undefined = answers leave as they are. */
  readonly localReplies: LocalReplies | undefined;
  /** Requests after which the connection is closed; 0 = no limit. */
  readonly maxRequestsPerConnection: number;
}

export interface ManagerContext extends LocalReplyContext {
  /** Of the listener. */
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  /** node.cluster and node.id. */
  readonly serviceCluster: string;
  readonly local: { readonly id: string };
}

const FIELDS = [
  'codec_type',
  'stat_prefix',
  'rds',
  'scoped_routes',
  'route_config',
  'http_filters',
  'common_http_protocol_options',
  'http_protocol_options',
  'http2_protocol_options',
  'server_name',
  'server_header_transformation',
  'max_request_headers_kb',
  'stream_idle_timeout',
  'request_timeout',
  'drain_timeout',
  'delayed_close_timeout',
  'access_log',
  'access_log_options',
  'access_log_flush_interval',
  'flush_access_log_on_new_request',
  'use_remote_address',
  'xff_num_trusted_hops',
  'skip_xff_append',
  'generate_request_id',
  'preserve_external_request_id',
  'always_set_request_id_in_response',
  'forward_client_cert_details',
  'set_current_client_cert_details',
  'proxy_100_continue',
  'upgrade_configs',
  'normalize_path',
  'merge_slashes',
  'path_with_escaped_slashes_action',
  'request_id_extension',
  'strip_matching_host_port',
  'strip_any_host_port',
  'stream_error_on_invalid_http_message',
  'internal_address_config',
  'local_reply_config',
  'via',
  'strip_trailing_host_dot',
  'request_headers_timeout',
  'tracing',
  'add_user_agent',
  'original_ip_detection_extensions',
  'scheme_header_transformation',
];

export function readManager(message: HttpConnectionManager, context: ManagerContext, path: string): ManagerSettings {
  only(HttpConnectionManagerSchema, message, path, FIELDS);
  const http1 = message.httpProtocolOptions;
  if (http1)
    only(Http1ProtocolOptionsSchema, http1, join(path, 'http_protocol_options'), [
      'allow_absolute_url',
      'accept_http_10',
      'default_host_for_http_10',
      'enable_trailers',
      'header_key_format',
    ]);
  const common = message.commonHttpProtocolOptions;
  if (common)
    only(HttpProtocolOptionsSchema, common, join(path, 'common_http_protocol_options'), [
      'idle_timeout',
      'max_headers_count',
      'max_stream_duration',
      'max_requests_per_connection',
      'max_connection_duration',
      'headers_with_underscores_action',
    ]);
  if (message.codecType === Codec.HTTP3)
    throw new ConfigError(join(path, 'codec_type'), 'HTTP3 is not supported by this proxy');
  const headBytes = (message.maxRequestHeadersKb ?? 0) * 1024 || DEFAULT_MAX_HEAD_BYTES;
  if (headBytes > HARD_MAX_HEAD_BYTES)
    throw new ConfigError(
      join(path, 'max_request_headers_kb'),
      `more than ${HARD_MAX_HEAD_BYTES / 1024} is not supported by this proxy`,
    );
  return {
    statPrefix: message.statPrefix,
    codec: message.codecType === Codec.HTTP1 ? 'http1' : message.codecType === Codec.HTTP2 ? 'http2' : 'auto',
    serverName: message.serverName || 'envoy',
    serverHeader: SERVER[message.serverHeaderTransformation],
    maxHeadBytes: headBytes,
    maxHeaders: common?.maxHeadersCount ?? DEFAULT_MAX_HEADERS,
    acceptHttp10: http1?.acceptHttp10 ?? false,
    defaultHost: http1?.defaultHostForHttp10 ?? '',
    allowAbsoluteUrl: http1?.allowAbsoluteUrl ?? true,
    headerCase: readHeaderCase(http1?.headerKeyFormat, join(path, 'http_protocol_options.header_key_format')),
    underscores: UNDERSCORES[common?.headersWithUnderscoresAction ?? Underscores.ALLOW],
    maxConnectionMs: millis(common?.maxConnectionDuration, 0),
    enableTrailers: http1?.enableTrailers ?? false,
    drainTimeoutMs: millis(message.drainTimeout, DEFAULT_DRAIN_TIMEOUT_MS),
    delayedCloseMs: millis(message.delayedCloseTimeout, DELAYED_CLOSE_MS),
    flushTimeoutMs: millis(message.streamIdleTimeout, DEFAULT_STREAM_IDLE_MS),
    h2: readH2Options(
      message.http2ProtocolOptions,
      join(path, 'http2_protocol_options'),
      message.streamErrorOnInvalidHttpMessage ?? false,
    ),
    client: {
      useRemoteAddress: message.useRemoteAddress ?? false,
      trustedHops: message.xffNumTrustedHops,
      skipXffAppend: message.skipXffAppend,
      internal: internalAddresses(message, join(path, 'internal_address_config')),
      detectors: detectorsOf(message, path),
      scheme: schemeOf(message, join(path, 'scheme_header_transformation')),
    },
    schemeOfUpstream: matchesUpstream(message),
    ownName: message.addUserAgent ? { cluster: context.serviceCluster, node: context.local.id } : undefined,
    xfcc: xfccOf(message, join(path, 'set_current_client_cert_details')),
    path: {
      normalize: message.normalizePath ?? false,
      mergeSlashes: message.mergeSlashes,
      escapedSlashes: SLASHES[message.pathWithEscapedSlashesAction],
    },
    generateRequestId: message.generateRequestId ?? true,
    preserveExternalRequestId: message.preserveExternalRequestId,
    alwaysSetRequestIdInResponse: message.alwaysSetRequestIdInResponse,
    streamIdleMs: millis(message.streamIdleTimeout, DEFAULT_STREAM_IDLE_MS),
    requestTimeoutMs: millis(message.requestTimeout, 0),
    idleMs: millis(common?.idleTimeout, DEFAULT_DOWNSTREAM_IDLE_MS),
    maxStreamMs: millis(common?.maxStreamDuration, 0),
    keepAfterInvalid: message.streamErrorOnInvalidHttpMessage ?? false,
    tracing: compileTracing(message, context.format, context.direction === 'outbound', path),
    logging: loggingOf(message, join(path, 'access_log_options')),
    localReplies: compileLocalReplies(message.localReplyConfig, context, join(path, 'local_reply_config')),
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? 0,
    upgrades: upgradesOf(message, path),
    proxy100Continue: message.proxy100Continue,
    via: message.via,
    stripHostDot: message.stripTrailingHostDot,
    headTimeoutMs: millis(message.requestHeadersTimeout, 0) || REQUEST_HEAD_TIMEOUT_MS,
    stripPort: message.stripPortMode.case ? 'any' : message.stripMatchingHostPort ? 'matching' : 'no',
  };
}

const UNDERSCORES: Readonly<Record<Underscores, 'allow' | 'reject' | 'drop'>> = {
  [Underscores.ALLOW]: 'allow',
  [Underscores.REJECT_REQUEST]: 'reject',
  [Underscores.DROP_HEADER]: 'drop',
};

const SERVER: Readonly<Record<Server, ManagerSettings['serverHeader']>> = {
  [Server.OVERWRITE]: 'overwrite',
  [Server.APPEND_IF_ABSENT]: 'if-absent',
  [Server.PASS_THROUGH]: 'pass-through',
};
const SLASHES: Readonly<Record<Slashes, PathSettings['escapedSlashes']>> = {
  [Slashes.IMPLEMENTATION_SPECIFIC_DEFAULT]: 'keep',
  [Slashes.KEEP_UNCHANGED]: 'keep',
  [Slashes.REJECT_REQUEST]: 'reject',
  [Slashes.UNESCAPE_AND_REDIRECT]: 'redirect',
  [Slashes.UNESCAPE_AND_FORWARD]: 'forward',
};
const XFCC: Readonly<Record<Xfcc, XfccMode>> = {
  [Xfcc.SANITIZE]: 'sanitize',
  [Xfcc.FORWARD_ONLY]: 'forward-only',
  [Xfcc.APPEND_FORWARD]: 'append-forward',
  [Xfcc.SANITIZE_SET]: 'sanitize-set',
  [Xfcc.ALWAYS_FORWARD_ONLY]: 'always-forward-only',
};

function loggingOf(message: HttpConnectionManager, path: string): ManagerSettings['logging'] {
  const options = message.accessLogOptions;
  if (options)
    only(HttpConnectionManager_HcmAccessLogOptionsSchema, options, path, [
      'access_log_flush_interval',
      'flush_access_log_on_new_request',
    ]);
  const interval = options?.accessLogFlushInterval ?? message.accessLogFlushInterval;
  if (interval && millis(interval, 0) < 1)
    throw new ConfigError(join(path, 'access_log_flush_interval'), 'value must be greater than or equal to 1ms');
  return {
    atStart: options?.flushAccessLogOnNewRequest || message.flushAccessLogOnNewRequest,
    everyMs: millis(interval, 0),
  };
}

function internalAddresses(message: HttpConnectionManager, path: string): InternalAddresses {
  const config = message.internalAddressConfig;
  if (!config) return { unixSockets: false, ranges: [] };
  only(HttpConnectionManager_InternalAddressConfigSchema, config, path, ['unix_sockets', 'cidr_ranges']);
  return {
    unixSockets: config.unixSockets,
    ranges: config.cidrRanges.map((range, i) => cidrOf(range, join(path, `cidr_ranges[${i}]`))),
  };
}

function detectorsOf(message: HttpConnectionManager, path: string): readonly Detector[] {
  const list = message.originalIpDetectionExtensions;
  const mixed = message.useRemoteAddress
    ? 'use_remote_address'
    : message.xffNumTrustedHops > 0
      ? 'xff_num_trusted_hops'
      : '';
  if (list.length > 0 && mixed !== '')
    throw new ConfigError(path, `Original IP detection extensions and ${mixed} may not be mixed`);
  return compileDetectors(list, join(path, 'original_ip_detection_extensions'));
}

function schemeOf(message: HttpConnectionManager, path: string): 'http' | 'https' | undefined {
  const config = message.schemeHeaderTransformation;
  if (!config) return undefined;
  only(SchemeHeaderTransformationSchema, config, path, ['scheme_to_overwrite', 'match_upstream']);
  const scheme = config.transformation.value;
  return scheme === 'http' || scheme === 'https' ? scheme : undefined;
}

function matchesUpstream({ schemeHeaderTransformation: config }: HttpConnectionManager): boolean {
  return config?.matchUpstream === true && config.transformation.case === undefined;
}

function xfccOf(message: HttpConnectionManager, path: string): XfccSettings {
  const details = message.setCurrentClientCertDetails;
  if (details)
    only(HttpConnectionManager_SetCurrentClientCertDetailsSchema, details, path, [
      'subject',
      'cert',
      'chain',
      'dns',
      'uri',
    ]);
  return {
    mode: XFCC[message.forwardClientCertDetails],
    subject: details?.subject ?? false,
    uri: details?.uri ?? false,
    dns: details?.dns ?? false,
    cert: details?.cert ?? false,
    chain: details?.chain ?? false,
  };
}

function upgradesOf(message: HttpConnectionManager, path: string): ReadonlyMap<string, boolean> {
  const upgrades = new Map<string, boolean>();
  for (const [i, upgrade] of message.upgradeConfigs.entries()) {
    const at = join(path, `upgrade_configs[${i}]`);
    only(HttpConnectionManager_UpgradeConfigSchema, upgrade, at, ['upgrade_type', 'enabled']);
    upgrades.set(upgrade.upgradeType.toLowerCase(), upgrade.enabled ?? true);
  }
  return upgrades;
}
