// Envoy's command operators (%REQ(X)%, %START_TIME(...)% ...) as text: how a format is cut, which names there are and what they
// take. The proxy's access-log/format.ts compiles them; admission (src/api) asks before a header value reaches a proxy, where
// one bad value would cost the whole route table.
import { nearest } from '../nearest.ts';

export interface Command {
  readonly name: string;
  /** Text in parentheses; undefined without any. */
  readonly argument: string | undefined;
  /** `:N` behind it. */
  readonly length: number | undefined;
}

const COMMAND = /%([A-Z0-9_]+)(?:\((.*?)\))?(?::(\d+))?%/y;

/** Text and commands in order, or where a `%` begins none. `%%` is the sign itself. */
export function splitFormat(text: string): readonly (string | Command)[] | number {
  const out: (string | Command)[] = [];
  let literal = '';
  for (let at = 0; at < text.length; ) {
    const sign = text.indexOf('%', at);
    if (sign < 0) {
      literal += text.slice(at);
      break;
    }
    literal += text.slice(at, sign);
    if (text[sign + 1] === '%') {
      literal += '%';
      at = sign + 2;
      continue;
    }
    COMMAND.lastIndex = sign;
    const match = COMMAND.exec(text);
    // A length is a 64-bit number.
    if (!match || Number(match[3] ?? 0) >= 2 ** 64) return sign;
    if (literal !== '') out.push(literal);
    literal = '';
    const length = match[3] === undefined ? undefined : Number(match[3]);
    out.push({ name: match[1]!, argument: match[2], length });
    at = sign + match[0].length;
  }
  if (literal !== '') out.push(literal);
  return out;
}

const sides = (names: readonly string[]): string[] =>
  ['DOWNSTREAM', 'UPSTREAM'].flatMap((s) => names.map((n) => `${s}_${n}`));

/** Without arguments and length. */
export const PLAIN_OPERATORS: ReadonlySet<string> = new Set([
  ...sides(['TLS_VERSION', 'TLS_CIPHER', 'TLS_GROUP', 'TLS_SESSION_ID', 'PEER_URI_SAN', 'PEER_DNS_SAN', 'PEER_IP_SAN']),
  ...sides(['PEER_SUBJECT', 'PEER_ISSUER', 'PEER_CERT', 'LOCAL_URI_SAN', 'LOCAL_DNS_SAN', 'LOCAL_IP_SAN']),
  'DOWNSTREAM_PEER_EMAIL_SAN',
  'DOWNSTREAM_LOCAL_SUBJECT',
  'DOWNSTREAM_PEER_SERIAL',
  'DOWNSTREAM_PEER_FINGERPRINT_256',
  'DOWNSTREAM_PEER_FINGERPRINT_1',
  ...sides(['TRANSPORT_FAILURE_REASON', 'LOCAL_ADDRESS', 'LOCAL_PORT', 'REMOTE_ADDRESS', 'REMOTE_PORT']),
  'DOWNSTREAM_DIRECT_LOCAL_ADDRESS',
  'DOWNSTREAM_DIRECT_LOCAL_PORT',
  'DOWNSTREAM_DIRECT_REMOTE_ADDRESS',
  'DOWNSTREAM_DIRECT_REMOTE_PORT',
  ...sides(['WIRE_BYTES_RECEIVED', 'WIRE_BYTES_SENT', 'HEADER_BYTES_RECEIVED', 'HEADER_BYTES_SENT']),
  ...sides(['LOCAL_CLOSE_REASON', 'DETECTED_CLOSE_TYPE']),
  ...sides(['DECOMPRESSED_HEADER_BYTES_RECEIVED', 'DECOMPRESSED_HEADER_BYTES_SENT']),
  'DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID',
  'DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID',
  'UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID',
  'DOWNSTREAM_LOCAL_EMAIL_SAN',
  'DOWNSTREAM_PEER_OTHERNAME_SAN',
  'DOWNSTREAM_LOCAL_OTHERNAME_SAN',
  'DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256',
  'DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1',
  'DOWNSTREAM_PEER_CHAIN_SERIALS',
  'DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256',
  'DOWNSTREAM_PEER_ISSUER_SERIAL',
  'TLS_JA3_FINGERPRINT',
  'TLS_JA4_FINGERPRINT',
  'DOWNSTREAM_HANDSHAKE_DURATION',
  'UPSTREAM_SERVER_NAME',
  'ACCESS_LOG_TYPE',
  'PROTOCOL',
  'UPSTREAM_PROTOCOL',
  'RESPONSE_CODE',
  'RESPONSE_FLAGS',
  'RESPONSE_FLAGS_LONG',
  'CUSTOM_FLAGS',
  'CONNECTION_TERMINATION_DETAILS',
  'LOCAL_REPLY_BODY',
  'GRPC_STATUS_NUMBER',
  'BYTES_RECEIVED',
  'BYTES_RETRANSMITTED',
  'PACKETS_RETRANSMITTED',
  'HOSTNAME',
  'UNIQUE_ID',
  'BYTES_SENT',
  'REQUEST_HEADERS_BYTES',
  'RESPONSE_HEADERS_BYTES',
  'RESPONSE_TRAILERS_BYTES',
  'DURATION',
  'REQUEST_DURATION',
  'REQUEST_TX_DURATION',
  'RESPONSE_DURATION',
  'RESPONSE_TX_DURATION',
  'UPSTREAM_CONNECTION_POOL_READY_DURATION',
  'ROUNDTRIP_DURATION',
  'DOWNSTREAM_CX_RTT',
  'UPSTREAM_HOST',
  'UPSTREAM_HOST_NAME',
  'UPSTREAM_HOST_NAME_WITHOUT_PORT',
  'UPSTREAM_HOSTS_ATTEMPTED',
  'UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT',
  'UPSTREAM_HOST_NAMES_ATTEMPTED',
  'UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT',
  'UPSTREAM_CONNECTION_IDS_ATTEMPTED',
  'UPSTREAM_CLUSTER',
  'UPSTREAM_CLUSTER_RAW',
  'UPSTREAM_CONNECTION_ID',
  'UPSTREAM_REQUEST_ATTEMPT_COUNT',
  'CONNECTION_ID',
  'ROUTE_NAME',
  'VIRTUAL_CLUSTER_NAME',
  'FILTER_CHAIN_NAME',
  'LISTENER_NAME',
  'TRACE_ID',
  'SPAN_ID',
  'STREAM_ID',
]);

