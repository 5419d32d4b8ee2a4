// What the server serves: the built-in kinds, and how a served resource is described. CRDs add to it (crd.ts).
// Called by discovery, the router and every operation.
import type { ResourceType } from '../../base/kube/types.ts';
import type { Dict } from './json.ts';

export interface PrinterColumn {
  readonly name: string;
  readonly type: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
  readonly jsonPath: string;
}

/** What only a custom resource has. */
export interface CustomInfo {
  readonly crdName: string;
  /** openAPIV3Schema of this version; absent: everything is kept. */
  readonly schema: Dict | undefined;
  readonly preserveUnknown: boolean;
  readonly columns: readonly PrinterColumn[];
  readonly scale: { readonly spec: string; readonly status: string; readonly selector: string } | undefined;
  readonly selectableFields: readonly string[];
  readonly deprecationWarning: string | undefined;
}

export interface ResourceDef extends ResourceType {
  readonly singular: string;
  readonly listKind: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly string[];
  /** The store's collection; two API groups may share one (events). */
  readonly collection: string;
  /** apiVersion in the store. */
  readonly storageApiVersion: string;
  /** Create only, answered and not kept: reviews. */
  readonly ephemeral: boolean;
  /** spec changes count metadata.generation. */
  readonly generation: boolean;
  /** Why an object of this kind has no effect here; told as a warning on creation. */
  readonly inert?: string;
  readonly custom?: CustomInfo;
}

interface Extra {
  readonly short?: readonly string[];
  readonly all?: boolean;
  readonly sub?: readonly string[];
  readonly cluster?: boolean;
  readonly ephemeral?: boolean;
  readonly generation?: boolean;
  readonly inert?: string;
  readonly singular?: string;
  readonly collection?: string;
  readonly storage?: string;
}

function define(groupVersion: string, resource: string, kind: string, extra: Extra = {}): ResourceDef {
  const slash = groupVersion.indexOf('/');
  const group = slash < 0 ? '' : groupVersion.slice(0, slash);
  const version = groupVersion.slice(slash + 1);
  return {
    group,
    version,
    resource,
    kind,
    namespaced: !extra.cluster,
    singular: extra.singular ?? kind.toLowerCase(),
    listKind: `${kind}List`,
    shortNames: extra.short ?? [],
    categories: extra.all ? ['all'] : [],
    subresources: extra.sub ?? [],
    collection: extra.collection ?? `${group}/${resource}`,
    storageApiVersion: extra.storage ?? groupVersion,
    ephemeral: extra.ephemeral ?? false,
    generation: extra.generation ?? false,
    ...(extra.inert ? { inert: extra.inert } : {}),
  };
}

const STATUS = ['status'] as const;
const SCALABLE = ['status', 'scale'] as const;
const noController = (kind: string): string =>
  `${kind} is stored, but no controller of this cluster acts on it: it has no effect here`;

