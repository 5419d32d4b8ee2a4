// Envoy's command operators (%REQ(X)%, %START_TIME(...)% ...): a format is compiled once and printed per request.
// Used by access logs and by header values of routes.

import { createHash, X509Certificate } from 'node:crypto';
import { addressText, type SocketAddr } from '../config/address.ts';
import { ConfigError } from '../config/fields.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { flagsText, type StreamInfo } from '../http/stream-info.ts';

/** undefined = no value (printed as `-`, JSON null). */
export type Operator = (info: StreamInfo) => string | number | undefined;
export type Format = (info: StreamInfo) => string;

const OPERATOR = /%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::(\d+))?%|%%/g;

/** Compiles `text`; `missing` is printed where there is no value. */
export function compileFormat(text: string, path: string, missing = '-'): Format {
  const parts = parse(text, path);
  if (parts.every((part) => typeof part === 'string')) {
    const fixed = parts.join('');
    return () => fixed;
  }
  return (info) => {
    let out = '';
    for (const part of parts) {
      if (typeof part === 'string') out += part;
      else out += part(info) ?? missing;
    }
    return out;
  };
}

/** A JSON value of a format: one lone operator keeps its type. */
export function compileJsonValue(text: string, path: string): Operator {
  const parts = parse(text, path);
  if (parts.length === 1 && typeof parts[0] !== 'string') return parts[0]!;
  const format = compileFormat(text, path);
  return (info) => format(info);
}

function parse(text: string, path: string): (string | Operator)[] {
  const out: (string | Operator)[] = [];
  let at = 0;
  const literal = (to: number) => {
    if (to > at) out.push(text.slice(at, to));
  };
  for (const match of text.matchAll(OPERATOR)) {
    literal(match.index);
    at = match.index + match[0].length;
    if (match[0] === '%%') out.push('%');
    else out.push(operator(match[1]!, match[2], match[3], path));
  }
  literal(text.length);
  const rest = out.filter((part) => typeof part === 'string' && part !== '%' && part.includes('%'));
  if (rest.length > 0) throw new ConfigError(path, `Incorrect configuration: '${rest[0]}' is not a command operator`);
  return out;
}

const MAX_LENGTH = 65_536;

function operator(name: string, argument: string | undefined, length: string | undefined, path: string): Operator {
  const simple = SIMPLE[name];
  let made: Operator | undefined = argument === undefined ? simple : undefined;
  if (name === 'REQ') made = headerOperator(argument ?? '', (info) => info.requestHeaders, true);
  if (name === 'RESP') made = headerOperator(argument ?? '', (info) => info.responseHeaders, false);
  // Trailers are not forwarded, so there is never a value.
  if (name === 'TRAILER') made = () => undefined;
  if (name === 'START_TIME') made = startTime(argument);
  if (name === 'UPSTREAM_CLUSTER_RAW') made = SIMPLE.UPSTREAM_CLUSTER;
  if (name === 'ENVIRONMENT') throw new ConfigError(path, '%ENVIRONMENT()% is not supported by this proxy');
  if (!made)
    throw new ConfigError(
      path,
      `Not supported field in StreamInfo: ${name}${argument === undefined ? '' : `(${argument})`}`,
    );
  if (length === undefined) return made;
  const max = Math.min(Number(length), MAX_LENGTH);
  const whole = made;
  return (info) => {
    const value = whole(info);
    return typeof value === 'string' ? value.slice(0, max) : value;
  };
}

function headerOperator(
  argument: string,
  headers: (info: StreamInfo) => HeaderMap | undefined,
  request: boolean,
): Operator {
  const choices = argument.split('?').map((choice) => {
    const lower = choice.trim().toLowerCase();
    if (request && lower === ':method') return (info: StreamInfo) => info.method || undefined;
    if (request && lower === ':path') return (info: StreamInfo) => info.path || undefined;
    if (request && (lower === ':authority' || lower === 'host'))
      return (info: StreamInfo) => info.authority || undefined;
    if (!request && lower === ':status')
      return (info: StreamInfo) => (info.responseCode > 0 ? String(info.responseCode) : undefined);
    const header = headerName(lower);
    return (info: StreamInfo) => headers(info)?.get(header);
  });
  return (info) => {
    for (const choice of choices) {
      const value = choice(info);
      if (value !== undefined) return value;
    }
    return undefined;
  };
}

function startTime(argument: string | undefined): Operator {
  if (argument === undefined || argument === '') return (info) => new Date(info.startTime).toISOString();
  return (info) => {
    const date = new Date(info.startTime);
    const pad = (value: number, size = 2) => String(value).padStart(size, '0');
    const table: Readonly<Record<string, string>> = {
      Y: String(date.getUTCFullYear()),
      m: pad(date.getUTCMonth() + 1),
      d: pad(date.getUTCDate()),
      H: pad(date.getUTCHours()),
      M: pad(date.getUTCMinutes()),
      S: pad(date.getUTCSeconds()),
      s: String(Math.floor(info.startTime / 1000)),
      F: date.toISOString().slice(0, 10),
      T: date.toISOString().slice(11, 19),
      '3f': pad(date.getUTCMilliseconds(), 3),
      '6f': `${pad(date.getUTCMilliseconds(), 3)}000`,
      f: pad(date.getUTCMilliseconds(), 3),
      Z: 'UTC',
      z: '+0000',
    };
    return argument.replaceAll(/%([1-9]f|[a-zA-Z])/g, (whole, key: string) => table[key] ?? whole);
  };
}

