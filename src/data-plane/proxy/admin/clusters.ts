// /clusters: hosts and limits of every cluster, as text and JSON, one cluster at a time.
import { RE2JS } from 're2js';
import type { Cluster as ClusterMessage } from '#proto/envoy/config/cluster/v3/cluster_pb.js';
import { RoutingPriority } from '#proto/envoy/config/core/v3/base_pb.js';
import type { Cluster } from '../cluster/cluster.ts';
import { HEALTH, type Host } from '../cluster/host.ts';
import type { ClusterView } from '../cluster/manager.ts';
import { DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_PENDING, DEFAULT_MAX_REQUESTS, DEFAULT_MAX_RETRIES } from '../limits.ts';
import { addressJson } from './listeners.ts';
import { type AdminReply, type AdminTarget, type Gathered, type HostCounts, JSON_TYPE } from './target.ts';

interface Shown {
  readonly cluster: Cluster;
  readonly dynamic: boolean;
}

export async function clustersPage(target: AdminTarget, query: URLSearchParams): Promise<AdminReply> {
  let wanted = (_name: string): boolean => true;
  const filter = query.get('filter');
  if (filter !== null && filter !== '') {
    try {
      const regex = RE2JS.compile(filter);
      wanted = (name) => regex.matcher(name).find();
    } catch {
      return { status: 400, body: 'Invalid re2 regex' };
    }
  }
  const { hosts } = await target.gather();
  const shown = target.clusters
    .views()
    .filter((view) => wanted(view.name))
    .flatMap(one);
  return query.get('format') === 'json' ? { body: json(shown, hosts), type: JSON_TYPE } : { body: text(shown, hosts) };
}

function one(view: ClusterView): Shown[] {
  // Of the bootstrap also those that still wait.
  const cluster = view.active ?? (view.isStatic ? view.warming : undefined);
  return cluster ? [{ cluster, dynamic: !view.isStatic }] : [];
}

/** Of one host, over all workers. */
function hostStats(host: Host, others: HostCounts | undefined): [string, number][] {
  return [
    ['cx_active', host.cxActive + (others?.cxActive ?? 0)],
    ['cx_connect_fail', host.cxConnectFail + (others?.cxConnectFail ?? 0)],
    ['cx_total', host.cxTotal + (others?.cxTotal ?? 0)],
    ['rq_active', host.active + (others?.active ?? 0)],
    ['rq_error', host.rqError + (others?.rqError ?? 0)],
    ['rq_pending_active', host.pending + (others?.pending ?? 0)],
    ['rq_success', host.rqSuccess + (others?.rqSuccess ?? 0)],
    ['rq_timeout', host.rqTimeout + (others?.rqTimeout ?? 0)],
    ['rq_total', host.rqTotal + (others?.rqTotal ?? 0)],
  ];
}

interface Limits {
  readonly connections: number;
  readonly pending: number;
  readonly requests: number;
  readonly retries: number;
}

function limitsOf(message: ClusterMessage, priority: RoutingPriority): Limits {
  const limits = message.circuitBreakers?.thresholds.find((each) => each.priority === priority);
  return {
    connections: limits?.maxConnections ?? DEFAULT_MAX_CONNECTIONS,
    pending: limits?.maxPendingRequests ?? DEFAULT_MAX_PENDING,
    requests: limits?.maxRequests ?? DEFAULT_MAX_REQUESTS,
    retries: limits?.maxRetries ?? DEFAULT_MAX_RETRIES,
  };
}

function* text(shown: readonly Shown[], hosts: Gathered['hosts']): Generator<string> {
  for (const { cluster, dynamic } of shown) {
    let out = '';
    const { name } = cluster;
    const line = (key: string, value: string | number | boolean): void => {
      out += `${name}::${key}::${value}\n`;
    };
    line('observability_name', cluster.statName);
    const message = cluster.decode();
    for (const [key, value] of successRates(cluster)) line(`outlier::${key}`, rate(value));
    for (const [key, priority] of [
      ['default', RoutingPriority.DEFAULT],
      ['high', RoutingPriority.HIGH],
    ] as const) {
      const limits = limitsOf(message, priority);
      line(`${key}_priority::max_connections`, limits.connections);
      line(`${key}_priority::max_pending_requests`, limits.pending);
      line(`${key}_priority::max_requests`, limits.requests);
      line(`${key}_priority::max_retries`, limits.retries);
    }
    line('added_via_api', dynamic);
    const { serviceName = '' } = message.edsClusterConfig ?? {};
    if (serviceName !== '') line('eds_service_name', serviceName);
    for (const host of cluster.hosts) {
      const at = host.key;
      for (const [key, value] of hostStats(host, hosts?.(name, at))) line(`${at}::${key}`, value);
      line(`${at}::hostname`, host.spec.hostname);
      line(`${at}::health_flags`, host.flagsText);
      line(`${at}::weight`, host.spec.weight);
      line(`${at}::region`, host.spec.locality.region);
      line(`${at}::zone`, host.spec.locality.zone);
      line(`${at}::sub_zone`, host.spec.locality.subZone);
      line(`${at}::canary`, false);
      line(`${at}::priority`, host.spec.priority);
      line(`${at}::success_rate`, rate(host.outlier?.successRate));
      line(`${at}::local_origin_success_rate`, rate(host.outlier?.localOriginSuccessRate));
    }
    yield out;
  }
}

