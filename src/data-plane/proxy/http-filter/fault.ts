// envoy.filters.http.fault: delays, aborts and slows down a share of the requests. Settings of the route win over the
// filter's own.
import type { Clock } from '../../../base/runtime/clock.ts';
import { headerName } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { AbortCode, FaultPart, FaultSettings } from './fault-settings.ts';
import type { HttpFilter } from './filter.ts';
import { ResponseThrottle } from './response-throttle.ts';

export interface FaultContext {
  readonly name: string;
  readonly random: () => number;
  readonly runtime: RuntimeView;
  readonly clock: Clock;
  readonly stats: StatsStore;
  readonly statPrefix: string;
  readonly shared?: SharedNumbers | undefined;
}

const HEADER = {
  delay: headerName('x-envoy-fault-delay-request'),
  delayPercent: headerName('x-envoy-fault-delay-request-percentage'),
  abort: headerName('x-envoy-fault-abort-request'),
  abortGrpc: headerName('x-envoy-fault-abort-grpc-request'),
  abortPercent: headerName('x-envoy-fault-abort-request-percentage'),
  rate: headerName('x-envoy-fault-throughput-response'),
  ratePercent: headerName('x-envoy-fault-throughput-response-percentage'),
  downstreamCluster: headerName('x-envoy-downstream-service-cluster'),
  downstreamNode: headerName('x-envoy-downstream-service-node'),
};

/** What is done to one request. */
interface Injected {
  /** Counted in active_faults until the request is over. */
  active: boolean;
  throttle: ResponseThrottle | undefined;
}

export function createFaultFilter(own: FaultSettings, context: FaultContext): HttpFilter {
  const prefix = `${context.statPrefix}fault.`;
  const counters = {
    delays: context.stats.counter(`${prefix}delays_injected`),
    aborts: context.stats.counter(`${prefix}aborts_injected`),
    throttled: context.stats.counter(`${prefix}response_rl_injected`),
    overflow: context.stats.counter(`${prefix}faults_overflow`),
    active: context.stats.gauge(`${prefix}active_faults`),
  };
  const { runtime } = context;
  const shared = context.shared?.counters(`faults ${prefix}`)(0);

  /** False: too many faults at once. */
  const enter = (stream: HttpStream, index: number, settings: FaultSettings): boolean => {
    const injected = injectedOf(stream, index);
    if (injected.active) return true;
    const max = runtime.number(settings.runtimeKeys.maxActive, settings.maxActive ?? Number.POSITIVE_INFINITY);
    if (shared ? !shared.tryEnter(max) : counters.active.value >= max) {
      counters.overflow.value += 1;
      return false;
    }
    injected.active = true;
    counters.active.value += 1;
    if (settings.metadata) stream.info.addMetadata(context.name, settings.metadata);
    return true;
  };
  const countByCluster = (stream: HttpStream, settings: FaultSettings, name: string): void => {
    const cluster = stream.headers.get(HEADER.downstreamCluster);
    // The name comes from a peer: only what a cluster may be called, so that it cannot fill the store with anything.
    if (settings.clusterStats && cluster !== undefined && /^[\w.-]{1,64}$/.test(cluster))
      context.stats.counter(`${prefix}${cluster}.${name}`).value += 1;
  };
  const abort = (stream: HttpStream, index: number, settings: FaultSettings): boolean => {
    const code = settings.abort && abortOf(stream, settings.abort, settings, context);
    if (!code || !enter(stream, index, settings)) return false;
    counters.aborts.value += 1;
    countByCluster(stream, settings, 'aborts_injected');
    abortWith(stream, code);
    return true;
  };
  return {
    name: context.name,
    onRequest(stream, index) {
      const settings = (stream.settingsOf(context.name) as FaultSettings | undefined) ?? own;
      if (!applies(settings, stream)) return 'continue';
      const kbps = settings.kbps && rateOf(stream, settings.kbps, settings, context);
      if (kbps !== undefined && enter(stream, index, settings)) {
        counters.throttled.value += 1;
        injectedOf(stream, index).throttle = new ResponseThrottle(stream, index, kbps, context.clock);
      }
      const delayMs = settings.delayMs && delayOf(stream, settings.delayMs, settings, context);
      if (delayMs !== undefined && delayMs > 0 && enter(stream, index, settings)) {
        counters.delays.value += 1;
        countByCluster(stream, settings, 'delays_injected');
        stream.info.flags |= FLAG.DI;
        stream.after(delayMs, () => {
          if (!abort(stream, index, settings)) stream.continueRequest();
        });
        return 'stop';
      }
      return abort(stream, index, settings) ? 'stop' : 'continue';
    },
    onResponseData(stream, bytes, start, end, index) {
      const injected = stream.slots[index] as Injected | undefined;
      if (!injected?.throttle) return 'continue';
      injected.throttle.add(bytes, start, end);
      return 'taken';
    },
    onResponseEnd(stream, trailers, index) {
      const injected = stream.slots[index] as Injected | undefined;
      return injected?.throttle?.end(trailers) ?? 'continue';
    },
    onComplete(stream, index) {
      const injected = stream.slots[index] as Injected | undefined;
      injected?.throttle?.stop();
      if (!injected?.active) return;
      counters.active.value -= 1;
      shared?.leave();
    },
  };
}

