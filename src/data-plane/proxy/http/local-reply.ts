// Answers the proxy makes by itself: body and headers, in gRPC's form for gRPC requests.
import type { HeaderMap } from './header-map.ts';
import { H } from './names.ts';
import type { HttpStream } from './stream.ts';

export interface LocalReply {
  readonly status: number;
  readonly body: string | Buffer;
  readonly flags: number;
  /** Response code details of the access log. */
  readonly details: string;
  /** Overrides the gRPC status made from `status`. */
  readonly grpcStatus?: number;
  readonly edit?: (headers: HeaderMap) => void;
}

const NOTHING = Buffer.alloc(0);

/** gRPC status of an HTTP status (Envoy's table). */
function grpcStatus(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** Fills `headers` and returns the body. */
export function localReplyBody(stream: HttpStream, reply: LocalReply, headers: HeaderMap): Buffer {
  const body = typeof reply.body === 'string' ? Buffer.from(reply.body) : reply.body;
  if (stream.grpc) {
    headers.add(H.contentType, 'application/grpc');
    headers.add(H.grpcStatus, String(reply.grpcStatus ?? grpcStatus(reply.status)));
    if (body.length > 0) headers.add(H.grpcMessage, encodeMessage(body.toString()));
    return NOTHING;
  }
  if (body.length > 0) {
    headers.add(H.contentLength, String(body.length));
    headers.add(H.contentType, 'text/plain');
  }
  return body;
}

/** grpc-message is percent-encoded outside printable ASCII. */
function encodeMessage(text: string): string {
  return text.replaceAll(/[^\x20-\x24\x26-\x7e]/gu, (char) => encodeURIComponent(char));
}
