// envoy.filters.http.fault: delays and aborts a share of the requests. Settings of the route win over the filter's own.
import { FaultDelaySchema } from '#proto/envoy/extensions/filters/common/fault/v3/fault_pb.js';
import {
  FaultAbortSchema,
  type HTTPFault,
  HTTPFaultSchema,
} from '#proto/envoy/extensions/filters/http/fault/v3/fault_pb.js';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import { headerTest, type RequestTest } from '../route/matchers.ts';
import { keyedFraction, type RuntimeView, type Share } from '../runtime/runtime.ts';
import type { HttpFilter } from './filter.ts';

export interface FaultSettings {
  readonly delayMs: number;
  readonly delayShare: Share;
  readonly abortStatus: number;
  readonly abortGrpc: number | undefined;
  readonly abortShare: Share;
  readonly upstreamCluster: string;
  readonly headers: readonly RequestTest[];
}

export function readFault(message: HTTPFault, runtime: RuntimeView, path: string): FaultSettings {
  only(HTTPFaultSchema, message, path, [
    'delay',
    'abort',
    'upstream_cluster',
    'headers',
    'delay_percent_runtime',
    'abort_percent_runtime',
  ]);
  const { delay, abort } = message;
  if (delay) only(FaultDelaySchema, delay, join(path, 'delay'), ['fixed_delay', 'percentage']);
  if (abort) only(FaultAbortSchema, abort, join(path, 'abort'), ['http_status', 'grpc_status', 'percentage']);
  const error = abort?.errorType;
  if (error?.case === 'httpStatus' && (error.value < 200 || error.value > 599))
    throw new ConfigError(join(path, 'abort.http_status'), 'value must be inside range [200, 600)');
  return {
    delayMs: delay?.faultDelaySecifier.case === 'fixedDelay' ? millis(delay.faultDelaySecifier.value, 0) : 0,
    // Without a percentage nothing is injected.
    delayShare: keyedFraction(runtime, message.delayPercentRuntime, delay?.percentage, 0),
    abortStatus: error?.case === 'httpStatus' ? error.value : 200,
    abortGrpc: error?.case === 'grpcStatus' ? error.value : undefined,
    abortShare: keyedFraction(runtime, message.abortPercentRuntime, abort?.percentage, 0),
    upstreamCluster: message.upstreamCluster,
    headers: message.headers.map((header, i) => headerTest(header, join(path, `headers[${i}]`))),
  };
}

export function createFaultFilter(
  own: FaultSettings,
  context: { readonly name: string; readonly random: () => number },
): HttpFilter {
  return {
    name: context.name,
    onRequest(stream) {
      const settings = (stream.settingsOf(context.name) as FaultSettings | undefined) ?? own;
      if (!applies(settings, stream)) return 'continue';
      const abort = context.random() < settings.abortShare();
      if (settings.delayMs > 0 && context.random() < settings.delayShare()) {
        stream.info.flags |= FLAG.DI;
        stream.after(settings.delayMs, () => {
          if (abort) abortWith(stream, settings);
          else stream.continueRequest();
        });
        return 'stop';
      }
      if (!abort) return 'continue';
      abortWith(stream, settings);
      return 'stop';
    },
  };
}

function applies(settings: FaultSettings, stream: HttpStream): boolean {
  if (settings.delayShare() === 0 && settings.abortShare() === 0) return false;
  const action = stream.route?.action;
  if (settings.upstreamCluster !== '') {
    const clusters = action?.kind === 'forward' ? action.clusters : [];
    if (!clusters.includes(settings.upstreamCluster)) return false;
  }
  return settings.headers.every((test) => test(stream));
}

function abortWith(stream: HttpStream, settings: FaultSettings): void {
  const grpc = settings.abortGrpc;
  stream.localReply({
    status: grpc === undefined ? settings.abortStatus : 200,
    body: 'fault filter abort',
    flags: FLAG.FI,
    details: 'fault_filter_abort',
    ...(grpc === undefined ? {} : { grpcStatus: grpc }),
  });
}
