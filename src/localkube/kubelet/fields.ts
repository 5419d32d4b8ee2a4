// What a pod tells its own containers about itself: fieldRef and resourceFieldRef, for environment and files. Pure.
import type { Container, ResourceFieldSelector } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { parseQuantity } from './quantity.ts';

/** Facts of the running pod that are not in its spec. */
export interface PodFacts {
  readonly podIp: string;
  readonly hostIp: string;
  /** Of the node: what an absent limit means. */
  readonly capacity: { readonly cpu: number; readonly memory: number };
}

function joinMap(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** Throws with Kubernetes' words when the path is not one of the downward API's. */
export function fieldValue(pod: Pod, facts: PodFacts, path: string): string {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(annotations|labels)\['(.+)'\]$/.exec(path);
  if (keyed) return metadata[keyed[1] as 'annotations' | 'labels']?.[keyed[2]!] ?? '';
  switch (path) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace ?? '';
    case 'metadata.uid':
      return metadata.uid ?? '';
    case 'metadata.labels':
      return joinMap(metadata.labels);
    case 'metadata.annotations':
      return joinMap(metadata.annotations);
    case 'spec.nodeName':
      return spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return spec.serviceAccountName ?? spec.serviceAccount ?? '';
    case 'status.podIP':
    case 'status.podIPs':
      return facts.podIp;
    case 'status.hostIP':
    case 'status.hostIPs':
      return facts.hostIp;
    default:
      throw new Error(`unsupported fieldPath: ${path}`);
  }
}

/** The value divided by the divisor and rounded up, as the kubelet does. */
export function resourceValue(pod: Pod, own: Container, ref: ResourceFieldSelector, facts: PodFacts): string {
  const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
  const container = ref.containerName ? all.find((c) => c.name === ref.containerName) : own;
  if (!container) throw new Error(`container ${ref.containerName} not found`);
  const [kind = '', ...rest] = ref.resource.split('.');
  const name = rest.join('.');
  if ((kind !== 'limits' && kind !== 'requests') || !['cpu', 'memory', 'ephemeral-storage'].includes(name))
    throw new Error(`unsupported container resource : ${ref.resource}`);
  const stated = container.resources?.[kind]?.[name];
  const capacity = name === 'cpu' ? facts.capacity.cpu : name === 'memory' ? facts.capacity.memory : 0;
  const value = stated === undefined ? (kind === 'limits' ? capacity : 0) : (parseQuantity(stated) ?? 0);
  // A divisor of 0 (or none) means 1.
  const divisor = parseQuantity(ref.divisor ?? 1) || 1;
  return String(Math.ceil(Number((value / divisor).toPrecision(12))));
}
