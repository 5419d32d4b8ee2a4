// Namespace controller: empties a namespace that is being deleted, then lets it go. Started by start.ts.
import type { Condition } from '../../api/kubernetes/condition.ts';
import { NAMESPACES, type Namespace } from '../../api/kubernetes/namespace.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { KubeError, type KubeObject, type ResourceType } from '../../base/kube/types.ts';
import { errorText } from '../../base/runtime/log.ts';
import { timestamp } from './children.ts';
import { setCondition } from './conditions.ts';
import { type Controller, type ControllerContext, ignoreNotFound, startController } from './context.ts';
import { writeStatus } from './pods.ts';

/** What holds a namespace back is looked at again after this, doubling. Pods wake the controller by themselves. */
const FIRST_LOOK_MS = 50;
const LAST_LOOK_MS = 5_000;
const OWN_FINALIZER = 'kubernetes';

interface Leftover {
  readonly type: ResourceType;
  readonly count: number;
  readonly finalizers: readonly string[];
}

export function startNamespaceController(
  context: ControllerContext,
  resourceTypes: () => Promise<readonly ResourceType[]>,
): Controller {
  const namespaces = context.store<Namespace>(NAMESPACES);
  const pods = context.store<Pod>(PODS);
  const waits = new Map<string, number>();

  return startController(context, {
    name: 'namespace',
    async reconcile(_, name) {
      const namespace = namespaces.get(undefined, name);
      if (!namespace?.metadata.deletionTimestamp) {
        waits.delete(name);
        return undefined;
      }
      if (!namespace.spec?.finalizers?.includes(OWN_FINALIZER)) return undefined;
      const left = await emptyOut(context, name, await resourceTypes());
      if (left.length > 0) {
        await tellWhy(left, namespace);
        const wait = waits.get(name) ?? FIRST_LOOK_MS;
        waits.set(name, Math.min(wait * 2, LAST_LOOK_MS));
        return wait;
      }
      waits.delete(name);
      const fresh = namespaces.get(undefined, name) ?? namespace;
      const finalizers = (fresh.spec?.finalizers ?? []).filter((f) => f !== OWN_FINALIZER);
      await ignoreNotFound(namespaces.update({ ...fresh, spec: { ...fresh.spec, finalizers } }, 'finalize'));
      return undefined;
    },
    watch: (add) => [
      namespaces.onChange((change) => add(`/${change.object.metadata.name}`)),
      pods.onChange((change) => {
        if (change.kind === 'deleted') add(`/${change.object.metadata.namespace}`);
      }),
    ],
  });

  async function tellWhy(left: readonly Leftover[], namespace: Namespace): Promise<void> {
    const fresh = namespaces.get(undefined, namespace.metadata.name) ?? namespace;
    const now = timestamp(context.clock.now());
    let conditions = fresh.status?.conditions;
    for (const condition of explain(left)) conditions = setCondition(conditions, condition, now);
    await writeStatus(namespaces, fresh, { ...fresh.status, phase: 'Terminating', conditions });
  }
}

/** Deletes everything in the namespace that is not on its way out already; resolves to what is still there. */
async function emptyOut(
  context: ControllerContext,
  namespace: string,
  types: readonly ResourceType[],
): Promise<readonly Leftover[]> {
  const seen = new Set<string>();
  const unique = types.filter((type) => {
    const key = `${type.group}/${type.resource}`;
    return type.namespaced && !seen.has(key) && seen.add(key);
  });
  const results = await Promise.all(unique.map((type) => emptyOfType(context, namespace, type)));
  return results.filter((r) => r !== undefined);
}

async function emptyOfType(
  context: ControllerContext,
  namespace: string,
  type: ResourceType,
): Promise<Leftover | undefined> {
  const read = async (): Promise<readonly KubeObject[]> => {
    try {
      return (await context.client.list(type, { namespace })).items;
    } catch (error) {
      // A kind that went away, or one that cannot be listed, has nothing to delete.
      if (error instanceof KubeError && (error.code === 404 || error.code === 405)) return [];
      throw error;
    }
  };
  const items = await read();
  if (items.length === 0) return undefined;
  await Promise.all(
    items
      .filter((item) => item.metadata.deletionTimestamp === undefined)
      .map((item) =>
        ignoreNotFound(
          context.client.delete(type, namespace, item.metadata.name, { propagationPolicy: 'Background' }),
        ).catch((error) =>
          context.log.warn('cannot delete', {
            namespace,
            resource: type.resource,
            name: item.metadata.name,
            error: errorText(error),
          }),
        ),
      ),
  );
  const left = await read();
  if (left.length === 0) return undefined;
  return { type, count: left.length, finalizers: left.flatMap((item) => item.metadata.finalizers ?? []) };
}

function explain(left: readonly Leftover[]): readonly Condition[] {
  const qualified = (type: ResourceType): string => (type.group ? `${type.resource}.${type.group}` : type.resource);
  const content = left.map((l) => `${qualified(l.type)} has ${l.count} resource instances`).join(', ');
  const finalizers = new Map<string, number>();
  for (const name of left.flatMap((l) => l.finalizers)) finalizers.set(name, (finalizers.get(name) ?? 0) + 1);
  const conditions: Condition[] = [
    {
      type: 'NamespaceContentRemaining',
      status: 'True',
      reason: 'SomeResourcesRemain',
      message: `Some resources are remaining: ${content}`,
    },
  ];
  if (finalizers.size > 0)
    conditions.push({
      type: 'NamespaceFinalizersRemaining',
      status: 'True',
      reason: 'SomeFinalizersRemain',
      message: `Some content in the namespace has finalizers remaining: ${[...finalizers].map(([n, c]) => `${n} in ${c} resource instances`).join(', ')}`,
    });
  return conditions;
}
