// %FILTER_STATE(key:PLAIN|TYPED|FIELD:name)%: what filters left for each other. Used by argument-operators.ts.
import { ConfigError } from '../config/fields.ts';
import { utf8Bytes, utf8Text } from '../http/header-map.ts';
import { CLUSTER_STATE, filterStateText, GRPC_STATS_STATE } from '../route/metadata-match.ts';
import type { ArgumentContext } from './argument-operators.ts';
import type { Operator, Structured } from './types.ts';

export function filterState({ argument, path }: ArgumentContext): Operator {
  const [key = '', kind = '', field = ''] = (argument ?? '').split(':');
  if (key === '') throw new ConfigError(path, 'Invalid filter state configuration, key cannot be empty.');
  if (!['', 'PLAIN', 'TYPED', 'FIELD'].includes(kind))
    throw new ConfigError(path, 'Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.');
  if ((kind === 'FIELD') !== (field !== ''))
    throw new ConfigError(path, 'Invalid filter state serialize type, FIELD should be used with the field name.');
  // No state of ours has fields.
  if (kind === 'FIELD') return () => undefined;
  const name = utf8Text(key);
  const typed = kind === 'PLAIN' ? undefined : (TYPED.get(name) ?? quoted);
  return (info) => {
    const value = filterStateText(info, name);
    if (value === undefined) return undefined;
    return typed ? typed(value) : utf8Bytes(value);
  };
}

const quoted = (value: string): Structured => {
  const json = utf8Bytes(JSON.stringify(value));
  return { text: json, json };
};

/** What state is as a message, where it is more than a text or has no such form. */
type Typed = (value: string) => Structured | undefined;
const TYPED: ReadonlyMap<string, Typed> = new Map<string, Typed>([
  [CLUSTER_STATE, () => undefined],
  [GRPC_STATS_STATE, grpcStats],
]);

/** Text spells fields as JSON does and leaves out zeros, a JSON log as protobuf. */
function grpcStats(value: string): Structured {
  const [requests = '0', responses = '0'] = value.split(',');
  const text = {
    ...(requests === '0' ? {} : { requestMessageCount: requests }),
    ...(responses === '0' ? {} : { responseMessageCount: responses }),
  };
  return {
    text: JSON.stringify(text),
    json: `{"request_message_count":"${requests}","response_message_count":"${responses}"}`,
  };
}

/** No filter leaves state with the upstream connection: there is never a value. */
export function upstreamFilterState(context: ArgumentContext): Operator {
  filterState(context);
  return () => undefined;
}
