// What the API server fills in before it stores an object: CRD schema defaults, and for the built-in kinds what a client
// sees on a real cluster. Called by the API server after decoding, and again after mutating webhooks.
import { podSpecDefaults } from './defaults-pod.ts';
import { child, children, type Draft, draftOf, ensure, fill } from './draft.ts';
import type { Json, JsonObject, JsonSchema, KindSchema } from './types.ts';

/** Pure. Values that need an allocator or the object's uid (cluster addresses, node ports, Job selectors) are not made here. */
export function applyDefaults(object: JsonObject, kind: KindSchema): JsonObject {
  const draft = draftOf(object);
  if (kind.custom) {
    schemaDefaults(draft, kind.schema, kind);
    return draft as JsonObject;
  }
  const { group, kind: name } = kind.gvk;
  BUILT_IN[`${group}/${name}`]?.(draft);
  return draft as JsonObject;
}

function schemaDefaults(value: unknown, rawSchema: JsonSchema, kind: KindSchema): void {
  const schema = kind.resolve(rawSchema);
  if (Array.isArray(value)) {
    if (schema.items) for (const item of value) schemaDefaults(item, schema.items, kind);
    return;
  }
  if (typeof value !== 'object' || value === null) return;
  const draft = value as Draft;
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (property.default !== undefined && (draft[key] === undefined || (draft[key] === null && !property.nullable))) {
      draft[key] = structuredClone(property.default);
    }
    if (draft[key] !== undefined) schemaDefaults(draft[key], property, kind);
  }
  if (typeof schema.additionalProperties === 'object') {
    for (const [key, item] of Object.entries(draft)) {
      if (!schema.properties || !Object.hasOwn(schema.properties, key))
        schemaDefaults(item, schema.additionalProperties, kind);
    }
  }
}

const RBAC = 'rbac.authorization.k8s.io';

const BUILT_IN: Readonly<Record<string, (draft: Draft) => void>> = {
  '/Pod': (draft) => {
    const spec = child(draft, 'spec');
    if (spec) podSpecDefaults(spec, false);
    fill(ensure(draft, 'status'), { phase: 'Pending' });
  },
  '/PodTemplate': (draft) => template(draft),
  '/ReplicationController': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { replicas: 1 });
    template(spec);
  },
  '/Service': serviceDefaults,
  '/Secret': secretDefaults,
  '/Namespace': (draft) => {
    fill(ensure(draft, 'spec'), { finalizers: ['kubernetes'] });
    fill(ensure(draft, 'status'), { phase: 'Active' });
    const metadata = ensure(draft, 'metadata');
    if (typeof metadata.name === 'string') ensure(metadata, 'labels')['kubernetes.io/metadata.name'] = metadata.name;
  },
  '/PersistentVolumeClaim': (draft) => {
    fill(child(draft, 'spec'), { volumeMode: 'Filesystem' });
    fill(ensure(draft, 'status'), { phase: 'Pending' });
  },
  '/PersistentVolume': (draft) => {
    fill(child(draft, 'spec'), { volumeMode: 'Filesystem', persistentVolumeReclaimPolicy: 'Retain' });
    fill(ensure(draft, 'status'), { phase: 'Pending' });
  },
  '/Endpoints': (draft) => {
    for (const subset of children(draft, 'subsets'))
      for (const port of children(subset, 'ports')) fill(port, { protocol: 'TCP' });
  },
  'discovery.k8s.io/EndpointSlice': (draft) => {
    for (const port of children(draft, 'ports')) fill(port, { name: '', protocol: 'TCP' });
  },
  'apps/Deployment': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 });
    const strategy = ensure(spec, 'strategy');
    fill(strategy, { type: 'RollingUpdate' });
    if (strategy.type === 'RollingUpdate') {
      fill(ensure(strategy, 'rollingUpdate'), { maxUnavailable: '25%', maxSurge: '25%' });
    }
    template(spec);
  },
  'apps/ReplicaSet': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { replicas: 1 });
    template(spec);
  },
  'apps/StatefulSet': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, {
      replicas: 1,
      podManagementPolicy: 'OrderedReady',
      revisionHistoryLimit: 10,
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
    });
    const strategy = ensure(spec, 'updateStrategy');
    fill(strategy, { type: 'RollingUpdate' });
    if (strategy.type === 'RollingUpdate') fill(ensure(strategy, 'rollingUpdate'), { partition: 0 });
    for (const claim of children(spec, 'volumeClaimTemplates')) {
      fill(claim, { apiVersion: 'v1', kind: 'PersistentVolumeClaim' });
      fill(child(claim, 'spec'), { volumeMode: 'Filesystem' });
    }
    template(spec);
  },
  'apps/DaemonSet': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { revisionHistoryLimit: 10 });
    const strategy = ensure(spec, 'updateStrategy');
    fill(strategy, { type: 'RollingUpdate' });
    if (strategy.type === 'RollingUpdate') fill(ensure(strategy, 'rollingUpdate'), { maxUnavailable: 1, maxSurge: 0 });
    template(spec);
  },
  'batch/Job': (draft) => jobDefaults(ensure(draft, 'spec')),
  'batch/CronJob': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, {
      concurrencyPolicy: 'Allow',
      suspend: false,
      successfulJobsHistoryLimit: 3,
      failedJobsHistoryLimit: 1,
    });
  },
  'autoscaling/HorizontalPodAutoscaler': (draft) => fill(child(draft, 'spec'), { minReplicas: 1 }),
  'admissionregistration.k8s.io/MutatingWebhookConfiguration': (draft) =>
    webhooks(draft, { reinvocationPolicy: 'Never' }),
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration': (draft) => webhooks(draft, {}),
  [`${RBAC}/RoleBinding`]: bindingDefaults,
  [`${RBAC}/ClusterRoleBinding`]: bindingDefaults,
  'networking.k8s.io/NetworkPolicy': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { policyTypes: spec.egress === undefined ? ['Ingress'] : ['Ingress', 'Egress'] });
    for (const direction of ['ingress', 'egress']) {
      for (const rule of children(spec, direction))
        for (const port of children(rule, 'ports')) fill(port, { protocol: 'TCP' });
    }
  },
  'storage.k8s.io/StorageClass': (draft) => fill(draft, { reclaimPolicy: 'Delete', volumeBindingMode: 'Immediate' }),
  'scheduling.k8s.io/PriorityClass': (draft) => fill(draft, { preemptionPolicy: 'PreemptLowerPriority' }),
  'apiextensions.k8s.io/CustomResourceDefinition': (draft) => {
    const spec = ensure(draft, 'spec');
    fill(spec, { conversion: { strategy: 'None' } });
    const names = child(spec, 'names');
    if (typeof names?.kind === 'string')
      fill(names, { singular: names.kind.toLowerCase(), listKind: `${names.kind}List` });
  },
};

