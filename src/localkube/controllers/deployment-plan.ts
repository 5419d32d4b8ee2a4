// The decisions of the Deployment controller as pure functions: which set is the new one, and how many pods each set
// shall have next. Called by deployment.ts.
import type { Deployment } from '../../api/kubernetes/deployment.ts';
import type { PodTemplateSpec } from '../../api/kubernetes/pod.ts';
import type { ReplicaSet } from '../../api/kubernetes/replica-set.ts';
import { canonicalJson, shortHash } from './children.ts';
import { created, intOrPercent } from './pods.ts';

export const HASH_LABEL = 'pod-template-hash';
export const REVISION = 'deployment.kubernetes.io/revision';
export const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history';
export const DESIRED = 'deployment.kubernetes.io/desired-replicas';
export const MAX_REPLICAS = 'deployment.kubernetes.io/max-replicas';
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';
const OWN_ANNOTATIONS = new Set([
  REVISION,
  REVISION_HISTORY,
  DESIRED,
  MAX_REPLICAS,
  LAST_APPLIED,
  'deprecated.deployment.rollback.to',
]);

export interface Limits {
  readonly replicas: number;
  readonly maxSurge: number;
  readonly maxUnavailable: number;
}

/** How far a rolling update may go above and below the wanted number. */
export function rollingLimits(deployment: Deployment): Limits {
  const replicas = deployment.spec.replicas ?? 1;
  if (deployment.spec.strategy?.type === 'Recreate') return { replicas, maxSurge: 0, maxUnavailable: replicas };
  const rolling = deployment.spec.strategy?.rollingUpdate;
  const maxSurge = intOrPercent(rolling?.maxSurge, replicas, 'up', '25%');
  let maxUnavailable = intOrPercent(rolling?.maxUnavailable, replicas, 'down', '25%');
  // Both zero would never move.
  if (maxSurge === 0 && maxUnavailable === 0) maxUnavailable = 1;
  return { replicas, maxSurge, maxUnavailable: Math.min(maxUnavailable, replicas) };
}

export function templateHash(template: PodTemplateSpec): string {
  return shortHash(withoutHash(template));
}

function withoutHash(template: PodTemplateSpec): PodTemplateSpec {
  const { [HASH_LABEL]: _, ...labels } = template.metadata?.labels ?? {};
  const { creationTimestamp: __, ...metadata } = template.metadata ?? {};
  return { ...template, metadata: { ...metadata, labels } };
}

/** The set made from the deployment's present template; the oldest when there are several. */
export function findNewSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  const wanted = canonicalJson(withoutHash(deployment.spec.template));
  const hash = templateHash(deployment.spec.template);
  return sets
    .filter(
      (set) => set.metadata.labels?.[HASH_LABEL] === hash || canonicalJson(withoutHash(set.spec.template)) === wanted,
    )
    .toSorted((a, b) => created(a) - created(b))[0];
}

export function revisionOf(object: {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
}): number {
  return Number(object.metadata.annotations?.[REVISION] ?? 0) || 0;
}

/** The annotations a set takes from its deployment, with the revision that makes it the latest of `others`. */
export function newSetAnnotations(
  deployment: Deployment,
  set: ReplicaSet | undefined,
  others: readonly ReplicaSet[],
): Readonly<Record<string, string>> {
  const limits = rollingLimits(deployment);
  const out: Record<string, string> = { ...set?.metadata.annotations };
  for (const [key, value] of Object.entries(deployment.metadata.annotations ?? {}))
    if (!OWN_ANNOTATIONS.has(key)) out[key] = value;
  const newest = Math.max(0, ...others.map(revisionOf));
  const mine = set ? revisionOf(set) : 0;
  if (mine <= newest) {
    out[REVISION] = String(newest + 1);
    if (mine > 0) {
      const history = set?.metadata.annotations?.[REVISION_HISTORY];
      out[REVISION_HISTORY] = history ? `${history},${mine}` : String(mine);
    }
  }
  out[DESIRED] = String(limits.replicas);
  out[MAX_REPLICAS] = String(limits.replicas + limits.maxSurge);
  return out;
}

export interface Scale {
  readonly set: ReplicaSet;
  readonly replicas: number;
}

const size = (set: ReplicaSet): number => set.spec.replicas ?? 1;
const total = (sets: readonly ReplicaSet[]): number => sets.reduce((sum, set) => sum + size(set), 0);
const available = (set: ReplicaSet): number => set.status?.availableReplicas ?? 0;

/** How many pods a new set gets when it is made or grown. */
export function newSetSize(
  limits: Limits,
  strategy: 'RollingUpdate' | 'Recreate',
  current: number,
  all: number,
): number {
  if (strategy === 'Recreate' || current > limits.replicas) return limits.replicas;
  const room = limits.replicas + limits.maxSurge - all;
  return room <= 0 ? current : current + Math.min(room, limits.replicas - current);
}

