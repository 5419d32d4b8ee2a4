// The network of a mesh under test: addresses of its configuration (pods, ports) and where on loopback each is really served.
// Ports are the kernel's choice, so no privilege is needed and meshes run side by side. An address nobody serves leads to a
// closed port: nothing ever leaves the machine. Called by mesh.ts; read by adapt.ts, the proxies and the client.
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

export interface IpPort {
  readonly ip: string;
  readonly port: number;
}

/** Refuses every connection. */
export const DEAD: IpPort = { ip: '127.255.255.254', port: 1 };

export const addressKey = (at: IpPort): string => `${at.ip}:${at.port}`;

/** Loopback addresses 127.16.0.1 and up, one a pod, so that whoever accepts knows who dialled. */
export interface LoopbackPool {
  take(): string;
  give(ip: string): void;
}

export function createLoopbackPool(): LoopbackPool {
  const free: string[] = [];
  let next = 0;
  return {
    take() {
      const known = free.pop();
      if (known !== undefined) return known;
      next += 1;
      while ((next & 255) === 0 || (next & 255) === 255) next += 1;
      return `127.${16 + (next >> 16)}.${(next >> 8) & 255}.${next & 255}`;
    },
    give: (ip) => void free.push(ip),
  };
}

export class Fabric {
  readonly #pool: LoopbackPool;
  readonly #servers = new Set<Server>();
  readonly #sockets = new Set<Socket>();
  readonly #fronts = new Map<string, IpPort>();
  readonly #apps = new Map<string, IpPort>();
  /** Addresses of Services, with the endpoints behind them and whose turn it is. */
  readonly #virtual = new Map<string, { readonly endpoints: readonly IpPort[]; turn: number }>();
  /** Loopback source ↔ address in the configuration. */
  readonly #sources = new Map<string, string>();
  readonly #bySource = new Map<string, string>();

  constructor(pool: LoopbackPool) {
    this.#pool = pool;
  }

  /** The loopback address from which `ip` dials. */
  sourceOf(ip: string): string {
    const known = this.#sources.get(ip);
    if (known !== undefined) return known;
    const source = this.#pool.take();
    this.#sources.set(ip, source);
    this.#bySource.set(source, ip);
    return source;
  }

  /** Who is at the other end of an accepted connection, as the configuration sees it. */
  remoteOf(socket: Socket): IpPort {
    const at = socket.remoteAddress ?? '';
    return { ip: this.#bySource.get(at) ?? at, port: socket.remotePort ?? 0 };
  }

  /** Serves an address of the configuration; the server is closed with the fabric. */
  async front(at: IpPort, accept: (socket: Socket) => void): Promise<Server> {
    const { server, bound } = await this.listen(accept, { pauseOnConnect: true });
    this.#fronts.set(addressKey(at), bound);
    return server;
  }

  async app(at: IpPort, accept: (socket: Socket) => void): Promise<void> {
    const { bound } = await this.listen(accept, {});
    this.#apps.set(addressKey(at), bound);
  }

  /** An address is not served (any more): connections to it are refused. */
  unfront(at: IpPort, server: Server): void {
    server.close();
    this.#fronts.set(addressKey(at), DEAD);
  }

  /** The address of a Service: connections go to its endpoints in turn, as kube-proxy sends them. */
  virtual(at: IpPort, endpoints: readonly IpPort[]): void {
    this.#virtual.set(addressKey(at), { endpoints, turn: 0 });
  }

  /** What whoever dials `at` reaches: a proxy's capture, or the application of a pod without one. */
  reach(at: IpPort): IpPort {
    const virtual = this.#virtual.get(addressKey(at));
    if (virtual) {
      const chosen = virtual.endpoints[virtual.turn % virtual.endpoints.length];
      virtual.turn += 1;
      return chosen ? this.reach(chosen) : DEAD;
    }
    return this.#fronts.get(addressKey(at)) ?? DEAD;
  }

  /** What the proxy of the pod itself reaches. */
  reachApp(at: IpPort): IpPort {
    return this.#apps.get(addressKey(at)) ?? DEAD;
  }

  /** Any server on a port of the kernel's choice. */
  listen(
    accept: (socket: Socket) => void,
    how: { readonly pauseOnConnect?: boolean },
  ): Promise<{ readonly server: Server; readonly bound: IpPort }> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, ...how });
    this.#servers.add(server);
    server.on('connection', (socket) => {
      this.track(socket);
      accept(socket);
    });
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () =>
        resolve({ server, bound: { ip: '127.0.0.1', port: (server.address() as AddressInfo).port } }),
      );
    });
  }

  track(socket: Socket): void {
    this.#sockets.add(socket);
    // Whoever uses the socket hears of the error too; here it only must not end the process.
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(socket));
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
    for (const source of this.#bySource.keys()) this.#pool.give(source);
    this.#bySource.clear();
  }
}
