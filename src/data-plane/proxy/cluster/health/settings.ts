// Reads the health check of a cluster. Called by config.ts.
import type { JsonObject } from '@bufbuild/protobuf';
import {
  type HeaderValueOption,
  HeaderValueOptionSchema,
  HeaderValueSchema,
  RequestMethod,
} from '#proto/envoy/config/core/v3/base_pb.js';
import {
  type HealthCheck,
  type HealthCheck_GrpcHealthCheck,
  HealthCheck_GrpcHealthCheckSchema,
  type HealthCheck_HttpHealthCheck,
  HealthCheck_HttpHealthCheckSchema,
  type HealthCheck_Payload,
  HealthCheck_PayloadSchema,
  type HealthCheck_TcpHealthCheck,
  HealthCheck_TcpHealthCheckSchema,
  HealthCheck_TlsOptionsSchema,
  HealthCheckSchema,
} from '#proto/envoy/config/core/v3/health_check_pb.js';
import { HealthCheckEventFileSinkSchema } from '#proto/envoy/extensions/health_check/event_sinks/file/v3/file_pb.js';
import { CodecClientType } from '#proto/envoy/type/v3/http_pb.js';
import type { Int64Range } from '#proto/envoy/type/v3/range_pb.js';
import { openAny } from '../../config/any.ts';
import { ConfigError, join, millis, only, required } from '../../config/fields.ts';
import { type StringTest, stringTest } from '../../config/matchers.ts';
import { type HeaderName, headerName } from '../../http/header-map.ts';
import { DEFAULT_HEALTH_RESPONSE_BYTES, DEFAULT_NO_TRAFFIC_MS, MAX_HEALTH_RESPONSE_BYTES } from '../../limits.ts';