/** The next step of a rolling update. */
export function planRolling(deployment: Deployment, newSet: ReplicaSet, old: readonly ReplicaSet[]): readonly Scale[] {
  const limits = rollingLimits(deployment);
  const all = size(newSet) + total(old);
  const wanted = newSetSize(limits, 'RollingUpdate', size(newSet), all);
  if (wanted !== size(newSet)) return [{ set: newSet, replicas: wanted }];
  return planOldDown(limits, newSet, old);
}

function planOldDown(limits: Limits, newSet: ReplicaSet, old: readonly ReplicaSet[]): readonly Scale[] {
  const sizes = new Map(old.map((set) => [set, size(set)]));
  const minAvailable = limits.replicas - limits.maxUnavailable;
  const newUnavailable = Math.max(0, size(newSet) - available(newSet));
  let budget = size(newSet) + total(old) - minAvailable - newUnavailable;
  if (budget <= 0) return [];
  const oldestFirst = old.filter((set) => size(set) > 0).toSorted((a, b) => created(a) - created(b));
  // Broken pods first: losing them costs nothing.
  for (const set of oldestFirst) {
    const broken = Math.min(Math.max(0, size(set) - available(set)), budget);
    sizes.set(set, sizes.get(set)! - broken);
    budget -= broken;
  }
  let spare = available(newSet) + old.reduce((sum, set) => sum + available(set), 0) - minAvailable;
  for (const set of oldestFirst) {
    const down = Math.min(sizes.get(set)!, Math.max(0, spare));
    sizes.set(set, sizes.get(set)! - down);
    spare -= down;
  }
  return oldestFirst.filter((set) => sizes.get(set) !== size(set)).map((set) => ({ set, replicas: sizes.get(set)! }));
}

/** Recreate: everything old goes first; `oldPodsRun` says whether any of its pods is still there. */
export function planRecreate(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
  oldPodsRun: boolean,
): readonly Scale[] {
  const down = old.filter((set) => size(set) > 0).map((set) => ({ set, replicas: 0 }));
  if (down.length > 0 || oldPodsRun || !newSet) return down;
  const wanted = deployment.spec.replicas ?? 1;
  return size(newSet) === wanted ? [] : [{ set: newSet, replicas: wanted }];
}

/** True when the deployment was scaled since its sets were last looked at. */
export function wasScaled(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  const wanted = String(deployment.spec.replicas ?? 1);
  return sets.some((set) => size(set) > 0 && (set.metadata.annotations?.[DESIRED] ?? wanted) !== wanted);
}

/** Spreads a change of scale over the sets by their size, so that a rollout under way keeps its proportions. */
export function planScale(
  deployment: Deployment,
  newSet: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
): readonly Scale[] {
  const limits = rollingLimits(deployment);
  const all = newSet ? [newSet, ...old] : [...old];
  const active = all.filter((set) => size(set) > 0);
  if (active.length <= 1) {
    const only = active[0] ?? newSet ?? all.toSorted((a, b) => revisionOf(b) - revisionOf(a))[0];
    return only && size(only) !== limits.replicas ? [{ set: only, replicas: limits.replicas }] : [];
  }
  if (newSet && size(newSet) === limits.replicas && available(newSet) >= limits.replicas)
    return old.filter((set) => size(set) > 0).map((set) => ({ set, replicas: 0 }));
  if (deployment.spec.strategy?.type === 'Recreate') return [];
  const allowed = limits.replicas > 0 ? limits.replicas + limits.maxSurge : 0;
  const add = allowed - total(active);
  const order = active.toSorted(
    (a, b) => size(b) - size(a) || (add > 0 ? created(b) - created(a) : created(a) - created(b)),
  );
  const sizes = order.map((set) => Math.max(0, size(set) + share(set, allowed, add)));
  const left = allowed - sizes.reduce((sum, n) => sum + n, 0);
  if (add !== 0 && sizes.length > 0) sizes[0] = Math.max(0, sizes[0]! + left);
  return order.map((set, i) => ({ set, replicas: sizes[i]! })).filter((s) => s.replicas !== size(s.set));
}

function share(set: ReplicaSet, allowed: number, add: number): number {
  if (add === 0) return 0;
  const before = Number(set.metadata.annotations?.[MAX_REPLICAS] ?? 0) || allowed - add;
  const part = before === 0 ? 0 : Math.round((size(set) * allowed) / before) - size(set);
  return add > 0 ? Math.min(Math.max(part, 0), add) : Math.max(Math.min(part, 0), add);
}

/** Old sets beyond the history limit that nothing needs, oldest first. */
export function planCleanup(deployment: Deployment, old: readonly ReplicaSet[]): readonly ReplicaSet[] {
  const limit = deployment.spec.revisionHistoryLimit ?? 10;
  const unused = old.filter(
    (set) => size(set) === 0 && (set.status?.replicas ?? 0) === 0 && set.metadata.deletionTimestamp === undefined,
  );
  return unused.toSorted((a, b) => revisionOf(a) - revisionOf(b)).slice(0, Math.max(0, old.length - limit));
}