function ip(address: SocketAddr | undefined): string | undefined {
  return address?.kind === 'ip' ? address.ip : address?.path;
}
function port(address: SocketAddr | undefined): number | undefined {
  return address?.kind === 'ip' ? address.port : undefined;
}
function address(value: SocketAddr | undefined): string | undefined {
  return value ? addressText(value) : undefined;
}
const some = (text: string) => (text === '' ? undefined : text);

const SIMPLE: Readonly<Record<string, Operator>> = {
  PROTOCOL: (i) => some(i.protocol),
  RESPONSE_CODE: (i) => i.responseCode,
  RESPONSE_CODE_DETAILS: (i) => (i.responseDetails === '' ? undefined : i.responseDetails.replaceAll(' ', '_')),
  RESPONSE_FLAGS: (i) => flagsText(i.flags),
  RESPONSE_FLAGS_LONG: (i) => flagsText(i.flags, true),
  CONNECTION_TERMINATION_DETAILS: (i) => some(i.connectionTermination),
  UPSTREAM_TRANSPORT_FAILURE_REASON: (i) => some(i.upstreamFailure.replaceAll(' ', '_')),
  BYTES_RECEIVED: (i) => i.bytesReceived,
  BYTES_SENT: (i) => i.bytesSent,
  DOWNSTREAM_WIRE_BYTES_RECEIVED: (i) => i.wireBytesReceived,
  DOWNSTREAM_WIRE_BYTES_SENT: (i) => i.wireBytesSent,
  DURATION: (i) => (i.duration < 0 ? undefined : Math.round(i.duration)),
  RESPONSE_DURATION: (i) => (i.firstUpstreamByte < 0 ? undefined : Math.round(i.firstUpstreamByte)),
  UPSTREAM_HOST: (i) => address(i.upstreamHost),
  UPSTREAM_CLUSTER: (i) => some(i.upstreamCluster),
  UPSTREAM_LOCAL_ADDRESS: (i) => address(i.upstreamLocal),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: (i) => ip(i.upstreamLocal),
  UPSTREAM_REMOTE_ADDRESS: (i) => address(i.upstreamHost),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: (i) => ip(i.upstreamHost),
  UPSTREAM_REMOTE_PORT: (i) => port(i.upstreamHost),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: (i) => i.attempts,
  UPSTREAM_PEER_URI_SAN: (i) => some(i.upstreamTls?.peerUris.join(',') ?? ''),
  UPSTREAM_TLS_VERSION: (i) => i.upstreamTls?.version,
  UPSTREAM_TLS_CIPHER: (i) => i.upstreamTls?.cipher,
  DOWNSTREAM_LOCAL_ADDRESS: (i) => address(i.connection.local),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: (i) => ip(i.connection.local),
  DOWNSTREAM_LOCAL_PORT: (i) => port(i.connection.local),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: (i) => address(i.connection.directLocal),
  DOWNSTREAM_REMOTE_ADDRESS: (i) => address(i.remote),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: (i) => ip(i.remote),
  DOWNSTREAM_REMOTE_PORT: (i) => port(i.remote),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: (i) => address(i.connection.directRemote),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: (i) => ip(i.connection.directRemote),
  DOWNSTREAM_PEER_URI_SAN: (i) => some(i.connection.tls?.peerUris.join(',') ?? ''),
  DOWNSTREAM_LOCAL_URI_SAN: (i) => some(i.connection.tls?.localUris.join(',') ?? ''),
  DOWNSTREAM_PEER_DNS_SAN: (i) => some(i.connection.tls?.peerDns.join(',') ?? ''),
  DOWNSTREAM_PEER_SUBJECT: (i) => some(i.connection.tls?.peerSubject ?? ''),
  DOWNSTREAM_PEER_FINGERPRINT_256: (i) => {
    const der = i.connection.tls?.peerCertificate;
    return der && createHash('sha256').update(der).digest('hex');
  },
  DOWNSTREAM_PEER_SERIAL: (i) => {
    const der = i.connection.tls?.peerCertificate;
    return der && new X509Certificate(der).serialNumber.toLowerCase();
  },
  DOWNSTREAM_TLS_VERSION: (i) => i.connection.tls?.version,
  DOWNSTREAM_TLS_CIPHER: (i) => i.connection.tls?.cipher,
  REQUESTED_SERVER_NAME: (i) => some(i.connection.requestedServerName),
  ROUTE_NAME: (i) => some(i.routeName),
  VIRTUAL_CLUSTER_NAME: () => undefined,
  FILTER_CHAIN_NAME: (i) => some(i.connection.chainName),
  CONNECTION_ID: (i) => i.connection.id,
};
