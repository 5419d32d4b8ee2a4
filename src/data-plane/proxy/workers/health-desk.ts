// The main thread's knowledge of the health of hosts, for all workers: what they have to know, and what they report.
import type { HealthTeller } from '../cluster/host-health.ts';
import type { Outcome } from '../cluster/lb-context.ts';
import type { OutcomeRun, Told } from './protocol.ts';

type Known = Extract<Told, { kind: 'health' }>;

export class HealthDesk implements HealthTeller {
  readonly #tell: (told: Told) => void;
  readonly #known = new Map<string, Map<string, Known>>();
  readonly #traffic = new Set<string>();
  readonly #takers = new Map<string, (host: string, outcome: Outcome, count: number) => void>();

  constructor(tell: (told: Told) => void) {
    this.#tell = tell;
  }

  tell(cluster: string, host: string, flags: number, healthySince: number): void {
    let hosts = this.#known.get(cluster);
    if (!hosts) {
      hosts = new Map();
      this.#known.set(cluster, hosts);
    }
    if (hosts.get(host)?.flags === flags) return;
    const told: Known = { kind: 'health', cluster, host, flags, healthySince };
    hosts.set(host, told);
    this.#tell(told);
  }

  forget(cluster: string, host: string | undefined): void {
    const hosts = this.#known.get(cluster);
    if (host === undefined) {
      this.#known.delete(cluster);
      this.#traffic.delete(cluster);
    } else if (!hosts?.delete(host)) return;
    if (hosts) this.#tell({ kind: 'health-gone', cluster, host });
  }

  hasTraffic(cluster: string): boolean {
    return this.#traffic.has(cluster);
  }

  outcomes(cluster: string, take: (host: string, outcome: Outcome, count: number) => void): () => void {
    this.#takers.set(cluster, take);
    return () => {
      if (this.#takers.get(cluster) === take) this.#takers.delete(cluster);
    };
  }

  /** For a worker that starts now. */
  known(): Told[] {
    return [...this.#known.values()].flatMap((hosts) => [...hosts.values()]);
  }

  /** A worker has made a connection for traffic. */
  onTraffic(cluster: string): void {
    this.#traffic.add(cluster);
  }

  onOutcomes(runs: readonly OutcomeRun[]): void {
    for (const [cluster, host, outcome, count] of runs) this.#takers.get(cluster)?.(host, outcome, count);
  }
}
