// How much of the load each priority takes, and which priorities are in panic. Pure arithmetic over host sets, with the
// integer roundings of Envoy. Used by all balancers.
import type { HostSet } from '../host-set.ts';

export interface PriorityLoad {
  /** Percent of all picks by priority, for healthy and for degraded hosts; together 100. */
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  /** All hosts of the priority are used, healthy or not. */
  readonly panic: readonly boolean[];
  /** Priority 0 takes everything with healthy hosts: nothing need be drawn. */
  readonly simple: boolean;
}

export function priorityLoad(sets: readonly HostSet[], panicThreshold: number): PriorityLoad {
  const health = sets.map((set) => availability(set, set.healthy));
  const degradedHealth = sets.map((set) => availability(set, set.degraded));
  const total = Math.min(100, sum(health) + sum(degradedHealth));
  const healthy = sets.map(() => 0);
  const degraded = sets.map(() => 0);
  const panic = sets.map(() => false);
  if (total > 0) distribute(health, degradedHealth, total, healthy, degraded);
  if (panicThreshold === 0 && total === 0) healthy[0] = 100;
  else {
    // Enough healthy hosts over all priorities: a bad one is not used at all rather than in panic.
    for (const [i, set] of sets.entries()) panic[i] = total < 100 && inPanic(set, panicThreshold);
    if (panic.every((one) => one)) totalPanic(sets, healthy, degraded);
  }
  return { healthy, degraded, panic, simple: healthy[0] === 100 && !panic[0] };
}

/** The same without some priorities; when nothing would be left, with all of them. */
export function loadWithout(load: PriorityLoad, sets: readonly HostSet[], avoid: ReadonlySet<number>): PriorityLoad {
  const health = sets.map((set, i) => (avoid.has(i) ? 0 : availability(set, set.healthy)));
  const degradedHealth = sets.map((set, i) => (avoid.has(i) ? 0 : availability(set, set.degraded)));
  const total = Math.min(100, sum(health) + sum(degradedHealth));
  if (total === 0) return load;
  const healthy = sets.map(() => 0);
  const degraded = sets.map(() => 0);
  distribute(health, degradedHealth, total, healthy, degraded);
  return { healthy, degraded, panic: load.panic, simple: false };
}

/** min(100, overprovisioning × available / all), by hosts or by weights. */
function availability(set: HostSet, available: HostSet['hosts']): number {
  if (set.weightedHealth) {
    const all = weights(set.hosts.filter((host) => !host.excluded));
    return all === 0 ? 0 : Math.min(100, Math.floor((set.overprovisioning * weights(available)) / all));
  }
  const all = set.hosts.length - set.excluded;
  return all === 0 ? 0 : Math.min(100, Math.floor((set.overprovisioning * available.length) / all));
}

function weights(hosts: HostSet['hosts']): number {
  return hosts.reduce((total, host) => total + host.weight, 0);
}

function distribute(
  health: readonly number[],
  degradedHealth: readonly number[],
  total: number,
  healthy: number[],
  degraded: number[],
): void {
  let left = spread(health, total, 100, healthy);
  left = spread(degradedHealth, total, left, degraded);
  // What rounding lost goes to the first priority that can take it.
  const first = health.findIndex((percent) => percent > 0);
  if (first >= 0) healthy[first]! += left;
  else degraded[degradedHealth.findIndex((percent) => percent > 0)]! += left;
}

function spread(from: readonly number[], total: number, load: number, to: number[]): number {
  let left = load;
  for (const [i, percent] of from.entries()) {
    const share = Math.min(left, Math.floor((percent * 100) / total));
    to[i] = share;
    left -= share;
  }
  return left;
}

function inPanic(set: HostSet, threshold: number): boolean {
  const all = set.hosts.length - set.excluded;
  const percent = all === 0 ? 0 : (100 * set.healthy.length) / all + (100 * set.degraded.length) / all;
  return percent < threshold;
}

/** Everything is bad: load by number of hosts. */
function totalPanic(sets: readonly HostSet[], healthy: number[], degraded: number[]): void {
  const all = sum(sets.map((set) => set.hosts.length));
  healthy.fill(0);
  degraded.fill(0);
  if (all === 0) {
    healthy[0] = 100;
    return;
  }
  let left = 100;
  for (const [i, set] of sets.entries()) {
    const share = Math.floor((100 * set.hosts.length) / all);
    healthy[i] = share;
    left -= share;
  }
  healthy[sets.findIndex((set) => set.hosts.length > 0)]! += left;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0);
}

/**
 * The priority that a draw from 1 to 100 falls on; `-1 - priority` when its degraded hosts are meant (no object for a pick).
 */
export function drawPriority(load: PriorityLoad, draw: number): number {
  let reached = 0;
  for (let i = 0; i < load.healthy.length; i++) {
    reached += load.healthy[i]!;
    if (draw <= reached) return i;
  }
  for (let i = 0; i < load.degraded.length; i++) {
    reached += load.degraded[i]!;
    if (draw <= reached) return -1 - i;
  }
  return 0;
}
