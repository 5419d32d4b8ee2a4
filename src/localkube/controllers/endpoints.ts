// EndpointSlice and Endpoints controller: what stands behind every Service that has a selector. Started by start.ts.
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  SERVICE_NAME_LABEL,
  SLICE_MANAGED_BY_LABEL,
} from '../../api/kubernetes/endpoint-slice.ts';
import { ENDPOINTS, type Endpoints } from '../../api/kubernetes/endpoints.ts';
import { NODES, type Node, ZONE_LABEL } from '../../api/kubernetes/node.ts';
import { PODS, type Pod } from '../../api/kubernetes/pod.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { hasLabels } from '../../base/kube/selectors.ts';
import { type Controller, type ControllerContext, ignoreNotFound, keyOf, startController } from './context.ts';
import { desiredEndpoints, desiredSlices, MANAGED_BY } from './endpoints-plan.ts';
import { sameJson } from './pods.ts';
import type { Store } from './store.ts';

export function startEndpointsController(context: ControllerContext): Controller {
  const services = context.store<Service>(SERVICES);
  const pods = context.store<Pod>(PODS);
  const nodes = context.store<Node>(NODES);
  const slices = context.store<EndpointSlice>(ENDPOINT_SLICES);
  const endpoints = context.store<Endpoints>(ENDPOINTS);
  const zoneOf = (node: string): string | undefined => nodes.get(undefined, node)?.metadata.labels?.[ZONE_LABEL];

  const ours = (namespace: string | undefined, name: string): readonly EndpointSlice[] =>
    slices
      .list(namespace)
      .filter(
        (s) =>
          s.metadata.labels?.[SERVICE_NAME_LABEL] === name && s.metadata.labels[SLICE_MANAGED_BY_LABEL] === MANAGED_BY,
      );

  return startController(context, {
    name: 'endpoints',
    async reconcile(namespace, name) {
      const service = services.get(namespace, name);
      const selector = service?.spec.selector;
      const present = ours(namespace, name);
      if (!service || service.metadata.deletionTimestamp || !selector || service.spec.type === 'ExternalName') {
        await Promise.all(present.map((slice) => ignoreNotFound(slices.delete(slice))));
        const left = endpoints.get(namespace, name);
        // Without a selector the Endpoints are the user's own.
        if (!service && left) await ignoreNotFound(endpoints.delete(left));
        return undefined;
      }
      const selected = pods.list(namespace).filter((pod) => hasLabels(selector, pod.metadata.labels));
      await Promise.all([
        syncSlices(slices, present, desiredSlices(service, selected, zoneOf)),
        syncEndpoints(endpoints, desiredEndpoints(service, selected)),
      ]);
      return undefined;
    },
    watch: (add) => [
      services.onChange((change) => add(keyOf(change.object))),
      pods.onChange((change) => {
        for (const service of services.list(change.object.metadata.namespace)) {
          const selector = service.spec.selector;
          if (!selector) continue;
          const before = change.kind === 'updated' && hasLabels(selector, change.previous.metadata.labels);
          if (before || hasLabels(selector, change.object.metadata.labels)) add(keyOf(service));
        }
      }),
      slices.onChange((change) => {
        const { namespace, labels } = change.object.metadata;
        if (change.kind !== 'added' && labels?.[SLICE_MANAGED_BY_LABEL] === MANAGED_BY)
          add(`${namespace}/${labels[SERVICE_NAME_LABEL]}`);
      }),
      endpoints.onChange((change) => add(keyOf(change.object))),
    ],
  });
}

/** Makes `present` into `desired`. */
export async function syncSlices(
  store: Store<EndpointSlice>,
  present: readonly EndpointSlice[],
  desired: readonly EndpointSlice[],
): Promise<void> {
  const wanted = new Map(desired.map((slice) => [slice.metadata.name, slice]));
  // First what is new, then what is gone: nobody shall see fewer addresses than there are.
  for (const slice of desired) {
    const known = present.find((p) => p.metadata.name === slice.metadata.name);
    if (!known) await store.create(slice);
    else if (
      !sameJson(known.endpoints ?? [], slice.endpoints) ||
      !sameJson(known.ports ?? [], slice.ports) ||
      !sameJson(known.metadata.labels, slice.metadata.labels)
    )
      await ignoreNotFound(
        store.update({
          ...known,
          metadata: { ...known.metadata, labels: slice.metadata.labels },
          endpoints: slice.endpoints,
          ports: slice.ports,
        }),
      );
  }
  for (const slice of present) if (!wanted.has(slice.metadata.name)) await ignoreNotFound(store.delete(slice));
}

async function syncEndpoints(store: Store<Endpoints>, desired: Endpoints): Promise<void> {
  const known = store.get(desired.metadata.namespace, desired.metadata.name);
  if (!known) {
    await store.create(desired);
    return;
  }
  if (sameJson(known.subsets ?? [], desired.subsets ?? []) && sameJson(known.metadata.labels, desired.metadata.labels))
    return;
  const metadata = { ...known.metadata, labels: desired.metadata.labels, annotations: desired.metadata.annotations };
  await ignoreNotFound(store.update({ ...known, metadata, subsets: desired.subsets }));
}
