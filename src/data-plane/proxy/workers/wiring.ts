// Workers on real threads: the main thread's half and the worker's half. Loaded only with --concurrency above 1.
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { type Bootstrap, BootstrapSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { systemClock } from '../../../base/runtime/clock.ts';
import type { Logger } from '../../../base/runtime/log.ts';
import { systemResolve } from '../cluster/system-dns.ts';
import type { CommandLine } from '../command-line.ts';
import type { ThreadDeps } from '../engine-deps.ts';
import { rehearseConnections } from '../transport-socket/rehearsal.ts';
import { createEngine, openProcessLog } from '../wiring.ts';
import { BlockBook, BlockMaker } from './blocks.ts';
import { FollowerHub } from './follower-hub.ts';
import { HealthBook } from './health-book.ts';
import { HealthDesk } from './health-desk.ts';
import { HostBook } from './host-book.ts';
import { HostDesk } from './host-desk.ts';
import { MirrorHub } from './mirror-hub.ts';
import { NameDesk } from './name-desk.ts';
import type { ToMain, WorkerStart } from './protocol.ts';
import { Supervisor, type Thread } from './supervisor.ts';
import { MainLink, runWorker, takeFirst } from './worker.ts';

const YOUNG_GENERATION_MB = 6;

/** The workers of this process, and what the engine of the main thread needs of them. */
export function createWorkers(
  bootstrap: Bootstrap,
  options: CommandLine,
  format: string | undefined,
  log: Logger,
): { readonly threads: ThreadDeps; stop(): Promise<void> } {
  const bytes = toBinary(BootstrapSchema, bootstrap);
  let hub: MirrorHub | undefined;
  const blocks: BlockMaker = new BlockMaker(options.concurrency, (told) => supervisor.tell(told));
  const hosts: HostDesk = new HostDesk(blocks, (told) => supervisor.tell(told));
  const health: HealthDesk = new HealthDesk((told) => supervisor.tell(told));
  const names = new NameDesk();
  const supervisor = new Supervisor({
    count: options.concurrency,
    clock: systemClock,
    log: log.scope('main'),
    resolve: systemResolve,
    known: () => [...blocks.known(), ...hosts.known(), ...health.known()],
    ended: (worker) => {
      blocks.ended(worker);
      names.ended(worker);
    },
    names,
    outcomes: (runs) => health.onOutcomes(runs),
    want: (key, names) => hub?.want(key, names) ?? [],
    traffic: (cluster) => health.onTraffic(cluster),
    start: (start) => thread({ ...start, bootstrap: bytes, options, format }),
  });
  return {
    threads: {
      createHub: (deps) => {
        hub = new MirrorHub(deps, (item) => supervisor.tell(item));
        return hub;
      },
      sockets: {
        binds: false,
        bindsAlone: false,
        port: async () => 0,
        bound() {},
        whereIs: (socket) => supervisor.bound(socket),
      },
      workers: supervisor,
      resolve: (hostname, family, how) => supervisor.resolve(hostname, family, how),
      shared: blocks,
      sharedHosts: hosts,
      healthTeller: health,
    },
    stop: () => supervisor.stop(),
  };
}

function thread(start: WorkerStart): Thread {
  // The same program again; it sees that it is not the main thread.
  const worker = new Worker(process.argv[1]!, {
    workerData: start,
    stdin: false,
    // As the main thread's.
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  let failure: unknown;
  worker.on('error', (error) => {
    failure = error;
  });
  return {
    post: (message) => worker.postMessage(message),
    onMessage: (run) => worker.on('message', run as (message: ToMain) => void),
    onEnd: (run) => worker.on('exit', (code) => run(failure ?? `exit code ${code}`)),
    terminate: () => void worker.terminate(),
  };
}

/** The body of a worker thread. */
export async function runThisWorker(): Promise<void> {
  const port = parentPort!;
  const start = workerData as WorkerStart;
  const bootstrap = fromBinary(BootstrapSchema, start.bootstrap);
  const { log, control } = openProcessLog(start.options, start.format);
  const link = new MainLink(port);
  let hub: FollowerHub | undefined;
  const blocks = new BlockBook(start.index, start.count, log.scope('main'));
  const health = new HealthBook(systemClock, (message) => link.send(message));
  const hosts = new HostBook(blocks);
  const books = { blocks, hosts, health };
  const discovered = takeFirst(start.mirror, books);
  const engine = createEngine(
    bootstrap,
    start.options,
    {
      log,
      level: control,
      // Only the main thread ends the process.
      onQuit: () => link.send({ kind: 'failed', reason: `worker ${start.index} cannot start` }),
      variable: (key) => process.env[key],
    },
    {
      isWorker: true,
      shared: blocks,
      sharedHosts: hosts,
      sharedNames: link,
      toldHealth: health,
      resolve: (hostname, family, how) => link.resolve(hostname, family, how),
      createHub: (deps) => {
        hub = new FollowerHub(deps, discovered, (key, names) => link.send({ kind: 'want', key, names }));
        return hub;
      },
      sockets: {
        binds: true,
        bindsAlone: start.index === 0,
        port: (socket) => link.port(socket),
        bound: (socket, address) => link.bound(socket, address),
        whereIs: () => undefined,
      },
    },
  );
  void rehearseConnections(systemClock);
  await runWorker({ port, link, start, engine, hub: hub!, books, end: () => process.exit(0) });
}