/** -1 = not known. */
const rate = (percent: number | undefined): string =>
  percent === undefined || percent < 0 ? '-1' : String(Number(percent.toPrecision(6)));

/** Means and thresholds of outlier detection, when the cluster has one. */
function successRates({ outlierRates: rates }: Cluster): readonly (readonly [string, number])[] {
  if (!rates) return [];
  return [
    ['success_rate_average', rates.external.average],
    ['success_rate_ejection_threshold', rates.external.threshold],
    ['local_origin_success_rate_average', rates.local.average],
    ['local_origin_success_rate_ejection_threshold', rates.local.threshold],
  ];
}

const GAUGES: ReadonlySet<string> = new Set(['cx_active', 'rq_active', 'rq_pending_active']);
const EDS_HEALTH = {
  healthy: 'HEALTHY',
  degraded: 'DEGRADED',
  unhealthy: 'UNHEALTHY',
  timeout: 'TIMEOUT',
  draining: 'DRAINING',
} as const;

function* json(shown: readonly Shown[], hosts: Gathered['hosts']): Generator<string> {
  if (shown.length === 0) {
    yield '{}\n';
    return;
  }
  yield '{\n "cluster_statuses": [';
  for (const [i, { cluster, dynamic }] of shown.entries()) {
    const status = JSON.stringify(statusOf(cluster, dynamic, hosts), null, 1).replaceAll('\n', '\n  ');
    yield `${i === 0 ? '' : ','}\n  ${status}`;
  }
  yield '\n ]\n}\n';
}

function statusOf(cluster: Cluster, dynamic: boolean, hosts: Gathered['hosts']): object {
  const threshold = (limits: Limits): object => ({
    max_connections: limits.connections,
    max_pending_requests: limits.pending,
    max_requests: limits.requests,
    max_retries: limits.retries,
  });
  const message = cluster.decode();
  return {
    name: cluster.name,
    ...(dynamic ? { added_via_api: true } : {}),
    ...(cluster.hosts.length === 0
      ? {}
      : { host_statuses: cluster.hosts.map((host) => hostStatus(host, hosts?.(cluster.name, host.key))) }),
    circuit_breakers: {
      thresholds: [
        threshold(limitsOf(message, RoutingPriority.DEFAULT)),
        { priority: 'HIGH', ...threshold(limitsOf(message, RoutingPriority.HIGH)) },
      ],
    },
    observability_name: cluster.statName,
    ...(message.edsClusterConfig?.serviceName ? { eds_service_name: message.edsClusterConfig.serviceName } : {}),
  };
}

function healthStatus(host: Host): object {
  const flags: readonly (readonly [string, number])[] = [
    ['failed_active_health_check', HEALTH.failedActiveHc],
    ['failed_outlier_check', HEALTH.failedOutlier],
    ['failed_active_degraded_check', HEALTH.degradedActiveHc],
    ['pending_dynamic_removal', HEALTH.pendingRemoval],
    ['pending_active_hc', HEALTH.pendingActiveHc],
    ['excluded_via_immediate_hc_fail', HEALTH.excludedByImmediateFail],
    ['active_hc_timeout', HEALTH.activeHcTimeout],
  ];
  return {
    ...Object.fromEntries(flags.flatMap(([name, flag]) => (host.has(flag) ? [[name, true]] : []))),
    eds_health_status: EDS_HEALTH[host.spec.health],
  };
}

function hostStatus(host: Host, others: HostCounts | undefined): object {
  const { locality } = host.spec;
  const stats = hostStats(host, others);
  const counted = [...stats.filter(([name]) => !GAUGES.has(name)), ...stats.filter(([name]) => GAUGES.has(name))];
  return {
    address: addressJson(host.spec.address),
    stats: counted.map(([name, value]) => ({
      ...(GAUGES.has(name) ? { type: 'GAUGE' } : {}),
      ...(value === 0 ? {} : { value: String(value) }),
      name,
    })),
    health_status: healthStatus(host),
    weight: host.spec.weight,
    ...(host.spec.hostname ? { hostname: host.spec.hostname } : {}),
    ...(host.spec.priority > 0 ? { priority: host.spec.priority } : {}),
    locality: {
      ...(locality.region ? { region: locality.region } : {}),
      ...(locality.zone ? { zone: locality.zone } : {}),
      ...(locality.subZone ? { sub_zone: locality.subZone } : {}),
    },
  };
}
