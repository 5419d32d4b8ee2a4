// A small Prometheus registry for control-plane, agent and localkube processes.
// The proxy counts in its own arrays and does not use this.

export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  inc(labels?: Labels, by?: number): void;
}
export interface Gauge {
  set(value: number, labels?: Labels): void;
}
export interface Histogram {
  observe(value: number, labels?: Labels): void;
}

export interface MetricsRegistry {
  counter(name: string, help: string): Counter;
  gauge(name: string, help: string): Gauge;
  /** A gauge whose value is asked for when the page is rendered. */
  gaugeFn(name: string, help: string, read: () => number): void;
  histogram(name: string, help: string, upperBounds: readonly number[]): Histogram;
  /** Prometheus text format 0.0.4. */
  render(): string;
}

interface Family {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly lines: () => Iterable<string>;
}

/** A family never holds more series than this; further label sets are counted in `meltemi_metrics_dropped_total`. */
const MAX_SERIES_PER_FAMILY = 10_000;

export function createMetrics(): MetricsRegistry {
  const families = new Map<string, Family>();
  let dropped = 0;
  const admit = (series: Map<string, unknown>, key: string): boolean => {
    if (series.has(key) || series.size < MAX_SERIES_PER_FAMILY) return true;
    dropped += 1;
    return false;
  };
  const add = (name: string, family: Family): void => {
    if (families.has(name)) throw new Error(`metric ${name} is registered twice`);
    families.set(name, family);
  };
  const values = (name: string, type: 'counter' | 'gauge', help: string) => {
    const series = new Map<string, number>();
    add(name, {
      type,
      help,
      *lines() {
        for (const [key, value] of series) yield `${name}${key} ${value}`;
      },
    });
    return series;
  };
  return {
    counter(name, help) {
      const series = values(name, 'counter', help);
      return {
        inc(labels, by = 1) {
          const key = renderLabels(labels);
          if (admit(series, key)) series.set(key, (series.get(key) ?? 0) + by);
        },
      };
    },
    gauge(name, help) {
      const series = values(name, 'gauge', help);
      return {
        set(value, labels) {
          const key = renderLabels(labels);
          if (admit(series, key)) series.set(key, value);
        },
      };
    },
    gaugeFn(name, help, read) {
      add(name, {
        type: 'gauge',
        help,
        *lines() {
          yield `${name} ${read()}`;
        },
      });
    },
    histogram(name, help, upperBounds) {
      const series = new Map<string, { labels: Labels; counts: number[]; sum: number; count: number }>();
      add(name, {
        type: 'histogram',
        help,
        *lines() {
          for (const [key, s] of series) {
            for (const [i, bound] of upperBounds.entries())
              yield `${name}_bucket${renderLabels({ ...s.labels, le: String(bound) })} ${s.counts[i]}`;
            yield `${name}_bucket${renderLabels({ ...s.labels, le: '+Inf' })} ${s.count}`;
            yield `${name}_sum${key} ${s.sum}`;
            yield `${name}_count${key} ${s.count}`;
          }
        },
      });
      return {
        observe(value, labels = {}) {
          const key = renderLabels(labels);
          if (!admit(series, key)) return;
          let s = series.get(key);
          if (!s) {
            s = { labels, counts: upperBounds.map(() => 0), sum: 0, count: 0 };
            series.set(key, s);
          }
          for (const [i, bound] of upperBounds.entries()) if (value <= bound) s.counts[i]! += 1;
          s.sum += value;
          s.count += 1;
        },
      };
    },
    render() {
      let out = '';
      for (const [name, family] of families) {
        out += `# HELP ${name} ${family.help}\n# TYPE ${name} ${family.type}\n`;
        for (const line of family.lines()) out += `${line}\n`;
      }
      if (dropped > 0)
        out += `# TYPE meltemi_metrics_dropped_total counter\nmeltemi_metrics_dropped_total ${dropped}\n`;
      return out;
    },
  };
}

function renderLabels(labels: Labels | undefined): string {
  if (!labels) return '';
  const parts = Object.entries(labels).map(
    ([k, v]) => `${k}="${v.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}
