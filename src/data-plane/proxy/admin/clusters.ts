// /clusters: hosts and limits of every cluster, as text and JSON.
import type { Cluster } from '../cluster/cluster.ts';
import type { Host } from '../cluster/host.ts';
import type { Engine } from '../engine.ts';
import { addressJson } from './listeners.ts';

function active(engine: Engine): Cluster[] {
  return engine.clusters.views().flatMap((view) => view.active ?? []);
}

function hostStats(host: Host): [string, number][] {
  return [
    ['cx_active', host.cxActive],
    ['cx_connect_fail', host.cxConnectFail],
    ['cx_total', host.cxTotal],
    ['rq_active', host.active],
    ['rq_error', host.rqError],
    ['rq_success', host.rqSuccess],
    ['rq_timeout', host.rqTimeout],
    ['rq_total', host.rqTotal],
  ];
}

export function clustersText(engine: Engine): string {
  let out = '';
  for (const cluster of active(engine)) {
    const { name, breakers } = cluster;
    const line = (key: string, value: string | number | boolean) => {
      out += `${name}::${key}::${value}\n`;
    };
    line('observability_name', cluster.message.altStatName || name);
    for (const priority of ['default', 'high']) {
      line(`${priority}_priority::max_connections`, priority === 'default' ? breakers.connections.max : 1024);
      line(`${priority}_priority::max_pending_requests`, priority === 'default' ? breakers.pending.max : 1024);
      line(`${priority}_priority::max_requests`, priority === 'default' ? breakers.requests.max : 1024);
      line(`${priority}_priority::max_retries`, priority === 'default' ? breakers.retries.max : 3);
    }
    line('added_via_api', engine.clusters.dynamicNames().includes(name));
    if (cluster.settings.type === 'eds') line('eds_service_name', cluster.settings.edsName);
    for (const host of cluster.hosts) {
      const at = host.key;
      for (const [key, value] of hostStats(host)) line(`${at}::${key}`, value);
      line(`${at}::hostname`, host.spec.hostname);
      line(`${at}::health_flags`, host.flagsText);
      line(`${at}::weight`, host.spec.weight);
      line(`${at}::region`, host.spec.locality.region);
      line(`${at}::zone`, host.spec.locality.zone);
      line(`${at}::sub_zone`, host.spec.locality.subZone);
      line(`${at}::canary`, false);
      line(`${at}::priority`, host.spec.priority);
      line(`${at}::success_rate`, '-1');
      line(`${at}::local_origin_success_rate`, '-1');
    }
  }
  return out;
}

const GAUGES: ReadonlySet<string> = new Set(['cx_active', 'rq_active']);
const EDS_HEALTH = {
  healthy: 'HEALTHY',
  degraded: 'DEGRADED',
  unhealthy: 'UNHEALTHY',
  timeout: 'TIMEOUT',
  draining: 'DRAINING',
} as const;

export function clustersJson(engine: Engine): string {
  const dynamic = new Set(engine.clusters.dynamicNames());
  const statuses = active(engine).map((cluster) => ({
    name: cluster.name,
    added_via_api: dynamic.has(cluster.name),
    observability_name: cluster.message.altStatName || cluster.name,
    ...(cluster.settings.type === 'eds' ? { eds_service_name: cluster.settings.edsName } : {}),
    circuit_breakers: {
      thresholds: [
        {
          max_connections: cluster.breakers.connections.max,
          max_pending_requests: cluster.breakers.pending.max,
          max_requests: cluster.breakers.requests.max,
          max_retries: cluster.breakers.retries.max,
        },
      ],
    },
    host_statuses: cluster.hosts.map((host) => ({
      address: addressJson(host.spec.address),
      stats: hostStats(host).map(([name, value]) => ({
        name,
        ...(value === 0 ? {} : { value: String(value) }),
        ...(GAUGES.has(name) ? { type: 'GAUGE' } : {}),
      })),
      health_status: { eds_health_status: EDS_HEALTH[host.spec.health] },
      weight: host.spec.weight,
      ...(host.spec.hostname ? { hostname: host.spec.hostname } : {}),
      locality: {
        ...(host.spec.locality.region ? { region: host.spec.locality.region } : {}),
        ...(host.spec.locality.zone ? { zone: host.spec.locality.zone } : {}),
        ...(host.spec.locality.subZone ? { sub_zone: host.spec.locality.subZone } : {}),
      },
      ...(host.spec.priority > 0 ? { priority: host.spec.priority } : {}),
    })),
  }));
  return JSON.stringify({ cluster_statuses: statuses }, null, 1);
}
