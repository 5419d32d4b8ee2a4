// envoy.filters.http.health_check: answers probes by the proxy's own state and that of clusters, or passes them on and
// remembers the answer for a while.
import {
  type HealthCheck,
  HealthCheckSchema,
} from '#proto/envoy/extensions/filters/http/health_check/v3/health_check_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';
import { headerName } from '../http/header-map.ts';
import type { HttpStream } from '../http/stream.ts';
import { FLAG } from '../http/stream-info.ts';
import { headerTest } from '../route/matchers.ts';
import { StatsScope, type StatsStore } from '../stats/stats.ts';
import type { HttpFilter } from './filter.ts';
import type { ClusterFinder } from './router.ts';

const FAIL = headerName('x-envoy-immediate-health-check-fail');
const CHECKED_CLUSTER = headerName('x-envoy-upstream-healthchecked-cluster');

export interface HealthContext {
  readonly name: string;
  readonly clock: Clock;
  readonly clusters: ClusterFinder;
  readonly stats: StatsStore;
  /** Of the connection manager, with its dot. */
  readonly statPrefix: string;
  /** True after /healthcheck/fail, or while the proxy drains. */
  readonly healthFailed: () => boolean;
  /** --service-cluster, for those who ask. */
  readonly serviceCluster: string;
}

/** What the filter notes of a health check: answered here, or passed on. */
const ANSWERED = 'answered';
const PASSED = 'passed';

const COUNTED = [
  'request_total',
  'failed',
  'ok',
  'cached_response',
  'failed_cluster_not_found',
  'failed_cluster_empty',
  'failed_cluster_unhealthy',
  'degraded',
] as const;
const COUNT = { total: 0, failed: 1, ok: 2, cached: 3 } as const;
const PROBLEMS = { failed_no_cluster_found: 4, failed_cluster_empty: 5, failed_cluster_unhealthy: 6 } as const;

export function createHealthCheckFilter(message: HealthCheck, context: HealthContext, path: string): HttpFilter {
  only(HealthCheckSchema, message, path, [
    'pass_through_mode',
    'cache_time',
    'cluster_min_healthy_percentages',
    'headers',
  ]);
  if (message.passThroughMode === undefined)
    throw new ConfigError(join(path, 'pass_through_mode'), 'value is required');
  const passThrough = message.passThroughMode;
  const cacheMs = millis(message.cacheTime, 0);
  if (!passThrough && cacheMs > 0)
    throw new ConfigError(path, 'cache_time_ms must not be set when path_through_mode is disabled');
  const tests = message.headers.map((header, i) => headerTest(header, join(path, `headers[${i}]`)));
  const minimums = Object.entries(message.clusterMinHealthyPercentages).map(
    ([name, percent]) => [name, percent.value] as const,
  );
  const counters = new StatsScope(context.stats, `${context.statPrefix}health_check.`).sparse(COUNTED);
  const reply = (stream: HttpStream, status: number, details: string, failed: boolean): void => {
    counters.add(COUNT.total);
    counters.add(status === 200 ? COUNT.ok : COUNT.failed);
    answer(stream, status, details, failed);
  };
  let cached: { readonly status: number; readonly until: number } | undefined;
  return {
    name: context.name,
    onRequest(stream, index) {
      if (!tests.every((test) => test(stream))) return 'continue';
      stream.slots[index] = ANSWERED;
      if (context.healthFailed()) {
        reply(stream, 503, 'health_check_failed', true);
        return 'stop';
      }
      if (!passThrough) {
        let details = minimums.length === 0 ? 'ok' : 'ok_cluster_healthy';
        for (const [name, minimum] of minimums) {
          const problem = problemOf(context.clusters, name, minimum);
          if (!problem) continue;
          details = problem;
          counters.add(PROBLEMS[problem]);
        }
        const healthy = details.startsWith('ok');
        reply(stream, healthy ? 200 : 503, `health_check_${details}`, false);
        return 'stop';
      }
      if (cached && cached.until > context.clock.now()) {
        counters.add(COUNT.cached);
        reply(stream, cached.status, 'health_check_cached', false);
        return 'stop';
      }
      stream.slots[index] = PASSED;
      return 'continue';
    },
    onResponse(stream, headers, index) {
      const kind = stream.slots[index];
      if (kind !== undefined) headers.set(CHECKED_CLUSTER, context.serviceCluster);
      if (kind === PASSED && cacheMs > 0)
        cached = { status: stream.info.responseCode === 200 ? 200 : 503, until: context.clock.now() + cacheMs };
      // Upstream proxies that check our health passively learn of it by any response.
      if (context.healthFailed()) headers.set(FAIL, 'true');
    },
  };
}

function answer(stream: HttpStream, status: number, details: string, failed: boolean): void {
  stream.localReply({
    status,
    body: '',
    flags: failed || status !== 200 ? FLAG.LH : 0,
    details,
    edit: (headers) => {
      if (failed) headers.set(FAIL, 'true');
    },
  });
}

/** What keeps a cluster from counting as healthy: hosts that can be used, healthy or degraded, against all. */
function problemOf(clusters: ClusterFinder, name: string, minimum: number): keyof typeof PROBLEMS | undefined {
  const cluster = clusters.find(name);
  if (!cluster) return 'failed_no_cluster_found';
  const all = cluster.hosts.length;
  // A cluster without hosts is healthy only when nothing is asked of it.
  if (all === 0) return minimum === 0 ? undefined : 'failed_cluster_empty';
  let usable = 0;
  for (const host of cluster.hosts) if (host.usable) usable += 1;
  return 100 * usable >= all * minimum ? undefined : 'failed_cluster_unhealthy';
}
