// A KubeClient without HTTP: the same dispatch, admission and validation, as the cluster's admin. Made by server.ts.
import {
  type KubeClient,
  KubeError,
  type KubeList,
  type KubeObject,
  type ListOptions,
  type ResourceType,
  type WatchEvent,
  type WriteOptions,
} from '../../base/kube/types.ts';
import { ADMIN, type RequestContext } from './core.ts';
import { type Dispatcher, type DispatchInput, dispatch, type ResourceRequest, resolveResource } from './dispatch.ts';
import { toApiError } from './http/handler.ts';
import { parseRequest } from './http/request-info.ts';
import type { ListQuery } from './ops/read.ts';
import { badRequest } from './status.ts';
import { type WatchOutput, watchObjects } from './watch.ts';

const DEFAULT_MANAGER = 'localkube';

/** Objects it returns are shared and frozen. */
export function createLocalClient(dispatcher: Dispatcher): KubeClient {
  const { core } = dispatcher;
  const run = async (
    input: Omit<DispatchInput, 'context' | 'query'> & { readonly query?: ListQuery },
    options?: WriteOptions,
  ) => {
    const warnings: string[] = [];
    try {
      return await dispatch(dispatcher, {
        query: { namespace: undefined },
        ...input,
        context: contextOf(warnings, options),
      });
    } catch (error) {
      throw asKubeError(error);
    } finally {
      for (const warning of warnings)
        core.log.debug('warning', { resource: input.info.resource, name: input.info.name, warning });
    }
  };
  const object = async <T>(input: Omit<DispatchInput, 'context' | 'query'>, options?: WriteOptions): Promise<T> => {
    const answer = await run(input, options);
    if (answer.kind === 'list') throw new KubeError(400, 'BadRequest', `${input.info.resource} needs a name`);
    return answer.object as T;
  };
  return {
    get: (type, namespace, name) => object({ info: infoOf(type, 'get', namespace, name), body: undefined }),
    async list<T extends KubeObject>(type: ResourceType, options: ListOptions = {}): Promise<KubeList<T>> {
      const answer = await run({
        info: infoOf(type, 'list', options.namespace, ''),
        body: undefined,
        query: queryOf(options),
      });
      if (answer.kind !== 'list') throw new KubeError(500, 'InternalError', `listing ${type.resource} gave no list`);
      return { resourceVersion: answer.listed.resourceVersion, items: answer.listed.items as unknown as readonly T[] };
    },
    create: (type, item, options) => {
      // A subresource is posted below its parent, whose name the object carries.
      const name = options?.subresource ? item.metadata.name : '';
      return object(
        { info: infoOf(type, 'create', item.metadata.namespace, name, options?.subresource), body: item },
        options,
      );
    },
    update: (type, item, options) =>
      object(
        { info: infoOf(type, 'update', item.metadata.namespace, item.metadata.name, options?.subresource), body: item },
        options,
      ),
    patch: (type, namespace, name, patchType, patch, options) =>
      object({ info: infoOf(type, 'patch', namespace, name, options?.subresource), body: patch, patchType }, options),
    async delete(type, namespace, name, options = {}) {
      const body = {
        ...(options.gracePeriodSeconds !== undefined ? { gracePeriodSeconds: options.gracePeriodSeconds } : {}),
        ...(options.propagationPolicy ? { propagationPolicy: options.propagationPolicy } : {}),
        ...(options.uid ? { preconditions: { uid: options.uid } } : {}),
      };
      await object({ info: infoOf(type, 'delete', namespace, name), body });
    },
    post(path, body) {
      const info = parseRequest('POST', new URL(path, 'https://kubernetes'));
      if (info.kind !== 'resource')
        return Promise.reject(new KubeError(404, 'NotFound', `nothing to post to at ${path}`));
      return object({ info, body });
    },
    watch: (type, options, onEvent, signal) => watch(dispatcher, type, options, onEvent, signal),
  };
}

function contextOf(warnings: string[], options: WriteOptions | undefined): RequestContext {
  return {
    user: ADMIN,
    dryRun: false,
    fieldManager: options?.fieldManager ?? DEFAULT_MANAGER,
    fieldValidation: 'Warn',
    force: options?.force ?? false,
    warnings,
  };
}

function infoOf(
  type: ResourceType,
  verb: string,
  namespace: string | undefined,
  name: string,
  subresource = '',
): ResourceRequest {
  return {
    kind: 'resource',
    verb,
    group: type.group,
    version: type.version,
    namespace: type.namespaced ? (namespace ?? '') : '',
    resource: type.resource,
    name,
    subresource,
    rest: '',
  };
}

function queryOf(options: ListOptions): ListQuery {
  return {
    namespace: options.namespace,
    labelSelector: options.labelSelector ?? '',
    fieldSelector: options.fieldSelector ?? '',
  };
}

function asKubeError(error: unknown): KubeError {
  const failure = toApiError(error);
  return new KubeError(failure.code, failure.reason, failure.message);
}

function watch<T extends KubeObject>(
  dispatcher: Dispatcher,
  type: ResourceType,
  options: ListOptions & { readonly resourceVersion: string },
  onEvent: (event: WatchEvent<T>) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((done, fail) => {
    // Handed over in a turn of their own: a handler that writes must not run inside another write.
    const pending: WatchOutput[] = [];
    let scheduled = false;
    const flush = (): void => {
      scheduled = false;
      while (pending.length && !signal.aborted) {
        const output = pending.shift();
        if (output)
          onEvent(output.type === 'BOOKMARK' ? output : { type: output.type, object: output.object as unknown as T });
      }
    };
    const emit = (output: WatchOutput): void => {
      pending.push(output);
      if (scheduled) return;
      scheduled = true;
      queueMicrotask(() => {
        try {
          flush();
        } catch (error) {
          stop();
          fail(error);
        }
      });
    };
    let stop = (): void => {};
    try {
      if (signal.aborted) return done();
      const def = resolveResource(dispatcher.core, infoOf(type, 'watch', options.namespace, ''));
      if (def.ephemeral) throw badRequest(`${type.resource} cannot be watched`);
      stop = watchObjects(
        dispatcher.core,
        { def, query: queryOf(options), resourceVersion: options.resourceVersion },
        emit,
      );
      signal.addEventListener(
        'abort',
        () => {
          stop();
          done();
        },
        { once: true },
      );
    } catch (error) {
      fail(asKubeError(error));
    }
  });
}
