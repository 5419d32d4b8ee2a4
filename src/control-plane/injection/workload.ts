// Which workload a pod belongs to, as metrics and canonical labels name it. Pure.
import type { Pod } from '../../api/kubernetes/pod.ts';

export interface Workload {
  readonly name: string;
  /** `kubernetes://apis/apps/v1/namespaces/NS/deployments/D`. */
  readonly owner: string;
}

export function workloadOf(pod: Pod, namespace: string): Workload {
  const fallback = pod.metadata.name || (pod.metadata.generateName ?? '').replace(/-$/, '');
  const controller = pod.metadata.ownerReferences?.find((o) => o.controller === true);
  if (!controller) return { name: fallback, owner: url('v1', namespace, 'pods', fallback) };
  const hash = pod.metadata.labels?.['pod-template-hash'];
  if (controller.kind === 'ReplicaSet' && hash !== undefined && controller.name.endsWith(`-${hash}`)) {
    const name = controller.name.slice(0, -hash.length - 1);
    return { name, owner: url('apps/v1', namespace, 'deployments', name) };
  }
  return {
    name: controller.name,
    owner: url(controller.apiVersion, namespace, `${controller.kind.toLowerCase()}s`, controller.name),
  };
}

function url(apiVersion: string, namespace: string, resource: string, name: string): string {
  return `kubernetes://apis/${apiVersion}/namespaces/${namespace}/${resource}/${name}`;
}

export function canonicalName(labels: Readonly<Record<string, string>>, workload: string): string {
  return labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels.app ?? workload;
}
export function canonicalRevision(labels: Readonly<Record<string, string>>): string {
  return (
    labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels.version ?? 'latest'
  );
}
