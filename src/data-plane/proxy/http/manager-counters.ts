// The statistics of an HTTP connection manager with Envoy's names. Made by connection-manager.ts, added to by it, its streams and
// the router.
import type { StatsScope, StatsStore } from '../stats/stats.ts';
import type { ServerConnection } from './codec.ts';

export function underscoreCounters(stats: StatsStore, version: 'http1' | 'http2') {
  return {
    dropped: stats.counter(`${version}.dropped_headers_with_underscores`),
    rejected: stats.counter(`${version}.requests_rejected_with_underscores_in_headers`),
  };
}

export function httpCounters(scope: StatsScope, version: 'http1' | 'http2') {
  return {
    cxTotal: scope.counter(`downstream_cx_${version}_total`),
    cxActive: scope.gauge(`downstream_cx_${version}_active`),
    rqTotal: scope.counter(`downstream_rq_${version}_total`),
  };
}

/** What most connection managers never count, and its place in RARE_NAMES. */
export const RARE = {
  redirectBadLocation: 0,
  redirectUnsafeScheme: 1,
  redirectTooMany: 2,
  redirectNoRoute: 3,
  redirectPredicate: 4,
  rejectedByIp: 5,
} as const;

const RARE_NAMES = [
  'passthrough_internal_redirect_bad_location',
  'passthrough_internal_redirect_unsafe_scheme',
  'passthrough_internal_redirect_too_many_redirects',
  'passthrough_internal_redirect_no_route',
  'passthrough_internal_redirect_predicate',
  'downstream_rq_rejected_via_ip_detection',
] as const;

export function managerCounters(scope: StatsScope) {
  return {
    rare: scope.sparse(RARE_NAMES),
    cxTotal: scope.counter('downstream_cx_total'),
    cxActive: scope.gauge('downstream_cx_active'),
    http1: httpCounters(scope, 'http1'),
    http2: httpCounters(scope, 'http2'),
    rqTooManyResets: scope.counter('downstream_rq_too_many_premature_resets'),
    cxDestroy: scope.counter('downstream_cx_destroy'),
    cxIdleTimeout: scope.counter('downstream_cx_idle_timeout'),
    cxMaxDuration: scope.counter('downstream_cx_max_duration_reached'),
    cxDrainClose: scope.counter('downstream_cx_drain_close'),
    cxOverload: scope.counter('downstream_cx_overload_disable_keepalive'),
    rqOverload: scope.counter('downstream_rq_overload_close'),
    cxProtocolError: scope.counter('downstream_cx_protocol_error'),
    rqTotal: scope.counter('downstream_rq_total'),
    rqActive: scope.gauge('downstream_rq_active'),
    rqCompleted: scope.counter('downstream_rq_completed'),
    rqClasses: [1, 2, 3, 4, 5].map((digit) => scope.counter(`downstream_rq_${digit}xx`)),
    rqRxReset: scope.counter('downstream_rq_rx_reset'),
    rqIdleTimeout: scope.counter('downstream_rq_idle_timeout'),
    rqTime: scope.histogram('downstream_rq_time'),
    noRoute: scope.counter('no_route'),
    noCluster: scope.counter('no_cluster'),
    rqMaxDuration: scope.counter('downstream_rq_max_duration_reached'),
    rqDirect: scope.counter('rq_direct_response'),
    rqRedirect: scope.counter('rq_redirect'),
    rqRouted: scope.counter('rq_total'),
    rqResetLate: scope.counter('rq_reset_after_downstream_response_started'),
    rqTimeout: scope.counter('downstream_rq_timeout'),
    rqHeaderTimeout: scope.counter('downstream_rq_header_timeout'),
    rqTooLarge: scope.counter('downstream_rq_too_large'),
    rqNoUpgrade: scope.counter('downstream_rq_ws_on_non_ws_route'),
    rqNotRelative: scope.counter('downstream_rq_non_relative_path'),
    rqBadPath: scope.counter('downstream_rq_failed_path_normalization'),
    rqOtherPath: scope.counter('downstream_rq_redirected_with_normalized_path'),
    rqEarlyAnswer: scope.counter('downstream_rq_response_before_rq_complete'),
    rqTxReset: scope.counter('downstream_rq_tx_reset'),
    cxUpgrades: scope.counter('downstream_cx_upgrades_total'),
    cxUpgradesActive: scope.gauge('downstream_cx_upgrades_active'),
    cxSsl: scope.counter('downstream_cx_ssl_total'),
    cxSslActive: scope.gauge('downstream_cx_ssl_active'),
    cxMaxRequests: scope.counter('downstream_cx_max_requests_reached'),
    cxDelayedClose: scope.counter('downstream_cx_delayed_close_timeout'),
    cxDestroyLocal: scope.counter('downstream_cx_destroy_local'),
    cxDestroyRemote: scope.counter('downstream_cx_destroy_remote'),
    cxDestroyBusy: scope.counter('downstream_cx_destroy_active_rq'),
    cxDestroyLocalBusy: scope.counter('downstream_cx_destroy_local_active_rq'),
    cxDestroyRemoteBusy: scope.counter('downstream_cx_destroy_remote_active_rq'),
    cxReceived: scope.counter('downstream_cx_rx_bytes_total'),
    cxSent: scope.counter('downstream_cx_tx_bytes_total'),
    cxWaiting: scope.gauge('downstream_cx_tx_bytes_buffered'),
    cxLength: scope.histogram('downstream_cx_length_ms'),
    flowPaused: scope.counter('downstream_flow_control_paused_reading_total'),
    flowResumed: scope.counter('downstream_flow_control_resumed_reading_total'),
  };
}

export type ManagerCounters = ReturnType<typeof managerCounters>;

/** A connection is gone after `ms`. */
export function countEnd(counters: ManagerCounters, { transport, interrupted }: ServerConnection, ms: number): void {
  const remote = transport.peerEnded;
  counters.cxActive.value -= 1;
  if (transport.tls) counters.cxSslActive.value -= 1;
  counters.cxDestroy.value += 1;
  (remote ? counters.cxDestroyRemote : counters.cxDestroyLocal).value += 1;
  counters.cxLength.record(ms);
  if (!interrupted) return;
  counters.cxDestroyBusy.value += 1;
  (remote ? counters.cxDestroyRemoteBusy : counters.cxDestroyLocalBusy).value += 1;
}

/** Answers of one connection manager on one listener. */
export function listenerCounters(scope: StatsScope, statPrefix: string) {
  return {
    rqCompleted: scope.counter(`http.${statPrefix}.downstream_rq_completed`),
    rqClasses: [1, 2, 3, 4, 5].map((digit) => scope.counter(`http.${statPrefix}.downstream_rq_${digit}xx`)),
  };
}
