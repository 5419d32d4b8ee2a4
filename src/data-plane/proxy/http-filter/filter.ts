// The small interface of an HTTP filter. One object serves all requests of a connection manager; what belongs to one
// request is kept in the stream's `slots` under the filter's index. The order of filters is the configuration's; which
// order makes sense, and where later filters belong, is the table in order.ts. Hooks a filter does not have cost nothing.
import type { HeaderMap } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';

/** What becomes of body bytes that a filter was shown. */
export type DataVerdict =
  | 'continue'
  /** Keep a copy until `continueRequest`: only from the filter at which the request is stopped. */
  | 'hold'
  /** The filter has them (copied what it keeps) and passes something on later, or never. */
  | 'taken';

export interface HttpFilter {
  /** The name in the configuration: per-route settings are found by it. */
  readonly name: string;
  /** Runs only on routes that switch it on (HttpFilter.disabled). */
  readonly disabled?: boolean;
  /**
   * `stop`: the filter answered, or calls `stream.continueRequest()` later. Without `onRequestData` the client is not
   * read meanwhile; with it the filter sees the body while it waits.
   */
  onRequest?(stream: HttpStream, index: number): 'continue' | 'stop';
  /** `bytes[start, end)` is valid only during the call. */
  onRequestData?(stream: HttpStream, bytes: Buffer, start: number, end: number, index: number): DataVerdict;
  /** The end of a request with a body. `stop`: as in onRequest. */
  onRequestEnd?(stream: HttpStream, trailers: HeaderMap | undefined, index: number): 'continue' | 'stop';
  /** Called in reverse order with the headers that are about to leave; `endStream` = no body and no trailers follow. */
  onResponse?(stream: HttpStream, headers: HeaderMap, index: number, endStream: boolean): void;
  /** In reverse order. `taken`: goes on with `stream.passResponseData(index, …)`. */
  onResponseData?(
    stream: HttpStream,
    bytes: Buffer,
    start: number,
    end: number,
    index: number,
  ): Exclude<DataVerdict, 'hold'>;
  /** In reverse order. `taken`: goes on with `stream.passResponseEnd(index, …)`. */
  onResponseEnd?(stream: HttpStream, trailers: HeaderMap | undefined, index: number): Exclude<DataVerdict, 'hold'>;
  /** After the last byte, before the access log; also for filters that never saw the request. */
  onComplete?(stream: HttpStream, index: number): void;
  /** The configuration that named this filter is gone. */
  dispose?(): void;
}
