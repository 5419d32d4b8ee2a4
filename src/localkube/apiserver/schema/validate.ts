// Whether an object may be stored: metadata, schema, and for built-in kinds their meaning. Called by the API server after
// decoding, defaults and mutating webhooks.
import { add, checkValue, show } from './check.ts';
import { child, children, type Draft } from './draft.ts';
import { validateChange } from './immutable.ts';
import { dns1035Label, dnsLabel, dnsSubdomain, labelKey, labelValue, pathSegment } from './names.ts';
import type { FieldError, Json, JsonObject, JsonSchema, KindSchema } from './types.ts';
import { validateMeaning } from './validate-kinds.ts';

export interface ValidateOptions {
  /** The stored object, for an update. */
  readonly old?: JsonObject;
  /** `status`, `scale`, `ephemeralcontainers`, `binding`. */
  readonly subresource?: string;
}

/** Bytes of all annotations of an object together. */
const MAX_ANNOTATIONS = 256 * 1024;

const PATH_NAMES = new Set(['Role', 'ClusterRole', 'RoleBinding', 'ClusterRoleBinding', 'Event']);

/** Empty when the object may be stored. Call after decodeObject and applyDefaults. */
export function validateObject(
  object: JsonObject,
  kind: KindSchema,
  options: ValidateOptions = {},
): readonly FieldError[] {
  const errors: FieldError[] = [];
  const draft = object as Draft;
  validateMetadata(draft, kind, errors);
  const { metadata: _metadata, ...properties } = kind.schema.properties ?? {};
  const required = kind.schema.required?.filter((name) => name !== 'metadata');
  // The status of a built-in kind is written by the cluster itself: no required fields there, as in Go.
  const status = properties.status;
  const checked: JsonSchema =
    !kind.custom && status
      ? { ...kind.schema, properties: withoutStatus(properties), required }
      : { ...kind.schema, properties, required };
  checkValue(object as Json, checked, '', { resolve: kind.resolve, errors, builtIn: !kind.custom });
  if (kind.custom) return errors;
  if (options.subresource === 'status') return errors;
  if (errors.length === 0) validateMeaning(draft, kind, errors);
  if (options.old) validateChange(draft, options.old as Draft, kind, options.subresource, errors);
  return errors;
}

function withoutStatus(properties: Record<string, JsonSchema>): Record<string, JsonSchema> {
  const { status: _status, ...rest } = properties;
  return rest;
}

function validateMetadata(object: Draft, kind: KindSchema, errors: FieldError[]): void {
  const metadata = child(object, 'metadata') ?? {};
  const { name, generateName } = metadata;
  if ((name === undefined || name === '') && !generateName) {
    add({ errors }, 'FieldValueRequired', 'metadata.name', 'Required value: name or generateName is required');
  } else if (typeof name === 'string' && name !== '') {
    const wrong = nameRule(kind)(name);
    if (wrong !== undefined)
      add({ errors }, 'FieldValueInvalid', 'metadata.name', `Invalid value: ${show(name)}: ${wrong}`);
  }
  if (typeof metadata.namespace === 'string' && metadata.namespace !== '') {
    const wrong = dnsLabel(metadata.namespace);
    if (wrong !== undefined) {
      add(
        { errors },
        'FieldValueInvalid',
        'metadata.namespace',
        `Invalid value: ${show(metadata.namespace)}: ${wrong}`,
      );
    }
  }
  validateLabels(child(metadata, 'labels'), 'metadata.labels', errors);
  validateAnnotations(child(metadata, 'annotations'), errors);
  for (const [i, finalizer] of (Array.isArray(metadata.finalizers) ? metadata.finalizers : []).entries()) {
    const wrong = labelKey(String(finalizer));
    if (wrong !== undefined) {
      add(
        { errors },
        'FieldValueInvalid',
        `metadata.finalizers[${i}]`,
        `Invalid value: ${show(String(finalizer))}: ${wrong}`,
      );
    }
  }
  validateOwners(children(metadata, 'ownerReferences'), errors);
}

function validateOwners(owners: readonly Draft[], errors: FieldError[]): void {
  let controllers = 0;
  for (const [i, owner] of owners.entries()) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid']) {
      if (!owner[field]) {
        add(
          { errors },
          'FieldValueInvalid',
          `metadata.ownerReferences[${i}].${field}`,
          `Invalid value: "": must not be empty`,
        );
      }
    }
    if (owner.controller === true && ++controllers > 1) {
      const text = `Invalid value: ${show(owner as Json)}: Only one reference can have Controller set to true.`;
      add({ errors }, 'FieldValueInvalid', 'metadata.ownerReferences', text);
    }
  }
}

function nameRule(kind: KindSchema): (name: string) => string | undefined {
  if (kind.custom) return dnsSubdomain;
  const { group, kind: name } = kind.gvk;
  if (PATH_NAMES.has(name) || group === 'authorization.k8s.io') return pathSegment;
  if (group === '' && name === 'Namespace') return dnsLabel;
  if (group === '' && name === 'Service') return dns1035Label;
  return dnsSubdomain;
}

export function validateLabels(labels: Draft | undefined, path: string, errors: FieldError[]): void {
  for (const [key, value] of Object.entries(labels ?? {})) {
    const wrongKey = labelKey(key);
    if (wrongKey !== undefined) add({ errors }, 'FieldValueInvalid', path, `Invalid value: ${show(key)}: ${wrongKey}`);
    const wrongValue = typeof value === 'string' ? labelValue(value) : undefined;
    if (wrongValue !== undefined)
      add({ errors }, 'FieldValueInvalid', path, `Invalid value: ${show(value as Json)}: ${wrongValue}`);
  }
}

function validateAnnotations(annotations: Draft | undefined, errors: FieldError[]): void {
  let size = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    const wrong = labelKey(key.toLowerCase());
    if (wrong !== undefined)
      add({ errors }, 'FieldValueInvalid', 'metadata.annotations', `Invalid value: ${show(key)}: ${wrong}`);
    size += key.length + String(value).length;
  }
  if (size > MAX_ANNOTATIONS) {
    add(
      { errors },
      'FieldValueTooLong',
      'metadata.annotations',
      `Too long: may not be more than ${MAX_ANNOTATIONS} bytes`,
    );
  }
}
