// Where the routes of a connection manager come from: its own message, RDS or scopes. Called by registry.ts.
import type { HttpConnectionManager } from '#proto/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js';
import { ConfigError, join } from '../config/fields.ts';
import { buildPerFilter } from '../http-filter/registry.ts';
import { RouteTable } from '../route/route-table.ts';
import { oneTable, type RouteSource } from '../route/source.ts';
import { constant, type Live } from '../transport-socket/secrets.ts';
import type { NetworkContext } from './registry.ts';

export interface Routing {
  readonly source: RouteSource;
  /** What the listener waits for. */
  readonly awaited: Live<unknown> | undefined;
  /** The table that stands in the listener itself. */
  readonly fixed: RouteTable | undefined;
  release(): void;
}

/** Throws ConfigError. */
export function routingOf(
  message: HttpConnectionManager,
  statPrefix: string,
  context: Pick<NetworkContext, 'routes' | 'scopes' | 'routeDeps' | 'shared'>,
  path: string,
): Routing {
  const spec = message.routeSpecifier;
  switch (spec.case) {
    case 'routeConfig': {
      const at = join(path, 'route_config');
      const table = new RouteTable(
        spec.value,
        { ...context.routeDeps, shared: context.shared, perFilter: buildPerFilter, validateClusters: true },
        at,
      );
      if (spec.value.vhds) throw new ConfigError(join(at, 'vhds'), 'only tables that come by RDS have hosts on demand');
      return { source: oneTable(constant(table.name, table)), awaited: undefined, fixed: table, release() {} };
    }
    case 'rds': {
      const at = join(path, 'rds');
      const { routeConfigName, configSource } = spec.value;
      if (routeConfigName === '') throw new ConfigError(join(at, 'route_config_name'), 'value is required');
      const share = context.routes.subscribe(routeConfigName, configSource, at, `http.${statPrefix}.`);
      return {
        source: {
          tableFor: () => share.live.current(),
          fetch: (request, done) => share.fetchHost(request.authority, done),
        },
        awaited: share.live,
        fixed: undefined,
        release: () => share.release(),
      };
    }
    case 'scopedRoutes': {
      const scoped = context.scopes.subscribe(spec.value, join(path, 'scoped_routes'), `http.${statPrefix}.`);
      return { source: scoped.source, awaited: scoped.awaited, fixed: undefined, release: () => scoped.release() };
    }
    default:
      throw new ConfigError(join(path, 'route_specifier'), 'value is required');
  }
}
