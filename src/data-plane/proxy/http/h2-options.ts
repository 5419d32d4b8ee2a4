// Http2ProtocolOptions as checked settings, and the counters of HTTP/2. Read by the settings of the connection manager and
// of clusters.
import {
  type Http2ProtocolOptions,
  Http2ProtocolOptionsSchema,
  KeepaliveSettingsSchema,
} from '#proto/envoy/config/core/v3/protocol_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import {
  DEFAULT_H2_CONNECTION_WINDOW,
  DEFAULT_H2_STREAM_WINDOW,
  DEFAULT_H2_STREAMS,
  DEFAULT_MAX_EMPTY_FRAMES,
  DEFAULT_MAX_OUTBOUND_CONTROL_FRAMES,
  DEFAULT_MAX_OUTBOUND_FRAMES,
  DEFAULT_MAX_PRIORITY_PER_STREAM,
  DEFAULT_MAX_WINDOW_UPDATES_PER_DATA,
  HEADER_TABLE_BYTES,
  MAX_HEADER_TABLE_BYTES,
} from '../limits.ts';
import type { StatsScope } from '../stats/stats.ts';
import { DEFAULT_WINDOW, MAX_WINDOW } from './h2-frames.ts';
import type { HeadLimits } from './hpack-decoder.ts';

export interface KeepaliveOptions {
  /** 0 = no regular PING. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Part of the interval added at random, 0 to 1. */
  readonly jitter: number;
  /** A PING before a request when nothing came for this long; 0 = never. */
  readonly idleMs: number;
}

export interface H2Options {
  readonly tableSize: number;
  readonly maxStreams: number;
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly allowConnect: boolean;
  readonly maxOutboundFrames: number;
  readonly maxOutboundControlFrames: number;
  readonly maxEmptyFrames: number;
  readonly maxPriorityPerStream: number;
  readonly maxWindowUpdatesPerData: number;
  /** A malformed message ends its stream only, not the connection. */
  readonly streamErrors: boolean;
  readonly keepalive: KeepaliveOptions | undefined;
}

/** `streamErrors` is what the connection manager says for all versions. */
export function readH2Options(
  message: Http2ProtocolOptions | undefined,
  path: string,
  streamErrors = false,
): H2Options {
  if (message)
    only(Http2ProtocolOptionsSchema, message, path, [
      'hpack_table_size',
      'max_concurrent_streams',
      'initial_stream_window_size',
      'initial_connection_window_size',
      'allow_connect',
      'max_outbound_frames',
      'max_outbound_control_frames',
      'max_consecutive_inbound_frames_with_empty_payload',
      'max_inbound_priority_frames_per_stream',
      'max_inbound_window_update_frames_per_data_frame_sent',
      'stream_error_on_invalid_http_messaging',
      'override_stream_error_on_invalid_http_message',
      'connection_keepalive',
      // Which of Envoy's codecs is used: here there is one.
      'use_oghttp2_codec',
    ]);
  return {
    tableSize: Math.min(message?.hpackTableSize ?? HEADER_TABLE_BYTES, MAX_HEADER_TABLE_BYTES),
    maxStreams: between(
      message?.maxConcurrentStreams,
      DEFAULT_H2_STREAMS,
      1,
      MAX_WINDOW,
      path,
      'max_concurrent_streams',
    ),
    streamWindow: between(
      message?.initialStreamWindowSize,
      DEFAULT_H2_STREAM_WINDOW,
      DEFAULT_WINDOW,
      MAX_WINDOW,
      path,
      'initial_stream_window_size',
    ),
    connectionWindow: between(
      message?.initialConnectionWindowSize,
      DEFAULT_H2_CONNECTION_WINDOW,
      DEFAULT_WINDOW,
      MAX_WINDOW,
      path,
      'initial_connection_window_size',
    ),
    allowConnect: message?.allowConnect ?? false,
    maxOutboundFrames: message?.maxOutboundFrames ?? DEFAULT_MAX_OUTBOUND_FRAMES,
    maxOutboundControlFrames: message?.maxOutboundControlFrames ?? DEFAULT_MAX_OUTBOUND_CONTROL_FRAMES,
    maxEmptyFrames: message?.maxConsecutiveInboundFramesWithEmptyPayload ?? DEFAULT_MAX_EMPTY_FRAMES,
    maxPriorityPerStream: message?.maxInboundPriorityFramesPerStream ?? DEFAULT_MAX_PRIORITY_PER_STREAM,
    maxWindowUpdatesPerData:
      message?.maxInboundWindowUpdateFramesPerDataFrameSent ?? DEFAULT_MAX_WINDOW_UPDATES_PER_DATA,
    streamErrors:
      message?.overrideStreamErrorOnInvalidHttpMessage ?? (message?.streamErrorOnInvalidHttpMessaging || streamErrors),
    keepalive: keepaliveOf(message, join(path, 'connection_keepalive')),
  };
}

