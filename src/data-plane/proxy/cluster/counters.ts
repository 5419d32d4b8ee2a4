// The statistics of a cluster with Envoy's names. Made by the cluster, added to by router, tcp_proxy and pools.
import type { StatsScope, StatsStore } from '../stats/stats.ts';

export function clusterCounters(scope: StatsScope, store: StatsStore) {
  return {
    cxTotal: scope.counter('upstream_cx_total'),
    cxActive: scope.gauge('upstream_cx_active'),
    cxConnectFail: scope.counter('upstream_cx_connect_fail'),
    cxConnectTimeout: scope.counter('upstream_cx_connect_timeout'),
    cxOverflow: scope.counter('upstream_cx_overflow'),
    cxPoolOverflow: scope.counter('upstream_cx_pool_overflow'),
    cxIdleTimeout: scope.counter('upstream_cx_idle_timeout'),
    cxDestroy: scope.counter('upstream_cx_destroy'),
    cxMaxRequests: scope.counter('upstream_cx_max_requests'),
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
