// A small scheduler: binds every pending pod to a node that its selector, affinity and tolerations allow.
// Started by start.ts.
import { NODES, type Node, type Taint } from '../../api/kubernetes/node.ts';
import { isPodTerminal, PODS, type Pod, type Toleration } from '../../api/kubernetes/pod.ts';
import { hasLabels, matchesFields, matchesRequirements, type Requirement } from '../../base/kube/selectors.ts';
import { type Neighbours, NO_NEIGHBOURS, neighbourRefusal } from './affinity.ts';
import { timestamp } from './children.ts';
import { setCondition } from './conditions.ts';
import { type Controller, type ControllerContext, isConflict, isNotFound, keyOf, startController } from './context.ts';
import { writeStatus } from './pods.ts';

const NAME = 'default-scheduler';

interface SelectorTerm {
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: Requirement['operator'];
    readonly values?: readonly string[];
  }[];
  readonly matchFields?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}
interface Affinity {
  readonly nodeAffinity?: {
    readonly requiredDuringSchedulingIgnoredDuringExecution?: { readonly nodeSelectorTerms?: readonly SelectorTerm[] };
  };
}

/** Why `pod` cannot run on `node`; undefined = it can. Pure. */
export function refusal(pod: Pod, node: Node): string | undefined {
  const taint = untolerated(pod, node);
  if (node.spec?.unschedulable) return 'node(s) were unschedulable';
  if (taint) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`;
  const labels = node.metadata.labels;
  const required = (pod.spec.affinity as Affinity | undefined)?.nodeAffinity
    ?.requiredDuringSchedulingIgnoredDuringExecution;
  const terms = required?.nodeSelectorTerms;
  const affine = terms === undefined || terms.some((term) => matchesTerm(term, node));
  if (!hasLabels(pod.spec.nodeSelector ?? {}, labels) || !affine)
    return "node(s) didn't match Pod's node affinity/selector";
  return undefined;
}

function matchesTerm(term: SelectorTerm, node: Node): boolean {
  const expressions = term.matchExpressions ?? [];
  const fields = term.matchFields ?? [];
  // An empty term matches nothing.
  if (expressions.length === 0 && fields.length === 0) return false;
  return (
    matchesRequirements(
      expressions.map((e) => ({ ...e, values: e.values ?? [] })),
      node.metadata.labels,
    ) &&
    fields.every((f) => {
      const any = (f.values ?? []).some((value) => matchesFields([{ path: f.key, operator: '=', value }], node));
      return f.operator === 'In' ? any : !any;
    })
  );
}

function untolerated(pod: Pod, node: Node): Taint | undefined {
  return node.spec?.taints?.find(
    (taint) => taint.effect !== 'PreferNoSchedule' && !pod.spec.tolerations?.some((t) => tolerates(t, taint)),
  );
}

function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (!toleration.key) return toleration.operator === 'Exists';
  if (toleration.key !== taint.key) return false;
  return toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? '');
}

export type Placement =
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'none'; readonly message: string };

/** The node for `pod`, or the sentence `kubectl describe` shows. Pure. */
export function place(pod: Pod, nodes: readonly Node[], neighbours: Neighbours = NO_NEIGHBOURS): Placement {
  const reasons = new Map<string, number>();
  for (const node of nodes) {
    const reason = refusal(pod, node) ?? neighbourRefusal(pod, node, neighbours);
    if (reason === undefined) return { kind: 'node', name: node.metadata.name };
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  if (nodes.length === 0) return { kind: 'none', message: 'no nodes available to schedule pods' };
  const parts = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return { kind: 'none', message: `0/${nodes.length} nodes are available: ${parts.join(', ')}.` };
}

const isWaiting = (pod: Pod): boolean =>
  !pod.spec.nodeName &&
  (pod.spec.schedulerName ?? NAME) === NAME &&
  pod.metadata.deletionTimestamp === undefined &&
  !isPodTerminal(pod);

export function startScheduler(context: ControllerContext): Controller {
  const pods = context.store<Pod>(PODS);
  const nodes = context.store<Node>(NODES);
  const recorder = context.recorder(NAME);

  /** Bound by us; the watch has not said so yet. */
  const assumed = new Map<string, Pod>();
  const uidOf = (pod: Pod): string => pod.metadata.uid ?? '';
  const neighbours: Neighbours = {
    get pods() {
      return pods.list().map((pod) => assumed.get(uidOf(pod)) ?? pod);
    },
    node: (name) => nodes.get(undefined, name),
  };

  const bind = async (pod: Pod, node: string): Promise<void> => {
    const { name, namespace, uid } = pod.metadata;
    const binding = {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, namespace, uid },
      target: { apiVersion: 'v1', kind: 'Node', name: node },
    };
    try {
      await context.client.create(PODS, binding, { subresource: 'binding' });
    } catch (error) {
      // Bound or deleted meanwhile.
      if (isConflict(error) || isNotFound(error)) return;
      throw error;
    }
    if (!pods.get(namespace, name)?.spec.nodeName)
      assumed.set(uidOf(pod), { ...pod, spec: { ...pod.spec, nodeName: node } });
    recorder.record(pod, 'Normal', 'Scheduled', `Successfully assigned ${namespace}/${name} to ${node}`);
  };

  return startController(context, {
    name: 'scheduler',
    // One after the other: each placement counts for the next.
    concurrency: 1,
    async reconcile(namespace, name) {
      const pod = pods.get(namespace, name);
      if (!pod || !isWaiting(pod) || assumed.has(uidOf(pod))) return undefined;
      const placement = place(pod, nodes.list(), neighbours);
      if (placement.kind === 'node') await bind(pod, placement.name);
      else {
        const condition = {
          type: 'PodScheduled',
          status: 'False',
          reason: 'Unschedulable',
          message: placement.message,
        } as const;
        const conditions = setCondition(pod.status?.conditions, condition, timestamp(context.clock.now()));
        await writeStatus(pods, pod, { ...pod.status, phase: pod.status?.phase ?? 'Pending', conditions });
        if (conditions !== pod.status?.conditions)
          recorder.record(pod, 'Warning', 'FailedScheduling', placement.message);
      }
      return undefined;
    },
    watch: (add) => [
      pods.onChange((change) => {
        if (change.kind === 'deleted' || change.object.spec.nodeName) assumed.delete(uidOf(change.object));
        if (change.kind !== 'deleted' && isWaiting(change.object)) add(keyOf(change.object));
        // A neighbour came to its node or left it: who was refused because of neighbours may fit now.
        const moved = change.kind === 'updated' && !change.previous.spec.nodeName && change.object.spec.nodeName;
        if (change.kind !== 'deleted' && !moved) return;
        for (const pod of pods.list())
          if (isWaiting(pod) && (pod.spec.affinity || change.kind === 'deleted')) add(keyOf(pod));
      }),
      nodes.onChange(() => {
        for (const pod of pods.list()) if (isWaiting(pod)) add(keyOf(pod));
      }),
    ],
  });
}
