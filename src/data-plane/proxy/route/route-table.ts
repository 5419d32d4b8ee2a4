// A RouteConfiguration compiled: host → virtual host → first matching route. Immutable; RDS swaps the whole table.
import type { Any } from '@bufbuild/protobuf/wkt';
import {
  type Route,
  type RouteMatch,
  RouteMatchSchema,
  RouteSchema,
  type VirtualHost,
  VirtualHost_TlsRequirementType,
  VirtualHostSchema,
} from '#proto/envoy/config/route/v3/route_components_pb.js';
import { type RouteConfiguration, RouteConfigurationSchema } from '#proto/envoy/config/route/v3/route_pb.js';
import { metadataOf } from '../cluster/endpoints.ts';
import type { Metadata } from '../cluster/host.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { fullRegex, type StringTest } from '../config/matchers.ts';
import type { PerFilter, PerFilterEntry } from '../http-filter/per-filter.ts';
import { type RuntimeView, runtimeShare, type Share } from '../runtime/runtime.ts';
import { type ActionContext, compileAction, type RouteActionSettings } from './action.ts';
import { compileEdits, type HeaderEdits } from './header-edits.ts';
import { headerTest, queryTest, type RequestTest, type RequestView } from './matchers.ts';
import { type PathMatch, pathOf } from './path.ts';

/** Makes the settings a filter keeps on a route: http-filter/registry.ts. */
export type PerFilterBuilder = (
  name: string,
  any: Any,
  path: string,
  context: { readonly runtime: RuntimeView },
) => PerFilterEntry;

/** What a table is compiled with. */
export interface RouteContext {
  readonly perFilter: PerFilterBuilder;
  readonly runtime: RuntimeView;
}

export interface CompiledRoute {
  readonly name: string;
  readonly virtualHost: CompiledVirtualHost;
  readonly match: PathMatch;
  readonly test: RequestTest;
  readonly action: RouteActionSettings;
  readonly metadata: Metadata;
  readonly decorator: string;
  readonly decoratorPropagates: boolean;
  readonly requestEdits: readonly HeaderEdits[];
  readonly responseEdits: readonly HeaderEdits[];
  readonly perFilter: PerFilter;
}

export interface CompiledVirtualHost {
  readonly name: string;
  readonly requireTls: boolean;
  readonly includeAttempts: boolean;
  readonly includeAttemptsInResponse: boolean;
  readonly routes: CompiledRoute[];
}

export class RouteTable {
  readonly name: string;
  readonly message: RouteConfiguration;
  readonly #exact = new Map<string, CompiledVirtualHost>();
  readonly #suffixes: [string, CompiledVirtualHost][] = [];
  readonly #prefixes: [string, CompiledVirtualHost][] = [];
  #any: CompiledVirtualHost | undefined;
  readonly #ignorePort: boolean;

  constructor(message: RouteConfiguration, context: RouteContext, path: string) {
    only(RouteConfigurationSchema, message, path, [
      'name',
      'virtual_hosts',
      'response_headers_to_add',
      'response_headers_to_remove',
      'request_headers_to_add',
      'request_headers_to_remove',
      'most_specific_header_mutations_wins',
      'validate_clusters',
      'max_direct_response_body_size_bytes',
      'ignore_port_in_host_matching',
      'typed_per_filter_config',
      'metadata',
    ]);
    this.name = message.name;
    this.message = message;
    this.#ignorePort = message.ignorePortInHostMatching;
    for (const [i, host] of message.virtualHosts.entries())
      this.#addHost(host, message, context, join(path, `virtual_hosts[${i}]`));
    this.#suffixes.sort(([a], [b]) => b.length - a.length);
    this.#prefixes.sort(([a], [b]) => b.length - a.length);
  }

  /** The first route that matches; `random` in [0, 1) decides runtime fractions. Undefined = no route. */
  find(request: RequestView, random: () => number): CompiledRoute | undefined {
    const host = this.findHost(request.authority);
    if (!host) return undefined;
    for (const route of host.routes) {
      if (route.test(request)) {
        const share = route.action.fraction();
        if (share >= 1 || random() < share) return route;
      }
    }
    return undefined;
  }

