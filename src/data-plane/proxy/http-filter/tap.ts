// envoy.filters.http.tap: shows requests and answers to who asks POST /tap (tap/desk.ts). Nobody asking costs a look at one field.

import { CommonExtensionConfigSchema } from '#proto/envoy/extensions/common/tap/v3/common_pb.js';
import { type Tap, TapSchema } from '#proto/envoy/extensions/filters/http/tap/v3/tap_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { HeaderMap } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { MAX_TAP_SEGMENTS } from '../limits.ts';
import type { RequestView } from '../route/matchers.ts';
import type { StatsStore } from '../stats/stats.ts';
import { type ActiveTap, BodyCopy, type TapDesk } from '../tap/desk.ts';
import { decide, evaluate, type Moment, settle, UNKNOWN, YES } from '../tap/match.ts';
import { traceAddress, traceBody, traceHeaders, traceText } from '../tap/trace.ts';
import type { HttpFilter } from './filter.ts';

export interface TapContext {
  readonly name: string;
  readonly taps: TapDesk;
  readonly random: () => number;
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly statPrefix: string;
}

/** One request that is looked at. */
interface Tapped {
  readonly tap: ActiveTap;
  readonly states: Uint8Array;
  readonly request: BodyCopy;
  readonly response: BodyCopy;
  readonly requestTime: number;
  responseTime: number;
  responseTrailers: HeaderMap | undefined;
  /** Of a tap by pieces: its number, and what waits until it is known whether the request is shown. */
  readonly id: string;
  waiting: string[] | undefined;
  dropped: boolean;
}

const NO_HEADERS = new HeaderMap(0);

export function createTapFilter(message: Tap, context: TapContext, path: string): HttpFilter {
  only(TapSchema, message, path, ['common_config', 'record_headers_received_time', 'record_downstream_connection']);
  const common = message.commonConfig;
  const at = join(path, 'common_config');
  if (common) only(CommonExtensionConfigSchema, common, at, ['admin_config']);
  if (common?.configType.case !== 'adminConfig') throw new ConfigError(join(at, 'config_type'), 'value is required');
  const { configId } = common.configType.value;
  const point = context.taps.register(configId);
  const prefix = `${context.statPrefix}tap.`;
  const tapped = context.stats.counter(`${prefix}rq_tapped`);
  const sampledOut = context.stats.counter(`${prefix}rq_sampled_out`);
  const { clock } = context;

  const begin = (tap: ActiveTap): Tapped => ({
    tap,
    states: new Uint8Array(tap.plan.match.leaves.length),
    request: new BodyCopy(tap, tap.plan.maxRx),
    response: new BodyCopy(tap, tap.plan.maxTx),
    requestTime: clock.now(),
    responseTime: 0,
    responseTrailers: undefined,
    id: tap.plan.streaming ? traceId(context.random) : '',
    waiting: tap.plan.streaming ? [] : undefined,
    dropped: false,
  });
  return {
    name: context.name,
    onRequest(stream, index) {
      const tap = point.active;
      if (!tap) return 'continue';
      const share = tap.plan.share();
      if (share < 1 && context.random() >= share) {
        sampledOut.value += 1;
        return 'continue';
      }
      const state = begin(tap);
      stream.slots[index] = state;
      decide(tap.plan.match, state.states, 'request', stream);
      if (state.waiting) piece(state, 'request_headers', { headers: requestHeaders(stream) });
      return 'continue';
    },
    onRequestData(stream, bytes, start, end, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (state) body(state, state.request, 'request_body_chunk', bytes, start, end);
      return 'continue';
    },
    onRequestEnd(stream, trailers, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (state && trailers) trailersCame(state, 'request-trailers', stream, trailers);
      return 'continue';
    },
    onResponse(stream, headers, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (!state) return;
      state.responseTime = clock.now();
      const status = String(stream.info.responseCode);
      decide(state.tap.plan.match, state.states, 'response', viewOf(stream, headers, status));
      if (state.waiting) piece(state, 'response_headers', { headers: traceHeaders([[':status', status]], headers) });
    },
    onResponseData(stream, bytes, start, end, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (state) body(state, state.response, 'response_body_chunk', bytes, start, end);
      return 'continue';
    },
    onResponseEnd(stream, trailers, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (state && trailers) {
        state.responseTrailers = trailers;
        trailersCame(state, 'response-trailers', stream, trailers);
      }
      return 'continue';
    },
    onComplete(stream, index) {
      const state = stream.slots[index] as Tapped | undefined;
      if (!state) return;
      stream.slots[index] = undefined;
      const { tap, states } = state;
      const trace = tap.open && settle(tap.plan.match, states);
      if (trace) {
        tapped.value += 1;
        if (state.waiting) flush(state);
        else tap.send(traceText({ http_buffered_trace: wholeTrace(stream, state, message) }));
      }
      state.request.take();
      state.response.take();
    },
    dispose() {
      context.taps.forget(point);
    },
  };
}

