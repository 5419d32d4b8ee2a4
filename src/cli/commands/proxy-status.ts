// `meltemi proxy-status`: what istiod has sent to each proxy and what was acknowledged.

import { connect } from '../cluster/connect.ts';
import { meshProxies, type ProxySync } from '../cluster/mesh.ts';
import { CLUSTER_HELP, CLUSTER_OPTIONS, type Command, stringFlag, UserError } from '../command.ts';
import { renderTable } from '../output/table.ts';

const TYPES = ['cluster', 'listener', 'endpoint', 'route', 'extensionconfig'] as const;

export const proxyStatus: Command = {
  name: 'proxy-status',
  aliases: ['ps'],
  summary: 'Show which configuration each proxy has acknowledged',
  usage: '[flags]',
  options: { ...CLUSTER_OPTIONS, output: { type: 'string', short: 'o' } },
  help: ['-o table|json', ...CLUSTER_HELP],
  async run(context, flags) {
    const format = stringFlag(flags, 'output') ?? 'table';
    if (format !== 'table' && format !== 'json')
      throw new UserError(`-o ${format}: the formats are table and json.`, 64);
    const cluster = connect(context, flags);
    const proxies = await meshProxies(cluster);
    if (format === 'json') {
      context.terminal.out(
        `${JSON.stringify(
          proxies.map((p) => ({ ...p.raw, istiod: p.istiod })),
          null,
          2,
        )}\n`,
      );
      return 0;
    }
    const now = context.clock.now();
    const rows = proxies.map((p) => [p.proxy, p.cluster, ...TYPES.map((t) => cell(p, t, now)), p.istiod, p.version]);
    context.terminal.out(
      renderTable(['NAME', 'CLUSTER', 'CDS', 'LDS', 'EDS', 'RDS', 'ECDS', 'ISTIOD', 'VERSION'], rows),
    );
    return 0;
  },
};

/** SYNCED, NOT SENT, STALE, ERROR or IGNORED, from the nonces sent and acknowledged. */
function cell(proxy: ProxySync, type: (typeof TYPES)[number], now: number): string {
  const sent = proxy.raw[`${type}_sent`];
  const acked = proxy.raw[`${type}_acked`];
  const resources = proxy.raw.resources as Readonly<Record<string, Readonly<Record<string, unknown>>>> | undefined;
  const detail = Object.entries(resources ?? {}).find(([url]) => url.endsWith(TYPE_URL_TAIL[type]))?.[1];
  if (detail?.lastError) return 'ERROR';
  if (detail === undefined && !sent) return 'IGNORED';
  if (!sent) return 'NOT SENT';
  if (sent !== acked) return 'STALE';
  const at = typeof detail?.sentTime === 'string' ? Date.parse(detail.sentTime) : Number.NaN;
  return Number.isNaN(at) ? 'SYNCED' : `SYNCED (${age(now - at)})`;
}

const TYPE_URL_TAIL: Readonly<Record<(typeof TYPES)[number], string>> = {
  cluster: '.Cluster',
  listener: '.Listener',
  endpoint: '.ClusterLoadAssignment',
  route: '.RouteConfiguration',
  extensionconfig: '.TypedExtensionConfig',
};

function age(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  return s < 86_400 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86_400)}d`;
}
