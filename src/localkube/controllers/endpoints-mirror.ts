// Copies Endpoints that somebody wrote by hand, for a Service without a selector, into EndpointSlices: the mesh and the
// node network read slices only. Started by start.ts.
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  SERVICE_NAME_LABEL,
  SLICE_MANAGED_BY_LABEL,
  type SliceEndpoint,
} from '../../api/kubernetes/endpoint-slice.ts';
import {
  ENDPOINTS,
  type EndpointAddress,
  type EndpointSubset,
  type Endpoints,
} from '../../api/kubernetes/endpoints.ts';
import { SERVICES, type Service } from '../../api/kubernetes/service.ts';
import { controllerRef, shortHash } from './children.ts';
import { type Controller, type ControllerContext, ignoreNotFound, keyOf, startController } from './context.ts';
import { syncSlices } from './endpoints.ts';

export const MIRROR = 'endpointslicemirroring-controller.k8s.io';
const SKIP_LABEL = 'endpointslice.kubernetes.io/skip-mirror';
const MAX_ADDRESSES_PER_SUBSET = 1_000;

/** The slices that say what `endpoints` says; none when they are not to be mirrored. Pure. */
export function mirroredSlices(service: Service | undefined, endpoints: Endpoints): readonly EndpointSlice[] {
  const skip = endpoints.metadata.labels?.[SKIP_LABEL] === 'true' || endpoints.metadata.deletionTimestamp !== undefined;
  if (!service || service.spec.selector || skip) return [];
  return (endpoints.subsets ?? []).flatMap((subset, i) =>
    (['IPv4', 'IPv6'] as const).flatMap((family) => {
      const list = endpointsOf(subset, family);
      return list.length === 0 ? [] : [sliceOf(endpoints, subset, list, family, i)];
    }),
  );
}

function endpointsOf(subset: EndpointSubset, family: 'IPv4' | 'IPv6'): readonly SliceEndpoint[] {
  const make =
    (ready: boolean) =>
    (address: EndpointAddress): SliceEndpoint => ({
      addresses: [address.ip],
      conditions: { ready },
      ...(address.hostname ? { hostname: address.hostname } : {}),
      ...(address.nodeName ? { nodeName: address.nodeName } : {}),
      ...(address.targetRef ? { targetRef: address.targetRef } : {}),
    });
  return [...(subset.addresses ?? []).map(make(true)), ...(subset.notReadyAddresses ?? []).map(make(false))]
    .filter((e) => e.addresses[0]!.includes(':') === (family === 'IPv6'))
    .slice(0, MAX_ADDRESSES_PER_SUBSET);
}

function sliceOf(
  endpoints: Endpoints,
  subset: EndpointSubset,
  list: readonly SliceEndpoint[],
  addressType: 'IPv4' | 'IPv6',
  index: number,
): EndpointSlice {
  const { name, namespace, labels } = endpoints.metadata;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${shortHash(['mirror', addressType, index], 5)}`,
      generateName: `${name}-`,
      namespace,
      labels: { ...labels, [SERVICE_NAME_LABEL]: name, [SLICE_MANAGED_BY_LABEL]: MIRROR },
      ownerReferences: [controllerRef(endpoints)],
    },
    addressType,
    endpoints: list,
    ports: (subset.ports ?? []).map((p) => ({ ...p, name: p.name ?? '', protocol: p.protocol ?? 'TCP' })),
  };
}

export function startEndpointsMirror(context: ControllerContext): Controller {
  const services = context.store<Service>(SERVICES);
  const endpoints = context.store<Endpoints>(ENDPOINTS);
  const slices = context.store<EndpointSlice>(ENDPOINT_SLICES);
  const isMirror = (slice: EndpointSlice): boolean => slice.metadata.labels?.[SLICE_MANAGED_BY_LABEL] === MIRROR;
  return startController(context, {
    name: 'endpoints-mirror',
    async reconcile(namespace, name) {
      const present = slices
        .list(namespace)
        .filter((s) => isMirror(s) && s.metadata.labels?.[SERVICE_NAME_LABEL] === name);
      const source = endpoints.get(namespace, name);
      if (source) await syncSlices(slices, present, mirroredSlices(services.get(namespace, name), source));
      else await Promise.all(present.map((slice) => ignoreNotFound(slices.delete(slice))));
      return undefined;
    },
    watch: (add) => [
      services.onChange((change) => add(keyOf(change.object))),
      endpoints.onChange((change) => add(keyOf(change.object))),
      slices.onChange((change) => {
        if (change.kind !== 'added' && isMirror(change.object))
          add(`${change.object.metadata.namespace}/${change.object.metadata.labels?.[SERVICE_NAME_LABEL]}`);
      }),
    ],
  });
}
