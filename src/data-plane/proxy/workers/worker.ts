// A worker's side: an engine that serves connections, told by the main thread what to serve. Called by worker-main.ts.

import { fromBinary } from '@bufbuild/protobuf';
import { TapConfigSchema } from '#proto/envoy/config/tap/v3/common_pb.js';
import { errorText } from '../../../base/runtime/log.ts';
import type { DnsAnswer } from '../cluster/dns.ts';
import type { SharedNames } from '../cluster/dns-cache.ts';
import type { ResolverSettings } from '../cluster/dns-config.ts';
import type { SocketAddr } from '../config/address.ts';
import type { Engine } from '../engine.ts';
import { MAX_TAP_BACKLOG_CHARS } from '../limits.ts';
import { TraceSender } from '../tap/control.ts';
import type { BlockBook } from './blocks.ts';
import type { FollowerHub } from './follower-hub.ts';
import type { HealthBook } from './health-book.ts';
import type { HostBook } from './host-book.ts';
import { numbersOf } from './numbers.ts';
import type { Command, Discovered, Numbers, Told, ToMain, ToWorker, WorkerStart } from './protocol.ts';

export interface Port {
  postMessage(message: ToMain): void;
  on(event: 'message', run: (message: ToWorker) => void): unknown;
}

/** Questions to the main thread. */
export class MainLink implements SharedNames {
  readonly #port: Port;
  readonly #waiting = new Map<number, (value: unknown, error: string | undefined) => void>();
  #lastId = 0;

  constructor(port: Port) {
    this.#port = port;
  }

  send(message: ToMain): void {
    this.#port.postMessage(message);
  }

  answered(message: Extract<ToWorker, { kind: 'answer' }>): void {
    this.#waiting.get(message.id)?.(message.value, message.error);
    this.#waiting.delete(message.id);
  }

  resolve(hostname: string, family: 4 | 6, how: ResolverSettings): Promise<DnsAnswer> {
    return this.#ask((id) => ({ kind: 'resolve', id, hostname, family, how })) as Promise<DnsAnswer>;
  }

  /** The port all workers share for a socket whose port the kernel chooses; 0 = choose it and say so. */
  port(socket: string): Promise<number> {
    return this.#ask((id) => ({ kind: 'port', id, socket })) as Promise<number>;
  }

  /** A name of a DNS cache; see protocol.ts. */
  hold(cache: string, name: string, max: number): Promise<boolean> {
    return this.#ask((id) => ({ kind: 'name', id, cache, name, max })) as Promise<boolean>;
  }

  letGo(cache: string, name: string): void {
    this.send({ kind: 'name-gone', cache, name });
  }

  bound(socket: string, address: SocketAddr): void {
    this.send({ kind: 'bound', socket, address });
  }

  #ask(make: (id: number) => ToMain): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (value, error) => (error === undefined ? resolve(value) : reject(new Error(error))));
      this.send(make(id));
    });
  }
}

/** What was told before the worker's engine is made: memory is for its first configuration, the rest for its hub. */
export function takeFirst(mirror: readonly Told[], books: Books): Discovered[] {
  return mirror.flatMap((told) => note(told, books) ?? []);
}

/** What was told about other things than resources. */
export interface Books {
  readonly blocks: BlockBook;
  readonly hosts: HostBook;
  readonly health: HealthBook;
}

/** Answers with what is left for the hub. */
function note(told: Told, { blocks, hosts, health }: Books): Discovered | undefined {
  switch (told.kind) {
    case 'block':
    case 'block-gone':
      blocks.take(told);
      return undefined;
    case 'hosts':
    case 'hosts-gone':
      hosts.take(told);
      return undefined;
    case 'health':
    case 'health-gone':
      health.take(told);
      return undefined;
    default:
      return told;
  }
}

export interface WorkerParts {
  readonly port: Port;
  readonly link: MainLink;
  readonly start: Pick<WorkerStart, 'commands'>;
  readonly engine: Engine;
  readonly hub: FollowerHub;
  readonly books: Books;
  readonly end: () => void;
}

/** Commands that do not wait until the worker serves. */
const AT_ANY_TIME: ReadonlySet<Command['kind']> = new Set(['stop', 'log', 'runtime', 'health']);

/** Serves until told to stop. */
export async function runWorker({ port, link, start, engine, hub, books, end }: WorkerParts): Promise<void> {
  const traces = new TraceSender(MAX_TAP_BACKLOG_CHARS, (tap, trace) => link.send({ kind: 'trace', tap, trace }));
  const obey = (command: Command): void => {
    if (command.kind === 'stop') {
      engine.stop();
      void engine.logs.settled().then(() => {
        link.send({ kind: 'stopped' });
        end();
      });
    } else if (command.kind === 'tap') {
      const { id } = command;
      const plan = engine.taps.read(fromBinary(TapConfigSchema, command.config));
      engine.taps.attach(command.configId, plan, (trace) => traces.send(id, trace));
    } else perform(engine, command);
  };
  // In the order in which they were given: a later one may end what an earlier one began.
  let early: Command[] | undefined = [];
  const take = (command: Command): void => {
    if (early && !AT_ANY_TIME.has(command.kind)) early.push(command);
    else obey(command);
  };
  for (const command of start.commands) take(command);
  port.on('message', (message) => {
    switch (message.kind) {
      case 'answer':
        link.answered(message);
        return;
      case 'told':
        for (const told of message.items) {
          const discovered = note(told, books);
          if (discovered) hub.take(discovered);
        }
        return;
      case 'trace-taken':
        traces.taken(message.chars);
        return;
      case 'outcomes-taken':
        books.health.taken();
        return;
      case 'question':
        engine.answer(message.question).then(
          (answer) => link.send({ kind: 'reply', id: message.id, answer, error: undefined }),
          (error: unknown) => link.send({ kind: 'reply', id: message.id, answer: undefined, error: errorText(error) }),
        );
        return;
      case 'command':
        take(message.command);
        return;
      case 'numbers': {
        const numbers: Numbers = numbersOf(engine.stats, engine.istioStats, engine.clusters.views());
        link.send({ kind: 'numbers', id: message.id, numbers });
        return;
      }
    }
  });
  try {
    await engine.start();
    await engine.whenLive();
    const waited = early;
    early = undefined;
    for (const command of waited) obey(command);
    link.send({ kind: 'started' });
  } catch (error) {
    link.send({ kind: 'failed', reason: errorText(error) });
  }
}

function perform(engine: Engine, command: Exclude<Command, { kind: 'stop' | 'tap' }>): void {
  switch (command.kind) {
    case 'drain':
      engine.drainListeners(command);
      return;
    case 'health':
      engine.setHealthFailing(command.failing);
      return;
    case 'runtime':
      engine.overrideRuntime(new Map(command.values));
      return;
    case 'log':
      if (command.logger === undefined) engine.log.set(command.level);
      else engine.log.setOne(command.logger, command.level);
      return;
    case 'untap':
      engine.taps.detach();
      return;
    case 'reset-counters':
      engine.resetCounters();
      return;
    case 'reopen-logs':
      engine.reopenLogs();
      return;
  }
}
