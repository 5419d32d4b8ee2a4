// What a fault filter is told, by its configuration, runtime keys and (where allowed) request headers. Called by fault.ts
// and registry.ts.
import type { JsonObject } from '@bufbuild/protobuf';
import {
  type FaultDelay,
  FaultDelaySchema,
  type FaultRateLimit,
  FaultRateLimit_FixedLimitSchema,
  FaultRateLimitSchema,
} from '#proto/envoy/extensions/filters/common/fault/v3/fault_pb.js';
import {
  type FaultAbort,
  FaultAbortSchema,
  type HTTPFault,
  HTTPFaultSchema,
} from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { fraction } from '../config/matchers.ts';
import { headerTest, type RequestTest } from '../route/matchers.ts';

/** A value that the configuration fixes, or that request headers choose within the configured share. */
export type Chosen<T> = { readonly by: 'config'; readonly value: T } | { readonly by: 'header' };

export interface FaultPart<T> {
  readonly what: Chosen<T>;
  /** 0..1; a request header may lower it. */
  readonly share: number;
}

export interface AbortCode {
  readonly status: number;
  /** Undefined = an HTTP status. */
  readonly grpc: number | undefined;
}

export interface FaultSettings {
  readonly delayMs: FaultPart<number> | undefined;
  readonly abort: FaultPart<AbortCode> | undefined;
  readonly kbps: FaultPart<number> | undefined;
  readonly upstreamCluster: string;
  readonly headers: readonly RequestTest[];
  readonly downstreamNodes: ReadonlySet<string>;
  /** Undefined = no limit. */
  readonly maxActive: number | undefined;
  readonly clusterStats: boolean;
  readonly metadata: JsonObject | undefined;
  readonly runtimeKeys: RuntimeKeys;
}

export interface RuntimeKeys {
  readonly delayPercent: string;
  readonly abortPercent: string;
  readonly delayMs: string;
  readonly abortStatus: string;
  readonly abortGrpc: string;
  readonly maxActive: string;
  readonly ratePercent: string;
}

export function readFault(message: HTTPFault, path: string): FaultSettings {
  only(HTTPFaultSchema, message, path, [
    'delay',
    'abort',
    'upstream_cluster',
    'headers',
    'downstream_nodes',
    'max_active_faults',
    'response_rate_limit',
    'delay_percent_runtime',
    'abort_percent_runtime',
    'delay_duration_runtime',
    'abort_http_status_runtime',
    'max_active_faults_runtime',
    'response_rate_limit_percent_runtime',
    'abort_grpc_status_runtime',
    'disable_downstream_cluster_stats',
    'filter_metadata',
  ]);
  const { delay, abort, responseRateLimit: limit } = message;
  return {
    delayMs: delay && readDelay(delay, join(path, 'delay')),
    abort: abort && readAbort(abort, join(path, 'abort')),
    kbps: limit && readLimit(limit, join(path, 'response_rate_limit')),
    upstreamCluster: message.upstreamCluster,
    headers: message.headers.map((header, i) => headerTest(header, join(path, `headers[${i}]`))),
    downstreamNodes: new Set(message.downstreamNodes),
    maxActive: message.maxActiveFaults,
    clusterStats: !message.disableDownstreamClusterStats,
    metadata: message.filterMetadata as JsonObject | undefined,
    runtimeKeys: {
      delayPercent: message.delayPercentRuntime || 'fault.http.delay.fixed_delay_percent',
      abortPercent: message.abortPercentRuntime || 'fault.http.abort.abort_percent',
      delayMs: message.delayDurationRuntime || 'fault.http.delay.fixed_duration_ms',
      abortStatus: message.abortHttpStatusRuntime || 'fault.http.abort.http_status',
      abortGrpc: message.abortGrpcStatusRuntime || 'fault.http.abort.grpc_status',
      maxActive: message.maxActiveFaultsRuntime || 'fault.http.max_active_faults',
      ratePercent: message.responseRateLimitPercentRuntime || 'fault.http.rate_limit.response_percent',
    },
  };
}

function readDelay(message: FaultDelay, path: string): FaultPart<number> {
  only(FaultDelaySchema, message, path, ['fixed_delay', 'header_delay', 'percentage']);
  const { faultDelaySecifier: spec } = message;
  // Without a percentage nothing is injected.
  const share = fraction(message.percentage, 0);
  if (spec.case === 'headerDelay') return { what: { by: 'header' }, share };
  if (spec.case !== 'fixedDelay') throw new ConfigError(join(path, 'fault_delay_secifier'), 'value is required');
  const value = millis(spec.value, 0);
  if (value <= 0) throw new ConfigError(join(path, 'fixed_delay'), 'value must be greater than 0s');
  return { what: { by: 'config', value }, share };
}

function readAbort(message: FaultAbort, path: string): FaultPart<AbortCode> {
  only(FaultAbortSchema, message, path, ['http_status', 'grpc_status', 'header_abort', 'percentage']);
  const { errorType: spec } = message;
  const share = fraction(message.percentage, 0);
  switch (spec.case) {
    case 'headerAbort':
      return { what: { by: 'header' }, share };
    case 'httpStatus':
      if (spec.value < 200 || spec.value > 599)
        throw new ConfigError(join(path, 'http_status'), 'value must be inside range [200, 600)');
      return { what: { by: 'config', value: { status: spec.value, grpc: undefined } }, share };
    case 'grpcStatus':
      return { what: { by: 'config', value: { status: 200, grpc: spec.value } }, share };
    case undefined:
      throw new ConfigError(join(path, 'error_type'), 'value is required');
    default:
      return spec satisfies never;
  }
}

function readLimit(message: FaultRateLimit, path: string): FaultPart<number> {
  only(FaultRateLimitSchema, message, path, ['fixed_limit', 'header_limit', 'percentage']);
  const { limitType: spec } = message;
  const share = fraction(message.percentage, 0);
  if (spec.case === 'headerLimit') return { what: { by: 'header' }, share };
  if (spec.case !== 'fixedLimit') throw new ConfigError(join(path, 'limit_type'), 'value is required');
  only(FaultRateLimit_FixedLimitSchema, spec.value, join(path, 'fixed_limit'), ['limit_kbps']);
  if (spec.value.limitKbps < 1n)
    throw new ConfigError(join(path, 'fixed_limit.limit_kbps'), 'value must be greater than or equal to 1');
  return { what: { by: 'config', value: Number(spec.value.limitKbps) }, share };
}
