// What may not change once an object is stored. Called by validate.ts for updates of built-in kinds.
import { add, equalJson, show } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import type { FieldError, Json, KindSchema } from './types.ts';

const FIXED_SELECTOR = new Set(['apps/Deployment', 'apps/ReplicaSet', 'apps/DaemonSet']);

/** Adds to `errors`. */
export function validateChange(
  object: Draft,
  old: Draft,
  kind: KindSchema,
  subresource: string | undefined,
  errors: FieldError[],
): void {
  const id = `${kind.gvk.group}/${kind.gvk.kind}`;
  const spec = child(object, 'spec') ?? {};
  const oldSpec = child(old, 'spec') ?? {};
  if (FIXED_SELECTOR.has(id)) immutable(spec, oldSpec, 'selector', 'spec', errors);
  switch (id) {
    case '/Pod':
      podChange(spec, oldSpec, subresource, errors);
      return;
    case 'apps/StatefulSet':
      statefulSetChange(spec, oldSpec, errors);
      return;
    case 'batch/Job':
      for (const field of ['selector', 'completionMode']) immutable(spec, oldSpec, field, 'spec', errors);
      if (oldSpec.suspend !== true) immutable(spec, oldSpec, 'template', 'spec', errors);
      return;
    case '/Service':
      serviceChange(spec, oldSpec, errors);
      return;
    case '/Secret':
      if (old.type !== undefined) immutable(object, old, 'type', '', errors);
      dataChange(object, old, ['data'], errors);
      return;
    case '/ConfigMap':
      dataChange(object, old, ['data', 'binaryData'], errors);
      return;
    case '/PersistentVolumeClaim':
      if (oldSpec.volumeName && !equalJson(spec as Json, oldSpec as Json)) {
        add(
          { errors },
          'FieldValueForbidden',
          'spec',
          'Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
        );
      }
      return;
    case 'rbac.authorization.k8s.io/RoleBinding':
    case 'rbac.authorization.k8s.io/ClusterRoleBinding':
      if (!same(object.roleRef, old.roleRef)) {
        add(
          { errors },
          'FieldValueInvalid',
          'roleRef',
          `Invalid value: ${show(object.roleRef as Json)}: cannot change roleRef`,
        );
      }
      return;
    case 'discovery.k8s.io/EndpointSlice':
      immutable(object, old, 'addressType', '', errors);
      return;
    case 'apiextensions.k8s.io/CustomResourceDefinition':
      for (const field of ['group', 'scope']) immutable(spec, oldSpec, field, 'spec', errors);
      return;
  }
}

function same(a: unknown, b: unknown): boolean {
  return equalJson(a as Json | undefined, b as Json | undefined);
}

function immutable(object: Draft, old: Draft, field: string, path: string, errors: FieldError[]): void {
  if (same(object[field], old[field])) return;
  const at = path === '' ? field : `${path}.${field}`;
  add(
    { errors },
    'FieldValueInvalid',
    at,
    `Invalid value: ${show((object[field] ?? null) as Json)}: field is immutable`,
  );
}

function statefulSetChange(spec: Draft, old: Draft, errors: FieldError[]): void {
  const free = [
    'replicas',
    'ordinals',
    'template',
    'updateStrategy',
    'revisionHistoryLimit',
    'persistentVolumeClaimRetentionPolicy',
    'minReadySeconds',
  ];
  if (same(without(spec, free), without(old, free))) return;
  const names = free.map((f) => `'${f}'`);
  const list = `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  add(
    { errors },
    'FieldValueForbidden',
    'spec',
    `Forbidden: updates to statefulset spec for fields other than ${list} are forbidden`,
  );
}

function serviceChange(spec: Draft, old: Draft, errors: FieldError[]): void {
  const keeps = old.type !== 'ExternalName' && spec.type !== 'ExternalName';
  if (keeps && old.clusterIP && spec.clusterIP !== old.clusterIP) {
    const text = `Invalid value: ${show([spec.clusterIP ?? ''] as unknown as Json)}: may not change once set`;
    add({ errors }, 'FieldValueInvalid', 'spec.clusterIPs[0]', text);
  }
}

function dataChange(object: Draft, old: Draft, fields: readonly string[], errors: FieldError[]): void {
  if (old.immutable !== true) return;
  if (object.immutable !== true) {
    add({ errors }, 'FieldValueForbidden', 'immutable', 'Forbidden: field is immutable when `immutable` is set');
  }
  for (const field of fields) {
    if (!same(object[field], old[field])) {
      add({ errors }, 'FieldValueForbidden', field, 'Forbidden: field is immutable when `immutable` is set');
    }
  }
}

function podChange(spec: Draft, old: Draft, subresource: string | undefined, errors: FieldError[]): void {
  const free = ['activeDeadlineSeconds', 'tolerations', 'schedulingGates'];
  if (subresource === 'ephemeralcontainers') free.push('ephemeralContainers');
  if (subresource === 'binding' || !old.nodeName) free.push('nodeName');
  // Zero and one are what a forced deletion sets.
  if (spec.terminationGracePeriodSeconds === 1) free.push('terminationGracePeriodSeconds');
  if (!same(comparable(spec, free), comparable(old, free))) {
    add(
      { errors },
      'FieldValueForbidden',
      'spec',
      'Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    );
  }
  const kept = children(old, 'tolerations').every((t) =>
    children(spec, 'tolerations').some((u) => sameToleration(t, u)),
  );
  if (!kept)
    add(
      { errors },
      'FieldValueForbidden',
      'spec.tolerations',
      'Forbidden: existing toleration can not be modified except its tolerationSeconds',
    );
}

function sameToleration(a: Draft, b: Draft): boolean {
  return same(without(a, ['tolerationSeconds']), without(b, ['tolerationSeconds']));
}

function comparable(spec: Draft, free: readonly string[]): Draft {
  const rest = without(spec, free);
  for (const list of ['containers', 'initContainers']) {
    if (rest[list] !== undefined) rest[list] = children(spec, list).map((c) => without(c, ['image']));
  }
  return rest;
}

function without(draft: Draft, fields: readonly string[]): Draft {
  return Object.fromEntries(
    Object.entries(draft).filter(([key, value]) => !fields.includes(key) && value !== undefined),
  );
}
