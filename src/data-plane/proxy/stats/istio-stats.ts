// Istio's standard metrics (istio_requests_total and the rest): series by label set, rendered in Prometheus' form.
// Filled by the istio.stats filters; asked by the admin interface.
import { MAX_METRIC_SERIES } from '../limits.ts';
import { addHistogram, histogramNumbers } from '../workers/histograms.ts';
import type { IstioNumbers } from '../workers/protocol.ts';
import { escapeLabel, type Family, type FamilyType, familyText, type Sample } from './families.ts';
import { Counter, Histogram, StatsStore } from './stats.ts';

/** Label values in the order of `HTTP_LABELS` or `TCP_LABELS`. */
export type LabelValues = readonly string[];

const COMMON = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'destination_workload',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_service',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_service_name',
  'destination_service_namespace',
  'destination_cluster',
  'request_protocol',
] as const;
export const HTTP_LABELS: readonly string[] = [
  ...COMMON,
  'response_code',
  'grpc_response_status',
  'response_flags',
  'connection_security_policy',
];
export const TCP_LABELS: readonly string[] = [...COMMON, 'response_flags', 'connection_security_policy'];

export interface HttpSeries {
  readonly labels: string;
  readonly requests: Counter;
  readonly duration: Histogram;
  readonly requestBytes: Histogram;
  readonly responseBytes: Histogram;
}

export interface TcpSeries {
  readonly labels: string;
  readonly opened: Counter;
  readonly closed: Counter;
  readonly sent: Counter;
  readonly received: Counter;
}

export class IstioStats {
  readonly #http = new Map<string, HttpSeries>();
  readonly #tcp = new Map<string, TcpSeries>();
  readonly #dropped: Counter;
  readonly #tag: string | undefined;

  /** `version` is the tag of istio_build, which a proxy outside Istio does not show. */
  constructor(stats: StatsStore, version: string | undefined) {
    this.#dropped = stats.counter('istio_stats.dropped_series');
    this.#tag = version;
  }

  http(values: LabelValues): HttpSeries | undefined {
    const key = values.join('\0');
    const known = this.#http.get(key);
    if (known) return known;
    if (this.#http.size >= MAX_METRIC_SERIES) {
      this.#dropped.value += 1;
      return undefined;
    }
    const made: HttpSeries = {
      labels: labelText(HTTP_LABELS, values),
      requests: new Counter('istio_requests_total'),
      duration: new Histogram('istio_request_duration_milliseconds'),
      requestBytes: new Histogram('istio_request_bytes'),
      responseBytes: new Histogram('istio_response_bytes'),
    };
    this.#http.set(key, made);
    return made;
  }

  tcp(values: LabelValues): TcpSeries | undefined {
    const key = values.join('\0');
    const known = this.#tcp.get(key);
    if (known) return known;
    if (this.#tcp.size >= MAX_METRIC_SERIES) {
      this.#dropped.value += 1;
      return undefined;
    }
    const made: TcpSeries = {
      labels: labelText(TCP_LABELS, values),
      opened: new Counter('istio_tcp_connections_opened_total'),
      closed: new Counter('istio_tcp_connections_closed_total'),
      sent: new Counter('istio_tcp_sent_bytes_total'),
      received: new Counter('istio_tcp_received_bytes_total'),
    };
    this.#tcp.set(key, made);
    return made;
  }

  /** Everything counted, by the joined label values. */
  numbers(): IstioNumbers {
    return {
      http: [...this.#http].map(([key, { requests, duration, requestBytes, responseBytes }]) => [
        key,
        requests.value,
        [duration, requestBytes, responseBytes].map(histogramNumbers),
      ]),
      tcp: [...this.#tcp].map(([key, { opened, closed, sent, received }]) => [
        key,
        [opened.value, closed.value, sent.value, received.value],
      ]),
    };
  }

  /** These series with those of other threads added. */
  sum(others: readonly IstioNumbers[]): IstioStats {
    const all = new IstioStats(new StatsStore(), this.#tag);
    for (const numbers of [this.numbers(), ...others]) {
      for (const [key, requests, histograms] of numbers.http) {
        const series = all.http(key.split('\0'));
        if (!series) continue;
        series.requests.value += requests;
        for (const [i, into] of [series.duration, series.requestBytes, series.responseBytes].entries())
          addHistogram(into, histograms[i]!);
      }
      for (const [key, counts] of numbers.tcp) {
        const series = all.tcp(key.split('\0'));
        if (!series) continue;
        for (const [i, into] of [series.opened, series.closed, series.sent, series.received].entries())
          into.value += counts[i]!;
      }
    }
    return all;
  }

  families(): Family[] {
    const http = [...this.#http.values()];
    const tcp = [...this.#tcp.values()];
    const out: Family[] =
      this.#tag === undefined
        ? []
        : [
            family('istio_build', 'gauge', [
              { labels: labelText(['component', 'tag'], ['proxy', this.#tag]), value: 1 },
            ]),
          ];
    out.push(
      counters('istio_requests_total', http, (series) => series.requests),
      histograms('istio_request_duration_milliseconds', http, (series) => series.duration),
      histograms('istio_request_bytes', http, (series) => series.requestBytes),
      histograms('istio_response_bytes', http, (series) => series.responseBytes),
      counters('istio_tcp_connections_opened_total', tcp, (series) => series.opened),
      counters('istio_tcp_connections_closed_total', tcp, (series) => series.closed),
      counters('istio_tcp_sent_bytes_total', tcp, (series) => series.sent),
      counters('istio_tcp_received_bytes_total', tcp, (series) => series.received),
    );
    return out.filter(({ samples }) => samples.length > 0);
  }

  /** As Prometheus' text. */
  render(): string {
    return this.families().map(familyText).join('');
  }
}

/** `a="b",c="d"`; an empty value means the label is absent. */
export function labelText(names: readonly string[], values: readonly string[]): string {
  const parts: string[] = [];
  for (const [i, name] of names.entries()) {
    const value = values[i];
    if (value) parts.push(`${name}="${escapeLabel(value)}"`);
  }
  return parts.join(',');
}

function family(name: string, type: FamilyType, samples: readonly Sample[]): Family {
  return { name, type, samples };
}

function counters<S extends { readonly labels: string }>(
  name: string,
  all: readonly S[],
  read: (series: S) => Counter,
): Family {
  return family(
    name,
    'counter',
    all.map((series) => ({ labels: series.labels, value: read(series).value })),
  );
}

function histograms<S extends { readonly labels: string }>(
  name: string,
  all: readonly S[],
  read: (series: S) => Histogram,
): Family {
  return family(
    name,
    'histogram',
    all.map((series) => ({ labels: series.labels, histogram: read(series) })),
  );
}
