// RDS of sidecars: one virtual host per Service (and per VirtualService host) of a port (traffic.md §3).
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import type { VirtualServiceSpec } from '../../api/istio/virtual-service.ts';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import { outboundCluster, PASSTHROUGH_CLUSTER } from '../../base/xds/names.ts';
import type { Config } from '../config/store.ts';
import { hostMatches, isVisible, moreSpecific, resolveHost } from '../model/hosts.ts';
import { classOf } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { labelsOf, memoize, type Snapshot } from '../model/snapshot.ts';
import { ZERO } from './common.ts';
import { hashPolicies } from './hash-policy.ts';
import { defaultRoute, translateHttpRoutes } from './http-routes.ts';
import { outboundPorts } from './ports.ts';

type VirtualHost = MessageInitShape<typeof VirtualHostSchema>;

const MAX_DIRECT_RESPONSE_BYTES = 1024 * 1024;
/** VirtualService hosts that no Service has are reachable on this port. */
const DEFAULT_HTTP_PORT = 80;

export const ROUTE_DEFAULTS = {
  validateClusters: false,
  maxDirectResponseBodySizeBytes: MAX_DIRECT_RESPONSE_BYTES,
  ignorePortInHostMatching: true,
} as const;

/** Undefined for a name that is no route of this proxy. */
export function buildRoute(snapshot: Snapshot, proxy: ProxyNode, name: string): EncodedResource | undefined {
  const client = clientOf(snapshot, proxy);
  return memoize(snapshot, `rds|${client.key}|${name}`, () => {
    const hosts = /^\d{1,5}$/.test(name)
      ? portHosts(snapshot, client, Number(name))
      : sniffedHost(snapshot, client, name);
    if (!hosts) return undefined;
    return encodeResource(RouteConfigurationSchema, name, { name, virtualHosts: hosts, ...ROUTE_DEFAULTS });
  });
}

function portHosts(snapshot: Snapshot, client: Client, port: number): VirtualHost[] {
  const { namespace } = client;
  const hosts: VirtualHost[] = [];
  const used = new Set<string>();
  const add = (name: string, domains: readonly string[], routes: VirtualHost['routes']): void => {
    // A domain may appear once in a route configuration; the first keeps it.
    const free = domains.filter((d) => !used.has(d));
    for (const domain of free) used.add(domain);
    if (free.length > 0) hosts.push({ name, domains: free, routes, includeRequestAttemptCount: true });
  };
  for (const { service, port: servicePort } of outboundPorts(snapshot, namespace)) {
    if (servicePort.port !== port || classOf(servicePort.protocol) === 'tcp') continue;
    add(
      `${service.host}:${port}`,
      domainsOf(service, namespace, snapshot.domain),
      serviceRoutes(snapshot, client, service, servicePort),
    );
  }
  if (port === DEFAULT_HTTP_PORT) {
    for (const config of meshVirtualServices(snapshot, namespace)) {
      for (const host of config.spec.hosts) {
        const resolved = resolveHost(host, config.namespace, snapshot.domain);
        if (snapshot.servicesByHost.has(resolved) || config.spec.http.length === 0) continue;
        add(`${resolved}:${port}`, [resolved], rulesOf(snapshot, client, config, port));
      }
    }
  }
  hosts.push(catchAll(snapshot));
  return hosts;
}

/** A port without declared protocol has a listener of its own, so every host is that Service. */
function sniffedHost(snapshot: Snapshot, client: Client, name: string): VirtualHost[] | undefined {
  const { namespace } = client;
  const colon = name.lastIndexOf(':');
  const service = snapshot.servicesByHost.get(name.slice(0, colon));
  const port = service?.ports.find((p) => p.port === Number(name.slice(colon + 1)));
  if (!service || !port || !isVisible(service.exportTo, service.namespace, namespace)) return undefined;
  const routes = serviceRoutes(snapshot, client, service, port);
  return [{ name, domains: ['*'], routes, includeRequestAttemptCount: true }];
}