export interface StatusRange {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

export interface HttpCheck {
  readonly kind: 'http';
  readonly path: string;
  readonly host: string;
  readonly method: string;
  readonly http2: boolean;
  readonly expected: readonly StatusRange[];
  readonly retriable: readonly StatusRange[];
  readonly add: readonly (readonly [HeaderName, string])[];
  readonly remove: readonly HeaderName[];
  readonly serviceName: StringTest | undefined;
  /** The body of the question. */
  readonly send: Buffer | undefined;
  /** Bytes the body must hold, one after the other; empty = the body does not matter. */
  readonly receive: readonly Buffer[];
  readonly bodyBytes: number;
}
export interface TcpCheck {
  readonly kind: 'tcp';
  readonly send: Buffer | undefined;
  readonly receive: readonly Buffer[];
}
export interface GrpcCheck {
  readonly kind: 'grpc';
  readonly service: string;
  readonly authority: string;
  readonly add: readonly (readonly [HeaderName, string])[];
}

export interface HealthCheckSettings {
  readonly check: HttpCheck | TcpCheck | GrpcCheck;
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly initialJitterMs: number;
  readonly intervalJitterMs: number;
  readonly intervalJitterPercent: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  /** 0 = the endpoint's own. */
  readonly altPort: number;
  readonly reuse: boolean;
  readonly noTrafficMs: number;
  readonly noTrafficHealthyMs: number;
  readonly unhealthyMs: number;
  readonly unhealthyEdgeMs: number;
  readonly healthyEdgeMs: number;
  /** Files that get events. */
  readonly logs: readonly string[];
  readonly logFailures: boolean;
  readonly logSuccesses: boolean;
  /** ALPN list of the check's connections; undefined = the transport socket's. */
  readonly alpn: readonly string[] | undefined;
  /** Chooses among transport_socket_matches instead of the endpoint's metadata. */
  readonly socketCriteria: JsonObject | undefined;
}

export function readHealthCheck(messages: readonly HealthCheck[], path: string): HealthCheckSettings | undefined {
  if (messages.length > 1) throw new ConfigError(path, 'Multiple health checks not supported');
  const [message] = messages;
  if (!message) return undefined;
  const at = `${path}[0]`;
  only(HealthCheckSchema, message, at, SUPPORTED);
  const intervalMs = positive(millis(required(message.interval, join(at, 'interval')), 0), join(at, 'interval'));
  const optional = (field: 'unhealthyInterval' | 'healthyEdgeInterval' | 'noTrafficInterval', fallback: number) =>
    message[field]
      ? positive(millis(message[field], fallback), join(at, HealthCheckSchema.field[field].name))
      : fallback;
  const unhealthyMs = optional('unhealthyInterval', intervalMs);
  const noTrafficMs = optional('noTrafficInterval', DEFAULT_NO_TRAFFIC_MS);
  const threshold = (value: number | undefined, name: string): number => {
    if (value === undefined) throw new ConfigError(join(at, name), 'value is required');
    return value;
  };
  if (message.altPort !== undefined && (message.altPort > 65_535 || message.altPort === 0))
    throw new ConfigError(join(at, 'alt_port'), 'value must be inside range (0, 65535]');
  if (message.tlsOptions)
    only(HealthCheck_TlsOptionsSchema, message.tlsOptions, join(at, 'tls_options'), ['alpn_protocols']);
  return {
    check: checkOf(message, at),
    timeoutMs: positive(millis(required(message.timeout, join(at, 'timeout')), 0), join(at, 'timeout')),
    intervalMs,
    initialJitterMs: millis(message.initialJitter, 0),
    intervalJitterMs: millis(message.intervalJitter, 0),
    intervalJitterPercent: message.intervalJitterPercent,
    unhealthyThreshold: threshold(message.unhealthyThreshold, 'unhealthy_threshold'),
    healthyThreshold: threshold(message.healthyThreshold, 'healthy_threshold'),
    altPort: message.altPort ?? 0,
    reuse: message.reuseConnection ?? true,
    noTrafficMs,
    noTrafficHealthyMs: millis(message.noTrafficHealthyInterval, noTrafficMs),
    unhealthyMs,
    unhealthyEdgeMs: millis(message.unhealthyEdgeInterval, unhealthyMs),
    healthyEdgeMs: optional('healthyEdgeInterval', intervalMs),
    logs: logsOf(message, at),
    logFailures: message.alwaysLogHealthCheckFailures,
    logSuccesses: message.alwaysLogHealthCheckSuccess,
    alpn: message.tlsOptions ? message.tlsOptions.alpnProtocols : undefined,
    socketCriteria: message.transportSocketMatchCriteria,
  };
}

const SUPPORTED = [
  'timeout',
  'interval',
  'initial_jitter',
  'interval_jitter',
  'interval_jitter_percent',
  'unhealthy_threshold',
  'healthy_threshold',
  'alt_port',
  'reuse_connection',
  'http_health_check',
  'tcp_health_check',
  'grpc_health_check',
  'no_traffic_interval',
  'no_traffic_healthy_interval',
  'unhealthy_interval',
  'unhealthy_edge_interval',
  'healthy_edge_interval',
  'event_log_path',
  'event_logger',
  'always_log_health_check_failures',
  'always_log_health_check_success',
  'tls_options',
  'transport_socket_match_criteria',
];

function positive(ms: number, path: string): number {
  if (ms <= 0) throw new ConfigError(path, 'value must be greater than 0s');
  return ms;
}

function logsOf(message: HealthCheck, path: string): string[] {
  const files = message.eventLogPath === '' ? [] : [message.eventLogPath];
  for (const [i, logger] of message.eventLogger.entries()) {
    const at = join(path, `event_logger[${i}]`);
    if (!logger.typedConfig) throw new ConfigError(join(at, 'typed_config'), 'value is required');
    const any = openAny(logger.typedConfig, at);
    if (any.typeName !== HealthCheckEventFileSinkSchema.typeName)
      throw new ConfigError(at, `event sink '${logger.name}' of type '${any.typeName}' is not supported by this proxy`);
    files.push(required(any.open(HealthCheckEventFileSinkSchema).eventLogPath, join(at, 'event_log_path')));
  }
  return files;
}

function checkOf(message: HealthCheck, path: string): HealthCheckSettings['check'] {
  const kind = message.healthChecker;
  switch (kind.case) {
    case 'httpHealthCheck':
      return httpOf(kind.value, join(path, 'http_health_check'));
    case 'tcpHealthCheck':
      return tcpOf(kind.value, join(path, 'tcp_health_check'));
    case 'grpcHealthCheck':
      return grpcOf(kind.value, join(path, 'grpc_health_check'));
    default:
      throw new ConfigError(join(path, 'health_checker'), 'value is required');
  }
}

function httpOf(message: HealthCheck_HttpHealthCheck, path: string): HttpCheck {
  only(HealthCheck_HttpHealthCheckSchema, message, path, [
    'host',
    'path',
    'receive',
    'response_buffer_size',
    'request_headers_to_add',
    'request_headers_to_remove',
    'expected_statuses',
    'retriable_statuses',
    'codec_client_type',
    'service_name_matcher',
    'method',
    'send',
  ]);
  required(message.path, join(path, 'path'));
  if (message.method === RequestMethod.CONNECT)
    throw new ConfigError(join(path, 'method'), 'CONNECT is not supported for health checks');
  if (message.codecClientType === CodecClientType.HTTP3)
    throw new ConfigError(join(path, 'codec_client_type'), 'HTTP3 is not supported by this proxy');
  const bodyBytes = Number(message.responseBufferSize ?? BigInt(DEFAULT_HEALTH_RESPONSE_BYTES));
  if (bodyBytes > MAX_HEALTH_RESPONSE_BYTES)
    throw new ConfigError(join(path, 'response_buffer_size'), `must be at most ${MAX_HEALTH_RESPONSE_BYTES}`);
  return {
    kind: 'http',
    path: message.path,
    host: message.host,
    method: nameOf(message.method),
    http2: message.codecClientType === CodecClientType.HTTP2,
    expected:
      message.expectedStatuses.length === 0
        ? [{ from: 200, to: 201 }]
        : ranges(message.expectedStatuses, join(path, 'expected_statuses')),
    retriable: ranges(message.retriableStatuses, join(path, 'retriable_statuses')),
    add: headers(message.requestHeadersToAdd, join(path, 'request_headers_to_add')),
    remove: message.requestHeadersToRemove.map(headerName),
    serviceName: message.serviceNameMatcher
      ? stringTest(message.serviceNameMatcher, join(path, 'service_name_matcher'))
      : undefined,
    send: message.send ? httpPayload(message.send, message.method, path) : undefined,
    receive: payloads(message.receive, join(path, 'receive')),
    bodyBytes,
  };
}

function tcpOf(message: HealthCheck_TcpHealthCheck, path: string): TcpCheck {
  only(HealthCheck_TcpHealthCheckSchema, message, path, ['send', 'receive']);
  return {
    kind: 'tcp',
    send: message.send ? payload(message.send, join(path, 'send')) : undefined,
    receive: payloads(message.receive, join(path, 'receive')),
  };
}

function grpcOf(message: HealthCheck_GrpcHealthCheck, path: string): GrpcCheck {
  only(HealthCheck_GrpcHealthCheckSchema, message, path, ['service_name', 'authority', 'initial_metadata']);
  return {
    kind: 'grpc',
    service: message.serviceName,
    authority: message.authority,
    add: headers(message.initialMetadata, join(path, 'initial_metadata')),
  };
}

function ranges(messages: readonly Int64Range[], path: string): StatusRange[] {
  return messages.map((range, i) => {
    const at = `${path}[${i}]`;
    const from = Number(range.start);
    const to = Number(range.end);
    if (from >= to)
      throw new ConfigError(
        at,
        `Invalid http status range: expecting start < end, but found start=${from} and end=${to}`,
      );
    if (from < 100)
      throw new ConfigError(at, `Invalid http status range: expecting start >= 100, but found start=${from}`);
    if (to > 600) throw new ConfigError(at, `Invalid http status range: expecting end <= 600, but found end=${to}`);
    return { from, to };
  });
}

/** Formats would need a request: only plain values. */
function headers(options: readonly HeaderValueOption[], path: string): [HeaderName, string][] {
  return options.map((option, i) => {
    const at = `${path}[${i}]`;
    only(HeaderValueOptionSchema, option, at, ['header', 'append', 'append_action', 'keep_empty_value']);
    const header = required(option.header, join(at, 'header'));
    only(HeaderValueSchema, header, join(at, 'header'), ['key', 'value', 'raw_value']);
    const value = header.value || Buffer.from(header.rawValue).toString('latin1');
    const plain = value.replaceAll('%%', '');
    if (plain.includes('%'))
      throw new ConfigError(join(at, 'header.value'), 'command operators are not supported in health check headers');
    return [headerName(required(header.key, join(at, 'header.key'))), value.replaceAll('%%', '%')];
  });
}

function nameOf(method: RequestMethod): string {
  return method === RequestMethod.METHOD_UNSPECIFIED ? 'GET' : (RequestMethod[method] ?? 'GET');
}

/** A question with a body is of a method that has one. */
function httpPayload(message: HealthCheck_Payload, method: RequestMethod, path: string): Buffer | undefined {
  const body = payload(message, join(path, 'send'));
  if (body.length === 0) return undefined;
  if (BODILESS.has(method))
    throw new ConfigError(
      join(path, 'send'),
      `HTTP health check cannot specify a request payload with method '${nameOf(method)}'. Only methods that support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload.`,
    );
  return body;
}

const BODILESS: ReadonlySet<RequestMethod> = new Set([
  RequestMethod.METHOD_UNSPECIFIED,
  RequestMethod.GET,
  RequestMethod.HEAD,
  RequestMethod.DELETE,
  RequestMethod.TRACE,
]);

function payload(message: HealthCheck_Payload, path: string): Buffer {
  only(HealthCheck_PayloadSchema, message, path, ['text', 'binary']);
  const { payload: kind } = message;
  if (kind.case === 'binary') return Buffer.from(kind.value);
  const text = kind.case === 'text' ? kind.value : '';
  if (text === '' || text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text))
    throw new ConfigError(join(path, 'text'), `invalid hex string '${text}'`);
  return Buffer.from(text, 'hex');
}

function payloads(messages: readonly HealthCheck_Payload[], path: string): Buffer[] {
  return messages.map((message, i) => payload(message, `${path}[${i}]`));
}

/** True when `pieces` occur in `bytes` one after the other. */
export function holds(bytes: Buffer, pieces: readonly Buffer[]): boolean {
  let at = 0;
  for (const piece of pieces) {
    const found = bytes.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return true;
}

export function inRanges(status: number, list: readonly StatusRange[]): boolean {
  return list.some((range) => status >= range.from && status < range.to);
}
