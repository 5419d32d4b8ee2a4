// Tracing of a connection manager: decides which requests are traced, makes or carries their context, and gives finished
// spans to an exporter. Exporters come with the providers that need one; without an exporter contexts are still passed on.
import { OpenTelemetryConfigSchema } from '#proto/envoy/config/trace/v3/opentelemetry_pb.js';
import { type ZipkinConfig, ZipkinConfigSchema } from '#proto/envoy/config/trace/v3/zipkin_pb.js';
import {
  type HttpConnectionManager,
  HttpConnectionManager_TracingSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { UuidRequestIdConfigSchema } from '#proto/envoy/extensions/request_id/uuid/v3/uuid_pb.js';
import type { FormatDeps } from '../access-log/format.ts';
import { openAny } from '../config/any.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import type { HeaderMap } from '../http/header-map.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import type { RuntimeView } from '../runtime/runtime.ts';
import type { Counter, StatsScope } from '../stats/stats.ts';
import { b3Propagation } from './b3.ts';
import { hex, type Propagation, type TraceContext, W3C } from './context.ts';
import { compileTags, type TagReader } from './custom-tags.ts';
import { type SamplingSettings, type TraceReason, traceReason } from './sampling.ts';
import type { RouteTracing } from './settings.ts';

/** A span that is over. Times and facts are the stream's. */
export interface FinishedSpan {
  readonly context: TraceContext;
  readonly name: string;
  readonly info: StreamInfo;
  readonly tags: readonly (readonly [name: string, value: string])[];
}

/** Takes finished spans; must not block, and bounds what it keeps. */
export interface SpanExporter {
  export(span: FinishedSpan): void;
}

export interface TracingSettings {
  readonly sampling: SamplingSettings;
  /** Undefined: no provider; only the request id is marked. */
  readonly propagation: Propagation | undefined;
  readonly tags: readonly TagReader[];
  /** spawn_upstream_span: every try is a span of its own. */
  readonly spawns: boolean;
}

export function compileTracing(
  message: HttpConnectionManager,
  deps: FormatDeps,
  outbound: boolean,
  path: string,
): TracingSettings | undefined {
  const id = requestIdOptions(message, join(path, 'request_id_extension'));
  const { tracing } = message;
  if (!tracing) return undefined;
  const at = join(path, 'tracing');
  only(HttpConnectionManager_TracingSchema, tracing, at, [
    'client_sampling',
    'random_sampling',
    'overall_sampling',
    'max_path_tag_length',
    'custom_tags',
    'provider',
    'spawn_upstream_span',
  ]);
  const share = (percent: { readonly value: number } | undefined): number =>
    percent === undefined ? 1 : Math.min(1, Math.max(0, percent.value / 100));
  return {
    sampling: {
      client: share(tracing.clientSampling),
      random: share(tracing.randomSampling),
      overall: share(tracing.overallSampling),
      ...id,
    },
    propagation: tracing.provider && provider(tracing.provider, outbound, join(at, 'provider')),
    tags: compileTags(tracing.customTags, deps, at),
    spawns: tracing.spawnUpstreamSpan ?? false,
  };
}

function requestIdOptions(message: HttpConnectionManager, path: string): { pack: boolean; useRequestId: boolean } {
  const config = message.requestIdExtension?.typedConfig;
  if (!config) return { pack: true, useRequestId: true };
  const at = join(path, 'typed_config');
  const any = openAny(config, at);
  if (any.typeName !== UuidRequestIdConfigSchema.typeName)
    throw new ConfigError(at, `request id extension '${any.typeName}' is not supported by this proxy`);
  const uuid = any.open(UuidRequestIdConfigSchema);
  only(UuidRequestIdConfigSchema, uuid, at, ['pack_trace_reason', 'use_request_id_for_trace_sampling']);
  return { pack: uuid.packTraceReason ?? true, useRequestId: uuid.useRequestIdForTraceSampling ?? true };
}

type Provider = NonNullable<NonNullable<HttpConnectionManager['tracing']>['provider']>;

function provider(message: Provider, outbound: boolean, path: string): Propagation {
  const at = join(path, 'typed_config');
  const config = message.configType.value;
  if (!config) throw new ConfigError(at, 'value is required');
  const any = openAny(config, at);
  if (any.typeName === ZipkinConfigSchema.typeName) return zipkin(any.open(ZipkinConfigSchema), outbound, at);
  if (any.typeName !== OpenTelemetryConfigSchema.typeName)
    throw new ConfigError(path, `tracing provider '${message.name}' is not supported by this proxy`);
  // With no service to report to, contexts are passed on and made all the same (Envoy wants one). Exporting comes later.
  only(OpenTelemetryConfigSchema, any.open(OpenTelemetryConfigSchema), at, ['service_name']);
  return W3C;
}

/** B3 headers are passed on and made; what is said of the collector is checked only: spans are not reported yet. */
function zipkin(message: ZipkinConfig, outbound: boolean, path: string): Propagation {
  only(ZipkinConfigSchema, message, path, [
    'collector_cluster',
    'collector_endpoint',
    'collector_endpoint_version',
    'collector_hostname',
    'trace_id_128bit',
    'shared_span_context',
    'split_spans_for_request',
  ]);
  for (const [field, value] of Object.entries({
    collector_cluster: message.collectorCluster,
    collector_endpoint: message.collectorEndpoint,
  }))
    if (value === '') throw new ConfigError(join(path, field), 'value length must be at least 1 characters');
  // Whose requests leave is the client of a call: the server's span begins elsewhere.
  return b3Propagation({ wide: message.traceId128bit, shared: !outbound && (message.sharedSpanContext ?? true) });
}

/** Answered requests by why they are traced. */
export function tracingCounters(scope: StatsScope) {
  const counter = (name: string): Counter => scope.counter(`tracing.${name}`);
  // Health checks are not known yet when the reason is decided, in Envoy neither.
  const byReason: Readonly<Record<TraceReason, Counter>> = {
    none: counter('not_traceable'),
    sampled: counter('random_sampling'),
    'service-forced': counter('service_forced'),
    'client-forced': counter('client_enabled'),
  };
  return { byReason, healthCheck: counter('health_check') };
}

export class Tracer {
  readonly spawns: boolean;
  readonly #settings: TracingSettings;
  readonly #runtime: RuntimeView;
  readonly #random: () => number;
  readonly #counters: ReturnType<typeof tracingCounters>;
  readonly #exporter: SpanExporter | undefined;

  constructor(
    settings: TracingSettings,
    runtime: RuntimeView,
    random: () => number,
    counters: ReturnType<typeof tracingCounters>,
    exporter?: SpanExporter,
  ) {
    this.spawns = settings.spawns;
    this.#settings = settings;
    this.#runtime = runtime;
    this.#random = random;
    this.#counters = counters;
    this.#exporter = exporter;
  }

  /** At the head of a request: marks its id, and replaces the context in `headers` by the one of this proxy. */
  start(headers: HeaderMap, info: StreamInfo, route: RouteTracing | undefined): TraceReason {
    const { sampling, propagation } = this.#settings;
    const reason = traceReason(headers, sampling, route, this.#runtime, this.#random);
    if (!propagation) return reason;
    info.traced = reason !== 'none';
    const context = propagation.next(propagation.extract(headers), info.traced, this.#random);
    if (!context) return reason;
    propagation.inject(context, headers);
    info.traceId = context.traceId;
    info.spanId = context.spanId;
    info.span = context;
    return reason;
  }

  /** A try is sent: `headers` name a span of its own below that of this proxy. */
  spawn(headers: HeaderMap, info: StreamInfo): void {
    const { span } = info;
    const { propagation } = this.#settings;
    if (!span || !propagation) return;
    propagation.inject({ ...span, spanId: hex(this.#random, 16), parentId: span.spanId }, headers);
  }

  /** A request of this reason has an answer. */
  answered(reason: TraceReason): void {
    this.#counters.byReason[reason].value += 1;
  }

  finish(info: StreamInfo, name: string): void {
    const context = info.span;
    if (!context?.sampled || !this.#exporter) return;
    const tags: [string, string][] = [];
    for (const tag of this.#settings.tags) {
      const value = tag.read(info);
      if (value !== undefined) tags.push([tag.name, value]);
    }
    this.#exporter.export({ context, name, info, tags });
  }
}
