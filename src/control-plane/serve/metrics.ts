// The control plane's own metrics (xds.md §4.5).
import type { Counter, Gauge, Histogram, MetricsRegistry } from '../../base/runtime/metrics.ts';

const SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 3, 5, 10, 20, 30];
const BYTES = [1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000];

export interface ServeMetrics {
  readonly connected: Gauge;
  readonly pushes: Counter;
  readonly pushTime: Histogram;
  readonly convergence: Histogram;
  readonly queueTime: Histogram;
  readonly sendTime: Histogram;
  readonly rejects: Counter;
  readonly expiredNonce: Counter;
  readonly internalErrors: Counter;
  readonly configSize: Histogram;
  readonly debounce: Histogram;
  readonly contextInit: Histogram;
  readonly services: Gauge;
  readonly virtualServices: Gauge;
  readonly noIp: Gauge;
  readonly noInstances: Gauge;
  readonly configEvents: Counter;
  readonly registryEvents: Counter;
  readonly inboundUpdates: Counter;
  readonly validationPassed: Counter;
  readonly validationFailed: Counter;
}

export function createServeMetrics(registry: MetricsRegistry, version: string): ServeMetrics {
  registry.gauge('pilot_info', 'Pilot version and build information.').set(1, { version });
  registry.gauge('istio_build', 'Istio component build info').set(1, { component: 'pilot', tag: version });
  const seconds = (name: string, help: string) => registry.histogram(name, help, SECONDS);
  return {
    connected: registry.gauge('pilot_xds', 'Number of endpoints connected to this pilot using XDS.'),
    pushes: registry.counter('pilot_xds_pushes', 'Pilot build and send errors for lds, rds, cds and eds.'),
    pushTime: seconds('pilot_xds_push_time', 'Total time in seconds Pilot takes to push lds, rds, cds and eds.'),
    convergence: seconds(
      'pilot_proxy_convergence_time',
      'Delay in seconds between config change and a proxy receiving all required configuration.',
    ),
    queueTime: seconds(
      'pilot_proxy_queue_time',
      'Time in seconds, a proxy is in the push queue before being dequeued.',
    ),
    sendTime: seconds('pilot_xds_send_time', 'Total time in seconds Pilot takes to send generated configuration.'),
    rejects: registry.counter('pilot_total_xds_rejects', 'Total number of XDS responses from pilot rejected by proxy.'),
    expiredNonce: registry.counter('pilot_xds_expired_nonce', 'Total number of XDS requests with an expired nonce.'),
    internalErrors: registry.counter(
      'pilot_total_xds_internal_errors',
      'Total number of internal XDS errors in pilot.',
    ),
    configSize: registry.histogram(
      'pilot_xds_config_size_bytes',
      'Distribution of configuration sizes pushed to clients.',
      BYTES,
    ),
    debounce: seconds(
      'pilot_debounce_time',
      'Delay in seconds between the first config enters debouncing and its end.',
    ),
    contextInit: seconds('pilot_pushcontext_init_seconds', 'Total time in seconds Pilot takes to init pushContext.'),
    services: registry.gauge('pilot_services', 'Total services known to pilot.'),
    virtualServices: registry.gauge('pilot_virt_services', 'Total virtual services known to pilot.'),
    noIp: registry.gauge('pilot_no_ip', 'Pods not found in the endpoint table, possibly invalid.'),
    noInstances: registry.gauge('pilot_eds_no_instances', 'Number of clusters without instances.'),
    configEvents: registry.counter('pilot_k8s_cfg_events', 'Events from k8s config.'),
    registryEvents: registry.counter('pilot_k8s_reg_events', 'Events from k8s registry.'),
    inboundUpdates: registry.counter('pilot_inbound_updates', 'Total number of updates received by pilot.'),
    validationPassed: registry.counter('galley_validation_passed', 'Resource is valid'),
    validationFailed: registry.counter('galley_validation_failed', 'Resource validation failed'),
  };
}
