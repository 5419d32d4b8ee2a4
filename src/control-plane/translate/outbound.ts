// Outbound listeners of a sidecar: virtualOutbound, one per HTTP port, one per TCP or undeclared Service port (traffic.md §1).
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import {
  BLACKHOLE_CLUSTER,
  OUTBOUND_CAPTURE_PORT,
  PASSTHROUGH_CLUSTER,
  VIRTUAL_OUTBOUND,
} from '../../base/xds/names.ts';
import { classOf } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { memoize, type Snapshot } from '../model/snapshot.ts';
import { listenerLogs } from './access-log.ts';
import { address, protoDuration, ZERO } from './common.ts';
import { httpConnectionManager, tcpFilters, tcpProxy } from './filters.ts';
import { PLAIN_HTTP } from './inbound.ts';
import { httpInspector, originalDst, tlsInspector } from './listener-filters.ts';
import { outboundPorts } from './ports.ts';
import { type Client, clientOf, virtualServiceFor } from './routes.ts';
import { type Chain, distinctChains, l4Chains, serviceTarget } from './tcp-routes.ts';

/** A headless TCP Service gets a listener per pod address, up to this many. */
const MAX_HEADLESS_LISTENERS = 1000;
const ANY_ADDRESS = '0.0.0.0';

export function buildOutboundListeners(snapshot: Snapshot, proxy: ProxyNode): readonly EncodedResource[] {
  const client = clientOf(snapshot, proxy);
  return memoize(snapshot, `lds|${client.key}|${proxy.interceptionMode}`, () => {
    const out = new Map<string, EncodedResource>();
    /** Ports of bytes by listener: several names may share one (told apart by SNI). */
    const streams = new Map<string, { readonly ip: string; readonly port: number; readonly chains: Chain[] }>();
    for (const { service, port } of outboundPorts(snapshot, proxy.namespace)) {
      const kind = classOf(port.protocol);
      if (kind === 'http') {
        const name = `0.0.0.0_${port.port}`;
        if (!out.has(name) && !streams.has(name)) out.set(name, httpListener(snapshot, port.port));
        continue;
      }
      for (const ip of listenAddresses(service, port)) {
        const name = `${ip}_${port.port}`;
        // The first (by host name) keeps an address and port that two Services claim.
        if (out.has(name)) continue;
        if (kind === 'auto') {
          if (!streams.has(name)) out.set(name, sniffedListener(snapshot, client, service, port, ip));
          continue;
        }
        const stream = streams.get(name) ?? { ip, port: port.port, chains: [] };
        streams.set(name, stream);
        stream.chains.push(...streamChains(snapshot, client, service, port, ip));
      }
    }
    for (const [name, stream] of streams) out.set(name, streamListener(snapshot, name, stream));
    return [virtualOutbound(snapshot, proxy), ...out.values()];
  });
}

function listenAddresses(service: Service, port: ServicePort): readonly string[] {
  if (service.origin === 'entry') return service.addresses.length > 0 ? service.addresses : [ANY_ADDRESS];
  if (!service.headless) return service.addresses;
  const ready = (service.endpoints.get(port.port) ?? []).filter((e) => e.ready);
  return [...new Set(ready.slice(0, MAX_HEADLESS_LISTENERS).map((e) => e.address))];
}

function fallback(snapshot: Snapshot): string {
  return snapshot.mesh.outboundTrafficPolicy === 'ALLOW_ANY' ? PASSTHROUGH_CLUSTER : BLACKHOLE_CLUSTER;
}

function virtualOutbound(snapshot: Snapshot, proxy: ProxyNode): EncodedResource {
  const { mesh } = snapshot;
  return encodeResource(ListenerSchema, VIRTUAL_OUTBOUND, {
    name: VIRTUAL_OUTBOUND,
    address: address('0.0.0.0', OUTBOUND_CAPTURE_PORT),
    trafficDirection: TrafficDirection.OUTBOUND,
    useOriginalDst: true,
    filterChains: [
      {
        name: 'virtualOutbound-blackhole',
        filterChainMatch: { destinationPort: OUTBOUND_CAPTURE_PORT },
        filters: [tcpProxy(mesh, BLACKHOLE_CLUSTER)],
      },
      { name: 'virtualOutbound-catchall-tcp', filters: tcpFilters(mesh, 'outbound', fallback(snapshot)) },
    ],
    accessLog: listenerLogs(mesh),
    listenerFilters: [originalDst()],
    ...(proxy.interceptionMode === 'TPROXY' ? { transparent: true } : {}),
  });
}

