// Listeners and routes of gateway proxies from Gateway and VirtualService (traffic.md §6).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import type { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import type { GatewayServer, GatewaySpec } from '../../api/istio/gateway.ts';
import type { VirtualServiceSpec } from '../../api/istio/virtual-service.ts';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import type { Config } from '../config/store.ts';
import { hostMatches, hostsOverlap, isVisible, moreSpecific, resolveHost } from '../model/hosts.ts';
import { matches } from '../model/peer-authentication.ts';
import type { ProxyNode } from '../model/proxy.ts';
import { labelsOf, type Snapshot, targetsOf } from '../model/snapshot.ts';
import { listenerLogs } from './access-log.ts';
import { address } from './common.ts';
import { httpConnectionManager } from './filters.ts';
import { gatewayName, type TranslatedRoute, translateHttpRoutes } from './http-routes.ts';
import { ROUTE_DEFAULTS } from './routes.ts';

interface BoundServer {
  readonly gateway: Config<GatewaySpec>;
  readonly server: GatewayServer;
}

interface GatewayListener {
  readonly bind: string;
  /** The port the proxy listens on: the target port when the Gateway names a Service port. */
  readonly port: number;
  readonly servers: BoundServer[];
}

export function buildGatewayListeners(snapshot: Snapshot, proxy: ProxyNode): readonly EncodedResource[] {
  return [...gatewayListeners(snapshot, proxy).values()].map((listener) => {
    const name = `${listener.bind}_${listener.port}`;
    return encodeResource(ListenerSchema, name, {
      name,
      address: address(listener.bind, listener.port),
      trafficDirection: TrafficDirection.OUTBOUND,
      filterChains: [
        {
          filters: [
            httpConnectionManager(snapshot.mesh, 'gateway', `outbound_${name};`, {
              kind: 'rds',
              name: routeName(listener),
            }),
          ],
        },
      ],
      accessLog: listenerLogs(snapshot.mesh),
    });
  });
}

function routeName(listener: GatewayListener): string {
  return listener.bind === '0.0.0.0' ? `http.${listener.port}` : `http.${listener.port}.${listener.bind}`;
}

function gatewayListeners(snapshot: Snapshot, proxy: ProxyNode): ReadonlyMap<string, GatewayListener> {
  const labels = labelsOf(snapshot, proxy);
  const targets = targetsOf(snapshot, proxy);
  const out = new Map<string, GatewayListener>();
  for (const gateway of snapshot.gateways) {
    if (!matches(gateway.spec.selector, labels)) continue;
    for (const server of gateway.spec.servers) {
      const port = targets.find((t) => t.port.port === server.port.number)?.targetPort ?? server.port.number;
      const bind = server.bind ?? '0.0.0.0';
      const listener = out.get(`${bind}_${port}`) ?? { bind, port, servers: [] };
      out.set(`${bind}_${port}`, listener);
      listener.servers.push({ gateway, server });
    }
  }
  return out;
}

type VirtualHost = MessageInitShape<typeof VirtualHostSchema>;

/** Undefined for a name that no listener of this proxy asks for. */
export function buildGatewayRoute(snapshot: Snapshot, proxy: ProxyNode, name: string): EncodedResource | undefined {
  const listener = [...gatewayListeners(snapshot, proxy).values()].find((l) => routeName(l) === name);
  if (!listener) return undefined;
  const hosts = new Map<string, TranslatedRoute[]>();
  for (const config of snapshot.virtualServices) collect(snapshot, listener, config, hosts);
  const virtualHosts: VirtualHost[] = [...hosts]
    .sort(([a], [b]) => moreSpecific(a, b))
    .map(([host, routes]) => ({
      name: `${host}:${listener.port}`,
      domains: [host],
      routes: [...routes.filter((r) => !r.catchAll), ...routes.filter((r) => r.catchAll)].map((r) => r.route),
      includeRequestAttemptCount: true,
    }));
  if (virtualHosts.length === 0) virtualHosts.push({ name: `blackhole:${listener.port}`, domains: ['*'], routes: [] });
  return encodeResource(RouteConfigurationSchema, name, { name, virtualHosts, ...ROUTE_DEFAULTS });
}

function collect(
  snapshot: Snapshot,
  listener: GatewayListener,
  config: Config<VirtualServiceSpec>,
  hosts: Map<string, TranslatedRoute[]>,
): void {
  const wanted = config.spec.gateways.map((g) => gatewayName(g, config.namespace));
  const done = new Set<string>();
  for (const { gateway, server } of listener.servers) {
    const name = `${gateway.namespace}/${gateway.name}`;
    if (!wanted.includes(name) || !isVisible(config.spec.exportTo, config.namespace, gateway.namespace)) continue;
    const context = { snapshot, listenerPort: server.port.number, gateways: [name] };
    for (const host of boundHosts(snapshot, gateway, server, config)) {
      if (done.has(host)) continue;
      done.add(host);
      const routes = hosts.get(host) ?? [];
      hosts.set(host, routes);
      routes.push(...translateHttpRoutes(config, context));
    }
  }
}

/** The more specific of each pair of a server's host and a VirtualService's host that meet. */
function boundHosts(
  snapshot: Snapshot,
  gateway: Config<GatewaySpec>,
  server: GatewayServer,
  config: Config<VirtualServiceSpec>,
): readonly string[] {
  const out = new Set<string>();
  for (const entry of server.hosts) {
    const slash = entry.indexOf('/');
    const scope = slash < 0 ? '*' : entry.slice(0, slash);
    const serverHost = entry.slice(slash + 1).toLowerCase();
    const inScope = scope === '*' || config.namespace === (scope === '.' ? gateway.namespace : scope);
    if (!inScope) continue;
    for (const raw of config.spec.hosts) {
      const host = resolveHost(raw, config.namespace, snapshot.domain);
      if (!hostsOverlap(serverHost, host)) continue;
      out.add(hostMatches(serverHost, host) ? host : serverHost);
    }
  }
  return [...out];
}