function injectedOf(stream: HttpStream, index: number): Injected {
  let known = stream.slots[index] as Injected | undefined;
  if (!known) {
    known = { active: false, throttle: undefined };
    stream.slots[index] = known;
  }
  return known;
}

function applies(settings: FaultSettings, stream: HttpStream): boolean {
  if (!settings.delayMs && !settings.abort && !settings.kbps) return false;
  if (settings.upstreamCluster !== '' && stream.route && stream.choice?.name !== settings.upstreamCluster) return false;
  if (settings.downstreamNodes.size > 0) {
    const node = stream.headers.get(HEADER.downstreamNode);
    if (node === undefined || !settings.downstreamNodes.has(node)) return false;
  }
  return settings.headers.every((test) => test(stream));
}

/** A header may lower the configured share, in its hundredths. */
function hit(
  stream: HttpStream,
  part: FaultPart<unknown>,
  percentHeader: typeof HEADER.delayPercent,
  key: string,
  context: FaultContext,
): boolean {
  let { share } = part;
  if (part.what.by === 'header') {
    const asked = numberOf(stream.headers.get(percentHeader));
    if (asked !== undefined) share = Math.min(share, asked / 100);
  }
  return context.random() < context.runtime.share(key, share);
}

function delayOf(
  stream: HttpStream,
  part: FaultPart<number>,
  settings: FaultSettings,
  context: FaultContext,
): number | undefined {
  const given = part.what.by === 'config' ? part.what.value : numberOf(stream.headers.get(HEADER.delay));
  if (given === undefined) return undefined;
  const { runtimeKeys } = settings;
  if (!hit(stream, part, HEADER.delayPercent, runtimeKeys.delayPercent, context)) return undefined;
  return context.runtime.number(runtimeKeys.delayMs, given);
}

function abortOf(
  stream: HttpStream,
  part: FaultPart<AbortCode>,
  settings: FaultSettings,
  context: FaultContext,
): AbortCode | undefined {
  const given = part.what.by === 'config' ? part.what.value : askedAbort(stream);
  if (!given) return undefined;
  const { runtimeKeys } = settings;
  if (!hit(stream, part, HEADER.abortPercent, runtimeKeys.abortPercent, context)) return undefined;
  if (given.grpc !== undefined) return { status: 200, grpc: context.runtime.number(runtimeKeys.abortGrpc, given.grpc) };
  const status = context.runtime.number(runtimeKeys.abortStatus, given.status);
  return { status: status >= 200 && status < 600 ? status : given.status, grpc: undefined };
}

function askedAbort(stream: HttpStream): AbortCode | undefined {
  const status = numberOf(stream.headers.get(HEADER.abort));
  if (status !== undefined && status >= 200 && status < 600) return { status, grpc: undefined };
  const grpc = numberOf(stream.headers.get(HEADER.abortGrpc));
  return grpc === undefined ? undefined : { status: 200, grpc };
}

function rateOf(
  stream: HttpStream,
  part: FaultPart<number>,
  settings: FaultSettings,
  context: FaultContext,
): number | undefined {
  const given = part.what.by === 'config' ? part.what.value : numberOf(stream.headers.get(HEADER.rate));
  if (given === undefined || given < 1) return undefined;
  return hit(stream, part, HEADER.ratePercent, settings.runtimeKeys.ratePercent, context) ? given : undefined;
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function abortWith(stream: HttpStream, code: AbortCode): void {
  stream.localReply({
    status: code.status,
    body: 'fault filter abort',
    flags: FLAG.FI,
    details: 'fault_filter_abort',
    ...(code.grpc === undefined ? {} : { grpcStatus: code.grpc }),
  });
}