function traceId(random: () => number): string {
  const half = (): bigint => BigInt(Math.floor(random() * 2 ** 32));
  return String((half() << 32n) | half());
}

function requestHeaders(stream: HttpStream): object[] {
  const pseudo = [
    [':authority', stream.authority],
    [':path', stream.path],
    [':method', stream.method],
    [':scheme', stream.scheme],
  ] as const;
  return traceHeaders(
    pseudo.filter(([, value]) => value !== ''),
    stream.headers,
  );
}

/** What header tests are shown of an answer; its status stands for the path (tap/match.ts). */
function viewOf(stream: HttpStream, headers: HeaderMap, status = ''): RequestView {
  return { method: '', path: status, authority: '', scheme: '', headers, info: stream.info };
}

function body(state: Tapped, copy: BodyCopy, name: string, bytes: Buffer, start: number, end: number): void {
  if (start === end || !state.tap.open) return;
  copy.add(bytes, start, end);
  if (!state.waiting) return;
  const { bodyAs } = state.tap.plan;
  piece(state, name, traceBody(copy.take(), bodyAs, copy.truncated));
  copy.truncated = false;
}

function trailersCame(state: Tapped, moment: Moment, stream: HttpStream, trailers: HeaderMap): void {
  decide(state.tap.plan.match, state.states, moment, viewOf(stream, trailers));
  if (state.waiting) piece(state, moment.replace('-', '_'), { headers: traceHeaders([], trailers) });
}

/** Sends a piece, or keeps it while it is not known whether the request is shown. */
function piece(state: Tapped, name: string, value: object): void {
  const { tap, waiting, states } = state;
  if (!waiting || state.dropped || !tap.open) return;
  const shown = evaluate(tap.plan.match, states);
  if (shown !== YES && shown !== UNKNOWN) {
    state.dropped = true;
    waiting.length = 0;
    return;
  }
  if (waiting.length >= MAX_TAP_SEGMENTS) waiting.shift();
  waiting.push(traceText({ http_streamed_trace_segment: { trace_id: state.id, [name]: value } }));
  if (shown === YES) flush(state);
}

function flush({ tap, waiting }: Tapped): void {
  for (const each of waiting?.splice(0) ?? []) tap.send(each);
}

function wholeTrace(stream: HttpStream, state: Tapped, settings: Tap): object {
  const { info } = stream;
  const { bodyAs } = state.tap.plan;
  const timed = (ms: number): object =>
    settings.recordHeadersReceivedTime ? { headers_received_time: new Date(ms).toISOString() } : {};
  const shownBody = (copy: BodyCopy): object =>
    copy.seen ? { body: traceBody(copy.take(), bodyAs, copy.truncated) } : {};
  return {
    request: {
      headers: requestHeaders(stream),
      ...shownBody(state.request),
      trailers: traceHeaders([], stream.requestTrailers ?? NO_HEADERS),
      ...timed(state.requestTime),
    },
    ...(info.responseHeaders
      ? {
          response: {
            headers: traceHeaders([[':status', String(info.responseCode)]], info.responseHeaders),
            ...shownBody(state.response),
            trailers: traceHeaders([], state.responseTrailers ?? NO_HEADERS),
            ...timed(state.responseTime),
          },
        }
      : {}),
    ...(settings.recordDownstreamConnection
      ? {
          downstream_connection: {
            local_address: traceAddress(stream.connection.local),
            remote_address: traceAddress(stream.connection.remote),
          },
        }
      : {}),
  };
}
