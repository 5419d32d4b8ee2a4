// Answers the proxy makes by itself: body and headers, in gRPC's form for gRPC requests.
import type { HeaderMap } from './header-map.ts';
import { H } from './names.ts';
import type { HttpStream } from './stream.ts';

export interface LocalReply {
  readonly status: number;
  readonly body: string | Buffer;
  /** Of a body that is not plain text. */
  readonly contentType?: string;
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

/** Fills `headers`; the configuration's own rules may change status and body. */
export function localReplyHead(
  stream: HttpStream,
  reply: LocalReply,
  headers: HeaderMap,
): { readonly status: number; readonly body: Buffer } {
  stream.applyResponseEdits(headers);
  reply.edit?.(headers);
  const mapped = stream.manager.settings.localReplies?.rewrite(stream.info, reply, headers);
  const status = mapped?.status ?? reply.status;
  const text = mapped?.body ?? reply.body;
  const body = typeof text === 'string' ? Buffer.from(text) : text;
  if (stream.grpc) {
    headers.set(H.contentType, 'application/grpc');
    headers.add(H.grpcStatus, String(reply.grpcStatus ?? grpcStatus(status)));
    if (body.length > 0) headers.add(H.grpcMessage, encodeMessage(body.toString()));
    return { status: 200, body: NOTHING };
  }
  if (body.length > 0) {
    headers.set(H.contentLength, String(body.length));
    const type = mapped?.contentType ?? reply.contentType;
    // A format says what it makes; plain text only fills a gap.
    if (type !== undefined) headers.set(H.contentType, type);
    else headers.setIfAbsent(H.contentType, 'text/plain');
  }
  return { status, body };
}

/** grpc-message is percent-encoded outside printable ASCII. */
function encodeMessage(text: string): string {
  return text.replaceAll(/[^\x20-\x24\x26-\x7e]/gu, (char) => encodeURIComponent(char));
}