function template(owner: Draft): void {
  const spec = child(child(owner, 'template'), 'spec');
  if (spec) podSpecDefaults(spec, true);
}

function serviceDefaults(draft: Draft): void {
  const spec = ensure(draft, 'spec');
  fill(spec, { type: 'ClusterIP', sessionAffinity: 'None' });
  if (spec.sessionAffinity === 'ClientIP') {
    fill(ensure(ensure(spec, 'sessionAffinityConfig'), 'clientIP'), { timeoutSeconds: 10800 });
  }
  for (const port of children(spec, 'ports')) {
    fill(port, { protocol: 'TCP' });
    if (port.targetPort === undefined || port.targetPort === 0 || port.targetPort === '') port.targetPort = port.port;
  }
  if (spec.type === 'ExternalName') return;
  fill(spec, { ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack', internalTrafficPolicy: 'Cluster' });
  if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') fill(spec, { externalTrafficPolicy: 'Cluster' });
  if (spec.type === 'LoadBalancer') fill(spec, { allocateLoadBalancerNodePorts: true });
  ensure(ensure(draft, 'status'), 'loadBalancer');
}

function secretDefaults(draft: Draft): void {
  fill(draft, { type: 'Opaque' });
  const plain = child(draft, 'stringData');
  if (plain) {
    const data = ensure(draft, 'data');
    for (const [key, value] of Object.entries(plain)) data[key] = Buffer.from(String(value)).toString('base64');
  }
  delete draft.stringData;
}

function jobDefaults(spec: Draft): void {
  if (spec.completions === undefined && spec.parallelism === undefined) fill(spec, { completions: 1, parallelism: 1 });
  fill(spec, {
    parallelism: 1,
    backoffLimit: 6,
    completionMode: 'NonIndexed',
    suspend: false,
    manualSelector: false,
    podReplacementPolicy: spec.podFailurePolicy === undefined ? 'TerminatingOrFailed' : 'Failed',
  });
  template(spec);
}

function webhooks(draft: Draft, more: { readonly [key: string]: Json }): void {
  for (const webhook of children(draft, 'webhooks')) {
    fill(webhook, {
      failurePolicy: 'Fail',
      matchPolicy: 'Equivalent',
      namespaceSelector: {},
      objectSelector: {},
      timeoutSeconds: 10,
      ...more,
    });
    for (const rule of children(webhook, 'rules')) fill(rule, { scope: '*' });
    fill(child(child(webhook, 'clientConfig'), 'service'), { port: 443 });
  }
}

function bindingDefaults(draft: Draft): void {
  fill(child(draft, 'roleRef'), { apiGroup: RBAC });
  for (const subject of children(draft, 'subjects')) {
    if (subject.kind === 'User' || subject.kind === 'Group') fill(subject, { apiGroup: RBAC });
  }
}
