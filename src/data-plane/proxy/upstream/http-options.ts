// How a cluster speaks HTTP to its hosts: HttpProtocolOptions and the older fields of Cluster. Read by cluster/config.ts.
import type { Cluster as ClusterMessage } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import {
  HttpProtocolOptionsSchema as CommonHttpOptionsSchema,
  type Http1ProtocolOptions,
  Http1ProtocolOptionsSchema,
  type Http2ProtocolOptions,
  UpstreamHttpProtocolOptionsSchema,
} from '#proto/envoy/config/core/v3/protocol_pb.js';
import {
  type HttpProtocolOptions,
  HttpProtocolOptions_AutoHttpConfigSchema,
  HttpProtocolOptions_ExplicitHttpConfigSchema,
  HttpProtocolOptions_UseDownstreamHttpConfigSchema,
  HttpProtocolOptionsSchema,
} from '#proto/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js';
import { openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { type H2Options, readH2Options } from '../http/h2-options.ts';
import { type HeaderCase, LOWER_CASE, readHeaderCase } from '../http/header-case.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { DEFAULT_MAX_HEADERS, DEFAULT_UPSTREAM_IDLE_MS } from '../limits.ts';

export const HTTP_OPTIONS_KEY = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

export interface UpstreamHttp {
  /** `downstream`: as the client speaks; `auto`: as ALPN decides. */
  readonly protocol: 'http1' | 'http2' | 'downstream' | 'auto';
  readonly idleMs: number;
  /** A connection takes no request after this; 0 = no limit. */
  readonly maxConnectionMs: number;
  /** The longest a try may last; 0 = no limit. */
  readonly maxStreamMs: number;
  /** 0 = no limit. */
  readonly maxRequestsPerConnection: number;
  readonly maxHeaders: number;
  readonly autoSni: boolean;
  /** Names the server instead of the authority, when a request has it. */
  readonly sniHeader: HeaderName | undefined;
  readonly autoSanValidation: boolean;
  /** Trailers of HTTP/1 chunked bodies are passed on. */
  readonly enableTrailers: boolean;
  readonly headerCase: HeaderCase;
  readonly h2: H2Options;
}

/** Without any option, and connections that never grow old: health checks. */
export const DEFAULT_HTTP: UpstreamHttp = {
  protocol: 'http1',
  idleMs: 0,
  maxConnectionMs: 0,
  maxStreamMs: 0,
  maxRequestsPerConnection: 0,
  maxHeaders: DEFAULT_MAX_HEADERS,
  autoSni: false,
  sniHeader: undefined,
  autoSanValidation: false,
  enableTrailers: false,
  headerCase: LOWER_CASE,
  h2: readH2Options(undefined, ''),
};

interface Versions {
  readonly protocol: UpstreamHttp['protocol'];
  readonly http1: Http1ProtocolOptions | undefined;
  readonly http2: Http2ProtocolOptions | undefined;
  readonly path: string;
}

export function readUpstreamHttp(message: ClusterMessage, path: string): UpstreamHttp {
  let common = message.commonHttpProtocolOptions;
  let upstream = message.upstreamHttpProtocolOptions;
  let versions: Versions = {
    protocol: message.protocolSelection === 1 ? 'downstream' : message.http2ProtocolOptions ? 'http2' : 'http1',
    http1: message.httpProtocolOptions,
    http2: message.http2ProtocolOptions,
    path,
  };
  for (const [key, any] of Object.entries(message.typedExtensionProtocolOptions)) {
    const at = join(path, `typed_extension_protocol_options[${key}]`);
    if (key !== HTTP_OPTIONS_KEY) throw new ConfigError(at, 'these options are not supported by this proxy');
    const options = openAny(any, at).open(HttpProtocolOptionsSchema);
    only(HttpProtocolOptionsSchema, options, at, [
      'common_http_protocol_options',
      'upstream_http_protocol_options',
      'explicit_http_config',
      'use_downstream_protocol_config',
      'auto_config',
    ]);
    // The older fields count for nothing beside these, but for max_requests_per_connection.
    common = options.commonHttpProtocolOptions;
    upstream = options.upstreamHttpProtocolOptions;
    versions = versionsOf(options, at, message.transportSocket !== undefined);
  }
  if (common)
    only(CommonHttpOptionsSchema, common, join(path, 'common_http_protocol_options'), [
      'idle_timeout',
      'max_connection_duration',
      'max_requests_per_connection',
      'max_headers_count',
      'max_stream_duration',
      // Of clusters it has no effect: it is about requests of clients.
      'headers_with_underscores_action',
    ]);
  if (upstream)
    only(UpstreamHttpProtocolOptionsSchema, upstream, join(path, 'upstream_http_protocol_options'), [
      'auto_sni',
      'auto_san_validation',
      'override_auto_sni_header',
    ]);
  const { http1 } = versions;
  if (http1)
    only(Http1ProtocolOptionsSchema, http1, join(versions.path, 'http_protocol_options'), [
      'enable_trailers',
      'header_key_format',
    ]);
  return {
    protocol: versions.protocol,
    idleMs: millis(common?.idleTimeout, DEFAULT_UPSTREAM_IDLE_MS),
    maxConnectionMs: millis(common?.maxConnectionDuration, 0),
    maxStreamMs: millis(common?.maxStreamDuration, 0),
    maxRequestsPerConnection: common?.maxRequestsPerConnection || (message.maxRequestsPerConnection ?? 0),
    maxHeaders: common?.maxHeadersCount ?? DEFAULT_MAX_HEADERS,
    enableTrailers: http1?.enableTrailers ?? false,
    headerCase: readHeaderCase(http1?.headerKeyFormat, join(versions.path, 'http_protocol_options.header_key_format')),
    autoSni: upstream?.autoSni ?? false,
    sniHeader: upstream?.overrideAutoSniHeader ? headerName(upstream.overrideAutoSniHeader) : undefined,
    autoSanValidation: upstream?.autoSanValidation ?? false,
    h2: readH2Options(versions.http2, join(versions.path, 'http2_protocol_options')),
  };
}

function versionsOf(options: HttpProtocolOptions, at: string, hasSocket: boolean): Versions {
  const kind = options.upstreamProtocolOptions;
  switch (kind.case) {
    case 'explicitHttpConfig': {
      const path = join(at, 'explicit_http_config');
      only(HttpProtocolOptions_ExplicitHttpConfigSchema, kind.value, path, [
        'http_protocol_options',
        'http2_protocol_options',
      ]);
      const { protocolConfig } = kind.value;
      return {
        protocol: protocolConfig.case === 'http2ProtocolOptions' ? 'http2' : 'http1',
        http1: protocolConfig.case === 'httpProtocolOptions' ? protocolConfig.value : undefined,
        http2: protocolConfig.case === 'http2ProtocolOptions' ? protocolConfig.value : undefined,
        path,
      };
    }
    case 'useDownstreamProtocolConfig': {
      const path = join(at, 'use_downstream_protocol_config');
      only(HttpProtocolOptions_UseDownstreamHttpConfigSchema, kind.value, path, [
        'http_protocol_options',
        'http2_protocol_options',
      ]);
      return {
        protocol: 'downstream',
        http1: kind.value.httpProtocolOptions,
        http2: kind.value.http2ProtocolOptions,
        path,
      };
    }
    case 'autoConfig': {
      const path = join(at, 'auto_config');
      only(HttpProtocolOptions_AutoHttpConfigSchema, kind.value, path, [
        'http_protocol_options',
        'http2_protocol_options',
      ]);
      if (!hasSocket)
        throw new ConfigError(path, 'auto_config requires a transport socket which supports ALPN, none is configured');
      return { protocol: 'auto', http1: kind.value.httpProtocolOptions, http2: kind.value.http2ProtocolOptions, path };
    }
    default:
      throw new ConfigError(at, 'upstream_protocol_options: value is required');
  }
}
