// GET pods/x/log: the node's log as plain text. Called by http/handler.ts.
import type { ServerResponse } from 'node:http';
import { type LogRequest, type NodeBackend, NodeError } from '../../node-backend.ts';
import { type ApiObject, at, dicts, str } from '../json.ts';
import { ApiError, badRequest } from '../status.ts';
import { isTrue } from './request-info.ts';

const REASONS: Readonly<Record<number, string>> = { 400: 'BadRequest', 404: 'NotFound', 503: 'ServiceUnavailable' };

export async function streamLogs(
  pod: ApiObject,
  query: URLSearchParams,
  backend: NodeBackend,
  response: ServerResponse,
): Promise<void> {
  const request = logRequest(pod, query);
  const abort = new AbortController();
  response.once('close', () => abort.abort());
  const start = (): void => {
    if (response.headersSent) return;
    response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' });
    response.flushHeaders();
  };
  // A follower sees the connection stand at once; the others can still be told of a failure.
  try {
    await backend.logs(
      request,
      (chunk) => {
        start();
        if (!response.destroyed) response.write(chunk);
      },
      abort.signal,
    );
    start();
    response.end();
  } catch (error) {
    if (abort.signal.aborted) return;
    if (response.headersSent) {
      response.end();
      return;
    }
    if (error instanceof NodeError)
      throw new ApiError(error.httpStatus, REASONS[error.httpStatus] ?? 'InternalError', error.message);
    throw error;
  }
}

function logRequest(pod: ApiObject, query: URLSearchParams): LogRequest {
  const names = (field: string): string[] => dicts(at(pod, 'spec', field)).map((item) => str(item.name));
  const main = names('containers');
  const all = [...names('initContainers'), ...main, ...names('ephemeralContainers')];
  const asked = query.get('container') ?? '';
  const name = pod.metadata.name;
  if (asked === '' && main.length !== 1)
    throw badRequest(`a container name must be specified for pod ${name}, choose one of: [${main.join(' ')}]`);
  if (asked !== '' && !all.includes(asked)) throw badRequest(`container ${asked} is not valid for pod ${name}`);
  const sinceTime = query.get('sinceTime');
  return {
    namespace: pod.metadata.namespace ?? '',
    pod: name,
    container: asked || (main[0] ?? ''),
    follow: flag(query, 'follow'),
    previous: flag(query, 'previous'),
    timestamps: flag(query, 'timestamps'),
    ...numeric(query, 'tailLines'),
    ...numeric(query, 'sinceSeconds'),
    ...numeric(query, 'limitBytes'),
    ...(sinceTime ? { sinceTime } : {}),
  };
}

const flag = (query: URLSearchParams, field: string): boolean => query.has(field) && isTrue(query.get(field));

function numeric<K extends string>(query: URLSearchParams, field: K): { readonly [P in K]?: number } {
  const text = query.get(field);
  if (text === null || text === '') return {};
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw badRequest(
      `PodLogOptions "" is invalid: ${field}: Invalid value: "${text}": must be greater than or equal to 0`,
    );
  return { [field]: value } as { readonly [P in K]?: number };
}
