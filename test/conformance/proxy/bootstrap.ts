// Makes Envoy's configuration from what a case states: the usual listener, connection manager, route and cluster around it.
// Names get the case's own prefix, so that many cases share one process. Pure. Called by process-plan.ts.
import { type Case, type CaseConfig, isObject, type Json, type JsonMap, merge } from './format.ts';

export const T = 'type.googleapis.com/';
const ROUTER = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': 'envoy.extensions.filters.http.router.v3.Router' },
};
const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';

/** Everything of a stream that two engines may see differently. */
export const HTTP_LOG =
  '%REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% ' +
  'flags=%RESPONSE_FLAGS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% cluster=%UPSTREAM_CLUSTER%';
export const TCP_LOG =
  'tcp flags=%RESPONSE_FLAGS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% cluster=%UPSTREAM_CLUSTER% ' +
  'details=%CONNECTION_TERMINATION_DETAILS% transport=%UPSTREAM_TRANSPORT_FAILURE_REASON%';

/** Nothing listens there: connecting is refused. */
export const REFUSED_PORT = 1;

export interface Resources {
  readonly listeners: readonly JsonMap[];
  readonly clusters: readonly JsonMap[];
  readonly secrets: readonly JsonMap[];
  readonly bootstrap: JsonMap | undefined;
}

export interface Naming {
  /** Before every name of the case. */
  readonly prefix: string;
  /** Port of an upstream by its name. */
  port(upstream: string): number;
  readonly logFile: string;
  /** Values of `${…}`. */
  variable(name: string): string | undefined;
}

/** Upstreams a case needs: those its clusters name and those it scripts. */
export function upstreamNames(test: Case): readonly string[] {
  const names = new Set(Object.keys(test.upstreams ?? {}));
  for (const [name, cluster] of Object.entries(clustersOf(test.config ?? {}))) {
    if (cluster.load_assignment !== undefined) continue;
    const list = cluster.upstreams as readonly string[] | undefined;
    for (const one of list ?? [name]) if (one !== 'refused') names.add(one);
  }
  for (const match of JSON.stringify(test).matchAll(/\$\{port\.([\w-]+)\}/g)) names.add(match[1]!);
  return [...names];
}

function clustersOf(config: CaseConfig): { readonly [name: string]: JsonMap } {
  return { app: {}, ...config.clusters };
}

export function resourcesOf(test: Case, naming: Naming): Resources {
  const config = test.config ?? {};
  const clusters = clustersOf(config);
  const known = new Set(Object.keys(clusters));
  const finish = (value: unknown): JsonMap => complete(value, known, naming) as JsonMap;
  const listeners = config.listeners ?? { in: config };
  return {
    listeners: Object.entries(listeners).map(([name, own]) => finish(listenerOf(name, own, test, naming))),
    clusters: Object.entries(clusters).map(([name, cluster]) => finish(clusterOf(name, cluster, naming))),
    secrets: (config.secrets ?? []).map((secret) => finish(secret)),
    bootstrap: config.bootstrap && finish(config.bootstrap),
  };
}

function clusterOf(name: string, fragment: JsonMap, naming: Naming): unknown {
  const { upstreams, h2, ...rest } = fragment as JsonMap & { upstreams?: readonly string[]; h2?: boolean };
  const endpoint = (upstream: string) => ({
    endpoint: {
      address: {
        socket_address: {
          address: '127.0.0.1',
          port_value: upstream === 'refused' ? REFUSED_PORT : naming.port(upstream),
        },
      },
    },
  });
  const base = {
    name,
    type: 'STATIC',
    connect_timeout: '2s',
    ...(rest.load_assignment
      ? {}
      : {
          load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: (upstreams ?? [name]).map(endpoint) }] },
        }),
    ...(h2
      ? {
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        }
      : {}),
  };
  return merge(base, rest);
}

function listenerOf(name: string, config: CaseConfig, test: Case, naming: Naming): unknown {
  const chain = (own: CaseConfig): unknown =>
    merge(
      {
        filters: own.filters ?? [own.tcp_proxy ? tcpProxy(name, own, test, naming) : manager(name, own, test, naming)],
        ...(own.tls ? { transport_socket: downstreamTls(own.tls) } : {}),
      },
      own.chain ?? {},
    );
  const chains = config.chains?.map((own) => chain(merge(config, own) as CaseConfig)) ?? [chain(config)];
  const base = {
    name,
    // The port is the kernel's choice and no name for statistics.
    stat_prefix: name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: chains,
    ...(config.listener_filters ? { listener_filters: config.listener_filters } : {}),
  };
  return merge(base, config.listener ?? {});
}

