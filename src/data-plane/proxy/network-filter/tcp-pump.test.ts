// tcp_proxy's byte path: large transfers arrive whole and in order, a slow reader stops the sender, halves close apart.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { BULK_BUFFER_BYTES } from '../limits.ts';
import { bootstrap, listen, listener, startEngine, staticCluster, tcpProxy, until } from '../testing/engine.ts';

const BLOCK = randomBytes(1 << 20);

async function startPump(t: TestContext, serve: (socket: Socket) => void, extra = {}) {
  const server = createServer({ allowHalfOpen: true }, serve);
  const port = await listen(t, server as never);
  const engine = await startEngine(
    t,
    bootstrap([listener('in', [{ filters: [tcpProxy('up', extra)] }])], [staticCluster('up', [port])]),
  );
  const client = connect({ port: engine.port('in'), host: '127.0.0.1', allowHalfOpen: true });
  t.after(() => client.destroy());
  return { engine, client };
}

/** Writes `count` blocks as fast as the other side takes them, then ends. Returns the digest of what was sent. */
function pour(socket: Socket, count: number): string {
  const hash = createHash('sha256');
  for (let i = 0; i < count; i++) hash.update(BLOCK.subarray(i));
  let sent = 0;
  const more = (): void => {
    while (sent < count) {
      const block = BLOCK.subarray(sent);
      sent += 1;
      if (!socket.write(block)) {
        socket.once('drain', more);
        return;
      }
    }
    socket.end();
  };
  more();
  return hash.digest('hex');
}

function collect(socket: Socket): { digest: () => string; bytes: () => number; ended: () => boolean } {
  const hash = createHash('sha256');
  let bytes = 0;
  let ended = false;
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    hash.update(chunk);
  });
  socket.on('end', () => {
    ended = true;
  });
  return { digest: () => hash.digest('hex'), bytes: () => bytes, ended: () => ended };
}

test('both directions at once carry every byte in order, and each half ends by itself', async (t) => {
  let up: ReturnType<typeof collect> | undefined;
  let sentDown = '';
  const { client } = await startPump(t, (socket) => {
    up = collect(socket);
    sentDown = pour(socket, 48);
  });
  const down = collect(client);
  const sentUp = pour(client, 64);
  await until(() => up?.ended() === true && down.ended(), 'both ends', 30_000);
  assert.equal(up?.digest(), sentUp);
  assert.equal(down.digest(), sentDown);
});

test('a reader that stops holds the sender, with a bounded backlog, and loses nothing when it goes on', async (t) => {
  let server: Socket | undefined;
  const { client } = await startPump(t, (socket) => {
    server = socket;
    socket.pause();
  });
  const count = 64;
  const sent = pour(client, count);
  await until(() => server !== undefined, 'the upstream connection');
  // The sender stands still once the kernel's and the proxy's buffers are full.
  let before = -1;
  await until(() => {
    const now = client.bytesWritten - client.writableLength;
    const still = now === before && now > BULK_BUFFER_BYTES;
    before = now;
    return still;
  }, 'the sender is held');
  assert.ok(client.writableLength > 0, 'everything was taken although nobody read');
  const got = collect(server!);
  server!.resume();
  await until(() => got.ended(), 'the rest', 30_000);
  assert.equal(got.digest(), sent);
});

test('a peer that resets in the middle of a transfer ends the other side too', async (t) => {
  let closed = false;
  const { client } = await startPump(t, (socket) => {
    socket.once('data', () => socket.resetAndDestroy());
  });
  client.on('error', () => {});
  client.on('close', () => {
    closed = true;
  });
  client.resume();
  pour(client, 64);
  await until(() => closed, 'the client was closed');
});

test('a client that is done and gone does not cost the upstream the bytes it has not read yet', async (t) => {
  let server: Socket | undefined;
  const { client } = await startPump(t, (socket) => {
    server = socket;
    socket.pause();
    socket.end();
  });
  let gone = false;
  client.on('close', () => {
    gone = true;
  });
  client.resume();
  await until(() => server !== undefined, 'the upstream connection');
  const kernel = 6;
  const sent = pour(client, kernel);
  // Nobody reads: some of it stays in the proxy, and the client's own close waits for nobody.
  const got = collect(server!);
  server!.pause();
  let before = -1;
  await until(() => {
    const now = client.bytesWritten - client.writableLength;
    const still = now === before;
    before = now;
    return gone || (still && now > 0);
  }, 'the sender is held or gone');
  server!.resume();
  await until(() => got.ended(), 'the rest', 30_000);
  assert.equal(
    got.bytes(),
    Array.from({ length: kernel }, (_, i) => BLOCK.length - i).reduce((a, b) => a + b, 0),
  );
  assert.equal(got.digest(), sent);
});
