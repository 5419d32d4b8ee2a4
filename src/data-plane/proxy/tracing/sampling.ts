// Whether a request is traced, and why: the reason stands in one digit of its request id, so that every hop decides alike.
// Called by tracer.ts for each request of a connection manager that traces.
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { RouteTracing } from './settings.ts';

export type TraceReason = 'none' | 'sampled' | 'service-forced' | 'client-forced';

const CLIENT_TRACE_ID = headerName('x-client-trace-id');

/** The digit behind the second dash of a version 4 UUID. */
const DIGIT = 14;
const DIGITS: Readonly<Record<TraceReason, string>> = {
  none: '4',
  sampled: '9',
  'service-forced': 'a',
  'client-forced': 'b',
};
const REASONS: ReadonlyMap<string | undefined, TraceReason> = new Map(
  (Object.keys(DIGITS) as TraceReason[]).map((reason) => [DIGITS[reason], reason]),
);

export interface SamplingSettings extends RouteTracing {
  /** The reason is written into the request id. */
  readonly pack: boolean;
  /** The request id is the dice. */
  readonly useRequestId: boolean;
}

/** Decides for one request and marks its id. `route`: shares that a route sets for itself. */
export function traceReason(
  headers: HeaderMap,
  settings: SamplingSettings,
  route: RouteTracing | undefined,
  runtime: RuntimeView,
  random: () => number,
): TraceReason {
  const id = headers.get(H.requestId);
  const dice = settings.useRequestId ? idNumber(id) : Math.floor(random() * 0x1_0000_0000);
  if (id === undefined || dice === undefined) return 'none';
  const shares = route ?? settings;
  const before = settings.pack ? (REASONS.get(id[DIGIT]) ?? 'none') : 'none';
  let reason = before;
  if (reason === 'none') {
    if (headers.has(CLIENT_TRACE_ID) && random() < runtime.share('tracing.client_enabled', shares.client))
      reason = 'client-forced';
    else if (headers.has(H.forceTrace)) reason = 'service-forced';
    else if ((dice % 10_000) / 10_000 < runtime.share('tracing.random_sampling', shares.random)) reason = 'sampled';
  }
  if (reason !== 'none' && (dice % 100) / 100 >= runtime.share('tracing.global_enabled', shares.overall))
    reason = 'none';
  if (settings.pack && reason !== before)
    headers.set(H.requestId, id.slice(0, DIGIT) + DIGITS[reason] + id.slice(DIGIT + 1));
  return reason;
}

/** The first eight digits of a UUID; undefined when it is none. */
function idNumber(id: string | undefined): number | undefined {
  if (id === undefined || id.length !== 36 || !/^[0-9a-f]{8}-/i.test(id)) return undefined;
  return Number.parseInt(id.slice(0, 8), 16);
}
