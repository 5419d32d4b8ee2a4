// Required affinity between pods: which other pods must, or must not, share a topology with this one. Pure.
// Called by scheduler.ts.
import type { LabelSelector } from '../../api/kubernetes/label-selector.ts';
import type { Node } from '../../api/kubernetes/node.ts';
import { isPodTerminal, type Pod } from '../../api/kubernetes/pod.ts';
import { matchesLabelSelector } from '../../base/kube/selectors.ts';

interface PodTerm {
  readonly labelSelector?: LabelSelector;
  readonly namespaces?: readonly string[];
  /** Only the empty one, all namespaces, can be decided here. */
  readonly namespaceSelector?: LabelSelector;
  readonly topologyKey: string;
}
interface Rules {
  readonly requiredDuringSchedulingIgnoredDuringExecution?: readonly PodTerm[];
}
interface PodAffinity {
  readonly podAffinity?: Rules;
  readonly podAntiAffinity?: Rules;
}

/** The pods that run or are about to, and the nodes, by which a placement is judged. */
export interface Neighbours {
  readonly pods: readonly Pod[];
  readonly node: (name: string) => Node | undefined;
}

export const NO_NEIGHBOURS: Neighbours = { pods: [], node: () => undefined };

const termsOf = (pod: Pod, kind: keyof PodAffinity): readonly PodTerm[] =>
  (pod.spec.affinity as PodAffinity | undefined)?.[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? [];

/** Does the term of `owner` speak of `other`? */
function names(term: PodTerm, owner: Pod, other: Pod): boolean {
  const everywhere = term.namespaceSelector !== undefined && Object.keys(term.namespaceSelector).length === 0;
  const listed = term.namespaces?.length ? term.namespaces : [owner.metadata.namespace];
  if (!everywhere && !listed.some((namespace) => namespace === other.metadata.namespace)) return false;
  return term.labelSelector !== undefined && matchesLabelSelector(term.labelSelector, other.metadata.labels);
}

/** Why `pod` may not run on `node` beside its neighbours; undefined = it may. */
export function neighbourRefusal(pod: Pod, node: Node, neighbours: Neighbours): string | undefined {
  const placed = neighbours.pods.filter(
    (p) => p.spec.nodeName && !isPodTerminal(p) && p.metadata.uid !== pod.metadata.uid,
  );
  const together = (other: Pod, key: string): boolean => {
    const value = node.metadata.labels?.[key];
    const theirs = neighbours.node(other.spec.nodeName ?? '')?.metadata.labels?.[key];
    return value !== undefined && value === theirs;
  };
  for (const term of termsOf(pod, 'podAffinity')) {
    if (term.namespaceSelector && Object.keys(term.namespaceSelector).length > 0)
      return 'node(s) could not be judged: podAffinity.namespaceSelector is not supported by localkube';
    const matching = placed.filter((other) => names(term, pod, other));
    // The first of a group that wants its own company would wait for ever.
    const first =
      matching.length === 0 && names(term, pod, pod) && node.metadata.labels?.[term.topologyKey] !== undefined;
    if (!first && !matching.some((other) => together(other, term.topologyKey)))
      return "node(s) didn't match pod affinity rules";
  }
  for (const term of termsOf(pod, 'podAntiAffinity')) {
    if (term.namespaceSelector && Object.keys(term.namespaceSelector).length > 0)
      return 'node(s) could not be judged: podAntiAffinity.namespaceSelector is not supported by localkube';
    if (placed.some((other) => names(term, pod, other) && together(other, term.topologyKey)))
      return "node(s) didn't match pod anti-affinity rules";
  }
  const rejected = placed.some((other) =>
    termsOf(other, 'podAntiAffinity').some((term) => names(term, other, pod) && together(other, term.topologyKey)),
  );
  return rejected ? "node(s) didn't satisfy existing pods anti-affinity rules" : undefined;
}
