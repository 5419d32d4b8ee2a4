// exec, attach, logs and port-forward for the API server: finds the pod's container and hands over. Made by start.ts.
import { constants, openSync, readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import path from 'node:path';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText } from '../../base/runtime/log.ts';
import type { NodeNetwork } from '../network/types.ts';
import { type ExecIo, type ExecResult, type NodeBackend, NodeError } from '../node-backend.ts';
import { findContainer } from './container-runner.ts';
import type { Execution } from './exec.ts';
import { attachOffset, type LogSource, streamLog } from './logs.ts';
import type { PodWorker } from './pod-worker.ts';
import { type ContainerRecord, type Instance, isRunning } from './records.ts';
import { run } from './run.ts';
import type { Runtime } from './runtime.ts';

export interface BackendParts {
  readonly find: (namespace: string, pod: string) => PodWorker | undefined;
  readonly runtime: Runtime;
  readonly execution: Execution;
  readonly network: Pick<NodeNetwork, 'dialInPod'>;
  readonly clock: Clock;
}

const DIAL_TIMEOUT_MS = 10_000;
const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

interface Target {
  readonly namespace: string;
  readonly pod: string;
  readonly container?: string;
}

export function createBackend(parts: BackendParts): NodeBackend {
  const worker = (target: Target): PodWorker => {
    const found = parts.find(target.namespace, target.pod);
    if (!found) throw new NodeError(404, `pods "${target.pod}" not found on this node`);
    return found;
  };
  const running = (target: Target): { readonly id: string; readonly pod: Pod; readonly name: string } => {
    const { pod, state } = worker(target);
    const name = containerName(pod, target.container);
    const record = state.containers[name];
    if (!isRunning(record)) throw new NodeError(400, `container ${name} in pod ${target.pod} is not running`);
    return { id: record!.current!.id, pod, name };
  };
  return {
    async exec(request, io) {
      const { id } = running(request);
      if (request.command.length === 0)
        throw new NodeError(400, 'you must specify at least one command for the container');
      return parts.execution.run(id, request.command, request.tty, io);
    },
    async attach(request, io) {
      const { pod, name } = running(request);
      const record = worker(request).state.containers[name]!;
      return attach(parts, pod, name, record.current!, io);
    },
    async logs(request, write, signal) {
      const { pod, state } = worker(request);
      const name = containerName(pod, request.container);
      const instance = logInstance(request.pod, name, state.containers[name], request.previous);
      const source = logSource(parts.runtime, instance);
      await streamLog(source, request, parts.clock, write, signal);
    },
    async portForward(request) {
      const found = worker(request);
      try {
        return await parts.network.dialInPod(found.uid, '127.0.0.1', request.port, DIAL_TIMEOUT_MS);
      } catch (error) {
        throw new NodeError(500, `failed to connect to localhost:${request.port} inside the pod: ${errorText(error)}`);
      }
    },
  };
}

function containerName(pod: Pod, asked: string | undefined): string {
  if (asked) {
    if (findContainer(pod, asked)) return asked;
    throw new NodeError(400, `container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  const named = pod.metadata.annotations?.[DEFAULT_CONTAINER];
  if (named && findContainer(pod, named)) return named;
  return pod.spec.containers[0]!.name;
}

function logInstance(pod: string, name: string, record: ContainerRecord | undefined, previous: boolean): Instance {
  const { current } = record ?? {};
  if (previous) {
    // A container that waits to be started again: its last run is the previous one.
    const waits = current?.exit && record?.waiting;
    const instance = waits ? current : record?.previous;
    if (!instance) throw new NodeError(400, `previous terminated container "${name}" in pod "${pod}" not found`);
    return instance;
  }
  if (current && (current.startedAt !== undefined || current.exit)) return current;
  const reason = record?.waiting?.reason ?? 'ContainerCreating';
  throw new NodeError(400, `container "${name}" in pod "${pod}" is waiting to start: ${reason}`);
}

function logSource(runtime: Runtime, instance: Instance): LogSource {
  return {
    file: instance.logFile,
    live: () => instance.exit === undefined && runtime.pid(instance.id) !== undefined,
    onEnd: (handler) =>
      runtime.onExit((id) => {
        if (id === instance.id) handler();
      }),
  };
}

/** Output from now on (with a terminal: from the line being written), input when the container takes any. */
async function attach(
  parts: BackendParts,
  pod: Pod,
  name: string,
  instance: Instance,
  io: ExecIo,
): Promise<ExecResult> {
  const container = findContainer(pod, name)!;
  // Before any input: what it makes the container write must be seen.
  const fromOffset = await attachOffset(instance.logFile, container.tty ?? false);
  const input = container.stdin && io.stdin ? feedInput(instance, io) : undefined;
  io.onResize?.((size) => {
    const pid = parts.runtime.pid(instance.id);
    if (container.tty && pid !== undefined)
      void run('stty', ['-F', `/proc/${pid}/fd/0`, 'cols', String(size.width), 'rows', String(size.height)]).catch(
        () => {},
      );
  });
  const options = { follow: true, timestamps: false, fromOffset };
  const write = (chunk: Buffer): void => {
    io.stdout?.write(chunk);
  };
  try {
    await streamLog(logSource(parts.runtime, instance), options, parts.clock, write, io.signal);
  } finally {
    input?.(container.stdinOnce ?? false, container.tty ?? false);
  }
  const record = parts.find(pod.metadata.namespace ?? 'default', pod.metadata.name)?.state.containers[name];
  return { kind: 'exited', code: record?.current?.exit?.code ?? 0 };
}

/** Copies the client's input into the container's FIFO; the returned function ends it. */
function feedInput(instance: Instance, io: ExecIo): (once: boolean, tty: boolean) => void {
  // Opened for both ways: opening for writing alone would wait for a reader.
  const fd = openSync(path.join(instance.bundle, 'stdin'), constants.O_RDWR | constants.O_NONBLOCK);
  const fifo = new Socket({ fd, readable: false, writable: true });
  fifo.on('error', () => io.stdin?.unpipe(fifo));
  let open = true;
  const finish = (once: boolean, tty: boolean): void => {
    if (!open) return;
    open = false;
    io.stdin?.unpipe(fifo);
    fifo.end(() => {
      fifo.destroy();
      if (once && !tty) endInput(instance);
    });
  };
  io.stdin?.pipe(fifo, { end: false });
  io.stdin?.on('end', () => finish(true, false));
  return finish;
}

/** The holder keeps the FIFO open between clients; without it the container reads end of file. */
function endInput(instance: Instance): void {
  try {
    process.kill(Number(readFileSync(path.join(instance.bundle, 'holder'), 'utf8').trim()), 'SIGTERM');
  } catch {
    // Ended already.
  }
}
