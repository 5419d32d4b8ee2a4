// The tables of `proxy-config`, with istioctl's columns and texts. Pure: a dump in, rows out.
import { X509Certificate } from 'node:crypto';
import { type ConfigDump, dig, type Json, list, object, text } from './dump.ts';

export interface Table {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export interface ClusterFilter {
  readonly fqdn?: string;
  readonly port?: string;
  readonly subset?: string;
  readonly direction?: string;
}

export function clusterTable(dump: ConfigDump, filter: ClusterFilter): Table {
  const rows = dump.clusters
    .map((cluster) => {
      const parts = text(cluster.name).split('|');
      const named = parts.length === 4;
      const [direction, port, subset, fqdn] = named ? parts : ['', '', '', text(cluster.name)];
      const rule = configName(dig(cluster, 'metadata.filter_metadata.istio.config'), 'destination-rule');
      return {
        name: text(cluster.name),
        row: [
          (named && fqdn) || (named ? '' : fqdn!),
          port || '-',
          subset || '-',
          direction || '-',
          clusterType(cluster),
          rule,
        ],
        fqdn: fqdn ?? '',
        port: port ?? '',
        subset: subset ?? '',
        direction: direction ?? '',
      };
    })
    .filter(
      (c) =>
        (filter.fqdn === undefined || c.fqdn.includes(filter.fqdn)) &&
        (filter.port === undefined || c.port === filter.port) &&
        (filter.subset === undefined || c.subset === filter.subset) &&
        (filter.direction === undefined || c.direction === filter.direction),
    )
    .sort((a, b) => compare(a.row[0]!, b.row[0]!) || Number(a.port) - Number(b.port) || compare(a.subset, b.subset));
  return {
    header: ['SERVICE FQDN', 'PORT', 'SUBSET', 'DIRECTION', 'TYPE', 'DESTINATION RULE'],
    rows: rows.map((c) => c.row),
  };
}

function clusterType(cluster: Json): string {
  const custom = dig(cluster, 'cluster_type.name');
  return custom ? text(custom) : text(cluster.type) || 'STATIC';
}

/** `/apis/networking…/namespaces/NS/destination-rule/NAME` → `NAME.NS`. */
function configName(path: unknown, kind: string): string {
  const found = new RegExp(`/namespaces/([^/]+)/${kind}/([^/]+)$`).exec(text(path));
  return found ? `${found[2]}.${found[1]}` : '';
}

export function listenerTable(dump: ConfigDump, filter: { readonly port?: string; readonly address?: string }): Table {
  const rows = dump.listeners.flatMap(({ listener }) => {
    const address = text(dig(listener, 'address.socket_address.address'));
    const port = text(dig(listener, 'address.socket_address.port_value'));
    if (filter.port !== undefined && port !== filter.port) return [];
    if (filter.address !== undefined && address !== filter.address) return [];
    const chains = [
      ...list(listener.filter_chains),
      ...(listener.default_filter_chain ? [object(listener.default_filter_chain)] : []),
    ];
    return chains.map((chain) => [address, port, chainMatch(chain), chainDestination(chain)]);
  });
  rows.sort((a, b) => compare(a[0]!, b[0]!) || Number(a[1]) - Number(b[1]));
  return { header: ['ADDRESSES', 'PORT', 'MATCH', 'DESTINATION'], rows };
}

const PLAIN_HTTP = ['http/1.1', 'h2c'];
const ISTIO_HTTP = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'];
const ISTIO_TCP = ['istio-peer-exchange', 'istio'];

function chainMatch(chain: Json): string {
  const match = object(chain.filter_chain_match);
  const parts: string[] = [];
  const names = strings(match.server_names);
  if (names.length > 0) parts.push(`SNI: ${names.join(',')}`);
  const transport = text(match.transport_protocol);
  if (transport) parts.push(`Trans: ${transport}`);
  const alpn = strings(match.application_protocols);
  if (alpn.length > 0) parts.push(`App: ${applicationName(alpn)}`);
  const ports = text(match.destination_port);
  const ranges = list(match.prefix_ranges).map((r) => `${text(r.address_prefix)}/${text(r.prefix_len)}`);
  if (ranges.length > 0) parts.push(`Addr: ${ranges.join(',')}${ports ? `:${ports}` : ''}`);
  else if (ports) parts.push(`Addr: *:${ports}`);
  return parts.length === 0 ? 'ALL' : parts.join('; ');
}

function applicationName(alpn: readonly string[]): string {
  const same = (wanted: readonly string[]): boolean =>
    wanted.every((w) => alpn.includes(w)) && alpn.length === wanted.length;
  if (same(PLAIN_HTTP) || same([...PLAIN_HTTP, 'http/1.0'])) return 'HTTP';
  if (same(ISTIO_HTTP)) return 'HTTP TLS';
  if (same(ISTIO_TCP)) return 'TCP TLS';
  if (same([...ISTIO_HTTP, ...ISTIO_TCP])) return 'Istio HTTP Plain';
  return alpn.join(',');
}

function chainDestination(chain: Json): string {
  for (const filter of list(chain.filters)) {
    const config = object(filter.typed_config);
    const type = text(config['@type']);
    if (type.endsWith('.HttpConnectionManager')) {
      const rds = dig(config, 'rds.route_config_name');
      if (rds) return `Route: ${text(rds)}`;
      const inline = inlineRoutes(object(config.route_config));
      return inline;
    }
    if (type.endsWith('.TcpProxy')) {
      const cluster = text(config.cluster);
      if (cluster.includes('PassthroughCluster') || cluster === 'BlackHoleCluster') return cluster;
      if (cluster) return `Cluster: ${cluster}`;
      const weighted = list(dig(config, 'weighted_clusters.clusters')).map((c) => `${text(c.name)}[${text(c.weight)}]`);
      if (weighted.length > 0) return `Cluster: ${weighted.join(', ')}`;
    }
  }
  return 'Non-HTTP/Non-TCP';
}

function inlineRoutes(config: Json): string {
  const clusters = new Set<string>();
  const paths: string[] = [];
  for (const host of list(config.virtual_hosts))
    for (const route of list(host.routes)) {
      const cluster = text(dig(route, 'route.cluster'));
      if (cluster) clusters.add(cluster);
      paths.push(routeMatch(object(route.match)));
    }
  const only = [...clusters][0];
  if (clusters.size === 1 && only?.startsWith('inbound|')) return `Cluster: ${only}`;
  if (clusters.size === 1 && only?.includes('PassthroughCluster')) return only;
  return `Inline Route: ${paths.join(', ')}`;
}

function routeMatch(match: Json): string {
  const headers = list(match.headers)
    .filter((h) => text(h.name) === ':method')
    .map((h) => `${text(dig(h, 'string_match.exact'))} `)
    .join('');
  if (match.path !== undefined) return headers + text(match.path);
  if (match.path_separated_prefix !== undefined) return `${headers}PathPrefix:${text(match.path_separated_prefix)}`;
  if (match.safe_regex !== undefined) return `${headers}regex ${text(dig(match, 'safe_regex.regex'))}`;
  return `${headers}${text(match.prefix)}*`;
}

export function routeTable(dump: ConfigDump, filter: { readonly name?: string }): Table {
  const rows = dump.routes
    .filter((config) => filter.name === undefined || text(config.name) === filter.name)
    .flatMap((config) => {
      const hosts = list(config.virtual_hosts);
      if (hosts.length === 0) return [[text(config.name), '', '', '/*', '404']];
      return hosts.flatMap((host) => {
        const routes = list(host.routes);
        const base = [text(config.name), text(host.name), domains(strings(host.domains))];
        if (routes.length === 0) return [[...base, '/*', '404']];
        return routes.map((route) => [
          ...base,
          routeMatch(object(route.match)),
          configName(dig(route, 'metadata.filter_metadata.istio.config'), 'virtual-service'),
        ]);
      });
    })
    .sort((a, b) => compare(a[0]!, b[0]!));
  return { header: ['NAME', 'VHOST NAME', 'DOMAINS', 'MATCH', 'VIRTUAL SERVICE'], rows };
}

function domains(all: readonly string[]): string {
  const shortest = [...all].sort((a, b) => a.length - b.length || compare(a, b));
  const shown = shortest.slice(0, 2).join(', ');
  return shortest.length > 2 ? `${shown} + ${shortest.length - 2} more...` : shown;
}

/** From Envoy's `/clusters?format=json`. */
export function endpointTable(
  clusters: string,
  filter: { readonly cluster?: string; readonly port?: string; readonly address?: string; readonly status?: string },
): Table {
  const rows = list((JSON.parse(clusters) as Json).cluster_statuses).flatMap((cluster) =>
    list(cluster.host_statuses).map((host) => {
      const address = text(dig(host, 'address.socket_address.address'));
      const port = text(dig(host, 'address.socket_address.port_value'));
      const pipe = text(dig(host, 'address.pipe.path'));
      const health = object(host.health_status);
      const status = text(health.eds_health_status) || 'HEALTHY';
      return {
        address,
        port,
        status,
        cluster: text(cluster.name),
        row: [
          pipe ? `unix://${pipe}` : `${address}:${port}`,
          status,
          health.failed_outlier_check === true ? 'FAILED' : 'OK',
          text(cluster.name),
        ],
      };
    }),
  );
  return {
    header: ['ENDPOINT', 'STATUS', 'OUTLIER CHECK', 'CLUSTER'],
    rows: rows
      .filter(
        (e) =>
          (filter.cluster === undefined || e.cluster === filter.cluster) &&
          (filter.port === undefined || e.port === filter.port) &&
          (filter.address === undefined || e.address === filter.address) &&
          (filter.status === undefined || e.status === filter.status.toUpperCase()),
      )
      .map((e) => e.row)
      .sort((a, b) => compare(a[0]!, b[0]!)),
  };
}

export function secretTable(dump: ConfigDump, now: Date): Table {
  const rows = dump.secrets.map(({ name, state, secret }) => {
    const chain = inline(dig(secret, 'tls_certificate.certificate_chain'));
    const ca = inline(dig(secret, 'validation_context.trusted_ca'));
    const pem = chain ?? ca;
    const type = chain !== undefined ? 'Cert Chain' : 'CA';
    const cert = pem === undefined ? undefined : firstCertificate(pem);
    if (!cert) return [name, type, state, 'false', '', '', ''];
    const valid = cert.validFromDate <= now && now < cert.validToDate;
    return [
      name,
      type,
      state,
      String(valid),
      cert.serialNumber.toLowerCase(),
      iso(cert.validToDate),
      iso(cert.validFromDate),
    ];
  });
  return {
    header: ['RESOURCE NAME', 'TYPE', 'STATUS', 'VALID CERT', 'SERIAL NUMBER', 'NOT AFTER', 'NOT BEFORE'],
    rows,
  };
}

function inline(source: unknown): string | undefined {
  const data = object(source);
  if (typeof data.inline_bytes === 'string') return Buffer.from(data.inline_bytes, 'base64').toString('utf8');
  if (typeof data.inline_string === 'string') return data.inline_string;
  return undefined;
}

function firstCertificate(pem: string): X509Certificate | undefined {
  try {
    return new X509Certificate(pem);
  } catch {
    return undefined;
  }
}

function iso(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}
function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
