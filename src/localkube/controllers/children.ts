// Owners and their children: references, adoption, release, and names. Called by all controllers that make objects.
import { createHash } from 'node:crypto';
import type { LabelSelector } from '../../api/kubernetes/label-selector.ts';
import { matchesLabelSelector } from '../../base/kube/selectors.ts';
import type { KubeObject, OwnerReference } from '../../base/kube/types.ts';
import { ignoreNotFound } from './context.ts';
import type { Store } from './store.ts';

export function controllerRef(owner: KubeObject): OwnerReference {
  return {
    apiVersion: owner.apiVersion,
    kind: owner.kind,
    name: owner.metadata.name,
    uid: owner.metadata.uid ?? '',
    controller: true,
    blockOwnerDeletion: true,
  };
}

export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((r) => r.controller);
}

export interface Claims<T> {
  readonly mine: readonly T[];
  readonly adopt: readonly T[];
  readonly release: readonly T[];
}

/** Which of `candidates` belong to `owner`, which it should adopt, and which it must let go. Pure. */
export function sortClaims<T extends KubeObject>(
  owner: KubeObject,
  selector: LabelSelector,
  candidates: readonly T[],
): Claims<T> {
  const mine: T[] = [];
  const adopt: T[] = [];
  const release: T[] = [];
  const leaving = owner.metadata.deletionTimestamp !== undefined;
  for (const candidate of candidates) {
    const controller = controllerOf(candidate);
    const matches = matchesLabelSelector(selector, candidate.metadata.labels);
    if (controller?.uid === owner.metadata.uid) (matches || leaving ? mine : release).push(candidate);
    else if (!controller && matches && !leaving && !candidate.metadata.deletionTimestamp) adopt.push(candidate);
  }
  return { mine, adopt, release };
}

/** The children of `owner` in its namespace, after adopting and releasing. */
export async function claimChildren<T extends KubeObject>(
  store: Store<T>,
  owner: KubeObject,
  selector: LabelSelector,
): Promise<readonly T[]> {
  const claims = sortClaims(owner, selector, store.list(owner.metadata.namespace));
  for (const object of claims.release) {
    const ownerReferences = (object.metadata.ownerReferences ?? []).filter((r) => r.uid !== owner.metadata.uid);
    await ignoreNotFound(store.patch(object, 'merge', { metadata: { uid: object.metadata.uid, ownerReferences } }));
  }
  const adopted: T[] = [];
  for (const object of claims.adopt) {
    const ownerReferences = [...(object.metadata.ownerReferences ?? []), controllerRef(owner)];
    const metadata = { uid: object.metadata.uid, resourceVersion: object.metadata.resourceVersion, ownerReferences };
    const taken = await ignoreNotFound(store.patch(object, 'merge', { metadata }));
    if (taken) adopted.push(taken);
  }
  return [...claims.mine, ...adopted];
}

/** Without vowels and look-alikes, as Kubernetes' own generated names. */
const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/** A short, name-safe digest of any JSON value; equal values give equal digests whatever their key order. */
export function shortHash(value: unknown, length = 10): string {
  const digest = createHash('sha256').update(canonicalJson(value)).digest();
  let out = '';
  for (let i = 0; i < length; i++) out += ALPHABET[digest[i]! % ALPHABET.length];
  return out;
}

/** JSON with sorted keys and without undefined members. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).filter(([, v]) => v !== undefined && v !== null);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v)}`).join(',')}}`;
}

export function randomSuffix(random: () => number, length = 5): string {
  let out = '';
  for (let i = 0; i < length; i++) out += ALPHABET[Math.floor(random() * ALPHABET.length)];
  return out;
}

/** RFC 3339 in whole seconds, as the API server writes times. */
export function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
