// Removes pods that nobody will ever finish: bound to a node that is gone, or deleted before they were bound.
// Run once by start.ts, when the stores are in.
import { NODES, type Node } from '../../api/kubernetes/node.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { errorText } from '../../base/runtime/log.ts';
import { type ControllerContext, ignoreNotFound } from './context.ts';

/** The pods to remove at once. Pure. */
export function lostPods(pods: readonly Pod[], nodes: readonly Node[]): readonly Pod[] {
  const names = new Set(nodes.map((n) => n.metadata.name));
  return pods.filter((pod) =>
    pod.spec.nodeName ? names.size > 0 && !names.has(pod.spec.nodeName) : pod.metadata.deletionTimestamp !== undefined,
  );
}

export async function collectLostPods(context: ControllerContext): Promise<void> {
  const pods = context.store<Pod>(PODS);
  const nodes = context.store<Node>(NODES);
  await context.synced();
  for (const pod of lostPods(pods.list(), nodes.list())) {
    try {
      await ignoreNotFound(pods.delete(pod, { gracePeriodSeconds: 0 }));
    } catch (error) {
      context.log.warn('cannot remove a lost pod', { pod: pod.metadata.name, error: errorText(error) });
    }
  }
}
