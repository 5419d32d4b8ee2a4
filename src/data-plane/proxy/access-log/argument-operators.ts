// Command operators that take arguments or a length: headers, times, metadata, paths and so on. Used by format.ts.
import type { JsonObject } from '@bufbuild/protobuf';
import { celOperator, typedCelOperator } from '../cel/expression.ts';
import { ConfigError } from '../config/fields.ts';
import { type HeaderMap, headerName, utf8Bytes, utf8Text } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { metadataValue } from '../route/metadata-match.ts';
import { pathOf } from '../route/path.ts';
import { addressOperator } from './address-operators.ts';
import { coalesce } from './coalesce.ts';
import { durationOperator } from './duration-operator.ts';
import { filterState, upstreamFilterState } from './filter-state-operators.ts';
import { grpcStatusNumber } from './grpc-status.ts';
import { grpcName, isGrpc, some, spaceless } from './operators.ts';
import { queryParam, queryParams, requestPath, serverName } from './path-operators.ts';
import { compileTime } from './time-format.ts';
import { downstreamTls, upstreamTls } from './tls-operators.ts';
import type { FormatDeps, Operator } from './types.ts';
import { metadataText, textBytes } from './values.ts';
import { xfccValue } from './xfcc-operator.ts';

export interface ArgumentContext {
  readonly name: string;
  /** Text in parentheses; undefined without any. */
  readonly argument: string | undefined;
  readonly path: string;
  readonly deps: FormatDeps | undefined;
  /** Compiles another operator (COALESCE). */
  readonly compile: (name: string, argument: string | undefined, length: number | undefined) => Operator;
}

export type World = Pick<ArgumentContext, 'name' | 'path' | 'deps'>;

interface ArgumentOperator {
  readonly build: (context: ArgumentContext) => Operator;
  /** `:N` behind it cuts the value, does nothing, or is refused. */
  readonly length: boolean | 'ignored';
}

function needed({ name, argument, path }: ArgumentContext): string {
  if (argument === undefined || argument === '') throw new ConfigError(path, `${name} requires parameters`);
  return argument;
}

function world({ name, path, deps }: World): FormatDeps {
  if (!deps) throw new ConfigError(path, `%${name}% is not supported here by this proxy`);
  return deps;
}

type Read = (info: StreamInfo) => HeaderMap | undefined;

const HEADER_NAME = /^(?::?[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?$/;

/** `A?B`: the first that is there. Pseudo headers are read from the stream. */
function header(read: Read, pseudo: Readonly<Record<string, Operator>>) {
  return (context: ArgumentContext): Operator => {
    const names = needed(context).split('?');
    if (names.length > 2)
      throw new ConfigError(context.path, `More than 1 alternative header specified in token: ${context.argument}`);
    if (!names.every((name) => HEADER_NAME.test(name)))
      throw new ConfigError(context.path, 'Invalid header configuration. Format string contains invalid characters.');
    const choices = names
      .filter((name) => name !== '')
      .map((choice): Operator => {
        const name = choice.toLowerCase();
        const own = pseudo[name];
        if (own) return own;
        const wanted = headerName(name);
        return (info) => read(info)?.get(wanted);
      });
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
    if (!format) throw new ConfigError(context.path, 'Invalid header configuration. Format string contains newline.');
    const now = clock ? world(context).now : () => 0;
    return (info) => {
      const ms = read(info, now);
      return ms < 0 ? undefined : format(ms);
    };
  };
}

type MetadataSource = (info: StreamInfo, filter: string) => JsonObject | undefined;

/** `filter:key:key`, or the whole structure of a filter. */
function metadata(read: MetadataSource, argument: string): Operator {
  const [filter = '', ...keys] = utf8Text(argument).split(':');
  return (info) => metadataText(metadataValue(read(info, filter), keys));
}

const metadataOf =
  (read: MetadataSource) =>
  (context: ArgumentContext): Operator =>
    metadata(read, needed(context));

const SOURCES: Readonly<Record<string, MetadataSource>> = {
  // A stream does not see its connection's, as in Envoy.
  DYNAMIC: (info, filter) => info.metadata?.get(filter),
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
  return metadata(source, rest.join(':'));
}

function details({ argument }: ArgumentContext): Operator {
  if (argument === 'ALLOW_WHITESPACES') return textBytes((info) => some(info.responseDetails));
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
      throw new ConfigError(
        context.path,
        `GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: ${context.argument}`,
      );
  }
}

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
  STREAM_INFO_REQ: requestHeader,
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
  DYNAMIC_METADATA: cut(metadataOf(SOURCES.DYNAMIC!)),
  CLUSTER_METADATA: cut(metadataOf(SOURCES.CLUSTER!)),
  UPSTREAM_METADATA: cut(metadataOf(SOURCES.UPSTREAM_HOST!)),
  METADATA: cut(anyMetadata),
  FILTER_STATE: cut(filterState),
  UPSTREAM_FILTER_STATE: cut(upstreamFilterState),
  PATH: cut(requestPath),
  QUERY_PARAM: cut((context) => queryParam({ argument: needed(context) })),
  QUERY_PARAMS: cut(queryParams),
  COALESCE: cut((context) => coalesce(context, needed(context))),
  CEL: cut((context) => celOperator(needed(context), context.path)),
  TYPED_CEL: cut((context) => typedCelOperator(needed(context), context.path)),
  XFCC_VALUE: { build: xfccValue, length: 'ignored' },
  RESPONSE_CODE_DETAILS: plain(details),
  GRPC_STATUS: plain(grpc),
  REQUESTED_SERVER_NAME: plain(serverName),
  ENVIRONMENT: cut((context) => {
    const name = needed(context);
    // It cannot change while the process lives; Envoy's `-` for none is a value like any other.
    const value = utf8Bytes(world(context).variable(utf8Text(name)) ?? '-');
    return () => value;
  }),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.connection.local)),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.connection.directLocal)),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.remote)),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.connection.directRemote)),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.upstreamLocal)),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: plain(addressOperator((i) => i.upstreamHost)),
};

/** Without arguments, but made of what the world is. */
export const MADE: Readonly<Record<string, (context: World) => Operator>> = {
  HOSTNAME: (context) => {
    const hostname = utf8Bytes(world(context).hostname);
    return () => hostname;
  },
  UNIQUE_ID: (context) => {
    const { random } = world(context);
    return () => uuid(random);
  },
};

function uuid(random: () => number): string {
  const hex = (digits: number): string => {
    let out = '';
    for (let i = 0; i < digits; i++) out += Math.floor(random() * 16).toString(16);
    return out;
  };
  return `${hex(8)}-${hex(4)}-4${hex(3)}-${'89ab'[Math.floor(random() * 4)]}${hex(3)}-${hex(12)}`;
}
