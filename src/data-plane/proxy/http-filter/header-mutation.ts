// envoy.filters.http.header_mutation: changes headers and trailers of requests and responses by a list, in its order. The
// filter's own list runs first, then those of the route's levels.
import {
  type HeaderMutation as Mutation,
  HeaderMutationSchema as MutationSchema,
} from '#proto/envoy/config/common/mutation_rules/v3/mutation_rules_pb.js';
import {
  type HeaderMutation,
  type HeaderMutationPerRoute,
  HeaderMutationPerRouteSchema,
  HeaderMutationSchema,
  type Mutations,
  MutationsSchema,
} from '#proto/envoy/extensions/filters/http/header_mutation/v3/header_mutation_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { type HeaderMap, headerName } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import type { StreamInfo } from '../http/stream-info.ts';
import { applyEdits, compileEdits } from '../route/header-edits.ts';
import type { HttpFilter } from './filter.ts';

type Change = (headers: HeaderMap, info: StreamInfo) => void;

export interface MutationSettings {
  readonly request: readonly Change[];
  readonly response: readonly Change[];
  readonly requestTrailers: readonly Change[];
  readonly responseTrailers: readonly Change[];
}

export function readHeaderMutation(
  message: HeaderMutation,
  path: string,
): MutationSettings & { readonly specificLast: boolean } {
  only(HeaderMutationSchema, message, path, ['mutations', 'most_specific_header_mutations_wins']);
  return {
    ...readMutations(message.mutations, join(path, 'mutations')),
    specificLast: message.mostSpecificHeaderMutationsWins,
  };
}

export function readHeaderMutationPerRoute(message: HeaderMutationPerRoute, path: string): MutationSettings {
  only(HeaderMutationPerRouteSchema, message, path, ['mutations']);
  return readMutations(message.mutations, join(path, 'mutations'));
}

function readMutations(message: Mutations | undefined, path: string): MutationSettings {
  if (!message) return { request: [], response: [], requestTrailers: [], responseTrailers: [] };
  only(MutationsSchema, message, path, [
    'request_mutations',
    'response_mutations',
    'request_trailers_mutations',
    'response_trailers_mutations',
  ]);
  const list = (mutations: readonly Mutation[], name: string) =>
    mutations.map((one, i) => change(one, join(path, `${name}[${i}]`)));
  return {
    request: list(message.requestMutations, 'request_mutations'),
    response: list(message.responseMutations, 'response_mutations'),
    requestTrailers: list(message.requestTrailersMutations, 'request_trailers_mutations'),
    responseTrailers: list(message.responseTrailersMutations, 'response_trailers_mutations'),
  };
}

function change(message: Mutation, path: string): Change {
  only(MutationSchema, message, path, ['remove', 'append']);
  const { action } = message;
  if (action.case === 'remove') {
    if (action.value.startsWith(':') || action.value.toLowerCase() === 'host')
      throw new ConfigError(join(path, 'remove'), `:-prefixed or host headers may not be removed: ${action.value}`);
    const name = headerName(action.value);
    return (headers) => headers.remove(name);
  }
  if (action.case !== 'append') throw new ConfigError(join(path, 'action'), 'value is required');
  const edits = compileEdits([action.value], [], join(path, 'append'));
  return (headers, info) => applyEdits(edits, headers, info);
}

export function createHeaderMutationFilter(
  own: ReturnType<typeof readHeaderMutation>,
  context: { readonly name: string },
): HttpFilter {
  /** The filter's own changes, then those of every level of the route. */
  const apply = (stream: HttpStream, what: keyof MutationSettings, headers: HeaderMap): void => {
    for (const one of own[what]) one(headers, stream.info);
    if (!stream.settingsOf(context.name)) return;
    const levels = stream.levelsOf(context.name) as MutationSettings[];
    for (const level of own.specificLast ? levels.toReversed() : levels)
      for (const one of level[what]) one(headers, stream.info);
  };
  return {
    name: context.name,
    onRequest(stream) {
      apply(stream, 'request', stream.headers);
      return 'continue';
    },
    onRequestEnd(stream, trailers) {
      if (trailers) apply(stream, 'requestTrailers', trailers);
      return 'continue';
    },
    onResponse(stream, headers) {
      apply(stream, 'response', headers);
    },
    onResponseEnd(stream, trailers) {
      if (trailers) apply(stream, 'responseTrailers', trailers);
      return 'continue';
    },
  };
}
