// Envoy's bootstrap as JSON (xds.md §8): admin, ADS through the agent, the two static listeners, stats. Pure.
// Called by wiring.ts, which writes it to etc/istio/proxy/envoy-rev.json.
import type { XdsNode } from './node.ts';
import type { AgentOptions } from './options.ts';

export interface BootstrapPaths {
  /** Unix socket of the xDS relay. */
  readonly xds: string;
  /** Unix socket of the SDS server. */
  readonly sds: string;
}

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const TYPE = 'type.googleapis.com/';
const MANY = 100_000;
const STAT_PREFIXES = [
  'reporter=',
  'cluster_manager',
  'listener_manager',
  'server',
  'cluster.xds-grpc',
  'wasm',
  'component',
  'istio',
];
const STAT_SUFFIXES = [
  'rbac.allowed',
  'rbac.denied',
  'shadow_allowed',
  'shadow_denied',
  'downstream_cx_active',
  // Not in Istio's list: without them nobody sees why a peer was refused.
  'ssl.fail_verify_san',
  'ssl.fail_verify_error',
  'ssl.fail_verify_no_cert',
  'no_filter_chain_match',
];
const STAT_REGEXPS = ['vhost\\..*\\.route\\..*'];

/** Features of the proxy, the same wherever one of the mesh runs. */
export const RUNTIME = {
  layers: [
    {
      name: 'global config',
      static_layer: {
        're2.max_program_size.error_level': '32768',
        // Newer Envoys keep from the caller why a connection failed; in a mesh both ends are one's own, and need to know.
        'envoy.reloadable_features.hide_transport_failure_reason_in_response_body': false,
        'envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst': true,
      },
    },
    { name: 'admin', admin_layer: {} },
  ],
} as const;

export function buildBootstrap(
  node: XdsNode,
  options: AgentOptions,
  paths: BootstrapPaths,
): Readonly<Record<string, unknown>> {
  return {
    node,
    admin: {
      access_log: [
        {
          name: 'envoy.access_loggers.file',
          typed_config: { '@type': `${TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog`, path: '/dev/null' },
        },
      ],
      profile_path: '/var/lib/istio/data/envoy.prof',
      address: tcp('127.0.0.1', options.adminPort),
    },
    dynamic_resources: dynamicResources(options.deltaXds),
    static_resources: {
      clusters: [
        { ...cluster('prometheus_stats', tcp('127.0.0.1', options.adminPort)), type: 'STATIC' },
        { ...cluster('agent', tcp('127.0.0.1', options.statusPort)), type: 'STATIC' },
        { ...cluster('sds-grpc', pipe(paths.sds)), type: 'STATIC', ...http2() },
        {
          ...cluster('xds-grpc', pipe(paths.xds)),
          type: 'STATIC',
          ...http2(),
          circuit_breakers: { thresholds: ['DEFAULT', 'HIGH'].map(limits) },
          upstream_connection_options: { tcp_keepalive: { keepalive_time: 300 } },
        },
      ],
      listeners: [
        forward(15090, '/stats/prometheus', 'prometheus_stats', 'stats'),
        forward(15021, '/healthz/ready', 'agent', 'agent'),
      ],
    },
    layered_runtime: RUNTIME,
    stats_config: { use_all_default_tags: false, stats_tags: STATS_TAGS, stats_matcher: statsMatcher(node, options) },
    overload_manager: {
      resource_monitors: [
        {
          name: 'envoy.resource_monitors.global_downstream_max_connections',
          typed_config: {
            '@type': `${TYPE}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig`,
            max_active_downstream_connections: '2147483647',
          },
        },
      ],
    },
  };
}

function dynamicResources(delta: boolean): Readonly<Record<string, unknown>> {
  const source = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    lds_config: source,
    cds_config: source,
    ads_config: {
      api_type: delta ? 'DELTA_GRPC' : 'GRPC',
      set_node_on_first_message_only: true,
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
    },
  };
}

function tcp(address: string, port: number) {
  return { socket_address: { protocol: 'TCP', address, port_value: port } };
}
function pipe(path: string) {
  return { pipe: { path } };
}
function cluster(name: string, address: unknown) {
  return {
    name,
    alt_stat_name: `${name};`,
    connect_timeout: name === 'xds-grpc' || name === 'sds-grpc' ? '1s' : '0.250s',
    lb_policy: 'ROUND_ROBIN',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
  };
}
function http2() {
  return {
    typed_extension_protocol_options: {
      [HTTP_OPTIONS]: {
        '@type': `${TYPE}${HTTP_OPTIONS}`,
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
}
function limits(priority: string) {
  return { priority, max_connections: MANY, max_pending_requests: MANY, max_requests: MANY };
}

/** A plain listener on all addresses that forwards one path to a local cluster. */
function forward(port: number, prefix: string, to: string, statPrefix: string) {
  const manager = {
    '@type': `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    codec_type: 'AUTO',
    stat_prefix: statPrefix,
    route_config: {
      virtual_hosts: [{ name: 'backend', domains: ['*'], routes: [{ match: { prefix }, route: { cluster: to } }] }],
    },
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` },
      },
    ],
  };
  return {
    name: `0.0.0.0_${port}`,
    address: tcp('0.0.0.0', port),
    ignore_global_conn_limit: true,
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] }],
  };
}

/** Istio's inclusion list, widened by proxyStatsMatcher and the pod's sidecar.istio.io/statsInclusion* annotations. */
function statsMatcher(node: XdsNode, options: AgentOptions) {
  const extra = options.proxyConfig.proxyStatsMatcher ?? {};
  const annotated = (what: string): readonly string[] => {
    const all = node.metadata.ANNOTATIONS as Readonly<Record<string, string>> | undefined;
    const list = all?.[`sidecar.istio.io/statsInclusion${what}`] ?? '';
    return list
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
  };
  return {
    inclusion_list: {
      patterns: [
        ...[...STAT_PREFIXES, ...(extra.inclusionPrefixes ?? []), ...annotated('Prefixes')].map((prefix) => ({
          prefix,
        })),
        ...[...STAT_SUFFIXES, ...(extra.inclusionSuffixes ?? []), ...annotated('Suffixes')].map((suffix) => ({
          suffix,
        })),
        ...[...STAT_REGEXPS, ...(extra.inclusionRegexps ?? []), ...annotated('Regexps')].map((regex) => ({
          safe_regex: { regex },
        })),
      ],
    },
  };
}

const STATS_TAGS = [
  { tag_name: 'cluster_name', regex: '^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)' },
  { tag_name: 'tcp_prefix', regex: '^tcp\\.((.*?)\\.)\\w+?$' },
  { tag_name: 'response_code', regex: '(response_code=\\.=(.+?);\\.;)|_rq(_(\\.d{3}))$' },
  { tag_name: 'response_code_class', regex: '_rq(_(\\dxx))$' },
  { tag_name: 'http_conn_manager_prefix', regex: '^http\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)' },
  { tag_name: 'listener_address', regex: '^listener\\.(((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))\\.)' },
];
