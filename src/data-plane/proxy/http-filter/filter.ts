// The small interface of an HTTP filter. One object serves all requests of a connection manager; what belongs to one
// request is kept in the stream's `slots` under the filter's index. The order of filters is the configuration's.
import type { HeaderMap } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';

export interface HttpFilter {
  /** The name in the configuration: per-route settings are found by it. */
  readonly name: string;
  /** `stop`: the filter answered, or calls `stream.continueRequest()` later. */
  onRequest?(stream: HttpStream, index: number): 'continue' | 'stop';
  /** Called in reverse order with the headers that are about to leave. */
  onResponse?(stream: HttpStream, headers: HeaderMap, index: number): void;
  /** After the last byte, before the access log. */
  onComplete?(stream: HttpStream, index: number): void;
  /** The configuration that named this filter is gone. */
  dispose?(): void;
}