export const BUILTIN: readonly ResourceDef[] = [
  define('v1', 'configmaps', 'ConfigMap', { short: ['cm'] }),
  define('v1', 'endpoints', 'Endpoints', { short: ['ep'], singular: 'endpoints' }),
  define('v1', 'events', 'Event', { short: ['ev'] }),
  define('v1', 'limitranges', 'LimitRange', { short: ['limits'], inert: noController('LimitRange') }),
  define('v1', 'namespaces', 'Namespace', { short: ['ns'], cluster: true, sub: ['status', 'finalize'] }),
  define('v1', 'nodes', 'Node', { short: ['no'], cluster: true, sub: STATUS }),
  define('v1', 'persistentvolumeclaims', 'PersistentVolumeClaim', {
    short: ['pvc'],
    sub: STATUS,
    inert: noController('PersistentVolumeClaim'),
  }),
  define('v1', 'persistentvolumes', 'PersistentVolume', {
    short: ['pv'],
    cluster: true,
    sub: STATUS,
    inert: noController('PersistentVolume'),
  }),
  define('v1', 'pods', 'Pod', {
    short: ['po'],
    all: true,
    sub: ['attach', 'binding', 'ephemeralcontainers', 'eviction', 'exec', 'log', 'portforward', 'status'],
  }),
  define('v1', 'podtemplates', 'PodTemplate', { generation: true }),
  define('v1', 'replicationcontrollers', 'ReplicationController', {
    short: ['rc'],
    all: true,
    sub: SCALABLE,
    generation: true,
    inert: noController('ReplicationController'),
  }),
  define('v1', 'resourcequotas', 'ResourceQuota', {
    short: ['quota'],
    sub: STATUS,
    inert: noController('ResourceQuota'),
  }),
  define('v1', 'secrets', 'Secret'),
  define('v1', 'serviceaccounts', 'ServiceAccount', { short: ['sa'], sub: ['token'] }),
  define('v1', 'services', 'Service', { short: ['svc'], all: true, sub: STATUS }),

  define('apps/v1', 'controllerrevisions', 'ControllerRevision'),
  define('apps/v1', 'daemonsets', 'DaemonSet', { short: ['ds'], all: true, sub: STATUS, generation: true }),
  define('apps/v1', 'deployments', 'Deployment', { short: ['deploy'], all: true, sub: SCALABLE, generation: true }),
  define('apps/v1', 'replicasets', 'ReplicaSet', { short: ['rs'], all: true, sub: SCALABLE, generation: true }),
  define('apps/v1', 'statefulsets', 'StatefulSet', { short: ['sts'], all: true, sub: SCALABLE, generation: true }),

  define('batch/v1', 'cronjobs', 'CronJob', {
    short: ['cj'],
    all: true,
    sub: STATUS,
    generation: true,
    inert: noController('CronJob'),
  }),
  define('batch/v1', 'jobs', 'Job', { all: true, sub: STATUS, generation: true }),

  define('discovery.k8s.io/v1', 'endpointslices', 'EndpointSlice', { generation: true }),
  define('events.k8s.io/v1', 'events', 'Event', { collection: '/events', storage: 'v1' }),
  define('coordination.k8s.io/v1', 'leases', 'Lease'),

  define('rbac.authorization.k8s.io/v1', 'clusterrolebindings', 'ClusterRoleBinding', { cluster: true }),
  define('rbac.authorization.k8s.io/v1', 'clusterroles', 'ClusterRole', { cluster: true }),
  define('rbac.authorization.k8s.io/v1', 'rolebindings', 'RoleBinding'),
  define('rbac.authorization.k8s.io/v1', 'roles', 'Role'),

  define('policy/v1', 'poddisruptionbudgets', 'PodDisruptionBudget', {
    short: ['pdb'],
    sub: STATUS,
    generation: true,
  }),
  define('autoscaling/v2', 'horizontalpodautoscalers', 'HorizontalPodAutoscaler', {
    short: ['hpa'],
    all: true,
    sub: STATUS,
    inert: noController('HorizontalPodAutoscaler'),
  }),
  define('networking.k8s.io/v1', 'ingressclasses', 'IngressClass', { cluster: true, generation: true }),
  define('networking.k8s.io/v1', 'ingresses', 'Ingress', {
    short: ['ing'],
    sub: STATUS,
    generation: true,
    inert:
      'Ingress has no effect unless something in the cluster (a mesh with an ingress gateway, for example) acts on it',
  }),
  define('networking.k8s.io/v1', 'networkpolicies', 'NetworkPolicy', {
    short: ['netpol'],
    generation: true,
    inert: 'NetworkPolicy is stored, but this cluster does not enforce it: traffic is not restricted',
  }),

  define('apiextensions.k8s.io/v1', 'customresourcedefinitions', 'CustomResourceDefinition', {
    short: ['crd', 'crds'],
    cluster: true,
    sub: STATUS,
    generation: true,
  }),
  define('admissionregistration.k8s.io/v1', 'mutatingwebhookconfigurations', 'MutatingWebhookConfiguration', {
    cluster: true,
    generation: true,
  }),
  define('admissionregistration.k8s.io/v1', 'validatingwebhookconfigurations', 'ValidatingWebhookConfiguration', {
    cluster: true,
    generation: true,
  }),
  define('admissionregistration.k8s.io/v1', 'validatingadmissionpolicies', 'ValidatingAdmissionPolicy', {
    cluster: true,
    generation: true,
    sub: STATUS,
    inert: 'ValidatingAdmissionPolicy is stored, but this cluster does not evaluate it: nothing is denied',
  }),
  define('admissionregistration.k8s.io/v1', 'validatingadmissionpolicybindings', 'ValidatingAdmissionPolicyBinding', {
    cluster: true,
    generation: true,
    inert: 'ValidatingAdmissionPolicyBinding is stored, but this cluster does not evaluate it: nothing is denied',
  }),

  define('authentication.k8s.io/v1', 'tokenreviews', 'TokenReview', { cluster: true, ephemeral: true }),
  define('authentication.k8s.io/v1', 'selfsubjectreviews', 'SelfSubjectReview', { cluster: true, ephemeral: true }),
  define('authorization.k8s.io/v1', 'localsubjectaccessreviews', 'LocalSubjectAccessReview', { ephemeral: true }),
  define('authorization.k8s.io/v1', 'selfsubjectaccessreviews', 'SelfSubjectAccessReview', {
    cluster: true,
    ephemeral: true,
  }),
  define('authorization.k8s.io/v1', 'selfsubjectrulesreviews', 'SelfSubjectRulesReview', {
    cluster: true,
    ephemeral: true,
  }),
  define('authorization.k8s.io/v1', 'subjectaccessreviews', 'SubjectAccessReview', { cluster: true, ephemeral: true }),

  define('scheduling.k8s.io/v1', 'priorityclasses', 'PriorityClass', {
    short: ['pc'],
    cluster: true,
    generation: true,
  }),
  define('storage.k8s.io/v1', 'storageclasses', 'StorageClass', { short: ['sc'], cluster: true }),
];