function serviceRoutes(snapshot: Snapshot, client: Client, service: Service, port: ServicePort): VirtualHost['routes'] {
  const { namespace } = client;
  const config = virtualServiceFor(snapshot, namespace, service.host);
  if (config && config.spec.http.length > 0) return rulesOf(snapshot, client, config, port.port);
  const hash = hashPolicies(snapshot, namespace, { host: service.host, port: port.port });
  return [defaultRoute(outboundCluster(port.port, '', service.host), `${service.host}:${port.port}/*`, hash)];
}

function rulesOf(
  snapshot: Snapshot,
  client: Client,
  config: Config<VirtualServiceSpec>,
  port: number,
): VirtualHost['routes'] {
  const context = { snapshot, listenerPort: port, gateways: ['mesh'], ...client };
  return translateHttpRoutes(config, context).map((r) => r.route);
}

/** Oldest first. */
export function meshVirtualServices(snapshot: Snapshot, namespace: string): readonly Config<VirtualServiceSpec>[] {
  return memoize(snapshot, `vs|${namespace}`, () =>
    snapshot.virtualServices.filter(
      (c) =>
        (c.spec.gateways.length === 0 || c.spec.gateways.includes('mesh')) &&
        isVisible(c.spec.exportTo, c.namespace, namespace),
    ),
  );
}

/** The most specific host wins, then the oldest; VirtualServices are never merged in a sidecar. */
export function virtualServiceFor(
  snapshot: Snapshot,
  namespace: string,
  host: string,
): Config<VirtualServiceSpec> | undefined {
  let best: { readonly config: Config<VirtualServiceSpec>; readonly host: string } | undefined;
  for (const config of meshVirtualServices(snapshot, namespace)) {
    for (const entry of config.spec.hosts) {
      const resolved = resolveHost(entry, config.namespace, snapshot.domain);
      if (!hostMatches(resolved, host)) continue;
      if (!best || moreSpecific(resolved, best.host) < 0) best = { config, host: resolved };
    }
  }
  return best?.config;
}

function domainsOf(service: Service, namespace: string, domain: string): readonly string[] {
  const { name, namespace: own } = service;
  if (service.origin === 'entry') return [service.host, ...service.addresses.map(bracketed)];
  const names = [
    service.host,
    `${service.host}.`,
    ...(own === namespace ? [name] : []),
    `${name}.${own}.svc`,
    `${name}.${own}`,
  ];
  // A one-word cluster domain would make `name.ns.svc` and the full name equal.
  const unique = [...new Set(names)].filter((n) => n !== '' && n !== domain);
  if (service.headless) return [...unique, ...unique.map((n) => `*.${n}`)];
  return [...unique, ...service.addresses.map(bracketed)];
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

/** The client side of a proxy: what its routes may depend on. */
export interface Client {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Equal keys: equal routes. */
  readonly key: string;
}

export function clientOf(snapshot: Snapshot, proxy: ProxyNode): Client {
  const { namespace } = proxy;
  if (!snapshot.dependsOnLabels) return { namespace, labels: {}, key: namespace };
  const labels = labelsOf(snapshot, proxy);
  return { namespace, labels, key: `${namespace}|${JSON.stringify(Object.entries(labels).sort())}` };
}

function catchAll(snapshot: Snapshot): VirtualHost {
  if (snapshot.mesh.outboundTrafficPolicy === 'REGISTRY_ONLY')
    return {
      name: 'block_all',
      domains: ['*'],
      includeRequestAttemptCount: true,
      routes: [
        {
          name: 'block_all',
          match: { pathSpecifier: { case: 'prefix', value: '/' } },
          action: { case: 'directResponse', value: { status: 502 } },
        },
      ],
    };
  return {
    name: 'allow_any',
    domains: ['*'],
    includeRequestAttemptCount: true,
    routes: [
      {
        name: 'allow_any',
        match: { pathSpecifier: { case: 'prefix', value: '/' } },
        action: {
          case: 'route',
          value: {
            clusterSpecifier: { case: 'cluster', value: PASSTHROUGH_CLUSTER },
            timeout: ZERO,
            maxStreamDuration: { maxStreamDuration: ZERO, grpcTimeoutHeaderMax: ZERO },
          },
        },
      },
    ],
  };
}
