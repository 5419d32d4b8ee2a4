// Bootstraps in Envoy's form: the same file goes to our engine and to the stock Envoy. Called by engines.ts.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import {
  bootstrap,
  hcm,
  routes,
  socketAddress,
  staticCluster,
  tcpProxy,
  typed,
} from '../../src/data-plane/proxy/testing/engine.ts';
import type { CertificateFiles } from './certificates.ts';

const ROUTER = typed('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router');
const HTTP2_OPTIONS: JsonObject = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

/** What Istio's log line holds, without what only Istio knows. */
const LOG_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% ' +
  '%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

export interface HttpShape {
  readonly port: number;
  readonly target: number;
  /** rbac, fault, cors and access log, as in a sidecar; our engine also has Istio's metrics. */
  readonly sidecar?: { readonly log: string; readonly metrics: boolean };
  readonly downstreamTls?: CertificateFiles;
  readonly upstreamTls?: CertificateFiles;
  readonly upstreamHttp2?: boolean;
  /** Answers by itself: for connection benches. */
  readonly direct?: boolean;
}

export function httpConfig(shape: HttpShape): JsonObject {
  const action: JsonObject = shape.direct
    ? { match: { prefix: '/' }, direct_response: { status: 200 } }
    : { match: { prefix: '/' }, route: { cluster: 'backend' } };
  const extra: JsonObject = {
    http_filters: shape.sidecar ? [...sidecarFilters(shape.sidecar.metrics), ROUTER] : [ROUTER],
    ...(shape.sidecar ? { access_log: [fileLog(shape.sidecar.log)] } : {}),
  };
  const chain: JsonObject = {
    filters: [hcm(routes([action]) as JsonValue, extra)],
    ...(shape.downstreamTls ? { transport_socket: downstreamTls(shape.downstreamTls) } : {}),
  };
  const cluster = staticCluster('backend', [shape.target], {
    circuit_breakers: WIDE,
    ...(shape.upstreamTls ? { transport_socket: upstreamTls(shape.upstreamTls) } : {}),
    ...(shape.upstreamHttp2 ? HTTP2_OPTIONS : {}),
  });
  return bootstrap([{ name: 'in', address: socketAddress(shape.port), filter_chains: [chain] }], [cluster]);
}

export interface TcpShape {
  readonly port: number;
  readonly target: number;
  readonly downstreamTls?: CertificateFiles;
  readonly upstreamTls?: CertificateFiles;
}

export function tcpConfig(shape: TcpShape): JsonObject {
  const chain: JsonObject = {
    filters: [tcpProxy('backend')],
    ...(shape.downstreamTls ? { transport_socket: downstreamTls(shape.downstreamTls) } : {}),
  };
  const cluster = staticCluster('backend', [shape.target], {
    ...(shape.upstreamTls ? { transport_socket: upstreamTls(shape.upstreamTls) } : {}),
  });
  return bootstrap([{ name: 'in', address: socketAddress(shape.port), filter_chains: [chain] }], [cluster]);
}

/** Nothing to do: only an admin interface, so that its start can be seen. */
export function bootstrapOnly(port: number): JsonObject {
  return { admin: { address: socketAddress(port) } };
}

/** A listener and `count` clusters nobody calls. */
export function manyClusters(port: number, count: number): JsonObject {
  const list = Array.from({ length: count }, (_, i) =>
    staticCluster(`outbound|80||service-${i}.default.svc.cluster.local`, [20_000 + (i % 10_000)]),
  );
  const action: JsonObject = { match: { prefix: '/' }, direct_response: { status: 200 } };
  return bootstrap(
    [{ name: 'in', address: socketAddress(port), filter_chains: [{ filters: [hcm(routes([action]) as JsonValue)] }] }],
    list,
  );
}

const WIDE: JsonObject = {
  thresholds: [{ max_connections: 100_000, max_pending_requests: 100_000, max_requests: 100_000 }],
};

function sidecarFilters(metrics: boolean): JsonObject[] {
  const ours = metrics ? [typed('istio.stats', 'stats.PluginConfig')] : [];
  return [
    typed('envoy.filters.http.rbac', 'envoy.extensions.filters.http.rbac.v3.RBAC', {
      rules: {
        action: 'ALLOW',
        policies: {
          'ns[default]-policy[bench]-rule[0]': {
            permissions: [
              {
                and_rules: {
                  rules: [
                    { header: { name: ':method', string_match: { exact: 'GET' } } },
                    { url_path: { path: { prefix: '/' } } },
                  ],
                },
              },
            ],
            principals: [{ any: true }],
          },
        },
      },
    }),
    typed('envoy.filters.http.fault', 'envoy.extensions.filters.http.fault.v3.HTTPFault'),
    typed('envoy.filters.http.cors', 'envoy.extensions.filters.http.cors.v3.Cors'),
    ...ours,
  ];
}

function fileLog(path: string): JsonObject {
  return typed('envoy.access_loggers.file', 'envoy.extensions.access_loggers.file.v3.FileAccessLog', {
    path,
    log_format: { text_format_source: { inline_string: LOG_FORMAT } },
  });
}

function commonTls(certificate: string, key: string, ca: string, san: string, alpn: readonly string[]): JsonObject {
  return {
    tls_certificates: [{ certificate_chain: { filename: certificate }, private_key: { filename: key } }],
    validation_context: {
      trusted_ca: { filename: ca },
      match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: san } }],
    },
    alpn_protocols: [...alpn],
  };
}

function downstreamTls(files: CertificateFiles): JsonObject {
  return typed('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: commonTls(
      files.serverCertificate,
      files.serverKey,
      files.ca,
      'spiffe://cluster.local/ns/bench/sa/client',
      ['h2', 'http/1.1'],
    ),
    require_client_certificate: true,
  });
}

function upstreamTls(files: CertificateFiles): JsonObject {
  return typed('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext', {
    common_tls_context: commonTls(
      files.clientCertificate,
      files.clientKey,
      files.ca,
      'spiffe://cluster.local/ns/bench/sa/server',
      [],
    ),
    sni: 'server.bench',
  });
}
