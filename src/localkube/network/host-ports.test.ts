import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer, type Server } from 'node:net';
import { after, test } from 'node:test';
import { silentLog } from '../../base/runtime/log.ts';
import { createHostPorts } from './host-ports.ts';
import type { HostPort } from './service-rules.ts';
import type { NodeNetwork } from './types.ts';

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A network whose every address is this host. */
const network: Pick<NodeNetwork, 'dial'> = {
  async dial(_ip, port) {
    const socket = createConnection(port, '127.0.0.1');
    await once(socket, 'connect');
    return socket;
  },
};

function wanted(name: string, port: number, target: number, kind: HostPort['kind'] = 'node-port'): HostPort {
  const ports = [{ port: target, nodePort: 30001 }];
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'ns' }, spec: { ports } };
  return { port, kind, service, target: { ip: '10.96.0.5', port: target } };
}

const hostPorts = () => createHostPorts(network as NodeNetwork, silentLog);

test('bytes go both ways, also after one side has finished sending', async () => {
  const upstream = createServer({ allowHalfOpen: true }, (socket) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('end', () => socket.end(text.toUpperCase()));
  }).listen(0, '127.0.0.1');
  servers.push(upstream);
  await once(upstream, 'listening');
  const ports = hostPorts();
  const port = await freePort();
  assert.deepEqual(await ports.apply([wanted('web', port, (upstream.address() as AddressInfo).port)]), []);
  const client = createConnection({ port, host: '127.0.0.1', allowHalfOpen: true });
  client.end('hello');
  let text = '';
  for await (const chunk of client) text += chunk;
  assert.equal(text, 'HELLO');
  await ports.apply([]);
  const [error] = (await once(createConnection(port, '127.0.0.1'), 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNREFUSED');
  ports.close();
});

test('a service that cannot be reached resets the client', async () => {
  const ports = hostPorts();
  const port = await freePort();
  await ports.apply([wanted('web', port, await freePort())]);
  const client = createConnection(port, '127.0.0.1');
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  ports.close();
});

test('a port that is taken names who has it and what works instead', async () => {
  const busy = createServer().listen(0, '127.0.0.1');
  servers.push(busy);
  await once(busy, 'listening');
  const busyPort = (busy.address() as AddressInfo).port;
  const ports = hostPorts();
  const port = await freePort();
  const failures = await ports.apply([
    wanted('a', port, 1),
    wanted('b', port, 2, 'load-balancer'),
    wanted('c', busyPort, 3),
  ]);
  assert.deepEqual(
    failures.map((f) => [f.wanted.service.metadata.name, f.code]),
    [
      ['b', 'taken'],
      ['c', 'EADDRINUSE'],
    ],
  );
  assert.match(failures[0]?.message ?? '', /belongs to Service ns\/a; use its node port, 127\.0\.0\.1:30001/);
  assert.match(failures[1]?.message ?? '', /free the port or choose another nodePort/);
  ports.close();
});
