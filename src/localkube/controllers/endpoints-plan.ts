// Which addresses stand behind a Service: EndpointSlices and Endpoints as pure functions of the Service and its pods.
// Called by endpoints.ts.
import {
  type EndpointSlice,
  SERVICE_NAME_LABEL,
  SLICE_MANAGED_BY_LABEL,
  type SliceEndpoint,
  type SlicePort,
} from '../../api/kubernetes/endpoint-slice.ts';
import type { EndpointAddress, EndpointSubset, Endpoints } from '../../api/kubernetes/endpoints.ts';
import { isPodReady, isPodTerminal, type Pod } from '../../api/kubernetes/pod.ts';
import type { Service, ServicePort } from '../../api/kubernetes/service.ts';
import { canonicalJson, controllerRef, shortHash } from './children.ts';

export const MANAGED_BY = 'endpointslice-controller.k8s.io';
export const HEADLESS_LABEL = 'service.kubernetes.io/headless';
const MAX_ENDPOINTS_PER_SLICE = 100;
/** The older kind holds no more; larger sets are cut, as in Kubernetes. */
const MAX_ADDRESSES_PER_OBJECT = 1_000;
const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity';

interface Backend {
  readonly pod: Pod;
  readonly ip: string;
  readonly endpoint: SliceEndpoint;
  readonly ports: readonly SlicePort[];
}

/** The container port a Service port means in this pod; undefined when the pod has none of that name. */
export function targetPort(port: ServicePort, pod: Pod): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target === 0 ? port.port : target;
  const protocol = port.protocol ?? 'TCP';
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  for (const container of [...pod.spec.containers, ...sidecars])
    for (const candidate of container.ports ?? [])
      if (candidate.name === target && (candidate.protocol ?? 'TCP') === protocol) return candidate.containerPort;
  return undefined;
}

function portsIn(service: Service, pod: Pod): readonly SlicePort[] {
  const ports: SlicePort[] = [];
  for (const port of service.spec.ports ?? []) {
    const number = targetPort(port, pod);
    if (number === undefined) continue;
    ports.push({
      name: port.name ?? '',
      port: number,
      protocol: port.protocol ?? 'TCP',
      ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}),
    });
  }
  return ports;
}

/** The pods that count, with their state, in a stable order. */
function backends(service: Service, pods: readonly Pod[], zoneOf: (node: string) => string | undefined): Backend[] {
  const out: Backend[] = [];
  for (const pod of pods) {
    const ip = pod.status?.podIP;
    if (!ip || isPodTerminal(pod)) continue;
    const ports = portsIn(service, pod);
    if (ports.length === 0 && (service.spec.ports ?? []).length > 0) continue;
    const { name, namespace, uid, deletionTimestamp } = pod.metadata;
    const serving = isPodReady(pod);
    const terminating = deletionTimestamp !== undefined;
    const ready = service.spec.publishNotReadyAddresses === true || (serving && !terminating);
    const zone = pod.spec.nodeName === undefined ? undefined : zoneOf(pod.spec.nodeName);
    const hostname = pod.spec.subdomain === service.metadata.name ? pod.spec.hostname : undefined;
    const endpoint: SliceEndpoint = {
      addresses: [ip],
      conditions: { ready, serving, terminating },
      ...(hostname ? { hostname } : {}),
      ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      ...(zone ? { zone } : {}),
      targetRef: { kind: 'Pod', namespace, name, uid },
    };
    out.push({ pod, ip, endpoint, ports });
  }
  return out.sort((a, b) => (a.pod.metadata.name < b.pod.metadata.name ? -1 : 1));
}

const familyOf = (ip: string): 'IPv4' | 'IPv6' => (ip.includes(':') ? 'IPv6' : 'IPv4');

/** Labels of the Service go with its endpoints; kube-proxy's and the mesh's opt-outs among them. */
function labelsOf(service: Service): Record<string, string> {
  const labels = { ...service.metadata.labels };
  if (service.spec.clusterIP === 'None') labels[HEADLESS_LABEL] = '';
  return labels;
}

