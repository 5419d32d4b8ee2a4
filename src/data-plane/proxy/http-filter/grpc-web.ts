// envoy.filters.http.grpc_web: lets browsers call gRPC services. Trailers become a last frame of the body; the text form
// is base64 on the way in and out.
import type { HeaderMap } from '../http/header-map.ts';
import { headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpFilter } from './filter.ts';

const ACCEPT = headerName('accept');
const GRPC_ACCEPT_ENCODING = headerName('grpc-accept-encoding');
const TYPES = /^application\/grpc-web(-text)?(\+proto)?\s*(;|$)/i;
const TRAILER_FRAME = 0x80;

interface Call {
  readonly textIn: boolean;
  readonly textOut: boolean;
  /** Base64 characters that did not fill a group. */
  pendingIn: string;
  /** False: the response is not gRPC and passes as it is. */
  translates: boolean;
}

const NOTHING = Buffer.alloc(0);

export function createGrpcWebFilter(context: { readonly name: string }): HttpFilter {
  const callOf = (slots: readonly unknown[], index: number) => slots[index] as Call | undefined;
  return {
    name: context.name,
    onRequest(stream, index) {
      const { headers } = stream;
      const type = TYPES.exec(headers.get(H.contentType) ?? '');
      if (!type || stream.method !== 'POST') return 'continue';
      const accepted = TYPES.exec(headers.get(ACCEPT) ?? '');
      stream.slots[index] = {
        textIn: type[1] !== undefined,
        textOut: accepted ? accepted[1] !== undefined : type[1] !== undefined,
        pendingIn: '',
        translates: false,
      } satisfies Call;
      headers.set(H.contentType, 'application/grpc');
      headers.set(H.te, 'trailers');
      headers.set(GRPC_ACCEPT_ENCODING, 'identity');
      if (stream.body === 'length') {
        headers.remove(H.contentLength);
        stream.body = 'chunked';
      }
      return 'continue';
    },
    onRequestData(stream, bytes, start, end, index) {
      const call = callOf(stream.slots, index);
      if (!call?.textIn) return 'continue';
      const text = call.pendingIn + bytes.toString('latin1', start, end);
      const whole = text.length - (text.length % 4);
      call.pendingIn = text.slice(whole);
      const groups = text.slice(0, whole);
      if (!/^(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)*$/.test(groups)) {
        stream.localReply({
          status: 400,
          body: 'Bad gRPC-web request, invalid base64 data.',
          flags: 0,
          details: 'grpc_base_64_decode_failed',
        });
        return 'taken';
      }
      // Several encoded messages may stand one after the other, each with its padding.
      const out = Buffer.concat(
        (groups.match(/[A-Za-z0-9+/]+={0,2}/g) ?? []).map((part) => Buffer.from(part, 'base64')),
      );
      if (out.length > 0) stream.passRequestData(index, out, 0, out.length);
      return 'taken';
    },
    onRequestEnd(stream, _trailers, index) {
      if (!callOf(stream.slots, index)?.pendingIn) return 'continue';
      stream.localReply({
        status: 400,
        body: 'Bad gRPC-web request, invalid base64 data.',
        flags: 0,
        details: 'grpc_base_64_decode_failed_bad_size',
      });
      return 'stop';
    },
    onResponse(stream, headers, index) {
      const call = callOf(stream.slots, index);
      if (!call) return;
      call.translates = headers.get(H.contentType)?.startsWith('application/grpc') ?? false;
      if (!call.translates) return;
      headers.set(H.contentType, call.textOut ? 'application/grpc-web-text+proto' : 'application/grpc-web+proto');
      headers.remove(H.contentLength);
    },
    onResponseData(stream, bytes, start, end, index) {
      const call = callOf(stream.slots, index);
      if (!call?.translates || !call.textOut) return 'continue';
      // Each piece with its own padding: readers take groups of four.
      const out = Buffer.from(bytes.toString('base64', start, end), 'latin1');
      if (out.length > 0) stream.passResponseData(index, out, 0, out.length);
      return 'taken';
    },
    onResponseEnd(stream, trailers, index) {
      const call = callOf(stream.slots, index);
      if (!call?.translates) return 'continue';
      const frame = trailers ? trailerFrame(trailers) : NOTHING;
      const last = call.textOut ? Buffer.from(frame.toString('base64'), 'latin1') : frame;
      if (last.length > 0) stream.passResponseData(index, last, 0, last.length);
      stream.passResponseEnd(index, undefined);
      return 'taken';
    },
  };
}

function trailerFrame(trailers: HeaderMap): Buffer {
  let text = '';
  trailers.forEach((name, value) => {
    text += `${name.toLowerCase()}:${value}\r\n`;
  });
  const frame = Buffer.alloc(5 + Buffer.byteLength(text, 'latin1'));
  frame[0] = TRAILER_FRAME;
  frame.writeUInt32BE(frame.length - 5, 1);
  frame.write(text, 5, 'latin1');
  return frame;
}
