// The statistics of a cluster with Envoy's names. Made by the cluster, added to by router, tcp_proxy and pools.
import { ByteBooks } from '../stats/byte-books.ts';
import { SparseHistogram, type StatsScope, type StatsStore } from '../stats/stats.ts';

/** What most clusters never count, and its place in RARE_NAMES. */
export const RARE = {
  cxDestroyLocal: 0,
  cxDestroyRemote: 1,
  cxDestroyBusy: 2,
  cxDestroyLocalBusy: 3,
  cxDestroyRemoteBusy: 4,
  rqCancelled: 5,
  rqMaxDuration: 6,
  retryBackoff: 7,
  retryBackoffAsked: 8,
  retryAbandoned: 9,
  backedUp: 10,
  drained: 11,
  pausedReading: 12,
  resumedReading: 13,
  perTryIdleTimeout: 14,
  redirectFailed: 15,
  redirectSucceeded: 16,
  maintenance: 17,
} as const;

const RARE_NAMES = [
  'upstream_cx_destroy_local',
  'upstream_cx_destroy_remote',
  'upstream_cx_destroy_with_active_rq',
  'upstream_cx_destroy_local_with_active_rq',
  'upstream_cx_destroy_remote_with_active_rq',
  'upstream_rq_cancelled',
  'upstream_rq_max_duration_reached',
  'upstream_rq_retry_backoff_exponential',
  'upstream_rq_retry_backoff_ratelimited',
  'retry_or_shadow_abandoned',
  'upstream_flow_control_backed_up_total',
  'upstream_flow_control_drained_total',
  'upstream_flow_control_paused_reading_total',
  'upstream_flow_control_resumed_reading_total',
  'upstream_rq_per_try_idle_timeout',
  'upstream_internal_redirect_failed_total',
  'upstream_internal_redirect_succeeded_total',
  'upstream_rq_maintenance_mode',
] as const;

export function clusterCounters(scope: StatsScope, store: StatsStore) {
  const cxReceived = scope.counter('upstream_cx_rx_bytes_total');
  const cxSent = scope.counter('upstream_cx_tx_bytes_total');
  return {
    cxTotal: scope.counter('upstream_cx_total'),
    cxActive: scope.gauge('upstream_cx_active'),
    cxHttp1Total: scope.counter('upstream_cx_http1_total'),
    cxHttp2Total: scope.counter('upstream_cx_http2_total'),
    cxCloseNotify: scope.counter('upstream_cx_close_notify'),
    cxConnectFail: scope.counter('upstream_cx_connect_fail'),
    cxConnectTimeout: scope.counter('upstream_cx_connect_timeout'),
    cxAttemptsExceeded: scope.counter('upstream_cx_connect_attempts_exceeded'),
    cxReceived,
    cxSent,
    bytes: new ByteBooks(store, cxReceived, cxSent, scope.gauge('upstream_cx_tx_bytes_buffered')),
    connectMs: new SparseHistogram(scope, 'upstream_cx_connect_ms'),
    lengthMs: new SparseHistogram(scope, 'upstream_cx_length_ms'),
    rqPerCx: new SparseHistogram(scope, 'upstream_rq_per_cx'),
    rare: scope.sparse(RARE_NAMES),
    cxOverflow: scope.counter('upstream_cx_overflow'),
    cxPoolOverflow: scope.counter('upstream_cx_pool_overflow'),
    cxIdleTimeout: scope.counter('upstream_cx_idle_timeout'),
    cxDestroy: scope.counter('upstream_cx_destroy'),
    cxMaxRequests: scope.counter('upstream_cx_max_requests'),
    cxMaxDuration: scope.counter('upstream_cx_max_duration_reached'),
    cxNoneHealthy: scope.counter('upstream_cx_none_healthy'),
    rqTotal: scope.counter('upstream_rq_total'),
    rqActive: scope.gauge('upstream_rq_active'),
    rqCompleted: scope.counter('upstream_rq_completed'),
    rqClasses: [1, 2, 3, 4, 5].map((digit) => scope.counter(`upstream_rq_${digit}xx`)),
    rqPendingTotal: scope.counter('upstream_rq_pending_total'),
    rqPendingActive: scope.gauge('upstream_rq_pending_active'),
    rqPendingOverflow: scope.counter('upstream_rq_pending_overflow'),
    rqActiveOverflow: scope.counter('upstream_rq_active_overflow'),
    rqPendingFailure: scope.counter('upstream_rq_pending_failure_eject'),
    rqTimeout: scope.counter('upstream_rq_timeout'),
    rqPerTryTimeout: scope.counter('upstream_rq_per_try_timeout'),
    rqRetry: scope.counter('upstream_rq_retry'),
    rqRetrySuccess: scope.counter('upstream_rq_retry_success'),
    rqRetryOverflow: scope.counter('upstream_rq_retry_overflow'),
    rqRetryLimit: scope.counter('upstream_rq_retry_limit_exceeded'),
    rqRxReset: scope.counter('upstream_rq_rx_reset'),
    rqTxReset: scope.counter('upstream_rq_tx_reset'),
    rqDropOverload: scope.counter('upstream_rq_drop_overload'),
    protocolError: scope.counter('upstream_cx_protocol_error'),
    membershipTotal: scope.gauge('membership_total'),
    membershipHealthy: scope.gauge('membership_healthy'),
    membershipDegraded: scope.gauge('membership_degraded'),
    membershipExcluded: scope.gauge('membership_excluded'),
    membershipChange: scope.counter('membership_change'),
    originalDstHostInvalid: scope.counter('original_dst_host_invalid'),
    // Shared by all clusters.
    updated: store.counter('cluster_manager.cluster_updated'),
    updatedViaMerge: store.counter('cluster_manager.cluster_updated_via_merge'),
    mergeCancelled: store.counter('cluster_manager.update_merge_cancelled'),
    outOfMergeWindow: store.counter('cluster_manager.update_out_of_merge_window'),
  };
}
export type ClusterCounters = ReturnType<typeof clusterCounters>;

/** A connection that stood is gone. `ms`: how long it stood. */
export function countUpstreamEnd(
  counters: Pick<ClusterCounters, 'cxDestroy' | 'lengthMs' | 'rare'>,
  remote: boolean,
  busy: boolean,
  ms: number,
): void {
  const { rare } = counters;
  counters.cxDestroy.value += 1;
  counters.lengthMs.record(ms);
  rare.add(remote ? RARE.cxDestroyRemote : RARE.cxDestroyLocal);
  if (!busy) return;
  rare.add(RARE.cxDestroyBusy);
  rare.add(remote ? RARE.cxDestroyRemoteBusy : RARE.cxDestroyLocalBusy);
}

/** A connection that never stood: we gave up waiting, or it was refused. */
export function countFailedDial(counters: Pick<ClusterCounters, 'cxDestroy' | 'rare'>, timedOut: boolean): void {
  counters.cxDestroy.value += 1;
  counters.rare.add(timedOut ? RARE.cxDestroyLocal : RARE.cxDestroyRemote);
}
