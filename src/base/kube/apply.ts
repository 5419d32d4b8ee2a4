// Server-side apply of a list of manifests in an order that works: namespaces, then CRDs until they are served, then the
// rest, webhook configurations last. Called by `meltemi install` and the labs.
import type { Clock } from '../runtime/clock.ts';
import { type KubeClient, KubeError, type KubeObject, type ResourceType, type WatchEvent } from './types.ts';

export interface ApplyOptions {
  readonly fieldManager: string;
  /** Takes fields over from other managers; default true. */
  readonly force?: boolean;
  /** For namespaced objects that name none; default `default`. */
  readonly namespace?: string;
  readonly typeOf: (apiVersion: string, kind: string) => Promise<ResourceType | undefined>;
  readonly clock: Clock;
  readonly onApplied?: (object: KubeObject) => void;
}

export class ApplyError extends Error {}

const ESTABLISH_TIMEOUT_MS = 30_000;
const MAX_MANIFESTS = 10_000;

const FIRST = [
  'Namespace',
  'CustomResourceDefinition',
  'PriorityClass',
  'ResourceQuota',
  'LimitRange',
  'ServiceAccount',
  'Secret',
  'ConfigMap',
  'ClusterRole',
  'ClusterRoleBinding',
  'Role',
  'RoleBinding',
  'Service',
  'DaemonSet',
  'Pod',
  'ReplicaSet',
  'Deployment',
  'StatefulSet',
  'Job',
  'CronJob',
];
/** A webhook that nobody serves yet would refuse what comes after it. */
const LAST = ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'];

function rank(kind: string): number {
  const first = FIRST.indexOf(kind);
  if (first >= 0) return first;
  return FIRST.length + 1 + LAST.indexOf(kind);
}

/** Stable: manifests of one kind keep their order. Pure. */
export function inApplyOrder<T extends KubeObject>(manifests: readonly T[]): readonly T[] {
  return manifests.toSorted((a, b) => rank(a.kind) - rank(b.kind));
}

/** Applies all; resolves to what the server stored. Rejects at the first refusal with what and why. */
export async function applyManifests(
  client: KubeClient,
  manifests: readonly KubeObject[],
  options: ApplyOptions,
): Promise<readonly KubeObject[]> {
  if (manifests.length > MAX_MANIFESTS) throw new ApplyError(`more than ${MAX_MANIFESTS} manifests`);
  const applied: KubeObject[] = [];
  let pending: KubeObject[] = [];
  for (const manifest of inApplyOrder(manifests)) {
    if (pending.length > 0 && manifest.kind !== 'CustomResourceDefinition') {
      await Promise.all(pending.map((crd) => waitEstablished(client, crd, options)));
      pending = [];
    }
    const object = await applyOne(client, manifest, options);
    applied.push(object);
    options.onApplied?.(object);
    if (manifest.kind === 'CustomResourceDefinition') pending.push(object);
  }
  await Promise.all(pending.map((crd) => waitEstablished(client, crd, options)));
  return applied;
}

async function applyOne(client: KubeClient, manifest: KubeObject, options: ApplyOptions): Promise<KubeObject> {
  const { apiVersion, kind, metadata } = manifest;
  const type = await options.typeOf(apiVersion, kind);
  if (!type) throw new ApplyError(`the server has no kind ${kind} in ${apiVersion}; is its CRD installed?`);
  const namespace = type.namespaced ? (metadata.namespace ?? options.namespace ?? 'default') : undefined;
  const body = {
    ...manifest,
    metadata: { ...metadata, ...(namespace ? { namespace } : {}), managedFields: undefined },
  };
  try {
    return await client.patch<KubeObject>(type, namespace, metadata.name, 'apply', body, {
      fieldManager: options.fieldManager,
      force: options.force ?? true,
    });
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    const where = namespace ? ` in namespace ${namespace}` : '';
    throw new KubeError(error.code, error.reason, `cannot apply ${kind} "${metadata.name}"${where}: ${error.message}`);
  }
}

type Crd = KubeObject & {
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
};

/** Watches the CRD until the server serves its kind. */
async function waitEstablished(client: KubeClient, crd: KubeObject, options: ApplyOptions): Promise<void> {
  const { name } = crd.metadata;
  const type = await options.typeOf(crd.apiVersion, crd.kind);
  if (!type) throw new ApplyError(`the server has no kind ${crd.kind}`);
  const over = new AbortController();
  let outcome: 'waiting' | 'established' | { readonly refused: string } = 'waiting';
  const look = (object: Crd): void => {
    const conditions = object.status?.conditions ?? [];
    const refused = conditions.find((c) => c.type === 'NamesAccepted' && c.status === 'False');
    if (conditions.some((c) => c.type === 'Established' && c.status === 'True')) outcome = 'established';
    else if (refused) outcome = { refused: refused.message ?? 'names are not accepted' };
    if (outcome !== 'waiting') over.abort();
  };
  const cancel = options.clock.after(ESTABLISH_TIMEOUT_MS, () => over.abort());
  try {
    while (!over.signal.aborted) {
      const now = await client.get<Crd>(type, undefined, name);
      look(now);
      if (over.signal.aborted) break;
      const onEvent = (event: WatchEvent<Crd>): void => {
        if (event.type !== 'BOOKMARK' && event.type !== 'DELETED') look(event.object);
      };
      const resourceVersion = now.metadata.resourceVersion ?? '';
      await client.watch<Crd>(type, { fieldSelector: `metadata.name=${name}`, resourceVersion }, onEvent, over.signal);
    }
  } finally {
    cancel();
  }
  const result = outcome as 'waiting' | 'established' | { readonly refused: string };
  if (result === 'waiting')
    throw new ApplyError(`CRD ${name} was not established within ${ESTABLISH_TIMEOUT_MS / 1000} s`);
  if (result !== 'established') throw new ApplyError(`CRD ${name} was refused: ${result.refused}`);
}
