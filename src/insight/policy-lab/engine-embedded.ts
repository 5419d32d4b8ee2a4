// The embedded engine of a pod: an Engine in this process. Called by mesh.ts.
import { connect, type Socket } from 'node:net';
import { INBOUND_PASSTHROUGH_CLUSTER, VIRTUAL_INBOUND, VIRTUAL_OUTBOUND } from '../../base/xds/names.ts';
import { startOfflineProxy } from '../../data-plane/offline/wiring.ts';
import type { IpPort } from './fabric.ts';
import type { ProxyOptions, RunningProxy } from './proxy.ts';

export function startEmbedded(options: ProxyOptions): RunningProxy {
  const { pod, fabric } = options;
  const isGateway = pod.workload.image.kind === 'gateway';
  const proxy = startOfflineProxy({
    bootstrap: options.bootstrap,
    onLogLine: options.onLogLine,
    onMessage: options.onMessage,
    resolve: options.resolve,
    reach(at, cluster) {
      const inbound = cluster.startsWith('inbound|') || cluster === INBOUND_PASSTHROUGH_CLUSTER;
      return inbound ? fabric.reachApp(at) : fabric.reach(at);
    },
  });
  const listenerFor = (port: number): string => (isGateway ? `0.0.0.0_${port}` : VIRTUAL_INBOUND);

  // The application's connections: the two ends of a loopback connection find each other by the client's port.
  const waiting = new Map<number, (socket: Socket) => void>();
  const early = new Map<number, Socket>();
  const capture = fabric.listen(
    (socket) => {
      const port = socket.remotePort ?? 0;
      const claim = waiting.get(port);
      if (!claim) {
        early.set(port, socket);
        return;
      }
      waiting.delete(port);
      claim(socket);
    },
    { pauseOnConnect: true },
  );
  return {
    engine: 'meltemi',
    ready: proxy.ready,
    async connect(destination) {
      const { bound } = await capture;
      const socket = await dial(bound, fabric.sourceOf(pod.ip));
      fabric.track(socket);
      const port = socket.localPort ?? 0;
      const claim = (other: Socket): void => {
        proxy.accept(VIRTUAL_OUTBOUND, other, { ip: pod.ip, port }, destination);
      };
      const there = early.get(port);
      early.delete(port);
      if (there) claim(there);
      else waiting.set(port, claim);
      return socket;
    },
    accept: (socket, local) => proxy.accept(listenerFor(local.port), socket, fabric.remoteOf(socket), local),
    serves: (port) => proxy.listeners().includes(listenerFor(port)),
    async stop() {
      proxy.stop();
    },
  };
}

/** Resolves when connected; rejects with the socket's error. */
export function dial(to: IpPort, localAddress: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.ip, port: to.port, localAddress, noDelay: true, allowHalfOpen: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}
