// envoy.filters.http.grpc_stats: counts gRPC calls and messages by cluster, and by method where the configuration names it.
import { type FilterConfig, FilterConfigSchema } from '#proto/envoy/extensions/filters/http/grpc_stats/v3/config_pb.js';
import { only } from '../config/fields.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { MAX_GRPC_METHODS } from '../limits.ts';
import { GRPC_STATS_STATE } from '../route/metadata-match.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { HttpFilter } from './filter.ts';
import { GrpcFrameCounter } from './grpc-frames.ts';

/** Whether a method has statistics of its own. */
type Named = (service: string, method: string) => boolean;

interface Call {
  readonly request: GrpcFrameCounter;
  readonly response: GrpcFrameCounter;
  readonly service: string;
  readonly method: string;
  status: string | undefined;
}

export function createGrpcStatsFilter(
  message: FilterConfig,
  context: { readonly name: string; readonly stats: StatsStore },
  path: string,
): HttpFilter {
  only(FilterConfigSchema, message, path, [
    'emit_filter_state',
    'stats_for_all_methods',
    'individual_method_stats_allowlist',
    'enable_upstream_stats',
    'replace_dots_in_grpc_service_name',
  ]);
  const named = methodNames(message);
  const { stats } = context;
  const methods = new Set<string>();
  const prefixOf = (stream: HttpStream, call: Call): string => {
    const cluster = `cluster.${stream.info.upstreamCluster}.grpc.`;
    if (!named(call.service, call.method)) return cluster;
    const service = message.replaceDotsInGrpcServiceName ? call.service.replaceAll('.', '_') : call.service;
    const name = `${service}.${call.method}`;
    // Names come from clients.
    if (!methods.has(name) && methods.size >= MAX_GRPC_METHODS) return cluster;
    methods.add(name);
    return `${cluster}${name}.`;
  };
  return {
    name: context.name,
    onRequest(stream, index) {
      const at = stream.grpc ? /^\/([^/?]+)\/([^/?]+)$/.exec(stream.path) : null;
      if (at)
        stream.slots[index] = {
          request: new GrpcFrameCounter(),
          response: new GrpcFrameCounter(),
          service: at[1]!,
          method: at[2]!,
          status: undefined,
        } satisfies Call;
      return 'continue';
    },
    onRequestData(stream, bytes, start, end, index) {
      (stream.slots[index] as Call | undefined)?.request.add(bytes, start, end);
      return 'continue';
    },
    onResponse(stream, headers, index) {
      const call = stream.slots[index] as Call | undefined;
      if (call) call.status = headers.get(H.grpcStatus);
    },
    onResponseData(stream, bytes, start, end, index) {
      (stream.slots[index] as Call | undefined)?.response.add(bytes, start, end);
      return 'continue';
    },
    onResponseEnd(stream, trailers, index) {
      const call = stream.slots[index] as Call | undefined;
      if (call) call.status = trailers?.get(H.grpcStatus) ?? call.status;
      return 'continue';
    },
    onComplete(stream, index) {
      const call = stream.slots[index] as Call | undefined;
      if (!call) return;
      const { info } = stream;
      if (message.emitFilterState && call.request.messages + call.response.messages > 0) {
        info.filterState ??= new Map();
        info.filterState.set(GRPC_STATS_STATE, `${call.request.messages},${call.response.messages}`);
      }
      if (info.upstreamCluster === '') return;
      const prefix = prefixOf(stream, call);
      const { status } = call;
      if (status !== undefined && /^\d{1,2}$/.test(status)) {
        stats.counter(`${prefix}${status}`).value += 1;
        stats.counter(`${prefix}${status === '0' ? 'success' : 'failure'}`).value += 1;
        stats.counter(`${prefix}total`).value += 1;
      }
      // Those of nothing are not made.
      if (call.request.messages > 0) stats.counter(`${prefix}request_message_count`).value += call.request.messages;
      if (call.response.messages > 0) stats.counter(`${prefix}response_message_count`).value += call.response.messages;
      if (message.enableUpstreamStats && info.upstreamHost)
        stats.histogram(`${prefix}upstream_rq_time`).record(info.duration);
    },
  };
}

function methodNames(message: FilterConfig): Named {
  const { perMethodStatSpecifier: spec } = message;
  if (spec.case === 'statsForAllMethods') {
    const all = spec.value.value;
    return () => all;
  }
  if (spec.case !== 'individualMethodStatsAllowlist') return () => false;
  const known = new Map<string, ReadonlySet<string>>();
  for (const service of spec.value.services) {
    if (service.name === '') continue;
    const list = known.get(service.name) ?? new Set<string>();
    known.set(service.name, new Set([...list, ...service.methodNames]));
  }
  return (service, method) => {
    const listed = known.get(service);
    return listed !== undefined && (listed.size === 0 || listed.has(method));
  };
}
