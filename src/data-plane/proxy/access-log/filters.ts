// Which requests an access log keeps. Used by loggers and by the mappers of local_reply_config.
import {
  type AccessLogFilter,
  AccessLogFilterSchema,
  type ComparisonFilter,
  ComparisonFilter_Op,
  ComparisonFilterSchema,
  type GrpcStatusFilter,
  type RuntimeFilter,
  RuntimeFilterSchema,
} from '#proto/envoy/config/accesslog/v3/accesslog_pb.js';
import { ExpressionFilterSchema } from '#proto/envoy/extensions/access_loggers/filters/cel/v3/cel_pb.js';
import { celFilter } from '../cel/expression.ts';
import { buildExtension, type Extension, extension } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { utf8Bytes } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { FLAG, type StreamInfo } from '../http/stream-info.ts';
import { headerTest, type RequestView } from '../route/matchers.ts';
import { metadataTest } from '../route/metadata-match.ts';
import { keyedFraction, type RuntimeView, runtimeNumber } from '../runtime/runtime.ts';
import { grpcStatusNumber } from './grpc-status.ts';

export type Keep = (info: StreamInfo) => boolean;

export interface FilterContext {
  readonly runtime: RuntimeView;
  readonly random: () => number;
}

export function compileFilter(message: AccessLogFilter, context: FilterContext, path: string): Keep {
  only(AccessLogFilterSchema, message, path, [
    'status_code_filter',
    'duration_filter',
    'not_health_check_filter',
    'traceable_filter',
    'runtime_filter',
    'and_filter',
    'or_filter',
    'header_filter',
    'response_flag_filter',
    'grpc_status_filter',
    'metadata_filter',
    'log_type_filter',
    'extension_filter',
  ]);
  const spec = message.filterSpecifier;
  switch (spec.case) {
    case 'statusCodeFilter':
      return comparison(spec.value.comparison, (info) => info.responseCode, context, join(path, 'status_code_filter'));
    case 'durationFilter':
      return comparison(
        spec.value.comparison,
        (info) => Math.floor(info.duration),
        context,
        join(path, 'duration_filter'),
      );
    case 'notHealthCheckFilter':
      return (info) => !info.healthCheck;
    case 'traceableFilter':
      return (info) => info.traced;
    case 'runtimeFilter':
      return sampled(spec.value, context, join(path, 'runtime_filter'));
    case 'andFilter':
    case 'orFilter':
      return combined(spec.case, spec.value.filters, context, path);
    case 'headerFilter': {
      if (!spec.value.header) throw new ConfigError(join(path, 'header_filter.header'), 'value is required');
      const test = headerTest(spec.value.header, join(path, 'header_filter.header'));
      return (info) => info.requestHeaders !== undefined && test(viewOf(info));
    }
    case 'responseFlagFilter':
      return flags(spec.value.flags, join(path, 'response_flag_filter'));
    case 'grpcStatusFilter':
      return grpcStatus(spec.value);
    case 'metadataFilter': {
      const { matcher, matchIfKeyNotFound } = spec.value;
      const missing = matchIfKeyNotFound ?? true;
      if (!matcher) return () => missing;
      const test = metadataTest(matcher, join(path, 'metadata_filter.matcher'), missing);
      return test;
    }
    case 'logTypeFilter': {
      const { exclude } = spec.value;
      const types: ReadonlySet<number> = new Set(spec.value.types);
      return (info) => types.has(info.logType) !== exclude;
    }
    case 'extensionFilter': {
      const { name, configType } = spec.value;
      const at = join(path, 'extension_filter.typed_config');
      return buildExtension(
        EXTENSION_FILTERS,
        configType.case === undefined ? undefined : configType.value,
        name,
        context,
        at,
      );
    }
    default:
      throw new ConfigError(path, `access log filter '${spec.case ?? 'none'}' is not supported by this proxy`);
  }
}

const EXTENSION_FILTERS: readonly Extension<FilterContext, Keep>[] = [
  extension(ExpressionFilterSchema, ({ expression }, _context, path) =>
    celFilter(utf8Bytes(expression), join(path, 'expression')),
  ),
];

function combined(
  kind: 'andFilter' | 'orFilter',
  messages: readonly AccessLogFilter[],
  context: FilterContext,
  path: string,
): Keep {
  const at = join(path, kind === 'andFilter' ? 'and_filter.filters' : 'or_filter.filters');
  if (messages.length < 2) throw new ConfigError(at, 'value must contain at least 2 item(s)');
  const keeps = messages.map((message, i) => compileFilter(message, context, `${at}[${i}]`));
  return kind === 'andFilter'
    ? (info) => keeps.every((keep) => keep(info))
    : (info) => keeps.some((keep) => keep(info));
}

/** The request as header matchers see it, once it is over. */
function viewOf(info: StreamInfo): RequestView {
  const { method, path, authority, requestHeaders } = info;
  return { method, path, authority, scheme: info.scheme, headers: requestHeaders!, info };
}

function comparison(
  message: ComparisonFilter | undefined,
  read: (info: StreamInfo) => number,
  context: FilterContext,
  path: string,
): Keep {
  const at = join(path, 'comparison');
  if (!message) throw new ConfigError(at, 'value is required');
  only(ComparisonFilterSchema, message, at, ['op', 'value']);
  const limit = runtimeNumber(context.runtime, message.value, 0);
  switch (message.op) {
    case ComparisonFilter_Op.EQ:
      return (info) => read(info) === limit();
    case ComparisonFilter_Op.GE:
      return (info) => read(info) >= limit();
    case ComparisonFilter_Op.LE:
      return (info) => read(info) <= limit();
  }
}

/** The same requests at every hop: the request id is the dice, unless it is to be independent. */
function sampled(message: RuntimeFilter, context: FilterContext, path: string): Keep {
  only(RuntimeFilterSchema, message, path, ['runtime_key', 'percent_sampled', 'use_independent_randomness']);
  if (message.runtimeKey === '') throw new ConfigError(join(path, 'runtime_key'), 'value length must be at least 1');
  const share = keyedFraction(context.runtime, message.runtimeKey, message.percentSampled, 0);
  const { useIndependentRandomness } = message;
  return (info) => {
    const id = useIndependentRandomness ? undefined : info.requestHeaders?.get(H.requestId)?.slice(0, 8);
    const dice =
      id !== undefined && /^[0-9a-f]{8}$/i.test(id) ? Number.parseInt(id, 16) / 0x1_0000_0000 : context.random();
    return dice < share();
  };
}

function flags(wanted: readonly string[], path: string): Keep {
  if (wanted.length === 0) return (info) => info.flags !== 0;
  let mask = 0;
  const known: Readonly<Record<string, number>> = FLAG;
  for (const [i, name] of wanted.entries()) {
    const bit = known[name];
    if (bit === undefined) throw new ConfigError(join(path, `flags[${i}]`), `'${name}' is not a response flag`);
    mask |= bit;
  }
  return (info) => (info.flags & mask) !== 0;
}

function grpcStatus(message: GrpcStatusFilter): Keep {
  const statuses: ReadonlySet<number> = new Set(message.statuses);
  return (info) => statuses.has(grpcStatusNumber(info)) !== message.exclude;
}
