// The whole translation behind one function: what a proxy gets of one resource type. Called by serve/.
import type { EncodedResource } from '../../base/envoy-api/any.ts';
import { TYPE_URL } from '../../base/xds/type-urls.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { buildClusters } from './clusters.ts';
import { buildEndpoints } from './endpoints.ts';
import { forEngine } from './engine-envoy.ts';
import { buildGatewayListeners, buildGatewayRoute } from './gateway.ts';
import { buildInboundListener } from './inbound.ts';
import { buildNameTable } from './name-table.ts';
import { buildOutboundListeners } from './outbound.ts';
import { buildRoute } from './routes.ts';
import { buildSecret } from './secrets.ts';

/** Types this control plane makes; for others a request gets an empty answer. */
export const GENERATED_TYPES: ReadonlySet<string> = new Set([
  TYPE_URL.cluster,
  TYPE_URL.endpoint,
  TYPE_URL.listener,
  TYPE_URL.route,
  TYPE_URL.secret,
  TYPE_URL.nameTable,
]);

/** `names` counts for the types that are asked for by name. */
export function generate(
  snapshot: Snapshot,
  proxy: ProxyNode,
  typeUrl: string,
  names: Iterable<string>,
): readonly EncodedResource[] {
  return forEngine(translate(snapshot, proxy, typeUrl, names), proxy, typeUrl, () => buildClusters(snapshot, proxy));
}

function translate(
  snapshot: Snapshot,
  proxy: ProxyNode,
  typeUrl: string,
  names: Iterable<string>,
): readonly EncodedResource[] {
  switch (typeUrl) {
    case TYPE_URL.cluster:
      return buildClusters(snapshot, proxy);
    case TYPE_URL.listener:
      return proxy.type === 'router'
        ? buildGatewayListeners(snapshot, proxy)
        : [...buildOutboundListeners(snapshot, proxy), buildInboundListener(snapshot, proxy)];
    case TYPE_URL.endpoint:
      return [...names].map((name) => buildEndpoints(snapshot, proxy, name));
    case TYPE_URL.route: {
      const build = proxy.type === 'router' ? buildGatewayRoute : buildRoute;
      return [...names].map((name) => build(snapshot, proxy, name)).filter((r) => r !== undefined);
    }
    case TYPE_URL.secret:
      return [...names].map((name) => buildSecret(snapshot, proxy, name)).filter((r) => r !== undefined);
    case TYPE_URL.nameTable:
      return [buildNameTable(snapshot, proxy)];
    default:
      return [];
  }
}
