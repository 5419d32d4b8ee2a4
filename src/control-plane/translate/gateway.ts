// Listeners and routes of gateway proxies from Gateway and VirtualService (traffic.md §6).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import {
  VirtualHost_TlsRequirementType as TlsRequirement,
  type VirtualHostSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { type GatewayServer, type GatewaySpec, kindOf } from '../../api/istio/gateway.ts';
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
import { tlsInspector } from './listener-filters.ts';
import { ROUTE_DEFAULTS } from './routes.ts';
import { type Chain, distinctChains, l4Chains } from './tcp-routes.ts';
import { gatewayTls } from './tls.ts';

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
  return [...gatewayListeners(snapshot, proxy).values()].flatMap((listener) => {
    const name = `${listener.bind}_${listener.port}`;
    const chains = distinctChains(listener.servers.flatMap((bound) => serverChains(snapshot, proxy, listener, bound)));
    // Without a route there is nobody to connect to: the port stays closed.
    if (chains.length === 0) return [];
    const secure = listener.servers.some(({ server }) => server.tls);
    return [
      encodeResource(ListenerSchema, name, {
        name,
        address: address(listener.bind, listener.port),
        trafficDirection: TrafficDirection.OUTBOUND,
        ...(secure ? { listenerFilters: [tlsInspector()] } : {}),
        filterChains: chains,
        accessLog: listenerLogs(snapshot.mesh),
      }),
    ];
  });
}

function serverChains(
  snapshot: Snapshot,
  proxy: ProxyNode,
  listener: GatewayListener,
  bound: BoundServer,
): readonly Chain[] {
  const { server } = bound;
  const kind = kindOf(server);
  const prefix = `outbound_${listener.bind}_${listener.port};`;
  if (kind === 'http' || kind === 'https') {
    const name = kind === 'http' ? plainRoute(listener) : secureRoute(listener, bound);
    const filters = [httpConnectionManager(snapshot.mesh, 'gateway', prefix, { kind: 'rds', name })];
    if (kind === 'http') return [{ filters }];
    return [
      {
        filters,
        filterChainMatch: serverNames(server),
        ...(server.tls ? { transportSocket: gatewayTls(snapshot.mesh, server.tls, ['h2', 'http/1.1']) } : {}),
      },
    ];
  }
  const terminated = kind === 'tls' && server.tls && server.tls.mode !== 'PASSTHROUGH';
  const out: Chain[] = [];
  for (const config of snapshot.virtualServices) {
    const name = `${bound.gateway.namespace}/${bound.gateway.name}`;
    if (!bindsTo(config, bound.gateway) || boundHosts(snapshot, bound.gateway, server, config).length === 0) continue;
    const context = {
      snapshot,
      listenerPort: server.port.number,
      gateways: [name],
      namespace: proxy.namespace,
      labels: {},
      direction: 'gateway' as const,
    };
    for (const chain of l4Chains(config, kind === 'tls' && !terminated ? config.spec.tls : config.spec.tcp, context))
      out.push(
        terminated && server.tls
          ? {
              ...chain,
              filterChainMatch: serverNames(server),
              transportSocket: gatewayTls(snapshot.mesh, server.tls, []),
            }
          : chain,
      );
  }
  return out;
}

/** `*` alone means that the name does not count. */
function serverNames(server: GatewayServer): { readonly serverNames?: string[] } {
  const names = server.hosts.map((h) => h.slice(h.indexOf('/') + 1).toLowerCase());
  return names.includes('*') ? {} : { serverNames: names };
}

function plainRoute(listener: GatewayListener): string {
  return listener.bind === '0.0.0.0' ? `http.${listener.port}` : `http.${listener.port}.${listener.bind}`;
}

function secureRoute(listener: GatewayListener, { gateway, server }: BoundServer): string {
  return `https.${listener.port}.${server.port.name}.${gateway.name}.${gateway.namespace}`;
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
      const [first] = listener.servers;
      // Plaintext and TLS cannot share a port: the older Gateway keeps it.
      if (first && (first.server.tls === undefined) !== (server.tls === undefined)) continue;
      out.set(`${bind}_${port}`, listener);
      listener.servers.push({ gateway, server });
    }
  }
  return out;
}

type VirtualHost = MessageInitShape<typeof VirtualHostSchema>;

/** Undefined for a name that no listener of this proxy asks for. */
export function buildGatewayRoute(snapshot: Snapshot, proxy: ProxyNode, name: string): EncodedResource | undefined {
  for (const listener of gatewayListeners(snapshot, proxy).values()) {
    const plain = listener.servers.filter(({ server }) => kindOf(server) === 'http');
    const secure = listener.servers.filter(
      (bound) => kindOf(bound.server) === 'https' && secureRoute(listener, bound) === name,
    );
    const servers = plain.length > 0 && plainRoute(listener) === name ? plain : secure;
    if (servers.length > 0) return routeOf(snapshot, proxy, listener, servers, name);
  }
  return undefined;
}

function routeOf(
  snapshot: Snapshot,
  proxy: ProxyNode,
  listener: GatewayListener,
  servers: readonly BoundServer[],
  name: string,
): EncodedResource {
  const hosts = new Map<string, TranslatedRoute[]>();
  const redirected = new Set<string>();
  for (const config of snapshot.virtualServices) collect(snapshot, servers, proxy.namespace, config, hosts, redirected);
  for (const { server } of servers)
    if (server.httpsRedirect)
      for (const host of server.hosts) {
        const plain = host.slice(host.indexOf('/') + 1).toLowerCase();
        redirected.add(plain);
        if (!hosts.has(plain)) hosts.set(plain, []);
      }
  const virtualHosts: VirtualHost[] = [...hosts]
    .sort(([a], [b]) => moreSpecific(a, b))
    .map(([host, routes]) => ({
      name: `${host}:${listener.port}`,
      domains: [host],
      routes: [...routes.filter((r) => !r.catchAll), ...routes.filter((r) => r.catchAll)].map((r) => r.route),
      includeRequestAttemptCount: true,
      ...(redirected.has(host) ? { requireTls: TlsRequirement.ALL } : {}),
    }));
  if (virtualHosts.length === 0) virtualHosts.push({ name: `blackhole:${listener.port}`, domains: ['*'], routes: [] });
  return encodeResource(RouteConfigurationSchema, name, { name, virtualHosts, ...ROUTE_DEFAULTS });
}

function bindsTo(config: Config<VirtualServiceSpec>, gateway: Config<GatewaySpec>): boolean {
  const wanted = config.spec.gateways.map((g) => gatewayName(g, config.namespace));
  return (
    wanted.includes(`${gateway.namespace}/${gateway.name}`) &&
    isVisible(config.spec.exportTo, config.namespace, gateway.namespace)
  );
}

function collect(
  snapshot: Snapshot,
  servers: readonly BoundServer[],
  namespace: string,
  config: Config<VirtualServiceSpec>,
  hosts: Map<string, TranslatedRoute[]>,
  redirected: Set<string>,
): void {
  const done = new Set<string>();
  for (const { gateway, server } of servers) {
    if (config.spec.http.length === 0 || !bindsTo(config, gateway)) continue;
    const name = `${gateway.namespace}/${gateway.name}`;
    const context = {
      snapshot,
      listenerPort: server.port.number,
      secure: kindOf(server) === 'https',
      gateways: [name],
      namespace,
      labels: {},
    };
    for (const host of boundHosts(snapshot, gateway, server, config)) {
      if (server.httpsRedirect) redirected.add(host);
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
