// A stock Envoy as the proxy of a pod: a child process on loopback. Connections reach it with a PROXY protocol header that says
// where they were meant to go. Called by mesh.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { type FileHandle, open, readFile, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import path from 'node:path';
import { VIRTUAL_INBOUND, VIRTUAL_OUTBOUND } from '../../base/xds/names.ts';
import { REACH_TLV } from './adapt.ts';
import { dial } from './engine-embedded.ts';
import { addressKey, type Fabric, type IpPort } from './fabric.ts';
import type { ProxyOptions, RunningProxy, StartProxy } from './proxy.ts';
import { proxyHeader } from './proxy-protocol.ts';

const POLL_MS = 15;
const STOP_MS = 3_000;

export interface StockEngine {
  readonly start: StartProxy;
  /** Ends every process that is left, at once: for whoever is interrupted. */
  killAll(): void;
}

export function stockEngine(binary: string): StockEngine {
  const children = new Set<ChildProcess>();
  return {
    start: (options) => startStock(binary, options, children),
    killAll() {
      for (const child of children) child.kill('SIGKILL');
    },
  };
}

function startStock(binary: string, options: ProxyOptions, children: Set<ChildProcess>): RunningProxy {
  const { pod, fabric } = options;
  const isGateway = pod.workload.image.kind === 'gateway';
  const ports = new Map<string, number>();
  const closers: (() => Promise<void>)[] = [];
  const stop = new AbortController();
  let child: ChildProcess | undefined;
  let exited: string | undefined;
  const base = path.join(options.directory, `e-${pod.workload.namespace}-${pod.name}`);

  const start = async (): Promise<void> => {
    const adminFile = `${base}.admin`;
    const admin = { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } };
    await writeFile(`${base}.json`, JSON.stringify({ ...options.bootstrap, admin }));
    const flags = [
      '-c',
      `${base}.json`,
      '--admin-address-path',
      adminFile,
      '--disable-hot-restart',
      '--concurrency',
      '1',
    ];
    // A file: Envoy opens /dev/stdout by name, which a pipe of Node (a socket) does not allow.
    const log = await open(`${base}.log`, 'a+');
    closers.push(follow(log, options.onLogLine));
    child = spawn(binary, [...flags, '--file-flush-interval-msec', '1', '--drain-time-s', '1', '-l', 'warning'], {
      stdio: ['ignore', log.fd, 'pipe'],
    });
    const own = child;
    children.add(own);
    child.on('exit', () => children.delete(own));
    child.on('error', (error) => (exited = `cannot start ${binary}: ${error.message}`));
    child.on('exit', (code, signal) => (exited ??= `envoy ended with ${signal ?? `exit code ${code}`}`));
    lines(child.stderr, options.onMessage);
    const address = await eventually(
      stop.signal,
      () => exited,
      async () => {
        const text = await readFile(adminFile, 'utf8').catch(() => '');
        return text === '' ? undefined : text;
      },
    );
    await eventually(
      stop.signal,
      () => exited,
      async () => {
        const ready = await fetch(`http://${address}/ready`).catch(() => undefined);
        await ready?.arrayBuffer();
        return ready?.status === 200 ? true : undefined;
      },
    );
    const listed = (await (await fetch(`http://${address}/listeners?format=json`)).json()) as Listed;
    for (const entry of listed.listener_statuses ?? [])
      ports.set(entry.name, entry.local_address?.socket_address?.port_value ?? 0);
  };
  const ready = start();
  ready.catch(() => {});
  const listenerFor = (port: number): string => (isGateway ? `0.0.0.0_${port}` : VIRTUAL_INBOUND);
  return {
    engine: 'envoy',
    ready,
    async connect(destination) {
      // The listener that virtualOutbound would hand the connection to: of the address, of the port, else itself.
      const names = [addressKey(destination).replace(':', '_'), `0.0.0.0_${destination.port}`, VIRTUAL_OUTBOUND];
      const to = { ip: '127.0.0.1', port: names.map((name) => ports.get(name)).find((p) => p !== undefined) ?? 0 };
      const socket = await dial(to, fabric.sourceOf(pod.ip));
      fabric.track(socket);
      const source = { ip: pod.ip, port: socket.localPort ?? 0 };
      socket.write(proxyHeader(source, destination, { type: REACH_TLV, value: addressKey(fabric.reach(destination)) }));
      return socket;
    },
    accept(socket, local) {
      const port = ports.get(listenerFor(local.port));
      if (port === undefined) return false;
      relay(socket, { ip: '127.0.0.1', port }, local, fabric);
      return true;
    },
    serves: (port) => ports.has(listenerFor(port)),
    async stop() {
      stop.abort(new Error('stopped'));
      for (const close of closers) await close();
      if (!child || exited !== undefined) return;
      const gone = new Promise<void>((resolve) => child?.once('exit', () => resolve()));
      // Nothing of it is worth a graceful end.
      child.kill('SIGKILL');
      const timer = new Promise<void>((resolve) => setTimeout(resolve, STOP_MS).unref());
      await Promise.race([gone, timer]);
    },
  };
}

interface Listed {
  readonly listener_statuses?: readonly {
    readonly name: string;
    readonly local_address?: { readonly socket_address?: { readonly port_value?: number } };
  }[];
}

/** Stands where the kernel's redirection stands: joins an arrived connection to the proxy, ends and resets included. */
function relay(socket: Socket, to: IpPort, local: IpPort, fabric: Fabric): void {
  const remote = fabric.remoteOf(socket);
  let gone = false;
  socket.once('close', () => (gone = true));
  dial(to, '127.0.0.1').then(
    (inner) => {
      fabric.track(inner);
      if (gone) return void inner.destroy();
      inner.write(proxyHeader(remote, local, { type: REACH_TLV, value: addressKey(fabric.reachApp(local)) }));
      join(socket, inner);
      join(inner, socket);
      return undefined;
    },
    () => socket.resetAndDestroy(),
  );
}

function join(from: Socket, to: Socket): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.write(chunk)) {
      from.pause();
      to.once('drain', () => from.resume());
    }
  });
  from.on('end', () => to.end());
  from.on('error', () => to.resetAndDestroy());
  from.on('close', () => {
    if (!to.destroyed && !from.readableEnded) to.resetAndDestroy();
  });
  from.resume();
}

function lines(stream: NodeJS.ReadableStream | null, each: (line: string) => void): void {
  let rest = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) if (part !== '') each(part);
  });
}

/** Hands on the lines that appear in a file, until closed. */
function follow(file: FileHandle, each: (line: string) => void): () => Promise<void> {
  let at = 0;
  let rest = '';
  let reading: Promise<void> | undefined;
  const buffer = Buffer.alloc(64 * 1024);
  const read = async (): Promise<void> => {
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      const parts = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) if (part !== '') each(part);
    }
  };
  const timer = setInterval(() => {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    reading.catch(() => {});
  }, POLL_MS);
  return async () => {
    clearInterval(timer);
    await reading?.catch(() => {});
    await file.close();
  };
}

/** Asks again and again; rejects when the process has ended or the test is stopped. */
async function eventually<T>(
  signal: AbortSignal,
  dead: () => string | undefined,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  for (;;) {
    const ended = dead();
    if (ended !== undefined) throw new Error(ended);
    signal.throwIfAborted();
    const found = await ask();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
