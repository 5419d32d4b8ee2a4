// The gRPC status of an answer: from its trailers or headers, else what its HTTP status stands for. Used by log filters and
// command operators.
import { H } from '../http/names.ts';
import type { StreamInfo } from '../http/stream-info.ts';

/** Names in the order of their numbers, as Envoy prints them. */
export const GRPC_NAMES: readonly string[] = [
  'OK',
  'Canceled',
  'Unknown',
  'InvalidArgument',
  'DeadlineExceeded',
  'NotFound',
  'AlreadyExists',
  'PermissionDenied',
  'ResourceExhausted',
  'FailedPrecondition',
  'Aborted',
  'OutOfRange',
  'Unimplemented',
  'Internal',
  'Unavailable',
  'DataLoss',
  'Unauthenticated',
];

/** Of an answer without `grpc-status`. */
const OF_HTTP: ReadonlyMap<number, number> = new Map([
  [200, 0],
  [400, 13],
  [401, 16],
  [403, 7],
  [404, 12],
  [429, 14],
  [502, 14],
  [503, 14],
  [504, 14],
]);

/** What the answer itself says; undefined = nothing, or no number. */
export function givenGrpcStatus(info: StreamInfo): number | undefined {
  const text = info.responseTrailers?.get(H.grpcStatus) ?? info.responseHeaders?.get(H.grpcStatus);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

export function grpcStatusNumber(info: StreamInfo): number {
  return givenGrpcStatus(info) ?? OF_HTTP.get(info.responseCode) ?? 2;
}
