// KubeClient over HTTP(S) with kept-alive connections. Called by istiod, the CLI, and everything outside localkube's process.
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { KubeConnection } from './connection.ts';
import { listQuery, resourcePath } from './paths.ts';
import {
  type KubeClient,
  KubeError,
  type KubeList,
  type KubeObject,
  type ListOptions,
  type PatchType,
  type ResourceType,
  type WatchEvent,
  type WriteOptions,
} from './types.ts';

export interface HttpKubeClient extends KubeClient {
  /** GET of any path, e.g. `/apis`, `/version`: the parsed body. */
  getPath<T>(path: string): Promise<T>;
  /** Ends all connections, watches too. */
  close(): void;
}

export interface HttpClientOptions {
  readonly userAgent?: string;
  /** For a whole request that is not a watch; default 30 s. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_RESPONSE_BYTES = 64 * 1024 * 1024;
const MAX_EVENT_BYTES = 16 * 1024 * 1024;
const MAX_ERROR_TEXT = 1_000;
const PAGE_SIZE = 500;
/** The server ends a watch after this; a connection that died silently is noticed by then. */
const WATCH_SECONDS = 300;
const WATCH_GRACE_MS = 30_000;
const KEEP_ALIVE_MS = 30_000;

const PATCH_CONTENT_TYPE: Readonly<Record<PatchType, string>> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

interface ListPage<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
  readonly apiVersion?: string;
  readonly kind?: string;
}

export function createHttpKubeClient(connection: KubeConnection, options: HttpClientOptions = {}): HttpKubeClient {
  const transport = createTransport(connection, options);
  const { call, open } = transport;

  const listAll = async <T extends KubeObject>(path: string, query: (more: Record<string, string>) => string) => {
    const items: T[] = [];
    let page = await call<ListPage<T>>({ method: 'GET', path: path + query({ limit: String(PAGE_SIZE) }) });
    for (;;) {
      for (const item of page.items ?? []) items.push(withKind(item, page));
      const next = page.metadata?.continue;
      if (!next) return { resourceVersion: page.metadata?.resourceVersion ?? '', items };
      page = await call<ListPage<T>>({
        method: 'GET',
        path: path + query({ limit: String(PAGE_SIZE), continue: next }),
      });
    }
  };

  return {
    close: transport.close,
    getPath: (path) => call({ method: 'GET', path }),
    get: (type, namespace, name) => call({ method: 'GET', path: resourcePath(type, namespace, name) }),
    async list<T extends KubeObject>(type: ResourceType, listOptions: ListOptions = {}): Promise<KubeList<T>> {
      const path = resourcePath(type, listOptions.namespace);
      try {
        return await listAll<T>(path, (more) => listQuery(listOptions, more));
      } catch (error) {
        // The continue token grew too old between two pages: take everything in one answer.
        if (!(error instanceof KubeError) || error.code !== 410) throw error;
        const page = await call<ListPage<T>>({ method: 'GET', path: path + listQuery(listOptions) });
        return {
          resourceVersion: page.metadata?.resourceVersion ?? '',
          items: (page.items ?? []).map((item) => withKind(item, page)),
        };
      }
    },
    create: (type, object, write = {}) =>
      call({
        method: 'POST',
        path:
          resourcePath(
            type,
            object.metadata.namespace,
            write.subresource ? object.metadata.name : undefined,
            write.subresource,
          ) + writeQuery(write),
        body: object,
      }),
    update: (type, object, write = {}) =>
      call({
        method: 'PUT',
        path:
          resourcePath(type, object.metadata.namespace, object.metadata.name, write.subresource) + writeQuery(write),
        body: object,
      }),
    patch: (type, namespace, name, patchType, patch, write = {}) =>
      call({
        method: 'PATCH',
        path:
          resourcePath(type, namespace, name, write.subresource) +
          writeQuery(write, patchType === 'apply' ? write.force : undefined),
        body: patch,
        contentType: PATCH_CONTENT_TYPE[patchType],
      }),
    async delete(type, namespace, name, how = {}) {
      const { gracePeriodSeconds, propagationPolicy, uid } = how;
      const body = {
        kind: 'DeleteOptions',
        apiVersion: 'v1',
        gracePeriodSeconds,
        propagationPolicy,
        preconditions: uid === undefined ? undefined : { uid },
      };
      await call({ method: 'DELETE', path: resourcePath(type, namespace, name), body });
    },
    post: (path, body) => call({ method: 'POST', path, body }),
    async watch(type, watchOptions, onEvent, signal) {
      const more = {
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion: watchOptions.resourceVersion,
        timeoutSeconds: String(WATCH_SECONDS),
      };
      const path = resourcePath(type, watchOptions.namespace) + listQuery(watchOptions, more);
      const deadline = AbortSignal.timeout(WATCH_SECONDS * 1000 + WATCH_GRACE_MS);
      try {
        const response = await open({ method: 'GET', path, signal: AbortSignal.any([signal, deadline]) });
        await readWatch(response, onEvent);
      } catch (error) {
        if (signal.aborted || deadline.aborted) return;
        throw error;
      }
    },
  };
}

function writeQuery(write: WriteOptions, force?: boolean): string {
  return listQuery({}, { fieldManager: write.fieldManager, force: force === undefined ? undefined : String(force) });
}

/** Items of a list carry no kind of their own in some servers. */
function withKind<T extends KubeObject>(item: T, page: ListPage<T>): T {
  if (item.kind && item.apiVersion) return item;
  return { ...item, apiVersion: page.apiVersion ?? '', kind: (page.kind ?? '').replace(/List$/, '') };
}

