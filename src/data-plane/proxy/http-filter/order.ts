// The order in which HTTP filters make sense, and why. The configuration decides what runs; this table says where a filter
// belongs, also for filters that come later, and registry.test.ts checks that every filter of the registry stands here.
// The order is that of Istio's control plane where it says one.

export interface FilterPlace {
  /** Type of the configuration message. */
  readonly type: string;
  /** Why here: after the row above, before the row below. */
  readonly why: string;
  /** False = a place kept for a filter that is not built yet. */
  readonly here: boolean;
}

const HTTP = 'envoy.extensions.filters.http';

export const FILTER_ORDER: readonly FilterPlace[] = [
  place(`${HTTP}.tap.v3.Tap`, 'sees requests as clients sent them, and answers as they leave'),
  place('io.istio.http.peer_metadata.Config', 'who the peer is must be known before anything is counted or logged'),
  place(`${HTTP}.health_check.v3.HealthCheck`, 'probes are answered before policies: a probe has no identity'),
  place(`${HTTP}.grpc_http1_bridge.v3.Config`, 'turns HTTP/1 callers into gRPC before policies look at it', false),
  place(`${HTTP}.grpc_web.v3.GrpcWeb`, 'the same for browsers; before cors, which answers their preflights'),
  place(`${HTTP}.cors.v3.Cors`, 'a preflight carries no credentials: it must be answered before authentication'),
  place(
    `${HTTP}.ext_authz.v3.ExtAuthz`,
    'CUSTOM policies ask before tokens are checked (with a shadow rbac before it)',
    false,
  ),
  place(`${HTTP}.jwt_authn.v3.JwtAuthentication`, 'claims must be there before policies ask for them', false),
  place(`${HTTP}.set_metadata.v3.Config`, 'what policies and rate limits may ask for'),
  place(`${HTTP}.rbac.v3.RBAC`, 'AUDIT, DENY, ALLOW: nothing that costs more runs for a request that is refused'),
  place(
    `${HTTP}.local_ratelimit.v3.LocalRateLimit`,
    'a limit here costs nothing; it counts only requests that may be made',
  ),
  place(`${HTTP}.ratelimit.v3.RateLimit`, 'a limit that asks a service comes after the one that does not', false),
  place(`${HTTP}.fault.v3.HTTPFault`, 'faults stand for the upstream: policies and limits have been passed'),
  place(`${HTTP}.buffer.v3.Buffer`, 'only requests that go on are worth the memory'),
  place(`${HTTP}.header_mutation.v3.HeaderMutation`, 'the last word on headers, so that no policy sees made-up ones'),
  place('istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig', 'the route is final: tell the upstream handshake'),
  place(`${HTTP}.grpc_stats.v3.FilterConfig`, 'counts messages as the upstream gets them'),
  place('stats.PluginConfig', 'reports what became of the request, whoever answered'),
  place(`${HTTP}.on_demand.v3.OnDemand`, 'waits for a route right before it is used'),
  place(
    `${HTTP}.dynamic_forward_proxy.v3.FilterConfig`,
    'resolves the host of the route that is final, right before the router needs it',
  ),
  place(`${HTTP}.router.v3.Router`, 'ends the chain'),
];

function place(type: string, why: string, here = true): FilterPlace {
  return { type, why, here };
}
