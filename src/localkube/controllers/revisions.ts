// ControllerRevisions: the numbered past templates of a StatefulSet or DaemonSet. Called by those two controllers.
import type { ControllerRevision } from '../../api/kubernetes/controller-revision.ts';
import type { LabelSelector } from '../../api/kubernetes/label-selector.ts';
import type { PodTemplateSpec } from '../../api/kubernetes/pod.ts';
import type { KubeObject } from '../../base/kube/types.ts';
import { canonicalJson, claimChildren, controllerRef, shortHash } from './children.ts';
import { ignoreNotFound } from './context.ts';
import type { Store } from './store.ts';

export const REVISION_LABEL = 'controller-revision-hash';

export interface Workload extends KubeObject {
  readonly spec: {
    readonly selector: LabelSelector;
    readonly template: PodTemplateSpec;
    readonly revisionHistoryLimit?: number;
  };
}

/** The patch that `kubectl rollout undo` applies to the owner. */
function revisionData(template: PodTemplateSpec): unknown {
  return { spec: { template: { ...template, $patch: 'replace' } } };
}

export function templateOf(revision: ControllerRevision): PodTemplateSpec {
  const data = revision.data as {
    readonly spec: { readonly template: PodTemplateSpec & { readonly $patch?: string } };
  };
  const { $patch: _, ...template } = data.spec.template;
  return template;
}

export interface Revisions {
  /** Of the present template. */
  readonly update: ControllerRevision;
  readonly all: readonly ControllerRevision[];
}

/** Makes sure the present template is the newest revision, and forgets what is beyond the limit and not in `inUse`. */
export async function syncRevisions(
  store: Store<ControllerRevision>,
  owner: Workload,
  inUse: ReadonlySet<string>,
): Promise<Revisions> {
  const mine = [...(await claimChildren(store, owner, owner.spec.selector))].sort((a, b) => a.revision - b.revision);
  const newest = mine.at(-1)?.revision ?? 0;
  const data = revisionData(owner.spec.template);
  const wanted = canonicalJson(data);
  let update = mine.find((r) => canonicalJson(r.data) === wanted);
  if (!update) {
    const hash = shortHash(data);
    update = await store.create({
      apiVersion: 'apps/v1',
      kind: 'ControllerRevision',
      metadata: {
        name: `${owner.metadata.name}-${hash}`,
        namespace: owner.metadata.namespace,
        labels: { ...owner.spec.template.metadata?.labels, [REVISION_LABEL]: hash },
        ownerReferences: [controllerRef(owner)],
      },
      data,
      revision: newest + 1,
    });
    mine.push(update);
  } else if (update.revision < newest) update = await store.update({ ...update, revision: newest + 1 });
  const limit = owner.spec.revisionHistoryLimit ?? 10;
  const spare = mine.filter((r) => r.metadata.uid !== update.metadata.uid && !inUse.has(hashOf(r)));
  for (const revision of spare.slice(0, Math.max(0, spare.length - limit)))
    await ignoreNotFound(store.delete(revision));
  return { update, all: mine };
}

export const hashOf = (revision: ControllerRevision): string => revision.metadata.labels?.[REVISION_LABEL] ?? '';
