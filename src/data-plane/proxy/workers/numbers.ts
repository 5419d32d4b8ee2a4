// The numbers of all workers as if one had counted them. Called by the main thread when the admin interface shows any.
import type { Gathered, HostCounts } from '../admin/target.ts';
import type { ClusterView } from '../cluster/manager.ts';
import type { IstioStats } from '../stats/istio-stats.ts';
import { StatsStore } from '../stats/stats.ts';
import { addHistogram, histogramNumbers } from './histograms.ts';
import type { Numbers } from './protocol.ts';

/** Names whose number is the main thread's alone: every worker is configured the same. */
const MAIN_ONLY =
  /^(?:cluster_manager|listener_manager|server|runtime|control_plane|overload|sds|istio_stats)\.|\.circuit_breakers\.|\.(?:membership_\w+|update_\w+|version|config_reload\w*|max_host_weight)$/;
/** Gauges that count what a worker has; others say how things are, and of limits the main thread knows what all use. */
const ADDS_UP = /(?:_active|_buffered|\.active|\.active_connections|\.active_faults)$/;

export function numbersOf(stats: StatsStore, istio: IstioStats, clusters: readonly ClusterView[]): Numbers {
  stats.settle();
  return {
    counters: [...stats.counters.values()].filter(({ value }) => value !== 0).map(({ name, value }) => [name, value]),
    gauges: [...stats.gauges.values()].filter(({ used }) => used).map(({ name, value }) => [name, value]),
    histograms: [...stats.histograms.values()].filter(({ count }) => count > 0).map(histogramNumbers),
    istio: istio.numbers(),
    hosts: clusters.flatMap((view) =>
      (view.active?.hosts ?? []).flatMap((host) =>
        host.cxTotal === 0 && host.rqTotal === 0 && host.cxConnectFail === 0
          ? []
          : [
              [
                view.name,
                host.key,
                {
                  cxActive: host.cxActive,
                  cxConnectFail: host.cxConnectFail,
                  cxTotal: host.cxTotal,
                  active: host.active,
                  pending: host.pending,
                  rqError: host.rqError,
                  rqSuccess: host.rqSuccess,
                  rqTimeout: host.rqTimeout,
                  rqTotal: host.rqTotal,
                },
              ] as const,
            ],
      ),
    ),
  };
}

/** A copy of the main thread's numbers with those of all workers added. */
export function addUp(main: StatsStore, istio: IstioStats, workers: readonly Numbers[]): Gathered {
  const stats = new StatsStore();
  stats.shown = main.shown;
  stats.bounds = main.bounds;
  for (const { name, value } of main.counters.values()) stats.counter(name).value = value;
  for (const { name, value, used } of main.gauges.values()) {
    const gauge = stats.gauge(name);
    if (used) gauge.value = value;
  }
  for (const [name, text] of main.texts) stats.texts.set(name, text);
  for (const [prefix, names] of main.unmade) stats.unmade.set(prefix, names);
  for (const histogram of main.histograms.values())
    addHistogram(stats.histogram(histogram.name), histogramNumbers(histogram));
  const hosts = new Map<string, HostCounts>();
  for (const numbers of workers) {
    for (const [name, value] of numbers.counters) if (!MAIN_ONLY.test(name)) stats.counter(name).value += value;
    for (const [name, value] of numbers.gauges) {
      if (!MAIN_ONLY.test(name) && ADDS_UP.test(name)) stats.gauge(name).value += value;
    }
    for (const histogram of numbers.histograms) addHistogram(stats.histogram(histogram.name), histogram);
    for (const [cluster, host, counts] of numbers.hosts) {
      const key = `${cluster}\0${host}`;
      hosts.set(key, addCounts(hosts.get(key), counts));
    }
  }
  const istioSum = istio.sum(workers.map((numbers) => numbers.istio));
  return { stats, istioStats: istioSum, hosts: (cluster, host) => hosts.get(`${cluster}\0${host}`) };
}

function addCounts(a: HostCounts | undefined, b: HostCounts): HostCounts {
  if (!a) return b;
  return {
    cxActive: a.cxActive + b.cxActive,
    cxConnectFail: a.cxConnectFail + b.cxConnectFail,
    cxTotal: a.cxTotal + b.cxTotal,
    active: a.active + b.active,
    pending: a.pending + b.pending,
    rqError: a.rqError + b.rqError,
    rqSuccess: a.rqSuccess + b.rqSuccess,
    rqTimeout: a.rqTimeout + b.rqTimeout,
    rqTotal: a.rqTotal + b.rqTotal,
  };
}
