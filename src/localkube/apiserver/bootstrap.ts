// What a new cluster holds: system namespaces, default roles, priority classes, the `kubernetes` Service. Called by server.ts at
// every start; what is there already stays as it is, except the API server's own endpoints.
import { DEFAULT_RBAC } from './auth/default-roles.ts';
import { ADMIN, type Core, nowText, type RequestContext } from './core.ts';
import { at, type Dict, dict, equal, str } from './json.ts';
import { createObject } from './ops/create.ts';
import { patchObject } from './ops/update.ts';
import { internal } from './status.ts';

const NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'] as const;

export interface KubernetesService {
  /** ClusterIP and port of the Service `default/kubernetes`. */
  readonly ip: string;
  readonly port: number;
  /** Where pods reach this server. */
  readonly endpointIp: string;
  readonly endpointPort: number;
}

export async function bootstrap(core: Core, service: KubernetesService | undefined): Promise<void> {
  for (const name of NAMESPACES) await ensure(core, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  for (const object of DEFAULT_RBAC) await ensure(core, object);
  for (const [name, value] of [
    ['system-cluster-critical', 2_000_000_000],
    ['system-node-critical', 2_000_001_000],
  ] as const)
    await ensure(core, {
      apiVersion: 'scheduling.k8s.io/v1',
      kind: 'PriorityClass',
      metadata: { name },
      value,
      preemptionPolicy: 'PreemptLowerPriority',
      description: 'Used for system critical pods.',
    });
  if (service) await publishSelf(core, service);
}

function contextOf(): RequestContext {
  return {
    user: ADMIN,
    dryRun: false,
    fieldManager: 'kube-apiserver',
    fieldValidation: 'Strict',
    force: true,
    warnings: [],
  };
}

/** True when it was made now. */
async function ensure(core: Core, object: Dict): Promise<boolean> {
  const def = core.registry.byKind(str(object.apiVersion), str(object.kind));
  if (!def) throw internal(`bootstrap object of unknown kind ${str(object.kind)}`);
  const namespace = str(at(object, 'metadata', 'namespace'));
  if (core.store.get(def.collection, namespace, str(at(object, 'metadata', 'name')))) return false;
  await createObject(core, contextOf(), { def, namespace: namespace || undefined, body: object });
  return true;
}

async function publishSelf(core: Core, service: KubernetesService): Promise<void> {
  const labels = { component: 'apiserver', provider: 'kubernetes' };
  await ensure(core, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kubernetes', namespace: 'default', labels },
    spec: {
      type: 'ClusterIP',
      clusterIP: service.ip,
      sessionAffinity: 'None',
      ports: [{ name: 'https', port: service.port, protocol: 'TCP', targetPort: service.endpointPort }],
    },
  });
  const port = { name: 'https', port: service.endpointPort, protocol: 'TCP' };
  await keep(core, {
    apiVersion: 'v1',
    kind: 'Endpoints',
    metadata: {
      name: 'kubernetes',
      namespace: 'default',
      labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' },
    },
    subsets: [{ addresses: [{ ip: service.endpointIp }], ports: [port] }],
  });
  await keep(core, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'kubernetes', namespace: 'default', labels: { 'kubernetes.io/service-name': 'kubernetes' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: [service.endpointIp], conditions: { ready: true } }],
    ports: [port],
  });
}

/** Creates the object, or corrects what it says. */
async function keep(core: Core, object: Dict): Promise<void> {
  if (await ensure(core, object)) return;
  const def = core.registry.byKind(str(object.apiVersion), str(object.kind));
  if (!def) return;
  const { apiVersion: _apiVersion, kind: _kind, metadata, ...wanted } = object;
  const name = str(dict(metadata).name);
  const live = core.store.get(def.collection, 'default', name);
  if (Object.entries(wanted).every(([field, value]) => equal(live?.[field], value))) return;
  core.log.info('the API server moved', { object: `${def.resource}/${name}`, time: nowText(core.clock) });
  await patchObject(core, contextOf(), { def, namespace: 'default', name }, 'merge', wanted);
}
