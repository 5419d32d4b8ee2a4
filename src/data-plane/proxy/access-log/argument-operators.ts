// Command operators that take arguments or a length: headers, times, metadata, paths and so on. Used by format.ts.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { ConfigError } from '../config/fields.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { queryValue } from '../route/matchers.ts';
import { filterStateText, metadataValue } from '../route/metadata-match.ts';
import { pathOf } from '../route/path.ts';
import { durationOperator } from './duration-operator.ts';
import { grpcStatusNumber } from './grpc-status.ts';
import { grpcName, ip, isGrpc, some, spaceless } from './operators.ts';
import { compileTime } from './time-format.ts';
import { downstreamTls, upstreamTls } from './tls-operators.ts';
import type { FormatDeps, Operator } from './types.ts';

export interface ArgumentContext {
  readonly name: string;
  /** Text in parentheses; undefined without any. */
  readonly argument: string | undefined;
  readonly path: string;
  readonly deps: FormatDeps | undefined;
  /** Compiles another operator (COALESCE). */
  readonly compile: (name: string, argument: string | undefined, length: number | undefined) => Operator;
}

interface ArgumentOperator {
  readonly build: (context: ArgumentContext) => Operator;
  /** `:N` behind it cuts the value. */
  readonly length: boolean;
}

function needed({ name, argument, path }: ArgumentContext): string {
  if (argument === undefined || argument === '') throw new ConfigError(path, `${name} requires parameters`);
  return argument;
}

function world({ name, path, deps }: ArgumentContext): FormatDeps {
  if (!deps) throw new ConfigError(path, `%${name}% is not supported here by this proxy`);
  return deps;
}

type Read = (info: StreamInfo) => HeaderMap | undefined;

/** `A?B`: the first that is there. Pseudo headers are read from the stream. */
function header(read: Read, pseudo: Readonly<Record<string, Operator>>) {
  return (context: ArgumentContext): Operator => {
    const choices = needed(context)
      .split('?')
      .map((choice): Operator => {
        const name = choice.trim().toLowerCase();
        const own = pseudo[name];
        if (own) return own;
        const wanted = headerName(name);
        return (info) => read(info)?.get(wanted);
      });
    if (choices.length > 2)
      throw new ConfigError(context.path, `More than 1 alternative header specified in token: ${context.argument}`);
    return (info) => {
      for (const choice of choices) {
        const value = choice(info);
        if (value !== undefined) return value;
      }
      return undefined;
    };
  };
}

const authority: Operator = (info) => some(info.authority);
const REQUEST_PSEUDO: Readonly<Record<string, Operator>> = {
  ':method': (info) => some(info.method),
  ':path': (info) => some(info.path),
  ':authority': authority,
  host: authority,
  ':scheme': (info) => some(info.scheme),
};

function time(read: (info: StreamInfo, now: () => number) => number, local: boolean, clock: boolean) {
  return (context: ArgumentContext): Operator => {
    const format = compileTime(context.argument ?? '', local);
    if (!format)
      throw new ConfigError(
        context.path,
        `Invalid header configuration. Format string: '${context.argument}' is not a time`,
      );
    const now = clock ? world(context).now : () => 0;
    return (info) => {
      const ms = read(info, now);
      return ms < 0 ? undefined : format(ms);
    };
  };
}

type MetadataSource = (info: StreamInfo, filter: string) => JsonObject | undefined;

/** `filter:key:key`, or the whole structure of a filter. */
/** Fields of a structure have no order: by name, as Envoy prints them. */
function sorted(value: JsonValue | undefined): JsonValue | undefined {
  if (Array.isArray(value)) return value.map((one) => sorted(one) ?? null);
  if (typeof value !== 'object' || value === null) return value;
  const names = Object.keys(value).sort();
  return Object.fromEntries(names.map((name) => [name, sorted(value[name]) ?? null]));
}

function metadata(read: MetadataSource) {
  return (context: ArgumentContext): Operator => {
    const [filter, ...keys] = needed(context).split(':');
    return (info) => sorted(metadataValue(read(info, filter!), keys));
  };
}

const SOURCES: Readonly<Record<string, MetadataSource>> = {
  DYNAMIC: (info, filter) => info.metadata?.get(filter) ?? info.connection.metadata.get(filter),
  CLUSTER: (info, filter) => info.upstreamClusterMetadata?.[filter],
  ROUTE: (info, filter) => info.routeMetadata?.[filter],
  UPSTREAM_HOST: (info, filter) => info.upstreamMetadata?.[filter],
  LISTENER: (info, filter) => info.connection.listenerMetadata?.[filter],
  LISTENER_FILTER_CHAIN: (info, filter) => info.connection.chainMetadata?.[filter],
  VIRTUAL_HOST: (info, filter) => info.virtualHostMetadata?.[filter],
};

function anyMetadata(context: ArgumentContext): Operator {
  const [kind = '', ...rest] = (context.argument ?? '').split(':');
  const source = SOURCES[kind];
  if (!source) throw new ConfigError(context.path, `${kind} is not supported type of metadata`);
  return metadata(source)({ ...context, argument: rest.join(':') });
}