export interface ArgumentRule {
  /** Matches every argument it takes; the empty text stands for none. */
  readonly argument: RegExp;
  /** `:N` behind it cuts the value. */
  readonly length: boolean;
}

const some = (length: boolean): ArgumentRule => ({ argument: /^.+$/s, length });
const only = (argument: RegExp, length = false): ArgumentRule => ({ argument, length });
const HEADER = "(?::?[!#$%&'*+\\-.^_`|~0-9A-Za-z]+)";
const HEADERS = only(new RegExp(`^(?:${HEADER}(?:\\?${HEADER}?)?|\\?${HEADER}?)$`), true);
/** Any but one with a line break. */
const TIME = only(/^(?!.*%[-_0^#]*[1-9]*[EO]?n)/s);
const ANY = only(/^/);
const STATE = only(/^[^:]+(?::?$|:(?:PLAIN|TYPED):?$|:FIELD:[^:]+)/, true);

export const ARGUMENT_OPERATORS: ReadonlyMap<string, ArgumentRule> = new Map<string, ArgumentRule>([
  ['REQ', HEADERS],
  ['REQUEST_HEADER', HEADERS],
  ['STREAM_INFO_REQ', HEADERS],
  ['RESP', HEADERS],
  ['RESPONSE_HEADER', HEADERS],
  ['TRAILER', HEADERS],
  ['RESPONSE_TRAILER', HEADERS],
  ['START_TIME', TIME],
  ['START_TIME_LOCAL', TIME],
  ['EMIT_TIME', TIME],
  ['EMIT_TIME_LOCAL', TIME],
  ...sides(['PEER_CERT_V_START', 'PEER_CERT_V_END']).map((name): [string, ArgumentRule] => [name, TIME]),
  ['COMMON_DURATION', only(/^[^:]*:[^:]*(?::(?:ms|us|ns))?$/)],
  ['DYNAMIC_METADATA', some(true)],
  ['CLUSTER_METADATA', some(true)],
  ['UPSTREAM_METADATA', some(true)],
  [
    'METADATA',
    only(/^(?:DYNAMIC|CLUSTER|ROUTE|UPSTREAM_HOST|VIRTUAL_HOST|LISTENER|LISTENER_FILTER_CHAIN)(?::.*)?$/s, true),
  ],
  ['FILTER_STATE', STATE],
  ['UPSTREAM_FILTER_STATE', STATE],
  ['PATH', only(/^(?:WQ|NQ)?(?::(?:ORIG|PATH|ORIG_OR_PATH)?(?::.*)?)?$/s, true)],
  ['QUERY_PARAM', some(true)],
  ['QUERY_PARAMS', only(/^(?:ORIG|DECODED)?$/, true)],
  ['COALESCE', some(true)],
  ['CEL', some(true)],
  ['TYPED_CEL', some(true)],
  ['XFCC_VALUE', only(/^(?:by|hash|cert|chain|subject|uri|dns)$/i, true)],
  ['RESPONSE_CODE_DETAILS', ANY],
  ['GRPC_STATUS', only(/^(?:CAMEL_STRING|SNAKE_STRING|NUMBER)?$/)],
  ['REQUESTED_SERVER_NAME', only(/^(?:SNI_ONLY|SNI_FIRST|HOST_FIRST)?(?::(?:ORIG_OR_HOST|HOST|ORIG)?(?::.*)?)?$/s)],
  ['ENVIRONMENT', some(true)],
  ['DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', ANY],
  ['DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT', ANY],
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', ANY],
  ['DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT', ANY],
  ['UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT', ANY],
  ['UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', ANY],
]);

/** What is wrong with a format, for people; undefined: every proxy takes it. */
export function formatMistake(text: string): string | undefined {
  const parts = splitFormat(text);
  if (typeof parts === 'number')
    return `"%" at position ${parts} begins no command operator such as %PROTOCOL% or %REQ(x-id)%; the sign itself is written "%%"`;
  for (const part of parts) {
    if (typeof part === 'string') continue;
    const problem = commandMistake(part);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Expressions are read by the proxy alone. */
const UNREAD: ReadonlySet<string> = new Set(['CEL', 'TYPED_CEL']);

function commandMistake({ name, argument, length }: Command): string | undefined {
  if (UNREAD.has(name))
    return `%${name}% is for access logs: a bad expression in a header would cost the whole route table`;
  if (PLAIN_OPERATORS.has(name))
    return (argument ?? '') === '' && length === undefined ? undefined : `%${name}% takes no arguments and no length`;
  const rule = ARGUMENT_OPERATORS.get(name);
  if (!rule) {
    const near = nearest(name, [...PLAIN_OPERATORS, ...ARGUMENT_OPERATORS.keys()]);
    return `there is no command operator %${name}%${near === undefined ? '' : `; did you mean %${near}%?`}`;
  }
  if (length !== undefined && !rule.length) return `%${name}% takes no length`;
  if (rule.argument.test(argument ?? '')) return undefined;
  return argument === undefined ? `%${name}% needs an argument` : `%${name}% does not take "${argument}"`;
}
