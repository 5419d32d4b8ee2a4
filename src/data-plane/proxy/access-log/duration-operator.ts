// %COMMON_DURATION(FROM:TO:PRECISION)%: the time between two moments of an exchange. Used by argument-operators.ts.
import { ConfigError } from '../config/fields.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import type { Operator } from './types.ts';

/** Milliseconds since the epoch; -1 = it did not happen. */
type Moment = (info: StreamInfo) => number;

const MOMENTS: Readonly<Record<string, Moment>> = {
  DS_CX_BEG: (i) => i.connection.acceptedAt ?? -1,
  DS_HS_END: (i) => i.connection.handshakeAt ?? -1,
  DS_RX_BEG: (i) => i.startTime,
  DS_RX_END: (i) => i.requestEnd,
  US_CX_BEG: (i) => i.upstreamAsked,
  US_TX_BEG: (i) => i.upstreamTxBegin,
  US_TX_END: (i) => i.upstreamTxEnd,
  US_RX_BEG: (i) => i.upstreamRxBegin,
  US_RX_END: (i) => i.upstreamRxEnd,
  DS_TX_BEG: (i) => i.responseBegin,
  DS_TX_END: (i) => (i.duration < 0 ? -1 : i.startTime + i.duration),
};

const PER_MS: Readonly<Record<string, number>> = { ms: 1, us: 1_000, ns: 1_000_000 };

export function durationOperator(argument: string, path: string): Operator {
  const parts = argument.split(':');
  if (parts.length !== 3)
    throw new ConfigError(
      path,
      `Invalid common duration configuration: ${argument}. It should be in the form of '%COMMON_DURATION(START:END:PRECISION)%'`,
    );
  const from = momentOf(parts[0]!, path);
  const to = momentOf(parts[1]!, path);
  const unit = PER_MS[parts[2]!];
  if (unit === undefined) throw new ConfigError(path, `Invalid common duration precision '${parts[2]}'.`);
  return (info) => {
    const start = from(info);
    const end = to(info);
    return start < 0 || end < 0 || end < start ? undefined : Math.round((end - start) * unit);
  };
}

function momentOf(name: string, path: string): Moment {
  const moment = MOMENTS[name];
  if (!moment) throw new ConfigError(path, `COMMON_DURATION: the time point '${name}' is not supported by this proxy`);
  return moment;
}
