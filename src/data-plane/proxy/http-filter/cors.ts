// envoy.filters.http.cors: answers preflights and marks responses; its policy is per route.
import type { CorsPolicy } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { CorsPolicySchema } from '#proto/envoy/extensions/filters/http/cors/v3/cors_pb.js';
import { join, only } from '../config/fields.ts';
import { type StringTest, stringTest } from '../config/matchers.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import type { HttpFilter } from './filter.ts';

export interface CorsSettings {
  readonly origins: readonly StringTest[];
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  readonly maxAge: string;
  readonly credentials: boolean;
  readonly forwardOthers: boolean;
}

export function readCorsPolicy(message: CorsPolicy, path: string): CorsSettings {
  only(CorsPolicySchema, message, path, [
    'allow_origin_string_match',
    'allow_methods',
    'allow_headers',
    'expose_headers',
    'max_age',
    'allow_credentials',
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
    credentials: message.allowCredentials ?? false,
    forwardOthers: message.forwardNotMatchingPreflights ?? true,
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
};

export function createCorsFilter(name: string): HttpFilter {
  const settingsOf = (stream: HttpStream) => stream.settingsOf(name) as CorsSettings | undefined;
  return {
    name,
    onRequest(stream, index) {
      const origin = stream.headers.get(H.origin);
      const settings = origin === undefined ? undefined : settingsOf(stream);
      if (origin === undefined || !settings) return 'continue';
      const allowed = settings.origins.some((test) => test(origin));
      const preflight = stream.method === 'OPTIONS' && stream.headers.has(A.requestMethod);
      if (allowed && !preflight) stream.slots[index] = origin;
      if (!preflight || (!allowed && settings.forwardOthers)) return 'continue';
      stream.localReply({
        status: 200,
        body: '',
        flags: 0,
        details: 'cors_response',
        edit: (headers) => {
          if (allowed) preflightHeaders(headers, origin, settings);
        },
      });
      return 'stop';
    },
    onResponse(stream, headers, index) {
      const origin = stream.slots[index];
      const settings = typeof origin === 'string' ? settingsOf(stream) : undefined;
      if (typeof origin !== 'string' || !settings) return;
      headers.set(A.origin, origin);
      if (settings.credentials) headers.set(A.credentials, 'true');
      if (settings.expose !== '') headers.set(A.expose, settings.expose);
    },
  };
}

function preflightHeaders(headers: HeaderMap, origin: string, settings: CorsSettings): void {
  headers.set(A.origin, origin);
  if (settings.credentials) headers.set(A.credentials, 'true');
  if (settings.methods !== '') headers.set(A.methods, settings.methods);
  if (settings.headers !== '') headers.set(A.headers, settings.headers);
  if (settings.maxAge !== '') headers.set(A.maxAge, settings.maxAge);
}
