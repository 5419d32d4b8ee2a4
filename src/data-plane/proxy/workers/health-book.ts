// What a worker was told of the health of hosts, and the outcomes of its exchanges on their way to the main thread: counted
// together, in an order that keeps failures in a row, one message under way at a time unless it is full.
import type { Clock } from '../../../base/runtime/clock.ts';
import type { ToldHealth, ToldHost } from '../cluster/health/remote.ts';
import type { Outcome } from '../cluster/lb-context.ts';
import { MAX_OUTCOME_MESSAGES, MAX_OUTCOME_RUNS, OUTCOME_REPORT_MS } from '../limits.ts';
import type { OutcomeRun, Told, ToMain } from './protocol.ts';

type Follow = (host: string, health: ToldHost) => void;
type Run = [cluster: string, host: string, outcome: Outcome, count: number];

/** The last runs of a host that more of the same can join. */
interface Open {
  failure: Run | undefined;
  readonly successes: Map<Outcome, Run>;
}

export class HealthBook implements ToldHealth {
  readonly #clock: Clock;
  readonly #send: (message: ToMain) => void;
  readonly #known = new Map<string, Map<string, ToldHost>>();
  readonly #follows = new Map<string, Set<Follow>>();
  #runs: Run[] = [];
  #open = new Map<string, Open>();
  /** Messages that were not taken yet. */
  #sent = 0;
  /** A failure is among the runs, and the next message is for it. */
  #failed = false;
  #urgent = false;
  #cancel: (() => void) | undefined;

  constructor(clock: Clock, send: (message: ToMain) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  take(told: Extract<Told, { kind: 'health' | 'health-gone' }>): void {
    const { cluster } = told;
    if (told.kind === 'health-gone') {
      if (told.host === undefined) this.#known.delete(cluster);
      else this.#known.get(cluster)?.delete(told.host);
      return;
    }
    let hosts = this.#known.get(cluster);
    if (!hosts) {
      hosts = new Map();
      this.#known.set(cluster, hosts);
    }
    hosts.set(told.host, told);
    for (const follow of [...(this.#follows.get(cluster) ?? [])]) follow(told.host, told);
  }

  find(cluster: string, host: string): ToldHost | undefined {
    return this.#known.get(cluster)?.get(host);
  }

  follow(cluster: string, told: Follow): () => void {
    const list = this.#follows.get(cluster) ?? new Set();
    this.#follows.set(cluster, list);
    list.add(told);
    return () => {
      list.delete(told);
      if (list.size === 0 && this.#follows.get(cluster) === list) this.#follows.delete(cluster);
    };
  }

  traffic(cluster: string): void {
    this.#send({ kind: 'traffic', cluster });
  }

  report(cluster: string, host: string, given: Outcome): void {
    const outcome = typeof given === 'number' && (given < 500 || given > 599) ? 200 : given;
    if (this.#runs.length >= MAX_OUTCOME_RUNS && this.#sent < MAX_OUTCOME_MESSAGES) this.#flush();
    const key = `${cluster} ${host}`;
    let open = this.#open.get(key);
    if (!open) {
      open = { failure: undefined, successes: new Map() };
      this.#open.set(key, open);
    }
    const failed = outcome !== 200 && outcome !== 'success' && outcome !== 'connected';
    if (failed) {
      // Failures in a row count: the order among them and the successes stays.
      open.successes.clear();
      if (open.failure?.[2] === outcome) open.failure[3] += 1;
      else open.failure = this.#add(cluster, host, outcome);
    } else {
      open.failure = undefined;
      const run = open.successes.get(outcome);
      if (run) run[3] += 1;
      else {
        const made = this.#add(cluster, host, outcome);
        if (made) open.successes.set(outcome, made);
      }
    }
    if (failed) this.#failed = true;
    this.#schedule();
  }

  /** The main thread has taken what was sent. */
  taken(): void {
    this.#sent -= 1;
    if (this.#runs.length > 0) this.#schedule();
  }

  /** Undefined: the main thread is far behind, and this outcome is not reported. */
  #add(cluster: string, host: string, outcome: Outcome): Run | undefined {
    if (this.#runs.length >= MAX_OUTCOME_RUNS) return undefined;
    const run: Run = [cluster, host, outcome, 1];
    this.#runs.push(run);
    return run;
  }

  /** A failure is told when this turn is over, successes now and then. */
  #schedule(): void {
    if (this.#sent > 0 || (this.#cancel && (this.#urgent || !this.#failed))) return;
    this.#cancel?.();
    this.#urgent = this.#failed;
    this.#cancel = this.#clock.after(this.#urgent ? 0 : OUTCOME_REPORT_MS, () => this.#flush());
  }

  #flush(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const runs: readonly OutcomeRun[] = this.#runs;
    this.#runs = [];
    this.#open = new Map();
    this.#failed = false;
    this.#sent += 1;
    this.#send({ kind: 'outcomes', runs });
  }
}
