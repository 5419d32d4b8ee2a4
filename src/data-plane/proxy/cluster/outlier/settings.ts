// Reads OutlierDetection of a cluster. Called by config.ts.
import { type OutlierDetection, OutlierDetectionSchema } from '#proto/envoy/config/cluster/v3/outlier_detection_pb.js';
import { ConfigError, join, millis, only } from '../../config/fields.ts';
import { DEFAULT_BASE_EJECTION_MS, DEFAULT_MAX_EJECTION_MS, DEFAULT_OUTLIER_INTERVAL_MS } from '../../limits.ts';

/** Numbers that the runtime key `outlier_detection.<name>` overrides. */
export const OUTLIER_NUMBERS = [
  'consecutive_5xx',
  'consecutive_gateway_failure',
  'consecutive_local_origin_failure',
  'interval_ms',
  'base_ejection_time_ms',
  'max_ejection_time_ms',
  'max_ejection_time_jitter_ms',
  'max_ejection_percent',
  'success_rate_minimum_hosts',
  'success_rate_request_volume',
  'success_rate_stdev_factor',
  'failure_percentage_threshold',
  'failure_percentage_minimum_hosts',
  'failure_percentage_request_volume',
  'enforcing_consecutive_5xx',
  'enforcing_consecutive_gateway_failure',
  'enforcing_consecutive_local_origin_failure',
  'enforcing_success_rate',
  'enforcing_local_origin_success_rate',
  'enforcing_failure_percentage',
  'enforcing_failure_percentage_local_origin',
] as const;
export type OutlierNumber = (typeof OUTLIER_NUMBERS)[number];

export interface OutlierSettings {
  readonly numbers: Readonly<Record<OutlierNumber, number>>;
  /** Failures that the proxy met itself are counted apart from what the host answered. */
  readonly split: boolean;
  /** A health check that passes ends an ejection. */
  readonly unejectByHealthCheck: boolean;
  readonly alwaysEjectOne: boolean;
}

export function readOutlier(message: OutlierDetection | undefined, path: string): OutlierSettings | undefined {
  if (!message) return undefined;
  // `monitors` are extensions, of which this proxy has none.
  only(
    OutlierDetectionSchema,
    message,
    path,
    OutlierDetectionSchema.fields.map((field) => field.name).filter((name) => name !== 'monitors'),
  );
  const percent = (value: number | undefined, fallback: number, name: string): number => {
    if (value !== undefined && value > 100)
      throw new ConfigError(join(path, name), 'value must be less than or equal to 100');
    return value ?? fallback;
  };
  const baseMs = positive(millis(message.baseEjectionTime, DEFAULT_BASE_EJECTION_MS), join(path, 'base_ejection_time'));
  const maxMs = positive(
    millis(message.maxEjectionTime, Math.max(DEFAULT_MAX_EJECTION_MS, baseMs)),
    join(path, 'max_ejection_time'),
  );
  if (maxMs < baseMs)
    throw new ConfigError(path, "outlier detector's max_ejection_time cannot be smaller than base_ejection_time");
  return {
    split: message.splitExternalLocalOriginErrors,
    unejectByHealthCheck: message.successfulActiveHealthCheckUnejectHost ?? true,
    alwaysEjectOne: message.alwaysEjectOneHost ?? false,
    numbers: {
      consecutive_5xx: message.consecutive5xx ?? 5,
      consecutive_gateway_failure: message.consecutiveGatewayFailure ?? 5,
      consecutive_local_origin_failure: message.consecutiveLocalOriginFailure ?? 5,
      interval_ms: positive(millis(message.interval, DEFAULT_OUTLIER_INTERVAL_MS), join(path, 'interval')),
      base_ejection_time_ms: baseMs,
      max_ejection_time_ms: maxMs,
      max_ejection_time_jitter_ms: millis(message.maxEjectionTimeJitter, 0),
      max_ejection_percent: percent(message.maxEjectionPercent, 10, 'max_ejection_percent'),
      success_rate_minimum_hosts: message.successRateMinimumHosts ?? 5,
      success_rate_request_volume: message.successRateRequestVolume ?? 100,
      success_rate_stdev_factor: message.successRateStdevFactor ?? 1_900,
      failure_percentage_threshold: percent(message.failurePercentageThreshold, 85, 'failure_percentage_threshold'),
      failure_percentage_minimum_hosts: message.failurePercentageMinimumHosts ?? 5,
      failure_percentage_request_volume: message.failurePercentageRequestVolume ?? 50,
      enforcing_consecutive_5xx: percent(message.enforcingConsecutive5xx, 100, 'enforcing_consecutive_5xx'),
      enforcing_consecutive_gateway_failure: percent(
        message.enforcingConsecutiveGatewayFailure,
        0,
        'enforcing_consecutive_gateway_failure',
      ),
      enforcing_consecutive_local_origin_failure: percent(
        message.enforcingConsecutiveLocalOriginFailure,
        100,
        'enforcing_consecutive_local_origin_failure',
      ),
      enforcing_success_rate: percent(message.enforcingSuccessRate, 100, 'enforcing_success_rate'),
      enforcing_local_origin_success_rate: percent(
        message.enforcingLocalOriginSuccessRate,
        100,
        'enforcing_local_origin_success_rate',
      ),
      enforcing_failure_percentage: percent(message.enforcingFailurePercentage, 0, 'enforcing_failure_percentage'),
      enforcing_failure_percentage_local_origin: percent(
        message.enforcingFailurePercentageLocalOrigin,
        0,
        'enforcing_failure_percentage_local_origin',
      ),
    },
  };
}

function positive(ms: number, path: string): number {
  if (ms <= 0) throw new ConfigError(path, 'value must be greater than 0s');
  return ms;
}
