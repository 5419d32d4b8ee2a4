// What an operator asked /tap for, checked: which requests, how much of their bodies, in which form. Made by the main thread to
// refuse what is wrong, and by each thread that taps.
import {
  OutputConfigSchema,
  OutputSink_Format,
  OutputSinkSchema,
  type TapConfig,
  TapConfigSchema,
} from '#proto/envoy/config/tap/v3/common_pb.js';
import { ConfigError, millis, only } from '../config/fields.ts';
import { MAX_TAP_BODY_BYTES, MAX_TAP_TRACES } from '../limits.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import { readMatch, type TapMatch } from './match.ts';

/** Bytes of a body that are shown when the request says nothing (Envoy's). */
const DEFAULT_BODY_BYTES = 1024;

export interface TapPlan {
  readonly match: TapMatch;
  readonly bodyAs: 'bytes' | 'string';
  /** Pieces as they come, or one trace at the end of a request. */
  readonly streaming: boolean;
  readonly maxRx: number;
  readonly maxTx: number;
  readonly share: Share;
  /** Undefined: traces are sent as they come, until the client goes. */
  readonly collect: { readonly traces: number; readonly timeoutMs: number | undefined } | undefined;
}

export function readTapPlan(message: TapConfig, runtime: RuntimeView): TapPlan {
  const path = 'tap_config';
  only(TapConfigSchema, message, path, ['match_config', 'match', 'output_config', 'tap_enabled']);
  const predicate = message.match ?? message.matchConfig;
  // Envoy ends itself here.
  if (!predicate) throw new ConfigError('', 'Neither match nor match_config is set in TapConfig');
  const output = message.outputConfig;
  const sink = output?.sinks[0];
  if (!output || !sink) throw new ConfigError(`${path}.output_config`, 'value is required');
  const at = `${path}.output_config`;
  only(OutputConfigSchema, output, at, ['sinks', 'max_buffered_rx_bytes', 'max_buffered_tx_bytes', 'streaming']);
  only(OutputSinkSchema, sink, `${at}.sinks[0]`, ['format', 'streaming_admin', 'buffered_admin']);
  // Envoy ends itself with the others too.
  if (sink.format !== OutputSink_Format.JSON_BODY_AS_BYTES && sink.format !== OutputSink_Format.JSON_BODY_AS_STRING)
    throw new ConfigError(
      `${at}.sinks[0].format`,
      `${OutputSink_Format[sink.format] ?? sink.format} is not supported by the admin interface: JSON_BODY_AS_BYTES or JSON_BODY_AS_STRING`,
    );
  const kind = sink.outputSinkType;
  const streaming = output.streaming;
  if (streaming && kind.case === 'bufferedAdmin')
    throw new ConfigError(`${at}.streaming`, 'buffered_admin collects whole traces: use streaming_admin');
  return {
    match: readMatch(predicate, `${path}.${message.match ? 'match' : 'match_config'}`),
    bodyAs: sink.format === OutputSink_Format.JSON_BODY_AS_STRING ? 'string' : 'bytes',
    streaming,
    maxRx: bodyBytes(output.maxBufferedRxBytes, `${at}.max_buffered_rx_bytes`),
    maxTx: bodyBytes(output.maxBufferedTxBytes, `${at}.max_buffered_tx_bytes`),
    share: runtimeShare(runtime, message.tapEnabled, 1),
    collect: kind.case === 'bufferedAdmin' ? collected(kind.value, at) : undefined,
  };
}

function collected(
  { maxTraces, timeout }: { readonly maxTraces: bigint; readonly timeout?: Parameters<typeof millis>[0] },
  path: string,
): TapPlan['collect'] {
  if (maxTraces > BigInt(MAX_TAP_TRACES))
    throw new ConfigError(
      `${path}.sinks[0].buffered_admin.max_traces`,
      `this proxy collects at most ${MAX_TAP_TRACES}`,
    );
  return { traces: Number(maxTraces), timeoutMs: timeout && millis(timeout, 0) };
}

function bodyBytes(asked: number | undefined, path: string): number {
  if (asked !== undefined && asked > MAX_TAP_BODY_BYTES)
    throw new ConfigError(path, `this proxy keeps at most ${MAX_TAP_BODY_BYTES} bytes`);
  return asked ?? DEFAULT_BODY_BYTES;
}
