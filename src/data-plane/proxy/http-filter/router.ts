// The router filter: takes the route's decision, finds a host, exchanges with it, retries, answers when all fails.
// Terminal; built by http-filter/registry.ts.
import { type Router, RouterSchema } from '#proto/envoy/extensions/filters/http/router/v3/router_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { ForwardSettings } from '../route/action.ts';
import type { CompiledRoute } from '../route/compiled.ts';
import { type DirectSettings, ownUri } from '../route/redirect.ts';
import { retryBits } from '../route/retry.ts';
import type { HttpFilter } from './filter.ts';
import { RouterExchange } from './router-exchange.ts';
import type { ClusterFinder } from './router-mirror.ts';
import type { RouterOptions, StrictHeader } from './router-request.ts';

export type { ClusterFinder } from './router-mirror.ts';

export function readRouter(message: Router, path: string): RouterOptions {
  only(RouterSchema, message, path, [
    'dynamic_stats',
    'suppress_envoy_headers',
    'start_child_span',
    'strict_check_headers',
    'respect_expected_rq_timeout',
  ]);
  return {
    suppressEnvoyHeaders: message.suppressEnvoyHeaders,
    respectExpectedTimeout: message.respectExpectedRqTimeout,
    dynamicStats: message.dynamicStats ?? true,
    strictHeaders: message.strictCheckHeaders.map((name, i) => {
      const valid = STRICT.get(name.toLowerCase());
      if (!valid)
        throw new ConfigError(
          join(path, `strict_check_headers[${i}]`),
          `value must be in list [${[...STRICT.keys()]}]`,
        );
      return { name: headerName(name), valid };
    }),
  };
}

const isCount = (value: string): boolean => /^\d{1,18}$/.test(value);
const isConditions = (value: string): boolean => {
  let known = true;
  retryBits(value, () => {
    known = false;
  });
  return known;
};

/** The headers that can be checked strictly, and what their values must look like. */
const STRICT: ReadonlyMap<string, StrictHeader['valid']> = new Map([
  ['x-envoy-upstream-rq-timeout-ms', isCount],
  ['x-envoy-upstream-rq-per-try-timeout-ms', isCount],
  ['x-envoy-max-retries', isCount],
  ['x-envoy-retry-grpc-on', isConditions],
  ['x-envoy-retry-on', isConditions],
]);

export function createRouter(clusters: ClusterFinder, options: RouterOptions): HttpFilter {
  return {
    name: 'envoy.filters.http.router',
    onRequest(stream) {
      stream.manager.counters.rqRouted.value += 1;
      for (const { name, valid } of options.strictHeaders) {
        const value = stream.headers.get(name);
        if (value === undefined || valid(value)) continue;
        stream.localReply({
          status: 400,
          body: `invalid header '${name.text}' with value '${value}'`,
          flags: FLAG.IH,
          details: `request_headers_failed_strict_check{${name.text}}`,
        });
        return 'stop';
      }
      const { route } = stream;
      if (route) decide(stream, route, clusters, options);
      else {
        stream.manager.counters.noRoute.value += 1;
        stream.localReply({ status: 404, body: '', flags: FLAG.NR, details: 'route_not_found' });
      }
      return 'stop';
    },
  };
}

function decide(stream: HttpStream, route: CompiledRoute, clusters: ClusterFinder, options: RouterOptions): void {
  const { action } = route;
  switch (action.kind) {
    case 'forward':
      forward(stream, route, action, clusters, options);
      return;
    case 'redirect': {
      stream.manager.counters.rqDirect.value += 1;
      const location = action.location(stream);
      stream.info.path = action.rewrite?.(stream.path, stream.info) ?? stream.path;
      stream.localReply({
        status: action.status,
        body: '',
        flags: 0,
        details: 'direct_response',
        edit: (headers) => headers.set(H.location, location),
      });
      return;
    }
    case 'direct':
      direct(stream, action);
      return;
    case 'non-forwarding':
      // No filter before us took it.
      noCluster(stream, 503);
  }
}

function direct(stream: HttpStream, action: DirectSettings): void {
  stream.manager.counters.rqDirect.value += 1;
  const { status, format } = action;
  let { body }: { body: string | Buffer } = action;
  if (format) {
    stream.info.localReplyBody = action.body.toString('latin1');
    body = format.print(stream.info);
  }
  // Where the new thing, or the other place, is.
  const locates = status === 201 || (status >= 300 && status < 400);
  stream.localReply({
    status,
    body,
    ...(format ? { contentType: format.contentType } : {}),
    flags: 0,
    details: 'direct_response',
    ...(locates ? { edit: (headers) => headers.set(H.location, ownUri(stream)) } : {}),
  });
}

function forward(
  stream: HttpStream,
  route: CompiledRoute,
  action: ForwardSettings,
  clusters: ClusterFinder,
  options: RouterOptions,
): void {
  const choice = stream.choice ?? action.choose(stream, stream.manager.deps.random);
  const cluster = clusters.find(choice.name);
  if (!cluster) {
    noCluster(stream, action.notFoundStatus);
    return;
  }
  new RouterExchange(stream, route, action, choice, cluster, clusters, options).begin(choice);
}

function noCluster(stream: HttpStream, status: number): void {
  stream.manager.counters.noCluster.value += 1;
  stream.localReply({ status, body: '', flags: FLAG.NC, details: 'cluster_not_found' });
}
