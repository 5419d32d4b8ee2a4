// Histograms in the words of /stats: quantiles and buckets, of their whole life and of the last interval.
import type { Buckets } from './query.ts';
import type { Histogram } from './stats.ts';

export const QUANTILES: readonly number[] = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100];

/** Envoy's %g: six digits, an exponent from a million on. */
export function shortNumber(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (value === 0) return '0';
  const exponent = Math.floor(Math.log10(Math.abs(value)));
  if (exponent >= -5 && exponent < 6) return String(Number(value.toPrecision(6)));
  const [mantissa = '', power = ''] = value.toExponential(5).split('e');
  return `${Number(mantissa)}e${power.startsWith('-') ? '-' : '+'}${power.replace(/^[-+]/, '').padStart(2, '0')}`;
}

function total(cells: Float64Array | undefined): number {
  let sum = 0;
  for (const cell of cells ?? []) sum += cell;
  return sum;
}

/** Taken inside its bucket by the share of what lies before; NaN when there is nothing. */
export function quantile(bounds: readonly number[], cells: Float64Array | undefined, percent: number): number {
  const all = total(cells);
  if (!cells || all === 0) return Number.NaN;
  let left = (percent / 100) * all;
  for (let i = 0; i < cells.length; i++) {
    const here = cells[i]!;
    if (here > 0 && left <= here) {
      const low = i === 0 ? 0 : bounds[i - 1]!;
      const high = bounds[i] ?? low;
      return low + (high - low) * (left / here);
    }
    left -= here;
  }
  return bounds.at(-1) ?? Number.NaN;
}

export function summaryText(histogram: Histogram): string {
  return QUANTILES.map((percent) => {
    const interval = shortNumber(quantile(histogram.bounds, histogram.interval, percent));
    return `P${percent}(${interval},${shortNumber(quantile(histogram.bounds, histogram.cells, percent))})`;
  }).join(' ');
}

interface Bucket {
  readonly bound: number;
  readonly low: number;
  readonly interval: number;
  readonly cumulative: number;
}

function bucketsOf(histogram: Histogram, add: boolean): Bucket[] {
  let interval = 0;
  let cumulative = 0;
  return histogram.bounds.map((bound, i) => {
    interval = (add ? interval : 0) + (histogram.interval?.[i] ?? 0);
    cumulative = (add ? cumulative : 0) + histogram.cells[i]!;
    return { bound, low: i === 0 ? 0 : histogram.bounds[i - 1]!, interval, cumulative };
  });
}

export function histogramText(histogram: Histogram, buckets: Buckets): string {
  const { name } = histogram;
  if (histogram.count === 0) return `${name}: No recorded values\n`;
  switch (buckets) {
    case 'cumulative':
    case 'disjoint':
      return `${name}: ${bucketsOf(histogram, buckets === 'cumulative')
        .map(({ bound, interval, cumulative }) => `B${shortNumber(bound)}(${interval},${cumulative})`)
        .join(' ')}\n`;
    case 'detailed': {
      const parts = (cells: Float64Array | undefined): string =>
        used(histogram, cells)
          .map(({ low, width, count }) => `${shortNumber(low)},${shortNumber(width)}:${count}`)
          .join(' ');
      return `${name}:\n  totals=${parts(histogram.cells)}\n  intervals=${parts(histogram.interval)}\n  summary=${summaryText(histogram)}\n`;
    }
    default:
      return `${name}: ${summaryText(histogram)}\n`;
  }
}

function used(
  histogram: Histogram,
  cells: Float64Array | undefined,
): { readonly low: number; readonly width: number; readonly count: number }[] {
  return [...(cells ?? [])].flatMap((count, i) => {
    const low = i === 0 ? 0 : histogram.bounds[i - 1]!;
    return count === 0 ? [] : [{ low, width: (histogram.bounds[i] ?? low) - low, count }];
  });
}

const orNull = (value: number): number | null => (Number.isNaN(value) ? null : value);

/** The last element of /stats?format=json. */
export function histogramsJson(histograms: readonly Histogram[], buckets: Buckets): object {
  const percentiles = (histogram: Histogram): object[] =>
    QUANTILES.map((percent) => ({
      cumulative: orNull(quantile(histogram.bounds, histogram.cells, percent)),
      interval: orNull(quantile(histogram.bounds, histogram.interval, percent)),
    }));
  switch (buckets) {
    case 'cumulative':
    case 'disjoint':
      return {
        histograms: histograms.map((histogram) => ({
          name: histogram.name,
          buckets: bucketsOf(histogram, buckets === 'cumulative').map(({ bound, interval, cumulative }) => ({
            upper_bound: bound,
            interval,
            cumulative,
          })),
        })),
      };
    case 'detailed': {
      const parts = (histogram: Histogram, cells: Float64Array | undefined): object[] =>
        used(histogram, cells).map(({ low, width, count }) => ({ lower_bound: low, width, count }));
      return {
        histograms: {
          supported_percentiles: QUANTILES,
          details: histograms.map((histogram) => ({
            name: histogram.name,
            totals: parts(histogram, histogram.cells),
            intervals: parts(histogram, histogram.interval),
            percentiles: percentiles(histogram),
          })),
        },
      };
    }
    default:
      return {
        histograms: {
          supported_quantiles: QUANTILES,
          computed_quantiles: histograms.map((histogram) => ({
            name: histogram.name,
            values: percentiles(histogram),
          })),
        },
      };
  }
}
