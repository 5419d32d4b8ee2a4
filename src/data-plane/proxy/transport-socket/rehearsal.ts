// One connection to ourselves that lives and dies before the first client. Objects change when a connection ends (fields that
// were written once, prototypes of Node's sockets), and V8 throws away the code that relied on them: after the first end of a
// connection a dozen functions had to be compiled again while requests waited. Called once a thread, by main.ts and workers.
import { connect, createServer, type Socket } from 'node:net';
import type { Clock } from '../../../base/runtime/clock.ts';
import { REHEARSAL_MS } from '../limits.ts';
import { SocketTransport } from './socket-transport.ts';
import type { TransportSink } from './transport.ts';

const NOWHERE = { kind: 'ip', ip: '127.0.0.1', port: 0 } as const;
const BYTE = Buffer.of(0);
const IDLE: TransportSink = { onData() {}, onEnd() {}, onBacklog() {}, onClose() {} };

/** Resolves when it is over. Where no such connection can be made, it is done without. */
export function rehearseConnections(clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const server = createServer();
    const sockets: Socket[] = [];
    const carry = (socket: Socket, sink: Partial<TransportSink>): SocketTransport => {
      socket.unref();
      sockets.push(socket);
      const transport = new SocketTransport(socket, { local: NOWHERE, remote: NOWHERE });
      transport.start({ ...IDLE, ...sink });
      return transport;
    };
    const over = (): void => {
      cancelLimit();
      for (const socket of sockets) socket.destroy();
      server.close(() => resolve());
    };
    const cancelLimit = clock.after(REHEARSAL_MS, over);
    server.unref();
    server.on('error', () => {
      cancelLimit();
      resolve();
    });
    server.on('connection', (socket) => {
      const transport = carry(socket, { onData: () => transport.end(), onClose: over });
    });
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') return;
      const socket = connect(address.port, address.address, () => {
        const transport = carry(socket, { onEnd: () => transport.reset() });
        transport.write(BYTE, 0, 1);
      });
      socket.on('error', over);
    });
  });
}
