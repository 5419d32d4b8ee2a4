// retries of a VirtualService's routes: how often, on what, how long. Called by virtual-service.ts.
import { nearest } from '../../base/nearest.ts';
import { duration, flag, integer, object, type Reader, report, text } from './reader.ts';

export interface Retries {
  readonly attempts: number;
  readonly perTryTimeoutMs?: number;
  readonly retryOn?: string;
  readonly retryRemoteLocalities: boolean;
  readonly ignorePreviousHosts: boolean;
  readonly backoffMs?: number;
}

/** Envoy's conditions, those of gRPC among them. */
const CONDITIONS: readonly string[] = [
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'envoy-ratelimited',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'retriable-headers',
  'http3-post-connect-failure',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
];

/** Names and status codes, with commas between them. A name that no proxy knows would never retry anything. */
function checkConditions(reader: Reader, list: string, path: string): void {
  for (const item of list.split(',').map((c) => c.trim())) {
    if (item === '' || CONDITIONS.includes(item) || /^[1-5]\d\d$/.test(item)) continue;
    const near = nearest(item, CONDITIONS);
    const hint = near === undefined ? `one of ${CONDITIONS.join(', ')}, or a status code` : `did you mean "${near}"?`;
    report(
      reader,
      path,
      'unknown-value',
      `${path}: "${item}" is not a valid retryOn policy or HTTP status code; ${hint}`,
    );
  }
}

export function readRetries(reader: Reader, value: unknown, path: string): Retries | undefined {
  const raw = object(reader, value, path, [
    'attempts',
    'perTryTimeout',
    'retryOn',
    'retryRemoteLocalities',
    'retryIgnorePreviousHosts',
    'backoff',
  ]);
  if (!raw) return undefined;
  const attempts = integer(reader, raw.attempts, `${path}.attempts`, 0, 1000) ?? 0;
  const perTry = duration(reader, raw.perTryTimeout, `${path}.perTryTimeout`);
  const retryOn = text(reader, raw.retryOn, `${path}.retryOn`);
  if (retryOn !== undefined) checkConditions(reader, retryOn, `${path}.retryOn`);
  const backoff = duration(reader, raw.backoff, `${path}.backoff`);
  if (backoff !== undefined && backoff < 1)
    report(reader, `${path}.backoff`, 'out-of-range', 'backoff must be greater than 1ms');
  return {
    attempts,
    ...(perTry ? { perTryTimeoutMs: perTry } : {}),
    ...(retryOn ? { retryOn } : {}),
    retryRemoteLocalities: flag(reader, raw.retryRemoteLocalities, `${path}.retryRemoteLocalities`) ?? false,
    ignorePreviousHosts: flag(reader, raw.retryIgnorePreviousHosts, `${path}.retryIgnorePreviousHosts`) ?? true,
    ...(backoff ? { backoffMs: backoff } : {}),
  };
}
