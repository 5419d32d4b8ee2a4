// Retry policies of routes: when another try is made and how long it waits.
import { type RetryPolicy, RetryPolicySchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { RETRY_BASE_MS, RETRY_MAX_MS } from '../limits.ts';

export interface RetrySettings {
  readonly on: ReadonlySet<string>;
  readonly statusCodes: ReadonlySet<number>;
  readonly retries: number;
  readonly perTryTimeoutMs: number;
  readonly avoidPrevious: boolean;
  readonly hostAttempts: number;
  readonly baseMs: number;
  readonly maxMs: number;
}

const KNOWN = new Set([
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'envoy-ratelimited',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'http3-post-connect-failure',
  // gRPC conditions: they look at grpc-status of a response without a body.
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
]);

export const GRPC_CONDITIONS: Readonly<Record<string, string>> = {
  '1': 'cancelled',
  '4': 'deadline-exceeded',
  '13': 'internal',
  '8': 'resource-exhausted',
  '14': 'unavailable',
};

export function compileRetry(message: RetryPolicy | undefined, path: string): RetrySettings | undefined {
  if (!message) return undefined;
  only(RetryPolicySchema, message, path, [
    'retry_on',
    'num_retries',
    'per_try_timeout',
    'retry_host_predicate',
    'host_selection_retry_max_attempts',
    'retriable_status_codes',
    'retry_back_off',
  ]);
  const on = new Set(
    message.retryOn
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== ''),
  );
  for (const item of on)
    if (!KNOWN.has(item))
      throw new ConfigError(join(path, 'retry_on'), `condition '${item}' is not supported by this proxy`);
  for (const predicate of message.retryHostPredicate)
    if (predicate.name !== 'envoy.retry_host_predicates.previous_hosts')
      throw new ConfigError(join(path, 'retry_host_predicate'), `'${predicate.name}' is not supported by this proxy`);
  const baseMs = millis(message.retryBackOff?.baseInterval, RETRY_BASE_MS);
  return {
    on,
    statusCodes: new Set(message.retriableStatusCodes),
    retries: message.numRetries ?? 1,
    perTryTimeoutMs: millis(message.perTryTimeout, 0),
    avoidPrevious: message.retryHostPredicate.length > 0,
    hostAttempts: Number(message.hostSelectionRetryMaxAttempts || 1n),
    baseMs,
    maxMs: millis(message.retryBackOff?.maxInterval, message.retryBackOff ? baseMs * 10 : RETRY_MAX_MS),
  };
}

/** How one try ended, as retry conditions see it. */
export type TryOutcome =
  | { readonly kind: 'status'; readonly status: number; readonly grpcStatus: string | undefined }
  | { readonly kind: 'connect-failure' }
  | { readonly kind: 'reset'; readonly requestSent: boolean; readonly refused: boolean }
  | { readonly kind: 'per-try-timeout' };

export function shouldRetry(settings: RetrySettings, outcome: TryOutcome): boolean {
  const { on } = settings;
  switch (outcome.kind) {
    case 'connect-failure':
      return (
        on.has('connect-failure') ||
        on.has('5xx') ||
        on.has('gateway-error') ||
        on.has('reset') ||
        on.has('reset-before-request')
      );
    case 'reset':
      return (
        on.has('5xx') ||
        on.has('gateway-error') ||
        on.has('reset') ||
        (outcome.refused && on.has('refused-stream')) ||
        (!outcome.requestSent && on.has('reset-before-request'))
      );
    case 'per-try-timeout':
      return on.has('5xx') || on.has('gateway-error') || on.has('reset');
    case 'status': {
      const { status, grpcStatus } = outcome;
      if (on.has('5xx') && status >= 500) return true;
      if (on.has('gateway-error') && status >= 502 && status <= 504) return true;
      if (on.has('retriable-4xx') && status === 409) return true;
      if (on.has('retriable-status-codes') && settings.statusCodes.has(status)) return true;
      const condition = grpcStatus === undefined ? undefined : GRPC_CONDITIONS[grpcStatus];
      return condition !== undefined && on.has(condition);
    }
  }
}
