// envoy.filters.http.dynamic_forward_proxy: has the host of a request resolved before the router needs it, when the route
// goes to a dynamic forward proxy cluster with the same DNS cache.
import {
  type FilterConfig,
  FilterConfigSchema,
  type PerRouteConfig,
  PerRouteConfigSchema,
} from '#proto/envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy_pb.js';
import type { Cluster } from '../cluster/cluster.ts';
import { readDnsCache } from '../cluster/dns-cache.ts';
import { authorityTarget, type ForwardProxy } from '../cluster/forward-proxy.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderName, headerName } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { HttpFilter } from './filter.ts';
import type { ClusterFinder } from './router.ts';

export interface HostRewrite {
  readonly literal: string;
  readonly header: HeaderName | undefined;
}

export function readHostRewrite(message: PerRouteConfig, path: string): HostRewrite {
  only(PerRouteConfigSchema, message, path, ['host_rewrite_literal', 'host_rewrite_header']);
  const { hostRewriteSpecifier: kind } = message;
  return {
    literal: kind.case === 'hostRewriteLiteral' ? kind.value : '',
    header: kind.case === 'hostRewriteHeader' && kind.value !== '' ? headerName(kind.value) : undefined,
  };
}

export function createForwardProxyFilter(
  message: FilterConfig,
  context: { readonly name: string; readonly clusters: ClusterFinder },
  path: string,
): HttpFilter {
  only(FilterConfigSchema, message, path, ['dns_cache_config']);
  const at = join(path, 'dns_cache_config');
  const { implementationSpecifier: kind } = message;
  if (kind.case !== 'dnsCacheConfig') throw new ConfigError(at, 'value is required');
  const { name: cacheName } = readDnsCache(kind.value, at);
  const { name, clusters } = context;
  return {
    name,
    onRequest(stream) {
      const forward = clusterOf(stream, clusters)?.forward;
      if (forward?.cache.settings.name !== cacheName) return 'continue';
      rewrite(stream, stream.settingsOf(name) as HostRewrite | undefined);
      return resolve(stream, forward);
    },
  };
}

/** The cluster the route goes to; of several the first that forwards. */
function clusterOf(stream: HttpStream, clusters: ClusterFinder): Cluster | undefined {
  const action = stream.route?.action;
  if (action?.kind !== 'forward') return undefined;
  for (const name of action.clusters) {
    const cluster = clusters.find(name);
    if (cluster?.forward) return cluster;
  }
  return undefined;
}

function rewrite(stream: HttpStream, settings: HostRewrite | undefined): void {
  const host = settings?.literal || (settings?.header ? stream.headers.get(settings.header) : undefined);
  if (!host) return;
  stream.authority = host;
  stream.headers.set(H.host, host);
}

function resolve(stream: HttpStream, forward: ForwardProxy): 'continue' | 'stop' {
  const target = authorityTarget(stream.authority, forward.defaultPort);
  if (!target) return refuse(stream, 'DNS resolution failure', FLAG.DF, 'dns_resolution_failure{invalid_host}');
  const known = (): boolean => (forward.cache.find(target.key)?.addresses.length ?? 0) > 0;
  const failed = (): 'stop' => refuse(stream, 'DNS resolution failure', FLAG.DF, 'dns_resolution_failure');
  const overflowed = (): 'stop' => refuse(stream, 'DNS cache overflow', 0, 'dns_cache_overflow');
  const state = forward.cache.load(target.key, target.name, target.port, (overflow) => {
    if (stream.finished) return;
    if (overflow) overflowed();
    else if (known()) stream.continueRequest();
    else failed();
  });
  switch (state) {
    case 'ready':
      return known() ? 'continue' : failed();
    case 'waiting':
      return 'stop';
    case 'overflow':
      return overflowed();
    case 'pending-overflow':
      return refuse(
        stream,
        'Dynamic forward proxy pending request overflow',
        0,
        'dynamic_forward_proxy_pending_request_overflow',
      );
  }
}

function refuse(stream: HttpStream, body: string, flags: number, details: string): 'stop' {
  stream.localReply({ status: 503, body, flags, details });
  return 'stop';
}
