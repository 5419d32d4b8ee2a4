// %COMMON_DURATION(FROM:TO:PRECISION)%: the time between two moments of an exchange. Used by argument-operators.ts.
import { ConfigError } from '../config/fields.ts';
import { LOG_TYPE, type StreamInfo } from '../http/stream-info.ts';
import { connectTimes } from '../transport-socket/connect-times.ts';
import { LOG_NEEDS } from './needs.ts';
import type { Operator } from './types.ts';

/** Milliseconds since the epoch; -1 = it did not happen. */
type Moment = (info: StreamInfo) => number;

const MOMENTS: ReadonlyMap<string, Moment> = new Map<string, Moment>([
  ['DS_CX_BEG', (i) => i.connection.acceptedAt ?? -1],
  ['DS_HS_BEG', (i) => i.connection.helloAt ?? -1],
  ['DS_HS_END', (i) => i.connection.handshakeAt ?? -1],
  ['DS_RX_BEG', (i) => i.startTime],
  ['DS_CX_END', (i) => (i.logType === LOG_TYPE.tcpEnd ? i.startTime + i.duration : -1)],
  // A request begins here when its head is whole.
  ['DS_RX_HDR_END', (i) => (i.requestHeaders ? i.startTime : -1)],
  ['DS_RX_END', (i) => i.requestEnd],
  ['US_CX_BEG', (i) => connectTimes(i.upstreamTransport)?.begin ?? -1],
  ['US_CX_END', (i) => connectTimes(i.upstreamTransport)?.connected ?? -1],
  ['US_HS_END', (i) => connectTimes(i.upstreamTransport)?.secured ?? -1],
  ['US_TX_BEG', (i) => i.upstreamTxBegin],
  ['US_TX_END', (i) => i.upstreamTxEnd],
  ['US_RX_BEG', (i) => i.upstreamRxBegin],
  ['US_RX_BODY_BEG', (i) => i.upstreamBodyBegin],
  ['US_RX_END', (i) => i.upstreamRxEnd],
  ['DS_TX_BEG', (i) => i.responseBegin],
  ['DS_TX_END', (i) => (i.duration < 0 || i.responseBegin < 0 ? -1 : i.startTime + i.duration)],
]);
const BODY_BEGIN = 'US_RX_BODY_BEG';
/** Any other name is a moment that a filter would note: none does. */
const never: Moment = () => -1;

const PER_MS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['us', 1_000],
  ['ns', 1_000_000],
]);

export function durationOperator(argument: string, path: string): Operator {
  const [from = '', to, precision = 'ms', more] = argument.split(':');
  if (to === undefined || more !== undefined)
    throw new ConfigError(path, `Invalid common duration configuration: ${argument}.`);
  const unit = PER_MS.get(precision);
  if (unit === undefined) throw new ConfigError(path, `Invalid common duration precision: ${precision}.`);
  if (from === BODY_BEGIN || to === BODY_BEGIN) LOG_NEEDS.bodyBegin = true;
  if (precision !== 'ms') LOG_NEEDS.fineTime = true;
  const beginning = MOMENTS.get(from) ?? never;
  const ending = MOMENTS.get(to) ?? never;
  return (info) => {
    const start = beginning(info);
    const end = ending(info);
    return start < 0 || end < start ? undefined : Math.trunc((end - start) * unit);
  };
}
