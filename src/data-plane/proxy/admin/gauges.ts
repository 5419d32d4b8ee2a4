// Gauges that are only worth computing when somebody looks. Called before statistics are shown.
import type { AdminTarget } from './target.ts';

export function refreshGauges(target: AdminTarget): void {
  const { stats } = target;
  const set = (name: string, value: number): void => {
    stats.gauge(`server.${name}`).value = value;
  };
  const { heapUsed, heapTotal, external, rss } = process.memoryUsage();
  set('uptime', Math.floor((target.clock.now() - target.startedAt) / 1000));
  set('memory_allocated', heapUsed + external);
  set('memory_heap_size', heapTotal + external);
  set('memory_physical_size', rss);
  set('hot_restart_epoch', 0);
  set('parent_connections', 0);
  set('concurrency', Number(target.commandLine.concurrency ?? 1));
  const override = target.bootstrap.statsServerVersionOverride;
  set('version', override === undefined ? Number.parseInt(target.version.slice(0, 6), 16) || 0 : Number(override));
  let connections = 0;
  for (const [name, { value }] of stats.gauges)
    if (name.startsWith('listener.') && name.endsWith('.downstream_cx_active')) connections += value;
  set('total_connections', connections);
  for (const { active } of target.clusters.views()) active?.showLimits();
  set('days_until_first_cert_expiring', daysLeft(target));
}

/** Envoy's value when no certificate is known. */
const NEVER = 4_294_967_295;

function daysLeft(target: AdminTarget): number {
  let days = Number.POSITIVE_INFINITY;
  for (const { material } of target.secrets.views())
    if (material?.kind === 'certificate')
      for (const certificate of material.value.chain)
        days = Math.min(days, (Date.parse(certificate.validTo) - target.clock.now()) / 86_400_000);
  return Number.isFinite(days) ? Math.max(0, Math.floor(days)) : NEVER;
}