function inspected(snapshot: Snapshot, http = true) {
  const ms = snapshot.mesh.protocolDetectionTimeoutMs;
  return {
    listenerFilters: [tlsInspector(), ...(http ? [httpInspector()] : [])],
    listenerFiltersTimeout: ms > 0 ? protoDuration(ms) : ZERO,
    continueOnListenerFiltersTimeout: true,
  };
}

/** All HTTP Services of a port share one listener; their hosts are told apart by the route. Other bytes pass through as TCP. */
function httpListener(snapshot: Snapshot, port: number): EncodedResource {
  const { mesh } = snapshot;
  const name = `0.0.0.0_${port}`;
  const cluster = fallback(snapshot);
  return encodeResource(ListenerSchema, name, {
    name,
    address: address('0.0.0.0', port),
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
    ...inspected(snapshot),
    filterChains: [
      {
        filterChainMatch: { transportProtocol: 'raw_buffer', applicationProtocols: [...PLAIN_HTTP] },
        filters: [httpConnectionManager(mesh, 'outbound', `outbound_${name};`, { kind: 'rds', name: String(port) })],
      },
    ],
    defaultFilterChain: { name: 'PassthroughFilterChain', filters: tcpFilters(mesh, 'outbound', cluster) },
    accessLog: listenerLogs(mesh),
  });
}

/** A port whose protocol is found out per connection. */
function sniffedListener(
  snapshot: Snapshot,
  client: Client,
  service: Service,
  port: ServicePort,
  ip: string,
): EncodedResource {
  const { mesh } = snapshot;
  const name = `${ip}_${port.port}`;
  const route = `${service.host}:${port.port}`;
  const [fallback] = streamChains(snapshot, client, service, port, ip).filter((c) => !c.filterChainMatch);
  return encodeResource(ListenerSchema, name, {
    name,
    address: address(ip, port.port),
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
    ...inspected(snapshot),
    filterChains: [
      {
        filterChainMatch: { transportProtocol: 'raw_buffer', applicationProtocols: [...PLAIN_HTTP] },
        filters: [httpConnectionManager(mesh, 'outbound', `outbound_${name};`, { kind: 'rds', name: route })],
      },
    ],
    ...(fallback ? { defaultFilterChain: fallback } : {}),
    accessLog: listenerLogs(mesh),
  });
}

/** The chains of one Service's TCP or TLS port. */
function streamChains(
  snapshot: Snapshot,
  client: Client,
  service: Service,
  port: ServicePort,
  ip: string,
): readonly Chain[] {
  const config = virtualServiceFor(snapshot, client.namespace, service.host);
  const context = {
    snapshot,
    listenerPort: port.port,
    gateways: ['mesh'],
    ...client,
    direction: 'outbound' as const,
  };
  const isTls = port.protocol === 'HTTPS' || port.protocol === 'TLS';
  const rules = config
    ? l4Chains(config, isTls && config.spec.tls.length > 0 ? config.spec.tls : config.spec.tcp, context)
    : [];
  if (rules.some((chain) => !chain.filterChainMatch || Object.keys(chain.filterChainMatch).length === 0)) return rules;
  const own: Chain = {
    filters: tcpFilters(snapshot.mesh, 'outbound', serviceTarget(snapshot, client.namespace, service, port)),
  };
  // Names without an address share the port: only the name the client asks for tells them apart.
  const shared = isTls && ip === ANY_ADDRESS;
  return [...rules, shared ? { ...own, filterChainMatch: { serverNames: [service.host] } } : own];
}

function streamListener(
  snapshot: Snapshot,
  name: string,
  stream: { readonly ip: string; readonly port: number; readonly chains: readonly Chain[] },
): EncodedResource {
  const chains = distinctChains(stream.chains);
  const rest = chains.find((c) => !c.filterChainMatch || Object.keys(c.filterChainMatch).length === 0);
  const matching = chains.filter((c) => c !== rest);
  const byName = matching.some((c) => (c.filterChainMatch?.serverNames?.length ?? 0) > 0);
  const passOn = stream.ip === ANY_ADDRESS && !rest;
  return encodeResource(ListenerSchema, name, {
    name,
    address: address(stream.ip, stream.port),
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
    ...(byName ? inspected(snapshot, false) : {}),
    filterChains: rest ? [...matching, rest] : matching,
    ...(passOn
      ? {
          defaultFilterChain: {
            name: 'PassthroughFilterChain',
            filters: tcpFilters(snapshot.mesh, 'outbound', fallback(snapshot)),
          },
        }
      : {}),
    accessLog: listenerLogs(snapshot.mesh),
  });
}
