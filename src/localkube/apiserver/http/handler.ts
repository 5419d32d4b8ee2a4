// One HTTP request from the socket to its answer: who, what, may they, do it, render. Called by server.ts.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { PatchType } from '../../../base/kube/types.ts';
import { errorText } from '../../../base/runtime/log.ts';
import type { NodeBackend } from '../../node-backend.ts';
import { ANONYMOUS, authenticate, impersonate, unauthorized } from '../auth/authenticate.ts';
import { type AccessAttributes, authorize } from '../auth/rbac.ts';
import type { RequestContext, UserInfo } from '../core.ts';
import {
  type Answer,
  type Dispatcher,
  dispatch,
  listObject,
  type ResourceRequest,
  resolveResource,
} from '../dispatch.ts';
import { at, type Dict, dict } from '../json.ts';
import { PatchError } from '../merge/index.ts';
import type { ListQuery } from '../ops/read.ts';
import { liveObject } from '../ops/update.ts';
import { SchemaError } from '../schema/index.ts';
import { ApiError, asApiError, badRequest, methodNotAllowed, qualified, statusObject } from '../status.ts';
import type { Streaming } from '../streaming/index.ts';
import { tableOf } from '../tables/table.ts';
import { parseBody, readBody } from './body.ts';
import { streamLogs } from './logs.ts';
import { type Negotiated, negotiate } from './negotiate.ts';
import { type PathServices, servePath } from './paths.ts';
import { isTrue, parseRequest, type RequestInfo } from './request-info.ts';
import { sendError, sendObject } from './respond.ts';
import { streamWatch } from './watch-stream.ts';

const MAX_FIELD_MANAGER = 128;
const STREAMS: ReadonlySet<string> = new Set(['exec', 'attach', 'portforward']);

export interface HandlerServices extends PathServices {
  readonly dispatcher: Dispatcher;
  readonly backend: NodeBackend;
  readonly streaming: () => Streaming;
}

/** Never rejects: every failure becomes a Status. */
export async function handleRequest(
  services: HandlerServices,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const warnings: string[] = [];
  try {
    const url = requestUrl(request);
    const info = parseRequest(request.method ?? 'GET', url);
    const user = checkAccess(services, request, info);
    if (info.kind === 'path') servePath(services, request, response, url);
    else await serveResource(services, request, response, url, info, user, warnings);
  } catch (error) {
    const failure = toApiError(error);
    if (failure.code >= 500)
      services.core.log.error('request failed', {
        path: (request.url ?? '').split('?')[0],
        error: errorText(error),
        stack: error instanceof Error && !(error instanceof ApiError) ? error.stack : undefined,
      });
    sendError(response, failure, warnings);
  }
}

export function toApiError(error: unknown): ApiError {
  if (error instanceof SchemaError || error instanceof PatchError)
    return new ApiError(
      error.httpStatus,
      error.reason,
      error.message,
      error.causes.length ? { causes: error.causes } : undefined,
    );
  return asApiError(error);
}

function requestUrl(request: IncomingMessage): URL {
  const url = URL.parse(request.url ?? '/', 'https://kubernetes');
  if (!url) throw badRequest('the request line has no readable path');
  return url;
}

/** Throws 401 or 403. */
function checkAccess(services: HandlerServices, request: IncomingMessage, info: RequestInfo): UserInfo {
  const { store } = services.core;
  const user = impersonate(request, authenticate(request, services.tokens), store);
  const attributes: AccessAttributes =
    info.kind === 'path'
      ? info
      : {
          kind: 'resource',
          verb: info.verb,
          namespace: info.resource === 'namespaces' && info.name ? info.name : info.namespace,
          group: info.group,
          version: info.version,
          resource: info.resource,
          subresource: info.subresource,
          name: info.name,
        };
  if (authorize(store, user, attributes).allowed) return user;
  if (user.username === ANONYMOUS.username) throw unauthorized();
  throw accessDenied(user, info);
}

function accessDenied(user: UserInfo, info: RequestInfo): ApiError {
  if (info.kind === 'path')
    return new ApiError(
      403,
      'Forbidden',
      `forbidden: User "${user.username}" cannot ${info.verb} path "${info.path}"`,
      {},
    );
  const resource = info.subresource ? `${info.resource}/${info.subresource}` : info.resource;
  const scope = info.namespace ? `in the namespace "${info.namespace}"` : 'at the cluster scope';
  const what = `${qualified({ group: info.group, resource: info.resource })}${info.name ? ` "${info.name}"` : ''}`;
  return new ApiError(
    403,
    'Forbidden',
    `${what} is forbidden: User "${user.username}" cannot ${info.verb} resource "${resource}" in API group "${info.group}" ${scope}`,
    { ...(info.name ? { name: info.name } : {}), ...(info.group ? { group: info.group } : {}), kind: info.resource },
  );
}

