// What a RouteConfiguration becomes: read by the router, the filters and the admin interface.
import type { Any } from '@bufbuild/protobuf/wkt';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { FormatDeps } from '../access-log/format.ts';
import type { Metadata } from '../cluster/host.ts';
import type { StringTest } from '../config/matchers.ts';
import type { PerFilter, PerFilterEntry } from '../http-filter/per-filter.ts';
import type { RateLimitActions } from '../http-filter/rate-limit-actions.ts';
import type { RuntimeView, Share } from '../runtime/runtime.ts';
import type { StatsStore } from '../stats/stats.ts';
import type { SharedNumbers } from '../tally/numbers.ts';
import type { RouteTracing } from '../tracing/settings.ts';
import type { DataReader } from '../transport-socket/secrets.ts';
import type { RouteActionSettings } from './action.ts';
import type { HeaderEdits } from './header-edits.ts';
import type { RequestTest } from './matchers.ts';
import type { PathMatch } from './path.ts';
import type { RouteList } from './route-list.ts';
import type { RouteStats } from './route-stats.ts';

export type PerFilterBuilder = (
  name: string,
  any: Any,
  path: string,
  context: { readonly runtime: RuntimeView; readonly clock: Clock; readonly shared?: SharedNumbers | undefined },
) => PerFilterEntry;

/** What every table of a proxy is compiled with. */
export interface RouteDeps {
  readonly runtime: RuntimeView;
  readonly reader: DataReader;
  readonly stats: StatsStore;
  readonly format: FormatDeps;
  readonly clock: Clock;
  /** What limits of filters on routes count by when there are workers. */
  readonly shared?: SharedNumbers | undefined;
  /** For validate_clusters. */
  readonly knownCluster: (name: string) => boolean;
}

/** What one table is compiled with. Settings of filters on routes are built by the filters, see http-filter/registry.ts. */
export interface RouteContext extends RouteDeps {
  readonly perFilter: PerFilterBuilder;
  /** When the table does not say. */
  readonly validateClusters: boolean;
}

export interface CompiledRoute {
  readonly name: string;
  /** Place among the routes of its virtual host. */
  readonly order: number;
  readonly virtualHost: CompiledVirtualHost;
  readonly match: PathMatch;
  readonly pathTest: StringTest;
  readonly tests: readonly RequestTest[];
  readonly share: Share;
  readonly action: RouteActionSettings;
  readonly metadata: Metadata;
  readonly decorator: string;
  readonly decoratorPropagates: boolean;
  /** In the order they are applied, beside those of a weighted cluster. */
  readonly requestEdits: readonly HeaderEdits[];
  readonly responseEdits: readonly HeaderEdits[];
  /** The more specific settings of a weighted cluster are applied last, not first. */
  readonly specificLast: boolean;
  readonly perFilter: PerFilter;
  readonly rateLimits: readonly RateLimitActions[];
  /** Bytes of a request's body kept for another try or a mirror. */
  readonly bufferLimit: number;
  readonly stats: RouteStats | undefined;
  readonly tracing: RouteTracing | undefined;
}

export interface CompiledVirtualHost {
  readonly name: string;
  readonly requireTls: 'no' | 'external' | 'all';
  /** What answers requests that had to come by TLS. */
  readonly tlsRedirect: CompiledRoute | undefined;
  readonly includeAttempts: boolean;
  readonly includeAttemptsInResponse: boolean;
  readonly includeTimeoutRetry: boolean;
  readonly metadata: Metadata;
  readonly virtualClusters: readonly VirtualCluster[];
  routes: RouteList;
}

/** A share of the requests that is counted apart; the first whose tests hold. */
export interface VirtualCluster {
  readonly name: string;
  readonly tests: readonly RequestTest[];
  readonly stats: RouteStats;
}
