// The health of a cluster's hosts in a worker: the main thread checks and ejects, this thread is told, and reports how its
// exchanges went. Made by host-health.ts.
import { HEALTH, type Host } from '../host.ts';
import { type HostHealth, type HostHealthParts, hostName, type OutcomeSink } from '../host-health.ts';
import type { Outcome } from '../lb-context.ts';

/** What the main thread says of one host. */
export interface ToldHost {
  /** Bits of HEALTH; those of discovery are this thread's own. */
  readonly flags: number;
  readonly healthySince: number;
}

/** What was told; workers/health-book.ts. */
export interface ToldHealth {
  find(cluster: string, host: string): ToldHost | undefined;
  /** Calls `told` for every host of the cluster that there is news of. */
  follow(cluster: string, told: (host: string, health: ToldHost) => void): () => void;
  report(cluster: string, host: string, outcome: Outcome): void;
  /** The cluster has a connection for traffic. */
  traffic(cluster: string): void;
}

/** Flags that checks and ejections set. */
const FOUND =
  HEALTH.failedActiveHc |
  HEALTH.degradedActiveHc |
  HEALTH.pendingActiveHc |
  HEALTH.excludedByImmediateFail |
  HEALTH.activeHcTimeout |
  HEALTH.failedOutlier;

export class RemoteHealth implements HostHealth, OutcomeSink {
  readonly rates: undefined;
  readonly outcomes: OutcomeSink | undefined;
  readonly #parts: HostHealthParts;
  readonly #told: ToldHealth;
  readonly #unfollow: () => void;
  /** Hosts nobody has spoken of. */
  readonly #unknown = new Set<Host>();
  #hasTraffic = false;

  constructor(parts: HostHealthParts, told: ToldHealth) {
    this.#parts = parts;
    this.#told = told;
    this.outcomes = parts.settings.outlier ? this : undefined;
    this.#unfollow = told.follow(parts.key, (name, health) => this.#onTold(name, health));
  }

  get warming(): boolean {
    return this.#unknown.size > 0;
  }

  onMembers(added: readonly Host[], removed: readonly Host[]): void {
    const { settings, key } = this.#parts;
    for (const host of removed) this.#unknown.delete(host);
    for (const host of added) {
      const health = this.#told.find(key, hostName(host, settings));
      if (health) take(host, health);
      else if (settings.health && !host.spec.healthCheck?.disabled) this.#unknown.add(host);
    }
  }

  onOutcome(host: Host, outcome: Outcome): void {
    this.#told.report(this.#parts.key, hostName(host, this.#parts.settings), outcome);
  }

  onTraffic(): void {
    if (this.#hasTraffic || !this.#parts.settings.health) return;
    this.#hasTraffic = true;
    this.#told.traffic(this.#parts.key);
  }

  stop(): void {
    this.#unfollow();
  }

  #onTold(name: string, health: ToldHost): void {
    const { find, changed, warm } = this.#parts;
    const host = find(name);
    if (!host) return;
    const wasWarming = this.warming;
    this.#unknown.delete(host);
    if (take(host, health)) changed(host);
    if (wasWarming && !this.warming) warm();
  }
}

/** True when it changes the host. */
function take(host: Host, { flags, healthySince }: ToldHost): boolean {
  const before = host.flags;
  host.flags = (before & ~FOUND) | (flags & FOUND);
  host.healthySince = healthySince;
  return host.flags !== before;
}
