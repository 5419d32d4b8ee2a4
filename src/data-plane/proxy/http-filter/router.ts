// The router filter: takes the route's decision, finds a host, exchanges with it, retries, answers when all fails.
// Terminal; built by http-filter/registry.ts.
import type { Cluster } from '../cluster/cluster.ts';
import type { HeaderMap } from '../http/header-map.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import type { ForwardSettings } from '../route/action.ts';
import { applyEdits } from '../route/header-edits.ts';
import type { CompiledRoute } from '../route/route-table.ts';
import type { HttpFilter } from './filter.ts';
import { RouterExchange, type RouterOptions } from './router-exchange.ts';

/** How the router finds clusters; the cluster manager. */
export interface ClusterFinder {
  find(name: string): Cluster | undefined;
}

export function createRouter(clusters: ClusterFinder, options: RouterOptions): HttpFilter {
  return {
    name: 'envoy.filters.http.router',
    onRequest(stream) {
      const { route } = stream;
      if (!route) {
        stream.manager.counters.noRoute.value += 1;
        stream.localReply({ status: 404, body: '', flags: FLAG.NR, details: 'route_not_found' });
        return 'stop';
      }
      if (route.virtualHost.requireTls && stream.scheme !== 'https') {
        const location = `https://${stream.authority.replace(/:\d+$/, '')}${stream.path}`;
        stream.localReply({
          status: 301,
          body: '',
          flags: 0,
          details: 'https_redirect',
          edit: (headers) => headers.set(H.location, location),
        });
        return 'stop';
      }
      const { action } = route;
      if (action.kind === 'redirect') {
        stream.manager.counters.rqRedirect.value += 1;
        const location = action.location(stream);
        answer(stream, route, action.status, '', 'direct_response', (headers) => headers.set(H.location, location));
        return 'stop';
      }
      if (action.kind === 'direct') {
        stream.manager.counters.rqDirect.value += 1;
        answer(stream, route, action.status, action.body, 'direct_response');
        return 'stop';
      }
      forward(stream, route, action, clusters, options);
      return 'stop';
    },
  };
}

function answer(
  stream: HttpStream,
  route: CompiledRoute,
  status: number,
  body: string | Buffer,
  details: string,
  edit?: (headers: HeaderMap) => void,
): void {
  stream.localReply({
    status,
    body,
    flags: 0,
    details,
    edit(headers) {
      edit?.(headers);
      for (const edits of route.responseEdits) applyEdits(edits, headers, stream.info);
    },
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
  stream.info.upstreamCluster = choice.name;
  const cluster = clusters.find(choice.name);
  if (!cluster) {
    stream.manager.counters.noCluster.value += 1;
    stream.localReply({ status: action.notFoundStatus, body: '', flags: FLAG.NC, details: 'cluster_not_found' });
    return;
  }
  const exchange = new RouterExchange(stream, route, action, choice, cluster, options);
  exchange.begin();
}