interface Transport {
  call<T>(call: Call): Promise<T>;
  /** The response with its body unread, after its status was found good. */
  open(call: Call): Promise<IncomingMessage>;
  close(): void;
}

function createTransport(connection: KubeConnection, options: HttpClientOptions): Transport {
  const base = new URL(connection.server);
  const secure = base.protocol === 'https:';
  const agentOptions = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS };
  const agent = secure
    ? new HttpsAgent({
        ...agentOptions,
        ca: connection.caPem,
        cert: connection.clientCertPem,
        key: connection.clientKeyPem,
        servername: connection.tlsServerName,
        rejectUnauthorized: connection.insecureSkipTlsVerify !== true,
        minVersion: 'TLSv1.2',
      })
    : new HttpAgent(agentOptions);
  const prefix = base.pathname.replace(/\/+$/, '');
  const live = new Set<ClientRequest>();

  const send = (call: Call, isRetry: boolean): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const payload = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
      const token = connection.token?.();
      const request = (secure ? httpsRequest : httpRequest)({
        agent,
        protocol: base.protocol,
        hostname: base.hostname.replace(/^\[|\]$/g, ''),
        port: base.port || (secure ? 443 : 80),
        method: call.method,
        path: prefix + call.path,
        signal: call.signal,
        headers: {
          accept: 'application/json',
          'user-agent': options.userAgent ?? 'meltemi',
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...(payload
            ? { 'content-type': call.contentType ?? 'application/json', 'content-length': payload.length }
            : {}),
        },
      });
      live.add(request);
      request.once('close', () => live.delete(request));
      request.once('response', resolve);
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The server closed an idle connection just as we took it up again; a read may safely be sent anew.
        if (call.method === 'GET' && !isRetry && request.reusedSocket && error.code === 'ECONNRESET')
          send(call, true).then(resolve, reject);
        else reject(new KubeError(0, 'Unreachable', `cannot reach ${connection.server}: ${error.message}`));
      });
      request.end(payload);
    });
  const open = async (call: Call): Promise<IncomingMessage> => {
    const response = await send(call, false);
    const code = response.statusCode ?? 0;
    if (code >= 200 && code < 300) return response;
    throw statusError(code, await readBody(response));
  };
  return {
    open,
    async call<T>(call: Call) {
      const signal = AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
      try {
        const body = await readBody(await open({ ...call, signal }));
        return parseJson(body, call.path) as T;
      } catch (error) {
        if (signal.aborted)
          throw new KubeError(0, 'Timeout', `${connection.server} did not answer ${call.method} ${call.path} in time`);
        throw error;
      }
    },
    close() {
      for (const request of live) request.destroy();
      agent.destroy();
    },
  };
}

function parseJson(body: string, path: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    throw new KubeError(0, 'BadResponse', `the answer to ${path} is not JSON`);
  }
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_RESPONSE_BYTES)
        throw new KubeError(0, 'TooLarge', `the answer is larger than ${MAX_RESPONSE_BYTES} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof KubeError) throw error;
    throw new KubeError(0, 'Unreachable', `the connection broke within the answer: ${(error as Error).message}`);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function statusError(code: number, body: string): KubeError {
  try {
    const status = JSON.parse(body) as { readonly kind?: string; readonly reason?: string; readonly message?: string };
    if (status.kind === 'Status') return new KubeError(code, status.reason ?? '', status.message ?? `HTTP ${code}`);
  } catch {
    // Not a Status: a proxy or another server spoke.
  }
  return new KubeError(code, '', body.slice(0, MAX_ERROR_TEXT).trim() || `HTTP ${code}`);
}

interface WireEvent {
  readonly type?: string;
  readonly object?: KubeObject & { readonly code?: number; readonly reason?: string; readonly message?: string };
}

/** Newline-separated events; ends with the response. */
async function readWatch<T extends KubeObject>(
  response: IncomingMessage,
  onEvent: (event: WatchEvent<T>) => void,
): Promise<void> {
  let pending: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        pending.push(chunk.subarray(start, end));
        const line = Buffer.concat(pending).toString('utf8');
        pending = [];
        size = 0;
        start = end + 1;
        if (line.trim() !== '') handleLine(line, onEvent);
      }
      if (start < chunk.length) pending.push(chunk.subarray(start));
      size += chunk.length - start;
      if (size > MAX_EVENT_BYTES)
        throw new KubeError(0, 'TooLarge', `a watch event is larger than ${MAX_EVENT_BYTES} bytes`);
    }
  } catch (error) {
    if (error instanceof KubeError) throw error;
    throw new KubeError(0, 'Unreachable', `the watch broke: ${(error as Error).message}`);
  } finally {
    response.destroy();
  }
}

function handleLine<T extends KubeObject>(line: string, onEvent: (event: WatchEvent<T>) => void): void {
  const event = parseJson(line, 'a watch') as WireEvent;
  const object = event.object;
  if (!object) throw new KubeError(0, 'BadResponse', 'a watch event has no object');
  switch (event.type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      onEvent({ type: event.type, object: object as unknown as T });
      return;
    case 'BOOKMARK':
      onEvent({ type: 'BOOKMARK', resourceVersion: object.metadata.resourceVersion ?? '' });
      return;
    case 'ERROR':
      throw new KubeError(object.code ?? 500, object.reason ?? '', object.message ?? 'the watch failed');
    default:
      throw new KubeError(0, 'BadResponse', `unknown watch event type "${event.type}"`);
  }
}