async function serveResource(
  services: HandlerServices,
  request: IncomingMessage,
  response: ServerResponse,
  url: URL,
  info: ResourceRequest,
  user: UserInfo,
  warnings: string[],
): Promise<void> {
  const def = resolveResource(services.core, info);
  const query = url.searchParams;
  if (info.subresource === 'log') {
    if (info.verb !== 'get') throw methodNotAllowed();
    const pod = liveObject(services.core, { def, namespace: info.namespace, name: info.name });
    return streamLogs(pod, query, services.backend, response);
  }
  if (STREAMS.has(info.subresource)) throw badRequest('Upgrade request required');
  const negotiated = negotiate(request.headers.accept);
  if (info.verb === 'watch') {
    if (def.ephemeral) throw methodNotAllowed();
    return streamWatch(services.core, response, watchStream(def, info, query, negotiated, warnings));
  }
  const contentType = request.headers['content-type'] ?? '';
  const bytes = ['GET', 'HEAD'].includes(request.method ?? '') ? Buffer.alloc(0) : await readBody(request);
  let body = parseBody(bytes, contentType);
  if (request.method === 'DELETE') body = deleteOptions(body, query);
  const patchType = info.verb === 'patch' ? patchTypeOf(contentType) : undefined;
  const answer = await dispatch(services.dispatcher, {
    info,
    context: contextOf(request, query, user, warnings, patchType === 'apply', body),
    body,
    query: listQuery(info, query),
    ...(patchType ? { patchType } : {}),
  });
  render(services, response, answer, info, negotiated, query, warnings);
}

function watchStream(
  def: ReturnType<typeof resolveResource>,
  info: ResourceRequest,
  query: URLSearchParams,
  negotiated: Negotiated,
  warnings: string[],
) {
  const timeout = query.get('timeoutSeconds');
  return {
    input: {
      def,
      query: listQuery(info, query),
      resourceVersion: query.get('resourceVersion') ?? '',
      sendInitialEvents: query.has('sendInitialEvents') && isTrue(query.get('sendInitialEvents')),
    },
    rendering: negotiated.rendering,
    includeObject: includeObject(query),
    bookmarks: query.has('allowWatchBookmarks') && isTrue(query.get('allowWatchBookmarks')),
    timeoutSeconds: timeout && Number(timeout) > 0 ? Number(timeout) : undefined,
    warnings,
  };
}

function listQuery(info: ResourceRequest, query: URLSearchParams): ListQuery {
  const limit = Number(query.get('limit') ?? 0);
  if (!Number.isInteger(limit) || limit < 0) throw badRequest(`limit: Invalid value: "${query.get('limit')}"`);
  const named = info.verb === 'watch' && info.name ? `metadata.name=${info.name}` : '';
  const fields = [query.get('fieldSelector') ?? '', named].filter((part) => part !== '').join(',');
  return {
    namespace: info.namespace || undefined,
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: fields,
    limit,
    continue: query.get('continue') ?? '',
  };
}

function includeObject(query: URLSearchParams): 'None' | 'Metadata' | 'Object' {
  const value = query.get('includeObject');
  return value === 'None' || value === 'Object' ? value : 'Metadata';
}

function contextOf(
  request: IncomingMessage,
  query: URLSearchParams,
  user: UserInfo,
  warnings: string[],
  applying: boolean,
  body: unknown,
): RequestContext {
  const dryRun = [
    ...query.getAll('dryRun'),
    ...(Array.isArray(at(body, 'dryRun')) && request.method === 'DELETE' ? (at(body, 'dryRun') as string[]) : []),
  ];
  if (dryRun.some((value) => value !== 'All'))
    throw badRequest(`dryRun: Unsupported value: ${JSON.stringify(dryRun)}: supported values: "All"`);
  const validation = query.get('fieldValidation') ?? 'Warn';
  if (validation !== 'Ignore' && validation !== 'Warn' && validation !== 'Strict')
    throw badRequest(
      `fieldValidation: Unsupported value: "${validation}": supported values: "Ignore", "Strict", "Warn"`,
    );
  const manager = query.get('fieldManager') ?? '';
  if (manager.length > MAX_FIELD_MANAGER)
    throw badRequest(`fieldManager: Too long: may not be more than ${MAX_FIELD_MANAGER} bytes`);
  const agent = (request.headers['user-agent'] ?? 'unknown').split('/')[0]?.slice(0, MAX_FIELD_MANAGER) || 'unknown';
  return {
    user,
    dryRun: dryRun.length > 0,
    fieldManager: manager || (applying ? '' : agent),
    fieldValidation: validation,
    force: isTrue(query.get('force') ?? 'false'),
    warnings,
  };
}