  findHost(authority: string): CompiledVirtualHost | undefined {
    let host = authority.toLowerCase();
    if (this.#ignorePort) host = host.replace(/:\d+$/, '');
    const exact = this.#exact.get(host);
    if (exact) return exact;
    // A wildcard stands for at least one character.
    for (const [suffix, found] of this.#suffixes)
      if (host.length > suffix.length && host.endsWith(suffix)) return found;
    for (const [prefix, found] of this.#prefixes)
      if (host.length > prefix.length && host.startsWith(prefix)) return found;
    return this.#any;
  }

  #addHost(message: VirtualHost, table: RouteConfiguration, context: RouteContext, path: string): void {
    only(VirtualHostSchema, message, path, [
      'name',
      'domains',
      'routes',
      'require_tls',
      'request_headers_to_add',
      'request_headers_to_remove',
      'response_headers_to_add',
      'response_headers_to_remove',
      'typed_per_filter_config',
      'include_request_attempt_count',
      'include_attempt_count_in_response',
      'retry_policy',
      'metadata',
    ]);
    if (message.requireTls === VirtualHost_TlsRequirementType.EXTERNAL_ONLY)
      throw new ConfigError(join(path, 'require_tls'), 'EXTERNAL_ONLY is not supported by this proxy');
    const host: CompiledVirtualHost = {
      name: message.name,
      requireTls: message.requireTls === VirtualHost_TlsRequirementType.ALL,
      includeAttempts: message.includeRequestAttemptCount,
      includeAttemptsInResponse: message.includeAttemptCountInResponse,
      routes: [],
    };
    for (const [i, route] of message.routes.entries())
      host.routes.push(compileRoute(route, host, message, table, context, join(path, `routes[${i}]`)));
    for (const domain of message.domains) this.#addDomain(domain.toLowerCase(), host, path);
  }

  #addDomain(domain: string, host: CompiledVirtualHost, path: string): void {
    const duplicate = () => {
      throw new ConfigError(path, `Only unique values for domains are permitted. Duplicate entry of domain ${domain}`);
    };
    if (domain === '*') {
      if (this.#any) throw new ConfigError(path, `Only a single wildcard domain is permitted in route ${this.name}`);
      this.#any = host;
    } else if (domain.startsWith('*')) {
      if (this.#suffixes.some(([known]) => known === domain.slice(1))) duplicate();
      this.#suffixes.push([domain.slice(1), host]);
    } else if (domain.endsWith('*')) {
      if (this.#prefixes.some(([known]) => known === domain.slice(0, -1))) duplicate();
      this.#prefixes.push([domain.slice(0, -1), host]);
    } else {
      if (this.#exact.has(domain)) duplicate();
      this.#exact.set(domain, host);
    }
  }
}

function compileRoute(
  message: Route,
  host: CompiledVirtualHost,
  hostMessage: VirtualHost,
  table: RouteConfiguration,
  routeContext: RouteContext,
  path: string,
): CompiledRoute {
  only(RouteSchema, message, path, [
    'name',
    'match',
    'route',
    'redirect',
    'direct_response',
    'metadata',
    'decorator',
    'typed_per_filter_config',
    'request_headers_to_add',
    'request_headers_to_remove',
    'response_headers_to_add',
    'response_headers_to_remove',
  ]);
  if (!message.match) throw new ConfigError(join(path, 'match'), 'value is required');
  const match = compileMatch(message.match, routeContext.runtime, join(path, 'match'));
  const context: ActionContext = { match: match.path, hostRetry: hostMessage.retryPolicy };
  const filters = new Map<string, PerFilterEntry>();
  for (const [at, source] of [
    [join(path, 'typed_per_filter_config'), message.typedPerFilterConfig],
    [join(path, 'virtual_host.typed_per_filter_config'), hostMessage.typedPerFilterConfig],
    ['typed_per_filter_config', table.typedPerFilterConfig],
  ] as const)
    for (const [name, any] of Object.entries(source))
      if (!filters.has(name)) filters.set(name, routeContext.perFilter(name, any, join(at, name), routeContext));
  const order = <T>(list: [T, T, T]): T[] => (table.mostSpecificHeaderMutationsWins ? list.reverse() : list);
  return {
    name: message.name,
    virtualHost: host,
    match: match.path,
    test: match.test,
    action: compileAction(message, match.fraction, context, path),
    metadata: metadataOf(message.metadata),
    decorator: message.decorator?.operation ?? '',
    decoratorPropagates: message.decorator?.propagate ?? true,
    requestEdits: order([
      compileEdits(message.requestHeadersToAdd, message.requestHeadersToRemove, join(path, 'request')),
      compileEdits(
        hostMessage.requestHeadersToAdd,
        hostMessage.requestHeadersToRemove,
        join(path, 'virtual_host.request'),
      ),
      compileEdits(table.requestHeadersToAdd, table.requestHeadersToRemove, 'request'),
    ]),
    responseEdits: order([
      compileEdits(message.responseHeadersToAdd, message.responseHeadersToRemove, join(path, 'response')),
      compileEdits(
        hostMessage.responseHeadersToAdd,
        hostMessage.responseHeadersToRemove,
        join(path, 'virtual_host.response'),
      ),
      compileEdits(table.responseHeadersToAdd, table.responseHeadersToRemove, 'response'),
    ]),
    perFilter: filters,
  };
}

function compileMatch(
  message: RouteMatch,
  runtime: RuntimeView,
  path: string,
): { path: PathMatch; test: RequestTest; fraction: Share } {
  only(RouteMatchSchema, message, path, [
    'prefix',
    'path',
    'safe_regex',
    'path_separated_prefix',
    'case_sensitive',
    'runtime_fraction',
    'headers',
    'query_parameters',
    'grpc',
  ]);
  const fold = message.caseSensitive === false;
  const [kind, byPath] = pathTest(message, fold, path);
  const tests: RequestTest[] = [
    ...message.headers.map((header, i) => headerTest(header, join(path, `headers[${i}]`))),
    ...message.queryParameters.map((query, i) => queryTest(query, join(path, `query_parameters[${i}]`))),
  ];
  if (message.grpc) tests.push(headerTest(GRPC_CONTENT, path));
  const test: RequestTest =
    tests.length === 0
      ? (request) => byPath(pathOf(request.path))
      : (request) => byPath(pathOf(request.path)) && tests.every((one) => one(request));
  return { path: kind, test, fraction: runtimeShare(runtime, message.runtimeFraction, 1) };
}

const GRPC_CONTENT = {
  $typeName: 'envoy.config.route.v3.HeaderMatcher',
  name: 'content-type',
  headerMatchSpecifier: { case: 'prefixMatch', value: 'application/grpc' },
  invertMatch: false,
  treatMissingHeaderAsEmpty: false,
} as const;

function pathTest(message: RouteMatch, fold: boolean, path: string): [PathMatch, StringTest] {
  const spec = message.pathSpecifier;
  const prepare = (text: string) => (fold ? text.toLowerCase() : text);
  switch (spec.case) {
    case 'prefix': {
      const want = prepare(spec.value);
      const kind: PathMatch = { kind: 'prefix', value: spec.value, fold };
      if (want === '/') return [kind, (text) => text.charCodeAt(0) === 47];
      return [kind, (text) => prepare(text).startsWith(want)];
    }
    case 'path': {
      const want = prepare(spec.value);
      return [{ kind: 'exact', value: spec.value, fold }, (text) => prepare(text) === want];
    }
    case 'pathSeparatedPrefix': {
      const want = prepare(spec.value);
      return [
        { kind: 'prefix', value: spec.value, fold },
        (text) => {
          const have = prepare(text);
          return have === want || have.startsWith(`${want}/`);
        },
      ];
    }
    case 'safeRegex':
      return [{ kind: 'regex' }, fullRegex(spec.value, join(path, 'safe_regex'))];
    default:
      throw new ConfigError(join(path, 'path_specifier'), 'value is required');
  }
}