function requestPath(context: ArgumentContext): Operator {
  const [query = '', which = ''] = (context.argument ?? '').split(':');
  if (query !== '' && query !== 'WQ' && query !== 'NQ')
    throw new ConfigError(context.path, `Invalid PATH option: '${query}', only 'WQ'/'NQ' are allowed`);
  if (!['', 'ORIG', 'PATH', 'ORIG_OR_PATH'].includes(which))
    throw new ConfigError(
      context.path,
      `Invalid PATH option: '${which}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed`,
    );
  return (info) => {
    const original = which === 'PATH' ? undefined : info.requestHeaders?.get(H.originalPath);
    const path = original ?? (which === 'ORIG' ? undefined : some(info.path));
    return path !== undefined && query === 'NQ' ? pathOf(path) : path;
  };
}

function queryParam(context: ArgumentContext): Operator {
  const name = needed(context);
  return (info) => {
    const value = queryValue(info.requestHeaders?.get(H.originalPath) ?? info.path, name);
    return value === undefined ? undefined : decoded(value);
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function queryParams(context: ArgumentContext): Operator {
  const kind = context.argument ?? '';
  if (!['', 'ORIG', 'DECODED'].includes(kind))
    throw new ConfigError(context.path, `Invalid QUERY_PARAMS option: '${kind}', only 'ORIG'/'DECODED' are allowed`);
  return (info) => {
    const path = info.requestHeaders?.get(H.originalPath) ?? info.path;
    const mark = path.indexOf('?');
    return mark < 0 ? undefined : some(path.slice(mark + 1));
  };
}

function details(context: ArgumentContext): Operator {
  const { argument, path } = context;
  if (argument === 'ALLOW_WHITESPACES') return (info) => some(info.responseDetails);
  if (argument !== undefined && argument !== '')
    throw new ConfigError(path, `RESPONSE_CODE_DETAILS does not support '${argument}'`);
  return (info) => spaceless(info.responseDetails);
}

function grpc(context: ArgumentContext): Operator {
  switch (context.argument ?? '') {
    case '':
    case 'CAMEL_STRING':
      return grpcName;
    case 'SNAKE_STRING':
      return (info) => {
        const name = grpcName(info);
        return name?.replaceAll(/([a-z])([A-Z])/g, '$1_$2').toUpperCase();
      };
    case 'NUMBER':
      return (info) => (isGrpc(info) ? grpcStatusNumber(info) : undefined);
    default:
      throw new ConfigError(context.path, 'GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER.');
  }
}

/** What is no character of a name is not printed; clients send what they like. */
function requestedName(info: StreamInfo): string | undefined {
  const name = info.connection.requestedServerName;
  if (name === '' || /^[\w.-]+$/.test(name)) return some(name);
  return `invalid:${name.replaceAll(/[^\w.-]/g, '_')}`;
}

const HOSTS: ReadonlyMap<string, Operator> = new Map<string, Operator>([
  ['HOST', authority],
  ['ORIG', (info) => info.requestHeaders?.get(H.originalHost)],
  ['ORIG_OR_HOST', (info) => info.requestHeaders?.get(H.originalHost) ?? some(info.authority)],
]);

function serverName({ argument = '', path }: ArgumentContext): Operator {
  const [order = '', which = ''] = argument.split(':');
  const host = HOSTS.get(which || 'ORIG_OR_HOST');
  if (!host)
    throw new ConfigError(
      path,
      `Invalid REQUESTED_SERVER_NAME option: '${which}', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed`,
    );
  switch (order) {
    case '':
    case 'SNI_ONLY':
      return requestedName;
    case 'SNI_FIRST':
      return (info) => requestedName(info) ?? host(info);
    case 'HOST_FIRST':
      return (info) => host(info) ?? requestedName(info);
    default:
      throw new ConfigError(
        path,
        `Invalid REQUESTED_SERVER_NAME option: '${order}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed`,
      );
  }
}

function filterState(context: ArgumentContext): Operator {
  const [key = '', kind = 'TYPED'] = (context.argument ?? '').split(':');
  if (key === '') throw new ConfigError(context.path, 'Invalid filter state configuration, key cannot be empty.');
  if (kind !== 'PLAIN' && kind !== 'TYPED')
    throw new ConfigError(
      context.path,
      `Invalid filter state serialize type, only support PLAIN/TYPED/FIELD: ${kind} is not supported by this proxy`,
    );
  // The typed form of a text is its JSON.
  return (info) => {
    const value = filterStateText(info, key);
    return value === undefined || kind === 'PLAIN' ? value : JSON.stringify(value);
  };
}

/** No filter leaves state with the upstream connection: there is never a value. */
function upstreamFilterState(context: ArgumentContext): Operator {
  filterState(context);
  return () => undefined;
}

/** `{"operators": ["PROTOCOL", {"command": "REQ", "param": "x", "max_length": 3}]}`: the first that has a value. */
function coalesce(context: ArgumentContext): Operator {
  const fail = (): never => {
    throw new ConfigError(context.path, 'COALESCE: the parameter must be a JSON object with a list of operators');
  };
  let spec: JsonValue;
  try {
    spec = JSON.parse(needed(context)) as JsonValue;
  } catch {
    return fail();
  }
  const list = typeof spec === 'object' && spec !== null && !Array.isArray(spec) ? spec.operators : undefined;
  if (!Array.isArray(list) || list.length === 0) return fail();
  const operators = list.map((entry): Operator => {
    if (typeof entry === 'string') return context.compile(entry, undefined, undefined);
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return fail();
    const { command, param, max_length: max } = entry;
    if (typeof command !== 'string' || (param !== undefined && typeof param !== 'string')) return fail();
    return context.compile(command, param, typeof max === 'number' ? max : undefined);
  });
  return (info) => {
    for (const operator of operators) {
      const value = operator(info);
      if (value !== undefined && value !== '') return value;
    }
    return undefined;
  };
}

const maskable =
  (address: Operator) =>
  (context: ArgumentContext): Operator => {
    if (context.argument === undefined) return address;
    throw new ConfigError(context.path, `${context.name}: a prefix length is not supported by this proxy`);
  };

const validity = (side: typeof downstreamTls, end: boolean) =>
  time(
    (info) => {
      const peer = side(info)?.peer;
      return peer === undefined ? -1 : end ? peer.notAfter : peer.notBefore;
    },
    false,
    false,
  );

const plain = (build: ArgumentOperator['build']): ArgumentOperator => ({ build, length: false });
const cut = (build: ArgumentOperator['build']): ArgumentOperator => ({ build, length: true });

const requestHeader = cut(header((info) => info.requestHeaders, REQUEST_PSEUDO));
const responseHeader = cut(
  header((info) => info.responseHeaders, {
    ':status': (info) => (info.responseCode > 0 ? String(info.responseCode) : undefined),
  }),
);
const responseTrailer = cut(header((info) => info.responseTrailers, {}));

/** Of the formatter req_without_query. */
function withoutQuery(context: ArgumentContext): Operator {
  const read = requestHeader.build(context);
  return (info) => {
    const value = read(info);
    return typeof value === 'string' ? pathOf(value) : value;
  };
}

export const REQ_WITHOUT_QUERY = cut(withoutQuery);

export const WITH_ARGUMENTS: Readonly<Record<string, ArgumentOperator>> = {
  REQ: requestHeader,
  REQUEST_HEADER: requestHeader,
  RESP: responseHeader,
  RESPONSE_HEADER: responseHeader,
  TRAILER: responseTrailer,
  RESPONSE_TRAILER: responseTrailer,
  START_TIME: plain(time((info) => info.startTime, false, false)),
  START_TIME_LOCAL: plain(time((info) => info.startTime, true, false)),
  EMIT_TIME: plain(time((_info, now) => now(), false, true)),
  EMIT_TIME_LOCAL: plain(time((_info, now) => now(), true, true)),
  DOWNSTREAM_PEER_CERT_V_START: plain(validity(downstreamTls, false)),
  DOWNSTREAM_PEER_CERT_V_END: plain(validity(downstreamTls, true)),
  UPSTREAM_PEER_CERT_V_START: plain(validity(upstreamTls, false)),
  UPSTREAM_PEER_CERT_V_END: plain(validity(upstreamTls, true)),
  COMMON_DURATION: plain((context) => durationOperator(needed(context), context.path)),
  DYNAMIC_METADATA: cut(metadata(SOURCES.DYNAMIC!)),
  CLUSTER_METADATA: cut(metadata(SOURCES.CLUSTER!)),
  UPSTREAM_METADATA: cut(metadata(SOURCES.UPSTREAM_HOST!)),
  METADATA: cut(anyMetadata),
  FILTER_STATE: cut(filterState),
  UPSTREAM_FILTER_STATE: cut(upstreamFilterState),
  PATH: cut(requestPath),
  QUERY_PARAM: cut(queryParam),
  QUERY_PARAMS: cut(queryParams),
  COALESCE: cut(coalesce),
  RESPONSE_CODE_DETAILS: plain(details),
  GRPC_STATUS: plain(grpc),
  REQUESTED_SERVER_NAME: plain(serverName),
  ENVIRONMENT: cut((context) => {
    const name = needed(context);
    // It cannot change while the process lives.
    const value = world(context).variable(name);
    return () => value;
  }),
  HOSTNAME: plain((context) => {
    const { hostname } = world(context);
    return () => hostname;
  }),
  UNIQUE_ID: plain((context) => {
    const { random } = world(context);
    return () => uuid(random);
  }),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.connection.local))),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.connection.directLocal))),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.remote))),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.connection.directRemote))),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.upstreamLocal))),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: plain(maskable((i) => ip(i.upstreamHost))),
};

function uuid(random: () => number): string {
  const hex = (digits: number): string => {
    let out = '';
    for (let i = 0; i < digits; i++) out += Math.floor(random() * 16).toString(16);
    return out;
  };
  return `${hex(8)}-${hex(4)}-4${hex(3)}-${'89ab'[Math.floor(random() * 4)]}${hex(3)}-${hex(12)}`;
}