function keepaliveOf(message: Http2ProtocolOptions | undefined, path: string): KeepaliveOptions | undefined {
  const keepalive = message?.connectionKeepalive;
  if (!keepalive) return undefined;
  only(KeepaliveSettingsSchema, keepalive, path, [
    'interval',
    'timeout',
    'interval_jitter',
    'connection_idle_interval',
  ]);
  const timeoutMs = millis(keepalive.timeout, 0);
  if (timeoutMs < 1) throw new ConfigError(join(path, 'timeout'), 'value must be greater than or equal to 1ms');
  const intervalMs = millis(keepalive.interval, 0);
  if (keepalive.interval && intervalMs < 1)
    throw new ConfigError(join(path, 'interval'), 'value must be greater than or equal to 1ms');
  return {
    intervalMs,
    timeoutMs,
    jitter: (keepalive.intervalJitter?.value ?? 15) / 100,
    idleMs: millis(keepalive.connectionIdleInterval, 0),
  };
}

function between(
  value: number | undefined,
  fallback: number,
  min: number,
  max: number,
  path: string,
  name: string,
): number {
  if (value === undefined) return fallback;
  if (value < min || value > max)
    throw new ConfigError(join(path, name), `value must be inside range [${min}, ${max}]`);
  return value;
}

/** Envoy's codec statistics; `scope` is the root or a cluster. */
export function h2Counters(scope: Pick<StatsScope, 'counter' | 'gauge'>) {
  const counter = (name: string) => scope.counter(`http2.${name}`);
  return {
    goawaySent: counter('goaway_sent'),
    headerOverflow: counter('header_overflow'),
    emptyFramesFlood: counter('inbound_empty_frames_flood'),
    priorityFlood: counter('inbound_priority_frames_flood'),
    windowUpdateFlood: counter('inbound_window_update_frames_flood'),
    keepaliveTimeout: counter('keepalive_timeout'),
    outboundFlood: counter('outbound_flood'),
    outboundControlFlood: counter('outbound_control_flood'),
    /** Ours: more control frames a second than any honest peer sends. */
    controlFlood: counter('inbound_control_frames_flood'),
    rxMessagingError: counter('rx_messaging_error'),
    rxReset: counter('rx_reset'),
    txReset: counter('tx_reset'),
    txFlushTimeout: counter('tx_flush_timeout'),
    trailers: counter('trailers'),
    streamRefused: counter('stream_refused_errors'),
    underscoresDropped: counter('dropped_headers_with_underscores'),
    underscoresRejected: counter('requests_rejected_with_underscores_in_headers'),
    streamsActive: scope.gauge('http2.streams_active'),
  };
}
export type H2Counters = ReturnType<typeof h2Counters>;

/** What a session is made with, beside its transport and its owner. */
export interface SessionContext {
  readonly options: H2Options;
  readonly limits: HeadLimits;
  readonly counters: H2Counters;
  readonly clock: Clock;
  /** Time a finished message may wait for the peer's window, ms; 0 = for ever. */
  readonly flushTimeoutMs: number;
}
