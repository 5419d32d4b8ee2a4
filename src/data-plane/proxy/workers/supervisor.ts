// The main thread's side of the workers: starts them, tells them what was discovered and commanded, answers their questions,
// adds up their numbers, and starts one anew that died of a bug. Made by wiring.ts when --concurrency is above 1.
import type { Clock } from '../../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../../base/runtime/log.ts';
import type { AnswerTo, ThreadAnswer, ThreadQuestion } from '../admin/target.ts';
import type { DnsAnswer, Resolve } from '../cluster/dns.ts';
import type { ResolverSettings } from '../cluster/dns-config.ts';
import type { SocketAddr } from '../config/address.ts';
import {
  MAX_DNS_ANSWERS,
  WORKER_NUMBERS_MS,
  WORKER_RESTART_BASE_MS,
  WORKER_RESTART_MAX_MS,
  WORKER_STOP_MS,
} from '../limits.ts';
import type { NameDesk } from './name-desk.ts';
import type { Command, Discovered, Numbers, OutcomeRun, Told, ToMain, ToWorker, WorkerStart } from './protocol.ts';
import { StandingCommands } from './standing.ts';

/** A thread; node:worker_threads in production, a fake in tests. */
export interface Thread {
  post(message: ToWorker): void;
  onMessage(run: (message: ToMain) => void): void;
  /** The thread is gone; `error` is what it did not catch. */
  onEnd(run: (error: unknown) => void): void;
  terminate(): void;
}

/** What every worker is given at its start; wiring.ts adds what is the same for all. */
export type ThreadStart = Pick<WorkerStart, 'index' | 'count' | 'mirror' | 'commands'>;

export interface SupervisorDeps {
  readonly count: number;
  readonly clock: Clock;
  readonly log: Logger;
  readonly resolve: Resolve;
  /** What a worker that starts now has to know before anything else. */
  readonly known: () => readonly Told[];
  /** A worker is gone. */
  readonly ended: (worker: number) => void;
  readonly names: NameDesk;
  readonly outcomes: (runs: readonly OutcomeRun[]) => void;
  readonly traffic: (cluster: string) => void;
  /** Asks for something on demand; the answer is for this worker alone: it has to be told "no" at once. */
  readonly want: (key: string, names: readonly string[]) => readonly Told[];
  readonly start: (start: ThreadStart) => Thread;
}

interface Seat {
  readonly index: number;
  thread: Thread | undefined;
  started: boolean;
  failures: number;
  cancel: (() => void) | undefined;
}

/** How long the same question of several workers has one answer, ms. */
const SAME_ANSWER_MS = 500;
/** An answer that the main thread did not ask for again is nobody's any more. */
const MAIN_ANSWER_MS = 300_000;

