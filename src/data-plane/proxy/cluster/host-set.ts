// The hosts of one priority, sorted by health and locality: what every load balancer chooses from. Rebuilt by the cluster
// when discovery, a health check or outlier detection changes something.
import type { EndpointGroup, Host } from './host.ts';

export interface LocalityHosts {
  readonly group: EndpointGroup;
  readonly hosts: readonly Host[];
  readonly healthy: readonly Host[];
  readonly degraded: readonly Host[];
  readonly excluded: number;
}

/** Factor on the weight of a locality; null in its place = weights of localities do not count. */
export type LocalityScale = (group: EndpointGroup) => number;

export class HostSet {
  readonly priority: number;
  readonly hosts: readonly Host[];
  readonly healthy: readonly Host[];
  readonly degraded: readonly Host[];
  readonly excluded: number;
  /** Percent; 140 = a priority with 72 % healthy hosts still takes everything. */
  readonly overprovisioning: number;
  /** Health of the priority is counted in weights instead of hosts. */
  readonly weightedHealth: boolean;
  #localities: readonly LocalityHosts[] | undefined;
  readonly #scale: LocalityScale | null | undefined;

  constructor(
    priority: number,
    hosts: readonly Host[],
    policy: { readonly overprovisioning: number; readonly weightedHealth: boolean },
    scale?: LocalityScale | null,
  ) {
    this.priority = priority;
    this.hosts = hosts;
    this.overprovisioning = policy.overprovisioning;
    this.weightedHealth = policy.weightedHealth;
    this.#scale = scale;
    // Most of the time every host is healthy: one list serves for both then.
    let allHealthy = true;
    let excluded = 0;
    for (const host of hosts) {
      if (!host.healthy) allHealthy = false;
      if (host.excluded) excluded += 1;
    }
    this.excluded = excluded;
    this.healthy = allHealthy ? hosts : hosts.filter((host) => host.healthy);
    this.degraded = allHealthy ? NONE : hosts.filter((host) => host.degraded);
  }

  /** Groups of one region, zone and sub-zone, in the order of the assignment. */
  get localities(): readonly LocalityHosts[] {
    this.#localities ??= byLocality(this.hosts);
    return this.#localities;
  }

  /** Weight of a locality; a subset scales it by the share of hosts it has. */
  localityWeight(locality: LocalityHosts): number {
    const { group } = locality;
    return group.weight * (this.#scale?.(group) ?? 1);
  }

  get hasLocalityWeights(): boolean {
    return this.#scale !== null && this.hosts.some((host) => host.spec.group.weight > 0);
  }
}

const NONE: readonly Host[] = [];
export const DEFAULT_POLICY = { overprovisioning: 140, weightedHealth: false } as const;

function byLocality(hosts: readonly Host[]): LocalityHosts[] {
  const groups = new Map<string, { group: EndpointGroup; hosts: Host[] }>();
  for (const host of hosts) {
    const { region, zone, subZone } = host.spec.locality;
    const key = `${region}/${zone}/${subZone}`;
    let entry = groups.get(key);
    if (!entry) {
      entry = { group: host.spec.group, hosts: [] };
      groups.set(key, entry);
    }
    entry.hosts.push(host);
  }
  return [...groups.values()].map(({ group, hosts: all }) => ({
    group,
    hosts: all,
    healthy: all.filter((host) => host.healthy),
    degraded: all.filter((host) => host.degraded),
    excluded: all.reduce((sum, host) => sum + (host.excluded ? 1 : 0), 0),
  }));
}

/** Host sets of all priorities from 0 to the highest in use; at least one. */
export function hostSets(
  hosts: readonly Host[],
  policy: { readonly overprovisioning: number; readonly weightedHealth: boolean },
): HostSet[] {
  let highest = 0;
  for (const host of hosts) highest = Math.max(highest, host.spec.priority);
  if (highest === 0) return [new HostSet(0, hosts, policy)];
  const lists: Host[][] = Array.from({ length: highest + 1 }, () => []);
  for (const host of hosts) lists[host.spec.priority]!.push(host);
  return lists.map((list, priority) => new HostSet(priority, list, policy));
}
