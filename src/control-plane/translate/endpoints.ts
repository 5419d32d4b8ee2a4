// EDS: the addresses behind one outbound cluster, each with what a client must know about it (mtls.md §6).
import type { MessageInitShape } from '@bufbuild/protobuf';
import { HealthStatus } from '#proto/envoy/config/core/v3/health_check_pb.js';
import type { LbEndpointSchema } from '#proto/envoy/config/endpoint/v3/endpoint_components_pb.js';
import { ClusterLoadAssignmentSchema } from '#proto/envoy/config/endpoint/v3/endpoint_pb.js';
import type { Subset } from '../../api/istio/destination-rule.ts';
import type { LocalityLb } from '../../api/istio/traffic-policy.ts';
import { type EncodedResource, encodeResource } from '../../base/envoy-api/any.ts';
import { parseOutboundCluster } from '../../base/xds/names.ts';
import { type EffectivePolicy, effectivePolicy, findDestinationRule } from '../model/destination-rules.ts';
import { effectivePeerAuthentication, matches, modeOfPort } from '../model/peer-authentication.ts';
import type { ProxyNode } from '../model/proxy.ts';
import { type Endpoint, type Locality, NO_LOCALITY, type Service, type ServicePort } from '../model/services.ts';
import { labelsOf, memoize, type Snapshot } from '../model/snapshot.ts';
import { address } from './common.ts';
import { ranking, shares } from './locality.ts';

/** A name with no Service behind it gets an assignment without endpoints: never nothing. */
export function buildEndpoints(snapshot: Snapshot, proxy: ProxyNode, clusterName: string): EncodedResource {
  const workload = snapshot.workloads.get(`${proxy.namespace}/${proxy.podName}`);
  const client: Client = {
    namespace: proxy.namespace,
    clusterId: proxy.clusterId,
    locality: snapshot.localityOf(workload),
    labels: labelsOf(snapshot, proxy),
  };
  const parsed = parseOutboundCluster(clusterName);
  const service = parsed ? snapshot.servicesByHost.get(parsed.host) : undefined;
  const view = parsed && service ? viewOf(snapshot, client, service, parsed.subset, parsed.port) : undefined;
  // Only what depends on where the client is, or who it is, differs between clients of a namespace.
  const { region, zone, subZone } = client.locality;
  const own = view?.priorities
    ? `|${region}/${zone}/${subZone}|${view.locality.failoverPriority.map((l) => client.labels[l.split('=')[0] ?? '']).join()}`
    : '';
  return memoize(snapshot, `eds|${proxy.namespace}|${clusterName}${own}`, () =>
    encodeResource(
      ClusterLoadAssignmentSchema,
      clusterName,
      view && parsed ? assignment(snapshot, client, clusterName, view) : { clusterName },
    ),
  );
}

type LbEndpoint = MessageInitShape<typeof LbEndpointSchema>;

interface Client {
  readonly namespace: string;
  readonly clusterId: string;
  readonly locality: Locality;
  readonly labels: Readonly<Record<string, string>>;
}

/** What a client sees of a Service: its endpoints after the subset, and how they are to be weighed. */
interface View {
  readonly endpoints: readonly Endpoint[];
  readonly policy: EffectivePolicy;
  readonly locality: LocalityLb;
  /** Localities count: priorities or shares. */
  readonly priorities: boolean;
}

/** Undefined for a subset that no rule declares. */
function viewOf(
  snapshot: Snapshot,
  client: Pick<Client, 'namespace'>,
  service: Service,
  subsetName: string,
  port: number,
): View | undefined {
  const who = { namespace: client.namespace, rootNamespace: snapshot.mesh.rootNamespace };
  const rule = findDestinationRule(snapshot.destinationRules, who, service);
  const subset = subsetName === '' ? undefined : rule?.subsets.find((s) => s.name === subsetName);
  if (subsetName !== '' && !subset) return undefined;
  const policy = effectivePolicy(rule, subset, port);
  const locality = policy.lb?.locality ?? snapshot.mesh.localityLb;
  // Without ejection nobody would ever leave the nearest endpoints: then localities do not count.
  const priorities = locality.enabled && (locality.distribute.length > 0 || policy.outlier !== undefined);
  const endpoints = (service.endpoints.get(port) ?? []).filter(
    (e) => e.ready && (!subset || matches(subset.labels, e.workload?.labels ?? {})),
  );
  return { endpoints, policy, locality, priorities };
}

