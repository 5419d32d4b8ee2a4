// Retry policies of routes: which outcomes are tried again, how long to wait, which hosts to avoid. The state of one
// request is http-filter/router-retry.ts.
import type { Any } from '@bufbuild/protobuf/wkt';
import {
  type RetryPolicy,
  RetryPolicy_RateLimitedRetryBackOffSchema,
  RetryPolicy_ResetHeaderFormat,
  RetryPolicy_RetryBackOffSchema,
  RetryPolicySchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { OmitCanaryHostsPredicateSchema } from '#proto/envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts_pb.js';
import { OmitHostMetadataConfigSchema } from '#proto/envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config_pb.js';
import { PreviousHostsPredicateSchema } from '#proto/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js';
import { PreviousPrioritiesConfigSchema } from '#proto/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.js';
import { metadataOf } from '../cluster/endpoints.ts';
import type { Host } from '../cluster/host.ts';
import { type MetadataMatch, metadataMatch, valueText } from '../cluster/lb-context.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { RETRY_BASE_MS, RETRY_MAX_MS, RETRY_RATE_LIMITED_MAX_MS } from '../limits.ts';
import { headerTest, type RequestTest } from './matchers.ts';

/** Conditions as bits: a request's own headers add to the policy's. */
export const RETRY = {
  '5xx': 1 << 0,
  'gateway-error': 1 << 1,
  'connect-failure': 1 << 2,
  'retriable-4xx': 1 << 3,
  'refused-stream': 1 << 4,
  'retriable-status-codes': 1 << 5,
  reset: 1 << 6,
  'retriable-headers': 1 << 7,
  'envoy-ratelimited': 1 << 8,
  'reset-before-request': 1 << 9,
  // HTTP/3 is not spoken: such a failure cannot happen.
  'http3-post-connect-failure': 0,
  cancelled: 1 << 10,
  'deadline-exceeded': 1 << 11,
  internal: 1 << 12,
  'resource-exhausted': 1 << 13,
  unavailable: 1 << 14,
} as const;

const CONDITIONS: ReadonlyMap<string, number> = new Map(Object.entries(RETRY));
/** gRPC status → condition. */
const GRPC_CONDITIONS: ReadonlyMap<string, number> = new Map([
  ['1', RETRY.cancelled],
  ['4', RETRY['deadline-exceeded']],
  ['8', RETRY['resource-exhausted']],
  ['13', RETRY.internal],
  ['14', RETRY.unavailable],
]);

/** Bits of a list; unknown names are told to `unknown`. */
export function retryBits(text: string, unknown?: (name: string) => void): number {
  let bits = 0;
  for (const item of text.split(',')) {
    const name = item.trim();
    if (name === '') continue;
    const bit = CONDITIONS.get(name);
    if (bit === undefined) unknown?.(name);
    else bits |= bit;
  }
  return bits;
}

/** A header of the answer that says how long to wait. */
export interface ResetHeader {
  readonly name: HeaderName;
  readonly unix: boolean;
}

export interface RetrySettings {
  readonly on: number;
  readonly statusCodes: ReadonlySet<number>;
  /** Any of them in an answer makes it retriable. */
  readonly headers: readonly RequestTest[];
  /** Empty, or one of them must hold for the request. */
  readonly requestHeaders: readonly RequestTest[];
  readonly retries: number;
  readonly perTryTimeoutMs: number;
  readonly perTryIdleTimeoutMs: number;
  readonly avoidPrevious: boolean;
  readonly omitCanary: boolean;
  readonly omitMetadata: MetadataMatch | undefined;
  readonly hostAttempts: number;
  /** Tries after which their priorities are left out; 0 = never. */
  readonly priorityEvery: number;
  readonly baseMs: number;
  readonly maxMs: number;
  readonly resetHeaders: readonly ResetHeader[];
  readonly resetMaxMs: number;
}

/** What a request without a policy of its own has when its headers ask for retries. */
export const NO_RETRY: RetrySettings = {
  on: 0,
  statusCodes: new Set(),
  headers: [],
  requestHeaders: [],
  retries: 1,
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  avoidPrevious: false,
  omitCanary: false,
  omitMetadata: undefined,
  hostAttempts: 1,
  priorityEvery: 0,
  baseMs: RETRY_BASE_MS,
  maxMs: RETRY_MAX_MS,
  resetHeaders: [],
  resetMaxMs: RETRY_RATE_LIMITED_MAX_MS,
};

export function compileRetry(message: RetryPolicy | undefined, path: string): RetrySettings | undefined {
  if (!message) return undefined;
  only(RetryPolicySchema, message, path, [
    'retry_on',
    'num_retries',
    'per_try_timeout',
    'per_try_idle_timeout',
    'retry_priority',
    'retry_host_predicate',
    'host_selection_retry_max_attempts',
    'retriable_status_codes',
    'retry_back_off',
    'rate_limited_retry_back_off',
    'retriable_headers',
    'retriable_request_headers',
  ]);
  const on = retryBits(message.retryOn, (name) => {
    throw new ConfigError(join(path, 'retry_on'), `condition '${name}' is not supported by this proxy`);
  });
  return {
    on,
    statusCodes: new Set(message.retriableStatusCodes),
    headers: message.retriableHeaders.map((entry, i) => headerTest(entry, join(path, `retriable_headers[${i}]`))),
    requestHeaders: message.retriableRequestHeaders.map((entry, i) =>
      headerTest(entry, join(path, `retriable_request_headers[${i}]`)),
    ),
    retries: message.numRetries ?? 1,
    perTryTimeoutMs: millis(message.perTryTimeout, 0),
    perTryIdleTimeoutMs: millis(message.perTryIdleTimeout, 0),
    hostAttempts: Number(message.hostSelectionRetryMaxAttempts || 1n),
    priorityEvery: priorities(message, join(path, 'retry_priority')),
    ...predicates(message, path),
    ...backOff(message, path),
    ...rateLimited(message, join(path, 'rate_limited_retry_back_off')),
  };
}

function predicates(message: RetryPolicy, path: string) {
  let avoidPrevious = false;
  let omitCanary = false;
  let omitMetadata: MetadataMatch | undefined;
  for (const [i, predicate] of message.retryHostPredicate.entries()) {
    const at = join(path, `retry_host_predicate[${i}]`);
    const { typeName, any } = extensionType(predicate.name, predicate.configType.value, at);
    if (typeName === PreviousHostsPredicateSchema.typeName) avoidPrevious = true;
    else if (typeName === OmitCanaryHostsPredicateSchema.typeName) omitCanary = true;
    else if (typeName === OmitHostMetadataConfigSchema.typeName && any) {
      const config = any.open(OmitHostMetadataConfigSchema);
      omitMetadata = metadataMatch(config.metadataMatch && metadataOf(config.metadataMatch));
    } else throw new ConfigError(at, `'${predicate.name}' is not supported by this proxy`);
  }
  return { avoidPrevious, omitCanary, omitMetadata };
}

/** Older configurations name an extension without saying its type. */
const BY_NAME: Readonly<Record<string, string>> = {
  'envoy.retry_host_predicates.previous_hosts': PreviousHostsPredicateSchema.typeName,
  'envoy.retry_host_predicates.omit_canary_hosts': OmitCanaryHostsPredicateSchema.typeName,
};

function extensionType(name: string, config: Any | undefined, path: string) {
  if (!config) return { typeName: BY_NAME[name] ?? '', any: undefined };
  const any = openAny(config, path);
  return { typeName: any.typeName, any };
}

function priorities(message: RetryPolicy, path: string): number {
  const { retryPriority } = message;
  if (!retryPriority) return 0;
  const { typeName, any } = extensionType(retryPriority.name, retryPriority.configType.value, path);
  if (typeName !== PreviousPrioritiesConfigSchema.typeName || !any)
    throw new ConfigError(path, `'${retryPriority.name}' is not supported by this proxy`);
  const { updateFrequency } = any.open(PreviousPrioritiesConfigSchema);
  if (updateFrequency <= 0) throw new ConfigError(join(path, 'update_frequency'), 'value must be greater than 0');
  return updateFrequency;
}

function backOff(message: RetryPolicy, path: string) {
  const { retryBackOff } = message;
  if (!retryBackOff) return { baseMs: RETRY_BASE_MS, maxMs: RETRY_MAX_MS };
  const at = join(path, 'retry_back_off');
  only(RetryPolicy_RetryBackOffSchema, retryBackOff, at, ['base_interval', 'max_interval']);
  if (!retryBackOff.baseInterval) throw new ConfigError(join(at, 'base_interval'), 'value is required');
  const baseMs = Math.max(1, millis(retryBackOff.baseInterval, 0));
  const maxMs = millis(retryBackOff.maxInterval, baseMs * 10);
  if (maxMs < baseMs)
    throw new ConfigError(path, 'retry_policy.max_interval must greater than or equal to the base_interval');
  return { baseMs, maxMs };
}

function rateLimited(message: RetryPolicy, path: string) {
  const limited = message.rateLimitedRetryBackOff;
  if (!limited) return { resetHeaders: [], resetMaxMs: RETRY_RATE_LIMITED_MAX_MS };
  only(RetryPolicy_RateLimitedRetryBackOffSchema, limited, path, ['reset_headers', 'max_interval']);
  if (limited.resetHeaders.length === 0)
    throw new ConfigError(join(path, 'reset_headers'), 'value must contain at least 1 item(s)');
  return {
    resetHeaders: limited.resetHeaders.map((header) => ({
      name: headerName(header.name),
      unix: header.format === RetryPolicy_ResetHeaderFormat.UNIX_TIMESTAMP,
    })),
    resetMaxMs: millis(limited.maxInterval, RETRY_RATE_LIMITED_MAX_MS),
  };
}

/** True when `host` carries what the policy leaves out. */
export function omitted(settings: RetrySettings, host: Host): boolean {
  const labels = host.spec.metadata['envoy.lb'];
  if (settings.omitCanary && labels?.canary === true) return true;
  const match = settings.omitMetadata;
  if (!match || !labels) return false;
  return match.keys.every((key, i) => labels[key] !== undefined && valueText(labels[key]) === match.values[i]);
}

/** How one try ended without an answer, as retry conditions see it. */
export type TryFailure = 'connect-failure' | 'reset' | 'reset-before-request' | 'refused-stream' | 'timeout';

export function retriesFailure(on: number, failure: TryFailure): boolean {
  if (failure === 'refused-stream' && (on & RETRY['refused-stream']) !== 0) return true;
  if (failure === 'connect-failure' && (on & RETRY['connect-failure']) !== 0) return true;
  if (
    (failure === 'connect-failure' || failure === 'reset-before-request') &&
    (on & RETRY['reset-before-request']) !== 0
  )
    return true;
  return (on & (RETRY['5xx'] | RETRY['gateway-error'] | RETRY.reset)) !== 0;
}

/** Of an answer that no rate limit made; `codes` and headers of the policy are the caller's to look at. */
export function retriesStatus(on: number, status: number, grpcStatus: string | undefined): boolean {
  if ((on & RETRY['5xx']) !== 0 && status >= 500 && status < 600) return true;
  if ((on & RETRY['gateway-error']) !== 0 && status >= 502 && status <= 504) return true;
  if ((on & RETRY['retriable-4xx']) !== 0 && status === 409) return true;
  const condition = grpcStatus === undefined ? undefined : GRPC_CONDITIONS.get(grpcStatus);
  return condition !== undefined && (on & condition) !== 0;
}
