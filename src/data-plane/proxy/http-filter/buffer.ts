// envoy.filters.http.buffer: sends a request on only when it is complete, and refuses one that is too large.
import {
  type Buffer as BufferMessage,
  type BufferPerRoute,
  BufferPerRouteSchema,
  BufferSchema,
} from '#proto/envoy/extensions/filters/http/buffer/v3/buffer_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { H } from '../http/names.ts';
import { MAX_FILTER_BODY_BYTES } from '../limits.ts';
import type { HttpFilter } from './filter.ts';

/** Undefined = the filter is off on this route. */
export interface BufferSettings {
  readonly maxBytes: number | undefined;
}

export function readBuffer(message: BufferMessage, path: string): BufferSettings {
  only(BufferSchema, message, path, ['max_request_bytes']);
  const maxBytes = message.maxRequestBytes ?? 0;
  const at = join(path, 'max_request_bytes');
  if (maxBytes === 0) throw new ConfigError(at, 'value must be greater than 0');
  if (maxBytes > MAX_FILTER_BODY_BYTES)
    throw new ConfigError(at, `this proxy keeps at most ${MAX_FILTER_BODY_BYTES} bytes`);
  return { maxBytes };
}

export function readBufferPerRoute(message: BufferPerRoute, path: string): BufferSettings {
  only(BufferPerRouteSchema, message, path, ['disabled', 'buffer']);
  const { override } = message;
  if (override.case === 'buffer') return readBuffer(override.value, join(path, 'buffer'));
  if (override.case !== 'disabled' || !override.value)
    throw new ConfigError(join(path, 'override'), 'value is required');
  return { maxBytes: undefined };
}

interface Kept {
  readonly maxBytes: number;
  bytes: number;
}

export function createBufferFilter(own: BufferSettings, context: { readonly name: string }): HttpFilter {
  return {
    name: context.name,
    onRequest(stream, index) {
      const { maxBytes } = (stream.settingsOf(context.name) as BufferSettings | undefined) ?? own;
      // What follows an upgrade is no body.
      if (maxBytes === undefined || stream.requestEnded || stream.upgrade !== '') return 'continue';
      stream.slots[index] = { maxBytes, bytes: 0 } satisfies Kept;
      return 'stop';
    },
    onRequestData(stream, _bytes, start, end, index) {
      const kept = stream.slots[index] as Kept | undefined;
      if (!kept) return 'continue';
      kept.bytes += end - start;
      if (kept.bytes > kept.maxBytes) stream.refuseBody();
      return 'hold';
    },
    onRequestEnd(stream, _trailers, index) {
      const kept = stream.slots[index] as Kept | undefined;
      if (!kept) return 'continue';
      if (stream.body === 'chunked') {
        stream.body = 'length';
        stream.headers.set(H.contentLength, String(kept.bytes));
      }
      stream.continueRequest();
      return 'stop';
    },
  };
}