/** Endpoints of a cluster that carries them itself: names found by DNS. */
export function staticAssignment(
  snapshot: Snapshot,
  service: Service,
  port: ServicePort,
  subset: Subset | undefined,
  policy: EffectivePolicy,
  clusterName: string,
): MessageInitShape<typeof ClusterLoadAssignmentSchema> {
  const endpoints = (service.endpoints.get(port.port) ?? []).filter(
    (e) => e.ready && (!subset || matches(subset.labels, e.workload?.labels ?? {})),
  );
  const client: Client = { namespace: service.namespace, clusterId: 'Kubernetes', locality: NO_LOCALITY, labels: {} };
  const locality = { enabled: false, distribute: [], failover: [], failoverPriority: [] };
  return assignment(snapshot, client, clusterName, { endpoints, policy, locality, priorities: false });
}

function assignment(
  snapshot: Snapshot,
  client: Client,
  clusterName: string,
  view: View,
): MessageInitShape<typeof ClusterLoadAssignmentSchema> {
  const { tls } = view.policy;
  const groups = new Map<string, { locality: Locality; priority: number; endpoints: LbEndpoint[]; weight: number }>();
  const rank = view.priorities ? ranking(view, client) : () => 0;
  for (const endpoint of view.endpoints) {
    const { locality } = endpoint;
    const priority = rank(endpoint);
    const key = `${priority}/${locality.region}/${locality.zone}/${locality.subZone}`;
    const group = groups.get(key) ?? { locality, priority, endpoints: [], weight: 0 };
    groups.set(key, group);
    const mtls = tls ? tls.mode === 'ISTIO_MUTUAL' : acceptsMtls(snapshot, endpoint);
    group.weight += endpoint.weight;
    group.endpoints.push({
      hostIdentifier: { case: 'endpoint', value: { address: address(endpoint.address, endpoint.port) } },
      healthStatus: HealthStatus.HEALTHY,
      loadBalancingWeight: endpoint.weight,
      metadata: {
        filterMetadata: {
          ...(mtls ? { 'envoy.transport_socket_match': { tlsMode: 'istio' } } : {}),
          istio: { workload: workloadLabel(endpoint, client.clusterId) },
        },
      },
    });
  }
  const all = [...groups.values()];
  const weights = view.priorities ? shares(view.locality, client.locality, all) : undefined;
  return {
    clusterName,
    endpoints: all
      .map((g, i) => ({
        locality: g.locality,
        priority: g.priority,
        lbEndpoints: g.endpoints,
        loadBalancingWeight: weights?.[i] ?? g.weight,
      }))
      // A locality without a share gets nothing.
      .filter((_, i) => weights?.[i] !== 0),
  };
}

function acceptsMtls(snapshot: Snapshot, endpoint: Endpoint): boolean {
  const { workload } = endpoint;
  if (workload?.tlsMode !== 'istio' || !snapshot.mesh.enableAutoMtls) return false;
  const effective = effectivePeerAuthentication(snapshot.peerAuthentication, workload.namespace, workload.labels);
  return modeOfPort(effective, endpoint.port) !== 'DISABLE';
}

/** `<workload>;<namespace>;<canonical name>;<canonical revision>;<cluster>`: labels for telemetry before the peer has spoken. */
function workloadLabel(endpoint: Endpoint, clusterId: string): string {
  const { workload } = endpoint;
  if (!workload) return `;;;;${clusterId}`;
  const { labels } = workload;
  const name =
    labels['service.istio.io/canonical-name'] ??
    labels['app.kubernetes.io/name'] ??
    labels.app ??
    workload.workloadName;
  const revision =
    labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels.version ?? 'latest';
  return [workload.workloadName, workload.namespace, name, revision, clusterId].join(';');
}
