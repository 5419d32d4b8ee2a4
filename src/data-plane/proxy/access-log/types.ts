// Shapes that the parts of access log formats share.
import type { StreamInfo } from '../http/stream-info.ts';

/** What is neither bytes nor a count: how it stands in text, and what it is as JSON. Both are bytes. */
export interface Structured {
  readonly text: string;
  readonly json: string;
}

/** undefined = no value (printed as `-`, JSON null); a string is bytes, a character each. */
export type Operator = (info: StreamInfo) => string | number | Structured | undefined;
/** Its text is bytes, a character each. */
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
