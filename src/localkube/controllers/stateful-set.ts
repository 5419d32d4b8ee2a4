// StatefulSet controller: numbered pods with stable names, in order or all at once. Started by start.ts.
import { CONTROLLER_REVISIONS, type ControllerRevision } from '../../api/kubernetes/controller-revision.ts';
import { isPodReady, isPodTerminal, PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { STATEFUL_SETS, type StatefulSet } from '../../api/kubernetes/stateful-set.ts';
import { claimChildren } from './children.ts';
import { type Controller, type ControllerContext, enqueueOwner, keyOf, startController } from './context.ts';
import { availableIn, countPods, createPodControl, type PodControl, podFromTemplate, writeStatus } from './pods.ts';
import { hashOf, REVISION_LABEL, syncRevisions, templateOf } from './revisions.ts';

export const POD_NAME_LABEL = 'statefulset.kubernetes.io/pod-name';
export const POD_INDEX_LABEL = 'apps.kubernetes.io/pod-index';

export type StatefulAction =
  | { readonly kind: 'create'; readonly ordinal: number; readonly revision: string }
  | { readonly kind: 'delete'; readonly pod: Pod };

export interface StatefulInput {
  readonly set: StatefulSet;
  readonly pods: readonly Pod[];
  readonly currentRevision: string;
  readonly updateRevision: string;
  readonly now: number;
}

/** The number at the end of the pod's name; undefined when the name is not one of the set's. */
export function ordinalOf(set: StatefulSet, pod: Pod): number | undefined {
  const prefix = `${set.metadata.name}-`;
  const tail = pod.metadata.name.startsWith(prefix) ? pod.metadata.name.slice(prefix.length) : '';
  return /^(0|[1-9]\d{0,8})$/.test(tail) ? Number(tail) : undefined;
}

const revisionIn = (pod: Pod): string => pod.metadata.labels?.[REVISION_LABEL] ?? '';

/** What to do next. With ordered management one step at a time, each waiting for the pods before it. Pure. */
export function planStatefulSet(input: StatefulInput): readonly StatefulAction[] {
  const { set, currentRevision, updateRevision, now } = input;
  const first = set.spec.ordinals?.start ?? 0;
  const end = first + (set.spec.replicas ?? 1);
  const ordered = set.spec.podManagementPolicy !== 'Parallel';
  const minReady = set.spec.minReadySeconds ?? 0;
  const byOrdinal = new Map<number, Pod>();
  for (const pod of input.pods) {
    const ordinal = ordinalOf(set, pod);
    if (ordinal !== undefined) byOrdinal.set(ordinal, pod);
  }
  const partition = set.spec.updateStrategy?.rollingUpdate?.partition ?? 0;
  const rolling = set.spec.updateStrategy?.type !== 'OnDelete';
  const actions: StatefulAction[] = [];
  for (let ordinal = first; ordinal < end; ordinal++) {
    const pod = byOrdinal.get(ordinal);
    if (!pod) {
      const old = rolling && ordinal < first + partition && currentRevision !== '';
      actions.push({ kind: 'create', ordinal, revision: old ? currentRevision : updateRevision });
    } else if (isPodTerminal(pod) && !pod.metadata.deletionTimestamp) actions.push({ kind: 'delete', pod });
    else if (!ordered || (availableIn(pod, minReady, now) === 0 && !pod.metadata.deletionTimestamp)) continue;
    if (ordered) return actions;
  }
  const condemned = [...byOrdinal].filter(([n]) => n < first || n >= end).sort(([a], [b]) => b - a);
  for (const [, pod] of condemned) {
    if (!pod.metadata.deletionTimestamp) actions.push({ kind: 'delete', pod });
    if (ordered) return actions;
  }
  if (actions.length > 0 || !rolling) return actions;
  // The update goes from the highest number down, one unready pod at most.
  for (let ordinal = end - 1; ordinal >= first + partition; ordinal--) {
    const pod = byOrdinal.get(ordinal);
    if (!pod) return [];
    if (pod.metadata.deletionTimestamp) return [];
    if (revisionIn(pod) !== updateRevision) return [{ kind: 'delete', pod }];
    if (availableIn(pod, minReady, now) !== 0) return [];
  }
  return [];
}

export function statefulSetStatus(input: StatefulInput): NonNullable<StatefulSet['status']> {
  const { set, updateRevision, now } = input;
  const live = input.pods.filter((pod) => ordinalOf(set, pod) !== undefined && !pod.metadata.deletionTimestamp);
  const counts = countPods(live, set.spec.minReadySeconds ?? 0, now);
  const replicas = set.spec.replicas ?? 1;
  const updated = live.filter((pod) => revisionIn(pod) === updateRevision).length;
  // The update is over when every pod is of the new template and ready.
  const done = updated === replicas && live.length === replicas && live.every(isPodReady);
  const currentRevision = done || input.currentRevision === '' ? updateRevision : input.currentRevision;
  return {
    ...(set.status?.conditions ? { conditions: set.status.conditions } : {}),
    observedGeneration: set.metadata.generation,
    replicas: live.length,
    readyReplicas: counts.ready,
    availableReplicas: counts.available,
    currentReplicas: live.filter((pod) => revisionIn(pod) === currentRevision).length,
    updatedReplicas: updated,
    currentRevision,
    updateRevision,
    collisionCount: set.status?.collisionCount ?? 0,
  };
}

function makePod(set: StatefulSet, ordinal: number, revision: ControllerRevision, random: () => number): Pod {
  const name = `${set.metadata.name}-${ordinal}`;
  const template = templateOf(revision);
  return podFromTemplate(set, template, {
    random,
    name,
    labels: { [REVISION_LABEL]: hashOf(revision), [POD_NAME_LABEL]: name, [POD_INDEX_LABEL]: String(ordinal) },
    spec: {
      hostname: name,
      ...(set.spec.serviceName ? { subdomain: set.spec.serviceName } : {}),
    },
  });
}

export function startStatefulSetController(context: ControllerContext): Controller {
  const sets = context.store<StatefulSet>(STATEFUL_SETS);
  const pods = context.store<Pod>(PODS);
  const revisions = context.store<ControllerRevision>(CONTROLLER_REVISIONS);
  const recorder = context.recorder('statefulset-controller');
  const control: PodControl = createPodControl(pods, recorder);

  const reconcile = async (set: StatefulSet): Promise<number | undefined> => {
    const { namespace, name, uid = '' } = set.metadata;
    if ((set.spec.volumeClaimTemplates ?? []).length > 0) {
      const message = 'volumeClaimTemplates are not supported by localkube: use emptyDir or hostPath volumes';
      recorder.record(set, 'Warning', 'FailedCreate', message);
      return undefined;
    }
    let mine = await claimChildren(pods, set, set.spec.selector);
    const inUse = new Set([...mine.map(revisionIn), set.status?.currentRevision?.slice(name.length + 1) ?? '']);
    const { update, all } = await syncRevisions(revisions, set, inUse);
    const byHash = new Map(all.map((r) => [hashOf(r), r]));
    byHash.set(hashOf(update), update);
    const short = (full: string | undefined): string => (full ? full.slice(name.length + 1) : '');
    const input = (): StatefulInput => ({
      set,
      pods: mine,
      currentRevision: short(set.status?.currentRevision),
      updateRevision: hashOf(update),
      now: context.clock.now(),
    });
    if (set.metadata.deletionTimestamp === undefined) {
      for (const action of planStatefulSet(input())) {
        if (action.kind === 'delete') await control.delete(set, action.pod);
        else
          await control.create(
            set,
            makePod(set, action.ordinal, byHash.get(action.revision) ?? update, context.random),
          );
      }
      mine = pods.ownedBy(namespace, uid);
    }
    const status = statefulSetStatus(input());
    const full = (hash: string | undefined): string => `${name}-${hash ?? ''}`;
    const fresh = sets.get(namespace, name) ?? set;
    await writeStatus(sets, fresh, {
      ...status,
      currentRevision: full(status.currentRevision),
      updateRevision: full(status.updateRevision),
    });
    return countPods(mine, set.spec.minReadySeconds ?? 0, context.clock.now()).nextAvailableMs;
  };

  return startController(context, {
    name: 'statefulset',
    async reconcile(namespace, name) {
      const set = sets.get(namespace, name);
      return set && reconcile(set);
    },
    watch: (add) => [
      sets.onChange((change) => add(keyOf(change.object))),
      pods.onChange(enqueueOwner('StatefulSet', add)),
    ],
  });
}
