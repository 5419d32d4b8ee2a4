// Steps that create, update and patch have in common: decoding, names, defaults, validation, writing. Called by ops/*.
import { randomInt } from 'node:crypto';
import { StoreError } from '../../store/store.ts';
import { asJson, type Core, type RequestContext, schemaOf, toStorage } from '../core.ts';
import { type ApiObject, at, type Dict, dict, isDict, str } from '../json.ts';
import { groupVersion, type ResourceDef } from '../resources.ts';
import { applyDefaults, decodeObject, validateObject } from '../schema/index.ts';
import { ApiError, alreadyExists, badRequest, forbidden, invalid, modified, notFound } from '../status.ts';

/** Letters and digits of generated names: no vowels and nothing that looks like another. */
const SUFFIX_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;
const MAX_GENERATED_NAME = 63;

export function generateName(base: string): string {
  let suffix = '';
  for (let i = 0; i < SUFFIX_LENGTH; i++) suffix += SUFFIX_ALPHABET[randomInt(SUFFIX_ALPHABET.length)];
  return base.slice(0, MAX_GENERATED_NAME - SUFFIX_LENGTH) + suffix;
}

/** The body as an object of `def`, unknown fields handled as the request asks; the caller owns the result. */
export function decode(core: Core, context: RequestContext, def: ResourceDef, body: unknown): ApiObject {
  if (!isDict(body)) throw badRequest('the body of the request is not an object');
  const expected = groupVersion(def);
  const given = str(body.apiVersion) || expected;
  const kind = str(body.kind) || def.kind;
  if (given !== expected || kind !== def.kind) {
    if (kind !== def.kind)
      throw badRequest(
        `${kind} in version "${given}" cannot be handled as a ${def.kind}: the request path names ${def.resource}`,
      );
    throw badRequest(`the API version in the data (${given}) does not match the expected API version (${expected})`);
  }
  const decoded = decodeObject(
    asJson({ ...body, apiVersion: expected, kind: def.kind }),
    schemaOf(core, def),
    context.fieldValidation,
    context.duplicates,
  );
  context.warnings.push(...decoded.warnings);
  const object = structuredClone(decoded.object) as unknown as ApiObject;
  if (!isDict(object.metadata)) object.metadata = { name: '' };
  return object;
}

/** Puts the request's namespace and name into the object, or refuses when they differ. */
export function matchRequest(
  object: ApiObject,
  def: ResourceDef,
  namespace: string | undefined,
  name: string | undefined,
): void {
  const meta = object.metadata;
  if (def.namespaced) {
    if (meta.namespace && namespace && meta.namespace !== namespace)
      throw badRequest(`the namespace of the provided object does not match the namespace sent on the request`);
    if (namespace) meta.namespace = namespace;
  } else delete meta.namespace;
  if (name === undefined) return;
  if (meta.name && meta.name !== name)
    throw badRequest(`the name of the object (${meta.name}) does not match the name on the URL (${name})`);
  meta.name = name;
}

export function withDefaults(core: Core, def: ResourceDef, object: ApiObject): ApiObject {
  const out = structuredClone(applyDefaults(asJson(object), schemaOf(core, def))) as unknown as ApiObject;
  return out;
}

/** Throws 422 when the object may not be stored. */
export function validate(core: Core, def: ResourceDef, object: ApiObject, old?: ApiObject, subresource?: string): void {
  const errors = validateObject(asJson(object), schemaOf(core, def), {
    ...(old ? { old: asJson(old) } : {}),
    ...(subresource ? { subresource } : {}),
  });
  if (errors.length)
    throw invalid(
      def,
      object.metadata.name ?? '',
      errors.map((error) => ({ path: error.field, message: error.message })),
    );
}

/** A namespaced object needs its namespace, and a new one needs a namespace that is not going away. */
export function checkNamespace(core: Core, def: ResourceDef, object: ApiObject, creating: boolean): void {
  if (!def.namespaced || !creating) return;
  const name = object.metadata.namespace ?? '';
  const namespaces = { group: '', resource: 'namespaces', kind: 'Namespace' };
  const namespace = core.store.get('/namespaces', '', name);
  if (!namespace) throw notFound(namespaces, name);
  if (at(namespace, 'metadata', 'deletionTimestamp') !== undefined)
    throw new ApiError(
      403,
      'Forbidden',
      forbidden(
        def,
        object.metadata.name ?? '',
        `unable to create new content in namespace ${name} because it is being terminated`,
      ).message,
      {
        name: object.metadata.name ?? '',
        kind: def.resource,
        causes: [
          {
            reason: 'NamespaceTerminating',
            message: `namespace ${name} is being terminated`,
            field: 'metadata.namespace',
          },
        ],
      },
    );
}

/** The store's failures in the API's words. */
export function writing<T>(def: ResourceDef, name: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (error.kind === 'exists') throw alreadyExists(def, name);
    if (error.kind === 'not-found') throw notFound(def, name);
    if (error.kind === 'conflict') throw modified(def, name);
    throw error;
  }
}

export function stored(def: ResourceDef, object: ApiObject) {
  return toStorage(def, object);
}

/** What counts as a change of `metadata.generation`: everything outside metadata and status. */
export function desiredState(object: ApiObject): Dict {
  const { metadata: _metadata, status: _status, apiVersion: _apiVersion, kind: _kind, ...rest } = object;
  return rest;
}

export function hasStatus(def: ResourceDef): boolean {
  return def.subresources.includes('status');
}

/** Whether generation is counted: built-ins say so, custom kinds always. */
export function countsGeneration(def: ResourceDef): boolean {
  return def.generation || def.custom !== undefined;
}

export function finalizersOf(object: ApiObject): readonly string[] {
  return object.metadata.finalizers ?? [];
}

/** Namespaces also wait for spec.finalizers. */
export function mayVanish(def: ResourceDef, object: ApiObject): boolean {
  if (finalizersOf(object).length > 0) return false;
  if (def.collection !== '/namespaces') return true;
  const inSpec = dict(object.spec).finalizers;
  return !Array.isArray(inSpec) || inSpec.length === 0;
}
