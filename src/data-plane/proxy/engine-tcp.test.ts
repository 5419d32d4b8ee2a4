// Bytes through real sockets: tcp_proxy, and the PROXY protocol to upstreams.
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { test } from 'node:test';
import {
  bootstrap,
  fileLog,
  hcm,
  listen,
  listener,
  routes,
  startEngine,
  staticCluster,
  tcpProxy,
  toCluster,
  typed,
  until,
} from './testing/engine.ts';

test('tcp_proxy joins bytes both ways, with half-close, and logs', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let got = '';
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString();
    });
    socket.on('end', () => socket.end(`heard ${got}`));
  });
  const port = await listen(t, server as never);
  const proxy = await startEngine(
    t,
    bootstrap(
      [
        listener('in', [
          {
            filters: [
              tcpProxy('app', {
                access_log: [fileLog('tcp', '%BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %RESPONSE_FLAGS%\n')],
              }),
            ],
          },
        ]),
      ],
      [staticCluster('app', [port])],
    ),
  );
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const client = connect({ port: proxy.port('in'), host: '127.0.0.1', allowHalfOpen: true }, () =>
      client.end('all of it'),
    );
    client.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    client.on('close', () => resolve(text));
    client.on('end', () => client.destroy());
  });
  assert.equal(answer, 'heard all of it');
  await until(() => proxy.lines.get('tcp')?.length === 1, 'a log line');
  assert.deepEqual(proxy.lines.get('tcp'), ['9 15 app -']);
});

test('a connection that names its client by PROXY protocol serves no other client', async (t) => {
  const told: string[] = [];
  const server = createServer((socket) => {
    let client = '';
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      const line = /^PROXY TCP4 \S+ \S+ (\d+) /.exec(chunk.toString('latin1'));
      if (line) client = line[1]!;
      told.push(client);
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    });
  });
  const port = await listen(t, server as unknown as Parameters<typeof listen>[1]);
  const wrapped = typed(
    'envoy.transport_sockets.upstream_proxy_protocol',
    'envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
    {
      config: { version: 'V1' },
      transport_socket: typed('raw', 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'),
    },
  );
  const engine = await startEngine(
    t,
    bootstrap(
      [listener('in', [{ filters: [hcm(routes([toCluster('app')]))] }])],
      [staticCluster('app', [port], { transport_socket: wrapped })],
    ),
  );
  const clients = [1, 2].map(() => connect(engine.port('in'), '127.0.0.1'));
  const want: string[] = [];
  for (const client of [clients[0]!, clients[0]!, clients[0]!, clients[1]!, clients[0]!]) {
    const answered = new Promise((resolve) => client.once('data', resolve));
    client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    await answered;
    want.push(String(client.localPort));
  }
  for (const client of clients) client.destroy();
  assert.deepEqual(told, want);
});
