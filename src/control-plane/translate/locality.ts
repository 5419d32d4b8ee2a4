// Which endpoints a client prefers by where they are (traffic.md §5.1). Called by endpoints.ts. Pure.
import type { LocalityLb } from '../../api/istio/traffic-policy.ts';
import type { Endpoint, Locality } from '../model/services.ts';

interface Ranked {
  readonly locality: LocalityLb;
  readonly endpoints: readonly Endpoint[];
}

/** Priorities without gaps, 0 the best; all the same when shares are given. */
export function ranking(
  view: Ranked,
  client: { readonly locality: Locality; readonly labels: Readonly<Record<string, string>> },
): (endpoint: Endpoint) => number {
  const { distribute, failover, failoverPriority } = view.locality;
  if (distribute.length > 0) return () => 0;
  const far = (endpoint: Endpoint): number =>
    failoverPriority.length > 0
      ? byLabels(failoverPriority, endpoint, client.labels)
      : byPlace(endpoint.locality, client.locality, failover);
  const used = [...new Set(view.endpoints.map(far))].sort((a, b) => a - b);
  return (endpoint) => used.indexOf(far(endpoint));
}

/** 0 same sub-zone, 1 same zone, 2 same region, 3 the region named for failover, 4 the rest. */
function byPlace(there: Locality, here: Locality, failover: LocalityLb['failover']): number {
  if (there.region !== here.region)
    return failover.some((f) => f.from === here.region && f.to === there.region) || failover.length === 0 ? 3 : 4;
  if (there.zone !== here.zone) return 2;
  return there.subZone === here.subZone ? 0 : 1;
}

/** How many of the labels, from the first on, are not shared. `label=value` wants that value of the endpoint. */
function byLabels(priority: readonly string[], endpoint: Endpoint, labels: Readonly<Record<string, string>>): number {
  const own = endpoint.workload?.labels ?? {};
  const shared = priority.findIndex((entry) => {
    const [label = '', value] = entry.split('=');
    const wanted = value ?? labels[label];
    return wanted === undefined || own[label] !== wanted;
  });
  return shared < 0 ? 0 : priority.length - shared;
}

/** Weights of the groups when the rule gives shares for the client's place; undefined = as many as there are endpoints. */
export function shares(
  locality: LocalityLb,
  here: Locality,
  groups: readonly { readonly locality: Locality; readonly weight: number }[],
): readonly number[] | undefined {
  const rule = locality.distribute.find((d) => covers(d.from, here));
  if (!rule) return undefined;
  const best = groups.map((group) => {
    const patterns = [...rule.to.keys()].filter((p) => covers(p, group.locality));
    return patterns.sort((a, b) => b.split('/').length - a.split('/').length || b.length - a.length)[0];
  });
  // Groups under one pattern share its percentage by their number of endpoints.
  const totals = new Map<string, number>();
  for (const [i, pattern] of best.entries())
    if (pattern !== undefined) totals.set(pattern, (totals.get(pattern) ?? 0) + (groups[i]?.weight ?? 0));
  return groups.map((group, i) => {
    const pattern = best[i];
    if (pattern === undefined) return 0;
    const total = totals.get(pattern) || 1;
    return Math.max(1, Math.round(((rule.to.get(pattern) ?? 0) * 100 * group.weight) / total));
  });
}

/** `region/zone/*`, `region`, `*`. */
function covers(pattern: string, place: Locality): boolean {
  const have = [place.region, place.zone, place.subZone];
  return pattern.split('/').every((part, i) => part === '*' || part === have[i]);
}
