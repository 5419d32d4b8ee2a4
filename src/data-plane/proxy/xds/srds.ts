// Scoped routes: each scope names a route table, a request's headers choose the scope. Scopes come by SRDS or stand in the
// connection manager; their tables come by RDS, at once or when first asked for. Called by network-filter/routing.ts.
import {
  type ScopedRouteConfiguration,
  ScopedRouteConfigurationSchema,
} from '#proto/envoy/config/route/v3/scoped_route_pb.js';
import {
  ScopedRdsSchema,
  type ScopedRoutes,
  ScopedRoutesSchema,
} from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import type { RequestView } from '../route/matchers.ts';
import type { RouteTable } from '../route/route-table.ts';
import { scopeKeyBuilder, scopeKeyOf } from '../route/scope-key.ts';
import type { RouteSource } from '../route/source.ts';
import { constant, type Live } from '../transport-socket/secrets.ts';
import type { DiscoveryHub } from './hub.ts';
import { RDS, SRDS } from './kinds.ts';
import type { RouteManager } from './rds.ts';
import { readSource } from './source.ts';

/** All scopes of one source. */
interface ScopeBook {
  readonly scopes: Map<string, { readonly message: ScopedRouteConfiguration; readonly key: string }>;
  readonly listeners: Set<() => void>;
  arrived: boolean;
}

/** One scope as a connection manager uses it. */
interface Scope {
  readonly message: ScopedRouteConfiguration;
  table: Live<RouteTable> | undefined;
  /** Of one that is loaded on demand: no longer offered. */
  withdraw: () => void;
  release: () => void;
}

export interface ScopedSource {
  readonly source: RouteSource;
  /** Ready when the scopes and the tables they need at once have come. */
  readonly awaited: Live<unknown>;
  release(): void;
}

export class ScopeManager {
  readonly #hub: DiscoveryHub;
  readonly #routes: RouteManager;
  readonly #books = new Map<string, ScopeBook>();

  constructor(hub: DiscoveryHub, routes: RouteManager) {
    this.#hub = hub;
    this.#routes = routes;
  }

  /** For /config_dump. */
  views(): readonly { readonly name: string; readonly message: ScopedRouteConfiguration }[] {
    return [...this.#books.values()].flatMap((book) =>
      [...book.scopes].map(([name, { message }]) => ({ name, message })),
    );
  }

  /** Throws ConfigError. */
  subscribe(message: ScopedRoutes, path: string, statPrefix: string): ScopedSource {
    only(ScopedRoutesSchema, message, path, [
      'name',
      'scope_key_builder',
      'rds_config_source',
      'scoped_route_configurations_list',
      'scoped_rds',
    ]);
    const book = this.#bookOf(message, path, statPrefix);
    const users = new ScopeUser(message, book, { hub: this.#hub, routes: this.#routes }, path, statPrefix);
    return { source: users, awaited: users.awaited, release: () => users.release() };
  }

  #bookOf(message: ScopedRoutes, path: string, statPrefix: string): ScopeBook {
    const spec = message.configSpecifier;
    const book: ScopeBook = { scopes: new Map(), listeners: new Set(), arrived: false };
    if (spec.case === 'scopedRouteConfigurationsList') {
      for (const [i, scope] of spec.value.scopedRouteConfigurations.entries())
        addScope(book, scope, join(path, `scoped_route_configurations_list.scoped_route_configurations[${i}]`));
      book.arrived = true;
      return book;
    }
    if (spec.case !== 'scopedRds') throw new ConfigError(join(path, 'config_specifier'), 'value is required');
    const at = join(path, 'scoped_rds');
    only(ScopedRdsSchema, spec.value, at, ['scoped_rds_config_source']);
    const source = readSource(spec.value.scopedRdsConfigSource, join(at, 'scoped_rds_config_source'));
    const known = this.#books.get(source.key);
    if (known) return known;
    this.#books.set(source.key, book);
    const tell = (): void => {
      book.arrived = true;
      for (const run of [...book.listeners]) run();
    };
    this.#hub.collection(
      source,
      SRDS,
      {
        statPrefix: `${statPrefix}scoped_rds.${message.name}.`,
        refusalPrefix: 'Error adding/updating scoped route(s): ',
        apply: (scope) => addScope(book, scope, `scoped route '${scope.name}'`),
        remove: (name) => void book.scopes.delete(name),
        held: () => [...book.scopes.keys()],
        done: tell,
        timedOut: tell,
      },
      at,
    );
    return book;
  }
}

