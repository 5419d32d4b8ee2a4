// envoy.filters.http.cors: answers preflights and marks responses; its policy is per route.
import type { CorsPolicy } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { CorsPolicySchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { join, only } from '../config/fields.ts';
import { type StringTest, stringTest } from '../config/matchers.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { HttpFilter } from './filter.ts';

export interface CorsSettings {
  readonly origins: readonly StringTest[];
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  readonly maxAge: string;
  readonly credentials: boolean | undefined;
  readonly privateNetwork: boolean | undefined;
  readonly forwardOthers: boolean | undefined;
  /** Undefined = this level does not say. */
  readonly enabled: Share | undefined;
  readonly shadow: Share | undefined;
}

export function readCorsPolicy(message: CorsPolicy, runtime: RuntimeView, path: string): CorsSettings {
  only(CorsPolicySchema, message, path, [
    'allow_origin_string_match',
    'allow_methods',
    'allow_headers',
    'expose_headers',
    'max_age',
    'allow_credentials',
    'filter_enabled',
    'shadow_enabled',
    'allow_private_network_access',
    'forward_not_matching_preflights',
  ]);
  return {
    origins: message.allowOriginStringMatch.map((entry, i) =>
      stringTest(entry, join(path, `allow_origin_string_match[${i}]`)),
    ),
    methods: message.allowMethods,
    headers: message.allowHeaders,
    expose: message.exposeHeaders,
    maxAge: message.maxAge,
    credentials: message.allowCredentials,
    privateNetwork: message.allowPrivateNetworkAccess,
    forwardOthers: message.forwardNotMatchingPreflights,
    enabled: message.filterEnabled && runtimeShare(runtime, message.filterEnabled, 1),
    shadow: message.shadowEnabled && runtimeShare(runtime, message.shadowEnabled, 0),
  };
}

/** What a level leaves open is said by the next less specific one. */
function together(levels: readonly CorsSettings[]): CorsSettings | undefined {
  const [first, ...rest] = levels;
  if (!first || rest.length === 0) return first;
  const outer = together(rest)!;
  return {
    origins: first.origins.length > 0 ? first.origins : outer.origins,
    methods: first.methods || outer.methods,
    headers: first.headers || outer.headers,
    expose: first.expose || outer.expose,
    maxAge: first.maxAge || outer.maxAge,
    credentials: first.credentials ?? outer.credentials,
    privateNetwork: first.privateNetwork ?? outer.privateNetwork,
    forwardOthers: first.forwardOthers ?? outer.forwardOthers,
    enabled: first.enabled ?? outer.enabled,
    shadow: first.shadow ?? outer.shadow,
  };
}

const A = {
  origin: headerName('access-control-allow-origin'),
  methods: headerName('access-control-allow-methods'),
  headers: headerName('access-control-allow-headers'),
  expose: headerName('access-control-expose-headers'),
  maxAge: headerName('access-control-max-age'),
  credentials: headerName('access-control-allow-credentials'),
  requestMethod: headerName('access-control-request-method'),
  privateNetwork: headerName('access-control-allow-private-network'),
  requestPrivateNetwork: headerName('access-control-request-private-network'),
};

/** What the filter keeps of a request whose response it marks. */
interface Allowed {
  readonly origin: string;
  readonly settings: CorsSettings;
}

interface CorsContext {
  readonly name: string;
  readonly random: () => number;
  readonly stats: StatsStore;
  readonly statPrefix: string;
}

export function createCorsFilter(context: CorsContext): HttpFilter {
  const valid = context.stats.counter(`${context.statPrefix}cors.origin_valid`);
  const invalid = context.stats.counter(`${context.statPrefix}cors.origin_invalid`);
  return {
    name: context.name,
    onRequest(stream, index) {
      const origin = stream.headers.get(H.origin);
      if (origin === undefined || origin === '') return 'continue';
      const settings = together(stream.levelsOf(context.name) as CorsSettings[]);
      if (!settings) return 'continue';
      const enabled = !settings.enabled || context.random() < settings.enabled();
      if (!enabled && !(settings.shadow && context.random() < settings.shadow())) return 'continue';
      // A matcher that takes `*` literally takes everybody, as in Envoy.
      const allowed = settings.origins.some((test) => test('*') || test(origin));
      if (allowed) valid.value += 1;
      else invalid.value += 1;
      if (!enabled) return 'continue';
      const preflight = stream.method === 'OPTIONS' && (stream.headers.get(A.requestMethod) ?? '') !== '';
      if (allowed && !preflight) stream.slots[index] = { origin, settings } satisfies Allowed;
      if (!preflight || (!allowed && settings.forwardOthers !== false)) return 'continue';
      const wantsPrivate = stream.headers.get(A.requestPrivateNetwork) === 'true';
      stream.localReply({
        status: 200,
        body: '',
        flags: 0,
        details: 'cors_response',
        edit: (headers) => {
          if (allowed) {
            headers.set(A.origin, origin);
            if (settings.expose !== '') headers.set(A.expose, settings.expose);
          }
          preflightHeaders(headers, settings, wantsPrivate);
        },
      });
      return 'stop';
    },
    onResponse(stream, headers, index) {
      const allowed = stream.slots[index] as Allowed | undefined;
      if (!allowed) return;
      const { origin, settings } = allowed;
      headers.set(A.origin, origin);
      if (settings.credentials) headers.set(A.credentials, 'true');
      if (settings.expose !== '') headers.set(A.expose, settings.expose);
    },
  };
}

function preflightHeaders(headers: HeaderMap, settings: CorsSettings, wantsPrivate: boolean): void {
  if (settings.credentials) headers.set(A.credentials, 'true');
  if (settings.methods !== '') headers.set(A.methods, settings.methods);
  if (settings.headers !== '') headers.set(A.headers, settings.headers);
  if (settings.maxAge !== '') headers.set(A.maxAge, settings.maxAge);
  if (settings.privateNetwork && wantsPrivate) headers.set(A.privateNetwork, 'true');
}