/** The slices `service` shall have. Their names follow from their ports, so the same input gives the same names. */
export function desiredSlices(
  service: Service,
  pods: readonly Pod[],
  zoneOf: (node: string) => string | undefined,
): readonly EndpointSlice[] {
  const groups = new Map<
    string,
    { family: 'IPv4' | 'IPv6'; ports: readonly SlicePort[]; endpoints: SliceEndpoint[] }
  >();
  for (const backend of backends(service, pods, zoneOf)) {
    const family = familyOf(backend.ip);
    const key = family + canonicalJson(backend.ports);
    const group = groups.get(key) ?? { family, ports: backend.ports, endpoints: [] };
    group.endpoints.push(backend.endpoint);
    groups.set(key, group);
  }
  // Readers tell "no endpoints" from "not looked at yet" by an empty slice.
  if (groups.size === 0) groups.set('', { family: service.spec.ipFamilies?.[0] ?? 'IPv4', ports: [], endpoints: [] });
  const slices: EndpointSlice[] = [];
  for (const [key, group] of groups)
    for (let at = 0; at === 0 || at < group.endpoints.length; at += MAX_ENDPOINTS_PER_SLICE)
      slices.push({
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name: `${service.metadata.name}-${shortHash([key, at], 5)}`,
          generateName: `${service.metadata.name}-`,
          namespace: service.metadata.namespace,
          labels: {
            ...labelsOf(service),
            [SERVICE_NAME_LABEL]: service.metadata.name,
            [SLICE_MANAGED_BY_LABEL]: MANAGED_BY,
          },
          ownerReferences: [controllerRef(service)],
        },
        addressType: group.family,
        endpoints: group.endpoints.slice(at, at + MAX_ENDPOINTS_PER_SLICE),
        ports: group.ports,
      });
  return slices;
}

/** The Endpoints object of the same name. */
export function desiredEndpoints(service: Service, pods: readonly Pod[]): Endpoints {
  const groups = new Map<
    string,
    { ports: readonly SlicePort[]; ready: EndpointAddress[]; waiting: EndpointAddress[] }
  >();
  let count = 0;
  let cut = false;
  for (const { endpoint, ports, ip } of backends(service, pods, () => undefined)) {
    if (endpoint.conditions?.terminating && !service.spec.publishNotReadyAddresses) continue;
    if (count === MAX_ADDRESSES_PER_OBJECT) {
      cut = true;
      break;
    }
    count += 1;
    const key = canonicalJson(ports);
    const group = groups.get(key) ?? { ports, ready: [], waiting: [] };
    const { hostname, nodeName, targetRef } = endpoint;
    const address = { ip, ...(hostname ? { hostname } : {}), ...(nodeName ? { nodeName } : {}), targetRef };
    (endpoint.conditions?.ready ? group.ready : group.waiting).push(address);
    groups.set(key, group);
  }
  const byIp = (a: EndpointAddress, b: EndpointAddress): number => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0);
  const subsets: EndpointSubset[] = [...groups.values()].map((group) => ({
    ...(group.ready.length > 0 ? { addresses: group.ready.toSorted(byIp) } : {}),
    ...(group.waiting.length > 0 ? { notReadyAddresses: group.waiting.toSorted(byIp) } : {}),
    ports: group.ports.map((p) => ({ ...p, name: p.name || undefined, port: p.port ?? 0 })),
  }));
  return {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: {
      name: service.metadata.name,
      namespace: service.metadata.namespace,
      labels: { ...labelsOf(service), 'endpoints.kubernetes.io/managed-by': 'endpoint-controller' },
      ...(cut ? { annotations: { [OVER_CAPACITY]: 'truncated' } } : {}),
    },
    ...(subsets.length > 0 ? { subsets } : {}),
  };
}