function addScope(book: ScopeBook, message: ScopedRouteConfiguration, path: string): void {
  only(ScopedRouteConfigurationSchema, message, path, [
    'on_demand',
    'name',
    'route_configuration_name',
    'route_configuration',
    'key',
  ]);
  if (message.name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  if ((message.routeConfigurationName === '') === (message.routeConfiguration === undefined))
    throw new ConfigError(path, 'exactly one of route_configuration_name and route_configuration is required');
  const key = scopeKeyOf(message.key, path);
  for (const [name, other] of book.scopes)
    if (other.key === key && name !== message.name)
      throw new ConfigError(
        path,
        `scope key conflict found, first scope is '${name}', second scope is '${message.name}'`,
      );
  book.scopes.set(message.name, { message, key });
}

function letGo(scope: Scope): void {
  scope.withdraw();
  scope.release();
}

/** The scopes as one connection manager sees them: with its tables. */
class ScopeUser implements RouteSource {
  readonly awaited: Live<unknown>;
  readonly #message: ScopedRoutes;
  readonly #book: ScopeBook;
  readonly #hub: DiscoveryHub;
  readonly #routes: RouteManager;
  readonly #path: string;
  readonly #statPrefix: string;
  readonly #keyOf: ReturnType<typeof scopeKeyBuilder>;
  readonly #listeners = new Set<() => void>();
  readonly #onChange = (): void => this.#refresh();
  #byKey = new Map<string, Scope>();

  constructor(
    message: ScopedRoutes,
    book: ScopeBook,
    { hub, routes }: { readonly hub: DiscoveryHub; readonly routes: RouteManager },
    path: string,
    statPrefix: string,
  ) {
    this.#message = message;
    this.#book = book;
    this.#hub = hub;
    this.#routes = routes;
    this.#path = path;
    this.#statPrefix = statPrefix;
    this.#keyOf = scopeKeyBuilder(message.scopeKeyBuilder, join(path, 'scope_key_builder'));
    this.awaited = {
      name: `scoped routes '${message.name}'`,
      current: () => undefined,
      ready: () => book.arrived && [...this.#byKey.values()].every((scope) => !scope.table || scope.table.ready()),
      listen: (changed) => {
        this.#listeners.add(changed);
        return () => this.#listeners.delete(changed);
      },
    };
    book.listeners.add(this.#onChange);
    this.#refresh();
  }

  tableFor(request: RequestView): RouteTable | undefined {
    const key = this.#keyOf(request);
    return key === undefined ? undefined : this.#byKey.get(key)?.table?.current();
  }

  fetch(request: RequestView, done: () => void): boolean {
    const key = this.#keyOf(request);
    const scope = key === undefined ? undefined : this.#byKey.get(key);
    if (!scope || scope.table?.ready()) return false;
    if (!scope.table) this.#load(scope);
    const { table } = scope;
    if (!table || table.ready()) return false;
    const stop = table.listen(() => {
      stop();
      done();
    });
    return true;
  }

  release(): void {
    this.#book.listeners.delete(this.#onChange);
    for (const scope of this.#byKey.values()) letGo(scope);
    this.#byKey.clear();
  }

  #refresh(): void {
    const before = this.#byKey;
    const after = new Map<string, Scope>();
    const kept = new Set<Scope>();
    for (const { message, key } of this.#book.scopes.values()) {
      const known = before.get(key);
      const scope =
        known?.message === message ? known : { message, table: undefined, withdraw: () => {}, release: () => {} };
      if (scope === known) kept.add(scope);
      else if (!message.onDemand) this.#load(scope);
      else this.#offer(scope);
      after.set(key, scope);
    }
    this.#byKey = after;
    // Only now: tables that both need must not be forgotten in between.
    for (const scope of before.values()) if (!kept.has(scope)) letGo(scope);
    this.#notify();
  }

  /** Another thread may want it first. */
  #offer(scope: Scope): void {
    const { rdsConfigSource } = this.#message;
    const { routeConfigurationName: name } = scope.message;
    if (name === '') return;
    const source = readSource(rdsConfigSource, join(this.#path, 'rds_config_source'));
    scope.withdraw = this.#hub.offer(source, RDS, name, () => {
      if (!scope.table) this.#load(scope);
    });
  }

  #load(scope: Scope): void {
    const { routeConfiguration, routeConfigurationName } = scope.message;
    if (routeConfiguration) {
      const table = this.#routes.compile(routeConfiguration, `scoped route '${scope.message.name}'`);
      scope.table = constant(table.name, table);
      return;
    }
    const share = this.#routes.subscribe(
      routeConfigurationName,
      this.#message.rdsConfigSource,
      join(this.#path, 'rds_config_source'),
      this.#statPrefix,
    );
    const stop = share.live.listen(() => this.#notify());
    scope.table = share.live;
    scope.release = () => {
      stop();
      share.release();
    };
  }

  #notify(): void {
    for (const run of [...this.#listeners]) run();
  }
}
