// Workers in one process, for tests: the real main thread's half and the real worker's half with engines of their own, joined by
// copies of their messages.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import { systemClock } from '../../../base/runtime/clock.ts';
import { type Logger, silentLog } from '../../../base/runtime/log.ts';
import type { Resolve } from '../cluster/dns.ts';
import { makeEngine, type TestEngine, until } from '../testing/engine.ts';
import { BlockBook, BlockMaker } from './blocks.ts';
import { FollowerHub } from './follower-hub.ts';
import { HealthBook } from './health-book.ts';
import { HealthDesk } from './health-desk.ts';
import { HostBook } from './host-book.ts';
import { HostDesk } from './host-desk.ts';
import { MirrorHub } from './mirror-hub.ts';
import { NameDesk } from './name-desk.ts';
import type { ToMain, ToWorker } from './protocol.ts';
import { Supervisor, type Thread, type ThreadStart } from './supervisor.ts';
import { MainLink, type Port, runWorker, takeFirst } from './worker.ts';

export interface Threads {
  readonly main: TestEngine;
  /** By seat: a worker that died and came again takes the place of the old one. */
  readonly workers: TestEngine[];
  /** Ends a worker as a bug would, and waits for the next one. */
  kill(index: number): Promise<void>;
}

export function startThreads(
  t: TestContext,
  config: JsonObject,
  count: number,
  resolve: Resolve = async () => ({ addresses: ['127.0.0.1'], ttlMs: undefined }),
): Threads {
  const errors: string[] = [];
  const log: Logger = {
    ...silentLog,
    error: (message, fields) => void errors.push(`${message} ${JSON.stringify(fields)}`),
    scope: () => log,
  };
  t.after(() => assert.deepEqual(errors, []));
  const workers: TestEngine[] = [];
  const ends: ((error: unknown) => void)[] = [];
  let hub: MirrorHub | undefined;
  const blocks: BlockMaker = new BlockMaker(count, (told) => supervisor.tell(told));
  const hosts: HostDesk = new HostDesk(blocks, (told) => supervisor.tell(told));
  const health: HealthDesk = new HealthDesk((told) => supervisor.tell(told));
  const names = new NameDesk();
  const supervisor = new Supervisor({
    count,
    clock: systemClock,
    log: silentLog,
    resolve,
    known: () => [...blocks.known(), ...hosts.known(), ...health.known()],
    ended: (worker) => {
      blocks.ended(worker);
      names.ended(worker);
    },
    names,
    outcomes: (runs) => health.onOutcomes(runs),
    want: (key, names) => hub?.want(key, names) ?? [],
    traffic: (cluster) => health.onTraffic(cluster),
    start: (start) => {
      const { thread, port, end } = joined();
      ends[start.index] = end;
      workers[start.index] = startWorker(t, config, start, port, log);
      return thread;
    },
  });
  const main = makeEngine(t, config, {
    deps: {
      sockets: { binds: false, bindsAlone: false, port: async () => 0, bound() {}, whereIs: () => undefined },
      createHub: (deps) => {
        hub = new MirrorHub(deps, (item) => supervisor.tell(item));
        return hub;
      },
      workers: supervisor,
      resolve: (hostname, family, how) => supervisor.resolve(hostname, family, how),
      log,
      shared: blocks,
      sharedHosts: hosts,
      healthTeller: health,
    },
  });
  return {
    main,
    workers,
    async kill(index) {
      const old = workers[index]!;
      old.engine.stop();
      ends[index]!(new Error('a bug'));
      await until(() => workers[index] !== old, 'another worker');
      await workers[index]!.engine.whenLive();
    },
  };
}

/** Two ends of a channel: messages are copied and come in a later turn. */
function joined(): { readonly thread: Thread; readonly port: Port; end(error: unknown): void } {
  let toWorker: (message: ToWorker) => void = () => {};
  let toMain: (message: ToMain) => void = () => {};
  let onEnd: (error: unknown) => void = () => {};
  let over = false;
  const later = <M>(message: M, run: (message: M) => void): void => {
    const copy = structuredClone(message);
    setImmediate(() => {
      if (!over) run(copy);
    });
  };
  return {
    thread: {
      post: (message) => later(message, (copy) => toWorker(copy)),
      onMessage(run) {
        toMain = run;
      },
      onEnd(run) {
        onEnd = run;
      },
      terminate() {},
    },
    port: {
      postMessage: (message) => later(message, (copy) => toMain(copy)),
      on(_event, run) {
        toWorker = run;
      },
    },
    end(error) {
      over = true;
      onEnd(error);
    },
  };
}

function startWorker(t: TestContext, config: JsonObject, start: ThreadStart, port: Port, log: Logger): TestEngine {
  const link = new MainLink(port);
  const blocks = new BlockBook(start.index, start.count, log);
  const health = new HealthBook(systemClock, (message) => link.send(message));
  const hosts = new HostBook(blocks);
  const books = { blocks, hosts, health };
  const discovered = takeFirst(structuredClone(start.mirror), books);
  let hub: FollowerHub | undefined;
  const made = makeEngine(t, config, {
    options: { isWorker: true },
    deps: {
      log,
      shared: blocks,
      sharedHosts: hosts,
      sharedNames: link,
      toldHealth: health,
      resolve: (hostname, family, how) => link.resolve(hostname, family, how),
      createHub: (deps) => {
        hub = new FollowerHub(deps, discovered, (key, names) => link.send({ kind: 'want', key, names }));
        return hub;
      },
      // Each engine has a port of its own, so that a test can choose whom it asks.
      sockets: { binds: true, bindsAlone: true, port: async () => 0, bound() {}, whereIs: () => undefined },
    },
  });
  void runWorker({ port, link, start, engine: made.engine, hub: hub!, books, end() {} });
  return made;
}

/** An application that answers when it is told to. */
export async function startSlowApp(t: TestContext) {
  const waiting: (() => void)[] = [];
  const server = createServer((_request, response) => waiting.push(() => response.end('done')));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    get waiting() {
      return waiting.length;
    },
    answer() {
      for (const run of waiting.splice(0)) run();
    },
  };
}
