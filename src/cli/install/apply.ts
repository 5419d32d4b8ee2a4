// Puts an installation into a cluster by server-side apply, waits until it runs, and takes it away again.
import { BUILTIN_TYPES } from '../../api/kubernetes/builtin-types.ts';
import { DEPLOYMENTS, type Deployment } from '../../api/kubernetes/deployment.ts';
import { createInformer } from '../../base/kube/informer.ts';
import { parseApiVersion } from '../../base/kube/paths.ts';
import { type KubeClient, KubeError, type KubeObject, type ResourceType } from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { silentLog } from '../../base/runtime/log.ts';
import { UserError } from '../command.ts';
import { OWNED_LABEL, ROOT_NAMESPACE } from './manifest.ts';
import type { InstallPlan } from './plan.ts';

const FIELD_MANAGER = 'meltemi-install';
export const READY_TIMEOUT_MS = 120_000;
const MAX_ATTEMPTS = 4;

/** What a person watches: one call a component that is done. */
export type OnDone = (text: string) => void;

export async function applyPlan(client: KubeClient, clock: Clock, plan: InstallPlan, onDone: OnDone): Promise<void> {
  await applyOne(client, plan.namespace);
  // Sent together: nothing here needs another of them to exist first, and pods retry until what they mount is there.
  await Promise.all(
    [...plan.crds, ...plan.controlPlane, ...plan.ingress, ...plan.egress].map((o) => applyOne(client, o)),
  );
  for (const gone of await prune(client, plan)) onDone(`Removed ${gone}, which is not in this profile`);
  onDone('Istio core installed ⛵️');
  const { istiod, ingress, egress } = plan.deployments;
  for (const [names, text] of [
    [istiod, 'Istiod installed 🧠'],
    [egress, 'Egress gateways installed 🛫'],
    [ingress, 'Ingress gateways installed 🛬'],
  ] as const) {
    if (names.length === 0) continue;
    await Promise.all(names.map((name) => deploymentReady(client, clock, name)));
    onDone(text);
  }
}

/** Takes away what an earlier installation put there and this one no longer has; the names of its deployments. */
async function prune(client: KubeClient, plan: InstallPlan): Promise<readonly string[]> {
  // The profile "empty" changes nothing of what runs.
  if (plan.controlPlane.length === 0) return [];
  const kept = new Set(
    [...plan.controlPlane, ...plan.ingress, ...plan.egress].map((o) => `${o.kind}/${o.metadata.name}`),
  );
  const removed: string[] = [];
  for (const type of TYPES) {
    if (['customresourcedefinitions', 'namespaces'].includes(type.resource)) continue;
    for (const object of await listOwned(client, type)) {
      if (kept.has(`${type.kind}/${object.metadata.name}`)) continue;
      await client.delete(type, object.metadata.namespace, object.metadata.name).catch(ignoreNotFound);
      if (type.resource === 'deployments') removed.push(object.metadata.name);
    }
  }
  return removed;
}

async function applyOne(client: KubeClient, object: KubeObject): Promise<void> {
  const type = typeOf(object);
  await patiently(() =>
    client.patch(type, object.metadata.namespace, object.metadata.name, 'apply', object, {
      fieldManager: FIELD_MANAGER,
      force: true,
    }),
  );
}

/** A request that got no answer (code 0) is sent again: applying or listing twice changes nothing. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      if (attempt >= MAX_ATTEMPTS || !(error instanceof KubeError && error.code === 0)) throw error;
    }
  }
}

/** Kinds an installation has beyond those other parts share. */
const TYPES: readonly ResourceType[] = [
  ...BUILTIN_TYPES,
  { group: 'policy', version: 'v1', resource: 'poddisruptionbudgets', kind: 'PodDisruptionBudget', namespaced: true },
];

function typeOf(object: KubeObject): ResourceType {
  const { group, version } = parseApiVersion(object.apiVersion);
  const type = TYPES.find((t) => t.group === group && t.version === version && t.kind === object.kind);
  if (!type) throw new Error(`no resource type known for ${object.apiVersion} ${object.kind}`);
  return type;
}

/** Resolves when the newest generation is fully available; rejects with {@link UserError} when time is up. */
async function deploymentReady(client: KubeClient, clock: Clock, name: string): Promise<void> {
  const informer = createInformer<Deployment>(client, DEPLOYMENTS, {
    namespace: ROOT_NAMESPACE,
    fieldSelector: `metadata.name=${name}`,
    clock,
    random: Math.random,
    log: silentLog,
  });
  try {
    await new Promise<void>((resolve, reject) => {
      const check = (): void => {
        const deployment = informer.get(ROOT_NAMESPACE, name);
        if (deployment && isAvailable(deployment)) resolve();
      };
      informer.onChange(check);
      void informer.synced.then(check, reject);
      setTimeout(() => {
        const status = informer.get(ROOT_NAMESPACE, name)?.status;
        const have = `${status?.availableReplicas ?? 0} of ${status?.replicas ?? 0} pods available`;
        reject(
          new UserError(
            `Deployment ${ROOT_NAMESPACE}/${name} is not ready after ${READY_TIMEOUT_MS / 1000} s (${have}).\n` +
              `See: kubectl describe deployment,pods -n ${ROOT_NAMESPACE}`,
          ),
        );
      }, READY_TIMEOUT_MS).unref();
    });
  } finally {
    informer.close();
  }
}

function isAvailable(deployment: Deployment): boolean {
  const wanted = deployment.spec.replicas ?? 1;
  const status = deployment.status;
  return (
    (status?.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0) &&
    (status?.updatedReplicas ?? 0) >= wanted &&
    (status?.availableReplicas ?? 0) >= wanted
  );
}

/** Deletes what carries our label: webhooks first, so that nothing waits for a control plane that is going. */
export async function removeInstallation(client: KubeClient, options: { readonly purge: boolean }): Promise<number> {
  let count = 0;
  const kinds = [...TYPES].sort((a, b) => order(a) - order(b));
  for (const type of kinds) {
    if (!options.purge && ['customresourcedefinitions', 'namespaces'].includes(type.resource)) continue;
    const found = await listOwned(client, type);
    await Promise.all(
      found.map((o) => client.delete(type, o.metadata.namespace, o.metadata.name).catch(ignoreNotFound)),
    );
    count += found.length;
  }
  return count;
}

async function listOwned(client: KubeClient, type: ResourceType): Promise<readonly KubeObject[]> {
  if (!REMOVED.has(type.resource)) return [];
  return (await patiently(() => client.list(type, { labelSelector: `${OWNED_LABEL}=meltemi` }))).items;
}

const REMOVED = new Set([
  'mutatingwebhookconfigurations',
  'validatingwebhookconfigurations',
  'deployments',
  'services',
  'poddisruptionbudgets',
  'configmaps',
  'serviceaccounts',
  'roles',
  'rolebindings',
  'clusterroles',
  'clusterrolebindings',
  'customresourcedefinitions',
  'namespaces',
]);

function order(type: ResourceType): number {
  if (type.resource.endsWith('webhookconfigurations')) return 0;
  if (type.resource === 'deployments') return 1;
  if (type.resource === 'customresourcedefinitions') return 8;
  return type.resource === 'namespaces' ? 9 : 5;
}

function ignoreNotFound(error: unknown): void {
  if (!(error instanceof KubeError && error.code === 404)) throw error;
}
