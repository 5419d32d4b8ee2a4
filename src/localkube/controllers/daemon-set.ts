// DaemonSet controller: one pod on every node that fits. Started by start.ts.
import { CONTROLLER_REVISIONS, type ControllerRevision } from '../../api/kubernetes/controller-revision.ts';
import { DAEMON_SETS, type DaemonSet } from '../../api/kubernetes/daemon-set.ts';
import { NODES, type Node } from '../../api/kubernetes/node.ts';
import { isPodTerminal, PODS, type Pod, type Toleration } from '../../api/kubernetes/pod.ts';
import { claimChildren } from './children.ts';
import { type Controller, type ControllerContext, enqueueOwner, keyOf, startController } from './context.ts';
import {
  availableIn,
  countPods,
  created,
  createPodControl,
  intOrPercent,
  podFromTemplate,
  writeStatus,
} from './pods.ts';
import { hashOf, REVISION_LABEL, syncRevisions } from './revisions.ts';
import { refusal } from './scheduler.ts';

/** Daemons stay on a node in trouble. */
const TOLERATIONS: readonly Toleration[] = [
  { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/disk-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/memory-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/pid-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/unschedulable', operator: 'Exists', effect: 'NoSchedule' },
];

function makePod(set: DaemonSet, node: string, hash: string, random: () => number): Pod {
  const { spec } = set.spec.template;
  return podFromTemplate(set, set.spec.template, {
    random,
    labels: { [REVISION_LABEL]: hash },
    // Bound here: the scheduler has no say in where a daemon runs.
    spec: { nodeName: node, tolerations: [...(spec.tolerations ?? []), ...TOLERATIONS] },
  });
}

/** True when the set's pods may run on `node`. */
export function fitsNode(set: DaemonSet, node: Node): boolean {
  const pod = makePod(set, node.metadata.name, '', () => 0);
  return refusal(pod, { ...node, spec: { ...node.spec, unschedulable: false } }) === undefined;
}

export interface DaemonInput {
  readonly set: DaemonSet;
  readonly nodes: readonly Node[];
  readonly pods: readonly Pod[];
  readonly hash: string;
  readonly now: number;
}

export interface DaemonPlan {
  /** Names of the nodes that lack a pod. */
  readonly create: readonly string[];
  readonly remove: readonly Pod[];
}

const hashIn = (pod: Pod): string => pod.metadata.labels?.[REVISION_LABEL] ?? '';

/** What is missing, too many, failed or outdated. Pure. */
export function planDaemonSet(input: DaemonInput): DaemonPlan {
  const { set, hash, now } = input;
  const wanted = input.nodes.filter((node) => fitsNode(set, node)).map((node) => node.metadata.name);
  const create: string[] = [];
  const remove: Pod[] = [];
  const settled: Pod[] = [];
  for (const node of wanted) {
    const here = input.pods.filter((p) => p.spec.nodeName === node).toSorted((a, b) => created(a) - created(b));
    const failed = here.filter((p) => isPodTerminal(p) && !p.metadata.deletionTimestamp);
    const running = here.filter((p) => !isPodTerminal(p) && !p.metadata.deletionTimestamp);
    remove.push(...failed, ...running.slice(1));
    if (running[0]) settled.push(running[0]);
    else if (here.length === failed.length) create.push(node);
  }
  remove.push(...input.pods.filter((p) => !p.metadata.deletionTimestamp && !wanted.includes(p.spec.nodeName ?? '')));
  if (set.spec.updateStrategy?.type === 'OnDelete') return { create, remove };
  const limit = intOrPercent(set.spec.updateStrategy?.rollingUpdate?.maxUnavailable, wanted.length, 'up', 1);
  const ready = (pod: Pod): boolean => availableIn(pod, set.spec.minReadySeconds ?? 0, now) === 0;
  let room = limit - (wanted.length - settled.filter(ready).length);
  for (const pod of settled.filter((p) => hashIn(p) !== hash)) {
    // An outdated pod that does not work anyway costs nothing.
    if (ready(pod) && room-- <= 0) continue;
    remove.push(pod);
  }
  return { create, remove };
}

export function daemonSetStatus(input: DaemonInput): NonNullable<DaemonSet['status']> {
  const { set, nodes, hash, now } = input;
  const wanted = new Set(nodes.filter((node) => fitsNode(set, node)).map((node) => node.metadata.name));
  const live = input.pods.filter((p) => !p.metadata.deletionTimestamp);
  const placed = live.filter((p) => wanted.has(p.spec.nodeName ?? ''));
  const counts = countPods(placed, set.spec.minReadySeconds ?? 0, now);
  return {
    ...(set.status?.conditions ? { conditions: set.status.conditions } : {}),
    currentNumberScheduled: placed.length,
    numberMisscheduled: live.length - placed.length,
    desiredNumberScheduled: wanted.size,
    numberReady: counts.ready,
    observedGeneration: set.metadata.generation,
    updatedNumberScheduled: placed.filter((p) => hashIn(p) === hash).length,
    numberAvailable: counts.available,
    numberUnavailable: wanted.size - counts.available,
  };
}

export function startDaemonSetController(context: ControllerContext): Controller {
  const sets = context.store<DaemonSet>(DAEMON_SETS);
  const pods = context.store<Pod>(PODS);
  const nodes = context.store<Node>(NODES);
  const revisions = context.store<ControllerRevision>(CONTROLLER_REVISIONS);
  const control = createPodControl(pods, context.recorder('daemonset-controller'));

  const reconcile = async (set: DaemonSet): Promise<number | undefined> => {
    const { namespace, name, uid = '' } = set.metadata;
    let mine = await claimChildren(pods, set, set.spec.selector);
    const { update } = await syncRevisions(revisions, set, new Set(mine.map(hashIn)));
    const input = (): DaemonInput => ({
      set,
      nodes: nodes.list(),
      pods: mine,
      hash: hashOf(update),
      now: context.clock.now(),
    });
    if (set.metadata.deletionTimestamp === undefined) {
      const plan = planDaemonSet(input());
      for (const pod of plan.remove) await control.delete(set, pod);
      for (const node of plan.create) await control.create(set, makePod(set, node, hashOf(update), context.random));
      mine = pods.ownedBy(namespace, uid);
    }
    await writeStatus(sets, sets.get(namespace, name) ?? set, daemonSetStatus(input()));
    return countPods(mine, set.spec.minReadySeconds ?? 0, context.clock.now()).nextAvailableMs;
  };

  return startController(context, {
    name: 'daemonset',
    async reconcile(namespace, name) {
      const set = sets.get(namespace, name);
      return set && reconcile(set);
    },
    watch: (add) => [
      sets.onChange((change) => add(keyOf(change.object))),
      pods.onChange(enqueueOwner('DaemonSet', add)),
      nodes.onChange((change) => {
        // A heartbeat changes nothing here.
        if (change.kind === 'updated' && change.object.metadata.generation === change.previous.metadata.generation) {
          const same = JSON.stringify([change.object.metadata.labels, change.object.spec]);
          if (same === JSON.stringify([change.previous.metadata.labels, change.previous.spec])) return;
        }
        for (const set of sets.list()) add(keyOf(set));
      }),
    ],
  });
}
