// Outbound listeners of a sidecar: virtualOutbound, one per HTTP port, one per TCP or undeclared Service port (traffic.md §1).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { TrafficDirection } from '#proto/envoy/config/core/v3/base_pb.js';
import type { FilterChainSchema } from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import {
  BLACKHOLE_CLUSTER,
  OUTBOUND_CAPTURE_PORT,
  outboundCluster,
  PASSTHROUGH_CLUSTER,
  VIRTUAL_OUTBOUND,
} from '../../base/xds/names.ts';
import { isVisible } from '../model/hosts.ts';
import { classOf } from '../model/protocol.ts';
import type { ProxyNode } from '../model/proxy.ts';
import type { Service, ServicePort } from '../model/services.ts';
import { memoize, type Snapshot } from '../model/snapshot.ts';
import { listenerLogs } from './access-log.ts';
import { address, protoDuration, ZERO } from './common.ts';
import { httpConnectionManager, tcpFilters, tcpProxy } from './filters.ts';
import { PLAIN_HTTP } from './inbound.ts';
import { httpInspector, originalDst, tlsInspector } from './listener-filters.ts';

type Chain = MessageInitShape<typeof FilterChainSchema>;

/** A headless TCP Service gets a listener per pod address, up to this many. */
const MAX_HEADLESS_LISTENERS = 1000;

export function buildOutboundListeners(snapshot: Snapshot, proxy: ProxyNode): readonly EncodedResource[] {
  return memoize(snapshot, `lds|${proxy.namespace}|${proxy.interceptionMode}`, () => {
    const out = new Map<string, EncodedResource>();
    for (const { service, port } of outboundPorts(snapshot, proxy.namespace)) {
      const kind = classOf(port.protocol);
      if (kind === 'http') {
        const name = `0.0.0.0_${port.port}`;
        if (!out.has(name)) out.set(name, httpListener(snapshot, port.port));
        continue;
      }
      for (const ip of listenAddresses(service, port)) {
        const name = `${ip}_${port.port}`;
        // The first (by host name) keeps an address and port that two Services claim.
        if (!out.has(name)) out.set(name, serviceListener(snapshot, service, port, ip));
      }
    }
    return [virtualOutbound(snapshot, proxy), ...out.values()];
  });
}

export function outboundPorts(
  snapshot: Snapshot,
  namespace: string,
): readonly { readonly service: Service; readonly port: ServicePort }[] {
  return memoize(snapshot, `ports|${namespace}`, () =>
    snapshot.services
      .filter((s) => isVisible(s.exportTo, s.namespace, namespace))
      .flatMap((service) => service.ports.filter((p) => p.protocol !== 'UDP').map((port) => ({ service, port }))),
  );
}

function listenAddresses(service: Service, port: ServicePort): readonly string[] {
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

function inspected(snapshot: Snapshot) {
  const ms = snapshot.mesh.protocolDetectionTimeoutMs;
  return {
    listenerFilters: [tlsInspector(), httpInspector()],
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

/** A TCP port, or one whose protocol is found out per connection. */
function serviceListener(snapshot: Snapshot, service: Service, port: ServicePort, ip: string): EncodedResource {
  const { mesh } = snapshot;
  const name = `${ip}_${port.port}`;
  const cluster = outboundCluster(port.port, '', service.host);
  const tcp: Chain = { filters: tcpFilters(mesh, 'outbound', cluster) };
  const auto = classOf(port.protocol) === 'auto';
  const route = `${service.host}:${port.port}`;
  return encodeResource(ListenerSchema, name, {
    name,
    address: address(ip, port.port),
    trafficDirection: TrafficDirection.OUTBOUND,
    bindToPort: false,
    ...(auto
      ? {
          ...inspected(snapshot),
          filterChains: [
            {
              filterChainMatch: { transportProtocol: 'raw_buffer', applicationProtocols: [...PLAIN_HTTP] },
              filters: [httpConnectionManager(mesh, 'outbound', `outbound_${name};`, { kind: 'rds', name: route })],
            },
          ],
          defaultFilterChain: tcp,
        }
      : { filterChains: [tcp] }),
    accessLog: listenerLogs(mesh),
  });
}
