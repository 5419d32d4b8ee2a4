// The event log of outlier detection: one JSON line for each ejection and its end (cluster_manager.outlier_detection of the
// bootstrap). Made by the cluster.
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { EjectionType, SuccessRates } from './detector.ts';
import type { HostMonitor } from './monitor.ts';

const TYPE_NAME: Readonly<Record<EjectionType, string>> = {
  consecutive_5xx: 'CONSECUTIVE_5XX',
  consecutive_gateway_failure: 'CONSECUTIVE_GATEWAY_FAILURE',
  consecutive_local_origin_failure: 'CONSECUTIVE_LOCAL_ORIGIN_FAILURE',
  success_rate: 'SUCCESS_RATE',
  local_origin_success_rate: 'SUCCESS_RATE_LOCAL_ORIGIN',
  failure_percentage: 'FAILURE_PERCENTAGE',
  failure_percentage_local_origin: 'FAILURE_PERCENTAGE_LOCAL_ORIGIN',
};

export interface OutlierLog {
  ejected(
    monitor: HostMonitor,
    type: EjectionType,
    enforced: boolean,
    rates: { readonly external: SuccessRates; readonly local: SuccessRates },
  ): void;
  unejected(monitor: HostMonitor): void;
}

export function outlierLog(clusterName: string, clock: Clock, write: (line: string) => void): OutlierLog {
  const common = (monitor: HostMonitor, since: number) => ({
    timestamp: new Date(clock.now()).toISOString(),
    cluster_name: clusterName,
    upstream_url: monitor.host.key,
    ...(since < 0 ? {} : { secs_since_last_action: String(Math.floor((clock.now() - since) / 1000)) }),
    num_ejections: monitor.ejections,
  });
  return {
    ejected(monitor, type, enforced, rates) {
      const local = type === 'local_origin_success_rate' || type === 'failure_percentage_local_origin';
      const side = local ? rates.local : rates.external;
      const rate = Math.floor(local ? monitor.localOriginSuccessRate : monitor.successRate);
      write(
        `${JSON.stringify({
          type: TYPE_NAME[type],
          ...common(monitor, monitor.lastUnejected),
          action: 'EJECT',
          enforced,
          ...(type.includes('success_rate')
            ? {
                eject_success_rate_event: {
                  host_success_rate: rate,
                  cluster_average_success_rate: Math.floor(side.average),
                  cluster_success_rate_ejection_threshold: Math.floor(side.threshold),
                },
              }
            : type.includes('failure_percentage')
              ? { eject_failure_percentage_event: { host_success_rate: rate } }
              : { eject_consecutive_event: {} }),
        })}\n`,
      );
    },
    unejected(monitor) {
      write(
        `${JSON.stringify({
          type: 'CONSECUTIVE_5XX',
          ...common(monitor, monitor.lastEjected),
          action: 'UNEJECT',
          enforced: false,
        })}\n`,
      );
    },
  };
}
