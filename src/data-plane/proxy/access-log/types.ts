// Shapes that the parts of access log formats share.
import type { JsonValue } from '@bufbuild/protobuf';
import type { StreamInfo } from '../http/stream-info.ts';

/** undefined = no value (printed as `-`, JSON null). Structures are printed as JSON in text. */
export type Operator = (info: StreamInfo) => JsonValue | undefined;
export type Format = (info: StreamInfo) => string;

/** What formats may know of the world beside the request. */
export interface FormatDeps {
  readonly hostname: string;
  /** Of this machine, not loopback. */
  readonly localAddress: string;
  readonly variable: (name: string) => string | undefined;
  readonly random: () => number;
  /** ms since the epoch. */
  readonly now: () => number;
  /** The formatter req_without_query stands beside the format. */
  readonly withoutQuery?: boolean;
}