export const ALL_VERBS: readonly string[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];

export function groupVersion(type: { readonly group: string; readonly version: string }): string {
  return type.group === '' ? type.version : `${type.group}/${type.version}`;
}

/** The set of served resources; CRDs come and go. */
export interface Registry {
  find(group: string, version: string, resource: string): ResourceDef | undefined;
  byKind(apiVersion: string, kind: string): ResourceDef | undefined;
  /** Any served version of a stored collection. */
  byCollection(collection: string): ResourceDef | undefined;
  /** In discovery order: built-in groups first. */
  all(): readonly ResourceDef[];
  /** Every served version of one resource. */
  versions(group: string, resource: string): readonly ResourceDef[];
  setCustom(crdName: string, defs: readonly ResourceDef[]): void;
  removeCustom(crdName: string): void;
  /** Changes with every change of the set: an ETag for discovery. */
  generation(): number;
}

export function createRegistry(): Registry {
  const custom = new Map<string, readonly ResourceDef[]>();
  let generation = 1;
  let all: readonly ResourceDef[] = BUILTIN;
  const byPath = new Map<string, ResourceDef>();
  const byKind = new Map<string, ResourceDef>();
  const rebuild = (): void => {
    generation++;
    all = [...BUILTIN, ...[...custom.keys()].sort().flatMap((name) => custom.get(name) ?? [])];
    byPath.clear();
    byKind.clear();
    for (const def of all) {
      byPath.set(`${groupVersion(def)}/${def.resource}`, def);
      byKind.set(`${groupVersion(def)}/${def.kind}`, def);
    }
  };
  rebuild();
  return {
    find: (group, version, resource) => byPath.get(`${groupVersion({ group, version })}/${resource}`),
    byKind: (apiVersion, kind) => byKind.get(`${apiVersion}/${kind}`),
    byCollection: (collection) => all.find((def) => def.collection === collection && !def.ephemeral),
    all: () => all,
    versions: (group, resource) => all.filter((def) => def.group === group && def.resource === resource),
    setCustom(crdName, defs) {
      custom.set(crdName, defs);
      rebuild();
    },
    removeCustom(crdName) {
      if (custom.delete(crdName)) rebuild();
    },
    generation: () => generation,
  };
}