export class Supervisor {
  readonly #deps: SupervisorDeps;
  readonly #seats: Seat[];
  readonly #mirror = new Map<string, Discovered>();
  readonly #commands = new StandingCommands();
  readonly #pending: Told[] = [];
  readonly #replies = new Map<number, (seat: number, answer: unknown, error: string | undefined) => void>();
  /** The port that the first worker got for a socket whose port the kernel chooses. */
  readonly #ports = new Map<string, { port: number | undefined; owner: number; waiting: ((port: number) => void)[] }>();
  readonly #bound = new Map<string, SocketAddr>();
  readonly #answers = new Map<string, Promise<DnsAnswer>>();
  /** The last answers that the main thread got for its own clusters. */
  readonly #mainAnswers = new Map<string, Promise<DnsAnswer>>();
  #flushing = false;
  #stopping = false;
  #lastId = 0;
  #onStarted: (() => void)[] = [];
  #onTrace: (tap: number, trace: string) => void = () => {};
  #onFailed: (error: Error) => void = () => {};
  /** All were started once. */
  #live = false;
  #onStopped: (() => void) | undefined;

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
    this.#seats = Array.from({ length: deps.count }, (_, index) => ({
      index,
      thread: undefined,
      started: false,
      failures: 0,
      cancel: undefined,
    }));
  }

  get count(): number {
    return this.#deps.count;
  }

  /** `failed`: one of the first workers cannot serve. */
  start(failed: (error: Error) => void): void {
    this.#onFailed = failed;
    for (const seat of this.#seats) this.#spawn(seat);
  }

  /** Resolves when every worker takes connections. */
  started(): Promise<void> {
    return new Promise((resolve) => {
      this.#onStarted.push(resolve);
      this.#checkStarted();
    });
  }

  onTrace(run: (tap: number, trace: string) => void): void {
    this.#onTrace = run;
  }

  /** Where a listener's socket really is. */
  bound(socket: string): SocketAddr | undefined {
    return this.#bound.get(socket);
  }

  /** In the order it was taken; several of one turn travel together. */
  tell(item: Told): void {
    if ('name' in item || item.kind === 'done') this.#remember(item);
    this.#pending.push(item);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      const items = this.#pending.splice(0);
      for (const seat of this.#seats) seat.thread?.post({ kind: 'told', items });
    });
  }

  command(command: Command): void {
    this.#commands.note(command);
    for (const seat of this.#seats) seat.thread?.post({ kind: 'command', command });
  }

  /** Of all workers that answer in time. */
  async gather(): Promise<readonly Numbers[]> {
    const got = await this.#askAll<Numbers>((id) => ({ kind: 'numbers', id }));
    return got.map(({ answer }) => answer);
  }

  /** The same for a page of the admin interface. Rejects when a worker cannot do it. */
  askWorkers<Q extends ThreadQuestion>(question: Q): Promise<readonly ThreadAnswer<Q>[]> {
    return this.#askAll<AnswerTo<Q>>((id) => ({ kind: 'question', id, question }));
  }

  #askAll<T>(make: (id: number) => ToWorker): Promise<readonly { readonly thread: string; readonly answer: T }[]> {
    const asked = this.#seats.filter((seat) => seat.thread && seat.started);
    if (asked.length === 0) return Promise.resolve([]);
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      const got: { readonly thread: string; readonly answer: T }[] = [];
      const finish = (): void => {
        cancel();
        this.#replies.delete(id);
        resolve(got);
      };
      const cancel = this.#deps.clock.after(WORKER_NUMBERS_MS, finish);
      this.#replies.set(id, (seat, answer, error) => {
        if (error === undefined) got.push({ thread: `worker ${seat}`, answer: answer as T });
        else {
          cancel();
          this.#replies.delete(id);
          reject(new Error(error));
        }
        if (got.length === asked.length) finish();
      });
      for (const seat of asked) seat.thread?.post(make(id));
    });
  }

  /** Resolves when all have ended their connections and files, or took too long. */
  stop(): Promise<void> {
    this.#stopping = true;
    for (const seat of this.#seats) seat.cancel?.();
    const running = this.#seats.filter((seat) => seat.thread);
    if (running.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        cancel();
        for (const seat of this.#seats) seat.thread?.terminate();
        resolve();
      };
      const cancel = this.#deps.clock.after(WORKER_STOP_MS, finish);
      let left = running.length;
      this.#onStopped = () => {
        left -= 1;
        if (left === 0) finish();
      };
      this.command({ kind: 'stop' });
    });
  }

  #spawn(seat: Seat): void {
    seat.started = false;
    const { count } = this.#deps;
    const thread = this.#deps.start({
      index: seat.index,
      count,
      mirror: [...this.#deps.known(), ...this.#mirror.values()],
      commands: this.#commands.list(),
    });
    seat.thread = thread;
    thread.onMessage((message) => this.#take(seat, thread, message));
    thread.onEnd((error) => this.#ended(seat, thread, error));
  }

  #ended(seat: Seat, thread: Thread, error: unknown): void {
    if (seat.thread !== thread) return;
    seat.thread = undefined;
    seat.started = false;
    this.#deps.ended(seat.index);
    this.#freePorts(seat.index);
    if (this.#stopping) {
      this.#onStopped?.();
      return;
    }
    const wait = Math.min(WORKER_RESTART_MAX_MS, WORKER_RESTART_BASE_MS * 2 ** seat.failures);
    seat.failures += 1;
    this.#deps.log.error('a worker died and is started anew', {
      worker: seat.index,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      afterMs: wait,
    });
    seat.cancel = this.#deps.clock.after(wait, () => this.#spawn(seat));
  }

  /** A socket whose worker died before it was bound is somebody else's to bind. */
  #freePorts(owner: number): void {
    for (const [socket, entry] of this.#ports) {
      if (entry.owner !== owner || entry.port !== undefined) continue;
      this.#ports.delete(socket);
      for (const answer of entry.waiting) answer(0);
    }
  }

  #take(seat: Seat, thread: Thread, message: ToMain): void {
    switch (message.kind) {
      case 'started':
        seat.started = true;
        seat.failures = 0;
        this.#checkStarted();
        return;
      case 'failed':
        if (!this.#live) {
          // The first says it for all.
          this.#onFailed(new Error(message.reason));
          this.#onFailed = () => {};
        } else {
          // One that follows another: it has to be tried again.
          this.#deps.log.error('a worker cannot start', { worker: seat.index, reason: message.reason });
          thread.terminate();
        }
        return;
      case 'stopped':
        seat.thread = undefined;
        this.#onStopped?.();
        return;
      case 'numbers':
        this.#replies.get(message.id)?.(seat.index, message.numbers, undefined);
        return;
      case 'reply':
        this.#replies.get(message.id)?.(seat.index, message.answer, message.error);
        return;
      case 'trace':
        this.#onTrace(message.tap, message.trace);
        thread.post({ kind: 'trace-taken', chars: message.trace.length });
        return;
      case 'outcomes':
        this.#deps.outcomes(message.runs);
        thread.post({ kind: 'outcomes-taken' });
        return;
      case 'want': {
        const items = this.#deps.want(message.key, message.names);
        if (items.length > 0) thread.post({ kind: 'told', items });
        return;
      }
      case 'traffic':
        this.#deps.traffic(message.cluster);
        return;
      case 'name':
        thread.post({
          kind: 'answer',
          id: message.id,
          value: this.#deps.names.hold(seat.index, message.cache, message.name, message.max),
          error: undefined,
        });
        return;
      case 'name-gone':
        this.#deps.names.letGo(seat.index, message.cache, message.name);
        return;
      case 'bound':
        this.#noteBound(message.socket, message.address);
        return;
      case 'port':
        this.#port(seat.index, message.socket, (value) =>
          thread.post({ kind: 'answer', id: message.id, value, error: undefined }),
        );
        return;
      case 'resolve':
        this.#resolve(message.hostname, message.family, message.how).then(
          (value) => thread.post({ kind: 'answer', id: message.id, value, error: undefined }),
          (error: unknown) =>
            thread.post({ kind: 'answer', id: message.id, value: undefined, error: errorText(error) }),
        );
        return;
    }
  }

  #noteBound(socket: string, address: SocketAddr): void {
    this.#bound.set(socket, address);
    const entry = this.#ports.get(socket);
    if (!entry || address.kind !== 'ip' || entry.port !== undefined) return;
    entry.port = address.port;
    for (const answer of entry.waiting.splice(0)) answer(address.port);
  }

  /** 0: this worker lets the kernel choose and says what it got. */
  #port(owner: number, socket: string, answer: (port: number) => void): void {
    const entry = this.#ports.get(socket);
    if (!entry) {
      this.#ports.set(socket, { port: undefined, owner, waiting: [] });
      answer(0);
    } else if (entry.port !== undefined) answer(entry.port);
    else entry.waiting.push(answer);
  }

  /**
   * For the main thread. Its answer holds for the workers until it asks again: names may stand for other hosts each time, and
   * a worker must know no host that the main thread does not check.
   */
  resolve(hostname: string, family: 4 | 6, how: ResolverSettings): Promise<DnsAnswer> {
    const key = questionOf(hostname, family, how);
    const asked = this.#deps.resolve(hostname, family, how);
    this.#mainAnswers.delete(key);
    this.#mainAnswers.set(key, asked);
    this.#deps.clock.after(MAIN_ANSWER_MS, () => {
      if (this.#mainAnswers.get(key) === asked) this.#mainAnswers.delete(key);
    });
    if (this.#mainAnswers.size > MAX_DNS_ANSWERS)
      for (const oldest of this.#mainAnswers.keys()) {
        this.#mainAnswers.delete(oldest);
        break;
      }
    return asked;
  }

  /** One question to DNS for all workers. */
  #resolve(hostname: string, family: 4 | 6, how: ResolverSettings): Promise<DnsAnswer> {
    const key = questionOf(hostname, family, how);
    const known = this.#mainAnswers.get(key) ?? this.#answers.get(key);
    if (known) return known;
    const asked = this.#deps.resolve(hostname, family, how);
    this.#answers.set(key, asked);
    const forget = (): void => {
      this.#deps.clock.after(SAME_ANSWER_MS, () => this.#answers.delete(key));
    };
    asked.then(forget, forget);
    return asked;
  }

  #remember(item: Discovered): void {
    const at = item.kind === 'done' ? `${item.key} done` : `${item.key} ${item.name}`;
    // What comes again counts from now on, also in its place in the order.
    this.#mirror.delete(at);
    if (item.kind !== 'removed' && item.kind !== 'forgotten' && item.kind !== 'lost') this.#mirror.set(at, item);
  }

  #checkStarted(): void {
    if (!this.#seats.every((seat) => seat.started)) return;
    this.#live = true;
    for (const run of this.#onStarted.splice(0)) run();
  }
}

function questionOf(hostname: string, family: 4 | 6, how: ResolverSettings): string {
  return `${family} ${hostname} ${JSON.stringify(how)}`;
}
