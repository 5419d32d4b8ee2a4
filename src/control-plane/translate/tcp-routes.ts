// Filter chains of TCP and TLS ports: by VirtualService tcp and tls routes, else straight to the Service (traffic.md §4.5).
// Called by outbound.ts (sidecars) and gateway.ts.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  FilterChainMatchSchema,
  FilterChainSchema,
} from '#proto/envoy/config/listener/v3/listener_components_pb.js';
import type { Destination, L4Match, L4Route, VirtualServiceSpec } from '../../api/istio/virtual-service.ts';
import { outboundCluster } from '../../base/xds/names.ts';
import type { Config } from '../config/store.ts';
import { effectivePolicy, findDestinationRule } from '../model/destination-rules.ts';
import type { Service, ServicePort } from '../model/services.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { type Direction, type TcpTarget, tcpFilters } from './filters.ts';
import { hashKey } from './hash-policy.ts';
import { destinationOf, fromSource, gatewayName } from './http-routes.ts';

export type Chain = Extract<MessageInitShape<typeof FilterChainSchema>, { readonly $typeName?: undefined }>;
type ChainMatch = Extract<MessageInitShape<typeof FilterChainMatchSchema>, { readonly $typeName?: undefined }>;

export interface L4Context {
  readonly snapshot: Snapshot;
  readonly listenerPort: number;
  readonly gateways: readonly string[];
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly direction: Direction;
}

/** Chains of the rules that apply, in order. TLS rules match the name the client asks for. */
export function l4Chains(
  config: Config<VirtualServiceSpec>,
  routes: readonly L4Route[],
  context: L4Context,
): readonly Chain[] {
  return routes.flatMap((route) => {
    const filters = tcpFilters(context.snapshot.mesh, context.direction, targetOf(config, route, context));
    if (route.matches.length === 0) return [{ filters }];
    return route.matches
      .filter((match) => applies(match, config, context))
      .map((match): Chain => ({ filterChainMatch: chainMatch(match), filters }));
  });
}

function applies(match: L4Match, config: Config<VirtualServiceSpec>, context: L4Context): boolean {
  if (match.port !== undefined && match.port !== context.listenerPort) return false;
  if (match.gateways.length > 0)
    return match.gateways.some((g) => context.gateways.includes(gatewayName(g, config.namespace)));
  return fromSource(match, context);
}

function chainMatch(match: L4Match): NonNullable<ChainMatch> {
  return {
    ...(match.sniHosts.length > 0 ? { serverNames: match.sniHosts.filter((s) => s !== '*') } : {}),
    ...(match.destinationSubnets.length > 0 ? { prefixRanges: match.destinationSubnets.map(rangeOf) } : {}),
  };
}

function rangeOf(subnet: string) {
  const [addressPrefix = '', bits] = subnet.split('/');
  const whole = addressPrefix.includes(':') ? 128 : 32;
  return { addressPrefix, prefixLen: bits === undefined ? whole : Number(bits) };
}

function targetOf(config: Config<VirtualServiceSpec>, route: L4Route, context: L4Context): TcpTarget {
  const used = route.destinations.length > 1 ? route.destinations.filter((d) => d.weight > 0) : route.destinations;
  const clusters = used.map((d: Destination) => ({
    ...destinationOf(d, config, context),
    weight: used.length === 1 ? 1 : d.weight,
    subset: d.subset,
  }));
  const [first] = clusters;
  return {
    clusters: clusters.map((c) => ({ name: c.cluster, weight: c.weight })),
    ...(first ? settingsOf(context.snapshot, context.namespace, first.host, first.port, first.subset) : {}),
  };
}

/** What the DestinationRule says about connections of bytes. */
function settingsOf(
  snapshot: Snapshot,
  namespace: string,
  host: string,
  port: number,
  subsetName: string,
): Pick<TcpTarget, 'hashSourceIp' | 'idleTimeoutMs' | 'maxDurationMs'> {
  const service = snapshot.servicesByHost.get(host);
  if (!service) return {};
  const client = { namespace, rootNamespace: snapshot.mesh.rootNamespace };
  const rule = findDestinationRule(snapshot.destinationRules, client, service);
  const subset = rule?.subsets.find((s) => s.name === subsetName);
  const { pool } = effectivePolicy(rule, subset, port);
  const idle = pool?.tcpIdleTimeoutMs;
  const longest = pool?.maxConnectionDurationMs;
  const key = hashKey(snapshot, namespace, { host, port, destination: { subset: subsetName } });
  return {
    ...(key?.kind === 'source-ip' ? { hashSourceIp: true } : {}),
    ...(idle === undefined ? {} : { idleTimeoutMs: idle }),
    ...(longest === undefined ? {} : { maxDurationMs: longest }),
  };
}

/** All connections of a port go to its Service. */
export function serviceTarget(snapshot: Snapshot, namespace: string, service: Service, port: ServicePort): TcpTarget {
  return {
    clusters: [{ name: outboundCluster(port.port, '', service.host), weight: 1 }],
    ...settingsOf(snapshot, namespace, service.host, port.port, ''),
  };
}

/** Envoy refuses two chains with the same conditions: the first keeps them. */
export function distinctChains(chains: readonly Chain[]): Chain[] {
  const seen = new Set<string>();
  return chains.filter((chain) => {
    const key = JSON.stringify(chain.filterChainMatch ?? {});
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