function accessLog(format: Json, naming: Naming): unknown {
  const shape =
    typeof format === 'string' ? { text_format_source: { inline_string: `${format}\n` } } : { json_format: format };
  return {
    name: 'envoy.access_loggers.file',
    typed_config: {
      '@type': 'envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path: naming.logFile,
      log_format: shape,
    },
  };
}

function manager(name: string, config: CaseConfig, test: Case, naming: Naming): unknown {
  const routes = config.routes ?? [{ match: { prefix: '/' }, route: { cluster: 'app', ...config.route } }];
  const host = merge({ name: 'all', domains: ['*'], routes }, config.virtual_host ?? {});
  const table = merge({ name: 'routes', virtual_hosts: config.virtual_hosts ?? [host] }, config.route_config ?? {});
  const base = {
    '@type': HCM,
    stat_prefix: name,
    route_config: table,
    http_filters: [...(config.http_filters ?? []), ROUTER],
    access_log: [accessLog(test.log_format ?? HTTP_LOG, naming)],
  };
  return { name: 'envoy.filters.network.http_connection_manager', typed_config: merge(base, config.hcm ?? {}) };
}

function tcpProxy(name: string, config: CaseConfig, test: Case, naming: Naming): unknown {
  const base = {
    '@type': 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
    stat_prefix: name,
    ...(config.tcp_proxy?.weighted_clusters ? {} : { cluster: 'app' }),
    access_log: [accessLog(test.log_format ?? TCP_LOG, naming)],
  };
  return { name: 'envoy.filters.network.tcp_proxy', typed_config: merge(base, config.tcp_proxy ?? {}) };
}

const variable = (name: string): string => `$\{${name}}`;

/** `tls: {}` is the server's certificate; what is given is merged into the DownstreamTlsContext. */
function downstreamTls(fragment: JsonMap): unknown {
  const base = {
    '@type': 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    common_tls_context: {
      tls_certificates: [
        { certificate_chain: { filename: variable('cert.server') }, private_key: { filename: variable('key.server') } },
      ],
    },
  };
  return { name: 'envoy.transport_sockets.tls', typed_config: merge(base, fragment) };
}

/** Keys whose value names a cluster when it is one of the case's. */
const CLUSTER_KEYS: ReadonlySet<string> = new Set(['cluster', 'cluster_name', 'cluster_fallback', 'default_cluster']);

/** Puts prefixes before names, fills in `${…}`, and lengthens `@type`. */
function complete(value: unknown, clusters: ReadonlySet<string>, naming: Naming, key = '', owner?: object): unknown {
  if (typeof value === 'string') {
    if (key === '@type') return value.includes('/') ? value : T + value;
    const text = fill(value, naming.variable);
    if (clusters.has(text)) {
      const weighted = key === 'name' && owner !== undefined && 'weight' in owner;
      const cluster =
        key === 'name' && owner !== undefined && ('connect_timeout' in owner || 'load_assignment' in owner);
      if (CLUSTER_KEYS.has(key) || weighted || cluster) return naming.prefix + text;
    }
    if (key === 'stat_prefix' || (key === 'name' && owner !== undefined && 'filter_chains' in owner))
      return naming.prefix + text;
    return text;
  }
  if (Array.isArray(value)) return value.map((item: unknown) => complete(item, clusters, naming, key));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [name, complete(item, clusters, naming, name, value)]),
  );
}

/** `${name}` in text. Throws for a name nobody knows. */
export function fill(text: string, variable: (name: string) => string | undefined): string {
  return text.replaceAll(/\$\{([\w.-]+)\}/g, (_, name: string) => {
    const value = variable(name);
    if (value === undefined) throw new Error(`there is no \${${name}}`);
    return value;
  });
}

/** Numbers written as `"${port.app}"` must be numbers for protobuf's JSON; both engines take strings there. */
export function fillAll(value: unknown, variable: (name: string) => string | undefined): unknown {
  if (typeof value === 'string') return fill(value, variable);
  if (Array.isArray(value)) return value.map((item: unknown) => fillAll(item, variable));
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, fillAll(item, variable)]));
}
