// One resource request, already authorized, to its operation. Called by the HTTP handler and the local client, so both
// take the same path; watches, logs and streams are the HTTP layer's.
import type { PatchType } from '../../base/kube/types.ts';
import { answerReview } from './auth/reviews.ts';
import type { TokenIssuer } from './auth/tokens.ts';
import type { Core, RequestContext } from './core.ts';
import type { RequestInfo } from './http/request-info.ts';
import { type ApiObject, type Dict, dict, isDict } from './json.ts';
import { createObject } from './ops/create.ts';
import { type Deleted, deleteObject } from './ops/delete.ts';
import { bindPod, deleteInput, evictPod } from './ops/pods.ts';
import { type Listed, type ListQuery, listObjects } from './ops/read.ts';
import { getScale, patchScale, updateScale } from './ops/scale.ts';
import { liveObject, patchObject, type Target, updateObject } from './ops/update.ts';
import { groupVersion, type ResourceDef } from './resources.ts';
import { ApiError, badRequest, methodNotAllowed, unknownPath } from './status.ts';

export type ResourceRequest = Extract<RequestInfo, { kind: 'resource' }>;

export type Answer =
  | { readonly kind: 'object'; readonly code: number; readonly object: Dict }
  | { readonly kind: 'list'; readonly listed: Listed; readonly def: ResourceDef };

export interface DispatchInput {
  readonly info: ResourceRequest;
  readonly context: RequestContext;
  readonly body: unknown;
  readonly query: ListQuery;
  readonly patchType?: PatchType;
}

export interface Dispatcher {
  readonly core: Core;
  readonly tokens: TokenIssuer;
}

/** Throws 404 for what is not served. */
export function resolveResource(core: Core, info: ResourceRequest): ResourceDef {
  const def = core.registry.find(info.group, info.version, info.resource);
  if (!def) throw unknownPath();
  if (info.subresource !== '' && !def.subresources.includes(info.subresource)) throw unknownPath();
  if (info.namespace !== '' && !def.namespaced) throw unknownPath();
  return def;
}

export async function dispatch(dispatcher: Dispatcher, input: DispatchInput): Promise<Answer> {
  const { core } = dispatcher;
  const { info, context } = input;
  const def = resolveResource(core, info);
  if (def.ephemeral) {
    if (info.verb !== 'create') throw methodNotAllowed();
    return {
      kind: 'object',
      code: 201,
      object: answerReview(core, dispatcher.tokens, context, def, info.namespace, input.body),
    };
  }
  if (info.subresource !== '' && info.subresource !== 'status') {
    const special = await subresource(dispatcher, input, def);
    if (special) return special;
  }
  if (info.name !== '' && def.namespaced && info.namespace === '') throw unknownPath();
  switch (info.verb) {
    case 'get':
      return { kind: 'object', code: 200, object: liveObject(core, targetOf(def, info)) };
    case 'list':
      return { kind: 'list', def, listed: listObjects(core, def, input.query) };
    case 'create':
      if (info.name !== '') throw methodNotAllowed();
      return {
        kind: 'object',
        code: 201,
        object: await createObject(core, context, { def, namespace: info.namespace || undefined, body: input.body }),
      };
    case 'update':
    case 'patch':
      return write(core, input, def);
    case 'delete':
      return deleted(def, await deleteObject(core, context, targetOf(def, info), deleteInput(dict(input.body))));
    case 'deletecollection':
      return deleteCollection(core, input, def);
    default:
      throw methodNotAllowed();
  }
}

function targetOf(def: ResourceDef, info: ResourceRequest): Target {
  return {
    def,
    namespace: info.namespace || undefined,
    name: info.name,
    ...(info.subresource ? { subresource: info.subresource } : {}),
  };
}

async function write(core: Core, input: DispatchInput, def: ResourceDef): Promise<Answer> {
  const target = targetOf(def, input.info);
  if (target.name === '') throw methodNotAllowed();
  const written =
    input.info.verb === 'update'
      ? await updateObject(core, input.context, target, input.body)
      : await patchObject(core, input.context, target, input.patchType ?? 'merge', input.body);
  return { kind: 'object', code: written.created ? 201 : 200, object: written.object };
}

async function subresource(
  dispatcher: Dispatcher,
  input: DispatchInput,
  def: ResourceDef,
): Promise<Answer | undefined> {
  const { core, tokens } = dispatcher;
  const { info, context, body } = input;
  const target = targetOf(def, info);
  const ok = (object: Dict, code = 200): Answer => ({ kind: 'object', code, object });
  if (info.subresource === 'scale') {
    if (info.verb === 'get') return ok(getScale(core, target));
    if (info.verb === 'update') return ok(await updateScale(core, context, target, body));
    if (info.verb === 'patch') return ok(await patchScale(core, context, target, input.patchType ?? 'merge', body));
    throw methodNotAllowed();
  }
  if (info.subresource === 'token' || info.subresource === 'binding' || info.subresource === 'eviction') {
    if (info.verb !== 'create') throw methodNotAllowed();
    if (!isDict(body)) throw badRequest('the body of the request is not an object');
    if (info.subresource === 'token') return ok(tokens.request(info.namespace, info.name, body), 201);
    if (info.subresource === 'binding') return ok(bindPod(core, context, target, body), 201);
    return ok(await evictPod(core, context, target, body), 201);
  }
  return undefined;
}

/** What a client is told: the object while it lives on, else a Status that names it. */
function deleted(def: ResourceDef, result: Deleted): Answer {
  if (result.kind === 'marked' || def.collection === '/pods')
    return { kind: 'object', code: 200, object: result.object };
  const { name, uid } = result.object.metadata;
  return {
    kind: 'object',
    code: 200,
    object: {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      details: { name, ...(def.group ? { group: def.group } : {}), kind: def.resource, uid },
    },
  };
}

async function deleteCollection(core: Core, input: DispatchInput, def: ResourceDef): Promise<Answer> {
  const { items, resourceVersion } = listObjects(core, def, input.query);
  const options = deleteInput(dict(input.body));
  const gone: ApiObject[] = [];
  for (const item of items) {
    const target = { def, namespace: item.metadata.namespace, name: item.metadata.name };
    try {
      gone.push((await deleteObject(core, input.context, target, options)).object);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 404) throw error;
    }
  }
  return { kind: 'object', code: 200, object: listObject(def, { items: gone, resourceVersion }) };
}

export function listObject(def: ResourceDef, listed: Listed): Dict {
  return {
    kind: def.listKind,
    apiVersion: groupVersion(def),
    metadata: {
      resourceVersion: listed.resourceVersion,
      ...(listed.continue ? { continue: listed.continue } : {}),
      ...(listed.continue && listed.remaining ? { remainingItemCount: listed.remaining } : {}),
    },
    items: listed.items,
  };
}
