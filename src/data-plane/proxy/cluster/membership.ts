// The hosts of a cluster through time: takes what discovery says, keeps hosts that stay, sorts them into host sets and
// tells who must know. Owned by a cluster.
import type { Clock } from '../../../base/runtime/clock.ts';
import { addressText } from '../config/address.ts';
import type { Counter, Gauge } from '../stats/stats.ts';
import { type Assignment, type AssignmentPolicy, NO_POLICY } from './endpoints.ts';
import { HEALTH, Host, type HostSpec } from './host.ts';
import { type HostSet, hostSets } from './host-set.ts';

export interface MembershipOptions {
  /** Active health checks decide: new hosts begin unhealthy, removed ones stay while they are healthy. */
  readonly checked: boolean;
  /** One host stands for a name, whatever its address is now (LOGICAL_DNS). */
  readonly single: boolean;
  /** New hosts count neither way until their first check (ignore_new_hosts_until_first_hc). */
  readonly warmHosts: boolean;
  /** Removed hosts go at once, healthy or not (ignore_health_on_host_removal). */
  readonly removeAtOnce: boolean;
  /** Changes of health, weight and metadata within this time are joined, ms. */
  readonly mergeMs: number;
  readonly clock: Clock;
  readonly counters: MembershipCounters;
  /** Host sets are new: balancers. */
  onSets(sets: readonly HostSet[]): void;
  /** Called before `onSets`: pools, health checks, outlier detection. */
  onMembers(added: readonly Host[], removed: readonly Host[]): void;
}

export interface MembershipCounters {
  readonly membershipTotal: Gauge;
  readonly membershipHealthy: Gauge;
  readonly membershipDegraded: Gauge;
  readonly membershipExcluded: Gauge;
  readonly membershipChange: Counter;
  readonly updated: Counter;
  readonly updatedViaMerge: Counter;
  readonly mergeCancelled: Counter;
  readonly outOfMergeWindow: Counter;
}

export class Membership {
  hosts: readonly Host[] = [];
  sets: readonly HostSet[] = hostSets([], NO_POLICY);
  policy: AssignmentPolicy = NO_POLICY;
  /** The cluster serves: updates count from now on, as in Envoy. */
  counting = false;
  readonly #options: MembershipOptions;
  #byKey = new Map<string, Host>();
  #lastUpdate = Number.NEGATIVE_INFINITY;
  #pending: (() => void) | undefined;

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  find(key: string): Host | undefined {
    return this.#byKey.get(key);
  }

  /** Discovery's whole truth. An address that is listed twice counts once. */
  assign(assignment: Assignment): void {
    const before = this.#byKey;
    const after = new Map<string, Host>();
    const added: Host[] = [];
    for (const spec of assignment.specs) {
      const key = this.#options.single ? '' : addressText(spec.address);
      if (after.has(key)) continue;
      const known = before.get(key);
      if (known && (known.spec === spec || sameEndpoint(known.spec, spec))) {
        if (known.spec !== spec) known.spec = spec;
        known.set(HEALTH.pendingRemoval, false);
        after.set(key, known);
        continue;
      }
      const host = this.#create(spec);
      after.set(key, host);
      added.push(host);
    }
    const removed: Host[] = [];
    for (const [key, host] of before) {
      if (after.get(key) === host) continue;
      if (!after.has(key) && this.#stays(host)) {
        host.set(HEALTH.pendingRemoval, true);
        after.set(key, host);
      } else removed.push(host);
    }
    this.policy = assignment.policy;
    this.#byKey = after;
    this.hosts = [...after.values()];
    this.#changed(added, removed);
  }

  /** Health of some host has changed. */
  refresh(): void {
    // A host that was only kept because it was healthy goes when it is not.
    const gone = this.hosts.filter((host) => host.has(HEALTH.pendingRemoval) && host.has(HEALTH.failedActiveHc));
    if (gone.length > 0) {
      for (const [key, host] of this.#byKey) if (gone.includes(host)) this.#byKey.delete(key);
      this.hosts = [...this.#byKey.values()];
    }
    this.#changed([], gone);
  }

  /** The first checks are over: what they found does not wait to be joined with more. */
  publishPending(): void {
    if (!this.#pending) return;
    this.stop();
    this.#publish();
  }

  stop(): void {
    this.#pending?.();
    this.#pending = undefined;
  }

  #create(spec: HostSpec): Host {
    const { checked, warmHosts, clock } = this.#options;
    const host = new Host(spec);
    if (checked && !spec.healthCheck?.disabled)
      host.flags |= HEALTH.failedActiveHc | (warmHosts ? HEALTH.pendingActiveHc : 0);
    else host.healthySince = clock.now();
    return host;
  }

  #stays(host: Host): boolean {
    const { checked, removeAtOnce } = this.#options;
    return checked && !removeAtOnce && !host.has(HEALTH.failedActiveHc | HEALTH.failedEds);
  }

  #changed(added: readonly Host[], removed: readonly Host[]): void {
    const { counters, clock, mergeMs } = this.#options;
    this.#gauges();
    if (added.length > 0 || removed.length > 0) {
      counters.membershipChange.value += 1;
      this.#options.onMembers(added, removed);
    } else if (mergeMs > 0 && clock.now() - this.#lastUpdate <= mergeMs) {
      this.#pending ??= clock.after(mergeMs, () => {
        this.#pending = undefined;
        counters.updatedViaMerge.value += 1;
        this.#publish();
      });
      return;
    }
    if (mergeMs > 0 && this.#lastUpdate > 0 && clock.now() - this.#lastUpdate > mergeMs)
      counters.outOfMergeWindow.value += 1;
    if (this.#pending) {
      this.#pending();
      this.#pending = undefined;
      counters.mergeCancelled.value += 1;
    }
    if (this.counting) counters.updated.value += 1;
    this.#publish();
  }

  #publish(): void {
    this.#lastUpdate = this.#options.clock.now();
    this.sets = hostSets(this.hosts, this.policy);
    this.#options.onSets(this.sets);
  }

  #gauges(): void {
    const { counters } = this.#options;
    let healthy = 0;
    let degraded = 0;
    let excluded = 0;
    for (const host of this.hosts) {
      if (host.healthy) healthy += 1;
      else if (host.degraded) degraded += 1;
      if (host.excluded) excluded += 1;
    }
    counters.membershipTotal.value = this.hosts.length;
    counters.membershipHealthy.value = healthy;
    counters.membershipDegraded.value = degraded;
    counters.membershipExcluded.value = excluded;
  }
}

/** Another locality or another way to check makes another host, as in Envoy. */
function sameEndpoint(a: HostSpec, b: HostSpec): boolean {
  return (
    (a.locality === b.locality ||
      (a.locality.region === b.locality.region &&
        a.locality.zone === b.locality.zone &&
        a.locality.subZone === b.locality.subZone)) &&
    checkText(a) === checkText(b)
  );
}

function checkText({ healthCheck }: HostSpec): string {
  if (!healthCheck) return '';
  const { address, port, hostname, disabled } = healthCheck;
  return `${addressText(address)} ${port} ${hostname} ${disabled}`;
}
