// `meltemi proxy-config KIND POD`: what one proxy holds, as istioctl's tables or as JSON/YAML.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { connect } from '../cluster/connect.ts';
import { adminGet, findPod } from '../cluster/mesh.ts';
import {
  CLUSTER_HELP,
  CLUSTER_OPTIONS,
  type Command,
  type Context,
  type Flags,
  stringFlag,
  UserError,
} from '../command.ts';
import { renderTable } from '../output/table.ts';
import { type ConfigDump, dig, readDump, text } from '../proxy-config/dump.ts';
import {
  clusterTable,
  endpointTable,
  listenerTable,
  routeTable,
  secretTable,
  type Table,
} from '../proxy-config/tables.ts';

const KINDS = ['cluster', 'listener', 'route', 'endpoint', 'secret', 'bootstrap', 'all'] as const;
type Kind = (typeof KINDS)[number];
const SHORT: Readonly<Record<string, Kind>> = {
  c: 'cluster',
  clusters: 'cluster',
  l: 'listener',
  listeners: 'listener',
  r: 'route',
  routes: 'route',
  ep: 'endpoint',
  endpoints: 'endpoint',
  s: 'secret',
  secrets: 'secret',
  b: 'bootstrap',
  a: 'all',
};

export const proxyConfig: Command = {
  name: 'proxy-config',
  aliases: ['pc'],
  summary: 'Show what a proxy holds: cluster, listener, route, endpoint, secret, bootstrap, all',
  usage: 'KIND POD[.NAMESPACE] | deploy/NAME[.NAMESPACE] [flags]',
  options: {
    ...CLUSTER_OPTIONS,
    output: { type: 'string', short: 'o' },
    file: { type: 'string', short: 'f' },
    fqdn: { type: 'string' },
    port: { type: 'string' },
    subset: { type: 'string' },
    direction: { type: 'string' },
    name: { type: 'string' },
    address: { type: 'string' },
    cluster: { type: 'string' },
    status: { type: 'string' },
  },
  help: [
    `KIND                  ${KINDS.join(', ')} (c, l, r, ep, s, b, a)`,
    '-o short|json|yaml    default: short',
    '-f, --file FILE       read a /config_dump from a file instead of a pod',
    '--fqdn --port --subset --direction     of clusters',
    '--address --port      of listeners;  --name  of routes',
    '--address --port --cluster --status    of endpoints',
    ...CLUSTER_HELP,
  ],
  async run(context, flags) {
    const [given, pod] = flags.positionals;
    const kind = KINDS.find((k) => k === given) ?? SHORT[given ?? ''];
    if (!kind) throw new UserError(`${given ? `"${given}" is no` : 'Say which'} KIND: ${KINDS.join(', ')}.`, 64);
    const format = stringFlag(flags, 'output') ?? 'short';
    if (!['short', 'json', 'yaml'].includes(format))
      throw new UserError(`-o ${format}: the formats are short, json and yaml.`, 64);
    const source = await read(context, flags, pod, kind);
    if (format === 'json' || format === 'yaml') {
      const value = jsonOf(kind, source);
      context.terminal.out(format === 'json' ? `${JSON.stringify(value, null, 4)}\n` : stringify(value));
      return 0;
    }
    context.terminal.out(short(kind, source, flags, new Date(context.clock.now())));
    return 0;
  },
};

interface Source {
  readonly dump: ConfigDump;
  readonly raw: string;
  /** `/clusters?format=json`, when a table of endpoints is wanted. */
  readonly clusters: string | undefined;
}

async function read(context: Context, flags: Flags, given: string | undefined, kind: Kind): Promise<Source> {
  const file = stringFlag(flags, 'file');
  if (file !== undefined) {
    if (kind === 'endpoint')
      throw new UserError('endpoint reads a live proxy: a config dump has no health. Name a pod.', 64);
    const raw = readFileSync(path.resolve(context.cwd, file), 'utf8');
    return { dump: readDump(raw), raw, clusters: undefined };
  }
  if (given === undefined) throw new UserError(`Name a pod: meltemi proxy-config ${kind} POD[.NAMESPACE]`, 64);
  const cluster = connect(context, flags);
  const pod = await findPod(cluster, given);
  const raw = await adminGet(cluster, pod, 'config_dump?include_eds');
  const clusters =
    kind === 'endpoint' || kind === 'all' ? await adminGet(cluster, pod, 'clusters?format=json') : undefined;
  return { dump: readDump(raw), raw, clusters };
}

function tableOf(kind: Exclude<Kind, 'bootstrap' | 'all'>, source: Source, flags: Flags, now: Date): Table {
  const option = (name: string): string | undefined => stringFlag(flags, name);
  switch (kind) {
    case 'cluster':
      return clusterTable(source.dump, {
        fqdn: option('fqdn'),
        port: option('port'),
        subset: option('subset'),
        direction: option('direction'),
      });
    case 'listener':
      return listenerTable(source.dump, { port: option('port'), address: option('address') });
    case 'route':
      return routeTable(source.dump, { name: option('name') });
    case 'endpoint':
      return endpointTable(source.clusters ?? '{}', {
        cluster: option('cluster'),
        port: option('port'),
        address: option('address'),
        status: option('status'),
      });
    case 'secret':
      return secretTable(source.dump, now);
  }
}

function short(kind: Kind, source: Source, flags: Flags, now: Date): string {
  if (kind === 'bootstrap') {
    const node = source.dump.bootstrap?.node;
    return `Node: ${text(dig(node, 'id'))}\nVersion: ${text(dig(node, 'metadata.ISTIO_VERSION'))}\nUse -o json or -o yaml for all of it.\n`;
  }
  if (kind !== 'all') {
    const table = tableOf(kind, source, flags, now);
    return renderTable(table.header, table.rows);
  }
  const kinds = ['cluster', 'listener', 'route', 'secret'] as const;
  const parts = kinds.map((k) => prefixed(k, tableOf(k, source, flags, now)));
  if (source.clusters !== undefined) parts.splice(3, 0, prefixed('endpoint', tableOf('endpoint', source, flags, now)));
  return parts.join('\n');
}

function prefixed(kind: string, table: Table): string {
  const [first, ...rest] = table.header;
  return renderTable(
    [first!, ...rest],
    table.rows.map(([name, ...cells]) => [`${kind}/${name}`, ...cells]),
  );
}

function jsonOf(kind: Kind, source: Source): unknown {
  switch (kind) {
    case 'cluster':
      return source.dump.clusters;
    case 'listener':
      return source.dump.listeners.map((l) => l.listener);
    case 'route':
      return source.dump.routes;
    case 'endpoint':
      return (JSON.parse(source.clusters ?? '{}') as { readonly cluster_statuses?: unknown }).cluster_statuses ?? [];
    case 'secret':
      return source.dump.secrets;
    case 'bootstrap':
      return source.dump.bootstrap;
    case 'all':
      return JSON.parse(source.raw);
  }
}