/** kubectl and others send options as query parameters, as a body, or both. */
function deleteOptions(body: unknown, query: URLSearchParams): Dict {
  const out: Dict = { ...dict(body) };
  const grace = query.get('gracePeriodSeconds');
  if (grace !== null && out.gracePeriodSeconds === undefined) out.gracePeriodSeconds = Number(grace);
  const policy = query.get('propagationPolicy');
  if (policy && out.propagationPolicy === undefined) out.propagationPolicy = policy;
  return out;
}

function patchTypeOf(contentType: string): PatchType {
  const type = contentType.split(';')[0]?.trim();
  if (type === 'application/json-patch+json') return 'json';
  if (type === 'application/merge-patch+json') return 'merge';
  if (type === 'application/strategic-merge-patch+json') return 'strategic';
  if (type === 'application/apply-patch+yaml') return 'apply';
  throw new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml`,
  );
}

function render(
  services: HandlerServices,
  response: ServerResponse,
  answer: Answer,
  info: ResourceRequest,
  negotiated: Negotiated,
  query: URLSearchParams,
  warnings: readonly string[],
): void {
  const { rendering, yaml } = negotiated;
  const code = answer.kind === 'object' ? answer.code : 200;
  const whole = answer.kind === 'object' ? answer.object : listObject(answer.def, answer.listed);
  const def =
    answer.kind === 'list' ? answer.def : services.core.registry.find(info.group, info.version, info.resource);
  if (rendering.kind === 'object' || !def || (answer.kind === 'object' && whole.kind !== def.kind)) {
    sendObject(response, code, whole, warnings, yaml);
    return;
  }
  const objects = answer.kind === 'list' ? answer.listed.items : [whole];
  const metadata =
    answer.kind === 'list' ? dict(whole.metadata) : { resourceVersion: at(whole, 'metadata', 'resourceVersion') };
  const apiVersion = `meta.k8s.io/${rendering.version}`;
  if (rendering.kind === 'metadata') {
    const items = objects.map((object) => ({ kind: 'PartialObjectMetadata', apiVersion, metadata: object.metadata }));
    const list = { kind: 'PartialObjectMetadataList', apiVersion, metadata, items };
    sendObject(response, code, answer.kind === 'list' ? list : dict(items[0]), warnings, yaml);
    return;
  }
  const table = tableOf({
    def,
    objects,
    metadata,
    includeObject: includeObject(query),
    version: rendering.version,
    now: services.core.clock.now(),
    withColumns: true,
  });
  sendObject(response, code, table, warnings, yaml);
}

/** exec, attach, port-forward. */
export function handleUpgrade(services: HandlerServices, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  try {
    const url = requestUrl(request);
    const info = parseRequest(request.method ?? 'GET', url);
    checkAccess(services, request, info);
    if (info.kind === 'path' || !STREAMS.has(info.subresource)) throw badRequest('this path cannot be upgraded');
    const def = resolveResource(services.core, info);
    const pod = liveObject(services.core, { def, namespace: info.namespace, name: info.name });
    const phase = at(pod, 'status', 'phase');
    if (info.subresource !== 'portforward' && (phase === 'Succeeded' || phase === 'Failed'))
      throw badRequest(`cannot exec into a container in a completed pod; current phase is ${String(phase)}`);
    if (!at(pod, 'spec', 'nodeName')) throw badRequest(`pod ${info.name} does not have a host assigned`);
    const target = { namespace: info.namespace, pod: info.name };
    const streaming = services.streaming();
    if (info.subresource === 'exec') streaming.exec(request, socket, head, target);
    else if (info.subresource === 'attach') streaming.attach(request, socket, head, target);
    else streaming.portForward(request, socket, head, target);
  } catch (error) {
    refuseUpgrade(socket, toApiError(error));
  }
}

function refuseUpgrade(socket: Duplex, error: ApiError): void {
  const body = JSON.stringify(statusObject(error));
  socket.end(
    `HTTP/1.1 ${error.code} ${error.reason}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
