// Histograms on their way between threads. Called where numbers are taken and added up.
import type { Histogram } from '../stats/stats.ts';
import type { HistogramNumbers } from './protocol.ts';

export function histogramNumbers(histogram: Histogram): HistogramNumbers {
  const { name, cells, interval, intervalSum, sum, count } = histogram;
  return { name, cells, interval, intervalSum, sum, count };
}

/** Adds what another thread counted. */
export function addHistogram(into: Histogram, from: HistogramNumbers): void {
  if (from.cells.length !== into.cells.length) return;
  for (let i = 0; i < into.cells.length; i++) into.cells[i]! += from.cells[i]!;
  into.sum += from.sum;
  into.count += from.count;
  into.intervalSum += from.intervalSum;
  if (!from.interval) return;
  into.interval ??= new Float64Array(into.cells.length);
  for (let i = 0; i < into.cells.length; i++) into.interval[i]! += from.interval[i]!;
}
