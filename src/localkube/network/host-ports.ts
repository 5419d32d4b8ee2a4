// NodePorts and LoadBalancer ports as TCP listeners on the host's 127.0.0.1, relayed into the node's namespace.
// Called by service-proxy.ts.
import { createServer, type Server, type Socket } from 'node:net';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { HostPort } from './service-rules.ts';
import type { NodeNetwork } from './types.ts';

const DIAL_TIMEOUT_MS = 10_000;
/** Connections that one host port relays at a time; further ones are closed. */
const MAX_CONNECTIONS_PER_PORT = 4096;
const HOST_ADDRESS = '127.0.0.1';

/** A wish that could not be met, told once until it changes. */
export interface HostPortFailure {
  readonly wanted: HostPort;
  /** EADDRINUSE, EACCES, or `taken` when another Service has the port. */
  readonly code: string;
  readonly message: string;
}

export interface HostPorts {
  /** Opens what is new, closes what is gone (its connections live on), keeps the rest. Failed ones are tried again each time. */
  apply(wanted: readonly HostPort[]): Promise<readonly HostPortFailure[]>;
  close(): void;
}

interface Open {
  readonly server: Server;
  target: HostPort['target'];
}

export function createHostPorts(network: NodeNetwork, log: Logger): HostPorts {
  const open = new Map<number, Open>();
  const sockets = new Set<Socket>();
  const relay = async (client: Socket, entry: Open): Promise<void> => {
    track(sockets, client);
    client.on('error', () => client.destroy());
    try {
      const upstream = await network.dial(entry.target.ip, entry.target.port, DIAL_TIMEOUT_MS);
      track(sockets, upstream);
      join(client, upstream);
    } catch (error) {
      log.debug('host port could not reach its service', { ip: entry.target.ip, error: errorText(error) });
      client.resetAndDestroy();
    }
  };
  const listen = (wanted: HostPort): Promise<void> => {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.maxConnections = MAX_CONNECTIONS_PER_PORT;
    const entry: Open = { server, target: wanted.target };
    server.on('connection', (client) => void relay(client, entry));
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(wanted.port, HOST_ADDRESS, () => {
        server.off('error', reject);
        open.set(wanted.port, entry);
        resolve();
      });
    });
  };
  return {
    async apply(wanted) {
      const failures: HostPortFailure[] = [];
      const chosen = new Map<number, HostPort>();
      for (const one of wanted) {
        const other = chosen.get(one.port);
        if (other) failures.push({ wanted: one, code: 'taken', message: takenMessage(one, other) });
        else chosen.set(one.port, one);
      }
      for (const [port, entry] of open) {
        if (chosen.has(port)) continue;
        entry.server.close();
        open.delete(port);
      }
      for (const one of chosen.values()) {
        const entry = open.get(one.port);
        if (entry) entry.target = one.target;
        else
          await listen(one).catch((error: NodeJS.ErrnoException) =>
            failures.push({ wanted: one, code: error.code ?? 'unknown', message: busyMessage(one, error) }),
          );
      }
      return failures;
    },
    close() {
      for (const entry of open.values()) entry.server.close();
      for (const socket of sockets) socket.destroy();
      open.clear();
    },
  };
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
}

function join(a: Socket, b: Socket): void {
  if (a.destroyed) return void b.destroy();
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.allowHalfOpen = true;
    from.on('error', () => to.resetAndDestroy());
    from.on('close', () => to.destroySoon());
    from.pipe(to);
  }
}

const nameOf = (wanted: HostPort): string => `${wanted.service.metadata.namespace}/${wanted.service.metadata.name}`;

const takenMessage = (one: HostPort, other: HostPort): string =>
  `port ${one.port} of the host already belongs to Service ${nameOf(other)}${nodePortHint(one)}`;

const busyMessage = (one: HostPort, error: NodeJS.ErrnoException): string =>
  `cannot listen on ${HOST_ADDRESS}:${one.port} (${error.code ?? error.message})${nodePortHint(one)}`;

function nodePortHint(one: HostPort): string {
  if (one.kind === 'node-port') return '; free the port or choose another nodePort';
  const port = one.service.spec.ports?.find((p) => p.port === one.target.port)?.nodePort;
  return port ? `; use its node port, ${HOST_ADDRESS}:${port}` : '; free the port';
}
